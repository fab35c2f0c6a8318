//! Laws with disputes, quality rounds, feedback and the beacon: books balance, refusals change nothing, the log replays.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::counting::{Counting, RULES, receipt};
use common::{CHAIN_ID, World, address, dn, key};
use dn_core::merkle::MerkleTree;
use dn_core::objects::feedback::Feedback;
use dn_core::objects::{AuditOutcome, BatchRoot, Receipt};
use dn_core::{Address, Amount, BatchId, Canonical, Hash32, Signed, VrfProof, keccak256};
use dn_ledger::apply::canary_input;
use dn_ledger::beacon::Reveal as Draw;
use dn_ledger::block::Block;
use dn_ledger::bytes::Bytes;
use dn_ledger::params::{DisputeParams, QualityParams};
use dn_ledger::referee::Side;
use dn_ledger::state::{
    BATCHES, DISPUTES, LANES, QUALITY_ROUNDS, STAKE_SHARES, WORKER_SEQUENCES, check_entry,
};
use dn_ledger::tx::{Ground, Shares};
use dn_ledger::{Chain, Payload, RefereeHandle, SignedTx, apply, supply};
use dn_powr::{Reveal, ReviewParams, Seal, is_canary};
use dn_trust::Unit;
use proptest::prelude::*;

const NAMES: [&str; 7] = ["v1", "v2", "v3", "worker", "payer", "stranger", "owner"];
const KINDS: usize = 15;

/// One thing that somebody tries.
#[derive(Debug, Clone, Copy)]
struct Try {
    who: usize,
    kind: usize,
    a: u8,
    spoil: u8,
}

fn tries() -> impl Strategy<Value = Try> {
    (0..NAMES.len(), 0..KINDS, any::<u8>(), 0u8..12).prop_map(|(who, kind, a, spoil)| Try {
        who,
        kind,
        a,
        spoil,
    })
}

struct Town {
    w: World,
    /// The receipts of each batch.
    receipts: BTreeMap<BatchId, Vec<Signed<Receipt>>>,
}

fn name_of(who: Address) -> &'static str {
    NAMES.into_iter().find(|name| address(name) == who).unwrap_or("stranger")
}

impl Town {
    fn new() -> Self {
        let mut params = common::params();
        params.epoch_blocks = 24;
        params.unbonding_epochs = 10;
        params.audit_times.commit_blocks = 12;
        params.audit_times.reveal_blocks = 12;
        params.beacon.required = true;
        params.beacon.delay_blocks = 2;
        params.dispute =
            DisputeParams { referee: RULES, open_blocks: 20, clock_blocks: 64, max_moves_per_block: 3 };
        params.quality = QualityParams {
            max_rounds: 2,
            review: ReviewParams { seats: 2, canary_rate: 5_000, ..ReviewParams::default() },
            ..QualityParams::devnet()
        };
        let mut w = World::with(params);
        w.chain = w.chain.clone().with_referee(RefereeHandle::new(Counting));
        w.prepare();
        Self { w, receipts: BTreeMap::new() }
    }

    fn batch(&mut self, a: u8) -> (&'static str, Payload) {
        let sequence = WORKER_SEQUENCES.get_or_default(self.w.state(), &address("worker"));
        let count = 1 + a % 3;
        let receipts: Vec<_> = (0..count)
            .map(|n| {
                let seed =
                    a.wrapping_mul(7).wrapping_add(n).wrapping_add(u8::try_from(sequence % 200).unwrap());
                Signed::sign(
                    receipt(&self.w, seed, a.wrapping_add(n).is_multiple_of(4), 1 + n),
                    &key("worker"),
                )
            })
            .collect();
        let root = MerkleTree::new(receipts.iter().map(Canonical::to_bytes)).root();
        let fees = dn(2);
        let claimed = LANES.get_or_default(self.w.state(), &(self.w.channel, 0));
        let line = self.w.line(0, count.into(), fees);
        let body = BatchRoot { root, sequence, ..self.w.root("worker", vec![line]) };
        self.receipts.insert(body.id(), receipts);
        let vouchers = vec![self.w.voucher(0, claimed.checked_add(fees).unwrap())];
        ("worker", Payload::PostBatch { batch: Signed::sign(body, &key("gateway")), vouchers })
    }

