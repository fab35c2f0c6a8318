//! An open device: its memory, kept for another use when it is given back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::driver::{Driver, Launch};
use super::graphs::Graphs;
use crate::spec::{DeviceFailure, DeviceFault, NumericError, Op};

/// Most words of an input or output of a launch, unless told otherwise: 128 MiB.
const MOST_WORDS: usize = 1 << 25;

/// Smallest memory, and what sizes are rounded up to.
const SMALLEST: usize = 16;

/// An open device.
#[derive(Debug, Clone)]
pub(super) struct Device {
    shared: Arc<Shared>,
    name: Arc<str>,
    /// Most words of an input or output of a launch: what is larger is done in parts.
    pub(super) most_words: usize,
}

#[derive(Debug)]
struct Shared {
    driver: Box<dyn Driver>,
    /// Memory that nobody uses just now, by size.
    kept: Mutex<BTreeMap<usize, Vec<u64>>>,
    graphs: Graphs,
    /// Most bytes of memory.
    limit: AtomicU64,
    /// Bytes of all memory, that which is kept for another use too.
    used: AtomicU64,
    /// That it is lost, or computes wrongly: it is of no use in this process any more.
    failed: OnceLock<DeviceFault>,
}

/// Memory on the device; given back when the last holder drops it. A later use waits for an earlier one, since the device does
/// everything in order.
#[derive(Debug, Clone)]
pub(super) struct Buf(Arc<Memory>);

#[derive(Debug)]
struct Memory {
    shared: Arc<Shared>,
    address: u64,
    bytes: usize,
    /// Whether it is kept for another use of its size, or freed at once.
    is_kept: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Device {
    pub(super) fn new(driver: Box<dyn Driver>, name: &str, most_words: Option<usize>) -> Self {
        let shared = Arc::new(Shared {
            driver,
            kept: Mutex::default(),
            graphs: Graphs::default(),
            limit: u64::MAX.into(),
            used: AtomicU64::default(),
            failed: OnceLock::new(),
        });
        Self { shared, name: name.into(), most_words: most_words.unwrap_or(MOST_WORDS) }
    }

    pub(super) fn driver(&self) -> &dyn Driver {
        self.shared.driver.as_ref()
    }

    /// Most bytes of memory that may be taken; `u64::MAX` where only the driver's answer counts.
    pub(super) fn limit_bytes(&self) -> u64 {
        self.shared.limit.load(Ordering::Relaxed)
    }

    /// Allows so many bytes of memory, and lets go of what nobody uses.
    pub(super) fn limit(&self, bytes: u64) {
        self.shared.limit.store(bytes, Ordering::Relaxed);
        self.shared.give_up();
    }

    /// Bytes of all memory that is taken.
    pub(super) fn used_bytes(&self) -> u64 {
        self.shared.used.load(Ordering::Relaxed)
    }

    /// The size in which memory for so many bytes is taken for a while.
    pub(super) fn size_of(&self, bytes: usize) -> usize {
        self.driver().size_class(bytes.max(SMALLEST))
    }

    /// The size in which memory for so many bytes is taken for good.
    pub(super) fn size_for_good(bytes: usize) -> usize {
        bytes.next_multiple_of(SMALLEST).max(SMALLEST)
    }

    /// Runs launches one after another; those of the same `key` are mostly alike.
    pub(super) fn run(&self, key: u64, launches: &[Launch]) -> Result<(), DeviceFault> {
        self.shared.graphs.run(self.driver(), key, launches)
    }

    /// The error of an operation on a device that failed.
    pub(super) fn fault(&self, op: Op, fault: DeviceFault) -> NumericError {
        if matches!(fault, DeviceFault::Lost | DeviceFault::Wrong) {
            let _ = self.shared.failed.set(fault.clone());
        }
        NumericError::Device { op, device: Arc::clone(&self.name), fault }
    }

    /// Why nothing can be asked of it any more.
    pub(super) fn failure(&self) -> Option<DeviceFailure> {
        let fault = self.shared.failed.get()?.clone();
        Some(DeviceFailure { device: Arc::clone(&self.name), fault })
    }

    /// Memory for a while, its contents unknown.
    pub(super) fn take(&self, op: Op, bytes: usize) -> Result<Buf, NumericError> {
        let bytes = self.size_of(bytes);
        let kept = lock(&self.shared.kept).get_mut(&bytes).and_then(Vec::pop);
        let address = match kept {
            Some(address) => address,
            None => self.allocate(op, bytes)?,
        };
        Ok(Buf(Arc::new(Memory { shared: Arc::clone(&self.shared), address, bytes, is_kept: true })))
    }

    /// Whether the memory is this device's.
    pub(super) fn owns(&self, buf: &Buf) -> bool {
        Arc::ptr_eq(&self.shared, &buf.0.shared)
    }

    /// Memory that stays.
    pub(super) fn hold(&self, op: Op, bytes: usize) -> Result<Buf, NumericError> {
        let bytes = Self::size_for_good(bytes);
        let address = self.allocate(op, bytes)?;
        Ok(Buf(Arc::new(Memory { shared: Arc::clone(&self.shared), address, bytes, is_kept: false })))
    }

    /// Without enough memory, what is kept for another use is given up first.
    fn allocate(&self, op: Op, bytes: usize) -> Result<u64, NumericError> {
        let first = self.shared.allocate(bytes);
        let second = match first {
            Err(DeviceFault::OutOfMemory) if self.shared.give_up() => self.shared.allocate(bytes),
            other => other,
        };
        second.map_err(|fault| self.fault(op, fault))
    }
}

impl Buf {
    /// Where it is.
    pub(super) fn at(&self) -> u64 {
        self.0.address
    }
}

impl Shared {
    /// Memory within the limit.
    fn allocate(&self, bytes: usize) -> Result<u64, DeviceFault> {
        let limit = self.limit.load(Ordering::Relaxed);
        let more = |used: u64| used.checked_add(bytes as u64).filter(|sum| *sum <= limit);
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            return Err(DeviceFault::OutOfMemory);
        }
        self.driver.allocate(bytes).inspect_err(|_| {
            self.used.fetch_sub(bytes as u64, Ordering::Relaxed);
        })
    }

    fn free(&self, address: u64, bytes: usize) {
        self.driver.free(address);
        self.used.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// Frees what nobody uses; says whether there was any.
    fn give_up(&self) -> bool {
        let kept = std::mem::take(&mut *lock(&self.kept));
        for (bytes, addresses) in &kept {
            addresses.iter().for_each(|address| self.free(*address, *bytes));
        }
        kept.values().any(|addresses| !addresses.is_empty())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.graphs.clear(self.driver.as_ref());
        self.give_up();
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        match self.is_kept {
            true => lock(&self.shared.kept).entry(self.bytes).or_default().push(self.address),
            false => self.shared.free(self.address, self.bytes),
        }
    }
}
