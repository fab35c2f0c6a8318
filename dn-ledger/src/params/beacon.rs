//! Parameters of the randomness beacon.

use dn_core::{Amount, canonical_struct};
use serde::{Deserialize, Serialize};

use super::{ParamsError, within, within_dn};

/// The most that `delay_blocks` may be.
pub(super) const MAX_DELAY: u64 = 64;

/// Where randomness comes from, and how long after a commitment it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BeaconParams {
    /// Every block carries its proposer's reveal. Without, a block's proposer can choose the randomness among many.
    pub required: bool,
    /// Blocks from a commitment to what is drawn for it: from a batch to its audits, from an election to the turns of who was elected. Whoever
    /// has all their turns knows the draw when it commits itself. Shorter than an epoch.
    pub delay_blocks: u64,
    /// Taken out of a validator's pay for each turn that it missed, and for each receipt that it called missing before all others, who got it.
    pub miss_penalty: Amount,
}
canonical_struct!(BeaconParams { required: bool, delay_blocks: u64, miss_penalty: Amount });

impl BeaconParams {
    /// Of a local network with one proposer.
    pub const fn devnet() -> Self {
        Self { required: false, delay_blocks: 1, miss_penalty: Amount::from_atto(10_000_000_000_000_000) }
    }

    /// Of a main network: whoever has a third of all power has seventeen turns in a row once in 10^8 heights.
    pub(super) const fn main() -> Self {
        Self { required: true, delay_blocks: 16, ..Self::devnet() }
    }

    /// Checks the bounds.
    pub(super) fn validate(&self, epoch_blocks: u64) -> Result<(), ParamsError> {
        // An election holds before the next one is made.
        let most = epoch_blocks.saturating_sub(1).min(MAX_DELAY);
        within("beacon.delay_blocks", self.delay_blocks.into(), 1, most.into())?;
        within_dn("beacon.miss_penalty", self.miss_penalty, 0, 1_000)
    }
}