    /// An auditor's next step; what it finds depends on the receipt alone, and is now and then a false accusation.
    fn audit(&self, a: u8) -> Option<(&'static str, Payload)> {
        let open = self.w.open_audits();
        let (name, batch, index, phase) = open.get(usize::from(a) % open.len().max(1))?;
        let (receipt, _) = self.opening(*batch, *index)?;
        let outcome = match common::counting::is_wrong(&receipt.body) || batch.0[0] < 16 {
            false => AuditOutcome::Match {},
            true => AuditOutcome::Mismatch { position: 1 },
        };
        let verdict = World::verdict(name, *batch, *index, outcome);
        let payload = match phase {
            dn_ledger::state::AuditPhase::Commit => World::commit_payload(&verdict),
            _ => World::reveal_payload(&verdict),
        };
        Some((name_of(address(name)), payload))
    }

    fn opening(
        &self,
        batch: BatchId,
        index: u32,
    ) -> Option<(Signed<Receipt>, dn_core::merkle::InclusionProof)> {
        let receipts = self.receipts.get(&batch)?;
        let tree = MerkleTree::new(receipts.iter().map(Canonical::to_bytes));
        Some((receipts.get(index as usize)?.clone(), tree.prove(index.into())?))
    }

    fn dispute(&self, a: u8) -> Option<(&'static str, Payload)> {
        let open: Vec<_> =
            DISPUTES.iter(self.w.state()).filter(|(_, dispute)| dispute.ending.is_none()).collect();
        let ((batch, index), dispute) = open.get(usize::from(a) % open.len().max(1))?.clone();
        if dispute.receipt.is_none() {
            let (receipt, proof) = self.opening(batch, index)?;
            let ground = if a > 230 { Ground::Rest } else { Ground::Computation };
            let payload = Payload::DisputeOpen { batch, index, receipt, proof, ground };
            return Some((name_of(dispute.accuser), payload));
        }
        let step = dispute.moves;
        let bytes = Bytes(vec![u8::try_from(step).unwrap()]);
        Some(match dispute.turn {
            Side::Worker => ("worker", Payload::DisputeAnswer { batch, index, step, bytes }),
            Side::Accuser => (name_of(dispute.accuser), Payload::DisputePick { batch, index, step, bytes }),
        })
    }

    fn feedback(&self, a: u8) -> Option<(&'static str, Payload)> {
        let batches: Vec<_> = BATCHES.iter(self.w.state()).map(|(id, _)| id).collect();
        let batch = *batches.get(usize::from(a) % batches.len().max(1))?;
        let index = u32::from(a) % 3;
        let (receipt, proof) = self.opening(batch, index)?;
        let body = Feedback {
            chain_id: CHAIN_ID,
            batch,
            index,
            receipt: receipt.body.id(),
            score: a % 101,
            tag: String::new(),
            uri_hash: Hash32::ZERO,
            signer: address("payer"),
            expires_ms: u64::MAX,
        };
        Some(("stranger", Payload::Feedback { feedback: Signed::sign(body, &key("payer")), receipt, proof }))
    }

