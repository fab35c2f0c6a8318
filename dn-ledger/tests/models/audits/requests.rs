//! What is tried against the ledger and the naive specification of audits: batches of all kinds of receipts, and verdicts and moves of disputes, most of
//! them right.

use dn_core::merkle::MerkleTree;
use dn_core::objects::{AuditOutcome, Verdict};
use dn_core::{Address, Amount, BatchId, Canonical, Hash32, keccak256};
use dn_ledger::Payload;
use dn_ledger::bytes::Bytes;
use dn_ledger::referee::Side;
use dn_ledger::tx::Ground;
use proptest::prelude::*;

use super::audits::Both;
use super::audits_records::{Dispute, Place, Task};
use super::audits_world::{PAYERS, VALIDATORS, WORKERS, address, name_of};

/// What auditors will find in a batch: those who are asked alone, by receipt, and those who are called to a vote.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fate {
    pub(super) first: u8,
    pub(super) rest: u8,
}

/// One thing that somebody tries; the numbers choose among what exists. `Everybody` who is asked says what is next, but some, and all `Sides` of disputes
/// move, but some; a `Channel` closes, ends, or is opened again; who was suspended may `Return` with new collateral.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Post { worker: usize, channels: u8, model: u8, receipts: Vec<u8>, fate: Fate },
    Job { worker: usize, bond: u8, accepted: bool, kind: u8, fate: Fate },
    Audit { task: u8, spoil: u8 },
    Everybody { skip: u8 },
    Open { dispute: u8, rest: bool, spoil: u8 },
    Move { dispute: u8, says: u8, spoil: u8 },
    Sides { skip: u8, says: u8 },
    Channel { payer: usize },
    Unbond { validator: usize, part: u8 },
    Retire { validator: usize },
    Return { who: u8 },
    Blocks { count: u8 },
}

fn fate() -> impl Strategy<Value = Fate> {
    (0u8..9, 0u8..10).prop_map(|(first, rest)| Fate { first, rest })
}

pub(super) fn ops() -> impl Strategy<Value = Op> {
    let (worker, any8) = (|| 0..WORKERS.len(), any::<u8>);
    // Mostly nobody is silent.
    let skip = || prop_oneof![3 => Just(0u8), 2 => 0u8..6];
    let receipts = prop::collection::vec(0u8..24, 1..7);
    prop_oneof![
        6 => (worker(), 0u8..3, 0u8..8, receipts, fate()).prop_map(
            |(worker, channels, model, receipts, fate)| Op::Post { worker, channels, model, receipts, fate }),
        1 => (worker(), 0u8..6, any::<bool>(), 0u8..24, fate()).prop_map(
            |(worker, bond, accepted, kind, fate)| Op::Job { worker, bond, accepted, kind, fate }),
        4 => (any8(), 0u8..20).prop_map(|(task, spoil)| Op::Audit { task, spoil }),
        16 => skip().prop_map(|skip| Op::Everybody { skip }),
        14 => (skip(), any8()).prop_map(|(skip, says)| Op::Sides { skip, says }),
        4 => (any8(), prop::bool::weighted(0.25), 0u8..24)
            .prop_map(|(dispute, rest, spoil)| Op::Open { dispute, rest, spoil }),
        10 => (any8(), 0u8..14, 0u8..12).prop_map(|(dispute, says, spoil)| Op::Move { dispute, says, spoil }),
        2 => (0..PAYERS.len()).prop_map(|payer| Op::Channel { payer }),
        1 => (0..VALIDATORS.len(), 1u8..9).prop_map(|(validator, part)| Op::Unbond { validator, part }),
        1 => (0..40usize).prop_map(|validator| Op::Retire { validator }),
        2 => any8().prop_map(|who| Op::Return { who }),
        12 => (1u8..3).prop_map(|count| Op::Blocks { count }),
    ]
}

