//! An open device: its queue, pipelines, buffers to be used again, and what went wrong with it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::adapter::{self, AdapterSummary};
use super::heap::{self, Heap};
use super::kernels::Pipelines;
#[cfg(not(target_arch = "wasm32"))]
use super::upload::OnTheWay;
use super::upload::PIECE_BYTES;
use super::{WgpuError, WgpuOptions};
use crate::spec::{DeviceFault, NumericError, Op};

/// Smallest buffer that is kept for another use.
pub(super) const SMALLEST: u64 = 256;
/// Most words of an input or output that a dispatch takes: 64 MiB, one row of the longest output.
const MOST_WORDS: u64 = 1 << 24;
/// Blocks of keys that one workgroup of attention takes: so many keys are read faster by several.
const BLOCKS_PER_GROUP: usize = 8;
/// Storage buffers of the largest kernel.
const BINDINGS: u32 = 8;
/// Longer than any submission takes, on a software driver too.
const PATIENCE: Duration = Duration::from_secs(300);

/// An open device.
#[derive(Debug)]
pub(super) struct Gpu {
    /// Unlike that of any other device that this program has opened.
    pub(super) id: u64,
    pub(super) summary: AdapterSummary,
    pub(super) device: ::wgpu::Device,
    pub(super) queue: ::wgpu::Queue,
    pub(super) pipelines: Pipelines,
    /// Largest buffer that a kernel can see, in bytes.
    pub(super) max_binding: u64,
    /// Most words of an input or output of a dispatch.
    pub(super) most_words: usize,
    /// Blocks of keys that one workgroup takes of a query.
    pub(super) blocks_per_group: usize,
    /// Most workgroups in one dimension of a dispatch.
    pub(super) max_groups: u32,
    /// Most bytes that go to the device at once.
    #[cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "a browser has its own way"))]
    pub(super) piece_bytes: usize,
    /// What went over the bus so far.
    pub(super) moved: Moved,
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) on_the_way: OnTheWay,
    name: Arc<str>,
    pool: Pool,
    /// Most bytes of buffers.
    most_memory: AtomicU64,
    /// Asked for its memory.
    adapter: ::wgpu::Adapter,
    /// Bytes of all buffers that something holds.
    used: Arc<AtomicU64>,
    failed: Arc<Mutex<Option<DeviceFault>>>,
}

/// Counts of what went over the bus.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) submissions: AtomicU64,
    pub(super) to_device: AtomicU64,
    pub(super) from_device: AtomicU64,
}

/// A buffer, which counts as used as long as anything holds it.
#[derive(Debug, Clone)]
pub(super) struct Buffer(Arc<Held>);

#[derive(Debug)]
struct Held {
    buffer: ::wgpu::Buffer,
    used: Arc<AtomicU64>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.used.fetch_sub(self.buffer.size(), Ordering::Relaxed);
    }
}

impl Deref for Buffer {
    type Target = ::wgpu::Buffer;
    fn deref(&self) -> &Self::Target {
        &self.0.buffer
    }
}

/// What a buffer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    /// Read and written by kernels.
    Storage,
    /// Parameters of a dispatch.
    Parameters,
    /// Read by the host.
    Readback,
}

impl Use {
    const fn usages(self) -> ::wgpu::BufferUsages {
        use ::wgpu::BufferUsages as U;
        match self {
            Self::Storage => U::STORAGE.union(U::COPY_SRC).union(U::COPY_DST),
            Self::Parameters => U::UNIFORM.union(U::COPY_DST),
            Self::Readback => U::MAP_READ.union(U::COPY_DST),
        }
    }
}

