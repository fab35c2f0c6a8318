//! What the naive specification of audits keeps: plain maps, and a record of each thing.

use std::collections::BTreeMap;

use dn_core::objects::{AuditOutcome, BatchRoot, Receipt};
use dn_core::{Address, BatchId, ChannelId, Hash32};
use dn_ledger::Role;
use dn_ledger::referee::{Ending, Side};
use dn_ledger::state::{AuditPhase, AuditResult, BatchStatus, IdentityStatus, Pool};

/// A receipt's place: its batch, and where it stands in it.
pub(super) type Place = (BatchId, u32);

/// What somebody was asked about a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) weight: u128,
    pub(super) commitment: Option<Hash32>,
    pub(super) found: Option<AuditOutcome>,
    pub(super) missed: bool,
}

impl Task {
    pub(super) fn new(weight: u128) -> Self {
        Self { weight, commitment: None, found: None, missed: false }
    }

    /// Whether a verdict is still to come.
    pub(super) fn waits(&self) -> bool {
        self.found.is_none() && !self.missed
    }

    pub(super) fn phase(&self) -> AuditPhase {
        match (self.missed, self.found, self.commitment) {
            (true, ..) => AuditPhase::Missed,
            (_, Some(_), _) => AuditPhase::Done,
            (_, _, Some(_)) => AuditPhase::Reveal,
            _ => AuditPhase::Commit,
        }
    }
}

/// Two sides that move in turn, each by a clock of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dispute {
    pub(super) accuser: Address,
    pub(super) worker: Address,
    pub(super) receipt: Option<Receipt>,
    pub(super) turn: Side,
    /// Since when it is that side's turn, and the last block in which it can move.
    pub(super) since: u64,
    pub(super) until: u64,
    /// Blocks left to the worker and to the accuser.
    pub(super) left: [u64; 2],
    pub(super) moves: Vec<(Side, Vec<u8>)>,
    pub(super) ending: Option<Ending>,
}

impl Dispute {
    pub(super) fn party(&self, side: Side) -> Address {
        if side == Side::Worker { self.worker } else { self.accuser }
    }

    pub(super) fn clock(&mut self, side: Side) -> &mut u64 {
        &mut self.left[usize::from(side == Side::Accuser)]
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Audit {
    pub(super) replaced: u8,
    pub(super) accuser: Option<Address>,
    pub(super) commit_until: u64,
    pub(super) reveal_until: u64,
    pub(super) tasks: BTreeMap<Address, Task>,
    pub(super) dispute: Option<Dispute>,
    pub(super) result: Option<AuditResult>,
}

impl Audit {
    pub(super) fn is_open(&self) -> bool {
        self.result.is_none()
    }

    /// The dispute, if the two sides are at it.
    pub(super) fn disputed(&self) -> Option<&Dispute> {
        self.dispute.as_ref().filter(|dispute| dispute.ending.is_none())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Settled,
    Voided,
}

#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) body: BatchRoot,
    pub(super) payers: Vec<Address>,
    pub(super) bond: u128,
    /// Whoever paid for a job has not said that the result is right.
    pub(super) doubted: bool,
    pub(super) posted: u64,
    pub(super) drawn: bool,
    pub(super) audits: BTreeMap<u32, Audit>,
    pub(super) end: Option<Stage>,
}

impl Batch {
    pub(super) fn takes_part(&self, who: Address) -> bool {
        who == self.body.worker || who == self.body.gateway || self.payers.contains(&who)
    }

    pub(super) fn open(&self) -> usize {
        self.audits.values().filter(|audit| audit.is_open()).count()
    }

    pub(super) fn count(&self, results: &[AuditResult]) -> u128 {
        let counts = |audit: &&Audit| audit.result.is_some_and(|result| results.contains(&result));
        self.audits.values().filter(counts).count() as u128
    }

    pub(super) fn status(&self) -> BatchStatus {
        let accused = self.audits.values().any(|audit| audit.is_open() && audit.accuser.is_some());
        match (self.end, self.drawn) {
            (Some(Stage::Settled), _) => BatchStatus::Settled,
            (Some(Stage::Voided), _) => BatchStatus::Voided,
            (None, false) => BatchStatus::Posted,
            (None, true) if accused => BatchStatus::Disputed,
            _ => BatchStatus::Auditing,
        }
    }
}

/// What is heard of a validator in an epoch, as plain counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) timely: u64,
    pub(super) missed: u64,
    pub(super) aligned: u64,
    pub(super) misaligned: u64,
    pub(super) frauds: u64,
}

/// What is heard of a worker in an epoch; work in 2⁻¹⁶ units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Worked {
    pub(super) done: u64,
    pub(super) exact: u64,
    pub(super) failed: u64,
    pub(super) batches: u64,
    pub(super) frauds: u64,
}

/// A validator's turns, and the times that it called all others for nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Turned {
    pub(super) made: u32,
    pub(super) missed: u32,
    pub(super) alarms: u32,
}

/// Who has what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Books {
    pub(super) balances: BTreeMap<Address, u128>,
    pub(super) pools: BTreeMap<Pool, u128>,
    pub(super) bonds: BTreeMap<(Role, Address), (u128, IdentityStatus)>,
    pub(super) stakes: BTreeMap<Address, u128>,
    /// On its way out, by validator and the epoch from which it is free.
    pub(super) leaving: BTreeMap<(Address, u64), u128>,
    /// Everything ever put in.
    pub(super) channels: BTreeMap<ChannelId, u128>,
}