    /// The next step of some member or setter of an open round.
    fn quality(&self, a: u8) -> Option<(&'static str, Payload)> {
        let (round, record) = QUALITY_ROUNDS.iter(self.w.state()).next()?;
        let height = self.w.height() + 1;
        let setter = name_of(record.setter);
        let draw = Draw {
            public: key(setter).public(),
            proof: VrfProof::new(&key(setter), &canary_input(&round)).unwrap(),
        };
        let value = draw.proof.verify(&draw.public, &canary_input(&round)).unwrap();
        let canary = is_canary(&value.0, &record.beacon.0, &round, 5_000);
        let known = canary.then(|| Unit::from_bits(1 << 31));
        let seal = Seal { round, known, salt: Hash32([8; 32]) };
        if record.round.is_none() {
            return Some((setter, Payload::QualitySeal { round, commitment: seal.commitment() }));
        }
        let (member, _) = record.committee[usize::from(a) % record.committee.len()];
        let score = Unit::from_bits(u64::from(member.0[0]) << 24);
        let reveal = Reveal { round, validator: member, score, salt: Hash32([9; 32]) };
        Some(if height <= record.commit_until {
            (name_of(member), Payload::QualityCommit { round, commitment: reveal.commitment() })
        } else if height <= record.reveal_until {
            (name_of(member), Payload::QualityReveal { reveal })
        } else {
            (setter, Payload::QualityUnseal { seal, draw })
        })
    }

    fn attempt(&mut self, t: Try) -> SignedTx {
        let other = address(NAMES[usize::from(t.a) % NAMES.len()]);
        let (who, payload) = match t.kind {
            0 => Some(self.batch(t.a)),
            1..=5 => self.audit(t.a),
            6..=9 => self.dispute(t.a),
            10 => self.feedback(t.a),
            11..=12 => self.quality(t.a),
            13 => Some((NAMES[t.who], Payload::Stake { validator: other, amount: dn(u64::from(t.a % 9)) })),
            _ => {
                let held = STAKE_SHARES.get_or_default(self.w.state(), &(address(NAMES[t.who]), other));
                Some((NAMES[t.who], Payload::Unbond { validator: other, shares: Shares(held.0 / 2) }))
            }
        }
        .or_else(|| self.quality(t.a))
        .or_else(|| self.audit(t.a))
        .unwrap_or((
            NAMES[t.who],
            Payload::Transfer { to: other, amount: Amount::from_atto(u128::from(t.a)) },
        ));
        // Now and then by somebody else, or spoiled.
        let name = if t.spoil == 0 { NAMES[t.who] } else { who };
        let mut tx = self.w.raw(name, payload);
        if t.spoil == 1 {
            spoil(&mut tx.payload, t.a);
        }
        tx.sign(&key(name))
    }
}

fn spoil(payload: &mut Payload, a: u8) {
    match payload {
        Payload::DisputeAnswer { bytes, .. } | Payload::DisputePick { bytes, .. } => bytes.0.push(a),
        Payload::DisputeOpen { index, .. } => *index += 1,
        Payload::Feedback { feedback, .. } => feedback.body.score = feedback.body.score.wrapping_add(90),
        Payload::QualityReveal { reveal } => reveal.salt = Hash32([a; 32]),
        Payload::QualityUnseal { seal, .. } => seal.known = None,
        _ => {}
    }
}

/// Tries it in a block of its own; returns whether it was accepted.
fn step(town: &mut Town, t: Try) -> bool {
    let tx = town.attempt(t);
    // Refused alone, it changes no byte; accepted alone, it moves DN but makes none.
    let mut state = town.w.state().clone();
    let ctx = town.w.chain.next_context(town.w.chain.tip().time_ms + 1_000);
    match apply(&mut state, &tx, &ctx) {
        Ok(_) => supply::check_changes(&supply::changed_holdings(&state.pending())).unwrap(),
        Err(_) => assert!(&state == town.w.state() && state.changes().is_empty()),
    }
    // `block` checks supply, commitment, and that a validator accepts the block.
    town.w.block(&[tx]).rejected.is_empty()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn books_balance_and_the_log_replays(plan in prop::collection::vec(tries(), 1..120)) {
        let mut town = Town::new();
        for t in plan {
            step(&mut town, t);
        }
        for (key, value) in town.w.state().entries() {
            prop_assert_eq!(check_entry(key, value), Ok(()));
        }
        let mut replica = Chain::new(&town.w.genesis).with_referee(RefereeHandle::new(Counting));
        let tip = town.w.chain.certificate().clone();
        let next = town.w.log.iter().skip(1).map(|proposal| proposal.block.parent_certificate.clone());
        for (proposal, certificate) in town.w.log.iter().zip(next.chain([tip])) {
            let block = Block::from_bytes(&proposal.block.to_bytes()).unwrap();
            let executed = replica.validate(&block).unwrap();
            replica.commit(&block.header, certificate, &executed);
        }
        prop_assert_eq!(replica.state(), town.w.state());
        prop_assert_eq!(replica.beacon(), town.w.chain.beacon());
    }
}