/// Buffers that nobody uses just now, by use and size.
#[derive(Debug, Default)]
struct Pool(Mutex<BTreeMap<(Use, u64), Vec<Buffer>>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    pub(super) async fn open(options: &WgpuOptions) -> Result<Self, WgpuError> {
        let (summary, adapter) = adapter::choose(adapter::all().await, options.adapter.as_deref())?;
        let limits = adapter.limits();
        let bindings = limits.max_storage_buffers_per_shader_stage;
        if bindings < BINDINGS {
            let (device, what) = (summary.name, "storage buffers per kernel");
            return Err(WgpuError::Limit { device, what, needed: BINDINGS.into(), found: bindings.into() });
        }
        // One head of the longest context, and one row of logits of the largest vocabulary.
        let (needed, found) = (4 * MOST_WORDS, summary.max_binding_bytes.min(limits.max_buffer_size));
        if found < needed {
            let (device, what) = (summary.name, "bytes per buffer");
            return Err(WgpuError::Limit { device, what, needed, found });
        }
        let subgroups = summary.subgroups && !options.without_subgroups;
        let required_features =
            if subgroups { ::wgpu::Features::SUBGROUP } else { ::wgpu::Features::empty() };
        let descriptor = ::wgpu::DeviceDescriptor {
            label: Some("deepnode"),
            required_features,
            required_limits: limits.clone(),
            ..Default::default()
        };
        let (device, queue) = adapter
            .request_device(&descriptor)
            .await
            .map_err(|source| WgpuError::Open { device: summary.name.clone(), source })?;
        let failed = Arc::new(Mutex::new(None));
        let (on_error, on_loss) = (Arc::clone(&failed), Arc::clone(&failed));
        device.on_uncaptured_error(Arc::new(move |error| note(&on_error, fault_of(error))));
        device.set_device_lost_callback(move |_, _| note(&on_loss, DeviceFault::Lost));
        let max_binding = options.max_binding_bytes.map_or(found, |most| most.min(found));
        static OPENED: AtomicU64 = AtomicU64::new(0);
        Ok(Self {
            id: OPENED.fetch_add(1, Ordering::Relaxed),
            name: summary.name.as_str().into(),
            max_groups: limits.max_compute_workgroups_per_dimension,
            most_words: options.max_dispatch_words.unwrap_or(MOST_WORDS as usize),
            piece_bytes: options.max_upload_bytes.map_or(PIECE_BYTES, |most| most.min(PIECE_BYTES)),
            max_binding,
            blocks_per_group: options.attention_blocks.map_or(BLOCKS_PER_GROUP, NonZeroUsize::get),
            summary,
            device,
            queue,
            pipelines: Pipelines::new(subgroups),
            #[cfg(not(target_arch = "wasm32"))]
            on_the_way: OnTheWay::default(),
            pool: Pool::default(),
            moved: Moved::default(),
            adapter,
            most_memory: options.memory_limit.unwrap_or(u64::MAX).into(),
            used: Arc::default(),
            failed,
        })
    }

    /// The device's memory as it is now, where the driver tells.
    pub(super) fn heap(&self) -> Option<Heap> {
        heap::heap(&self.adapter)
    }

    /// Most bytes of buffers.
    pub(super) fn most_memory(&self) -> u64 {
        self.most_memory.load(Ordering::Relaxed)
    }

    /// Allows so many bytes of buffers, and lets go of those that nobody uses.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn limit(&self, bytes: u64) {
        self.most_memory.store(bytes, Ordering::Relaxed);
        lock(&self.pool.0).clear();
    }

    /// Bytes of all buffers that something holds.
    pub(super) fn used_bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The error of an operation on a device that failed. One that computes wrongly is not asked again.
    pub(super) fn fault(&self, op: Op, fault: DeviceFault) -> NumericError {
        if fault == DeviceFault::Wrong {
            note(&self.failed, DeviceFault::Wrong);
        }
        NumericError::Device { op, device: Arc::clone(&self.name), fault }
    }

    /// Why nothing can be asked of it any more.
    pub(super) fn failure(&self) -> Option<DeviceFault> {
        lock(&self.failed).clone()
    }

    /// What has gone wrong up to now.
    pub(super) fn check(&self, op: Op) -> Result<(), NumericError> {
        self.failure().map_or(Ok(()), |fault| Err(self.fault(op, fault)))
    }

    /// The size of a buffer for a while that holds so many bytes.
    pub(super) fn size_of(bytes: u64) -> u64 {
        bytes.next_power_of_two().max(SMALLEST)
    }

    /// A buffer of at least `bytes`, its contents unknown.
    pub(super) fn take(&self, what: Use, bytes: u64) -> Result<Buffer, DeviceFault> {
        let size = Self::size_of(bytes);
        let kept = lock(&self.pool.0).get_mut(&(what, size)).and_then(Vec::pop);
        kept.map_or_else(|| self.create(what, size), Ok)
    }

    /// A buffer that is not to be used again for something else.
    pub(super) fn create(&self, what: Use, size: u64) -> Result<Buffer, DeviceFault> {
        let size = size.next_multiple_of(4).max(16);
        self.with_room(|| self.allocate(what, size))
    }

    /// A buffer through which so many bytes pass on their way to the device; the host can write to it until it unmaps it. It is
    /// there for a moment only, so no limit counts it.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn passing(&self, size: u64) -> Result<::wgpu::Buffer, DeviceFault> {
        let usage = ::wgpu::BufferUsages::MAP_WRITE | ::wgpu::BufferUsages::COPY_SRC;
        let descriptor = ::wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: true };
        self.with_room(|| self.make(&descriptor))
    }

    /// Without enough memory, what is kept for another use is given up first.
    fn with_room<T>(&self, make: impl Fn() -> Result<T, DeviceFault>) -> Result<T, DeviceFault> {
        match make() {
            Err(DeviceFault::OutOfMemory) if self.give_up() => make(),
            made => made,
        }
    }

    /// Lets go of what nobody uses; says whether there was any.
    fn give_up(&self) -> bool {
        let kept = std::mem::take(&mut *lock(&self.pool.0));
        kept.values().any(|buffers| !buffers.is_empty())
    }

    fn allocate(&self, what: Use, size: u64) -> Result<Buffer, DeviceFault> {
        let most = self.most_memory();
        let more = |used: u64| used.checked_add(size).filter(|sum| *sum <= most);
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            return Err(DeviceFault::OutOfMemory);
        }
        let usage = what.usages();
        let descriptor = ::wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let made = self.make(&descriptor).inspect_err(|_| {
            self.used.fetch_sub(size, Ordering::Relaxed);
        });
        Ok(Buffer(Arc::new(Held { buffer: made?, used: Arc::clone(&self.used) })))
    }

    fn make(&self, descriptor: &::wgpu::BufferDescriptor<'_>) -> Result<::wgpu::Buffer, DeviceFault> {
        // A browser answers later: what it notes then ends the call that waits next.
        #[cfg(target_arch = "wasm32")]
        return Ok(self.device.create_buffer(descriptor));
        #[cfg(not(target_arch = "wasm32"))]
        {
            let scope = self.device.push_error_scope(::wgpu::ErrorFilter::OutOfMemory);
            let buffer = self.device.create_buffer(descriptor);
            if pollster::block_on(scope.pop()).is_some() {
                return Err(DeviceFault::OutOfMemory);
            }
            Ok(buffer)
        }
    }

    /// Gives a buffer back.
    pub(super) fn give(&self, what: Use, buffer: Buffer) {
        lock(&self.pool.0).entry((what, buffer.size())).or_default().push(buffer);
    }

    /// Waits until a submission is done. A browser's main thread must not wait: there its own loop goes on.
    pub(super) fn wait(&self, submission: ::wgpu::SubmissionIndex) -> Result<(), DeviceFault> {
        let wait = ::wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(PATIENCE) };
        if self.poll(wait) { Ok(()) } else { Err(self.lost()) }
    }

    /// Whether what is waited for has happened.
    fn poll(&self, what: ::wgpu::PollType) -> bool {
        // Of a device that is lost while it is waited for, `wgpu` panics.
        matches!(catch_unwind(AssertUnwindSafe(|| self.device.poll(what))), Ok(Ok(_)))
    }

    /// Notes that it does not do what it is asked; says why, as far as that is known.
    pub(super) fn lost(&self) -> DeviceFault {
        // What the driver says of it comes with the next question.
        self.poll(::wgpu::PollType::Poll);
        note(&self.failed, DeviceFault::Lost);
        self.failure().unwrap_or(DeviceFault::Lost)
    }
}

