//! Parameters of stake pools and of governance.

use dn_core::{Amount, canonical_struct};
use serde::{Deserialize, Serialize};

use super::{ParamsError, part_of_pool, within, within_dn};
use crate::state::VotingRules;

/// Basis points in one.
const BASIS: u128 = 10_000;
/// The most proposals that can be open at once: whoever moves stake pays for looking at each.
pub const MAX_OPEN_PROPOSALS: u32 = 16;

/// Rules of stake pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StakingParams {
    /// Smallest stake of its own with which a validator is elected and takes stake of others.
    pub min_self_bond: Amount,
    /// Highest commission, in basis points of a pool's reward.
    pub max_commission: u16,
    /// The most that a commission rises at once, in basis points.
    pub max_commission_raise: u16,
    /// Epochs between announcing a raise and its first epoch.
    pub commission_delay_epochs: u64,
}
canonical_struct!(StakingParams {
    min_self_bond: Amount,
    max_commission: u16,
    max_commission_raise: u16,
    commission_delay_epochs: u64,
});

impl StakingParams {
    /// For a local network.
    pub(super) const fn devnet() -> Self {
        Self {
            min_self_bond: Amount::from_dn(100),
            max_commission: 2_000,
            max_commission_raise: 100,
            commission_delay_epochs: 2,
        }
    }

    /// For a main network with hourly epochs: who hears of a raise has the time of unbonding to leave.
    pub(super) const fn main() -> Self {
        Self { min_self_bond: Amount::from_dn(10_000), commission_delay_epochs: 168, ..Self::devnet() }
    }

    pub(super) fn validate(&self) -> Result<(), ParamsError> {
        within_dn("staking.min_self_bond", self.min_self_bond, 0, 1_000_000)?;
        within("staking.max_commission", self.max_commission.into(), 0, BASIS)?;
        within("staking.max_commission_raise", self.max_commission_raise.into(), 1, BASIS)?;
        // At least one: who is told of a raise has a whole epoch to leave before it is paid.
        within("staking.commission_delay_epochs", self.commission_delay_epochs.into(), 1, 10_000)
    }
}

/// Rules of proposals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GovernanceParams {
    /// Deposit with which a proposal is voted on while fewer than four others are open; it doubles with every four.
    pub min_deposit: Amount,
    /// Part of it that the proposer brings at once, in basis points.
    pub initial_deposit: u16,
    /// Blocks in which the deposit must come together.
    pub deposit_blocks: u64,
    /// Blocks of voting.
    pub voting_blocks: u64,
    /// Blocks between the vote's end and the earliest execution, which is at an epoch's end.
    pub execution_delay_blocks: u64,
    /// The most proposals that wait for deposits, votes or execution at once.
    pub max_open: u32,
    /// Epochs for which a proposal is kept after its end.
    pub kept_epochs: u64,
    /// The part of a pool that proposals spend at one epoch's end together, in basis points.
    pub spend_bps: u16,
    /// The most bytes of a proposal's text.
    pub max_text_bytes: u32,
    /// The most parameters that one proposal changes.
    pub max_changes: u32,
    /// Part of all stake that must vote, in basis points.
    pub quorum: u16,
    /// Part of the votes that do not abstain that must be exceeded by yes, in basis points.
    pub pass: u16,
    /// Part of all votes that vetoes when exceeded, in basis points.
    pub veto: u16,
}
canonical_struct!(GovernanceParams {
    min_deposit: Amount,
    initial_deposit: u16,
    deposit_blocks: u64,
    voting_blocks: u64,
    execution_delay_blocks: u64,
    max_open: u32,
    kept_epochs: u64,
    spend_bps: u16,
    max_text_bytes: u32,
    max_changes: u32,
    quorum: u16,
    pass: u16,
    veto: u16,
});

impl GovernanceParams {
    /// For a local network: a proposal takes minutes.
    pub(super) const fn devnet() -> Self {
        Self {
            min_deposit: Amount::from_dn(100),
            initial_deposit: 2_500,
            deposit_blocks: 200,
            voting_blocks: 200,
            execution_delay_blocks: 40,
            max_open: MAX_OPEN_PROPOSALS,
            // A month of hourly ones.
            kept_epochs: 720,
            spend_bps: 2_000,
            max_text_bytes: 4_096,
            max_changes: 16,
            quorum: 5_000,
            pass: 5_000,
            veto: 3_340,
        }
    }

    /// For a main network with a block a second: a week for deposits, a week to vote, two days until it counts.
    pub(super) const fn main() -> Self {
        Self {
            min_deposit: Amount::from_dn(10_000),
            deposit_blocks: 604_800,
            voting_blocks: 604_800,
            execution_delay_blocks: 172_800,
            spend_bps: 100,
            ..Self::devnet()
        }
    }

    /// What decides votes that begin now.
    pub(crate) const fn voting_rules(&self) -> VotingRules {
        VotingRules { quorum: self.quorum, pass: self.pass, veto: self.veto }
    }

    /// The most of a pool that proposals spend at one epoch's end.
    pub(crate) fn spend_limit(&self, held: Amount) -> Amount {
        part_of_pool(held, self.spend_bps)
    }

    pub(super) fn validate(&self) -> Result<(), ParamsError> {
        let million = 1_000_000;
        within_dn("governance.min_deposit", self.min_deposit, 1, 1_000_000)?;
        within("governance.initial_deposit", self.initial_deposit.into(), 100, BASIS)?;
        within("governance.deposit_blocks", self.deposit_blocks.into(), 1, million)?;
        within("governance.voting_blocks", self.voting_blocks.into(), 1, million)?;
        within("governance.execution_delay_blocks", self.execution_delay_blocks.into(), 0, million)?;
        within("governance.max_open", self.max_open.into(), 1, MAX_OPEN_PROPOSALS.into())?;
        within("governance.kept_epochs", self.kept_epochs.into(), 1, 100_000)?;
        within("governance.spend_bps", self.spend_bps.into(), 1, BASIS)?;
        within("governance.max_text_bytes", self.max_text_bytes.into(), 1, 16_384)?;
        within("governance.max_changes", self.max_changes.into(), 1, 64)?;
        // No vote can hand the rest to a few, and none can make every later vote fail.
        within("governance.quorum", self.quorum.into(), 2_000, 8_000)?;
        within("governance.pass", self.pass.into(), 5_000, 7_500)?;
        within("governance.veto", self.veto.into(), 1_000, 5_000)
    }
}
