//! The GPU backend, over WebGPU: Vulkan, Metal, Direct3D 12.
//!
//! Kernels are WGSL texts beside their host code. WGSL leaves f32 arithmetic open to every driver, so no kernel has any: all
//! numbers are `u32` (`float.wgsl`), and sums are exact integers. A driver that computes integers rightly gives the
//! reference's bits; [`Wgpu::qualified`] finds out whether it does before anything depends on it.
//!
//! Weights live on the device, and so does a copy of what a cache holds. A decoder's layer is one submission (`layer.rs`); a single
//! operation's values come and go with it. This first form is for being right, not for being fast (`docs/adr/0017-wgpu.md`).
//!
//! An operation that finds a fault (an input that is not finite, an overflow) sets a word; which element is to blame, the host
//! then finds with the spec's own functions.

mod adapter;
mod add;
mod attention;
mod call;
mod device;
mod elements;
mod embed;
mod error;
mod gelu;
mod kernels;
mod layer;
mod layer_norm;
mod linear;
mod matrix;
mod quantise;
mod rms_norm;
mod rope;
mod silu;

use std::sync::Arc;

use crate::conformance::{self, Report};
use crate::spec::{
    Backend, BackendInfo, KvLayer, LayerCall, LayerPart, Mask, Matrix, NumericError, Op, QuantMatrix,
    RopeTable,
};

pub use adapter::{AdapterKind, AdapterSummary, adapters};
pub use error::WgpuError;

use device::Gpu;
use matrix::Resident;

/// Of how many cases of the conformance suite a qualification takes one: a prime, so that it falls in step with no loop of cases.
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
}

/// The GPU backend.
#[derive(Debug)]
pub struct Wgpu {
    gpu: Gpu,
    threads: usize,
}

impl Wgpu {
    /// Opens a device without asking whether it computes rightly: for tests. Everything else uses [`qualified`](Self::qualified).
    ///
    /// # Errors
    /// No driver, no such device, or one that lacks what the kernels need.
    pub fn unchecked(options: &WgpuOptions) -> Result<Self, WgpuError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { gpu: Gpu::open(options)?, threads })
    }

    /// Opens a device and compares it with the reference, on a part of the conformance suite: seconds.
    ///
    /// # Errors
    /// As [`unchecked`](Self::unchecked); [`WgpuError::Unqualified`] for a device with one wrong bit.
    pub fn qualified(options: &WgpuOptions) -> Result<Self, WgpuError> {
        let backend = Self::unchecked(options)?;
        backend.qualify()?;
        Ok(backend)
    }

    /// Compares the device with the reference; says how much was compared.
    ///
    /// # Errors
    /// [`WgpuError::Unqualified`].
    pub fn qualify(&self) -> Result<Report, WgpuError> {
        conformance::sample(self, QUALIFY_EVERY).map_err(|source| {
            let AdapterSummary { name, driver, .. } = self.gpu.summary.clone();
            WgpuError::Unqualified { device: name, driver, source: Box::new(source) }
        })
    }

    /// The device.
    pub const fn adapter(&self) -> &AdapterSummary {
        &self.gpu.summary
    }
}

fn own(op: Op, matrix: &Matrix) -> Result<&Resident, NumericError> {
    matrix.as_any().downcast_ref().ok_or(NumericError::ForeignMatrix { op, backend: "wgpu" })
}

impl Backend for Wgpu {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: "wgpu", isa: self.gpu.summary.api, threads: self.threads }
    }

    fn prepare(&self, matrix: QuantMatrix) -> Result<Matrix, NumericError> {
        Ok(Arc::new(Resident::new(&self.gpu, &matrix)?))
    }

    fn linear(
        &self,
        weights: &[&Matrix],
        x: &[f32],
        tokens: usize,
        out: &mut [&mut [f32]],
    ) -> Result<(), NumericError> {
        linear::linear(&self.gpu, weights, x, tokens, out)
    }

    fn embed(&self, table: &Matrix, tokens: &[u32], out: &mut [f32]) -> Result<(), NumericError> {
        embed::embed(&self.gpu, table, tokens, out)
    }

    fn rms_norm(&self, weight: &[f32], eps: f32, x: &[f32], out: &mut [f32]) -> Result<(), NumericError> {
        rms_norm::rms_norm(&self.gpu, weight, eps, x, out)
    }

    fn rope(&self, table: &RopeTable, positions: &[u32], x: &mut [f32]) -> Result<(), NumericError> {
        rope::rope(&self.gpu, table, positions, x)
    }

    fn kv_append(&self, kv: &mut KvLayer, k: &[f32], v: &[f32]) -> Result<(), NumericError> {
        attention::kv_append(&self.gpu, kv, k, v)
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
        attention::attention(&self.gpu, kv, mask, heads, first, q, out)
    }

    fn layer(
        &self,
        call: &LayerCall<'_>,
        parts: &mut [LayerPart<'_>],
        x: &mut [f32],
    ) -> Result<bool, NumericError> {
        layer::layer(&self.gpu, call, parts, x)
    }

    fn silu_mul(&self, gate: &mut [f32], up: &[f32]) -> Result<(), NumericError> {
        silu::silu_mul(&self.gpu, gate, up)
    }

    fn layer_norm(
        &self,
        weight: &[f32],
        bias: &[f32],
        eps: f32,
        x: &[f32],
        out: &mut [f32],
    ) -> Result<(), NumericError> {
        layer_norm::layer_norm(&self.gpu, weight, bias, eps, x, out)
    }

    fn gelu(&self, x: &mut [f32]) -> Result<(), NumericError> {
        gelu::gelu(&self.gpu, x)
    }

    fn add(&self, x: &mut [f32], y: &[f32]) -> Result<(), NumericError> {
        add::add(&self.gpu, x, y)
    }
}
