//! The scalar meaning of every operation: safe, obvious, slow. Every other backend must give these bits.

mod add;
mod attention;
mod embed;
mod gelu;
mod layer_norm;
mod linear;
mod rms_norm;
mod rope;
mod silu;

use crate::spec::{
    Backend, BackendInfo, KvLayer, Mask, Matrix, NumericError, Op, Prepared, QuantMatrix, RopeTable,
};

/// The reference backend: one thread, no instruction set beyond the target's baseline.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reference;

impl Prepared for QuantMatrix {
    fn rows(&self) -> usize {
        self.rows()
    }
    fn cols(&self) -> usize {
        self.cols()
    }
    fn memory_bytes(&self) -> usize {
        self.rows() * self.blocks().row_bytes(self.cols())
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

fn own(op: Op, matrix: &Matrix) -> Result<&QuantMatrix, NumericError> {
    matrix.as_any().downcast_ref().ok_or(NumericError::ForeignMatrix { op, backend: "reference" })
}

impl Backend for Reference {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: "reference", isa: "scalar", threads: 1 }
    }

    fn prepare(&self, matrix: QuantMatrix) -> Result<Matrix, NumericError> {
        Ok(std::sync::Arc::new(matrix))
    }

    fn linear(
        &self,
        weights: &[&Matrix],
        x: &[f32],
        tokens: usize,
        out: &mut [&mut [f32]],
    ) -> Result<(), NumericError> {
        linear::linear(weights, x, tokens, out)
    }

    fn embed(&self, table: &Matrix, tokens: &[u32], out: &mut [f32]) -> Result<(), NumericError> {
        embed::embed(table, tokens, out)
    }

    fn rms_norm(&self, weight: &[f32], eps: f32, x: &[f32], out: &mut [f32]) -> Result<(), NumericError> {
        rms_norm::rms_norm(weight, eps, x, out)
    }

    fn rope(&self, table: &RopeTable, positions: &[u32], x: &mut [f32]) -> Result<(), NumericError> {
        rope::rope(table, positions, x)
    }

    fn kv_append(&self, kv: &mut KvLayer, k: &[f32], v: &[f32]) -> Result<(), NumericError> {
        attention::kv_append(kv, k, v)
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
        attention::attention(kv, mask, heads, first, q, out)
    }

    fn silu_mul(&self, gate: &mut [f32], up: &[f32]) -> Result<(), NumericError> {
        silu::silu_mul(gate, up)
    }

    fn layer_norm(
        &self,
        weight: &[f32],
        bias: &[f32],
        eps: f32,
        x: &[f32],
        out: &mut [f32],
    ) -> Result<(), NumericError> {
        layer_norm::layer_norm(weight, bias, eps, x, out)
    }

    fn gelu(&self, x: &mut [f32]) -> Result<(), NumericError> {
        gelu::gelu(x)
    }

    fn add(&self, x: &mut [f32], y: &[f32]) -> Result<(), NumericError> {
        add::add(x, y)
    }
}
