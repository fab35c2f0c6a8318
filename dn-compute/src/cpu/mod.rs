//! The CPU backend: portable code, AVX2 to AMX and NEON behind one interface, chosen at run time, over a pool of
//! threads. The only part of this crate with `unsafe`.

mod acts;
mod add;
mod attention;
mod checks;
mod embed;
mod gelu;
mod isa;
mod layer_norm;
mod linear;
mod pack;
mod pages;
mod rms_norm;
mod rope;
pub(crate) mod sampling;
mod silu;
mod threads;
#[cfg(target_arch = "x86_64")]
mod vnni;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::spec::{
    Backend, BackendInfo, Blocks, KvLayer, Mask, Matrix, NumericError, Op, QuantMatrix, RopeTable,
};

pub use isa::{Isa, ParseIsaError};

use acts::Spare;
use isa::Level;
use pack::Packed;
use threads::Threads;

/// Most threads of a backend.
pub const MAX_THREADS: usize = 1024;

/// Why a CPU backend cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CpuError {
    /// The machine lacks the instruction set that was asked for.
    #[error("this machine has no {isa}; ask for auto or scalar")]
    IsaUnavailable {
        /// What was asked for.
        isa: Isa,
    },
    /// No threads, or too many.
    #[error("{found} threads, allowed are 1 to {max}")]
    Threads {
        /// What was asked for.
        found: usize,
        /// Most allowed.
        max: usize,
    },
    /// The system refused to start the threads.
    #[error("cannot start {threads} threads")]
    Spawn {
        /// What was asked for.
        threads: usize,
        /// Why.
        source: rayon::ThreadPoolBuildError,
    },
}

/// The CPU backend.
#[derive(Debug)]
pub struct Cpu {
    level: Level,
    threads: Threads,
    spare: Arc<Spare>,
}

impl Cpu {
    /// A backend with an instruction set and a number of threads.
    ///
    /// # Errors
    /// An instruction set that the machine lacks, a number of threads outside 1 to [`MAX_THREADS`], or a system
    /// that refuses to start them.
    pub fn new(isa: Isa, threads: usize) -> Result<Self, CpuError> {
        let level = Level::detect(isa).ok_or(CpuError::IsaUnavailable { isa })?;
        Ok(Self { level, threads: Threads::new(threads)?, spare: Arc::default() })
    }

    /// A backend with the best instruction set and a thread per available core.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn detect() -> Result<Self, CpuError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new(Isa::Auto, cores.min(MAX_THREADS))
    }

    /// The instruction set in use, never [`Isa::Auto`].
    pub const fn isa(&self) -> Isa {
        self.level.isa()
    }
}

/// Bytes of a matrix in the form of a backend of this instruction set; `four_bits` says whether these hold its values.
pub(crate) fn prepared_bytes(isa: Isa, rows: usize, cols: usize, blocks: Blocks, four_bits: bool) -> u64 {
    let four_bits = four_bits && Level::detect(isa).is_none_or(Level::takes_four_bits);
    pack::packed_bytes(rows, cols, blocks, four_bits)
}

fn own(op: Op, matrix: &Matrix) -> Result<&Packed, NumericError> {
    matrix.as_any().downcast_ref().ok_or(NumericError::ForeignMatrix { op, backend: "cpu" })
}

impl Backend for Cpu {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: "cpu", isa: self.isa().name(), threads: self.threads.count() }
    }

    fn prepare(&self, matrix: QuantMatrix) -> Result<Matrix, NumericError> {
        Ok(Arc::new(Packed::new(self.level, &matrix, &self.threads)))
    }

    fn enter(&self, job: &mut (dyn FnMut() + Send)) {
        self.threads.enter(job);
    }

    fn linear(
        &self,
        weights: &[&Matrix],
        x: &[f32],
        tokens: usize,
        out: &mut [&mut [f32]],
    ) -> Result<(), NumericError> {
        linear::linear(self, weights, x, tokens, out)
    }

    fn embed(&self, table: &Matrix, tokens: &[u32], out: &mut [f32]) -> Result<(), NumericError> {
        embed::embed(table, tokens, out)
    }

    fn rms_norm(&self, weight: &[f32], eps: f32, x: &[f32], out: &mut [f32]) -> Result<(), NumericError> {
        rms_norm::rms_norm(self, weight, eps, x, out)
    }

    fn rope(&self, table: &RopeTable, positions: &[u32], x: &mut [f32]) -> Result<(), NumericError> {
        rope::rope(self, table, positions, x)
    }

    fn kv_append(&self, kv: &mut KvLayer, k: &[f32], v: &[f32]) -> Result<(), NumericError> {
        attention::kv_append(self, kv, k, v)
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
        attention::attention(self, kv, mask, heads, first, q, out)
    }

    fn silu_mul(&self, gate: &mut [f32], up: &[f32]) -> Result<(), NumericError> {
        silu::silu_mul(self, gate, up)
    }

    fn layer_norm(
        &self,
        weight: &[f32],
        bias: &[f32],
        eps: f32,
        x: &[f32],
        out: &mut [f32],
    ) -> Result<(), NumericError> {
        layer_norm::layer_norm(self, weight, bias, eps, x, out)
    }

    fn gelu(&self, x: &mut [f32]) -> Result<(), NumericError> {
        gelu::gelu(self, x)
    }

    fn add(&self, x: &mut [f32], y: &[f32]) -> Result<(), NumericError> {
        add::add(self, x, y)
    }
}
