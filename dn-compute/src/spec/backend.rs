//! The interface that every backend implements.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::attention::{KvLayer, KvShape};
use super::device::DeviceMemory;
use super::error::{DeviceFailure, NumericError};
use super::mask::Mask;
use super::matrix::QuantMatrix;
use super::pass::{PassCall, PassPart, PassValues};
use super::rope::RopeTable;

/// A matrix in the form in which a backend multiplies by it.
pub trait Prepared: Send + Sync + fmt::Debug + Any {
    /// Rows: the length of an output row.
    fn rows(&self) -> usize;
    /// Columns: the length of an activation row.
    fn cols(&self) -> usize;
    /// Bytes of memory held.
    fn memory_bytes(&self) -> usize;
    /// For the backend that prepared it.
    fn as_any(&self) -> &dyn Any;
}

/// A prepared matrix, shared: a tied embedding is the same matrix twice.
pub type Matrix = Arc<dyn Prepared>;

/// What a backend is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendInfo {
    /// `reference`, `cpu`, ...
    pub name: &'static str,
    /// The instruction set or device in use.
    pub isa: &'static str,
    /// Threads that compute.
    pub threads: usize,
}

impl fmt::Display for BackendInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {} threads)", self.name, self.isa, self.threads)
    }
}

/// The operations a decoder needs, each with one right answer, bit for bit.
///
/// Between operations values are f32, row-major, and never NaN, infinite, subnormal or `-0`. An input that is not
/// finite is refused; a subnormal one counts as zero. After an error, what the operation was to write holds no meaning;
/// [`kv_append`](Self::kv_append) leaves its cache as it was. A row of an output depends only on its own row of the
/// input (and in attention on the positions that it sees), never on its neighbours in the call.
///
/// # Errors
/// Every operation refuses shapes that do not fit, sizes outside [`limits`](super::limits), inputs that are not finite
/// and outputs that overflow, each with a [`NumericError`].
pub trait Backend: Send + Sync + fmt::Debug {
    /// Name, instruction set, threads.
    fn info(&self) -> BackendInfo;

    /// Brings a matrix into this backend's form.
    fn prepare(&self, matrix: QuantMatrix) -> Result<Matrix, NumericError>;

    /// The memory of the device that it computes on; `None` for one that has nothing but the host's.
    fn device_memory(&self) -> Option<&dyn DeviceMemory> {
        None
    }

    /// Why every call fails from now on, once the device is gone: only a backend that is opened anew may work again. `None` as
    /// long as nothing is known of that; a call that failed for itself, such as for want of memory, is no such reason.
    fn failure(&self) -> Option<DeviceFailure> {
        None
    }

    /// Runs `job` once, close to this backend's threads: a forward pass inside one call hands over its many small
    /// pieces of work faster. Bits do not depend on it.
    fn enter(&self, job: &mut (dyn FnMut() + Send)) {
        job();
    }

    /// `out[i] = x * weights[i]^T` for each matrix over one quantised `x`.
    ///
    /// # Shape
    /// `x`: `tokens x cols`; `out[i]`: `tokens x rows(i)`.
    fn linear(
        &self,
        weights: &[&Matrix],
        x: &[f32],
        tokens: usize,
        out: &mut [&mut [f32]],
    ) -> Result<(), NumericError>;

    /// `out[t] = table[tokens[t]]`.
    fn embed(&self, table: &Matrix, tokens: &[u32], out: &mut [f32]) -> Result<(), NumericError>;

    /// Root-mean-square normalisation of each row of `weight.len()` elements.
    fn rms_norm(&self, weight: &[f32], eps: f32, x: &[f32], out: &mut [f32]) -> Result<(), NumericError>;

    /// Rotates every head of every row in place.
    ///
    /// # Shape
    /// `x`: `positions.len() x heads x head_dim`.
    fn rope(&self, table: &RopeTable, positions: &[u32], x: &mut [f32]) -> Result<(), NumericError>;

    /// An empty cache for one layer of one sequence.
    fn kv_layer(&self, shape: KvShape) -> Result<KvLayer, NumericError> {
        KvLayer::new(shape)
    }

    /// Quantises keys and values and appends them.
    ///
    /// # Shape
    /// `k`, `v`: `tokens x kv_heads x head_dim`.
    fn kv_append(&self, kv: &mut KvLayer, k: &[f32], v: &[f32]) -> Result<(), NumericError>;

    /// Attention of queries at positions `first..first + tokens`, each over the keys that `mask` lets it see.
    ///
    /// # Shape
    /// `q`, `out`: `tokens x heads x head_dim`, `heads` a multiple of the cache's heads; query head `h` reads cache
    /// head `h / (heads / kv_heads)`.
    fn attention(
        &self,
        kv: &KvLayer,
        mask: Mask,
        heads: usize,
        first: usize,
        q: &[f32],
        out: &mut [f32],
    ) -> Result<(), NumericError>;

    /// Whole layers, and the decoder's ends where the call has them, over the rows of the parts one after another: what the
    /// operations would do one by one.
    ///
    /// Says whether it was done. Where not, nothing is changed, and the caller does it operation by operation: so does a
    /// backend that meets a value that it must refuse, and leaves it to them to say which.
    ///
    /// # Errors
    /// A device that failed. Nothing else.
    fn pass(
        &self,
        _call: &PassCall<'_>,
        _parts: &mut [PassPart<'_>],
        _values: &mut PassValues<'_>,
    ) -> Result<bool, NumericError> {
        Ok(false)
    }

    /// `gate[i] = silu(gate[i]) * up[i]`.
    fn silu_mul(&self, gate: &mut [f32], up: &[f32]) -> Result<(), NumericError>;

    /// Layer normalisation of each row of `weight.len()` elements; `bias` is as long.
    fn layer_norm(
        &self,
        weight: &[f32],
        bias: &[f32],
        eps: f32,
        x: &[f32],
        out: &mut [f32],
    ) -> Result<(), NumericError>;

    /// `x[i] = gelu(x[i])`, the exact form.
    fn gelu(&self, x: &mut [f32]) -> Result<(), NumericError>;

    /// `x[i] = x[i] + y[i]`; `y` may be one row that is added to each row of `x`.
    fn add(&self, x: &mut [f32], y: &[f32]) -> Result<(), NumericError>;
}
