//! The records of the state's tables.

mod beacon;
mod dispute;
mod feedback;
mod governance;
mod quality;
mod registry;
mod staking;

use dn_core::objects::{AuditOutcome, BatchRoot, ModelManifest, Price};
use dn_core::{Address, Amount, Hash32, canonical_enum, canonical_struct};
use serde::{Deserialize, Serialize};

pub use beacon::{DrawWeight, Election, Turns};
pub use dispute::{AuditLoad, Dispute, DisputeLoad};
pub use feedback::{ClassEpoch, FeedbackRecord, Heard, Reputation, TrustedModel};
pub use governance::{ExecutionFault, PoolVote, Proposal, ProposalStatus, Tally, Upgrade, VotingRules};
pub use quality::{QualityRound, SettledQuality};
pub use registry::{
    Domain, DomainCount, EpochWork, Family, JobClaim, JobEscrow, ModelCommitment, ModelTerms, NextTerms,
    Spending,
};
pub use staking::{Commission, CommissionRaise, Session};

/// An account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    /// Free DN.
    pub balance: Amount,
    /// The next transaction's nonce.
    pub nonce: u64,
}
canonical_struct!(Account { balance: Amount, nonce: u64 });

/// Whether an identity may act in a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum IdentityStatus {
    /// It may.
    Active,
    /// Its collateral is under the minimum.
    Suspended,
    /// It left; the collateral is free from this epoch on.
    Retired {
        /// First epoch in which the collateral can be withdrawn.
        release_epoch: u64,
    },
    /// It signed conflicting messages and never acts in the role again; what is left of the collateral is free from this
    /// epoch on.
    Jailed {
        /// First epoch in which the collateral can be withdrawn.
        release_epoch: u64,
    },
}
canonical_enum!(IdentityStatus {
    0 => Active {},
    1 => Suspended {},
    2 => Retired { release_epoch: u64 },
    3 => Jailed { release_epoch: u64 },
});

impl IdentityStatus {
    /// For those who have left: the first epoch in which the collateral can be withdrawn.
    pub const fn release_epoch(self) -> Option<u64> {
        match self {
            Self::Active | Self::Suspended => None,
            Self::Retired { release_epoch } | Self::Jailed { release_epoch } => Some(release_epoch),
        }
    }
}

/// An identity in a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// A name to show.
    pub name: String,
    /// Where it is reached.
    pub endpoint: String,
    /// Its bond.
    pub collateral: Amount,
    /// Whether it may act.
    pub status: IdentityStatus,
    /// When it first registered.
    pub registered_height: u64,
    /// Batches, as worker, that are not settled or voided.
    pub open_batches: u64,
}
canonical_struct!(Identity {
    name: String,
    endpoint: String,
    collateral: Amount,
    status: IdentityStatus,
    registered_height: u64,
    open_batches: u64,
});

/// A published model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Who earns the owner's share.
    pub owner: Address,
    /// A name to show.
    pub name: String,
    /// Prices per token.
    pub price: Price,
    /// The domain its work counts for.
    pub domain: u32,
    /// When it was published.
    pub published_height: u64,
    /// When it was withdrawn.
    pub retired_height: Option<u64>,
    /// Everything that decides its output.
    pub manifest: ModelManifest,
}
canonical_struct!(Model {
    owner: Address,
    name: String,
    price: Price,
    domain: u32,
    published_height: u64,
    retired_height: Option<u64>,
    manifest: ModelManifest,
});

/// A worker's offer to host a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// When it was made.
    pub since_height: u64,
    /// When it was withdrawn: last height at which batches are still taken.
    pub until_height: Option<u64>,
    /// The least prices per token that the worker works for.
    pub price: Price,
}
canonical_struct!(Offer { since_height: u64, until_height: Option<u64>, price: Price });

/// A payment channel. Its escrow is `deposit − claimed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    /// Who pays.
    pub payer: Address,
    /// The gateway.
    pub payee: Address,
    /// Who, besides the payer, signs vouchers.
    pub spender: Address,
    /// Everything ever put in, returned fees included.
    pub deposit: Amount,
    /// Everything ever claimed.
    pub claimed: Amount,
    /// Lanes ever claimed from.
    pub lanes: u32,
    /// When closing: first height at which it can be finished.
    pub finish_height: Option<u64>,
}
canonical_struct!(Channel {
    payer: Address,
    payee: Address,
    spender: Address,
    deposit: Amount,
    claimed: Amount,
    lanes: u32,
    finish_height: Option<u64>,
});

impl Channel {
    /// What is left in it.
    pub const fn balance(&self) -> Amount {
        self.deposit.saturating_sub(self.claimed)
    }
}

