//! The meaning of inference: constants, limits, rounding, integer recipes, checked plans, and the interface
//! every backend implements.
//!
//! An output here is *one exact integer, rounded once*, wherever many terms meet; so the order of the terms,
//! the number of threads and the width of the vectors cannot matter. What remains is arithmetic per element
//! over a small closed set ([`float`]). `docs/numerics.md` holds the same meaning in prose.

pub mod add;
pub mod attention;
pub mod backend;
pub mod device;
pub mod embed;
pub mod error;
pub mod exp2;
pub mod float;
pub mod gelu;
pub mod layer;
pub mod layer_norm;
pub mod limits;
pub mod linear;
pub mod mask;
pub mod matrix;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod mirror;
pub mod pass;
pub mod pool;
pub mod quantise;
pub mod resident;
pub mod rms_norm;
pub mod rope;
pub mod silu;
pub mod trig;

pub use attention::{AttentionPlan, KvLayer, KvShape};
pub use backend::{Backend, BackendInfo, Matrix, Prepared};
pub use device::{DeviceMemory, StepSize};
pub use error::{DeviceFailure, DeviceFault, MatrixError, NumericError, Op};
pub use layer::LayerWeights;
pub use layer_norm::LayerNormPlan;
pub use linear::LinearPlan;
pub use mask::Mask;
pub use matrix::{BLOCK, BlockLength, Blocks, QuantMatrix, QuantRow};
pub use pass::{PassCall, PassOutput, PassPart, PassValues};
pub use resident::Vector;
pub use rms_norm::RmsNormPlan;
pub use rope::{Pairing, RopePlan, RopeScaling, RopeSpec, RopeTable};

/// The version of the arithmetic. Every model manifest and receipt names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum NumericSpec {
    /// C16: weights `(q * m - 16 * n) * 2^er` in blocks, activations of 16 bits, outputs rounded once.
    V1,
}

impl NumericSpec {
    /// The number that manifests and receipts carry.
    pub const fn id(self) -> u16 {
        match self {
            Self::V1 => 1,
        }
    }

    /// The version with this number, if this build knows it.
    pub const fn from_id(id: u16) -> Option<Self> {
        match id {
            1 => Some(Self::V1),
            _ => None,
        }
    }
}
