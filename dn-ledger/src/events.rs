//! What happened: the ledger's events, in the order of their happening within a block.

use dn_core::objects::{AuditOutcome, Price};
use dn_core::{Address, Amount, BatchId, ChannelId, Hash32, ModelId};
use dn_powr::{Consensus, Finding};
use dn_trust::{Trust, Unit};
use serde::{Deserialize, Serialize};

use crate::referee::{Ending, Side};
use crate::state::AuditResult;
use crate::tx::{Role, Shares};

/// Why somebody was slashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlashCause {
    /// A receipt that is not the model's output.
    Fraud,
    /// A receipt that the worker did not open.
    Unavailable,
    /// An accusation that the other validators, or the referee, refuted.
    FalseVerdict,
    /// A receipt whose end, or whose choice under a grammar, is not the model's: decided by weight, it costs no bond.
    Upheld,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Stake entered a pool.
    Staked { delegator: Address, validator: Address, amount: Amount, shares: Shares },
    /// Stake left a pool and waits.
    Unbonding { delegator: Address, validator: Address, shares: Shares, amount: Amount, release_epoch: u64 },
    /// Bonds were paid out.
    Withdrawn { address: Address, amount: Amount },
    /// A model is offered to the network.
    ModelPublished { model: ModelId, owner: Address, name: String, price: Price },
    /// Its price changed.
    ModelPriceSet { model: ModelId, price: Price },
    /// Its owner withdrew it.
    ModelRetired { model: ModelId },
    /// A worker hosts a model.
    Offered { model: ModelId, worker: Address },
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
    /// A bond was cut. `amount = reward + burned`.
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
    /// Missed turns cost pay.
    TurnsCharged { validator: Address, missed: u32, amount: Amount },
    /// An epoch ended.
    EpochClosed { epoch: u64, emitted: Amount, paid: Amount, work: String },
}
