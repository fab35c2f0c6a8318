//! Why proposals, deposits and votes are refused.

use dn_core::{Address, Amount};
use serde::{Deserialize, Serialize};

use crate::state::{Pool, ProposalStatus};

/// A rule of governance that refuses a transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "fault", rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "each message names its fields")]
pub enum GovernanceFault {
    /// As many proposals are open as may be.
    #[error("{limit} proposals are open; no more are taken until one ends")]
    TooManyOpen { limit: u32 },
    /// The proposer brings too little.
    #[error("deposit of {found} DN; at least {minimum} DN of the {needed} DN that it needs to be voted on")]
    DepositTooLow { minimum: Amount, needed: Amount, found: Amount },
    /// A proposal that does not exist.
    #[error("proposal {proposal} does not exist")]
    UnknownProposal { proposal: u64 },
    /// A proposal that takes no deposits now.
    #[error("proposal {proposal} takes no deposits: it is {status:?}")]
    NotInDeposit { proposal: u64, status: ProposalStatus },
    /// A proposal that takes no votes now.
    #[error("proposal {proposal} takes no votes: it is {status:?}")]
    NotInVoting { proposal: u64, status: ProposalStatus },
    /// Somebody without shares of the pool whose vote is to be overridden.
    #[error("{voter} holds no shares of the pool of {pool}")]
    NoShares { voter: Address, pool: Address },
    /// Parameters that would be out of bounds, in words.
    #[error("the changed parameters would not be valid: {detail}")]
    InvalidParams { detail: String },
    /// An amount that one proposal would move too far.
    #[error(
        "`{parameter}` is {current} DN; one proposal moves it to between {least} and {most} DN, not to {found} DN"
    )]
    StepTooLarge { parameter: String, current: Amount, least: Amount, most: Amount, found: Amount },
    /// A number that one proposal would move too far.
    #[error(
        "`{parameter}` is {current}; one proposal moves it to between {least} and {most}, not to {found}"
    )]
    NumberStepTooLarge { parameter: String, current: u64, least: u64, most: u64, found: u64 },
    /// Something that is switched on for good.
    #[error("`{parameter}` is on, and proposals cannot switch it off")]
    OnForGood { parameter: String },
    /// More than one epoch's proposals together may spend.
    #[error("{found} DN of {pool:?} proposed; proposals spend at most {limit} DN of it at an epoch's end")]
    SpendTooLarge { pool: Pool, limit: Amount, found: Amount },
    /// A pool that proposals cannot spend from.
    #[error("{pool:?} is not spent by proposals")]
    PoolNotSpendable { pool: Pool },
    /// A pool that cannot pay.
    #[error("{pool:?} holds {available} DN; {needed} DN proposed")]
    PoolInsufficient { pool: Pool, available: Amount, needed: Amount },
    /// An upgrade that could come before the vote on it ends.
    #[error("upgrade at height {found}; {earliest} is the earliest")]
    UpgradeTooSoon { earliest: u64, found: u64 },
    /// A height that has an upgrade.
    #[error("another upgrade is at height {height}")]
    UpgradeTaken { height: u64 },
}
