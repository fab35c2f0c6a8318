//! An open device: its queue, pipelines, buffers to be used again, and what went wrong with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::adapter::{self, AdapterSummary};
use super::kernels::Pipelines;
use super::{WgpuError, WgpuOptions};
use crate::spec::{DeviceFault, NumericError, Op};

/// Smallest buffer that is kept for another use.
const SMALLEST: u64 = 256;
/// Most words of an input or output that a dispatch takes: 64 MiB, one row of the longest output.
const MOST_WORDS: u64 = 1 << 24;
/// Storage buffers of the largest kernel.
const BINDINGS: u32 = 8;

/// An open device.
#[derive(Debug)]
pub(super) struct Gpu {
    pub(super) summary: AdapterSummary,
    pub(super) device: ::wgpu::Device,
    pub(super) queue: ::wgpu::Queue,
    pub(super) pipelines: Pipelines,
    /// Largest buffer that a kernel can see, in bytes.
    pub(super) max_binding: u64,
    /// Most words of an input or output of a dispatch.
    pub(super) most_words: usize,
    /// Most workgroups in one dimension of a dispatch.
    pub(super) max_groups: u32,
    name: Arc<str>,
    pool: Pool,
    failed: Arc<Mutex<Option<DeviceFault>>>,
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
struct Pool(Mutex<BTreeMap<(Use, u64), Vec<::wgpu::Buffer>>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    pub(super) fn open(options: &WgpuOptions) -> Result<Self, WgpuError> {
        let (summary, adapter) = adapter::choose(options.adapter.as_deref())?;
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
        let descriptor = ::wgpu::DeviceDescriptor {
            label: Some("deepnode"),
            required_limits: limits.clone(),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|source| WgpuError::Open { device: summary.name.clone(), source })?;
        let failed = Arc::new(Mutex::new(None));
        let (on_error, on_loss) = (Arc::clone(&failed), Arc::clone(&failed));
        device.on_uncaptured_error(Arc::new(move |error| note(&on_error, error)));
        device.set_device_lost_callback(move |_, _| {
            lock(&on_loss).get_or_insert(DeviceFault::Lost);
        });
        let max_binding = options.max_binding_bytes.map_or(found, |most| most.min(found));
        Ok(Self {
            name: summary.name.as_str().into(),
            max_groups: limits.max_compute_workgroups_per_dimension,
            most_words: options.max_dispatch_words.unwrap_or(MOST_WORDS as usize),
            max_binding,
            summary,
            device,
            queue,
            pipelines: Pipelines::default(),
            pool: Pool::default(),
            failed,
        })
    }

    /// The error of an operation on a device that failed.
    pub(super) fn fault(&self, op: Op, fault: DeviceFault) -> NumericError {
        NumericError::Device { op, device: Arc::clone(&self.name), fault }
    }

    /// What has gone wrong up to now.
    pub(super) fn check(&self, op: Op) -> Result<(), NumericError> {
        match &*lock(&self.failed) {
            None => Ok(()),
            Some(fault) => Err(self.fault(op, fault.clone())),
        }
    }

    /// A buffer of at least `bytes`, its contents unknown.
    pub(super) fn take(&self, what: Use, bytes: u64) -> (u64, ::wgpu::Buffer) {
        let size = bytes.next_power_of_two().max(SMALLEST);
        let kept = lock(&self.pool.0).get_mut(&(what, size)).and_then(Vec::pop);
        (size, kept.unwrap_or_else(|| self.create(what, size)))
    }

    /// A buffer that is not to be used again for something else.
    pub(super) fn create(&self, what: Use, size: u64) -> ::wgpu::Buffer {
        self.device.create_buffer(&::wgpu::BufferDescriptor {
            label: None,
            size: size.next_multiple_of(4).max(16),
            usage: what.usages(),
            mapped_at_creation: false,
        })
    }

    /// Gives a buffer back.
    pub(super) fn give(&self, what: Use, size: u64, buffer: ::wgpu::Buffer) {
        lock(&self.pool.0).entry((what, size)).or_default().push(buffer);
    }
}

fn note(failed: &Mutex<Option<DeviceFault>>, error: ::wgpu::Error) {
    let fault = match error {
        ::wgpu::Error::OutOfMemory { .. } => DeviceFault::OutOfMemory,
        ::wgpu::Error::Validation { description, .. } | ::wgpu::Error::Internal { description, .. } => {
            DeviceFault::Refused { detail: description.into() }
        }
    };
    lock(failed).get_or_insert(fault);
}
