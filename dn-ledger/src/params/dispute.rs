//! Parameters of disputes.

use dn_core::canonical_struct;
use serde::{Deserialize, Serialize};

use super::{ParamsError, within};
use crate::referee::MAX_MOVES;

/// How a claimed mismatch is decided, and in what time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DisputeParams {
    /// The rules of the referee that decides. 0: none does, and validators decide by weight.
    pub referee: u32,
    /// Blocks for the accuser to open a dispute after the accusation.
    pub open_blocks: u64,
    /// Blocks that each side may take for all its moves together.
    pub clock_blocks: u64,
    /// The most moves of all disputes in one block.
    pub max_moves_per_block: u32,
}
canonical_struct!(DisputeParams {
    referee: u32,
    open_blocks: u64,
    clock_blocks: u64,
    max_moves_per_block: u32,
});

impl DisputeParams {
    /// Of a local network without a referee.
    pub const fn devnet() -> Self {
        Self { referee: 0, open_blocks: 60, clock_blocks: 180, max_moves_per_block: 64 }
    }

    /// The most blocks from an accusation to the end of its dispute.
    pub const fn longest_blocks(&self) -> u64 {
        self.open_blocks + 2 * self.clock_blocks + 1
    }

    /// Checks the bounds.
    ///
    /// `bonded_blocks` is how long a bond stays in reach of a slash after its owner leaves: no dispute may outlast it.
    pub(super) fn validate(&self, bonded_blocks: u64) -> Result<(), ParamsError> {
        let million = 1_000_000;
        within("dispute.open_blocks", self.open_blocks.into(), 1, million)?;
        // A move takes a block at least.
        within("dispute.clock_blocks", self.clock_blocks.into(), u128::from(MAX_MOVES), million)?;
        within("dispute.max_moves_per_block", self.max_moves_per_block.into(), 1, 4_096)?;
        if self.referee != 0 {
            within("dispute (longest)", self.longest_blocks().into(), 1, bonded_blocks.into())?;
        }
        Ok(())
    }
}