/// The property above is only worth something if what it tries is accepted.
#[test]
fn the_generator_reaches_every_kind() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut town = Town::new();
    let mut accepted: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..400 {
        let t = tries().new_tree(&mut runner).unwrap().current();
        if step(&mut town, t) {
            let tx = &town.w.log.last().unwrap().block.txs[0].tx;
            let json = serde_json::to_value(&tx.payload).unwrap();
            *accepted.entry(json["type"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    let kinds = [
        "dispute_open",
        "dispute_pick",
        "dispute_answer",
        "quality_seal",
        "quality_commit",
        "quality_reveal",
        "quality_unseal",
        "feedback",
    ];
    let never: Vec<_> = kinds.iter().filter(|kind| !accepted.contains_key(**kind)).collect();
    println!("{accepted:?}");
    assert!(never.is_empty(), "never accepted: {never:?} of {accepted:?}");
}

/// Hashes that must never change by accident.
#[test]
fn encodings_are_pinned() {
    let mut town = Town::new();
    let (_, post) = town.batch(3);
    let Payload::PostBatch { batch, .. } = &post else { unreachable!() };
    let (batch, index, step, bytes) = (batch.body.id(), 1, 2, Bytes(vec![1, 2, 3]));
    let (receipt, proof) = town.opening(BatchId(batch.0), 0).unwrap();
    let round = Hash32([5; 32]);
    let reveal = Reveal { round, validator: address("v1"), score: Unit::ONE, salt: Hash32([9; 32]) };
    let seal = Seal { round, known: Some(Unit::ZERO), salt: Hash32([8; 32]) };
    let draw =
        Draw { public: key("v1").public(), proof: VrfProof::new(&key("v1"), &canary_input(&round)).unwrap() };
    let body = Feedback {
        chain_id: CHAIN_ID,
        batch,
        index,
        receipt: receipt.body.id(),
        score: 7,
        tag: "t".into(),
        uri_hash: Hash32([1; 32]),
        signer: address("payer"),
        expires_ms: 9,
    };
    let feedback = Signed::sign(body, &key("payer"));
    let ground = Ground::Rest;
    let payloads = [
        (70, Payload::DisputeOpen { batch, index, receipt: receipt.clone(), proof: proof.clone(), ground }),
        (71, Payload::DisputePick { batch, index, step, bytes: bytes.clone() }),
        (72, Payload::DisputeAnswer { batch, index, step, bytes }),
        (73, Payload::QualitySeal { round, commitment: seal.commitment() }),
        (74, Payload::QualityCommit { round, commitment: reveal.commitment() }),
        (75, Payload::QualityReveal { reveal }),
        (76, Payload::QualityUnseal { seal, draw }),
        (77, Payload::Feedback { feedback, receipt, proof }),
    ];
    let mut all = Vec::new();
    for (tag, payload) in &payloads {
        let bytes = payload.to_bytes();
        assert_eq!(bytes[0], *tag);
        assert_eq!(Payload::from_bytes(&bytes).as_ref(), Ok(payload));
        for end in 0..bytes.len() {
            assert!(Payload::from_bytes(&bytes[..end]).is_err(), "{tag} cut at {end}");
        }
        let json = serde_json::to_string(payload).unwrap();
        assert_eq!(&serde_json::from_str::<Payload>(&json).unwrap(), payload);
        all.extend(bytes);
    }
    let hash: String = keccak256(&[&all]).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hash, "20343d93eadc4d384a4d4bf1035be6d9667423c3e7ea5c52d946274edc43a2f9");
}
