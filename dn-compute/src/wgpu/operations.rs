//! The operations as futures: what [`Backend`](crate::spec::Backend) says of each, for callers that must not block.
//!
//! In a browser they wait for the page's own loop. Elsewhere each waits for the device itself and is ready when first asked, so
//! that the blocking interface is these futures, run to their end.

use std::sync::Arc;

use super::matrix::Resident;
use super::{Wgpu, add, attention, embed, gelu, layer_norm, linear, pass, rms_norm, rope, silu};
use crate::spec::{
    KvLayer, Mask, Matrix, NumericError, PassCall, PassPart, PassValues, QuantMatrix, RopeTable,
};

/// Operations of a decoder, of an encoder, and a decoder's whole layer.
///
/// # Errors
/// As those of [`Backend`](crate::spec::Backend).
impl Wgpu {
    /// As `Backend::prepare`: the copies to the device are on their way when it returns, nobody waits for them.
    pub fn prepare_matrix(&self, matrix: &QuantMatrix) -> Result<Matrix, NumericError> {
        Ok(Arc::new(Resident::new(&self.gpu, matrix)?))
    }

    /// As `Backend::linear`.
    pub async fn linear_async(
        &self,
        weights: &[&Matrix],
        x: &[f32],
        tokens: usize,
        out: &mut [&mut [f32]],
    ) -> Result<(), NumericError> {
        linear::linear(&self.gpu, weights, x, tokens, out).await
    }

    /// As `Backend::embed`.
    pub async fn embed_async(
        &self,
        table: &Matrix,
        tokens: &[u32],
        out: &mut [f32],
    ) -> Result<(), NumericError> {
        embed::embed(&self.gpu, table, tokens, out).await
    }

    /// As `Backend::rms_norm`.
    pub async fn rms_norm_async(
        &self,
        weight: &[f32],
        eps: f32,
        x: &[f32],
        out: &mut [f32],
    ) -> Result<(), NumericError> {
        rms_norm::rms_norm(&self.gpu, weight, eps, x, out).await
    }

    /// As `Backend::rope`.
    pub async fn rope_async(
        &self,
        table: &RopeTable,
        positions: &[u32],
        x: &mut [f32],
    ) -> Result<(), NumericError> {
        rope::rope(&self.gpu, table, positions, x).await
    }

    /// As `Backend::kv_append`.
    pub async fn kv_append_async(&self, kv: &mut KvLayer, k: &[f32], v: &[f32]) -> Result<(), NumericError> {
        attention::kv_append(&self.gpu, kv, k, v).await
    }

    /// As `Backend::attention`.
    pub async fn attention_async(
        &self,
        kv: &KvLayer,
        mask: Mask,
        heads: usize,
        first: usize,
        q: &[f32],
        out: &mut [f32],
    ) -> Result<(), NumericError> {
        attention::attention(&self.gpu, kv, mask, heads, first, q, out).await
    }

    /// As `Backend::pass`.
    pub async fn pass_async(
        &self,
        call: &PassCall<'_>,
        parts: &mut [PassPart<'_>],
        values: &mut PassValues<'_>,
    ) -> Result<bool, NumericError> {
        pass::pass(&self.gpu, call, parts, values).await
    }

    /// As `Backend::silu_mul`.
    pub async fn silu_mul_async(&self, gate: &mut [f32], up: &[f32]) -> Result<(), NumericError> {
        silu::silu_mul(&self.gpu, gate, up).await
    }

    /// As `Backend::layer_norm`.
    pub async fn layer_norm_async(
        &self,
        weight: &[f32],
        bias: &[f32],
        eps: f32,
        x: &[f32],
        out: &mut [f32],
    ) -> Result<(), NumericError> {
        layer_norm::layer_norm(&self.gpu, weight, bias, eps, x, out).await
    }

    /// As `Backend::gelu`.
    pub async fn gelu_async(&self, x: &mut [f32]) -> Result<(), NumericError> {
        gelu::gelu(&self.gpu, x).await
    }

    /// As `Backend::add`.
    pub async fn add_async(&self, x: &mut [f32], y: &[f32]) -> Result<(), NumericError> {
        add::add(&self.gpu, x, y).await
    }
}
