//! Why a claim cannot be judged, and whose fault that is.

use dn_core::encoding::DecodeError;
use dn_core::merkle::ProofError;

use super::plan::ManifestError;
use super::slice::SliceError;
use crate::spec::MatrixError;

/// Who is to blame for bytes that cannot be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Whoever put the claim together: the keeper of the dispute.
    Claim,
    /// Whoever opened: the accuser.
    Opening,
}

/// Why there is no verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefereeError {
    /// More bytes than are ever needed.
    #[error("claim and opening have {found} bytes, at most {limit} are judged")]
    TooLarge {
        /// The limit.
        limit: usize,
        /// What came.
        found: usize,
    },
    /// The claim is not in its canonical encoding.
    #[error("the claim cannot be read: {0}")]
    ClaimEncoding(DecodeError),
    /// The opening is not in its canonical encoding.
    #[error("the opening cannot be read: {0}")]
    OpeningEncoding(DecodeError),
    /// No model has such a manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The claim contradicts itself.
    #[error("the claim's {what} is {found}, expected {expected}")]
    Claim {
        /// What was measured.
        what: &'static str,
        /// What fits.
        expected: u64,
        /// What it has.
        found: u64,
    },
    /// Something that the operation needs is not opened, or something else is.
    #[error("the opening's {what} is {found}, expected {expected}")]
    Opening {
        /// What was measured.
        what: &'static str,
        /// What fits.
        expected: u64,
        /// What it has.
        found: u64,
    },
    /// Opened bytes are not those that are bound.
    #[error("{what}: {source}")]
    Slice {
        /// Which bytes.
        what: &'static str,
        /// Why not.
        source: SliceError,
    },
    /// Opened bytes are bound, but not those that the operation reads.
    #[error("{what}: the slice does not show the bytes {start} to {end}")]
    Elsewhere {
        /// Which bytes.
        what: &'static str,
        /// First byte that is read.
        start: usize,
        /// End of the bytes that are read.
        end: usize,
    },
    /// A proof does not lead to what is bound.
    #[error("{what}: {source}")]
    Proof {
        /// Which proof.
        what: &'static str,
        /// Why not.
        source: ProofError,
    },
    /// A tile of weights is not one.
    #[error("the tile of weights: {0}")]
    Weights(MatrixError),
    /// This is not judged by tiles.
    #[error("{what} cannot be judged by a tile")]
    Unsupported {
        /// What it is.
        what: &'static str,
    },
}

impl RefereeError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::ClaimEncoding(_) | Self::Manifest(_) | Self::Claim { .. } => Fault::Claim,
            _ => Fault::Opening,
        }
    }
}
