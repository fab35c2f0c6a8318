//! The backend as the engine uses it: every operation waits for the device.
//!
//! Not in a browser: there the main thread must not wait, and a worker's thread learns that the device is done from its own
//! loop only. Callers there use the futures of `operations.rs`.

use pollster::block_on;

use super::{QUALIFY_EVERY, Wgpu, WgpuError, WgpuOptions};
use crate::conformance::{self, Mismatch, Report};
use crate::spec::{
    Backend, BackendInfo, DeviceFailure, DeviceMemory, KvLayer, Mask, Matrix, NumericError, PassCall,
    PassPart, PassValues, QuantMatrix, RopeTable,
};
use crate::verdict::{self, Refusal, Subject};

impl Wgpu {
    /// Opens a device without asking whether it computes rightly: for tests. Everything else uses [`qualified`](Self::qualified).
    ///
    /// # Errors
    /// No driver, no such device, or one that lacks what the kernels need.
    pub fn unchecked(options: &WgpuOptions) -> Result<Self, WgpuError> {
        block_on(Self::unchecked_async(options))
    }

    /// Opens a device that computes rightly. That is compared on a part of the conformance suite, which takes seconds: once for a
    /// device, its driver and this program's kernels, if there is a directory that keeps it.
    ///
    /// # Errors
    /// As [`unchecked`](Self::unchecked); [`WgpuError::Refused`] for a device with one wrong bit, now or when it was
    /// compared earlier, and for one that failed meanwhile.
    pub fn qualified(options: &WgpuOptions) -> Result<Self, WgpuError> {
        Self::judged(options, false)
    }

    /// As [`qualified`](Self::qualified), whatever is kept: it is compared, and what is kept is written anew.
    ///
    /// # Errors
    /// As there.
    pub fn qualified_anew(options: &WgpuOptions) -> Result<Self, WgpuError> {
        Self::judged(options, true)
    }

    fn judged(options: &WgpuOptions, anew: bool) -> Result<Self, WgpuError> {
        // Too little memory for the suite's longest rows is no wrong bit: the limit holds from then on.
        let backend = Self::unchecked(&WgpuOptions { memory_limit: None, ..options.clone() })?;
        let subject = backend.subject();
        verdict::judge(options.cache.as_deref(), &subject, anew, || backend.compare())?;
        backend.gpu.limit(options.memory_limit.unwrap_or(u64::MAX));
        Ok(backend)
    }

    /// Compares the device with the reference; says how much was compared. Nothing of it is kept.
    ///
    /// # Errors
    /// [`WgpuError::Refused`].
    pub fn qualify(&self) -> Result<Report, WgpuError> {
        Ok(self.compare().map_err(|found| Refusal::new(&self.subject(), found))?)
    }

    fn subject(&self) -> Subject {
        self.gpu.summary.subject(self.has_subgroups())
    }

    fn compare(&self) -> Result<Report, Mismatch> {
        conformance::sample(self, QUALIFY_EVERY)
    }
}

impl Backend for Wgpu {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: "wgpu", isa: self.gpu.summary.api, threads: self.threads }
    }

    fn device_memory(&self) -> Option<&dyn DeviceMemory> {
        Some(&*self.gpu)
    }

    fn failure(&self) -> Option<DeviceFailure> {
        let device = self.gpu.summary.name.as_str().into();
        self.gpu.failure().map(|fault| DeviceFailure { device, fault })
    }

    fn prepare(&self, matrix: QuantMatrix) -> Result<Matrix, NumericError> {
        self.prepare_matrix(&matrix)
    }

    fn linear(
        &self,
        weights: &[&Matrix],
        x: &[f32],
        tokens: usize,
        out: &mut [&mut [f32]],
    ) -> Result<(), NumericError> {
        block_on(self.linear_async(weights, x, tokens, out))
    }

    fn embed(&self, table: &Matrix, tokens: &[u32], out: &mut [f32]) -> Result<(), NumericError> {
        block_on(self.embed_async(table, tokens, out))
    }

    fn rms_norm(&self, weight: &[f32], eps: f32, x: &[f32], out: &mut [f32]) -> Result<(), NumericError> {
        block_on(self.rms_norm_async(weight, eps, x, out))
    }

    fn rope(&self, table: &RopeTable, positions: &[u32], x: &mut [f32]) -> Result<(), NumericError> {
        block_on(self.rope_async(table, positions, x))
    }

    fn kv_append(&self, kv: &mut KvLayer, k: &[f32], v: &[f32]) -> Result<(), NumericError> {
        block_on(self.kv_append_async(kv, k, v))
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
        block_on(self.attention_async(kv, mask, heads, first, q, out))
    }

    fn pass(
        &self,
        call: &PassCall<'_>,
        parts: &mut [PassPart<'_>],
        values: &mut PassValues<'_>,
    ) -> Result<bool, NumericError> {
        block_on(self.pass_async(call, parts, values))
    }

    fn silu_mul(&self, gate: &mut [f32], up: &[f32]) -> Result<(), NumericError> {
        block_on(self.silu_mul_async(gate, up))
    }

    fn layer_norm(
        &self,
        weight: &[f32],
        bias: &[f32],
        eps: f32,
        x: &[f32],
        out: &mut [f32],
    ) -> Result<(), NumericError> {
        block_on(self.layer_norm_async(weight, bias, eps, x, out))
    }

    fn gelu(&self, x: &mut [f32]) -> Result<(), NumericError> {
        block_on(self.gelu_async(x))
    }

    fn add(&self, x: &mut [f32], y: &[f32]) -> Result<(), NumericError> {
        block_on(self.add_async(x, y))
    }
}
