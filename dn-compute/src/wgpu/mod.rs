//! The GPU backend, over WebGPU: Vulkan, Metal, Direct3D 12, and in a browser the browser's own.
//!
//! Kernels are WGSL texts beside their host code. WGSL leaves f32 arithmetic open to every driver, so no kernel has any: all
//! numbers are `u32` (`float.wgsl`), and sums are exact integers. A driver that computes integers rightly gives the
//! reference's bits; `Wgpu::qualified` finds out whether it does before anything depends on it.
//!
//! Weights live on the device, and so does a copy of what a cache holds. A decoder's step is one submission (`pass.rs`); a single
//! operation's values come and go with it. This first form is for being right, not for being fast (`docs/adr/0017-wgpu.md`).
//!
//! An operation that finds a fault (an input that is not finite, an overflow) sets a word; which element is to blame, the host
//! then finds with the spec's own functions.
//!
//! Everything that waits for the device is a future (`operations.rs`); the engine's interface runs them to their end
//! (`blocking.rs`, not in browsers).

mod adapter;
mod add;
mod attention;
#[cfg(not(target_arch = "wasm32"))]
mod blocking;
mod call;
mod device;
mod elements;
mod embed;
mod error;
mod gelu;
#[allow(unsafe_code)]
mod heap;
mod kernels;
mod layer_norm;
mod linear;
mod mapping;
mod matrix;
mod memory;
mod operations;
mod pass;
mod quantise;
mod rms_norm;
mod rope;
mod silu;
mod upload;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::spec::{Matrix, NumericError, Op};

#[cfg(not(target_arch = "wasm32"))]
pub use adapter::adapters;
pub use adapter::{AdapterKind, AdapterSummary, adapters_async};
pub use error::WgpuError;

use device::Gpu;
use matrix::Resident;

/// Of how many cases of the conformance suite a qualification takes one: a prime, so that it falls in step with no loop of cases.
#[cfg(not(target_arch = "wasm32"))]
const QUALIFY_EVERY: usize = 13;

/// Which device, and how much of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WgpuOptions {
    /// Part of the device's name; `None` takes the best.
    pub adapter: Option<String>,
    /// Largest buffer of weights, if less than the device allows: larger matrices are split.
    ///
    /// # Units
    /// Bytes.
    pub max_binding_bytes: Option<u64>,
    /// Largest input or output of a dispatch, if less than usual: larger calls are split.
    ///
    /// # Units
    /// Words of four bytes.
    pub max_dispatch_words: Option<usize>,
    /// Most bytes that go to the device at once, if less than usual; what is longer goes in pieces.
    ///
    /// # Units
    /// Bytes.
    pub max_upload_bytes: Option<usize>,
    /// Blocks of 64 keys that one workgroup of attention takes; of longer contexts several share the work, and the bits are the
    /// same.
    pub attention_blocks: Option<NonZeroUsize>,
    /// Whether lanes put together what they have through memory only, even where the driver offers operations of subgroups; the
    /// bits are the same.
    pub without_subgroups: bool,
    /// Most bytes of buffers on the device; what would take more is refused as if its memory were used up. `None`: what the
    /// driver gives.
    ///
    /// # Units
    /// Bytes.
    pub memory_limit: Option<u64>,
    /// Directory in which `qualified` keeps what it found out; `None` compares the device each time: seconds.
    #[cfg(not(target_arch = "wasm32"))]
    pub cache: Option<std::path::PathBuf>,
}

/// What went between host and device since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Submissions waited for.
    pub submissions: u64,
    /// Bytes sent to the device, parameters of kernels included.
    pub to_device_bytes: u64,
    /// Bytes that came back.
    pub from_device_bytes: u64,
}

/// The GPU backend. A clone is the same device.
#[derive(Debug, Clone)]
pub struct Wgpu {
    gpu: Arc<Gpu>,
    #[cfg(not(target_arch = "wasm32"))]
    threads: usize,
}

impl Wgpu {
    /// Opens a device without asking whether it computes rightly. Outside browsers there is `qualified`, which asks. In a
    /// browser the caller compares the device with known answers: the conformance suite asks a backend that waits.
    ///
    /// # Errors
    /// No driver, no such device, or one that lacks what the kernels need.
    pub async fn unchecked_async(options: &WgpuOptions) -> Result<Self, WgpuError> {
        Ok(Self {
            gpu: Arc::new(Gpu::open(options).await?),
            #[cfg(not(target_arch = "wasm32"))]
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        })
    }

    /// The device.
    pub fn adapter(&self) -> &AdapterSummary {
        &self.gpu.summary
    }

    /// Whether kernels use operations of subgroups.
    pub fn has_subgroups(&self) -> bool {
        self.gpu.pipelines.subgroups
    }

    /// Bytes that its buffers take now: weights, keys and values, and what is kept for the next call.
    pub fn memory_bytes(&self) -> u64 {
        self.gpu.used_bytes()
    }

    /// What went over the bus so far.
    pub fn traffic(&self) -> Traffic {
        let moved = &self.gpu.moved;
        let [submissions, to_device_bytes, from_device_bytes] =
            [&moved.submissions, &moved.to_device, &moved.from_device].map(|n| n.load(Ordering::Relaxed));
        Traffic { submissions, to_device_bytes, from_device_bytes }
    }

    /// Gives the device up: whatever is asked of it from now on fails as if it were lost, until it is opened anew.
    pub fn close(&self) {
        self.gpu.device.destroy();
    }
}

fn own(op: Op, matrix: &Matrix) -> Result<&Resident, NumericError> {
    matrix.as_any().downcast_ref().ok_or(NumericError::ForeignMatrix { op, backend: "wgpu" })
}