/// Where a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BatchStatus {
    /// Posted; audits are drawn when the beacon of some blocks later is there.
    Posted,
    /// Drawn; audits may be open.
    Auditing,
    /// Some audit is disputed.
    Disputed,
    /// Its fees were split.
    Settled,
    /// Thrown out for fraud or a receipt that was not opened; its fees went back.
    Voided,
}
canonical_enum!(BatchStatus {
    0 => Posted {},
    1 => Auditing {},
    2 => Disputed {},
    3 => Settled {},
    4 => Voided {},
});

/// A worker's batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// What the gateway signed.
    pub body: BatchRoot,
    /// Who paid, by line.
    pub payers: Vec<Address>,
    /// Fees in escrow: all of them until the batch is settled or voided, then none.
    pub escrow: Amount,
    /// Where it stands.
    pub status: BatchStatus,
    /// When it was posted.
    pub posted_height: u64,
    /// From which height it settles once no audit is open.
    pub window_end_height: u64,
    /// Receipts whose audit is open.
    pub open_audits: u32,
    /// Receipts whose audit found every bit right.
    pub passed_audits: u32,
    /// What the worker of a job put up: all of it until the batch is settled or voided, then none.
    pub bond: Amount,
}
canonical_struct!(Batch {
    body: BatchRoot,
    payers: Vec<Address>,
    escrow: Amount,
    status: BatchStatus,
    posted_height: u64,
    window_end_height: u64,
    open_audits: u32,
    passed_audits: u32,
    bond: Amount,
});

impl Batch {
    /// What it holds: fees and bond.
    pub fn held(&self) -> Amount {
        // Both are parts of the supply; a wrong sum is for the supply equation to find.
        self.escrow.checked_add(self.bond).unwrap_or(Amount::from_atto(u128::MAX))
    }
}

/// How the audit of a receipt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AuditResult {
    /// Every bit as the receipt says.
    Passed,
    /// The validators upheld that it is not the model's output.
    Fraud,
    /// The validators upheld that the receipt was not handed over.
    Unavailable,
    /// The validators refuted the accusation.
    Refuted,
    /// No auditor judged, or too few validators did in a dispute.
    NoAudit,
    /// The batch was thrown out for another receipt.
    Cancelled,
    /// The validators upheld that its end, or its choice under a grammar, is not the model's.
    Upheld,
}
canonical_enum!(AuditResult {
    0 => Passed {},
    1 => Fraud {},
    2 => Unavailable {},
    3 => Refuted {},
    4 => NoAudit {},
    5 => Cancelled {},
    6 => Upheld {},
});

/// The audit of one receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audit {
    /// The accusation that opened the dispute, if one is open or was.
    pub accuser: Option<Address>,
    /// Times that an auditor who was silent, or could not judge, was replaced.
    pub redraws: u8,
    /// Last height to commit at.
    pub commit_deadline: u64,
    /// Last height to reveal at.
    pub reveal_deadline: u64,
    /// Auditors whose verdict is not shown yet.
    pub waiting: u32,
    /// Auditors who have not committed yet.
    pub uncommitted: u32,
    /// How it ended.
    pub result: Option<AuditResult>,
}
canonical_struct!(Audit {
    accuser: Option<Address>,
    redraws: u8,
    commit_deadline: u64,
    reveal_deadline: u64,
    waiting: u32,
    uncommitted: u32,
    result: Option<AuditResult>,
});

/// What an auditor has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AuditPhase {
    /// Audit and commit.
    Commit,
    /// Show the verdict.
    Reveal,
    /// Nothing: the verdict is shown.
    Done,
    /// Nothing: a deadline was missed.
    Missed,
}
canonical_enum!(AuditPhase { 0 => Commit {}, 1 => Reveal {}, 2 => Done {}, 3 => Missed {} });

/// One auditor's part in the audit of one receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditTask {
    /// What to do next.
    pub phase: AuditPhase,
    /// Voting power when assigned, in atto.
    pub weight: Amount,
    /// The commitment; zero before it.
    pub commitment: Hash32,
    /// What was shown.
    pub outcome: Option<AuditOutcome>,
}
canonical_struct!(AuditTask {
    phase: AuditPhase,
    weight: Amount,
    commitment: Hash32,
    outcome: Option<AuditOutcome>
});

/// A pool of DN that belongs to no account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "pool", rename_all = "snake_case")]
pub enum Pool {
    /// The community pool, out of which emission is paid and into which fees flow back.
    Community,
    /// The ecosystem reserve.
    Reserve,
    /// The foundation.
    Foundation,
    /// What validators share at the end of the epoch.
    Validators,
    /// A domain's treasury.
    Domain {
        /// The domain.
        domain: u32,
    },
    /// Destroyed; counted so that the supply equation stays one of equality.
    Burned,
    /// Deposits of proposals that wait for deposits or votes.
    Deposits,
}
canonical_enum!(Pool {
    0 => Community {},
    1 => Reserve {},
    2 => Foundation {},
    3 => Validators {},
    4 => Domain { domain: u32 },
    5 => Burned {},
    30 => Deposits {},
});
