//! What a tour of a local network amounts to. Every figure comes from the ledger, from receipts or from a clock.

use dn_core::objects::Price;
use dn_core::{Address, Amount, BatchId, Hash32, ModelId, ReceiptId};
use dn_ledger::events::SlashCause;
use dn_ledger::tx::Role;
use dn_ledger::views::SupplyView;
use dn_trust::Trust;
use serde::Serialize;

use super::cheat::Cheat;
use super::roster::Roster;
use crate::validator::AuditRecord;

/// The whole of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The chain.
    pub chain_id: u64,
    /// Hash of its genesis.
    pub genesis: Hash32,
    /// Its height at the end.
    pub height: u64,
    /// Its epoch at the end.
    pub epoch: u64,
    /// How long the tour took, in milliseconds.
    pub elapsed_ms: u64,
    /// The model.
    pub model_id: ModelId,
    /// Its name.
    pub model_name: String,
    /// Its prices per token.
    pub price: Price,
    /// Who takes part.
    pub roster: Roster,
    /// The calls, in order.
    pub calls: Vec<Call>,
    /// What everybody earned and lost.
    pub earnings: Vec<Earning>,
    /// Trust before and after.
    pub trust: Vec<TrustChange>,
    /// What was audited, and what it cost.
    pub audits: AuditSummary,
    /// Who was slashed.
    pub slashes: Vec<Slash>,
    /// What the payer got back.
    pub refunds: Vec<Refund>,
    /// The supply equation.
    pub supply: SupplyReport,
    /// What has to hold, and whether it does.
    pub checks: Vec<Check>,
}

impl Report {
    /// True if every check holds.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }
}

/// One paid call.
#[derive(Debug, Clone, Serialize)]
pub struct Call {
    /// Its receipt.
    pub receipt_id: ReceiptId,
    /// Who computed it.
    pub worker: Address,
    /// The question.
    pub prompt: String,
    /// The answer.
    pub text: String,
    /// Whether it came piece by piece.
    pub streamed: bool,
    /// Prompt tokens.
    pub prompt_tokens: u32,
    /// Output tokens.
    pub output_tokens: u32,
    /// What it cost.
    pub fee: Amount,
    /// From the request to the end of the answer, in milliseconds.
    pub latency_ms: u64,
    /// How the worker forged it, as its executor tells; nobody else could know before the audit.
    pub forged: Option<Cheat>,
}

/// What one identity or pool earned and lost, in fees and otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Earning {
    /// A participant's name, or that of a pool.
    pub who: String,
    /// Its address; none for pools.
    pub address: Option<Address>,
    /// Its part of settled fees.
    pub fees: Amount,
    /// Emission of closed epochs.
    pub emission: Amount,
    /// For catching somebody.
    pub rewards: Amount,
    /// What it lost by slashes.
    pub slashed: Amount,
    /// Transaction fees that it paid.
    pub tx_fees: Amount,
}

/// Trust at the start and at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrustChange {
    /// Whose.
    pub who: String,
    /// Its address.
    pub address: Address,
    /// As what.
    pub role: Role,
    /// At the start.
    pub before: Trust,
    /// The highest that it reached in between.
    pub highest: Trust,
    /// At the end.
    pub after: Trust,
}

/// What was audited, and what it cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditSummary {
    /// Receipts that stand on the ledger.
    pub receipts: u64,
    /// Receipts audited.
    pub audited: u64,
    /// Audits that found every bit right.
    pub passed: u64,
    /// Audits that ended with proven fraud.
    pub fraud: u64,
    /// Audits that ended otherwise: cancelled with their batch, refuted, or without an answer.
    pub other: u64,
    /// Replays done, those of disputes included.
    pub replays: u64,
    /// Time of all replays, in microseconds.
    pub replay_us: u64,
    /// Time in which the workers generated what was replayed, in microseconds.
    pub generation_us: u64,
    /// The first over the second.
    pub replay_over_generation: f64,
    /// Every replay.
    pub records: Vec<AuditRecord>,
}

/// One slash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Slash {
    /// The block.
    pub height: u64,
    /// Who.
    pub who: String,
    /// Its address.
    pub address: Address,
    /// Why.
    pub cause: SlashCause,
    /// How much.
    pub amount: Amount,
    /// Whom the reward went to.
    pub reporter: Option<Address>,
    /// The reward.
    pub reward: Amount,
    /// What was burned.
    pub burned: Amount,
}

/// Fees that went back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refund {
    /// The block.
    pub height: u64,
    /// The batch that was thrown out.
    pub batch: BatchId,
    /// Whose it was.
    pub worker: Address,
    /// What went back to the channels.
    pub fees: Amount,
}

/// The supply equation, added up twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SupplyReport {
    /// As the ledger sums it up.
    #[serde(flatten)]
    pub ledger: SupplyView,
    /// The sum over every single holding that the ledger lists.
    pub sum_of_holdings: Amount,
}

/// One thing that has to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// Whether it does.
    pub ok: bool,
    /// The figures.
    pub detail: String,
}
