//! Views of disputes.

use dn_core::objects::Receipt;
use dn_core::{Address, BatchId};
use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::referee::{Ending, Side};

/// `dn_dispute`, `dn_disputes`: a dispute about one receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DisputeView {
    /// The batch.
    pub batch: BatchId,
    /// The receipt's place in it.
    pub index: u32,
    /// Who doubts.
    pub accuser: Address,
    /// Whose work it is.
    pub worker: Address,
    /// The receipt, while the dispute is open and opened.
    pub receipt: Option<Receipt>,
    /// Who has to move; while there is no receipt, the accuser has to open.
    pub turn: Side,
    /// Last height at which that side can.
    pub deadline: u64,
    /// Blocks that the worker may still take in all.
    pub worker_blocks: u64,
    /// Blocks that the accuser may still take in all.
    pub accuser_blocks: u64,
    /// Moves so far: the next one's step.
    pub step: u32,
    /// The moves of an open dispute, in order.
    pub moves: Vec<DisputeMoveView>,
    /// How it ended.
    pub outcome: Option<Ending>,
}

/// One move of a dispute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DisputeMoveView {
    /// By whom.
    pub side: Side,
    /// What, in the referee's encoding.
    pub bytes: Bytes,
}
