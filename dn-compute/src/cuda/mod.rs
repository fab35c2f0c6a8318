//! The GPU backend for NVIDIA's cards, over the CUDA driver: nothing of CUDA is needed to build it.
//!
//! Kernels are CUDA C++ texts (`.cu`), compiled for the device at hand by NVRTC, which is loaded when it is needed. Sums are exact
//! integers; what is computed on floats is rounded explicitly in every operation, as `spec::float` says. [`Cuda::qualified`]
//! compares a device with the reference before anything depends on it.
//!
//! The host code talks to the device through one interface (`driver.rs`), which tests implement once more: the same kernels, built
//! by a C++ compiler over an emulated card. So the conformance suite tests them where there is no card
//! (`docs/adr/0018-cuda.md`).
//!
//! An operation that finds a fault (an input that is not finite, an overflow) sets a word; which element is to blame, the host
//! then finds with the spec's own functions.

mod add;
mod attention;
mod call;
#[allow(unsafe_code)]
mod card;
mod ceilings;
#[allow(unsafe_code)]
mod compile;
mod device;
#[allow(unsafe_code)]
mod devices;
mod driver;
mod elements;
mod embed;
#[cfg(all(test, target_os = "linux"))]
#[allow(unsafe_code)]
#[allow(clippy::unwrap_used, clippy::print_stdout, reason = "for tests only; a skip must be seen")]
mod emulation;
mod error;
mod gelu;
mod graphs;
mod kernels;
mod layer;
mod layer_norm;
mod linear;
mod matrix;
mod memory;
mod quantise;
mod rms_norm;
mod rope;
mod silu;
#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests; what was compared is said")]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::conformance::{self, Mismatch, Report};
use crate::spec::{
    Backend, BackendInfo, DeviceFailure, DeviceMemory, KvLayer, Mask, Matrix, NumericError, Op, PassCall,
    PassPart, PassValues, QuantMatrix, RopeTable,
};
use crate::verdict::{self, Refusal, Subject};

pub use ceilings::Ceilings;
pub use devices::{CudaDevice, devices};
pub use error::CudaError;

use card::Card;
use device::Device;
use matrix::Resident;

/// Of how many cases of the conformance suite a qualification takes one: a prime, so that it falls in step with no loop of cases.
const QUALIFY_EVERY: usize = 13;

/// Which device, and how much of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CudaOptions {
    /// Part of the device's name; `None` takes the first.
    pub device: Option<String>,
    /// Directory that keeps compiled kernels, and whether a device computes rightly; `None` compiles and compares each time:
    /// seconds.
    pub cache: Option<PathBuf>,
    /// Most bytes of the device's memory; what would take more is refused as if its memory were used up. `None`: what the driver
    /// gives.
    ///
    /// # Units
    /// Bytes.
    pub memory_limit: Option<u64>,
    /// Largest input or output of a launch, if less than usual: larger calls are split.
    ///
    /// # Units
    /// Words of four bytes.
    pub max_launch_words: Option<usize>,
}

/// The CUDA backend.
#[derive(Debug)]
pub struct Cuda {
    device: Device,
    summary: CudaDevice,
    threads: usize,
}

impl Cuda {
    /// Opens a device without asking whether it computes rightly: for tests. Everything else uses [`qualified`](Self::qualified).
    ///
    /// # Errors
    /// No driver, no compiler, no such device, or one that lacks what the kernels need.
    pub fn unchecked(options: &CudaOptions) -> Result<Self, CudaError> {
        let summary = devices::choose(options.device.as_deref())?;
        let card = Card::open(&summary, options.cache.as_deref())?;
        let device = Device::new(Box::new(card), &summary.name, options.max_launch_words);
        device.limit(options.memory_limit.unwrap_or(u64::MAX));
        Ok(Self::over(device, summary))
    }

