//! What happened: the ledger's events, in the order of their happening within a block.

use dn_core::objects::{AuditOutcome, Price};
use dn_core::{Address, Amount, BatchId, ChannelId, ModelId};
use dn_trust::Trust;
use serde::{Deserialize, Serialize};

use crate::state::{AuditResult, table_name};
use crate::supply::HoldingChange;
use crate::tx::{Role, Shares};

/// Why somebody was slashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlashCause {
    /// A receipt that is not the model's output.
    Fraud,
    /// A receipt that the worker did not open.
    Unavailable,
    /// An accusation that the other validators refuted.
    FalseVerdict,
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
            Err(_) => key.iter().fold(String::from("0x"), |text, byte| text + &format!("{byte:02x}")),
        };
        let (before, after) = (change.before, change.after);
        Self::HoldingChanged { table: table_name(*prefix).to_owned(), key, before, after }
    }
}
