//! What an auditor is handed: one receipt of a batch with everything needed to replay it.

use dn_core::encoding::{Canonical, DecodeError};
use dn_core::merkle::{InclusionProof, ProofError};
use dn_core::objects::{JobRequest, Receipt};
use dn_core::{Address, BatchId, Hash32, Signed, canonical_struct, keccak256};

use crate::receipt::{ReceiptError, check_receipt};

/// The most bytes of an opening.
pub const MAX_OPENING_BYTES: usize = 4 * 1024 * 1024;
/// Header that names the auditor.
pub const AUDITOR_HEADER: &str = "x-dn-auditor";
/// Header with the time of the request, Unix milliseconds.
pub const TIME_HEADER: &str = "x-dn-time";
/// Header with the auditor's signature over [`opening_digest`], 65 bytes as `0x…`.
pub const SIGNATURE_HEADER: &str = "x-dn-signature";
/// How far the clocks of auditor and gateway may differ, in milliseconds.
pub const MAX_CLOCK_SKEW_MS: u64 = 300_000;

/// A receipt, its place in the batch, and the request and output that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The receipt.
    pub receipt: Signed<Receipt>,
    /// Its place in the batch.
    pub proof: InclusionProof,
    /// The request.
    pub request: JobRequest,
    /// The output tokens.
    pub output: Vec<u32>,
}
canonical_struct!(Opening {
    receipt: Signed<Receipt>,
    proof: InclusionProof,
    request: JobRequest,
    output: Vec<u32>,
});

/// Why an opening is not that of the receipt it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpeningError {
    /// Not the canonical bytes of an opening.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// For another place in the batch.
    #[error("opening of receipt {found} of {count}; receipt {expected} expected")]
    Index {
        /// The place asked for.
        expected: u32,
        /// The place in the proof.
        found: u64,
        /// Receipts in the proof's tree.
        count: u64,
    },
    /// The receipt is not in the batch.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The receipt is by another worker than the batch.
    #[error("receipt of worker {found} in a batch of {expected}")]
    Worker {
        /// The batch's.
        expected: Address,
        /// The receipt's.
        found: Address,
    },
    /// Receipt, request and output do not belong together.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
}

impl Opening {
    /// Decodes an opening of bounded size.
    ///
    /// # Errors
    /// [`OpeningError::Decode`].
    pub fn from_untrusted(bytes: &[u8]) -> Result<Self, OpeningError> {
        if bytes.len() > MAX_OPENING_BYTES {
            let count = DecodeError::Count { at: 0, found: bytes.len(), limit: MAX_OPENING_BYTES };
            return Err(count.into());
        }
        Ok(Self::from_bytes(bytes)?)
    }

    /// Checks that this is receipt `index` of the batch with this root, count and worker, and that request and output
    /// are the ones it was signed for.
    ///
    /// # Errors
    /// [`OpeningError`].
    pub fn verify(&self, root: Hash32, count: u32, worker: Address, index: u32) -> Result<(), OpeningError> {
        if self.proof.index != u64::from(index) || self.proof.count != u64::from(count) {
            let (found, count) = (self.proof.index, self.proof.count);
            return Err(OpeningError::Index { expected: index, found, count });
        }
        self.proof.verify(root, &self.receipt.to_bytes())?;
        let found = self.receipt.body.worker;
        if found != worker {
            return Err(OpeningError::Worker { expected: worker, found });
        }
        Ok(check_receipt(&self.receipt, &self.request, &self.output)?)
    }
}

/// What an auditor signs to be handed an opening: prompts are for nobody else.
pub fn opening_digest(chain_id: u64, gateway: Address, batch: BatchId, index: u32, time_ms: u64) -> [u8; 32] {
    keccak256(&[
        b"DeepNode opening v1",
        &chain_id.to_le_bytes(),
        &gateway.0,
        &batch.0,
        &index.to_le_bytes(),
        &time_ms.to_le_bytes(),
    ])
}