    fn over(device: Device, summary: CudaDevice) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { device, summary, threads }
    }

    /// Opens a device that computes rightly. That is compared on a part of the conformance suite, which takes seconds: once for a
    /// device, its driver, the compiler and this program's kernels, if there is a directory that keeps it.
    ///
    /// # Errors
    /// As [`unchecked`](Self::unchecked); [`CudaError::Refused`] for a device with one wrong bit, now or when it was
    /// compared earlier, and for one that failed meanwhile.
    pub fn qualified(options: &CudaOptions) -> Result<Self, CudaError> {
        Self::judged(options, false)
    }

    /// As [`qualified`](Self::qualified), whatever is kept: it is compared, and what is kept is written anew.
    ///
    /// # Errors
    /// As there.
    pub fn qualified_anew(options: &CudaOptions) -> Result<Self, CudaError> {
        Self::judged(options, true)
    }

    fn judged(options: &CudaOptions, anew: bool) -> Result<Self, CudaError> {
        // Too little memory for the suite's longest rows is no wrong bit: the limit holds from then on.
        let backend = Self::unchecked(&CudaOptions { memory_limit: None, ..options.clone() })?;
        backend.judge(options.cache.as_deref(), &backend.summary.subject()?, anew)?;
        backend.device.limit(options.memory_limit.unwrap_or(u64::MAX));
        Ok(backend)
    }

    fn judge(&self, cache: Option<&Path>, subject: &Subject, anew: bool) -> Result<(), CudaError> {
        Ok(verdict::judge(cache, subject, anew, || self.compare())?)
    }

    /// Compares the device with the reference; says how much was compared. Nothing of it is kept.
    ///
    /// # Errors
    /// [`CudaError::Refused`]; no compiler.
    pub fn qualify(&self) -> Result<Report, CudaError> {
        let subject = self.summary.subject()?;
        Ok(self.compare().map_err(|found| Refusal::new(&subject, found))?)
    }

    fn compare(&self) -> Result<Report, Mismatch> {
        conformance::sample(self, QUALIFY_EVERY)
    }

    /// Bytes of the device's memory that it takes now: weights, keys and values, and what is kept for the next call.
    pub fn memory_bytes(&self) -> u64 {
        self.device.used_bytes()
    }

    /// The device.
    pub const fn device(&self) -> &CudaDevice {
        &self.summary
    }
}

fn own(op: Op, matrix: &Matrix) -> Result<&Resident, NumericError> {
    matrix.as_any().downcast_ref().ok_or(NumericError::ForeignMatrix { op, backend: "cuda" })
}

impl Backend for Cuda {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: "cuda", isa: self.summary.isa, threads: self.threads }
    }

    fn failure(&self) -> Option<DeviceFailure> {
        self.device.failure()
    }

    fn device_memory(&self) -> Option<&dyn DeviceMemory> {
        Some(self)
    }

    fn prepare(&self, matrix: QuantMatrix) -> Result<Matrix, NumericError> {
        Ok(Arc::new(Resident::new(&self.device, &matrix)?))
    }

    fn linear(
        &self,
        weights: &[&Matrix],
        x: &[f32],
        tokens: usize,
        out: &mut [&mut [f32]],
    ) -> Result<(), NumericError> {
        linear::linear(&self.device, weights, x, tokens, out)
    }

    fn embed(&self, table: &Matrix, tokens: &[u32], out: &mut [f32]) -> Result<(), NumericError> {
        embed::embed(&self.device, table, tokens, out)
    }

    fn rms_norm(&self, weight: &[f32], eps: f32, x: &[f32], out: &mut [f32]) -> Result<(), NumericError> {
        rms_norm::rms_norm(&self.device, weight, eps, x, out)
    }

    fn rope(&self, table: &RopeTable, positions: &[u32], x: &mut [f32]) -> Result<(), NumericError> {
        rope::rope(&self.device, table, positions, x)
    }

    fn kv_append(&self, kv: &mut KvLayer, k: &[f32], v: &[f32]) -> Result<(), NumericError> {
        attention::kv_append(&self.device, kv, k, v)
    }

    fn attention(
        &self,
        kv: &KvLayer,
        mask: Mask,
        heads: usize,
        first: usize,
        q: &[f32],
        out: &mut [f32],
    ) -> Result<(), NumericError> {
        attention::attention(&self.device, kv, mask, heads, first, q, out)
    }

    fn pass(
        &self,
        call: &PassCall<'_>,
        parts: &mut [PassPart<'_>],
        values: &mut PassValues<'_>,
    ) -> Result<bool, NumericError> {
        layer::pass(&self.device, call, parts, values)
    }

    fn silu_mul(&self, gate: &mut [f32], up: &[f32]) -> Result<(), NumericError> {
        silu::silu_mul(&self.device, gate, up)
    }

    fn layer_norm(
        &self,
        weight: &[f32],
        bias: &[f32],
        eps: f32,
        x: &[f32],
        out: &mut [f32],
    ) -> Result<(), NumericError> {
        layer_norm::layer_norm(&self.device, weight, bias, eps, x, out)
    }

    fn gelu(&self, x: &mut [f32]) -> Result<(), NumericError> {
        gelu::gelu(&self.device, x)
    }

    fn add(&self, x: &mut [f32], y: &[f32]) -> Result<(), NumericError> {
        add::add(&self.device, x, y)
    }
}
