//! What an auditor found.

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::encoding::Canonical;
use crate::hash::{BatchId, Hash32, keccak256};
use crate::{canonical_enum, canonical_struct};

/// The result of replaying one receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum AuditOutcome {
    /// Every bit as the receipt says.
    Match {},
    /// The replay differs.
    Mismatch {
        /// First position (prompt and output counted from 0) whose bits differ.
        position: u32,
    },
    /// Receipt or request were not handed over in time, or do not belong to the batch.
    Unavailable {},
    /// The auditor cannot replay it: it does not hold the model.
    Unjudged {},
}
canonical_enum!(AuditOutcome {
    0 => Match {},
    1 => Mismatch { position: u32 },
    2 => Unavailable {},
    3 => Unjudged {},
});

/// One auditor's finding on one receipt of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Verdict {
    /// The batch.
    pub batch: BatchId,
    /// The receipt's place in the batch, from 0.
    pub index: u32,
    /// Who audited.
    pub auditor: Address,
    /// What was found.
    pub outcome: AuditOutcome,
}
canonical_struct!(Verdict { batch: BatchId, index: u32, auditor: Address, outcome: AuditOutcome });

impl Verdict {
    /// The commitment that precedes the reveal: `keccak(verdict ‖ salt)`. The auditor is in it, so it cannot be copied.
    pub fn commitment(&self, salt: &[u8; 32]) -> Hash32 {
        Hash32(keccak256(&[&self.to_bytes(), salt]))
    }
}
