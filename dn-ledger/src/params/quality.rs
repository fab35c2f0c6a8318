//! Parameters of quality rounds.

use dn_core::{Amount, canonical_struct};
use dn_powr::ReviewParams;
use serde::{Deserialize, Serialize};

use super::{ParamsError, within, within_dn};

/// The most rounds that are settled in one block.
pub(crate) const MAX_SETTLED_PER_BLOCK: u32 = 64;

/// How committees score what models are good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct QualityParams {
    /// The most rounds of an epoch; 0: nobody is asked, and quality is neutral.
    pub max_rounds: u32,
    /// Committees, canaries and tolerances.
    pub review: ReviewParams,
    /// Blocks for a round's setter to seal it.
    pub seal_blocks: u64,
    /// Blocks to commit.
    pub commit_blocks: u64,
    /// Blocks to reveal.
    pub reveal_blocks: u64,
    /// Blocks for the setter to open the seal.
    pub open_blocks: u64,
    /// The most stake that counts in a member's vote.
    pub stake_cap: Amount,
}
canonical_struct!(QualityParams {
    max_rounds: u32,
    review: ReviewParams,
    seal_blocks: u64,
    commit_blocks: u64,
    reveal_blocks: u64,
    open_blocks: u64,
    stake_cap: Amount,
});

impl QualityParams {
    /// Of a main network: half of an hourly epoch for a round, as many rounds as are settled in one block.
    pub fn main() -> Self {
        Self {
            max_rounds: MAX_SETTLED_PER_BLOCK,
            seal_blocks: 600,
            commit_blocks: 600,
            reveal_blocks: 300,
            open_blocks: 300,
            ..Self::devnet()
        }
    }

    /// Of a network whose validators only decide and audit: nobody scores.
    pub fn devnet() -> Self {
        Self {
            max_rounds: 0,
            review: ReviewParams::default(),
            seal_blocks: 3,
            commit_blocks: 4,
            reveal_blocks: 4,
            open_blocks: 3,
            stake_cap: Amount::from_dn(1_000_000),
        }
    }

    /// Checks the bounds: all rounds must be settled in the epoch in which they start, whose emission they are for.
    pub(super) fn validate(&self, epoch_blocks: u64) -> Result<(), ParamsError> {
        let million = 1_000_000;
        within("quality.max_rounds", self.max_rounds.into(), 0, 4_096)?;
        for (name, blocks) in [
            ("quality.seal_blocks", self.seal_blocks),
            ("quality.commit_blocks", self.commit_blocks),
            ("quality.reveal_blocks", self.reveal_blocks),
            ("quality.open_blocks", self.open_blocks),
        ] {
            within(name, blocks.into(), 1, million)?;
        }
        within_dn("quality.stake_cap", self.stake_cap, 1, 100_000_000)?;
        self.review.validate()?;
        if self.max_rounds > 0 {
            let blocks = self.seal_blocks + self.commit_blocks + self.reveal_blocks + self.open_blocks;
            let settling = u64::from(self.max_rounds.div_ceil(MAX_SETTLED_PER_BLOCK));
            let most = u128::from(epoch_blocks).saturating_sub(1);
            within("quality (rounds, to the last that is settled)", (blocks + settling).into(), 2, most)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rounds start with the epoch's first block, are due after the last one's deadline, and so many are settled a block.
    #[test]
    fn every_round_is_settled_before_its_epoch_ends() {
        for (rounds, blocks) in [(1, 1), (64, 1), (65, 2), (4_096, 64)] {
            let params = QualityParams { max_rounds: rounds, ..QualityParams::devnet() };
            let least = 3 + 4 + 4 + 3 + blocks + 1;
            assert!(params.validate(least).is_ok(), "{rounds} rounds in {least} blocks");
            assert!(params.validate(least - 1).is_err(), "{rounds} rounds in {} blocks", least - 1);
        }
    }
}