/// The `n`-th of what there is.
fn choose<T: Clone>(all: &[T], n: u8) -> Option<T> {
    all.get(usize::from(n) % all.len().max(1)).cloned()
}

impl Both {
    /// What a validator finds, whether it is asked alone or in a vote.
    pub(super) fn finding(&self, place: Place, auditor: Address, is_vote: bool) -> AuditOutcome {
        let fate = self.fates[&place.0];
        let outcomes = [
            AuditOutcome::Match {},
            AuditOutcome::Mismatch { position: 7 },
            AuditOutcome::Unavailable {},
            AuditOutcome::Unjudged {},
        ];
        let dice = keccak256(&[&place.0.0, &place.1.to_le_bytes(), &auditor.0])[0];
        let place = if is_vote {
            match fate.rest {
                rest @ 0..=3 => rest,
                // Nearly as many of the one kind as of the other.
                4 => dice % 2,
                5 => 1 + dice % 2,
                6 => dice % 4,
                _ => 0,
            }
        } else {
            // Of nine receipts three are right and four wrong.
            [0, 0, 0, 1, 1, 1, 1, 2, 3][(usize::from(fate.first) + place.1 as usize) % 9]
        };
        outcomes[usize::from(place)]
    }

    /// All receipts that somebody has something to say about.
    pub(super) fn open_tasks(&self) -> Vec<(Place, Address)> {
        let mut open = Vec::new();
        for (id, batch) in &self.spec.batches {
            for (index, audit) in batch.audits.iter().filter(|(_, audit)| audit.is_open()) {
                let waiting = audit.tasks.iter().filter(|(_, task)| task.waits());
                open.extend(waiting.map(|(who, _)| ((*id, *index), *who)));
            }
        }
        open
    }

    fn disputes(&self, wanted: impl Fn(&Dispute) -> bool) -> Vec<(Place, Dispute)> {
        let mut open = Vec::new();
        for (id, batch) in &self.spec.batches {
            for (index, audit) in batch.audits.iter().filter(|(_, audit)| audit.is_open()) {
                let dispute = audit.disputed().filter(|dispute| wanted(dispute));
                open.extend(dispute.map(|dispute| ((*id, *index), dispute.clone())));
            }
        }
        open
    }

    fn task(&self, (batch, index): Place, who: Address) -> (bool, Task) {
        let audit = &self.spec.batches[&batch].audits[&index];
        (audit.accuser.is_some(), audit.tasks[&who].clone())
    }

    /// The next thing that an auditor has to say, or something that it may not.
    pub(super) fn next_word(&self, place: Place, who: Address, spoil: u8) -> (&'static str, Payload) {
        let (is_vote, task) = self.task(place, who);
        let outcome = self.finding(place, who, is_vote);
        let (batch, index) = (if spoil == 0 { BatchId([3; 32]) } else { place.0 }, place.1);
        let verdict = Verdict { batch, index, auditor: who, outcome };
        let salt = Hash32(keccak256(&[b"salt", &verdict.to_bytes()]));
        let name = name_of(who);
        let stranger = VALIDATORS.into_iter().find(|other| *other != name).unwrap();
        let sender = if spoil == 1 { stranger } else { name };
        // Twice, or before it is committed to.
        if task.commitment.is_none() != (spoil == 2) {
            let commitment = verdict.commitment(&salt.0);
            return (sender, Payload::AuditCommit { batch, index, commitment });
        }
        let payload = match spoil {
            3 => Payload::AuditReveal { verdict, salt: Hash32([1; 32]) },
            4 => {
                let outcome = AuditOutcome::Mismatch { position: 8 };
                Payload::AuditReveal { verdict: Verdict { outcome, ..verdict }, salt }
            }
            5 => Payload::AuditReveal { verdict: Verdict { auditor: address(stranger), ..verdict }, salt },
            _ => Payload::AuditReveal { verdict, salt },
        };
        (sender, payload)
    }

