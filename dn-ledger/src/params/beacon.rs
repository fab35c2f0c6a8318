//! Parameters of the randomness beacon.

use dn_core::{Amount, canonical_struct};
use serde::{Deserialize, Serialize};

use super::{ParamsError, within, within_dn};

/// Where randomness comes from, and how long after a commitment it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BeaconParams {
    /// Every block carries its proposer's reveal. Without, a block's proposer can choose the randomness among many.
    pub required: bool,
    /// Blocks from a batch to the draw of its audits: whoever has all their turns knows the draw when the batch is posted.
    pub delay_blocks: u64,
    /// Taken out of a validator's pay for each turn that it missed.
    pub miss_penalty: Amount,
}
canonical_struct!(BeaconParams { required: bool, delay_blocks: u64, miss_penalty: Amount });

impl BeaconParams {
    /// Of a local network with one proposer.
    pub const fn devnet() -> Self {
        Self { required: false, delay_blocks: 1, miss_penalty: Amount::from_atto(10_000_000_000_000_000) }
    }

    /// Checks the bounds.
    pub(super) fn validate(&self) -> Result<(), ParamsError> {
        within("beacon.delay_blocks", self.delay_blocks.into(), 1, 64)?;
        within_dn("beacon.miss_penalty", self.miss_penalty, 0, 1_000)
    }
}