fn fault_of(error: ::wgpu::Error) -> DeviceFault {
    match error {
        ::wgpu::Error::OutOfMemory { .. } => DeviceFault::OutOfMemory,
        ::wgpu::Error::Validation { description, .. } | ::wgpu::Error::Internal { description, .. } => {
            DeviceFault::Refused { detail: description.into() }
        }
    }
}

/// Keeps what explains the rest: memory that is used up explains a loss, in whatever order they are told, and a loss explains
/// what the driver refuses. Whatever else, a device that computes wrongly is not to be used.
fn note(failed: &Mutex<Option<DeviceFault>>, fault: DeviceFault) {
    let explains = |fault: &DeviceFault| match fault {
        DeviceFault::Wrong => 3,
        DeviceFault::OutOfMemory => 2,
        DeviceFault::Lost => 1,
        DeviceFault::Refused { .. } => 0,
    };
    let mut failed = lock(failed);
    if failed.as_ref().is_none_or(|noted| explains(noted) < explains(&fault)) {
        *failed = Some(fault);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_explains_the_rest_is_kept() {
        let refused = |detail: &str| DeviceFault::Refused { detail: detail.into() };
        let noted = |faults: &[DeviceFault]| {
            let failed = Mutex::default();
            faults.iter().for_each(|fault| note(&failed, fault.clone()));
            lock(&failed).clone()
        };
        let (full, lost) = (DeviceFault::OutOfMemory, DeviceFault::Lost);
        assert_eq!(noted(&[full.clone(), lost.clone()]), Some(full.clone()));
        assert_eq!(noted(&[lost.clone(), full.clone()]), Some(full));
        assert_eq!(noted(&[refused("a"), lost.clone(), refused("b")]), Some(lost));
        assert_eq!(noted(&[refused("a"), refused("b")]), Some(refused("a")));
        assert_eq!(noted(&[]), None);
    }
}