    /// Who accuses opens a dispute, or somebody else does, or with something else.
    pub(super) fn opening(&self, n: u8, rest: bool, spoil: u8) -> Option<(&'static str, Payload)> {
        let disputes = self.disputes(|dispute| spoil == 0 || dispute.receipt.is_none());
        let (place, dispute) = choose(&disputes, n)?;
        let ground = if rest { Ground::Rest } else { Ground::Computation };
        let receipts = &self.receipts[&place.0];
        let tree = MerkleTree::new(receipts.iter().map(Canonical::to_bytes));
        let (mut index, mut receipt) = (place.1, receipts[place.1 as usize].clone());
        let other = (place.1 + 1) % u32::try_from(receipts.len()).unwrap();
        let mut proof = tree.prove(place.1.into()).unwrap();
        match spoil {
            1 => proof = tree.prove(other.into()).unwrap(),
            2 => (proof.index, proof.count) = (proof.index, proof.count + 1),
            3 => receipt.body.fee = Amount::from_atto(1),
            4 => index += 7,
            5 => receipt = receipts[other as usize].clone(),
            _ => {}
        }
        let sender = if spoil == 6 { "worker" } else { name_of(dispute.accuser) };
        Some((sender, Payload::DisputeOpen { batch: place.0, index, receipt, proof, ground }))
    }

    /// What is next in each dispute, for all but some of them.
    pub(super) fn sides(&self, skip: u8, says: u8) -> Vec<(&'static str, Payload)> {
        let dice = |place: &Place| keccak256(&[&place.0.0, &place.1.to_le_bytes(), &[says]]);
        let mut all = Vec::new();
        let (waiting, started) =
            (self.disputes(|d| d.receipt.is_none()), self.disputes(|d| d.receipt.is_some()));
        for (n, (place, _)) in (0u8..).zip(waiting) {
            all.push((place, self.opening(n, dice(&place)[1] % 3 == 0, u8::MAX)));
        }
        for (n, (place, _)) in (0u8..).zip(started) {
            all.push((place, self.dispute_move(n, dice(&place)[1] % 14, u8::MAX)));
        }
        let is_silent = |(place, _): &(Place, _)| {
            // In some disputes one of the sides never says anything.
            let side = self.spec.batches[&place.0].audits[&place.1].disputed().map(|dispute| dispute.turn);
            match keccak256(&[&place.0.0, &place.1.to_le_bytes()])[0] % 6 {
                0 => side == Some(Side::Worker),
                1 => side == Some(Side::Accuser),
                _ => dice(place)[0] % 6 < skip,
            }
        };
        let moves = all.into_iter().filter(|next| !is_silent(next));
        moves.filter_map(|(_, payload)| payload).collect()
    }

    /// Whose turn it is moves, or somebody else does.
    pub(super) fn dispute_move(&self, n: u8, says: u8, spoil: u8) -> Option<(&'static str, Payload)> {
        let disputes = self.disputes(|dispute| spoil == 0 || dispute.receipt.is_some());
        let (place, dispute) = choose(&disputes, n)?;
        let (batch, index) = place;
        let step = u32::try_from(dispute.moves.len()).unwrap() + u32::from(spoil == 1);
        // Mostly it goes on; what is not a move is refused.
        let bytes = Bytes(match says {
            0..=7 => vec![0],
            8 => vec![1],
            9..=10 => vec![2],
            11..=12 => vec![says - 8],
            _ => vec![7, 7],
        });
        let other = if dispute.turn == Side::Worker { Side::Accuser } else { Side::Worker };
        let side = if spoil == 2 { other } else { dispute.turn };
        let sender = match spoil {
            3 => "stranger",
            4 => name_of(dispute.party(other)),
            _ => name_of(dispute.party(side)),
        };
        let payload = match side {
            Side::Worker => Payload::DisputeAnswer { batch, index, step, bytes },
            Side::Accuser => Payload::DisputePick { batch, index, step, bytes },
        };
        Some((sender, payload))
    }
}
