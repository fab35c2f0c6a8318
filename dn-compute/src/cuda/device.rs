//! An open device: its memory, kept for another use when it is given back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::driver::{Driver, Launch};
use super::graphs::Graphs;
use crate::spec::{DeviceFault, NumericError, Op};

/// Most words of an input or output of a launch, unless told otherwise: 128 MiB.
const MOST_WORDS: usize = 1 << 25;

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
}

/// Memory on the device; given back when the last holder drops it. A later use waits for an earlier one, since the device does
/// everything in order.
#[derive(Debug, Clone)]
pub(super) struct Buf(Arc<Memory>);

#[derive(Debug)]
struct Memory {
    shared: Arc<Shared>,
    address: u64,
    /// The class in which it is kept; `None` for what is freed at once.
    class: Option<usize>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Device {
    pub(super) fn new(driver: Box<dyn Driver>, name: &str, most_words: Option<usize>) -> Self {
        let shared = Arc::new(Shared { driver, kept: Mutex::default(), graphs: Graphs::default() });
        Self { shared, name: name.into(), most_words: most_words.unwrap_or(MOST_WORDS) }
    }

    pub(super) fn driver(&self) -> &dyn Driver {
        self.shared.driver.as_ref()
    }

    /// Runs launches one after another; those of the same `key` are mostly alike.
    pub(super) fn run(&self, key: u64, launches: &[Launch]) -> Result<(), DeviceFault> {
        self.shared.graphs.run(self.driver(), key, launches)
    }

    /// The error of an operation on a device that failed.
    pub(super) fn fault(&self, op: Op, fault: DeviceFault) -> NumericError {
        NumericError::Device { op, device: Arc::clone(&self.name), fault }
    }

    /// Memory for a while, its contents unknown.
    pub(super) fn take(&self, op: Op, bytes: usize) -> Result<Buf, NumericError> {
        let class = self.driver().size_class(bytes.max(16));
        let kept = lock(&self.shared.kept).get_mut(&class).and_then(Vec::pop);
        let address = match kept {
            Some(address) => address,
            None => self.allocate(op, class)?,
        };
        Ok(Buf(Arc::new(Memory { shared: Arc::clone(&self.shared), address, class: Some(class) })))
    }

    /// Whether the memory is this device's.
    pub(super) fn owns(&self, buf: &Buf) -> bool {
        Arc::ptr_eq(&self.shared, &buf.0.shared)
    }

    /// Memory that stays.
    pub(super) fn hold(&self, op: Op, bytes: usize) -> Result<Buf, NumericError> {
        let address = self.allocate(op, bytes.next_multiple_of(16).max(16))?;
        Ok(Buf(Arc::new(Memory { shared: Arc::clone(&self.shared), address, class: None })))
    }

    /// Without enough memory, what is kept for another use is given up first.
    fn allocate(&self, op: Op, bytes: usize) -> Result<u64, NumericError> {
        let first = self.driver().allocate(bytes);
        let second = match first {
            Err(DeviceFault::OutOfMemory) if self.shared.give_up() => self.driver().allocate(bytes),
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
    /// Frees what nobody uses; says whether there was any.
    fn give_up(&self) -> bool {
        let kept = std::mem::take(&mut *lock(&self.kept));
        kept.values().flatten().for_each(|address| self.driver.free(*address));
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
        match self.class {
            Some(class) => lock(&self.shared.kept).entry(class).or_default().push(self.address),
            None => self.shared.driver.free(self.address),
        }
    }
}
