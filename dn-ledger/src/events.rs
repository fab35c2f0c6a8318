//! What happened: the ledger's events, in the order of their happening within a block.

mod subjects;

use dn_core::hexadecimal::to_hex;
use dn_core::objects::{AuditOutcome, Price};
use dn_core::{Address, Amount, BatchId, ChannelId, Hash32, ModelId};
use dn_powr::{Consensus, Finding};
use dn_trust::{Trust, Unit};
use serde::{Deserialize, Serialize};

use crate::referee::{Ending, Side};
use crate::state::{AuditResult, ExecutionFault, ProposalStatus, Tally, table_name};
use crate::supply::HoldingChange;
use crate::tx::{Choice, DomainTerms, Role, Shares};

/// Why somebody was slashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SlashCause {
    /// A receipt that is not the model's output.
    Fraud,
    /// A receipt that the gateway did not hand over.
    Unavailable,
    /// An accusation that the other validators, or the referee, refuted.
    FalseVerdict,
    /// Two conflicting messages in consensus.
    Equivocation,
    /// A receipt whose end, or whose choice under a grammar, is not the model's: decided by weight, it costs no bond.
    Upheld,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "fields are named as in the transactions and views")]
pub enum Event {
    /// A transaction's fee went to the validators' pool.
    FeePaid { sender: Address, amount: Amount },
    /// DN moved between accounts.
    Transferred { from: Address, to: Address, amount: Amount },
    /// An identity took up a role or came back from suspension.
    Registered { address: Address, role: Role, collateral: Amount },
    /// An identity left a role.
    Retired { address: Address, role: Role, release_epoch: u64 },
    /// An identity has too little collateral to go on.
    Suspended { address: Address, role: Role, collateral: Amount },
    /// An identity changed what it shows, or added to its bond.
    IdentityUpdated { address: Address, role: Role, collateral: Amount },
    /// A validator signed conflicting messages and is out for good.
    Jailed { validator: Address, height: u64, release_epoch: u64 },
    /// Stake entered a pool.
    Staked { delegator: Address, validator: Address, amount: Amount, shares: Shares },
    /// Stake left a pool and waits.
    Unbonding { delegator: Address, validator: Address, shares: Shares, amount: Amount, release_epoch: u64 },
    /// Bonds were paid out.
    Withdrawn { address: Address, amount: Amount },
    /// Stake moved to another pool; the old validator's slashes reach it until the release epoch.
    Redelegated {
        delegator: Address,
        from: Address,
        to: Address,
        shares: Shares,
        amount: Amount,
        release_epoch: u64,
    },
    /// Redelegated stake is its holder's plain shares now.
    RedelegationSettled { delegator: Address, from: Address, to: Address, shares: Shares },
    /// A validator's commission from an epoch on.
    CommissionSet { validator: Address, rate: u16, from_epoch: u64 },
    /// Part of a pool's reward became shares of the validator. The amount is part of the reward's.
    CommissionPaid { validator: Address, amount: Amount, shares: Shares },
    /// A key may spend from the owner's channels.
    SessionGranted { owner: Address, session: Address, serial: u64, total: Amount, expires_ms: u64 },
    /// It may no longer; what it has spent can be claimed until the height.
    SessionRevoked { owner: Address, session: Address, serial: u64, until_height: u64 },
    /// A proposal was made.
    Proposed { proposal: u64, proposer: Address, title: String, deposit: Amount, status: ProposalStatus },
    /// Its deposit grew.
    ProposalDeposit { proposal: u64, depositor: Address, amount: Amount, status: ProposalStatus },
    /// A pool's validator or one of its delegators voted.
    Voted { proposal: u64, voter: Address, pool: Address, choice: Choice },
    /// A proposal's deposit did not come together in time.
    ProposalExpired { proposal: u64, burned: Amount },
    /// Voting ended.
    ProposalDecided { proposal: u64, status: ProposalStatus, tally: Tally, burned: Amount },
    /// A proposal was executed.
    ProposalExecuted { proposal: u64 },
    /// A proposal could not be executed any more.
    ProposalFailed { proposal: u64, fault: ExecutionFault },
    /// Blocks from this height on need software that knows the upgrade.
    UpgradeScheduled { name: String, height: u64 },
    /// A pool was paid out by a proposal.
    ProposalSpent { proposal: u64, to: Address, amount: Amount },
    /// A model is offered to the network.
    ModelPublished { model: ModelId, owner: Address, name: String, price: Price },
    /// Its price changed.
    ModelPriceSet { model: ModelId, price: Price },
    /// Its owner withdrew it.
    ModelRetired { model: ModelId },
    /// A worker hosts a model, for these prices per token at least.
    Offered { model: ModelId, worker: Address, price: Price },
    /// A worker no longer does.
    Unoffered { model: ModelId, worker: Address },
    /// DN was locked for calls.
    ChannelOpened { channel: ChannelId, payer: Address, payee: Address, deposit: Amount },
    /// More was locked.
    ChannelToppedUp { channel: ChannelId, amount: Amount },
    /// A channel will end.
    ChannelClosing { channel: ChannelId, finish_height: u64 },
    /// A channel ended.
    ChannelFinished { channel: ChannelId, payer: Address, refund: Amount },
    /// A worker committed to receipts; their fees are in escrow.
    BatchPosted { batch: BatchId, worker: Address, gateway: Address, sequence: u64, count: u32, fees: Amount },
    /// A validator has to audit a receipt.
    AuditAssigned { batch: BatchId, index: u32, auditor: Address, commit_deadline: u64, reveal_deadline: u64 },
    /// A verdict was committed to.
    AuditCommitted { batch: BatchId, index: u32, auditor: Address },
    /// A verdict was shown.
    AuditRevealed { batch: BatchId, index: u32, auditor: Address, outcome: AuditOutcome },
    /// An auditor missed a deadline.
    AuditMissed { batch: BatchId, index: u32, auditor: Address },
    /// An accusation: every validator audits this receipt now.
    DisputeOpened { batch: BatchId, index: u32, accuser: Address, outcome: AuditOutcome },
    /// An accusation: its accuser has to open the dispute.
    DisputeCalled { batch: BatchId, index: u32, accuser: Address, deadline: u64 },
    /// The dispute is open.
    DisputeStarted { batch: BatchId, index: u32, turn: Side, deadline: u64 },
    /// A side moved; the next move is due.
    DisputeMoved { batch: BatchId, index: u32, step: u32, by: Side, turn: Side, deadline: u64 },
    /// One side lost.
    DisputeEnded { batch: BatchId, index: u32, outcome: Ending },
    /// An audit ended.
    AuditClosed { batch: BatchId, index: u32, result: AuditResult },
    /// A batch's fees were split.
    BatchSettled {
        batch: BatchId,
        worker: Address,
        fees: Amount,
        to_worker: Amount,
        to_owners: Amount,
        to_validators: Amount,
        to_treasuries: Amount,
        to_foundation: Amount,
        burned: Amount,
        to_emission: Amount,
    },
    /// A batch was thrown out; its fees are back where they came from.
    BatchVoided { batch: BatchId, worker: Address, fees: Amount },
    /// A bond was cut, a worker's with that of the job. `amount = reward + burned`.
    Slashed {
        address: Address,
        role: Role,
        cause: SlashCause,
        amount: Amount,
        reporter: Option<Address>,
        reward: Amount,
        burned: Amount,
    },
    /// Emission was paid to a worker or, for its models, to an owner.
    EmissionPaid { address: Address, role: Role, amount: Amount },
    /// A validator's stake pool grew.
    PoolRewarded { validator: Address, amount: Amount },
    /// An identity's trust changed at the end of an epoch.
    TrustChanged { address: Address, role: Role, before: Trust, after: Trust },
    /// Somebody created a domain.
    DomainCreated { domain: u32, owner: Address, name: String, deposit: Amount },
    /// Its terms change with an epoch.
    DomainConfigured { domain: u32, from_epoch: u64, terms: DomainTerms },
    /// It has another owner.
    DomainTransferred { domain: u32, from: Address, to: Address },
    /// Its owner spent of its treasury.
    TreasurySpent { domain: u32, to: Address, amount: Amount },
    /// It was closed: the deposit went back, the treasury to the community pool.
    DomainClosed { domain: u32, deposit: Amount, treasury: Amount },
    /// A model became a version of a family.
    VersionPublished { model: ModelId, family: ModelId, version: u32 },
    /// A family has another owner.
    ModelTransferred { family: ModelId, from: Address, to: Address },
    /// An owner committed to a model that it can publish from a height to another.
    ModelCommitted { owner: Address, commitment: Hash32, from_height: u64, expires_height: u64 },
    /// A commitment was not used in time.
    ModelCommitmentExpired { owner: Address, commitment: Hash32 },
    /// DN were put behind a model family.
    Backed { backer: Address, family: ModelId, amount: Amount, shares: Shares },
    /// Backing was taken back and waits.
    Unbacked { backer: Address, family: ModelId, shares: Shares, amount: Amount, release_epoch: u64 },
    /// A model's income went on to an ancestor.
    RoyaltyPaid { model: ModelId, ancestor: ModelId, amount: Amount },
    /// A part of a model's income went to its backers.
    BackersRewarded { family: ModelId, model: ModelId, amount: Amount },
    /// DN were locked for a job.
    JobLocked {
        escrow: ChannelId,
        payer: Address,
        gateway: Address,
        worker: Option<Address>,
        model: ModelId,
        amount: Amount,
        expires_height: u64,
        bond: Amount,
    },
    /// A job was claimed by a batch of its receipt; what it cost less went back, and the worker put up the bond.
    JobClaimed {
        escrow: ChannelId,
        batch: BatchId,
        worker: Address,
        fee: Amount,
        refund: Amount,
        accepted: bool,
        bond: Amount,
    },
    /// The batch of a job ended: what was taken of the worker's bond, and what went back to it.
    JobBondReleased { batch: BatchId, worker: Address, taken: Amount, returned: Amount },
    /// Nobody claimed a job in time.
    JobRefunded { escrow: ChannelId, payer: Address, amount: Amount },
    /// A quality round: its setter has to seal the task.
    QualityOpened {
        round: Hash32,
        domain: u32,
        owner: Address,
        setter: Address,
        members: Vec<Address>,
        seal_until: u64,
    },
    /// The committee can commit.
    QualitySealed { round: Hash32 },
    /// A member committed to a score.
    QualityCommitted { round: Hash32, validator: Address },
    /// A member showed its score.
    QualityRevealed { round: Hash32, validator: Address, score: Unit },
    /// The seal was opened.
    QualityUnsealed { round: Hash32, canary: bool },
    /// What a settled round says about a member; its score, moved into the inter-quartile range.
    QualityJudged { round: Hash32, validator: Address, finding: Finding, clamped: Option<Unit> },
    /// A round ended. Without consensus it was a canary, or nothing was revealed or unsealed.
    QualitySettled { round: Hash32, domain: u32, owner: Address, canary: bool, consensus: Option<Consensus> },
    /// A payer's feedback.
    FeedbackGiven {
        batch: BatchId,
        index: u32,
        worker: Address,
        model: ModelId,
        payer: Address,
        score: u8,
        tag: String,
    },
    /// A model's trust changed at the end of an epoch.
    ModelTrustChanged { model: ModelId, before: Trust, after: Trust },
    /// A validator's turn to propose passed without a block.
    TurnMissed { validator: Address, height: u64 },
    /// Missed turns and false alarms cost pay.
    TurnsCharged { validator: Address, missed: u32, alarms: u32, amount: Amount },
    /// What a record holds is another amount after this block than before it, whatever the reasons; a block's last events,
    /// in the order of table and key. The changes of a block add up to nothing, and from the genesis on they give
    /// every holding at every height.
    HoldingChanged {
        /// The record's table, such as `accounts`.
        table: String,
        /// Its key: an address, or hexadecimal.
        key: String,
        before: Amount,
        after: Amount,
    },
    /// An epoch ended.
    EpochClosed { epoch: u64, emitted: Amount, paid: Amount, work: String },
}

impl From<&HoldingChange<'_>> for Event {
    fn from(change: &HoldingChange<'_>) -> Self {
        let (prefix, key) = change.key.split_first().expect("a key begins with its table's prefix");
        let key = match <[u8; 20]>::try_from(key) {
            Ok(address) => Address(address).to_string(),
            Err(_) => to_hex(key),
        };
        let (before, after) = (change.before, change.after);
        Self::HoldingChanged { table: table_name(*prefix).to_owned(), key, before, after }
    }
}
