//! Disputes: the ledger's part of them, with a referee whose game is a few counted moves.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::counting::{Counting, FINDING, RULES, receipt};
use common::{CHAIN_ID, World, address, dn, key, offer, price};
use dn_core::merkle::MerkleTree;
use dn_core::objects::{AuditOutcome, BatchLine, BatchRoot, ModelManifest, Receipt};
use dn_core::{Amount, BatchId, Canonical, ModelId, Signed};
use dn_ledger::bytes::Bytes;
use dn_ledger::events::{Event, SlashCause};
use dn_ledger::params::DisputeParams;
use dn_ledger::referee::{Case, Ending, MoveFault, Played, Side, Standing};
use dn_ledger::reject::SignedObject;
use dn_ledger::state::{
    AUDITS, AuditPhase, AuditResult, BATCHES, BatchStatus, CHANNELS, DISPUTE_DUE, DISPUTE_LOAD,
    DISPUTE_MOVES, DISPUTES, IDENTITIES, VALIDATOR_EPOCHS,
};
use dn_ledger::tx::Ground;
use dn_ledger::{BlockError, Chain, Params, Payload, Referee, RefereeHandle, Reject, Role, query};
use dn_trust::{ValidatorEpoch, Weight};
use proptest::prelude::*;

fn params() -> Params {
    let mut params = common::params();
    params.unbonding_epochs = 21;
    params.dispute =
        DisputeParams { referee: RULES, open_blocks: 8, clock_blocks: 64, max_moves_per_block: 8 };
    params
}

struct Scene {
    w: World,
    batch: BatchId,
    receipts: Vec<Signed<Receipt>>,
    accusers: Vec<String>,
}

impl Scene {
    /// A batch of receipts, each right or wrong with so many rounds, each accused.
    fn accused(params: Params, receipts: &[(bool, u8)]) -> Self {
        let mut w = World::with(params);
        w.chain = w.chain.clone().with_referee(RefereeHandle::new(Counting));
        w.prepare();
        let signed: Vec<_> = (0u8..)
            .zip(receipts)
            .map(|(n, (wrong, rounds))| Signed::sign(receipt(&w, n, *wrong, *rounds), &key("worker")))
            .collect();
        Self::posted(w, signed)
    }

    fn posted(w: World, receipts: Vec<Signed<Receipt>>) -> Self {
        let model = w.model;
        Self::posted_for(w, model, receipts)
    }

    fn posted_for(mut w: World, model: ModelId, receipts: Vec<Signed<Receipt>>) -> Self {
        let count = u32::try_from(receipts.len()).unwrap();
        let root = MerkleTree::new(receipts.iter().map(Canonical::to_bytes)).root();
        let line = BatchLine { model, ..w.line(0, count, dn(10)) };
        let body = BatchRoot { root, ..w.root("worker", vec![line]) };
        let batch = body.id();
        let vouchers = vec![w.voucher(0, dn(10))];
        w.ok("worker", Payload::PostBatch { batch: Signed::sign(body, &key("gateway")), vouchers });
        w.blocks(1);
        let mut accusers = vec![String::new(); receipts.len()];
        for phase in [AuditPhase::Commit, AuditPhase::Reveal] {
            for (name, _, index, _) in w.open_audits().into_iter().filter(|(.., p)| *p == phase) {
                let verdict = World::verdict(&name, batch, index, AuditOutcome::Mismatch { position: 7 });
                let payload = match phase {
                    AuditPhase::Commit => World::commit_payload(&verdict),
                    _ => World::reveal_payload(&verdict),
                };
                w.ok(&name, payload);
                accusers[index as usize] = name;
            }
        }
        Self { w, batch, receipts, accusers }
    }

    fn opening(&self, index: u32, ground: Ground) -> Payload {
        let tree = MerkleTree::new(self.receipts.iter().map(Canonical::to_bytes));
        Payload::DisputeOpen {
            batch: self.batch,
            index,
            receipt: self.receipts[index as usize].clone(),
            proof: tree.prove(index.into()).unwrap(),
            ground,
        }
    }

    fn open(&mut self, index: u32) -> Vec<Event> {
        let (name, payload) =
            (self.accusers[index as usize].clone(), self.opening(index, Ground::Computation));
        self.w.ok(&name, payload)
    }

    fn step(&self, index: u32) -> u32 {
        DISPUTES.get(self.w.state(), &(self.batch, index)).unwrap().moves
    }

    fn bytes(&self, index: u32) -> Bytes {
        Bytes(vec![u8::try_from(self.step(index)).unwrap()])
    }

    /// The move that is due, by whoever has to make it.
    fn due(&self, index: u32) -> (String, Payload) {
        let (batch, step, bytes) = (self.batch, self.step(index), self.bytes(index));
        match DISPUTES.get(self.w.state(), &(batch, index)).unwrap().turn {
            Side::Worker => ("worker".into(), Payload::DisputeAnswer { batch, index, step, bytes }),
            Side::Accuser => {
                (self.accusers[index as usize].clone(), Payload::DisputePick { batch, index, step, bytes })
            }
        }
    }

    fn play_to_the_end(&mut self, index: u32) -> Vec<Event> {
        let mut events = self.open(index);
        while self.ending(index).is_none() && DISPUTES.contains(self.w.state(), &(self.batch, index)) {
            let (name, payload) = self.due(index);
            events.extend(self.w.ok(&name, payload));
        }
        events
    }

    fn ending(&self, index: u32) -> Option<Ending> {
        DISPUTES.get(self.w.state(), &(self.batch, index)).and_then(|dispute| dispute.ending)
    }

    fn result(&self, index: u32) -> Option<AuditResult> {
        AUDITS.get(self.w.state(), &(self.batch, index)).unwrap().result
    }

    fn is_clean(&self) -> bool {
        DISPUTE_DUE.iter(self.w.state()).next().is_none()
            && DISPUTE_MOVES.iter(self.w.state()).next().is_none()
    }
}

fn slashed(events: &[Event]) -> Vec<(SlashCause, Amount)> {
    let slash = |event: &Event| match event {
        Event::Slashed { cause, amount, .. } => Some((*cause, *amount)),
        _ => None,
    };
    events.iter().filter_map(slash).collect()
}

#[test]
fn a_wrong_tile_convicts_the_worker() {
    let mut s = Scene::accused(params(), &[(true, 3), (false, 1)]);
    assert_eq!(BATCHES.get(s.w.state(), &s.batch).unwrap().status, BatchStatus::Disputed);
    let events = s.play_to_the_end(0);
    assert_eq!(slashed(&events), [(SlashCause::Fraud, dn(200))], "20 % of 1,000 DN");
    assert_eq!(s.ending(0), Some(Ending::Fraud { finding: FINDING }));
    assert_eq!((s.result(0), s.result(1)), (Some(AuditResult::Fraud), Some(AuditResult::Cancelled)));
    assert!(query::dispute(s.w.state(), s.batch, 1).is_none(), "the other accuser loses nothing");
    let batch = BATCHES.get(s.w.state(), &s.batch).unwrap();
    assert_eq!((batch.status, batch.escrow, batch.open_audits), (BatchStatus::Voided, Amount::ZERO, 0));
    assert_eq!(CHANNELS.get(s.w.state(), &s.w.channel).unwrap().balance(), dn(100), "the fees are back");
    assert!(s.is_clean());
}

#[test]
fn a_consistent_tile_convicts_the_accuser() {
    let mut s = Scene::accused(params(), &[(false, 2)]);
    let events = s.play_to_the_end(0);
    let collateral = s.w.genesis.params.collateral.validator;
    let [(SlashCause::FalseVerdict, amount)] = slashed(&events)[..] else { panic!("{events:?}") };
    assert!(amount >= Amount::from_atto(collateral.atto() / 10), "{amount}");
    assert_eq!((s.ending(0), s.result(0)), (Some(Ending::Refuted {}), Some(AuditResult::Refuted)));
    assert_eq!(BATCHES.get(s.w.state(), &s.batch).unwrap().status, BatchStatus::Settled);
    let worker = IDENTITIES.get(s.w.state(), &(Role::Worker, address("worker"))).unwrap();
    assert_eq!((worker.collateral, worker.open_batches), (dn(1_000), 0));
    assert!(s.is_clean());
}

#[test]
fn a_receipt_that_is_impossible_convicts_at_once() {
    let mut s = Scene::accused(params(), &[(false, 0)]);
    let events = s.open(0);
    assert_eq!(slashed(&events), [(SlashCause::Fraud, dn(200))]);
    assert_eq!(s.ending(0), Some(Ending::Impossible {}));
}

/// What was computed may be right: the receipt is not one of those that the batch claims to be paid for.
#[test]
fn a_receipt_that_no_line_of_its_batch_holds_convicts_at_once() {
    let bad: [fn(&mut Receipt); 6] = [
        |r| r.fee = dn(11),
        |r| r.prompt_tokens = 1_000_000,
        |r| r.output_tokens = 1_000_000,
        |r| r.lane = 1,
        |r| r.domain = 1,
        // A small model in place of the one that was paid for, or of none at all.
        |r| r.model = ModelId([7; 32]),
    ];
    for (n, change) in bad.into_iter().enumerate() {
        for ground in [Ground::Computation, Ground::Rest] {
            let mut w = World::with(params());
            w.chain = w.chain.clone().with_referee(RefereeHandle::new(Counting));
            w.prepare();
            let mut body = receipt(&w, 0, false, 1);
            change(&mut body);
            let mut s = Scene::posted(w, vec![Signed::sign(body, &key("worker"))]);
            let (name, opening) = (s.accusers[0].clone(), s.opening(0, ground));
            let events = s.w.ok(&name, opening);
            assert_eq!(slashed(&events), [(SlashCause::Fraud, dn(200))], "{n}");
            assert_eq!(s.ending(0), Some(Ending::Impossible {}), "{n}");
            assert!(s.is_clean());
        }
    }
}

#[test]
fn silence_loses_on_either_side() {
    // The accuser never opens.
    let mut s = Scene::accused(params(), &[(true, 1)]);
    let deadline = DISPUTES.get(s.w.state(), &(s.batch, 0)).unwrap().deadline;
    while s.w.height() < deadline {
        assert_eq!(s.ending(0), None);
        s.w.blocks(1);
    }
    let events = s.w.blocks(1);
    assert!(matches!(slashed(&events)[..], [(SlashCause::FalseVerdict, _)]), "{events:?}");
    assert_eq!(s.ending(0), Some(Ending::AccuserSilent {}));
    // The worker never answers.
    let mut s = Scene::accused(params(), &[(false, 1)]);
    s.open(0);
    let events = s.w.blocks(params().dispute.clock_blocks + 1);
    assert_eq!(slashed(&events), [(SlashCause::Fraud, dn(200))]);
    assert_eq!(s.ending(0), Some(Ending::WorkerSilent {}));
    assert!(s.is_clean());
}

/// A block takes one move, and the first dispute's moves fill every block up to this one.
fn fill(s: &mut Scene, until: u64) {
    while s.w.height() <= until {
        let (name, payload) = s.due(0);
        let events = s.w.ok(&name, payload);
        assert_eq!((s.ending(0), slashed(&events)), (None, vec![]));
    }
}

fn narrow(receipts: &[(bool, u8)]) -> Scene {
    let mut params = params();
    params.dispute.max_moves_per_block = 1;
    Scene::accused(params, receipts)
}

/// Who finds no room in full blocks has not been silent; who leaves room unused has.
#[test]
fn nobody_is_silent_while_blocks_are_full_of_moves() {
    let mut s = narrow(&[(false, 30), (false, 2), (false, 2)]);
    let deadline = |s: &Scene, index| DISPUTES.get(s.w.state(), &(s.batch, index)).unwrap().deadline;
    s.open(0);
    let until = deadline(&s, 1).max(deadline(&s, 2));
    fill(&mut s, until);
    // Late, but not silent.
    s.open(1);
    assert!(s.w.height() > until);
    assert_eq!((s.ending(1), s.ending(2)), (None, None));
    // As many blocks with room as there are for opening: the last accuser could have opened in them.
    s.w.blocks(params().dispute.open_blocks);
    assert_eq!(s.ending(2), None);
    let events = s.w.blocks(1);
    assert_eq!(s.ending(2), Some(Ending::AccuserSilent {}), "{events:?}");
    assert_eq!(s.ending(1), None);
}

/// A clock that full blocks have used up goes on with as much as there is for opening.
#[test]
fn a_move_that_found_no_room_in_time_is_taken_late() {
    // At the last moment, and after it.
    for late in [false, true] {
        let mut s = narrow(&[(false, 30), (false, 2)]);
        s.open(0);
        s.open(1);
        s.w.blocks(20);
        let deadline = DISPUTES.get(s.w.state(), &(s.batch, 1)).unwrap().deadline;
        fill(&mut s, if late { deadline } else { deadline - 2 });
        let (name, payload) = s.due(1);
        assert_eq!(name, "worker");
        s.w.ok(&name, payload);
        assert_eq!(s.w.height(), if late { deadline + 2 } else { deadline });
        let left = query::dispute(s.w.state(), s.batch, 1).unwrap().worker_blocks;
        assert_eq!(left, params().dispute.open_blocks);
        // Silence after that is silence.
        let (name, payload) = s.due(1);
        s.w.ok(&name, payload);
        s.w.blocks(left + 1);
        assert_eq!(s.ending(1), Some(Ending::WorkerSilent {}));
    }
}

#[test]
fn slow_moves_use_up_one_clock_for_all() {
    let mut s = Scene::accused(params(), &[(false, 8)]);
    s.open(0);
    let clock = |s: &Scene| {
        let view = query::dispute(s.w.state(), s.batch, 0).unwrap();
        (view.worker_blocks, view.accuser_blocks)
    };
    assert_eq!(clock(&s), (64, 64));
    for used in 1..=3 {
        s.w.blocks(19);
        for _ in 0..2 {
            let (name, payload) = s.due(0);
            s.w.ok(&name, payload);
        }
        assert_eq!(clock(&s), (64 - used * 20, 64 - used));
    }
    let events = s.w.blocks(5);
    assert_eq!(s.ending(0), Some(Ending::WorkerSilent {}), "four blocks were left: {events:?}");
}

#[test]
fn what_no_tile_shows_is_decided_by_weight_and_costs_no_bond() {
    let mut s = Scene::accused(params(), &[(false, 1)]);
    let (name, payload) = (s.accusers[0].clone(), s.opening(0, Ground::Rest));
    let events = s.w.ok(&name, payload);
    let asked = events.iter().filter(|event| matches!(event, Event::AuditAssigned { .. })).count();
    let load = DISPUTE_LOAD.get(s.w.state(), &0).unwrap();
    assert_eq!((load.height, load.votes as usize, load.moves), (s.w.height(), asked, 0));
    assert!(asked > 0 && s.is_clean() && query::dispute(s.w.state(), s.batch, 0).is_none());
    let events = s.w.audit_all(|_, _| Some(AuditOutcome::Mismatch { position: 7 }));
    assert_eq!(slashed(&events), []);
    assert_eq!(s.result(0), Some(AuditResult::Upheld));
    assert!(events.iter().any(|e| matches!(e, Event::BatchVoided { fees, .. } if *fees == dn(10))));
    // Refuted, it costs the accuser its alignment and no more.
    let mut s = Scene::accused(Params { epoch_blocks: 200, ..params() }, &[(false, 1)]);
    let (name, payload) = (s.accusers[0].clone(), s.opening(0, Ground::Rest));
    s.w.ok(&name, payload);
    let events = s.w.audit_all(|_, _| Some(AuditOutcome::Match {}));
    assert_eq!(slashed(&events), []);
    assert_eq!(s.result(0), Some(AuditResult::Refuted));
    let mut expected = ValidatorEpoch::default();
    expected.timely(Weight::ONE);
    expected.misaligned(Weight::ONE);
    assert_eq!(VALIDATOR_EPOCHS.get(s.w.state(), &address(&name)), Some(expected));
}

#[test]
fn every_reason_to_refuse() {
    let mut s = Scene::accused(params(), &[(false, 2), (false, 1)]);
    let (batch, index) = (s.batch, 0);
    let accuser = s.accusers[0].clone();
    let open = s.opening(0, Ground::Computation);
    let opened_with = |change: &dyn Fn(&mut Signed<Receipt>, &mut dn_core::merkle::InclusionProof)| {
        let Payload::DisputeOpen { batch, index, mut receipt, mut proof, ground } = open.clone() else {
            unreachable!()
        };
        change(&mut receipt, &mut proof);
        Payload::DisputeOpen { batch, index, receipt, proof, ground }
    };
    let other = ["v1", "v2", "v3"].into_iter().find(|name| *name != accuser).unwrap();
    let party = |expected: &str, found: &str| Reject::DisputeParty {
        batch,
        index,
        expected: address(expected),
        found: address(found),
    };
    assert_eq!(s.w.reject(other, open.clone()), party(&accuser, other));
    let nowhere = Payload::DisputePick { batch, index: 7, step: 0, bytes: Bytes(vec![]) };
    assert_eq!(s.w.reject(&accuser, nowhere), Reject::UnknownDispute { batch, index: 7 });
    let early = Payload::DisputeAnswer { batch, index, step: 0, bytes: Bytes(vec![0]) };
    assert_eq!(s.w.reject("worker", early.clone()), Reject::DisputeNotOpened { batch, index });
    let place = opened_with(&|_, proof| proof.index = 1);
    let expected = Reject::ProofPlace { index: 0, count: 2, found_index: 1, found_count: 2 };
    assert_eq!(s.w.reject(&accuser, place), expected);
    let changed = opened_with(&|receipt, _| receipt.body.fee = dn(2));
    assert!(matches!(s.w.reject(&accuser, changed), Reject::Proof { .. }));
    // The rest of the opening's reasons concern receipts that are in the batch and should not be.
    s.w.ok(&accuser, open.clone());
    assert_eq!(s.w.reject(&accuser, open.clone()), Reject::DisputeOpened { batch, index });
    let pick = Payload::DisputePick { batch, index, step: 0, bytes: Bytes(vec![0]) };
    let turn = |step, found| Reject::DisputeTurn { batch, index, turn: Side::Worker, step, found };
    assert_eq!(s.w.reject(&accuser, pick.clone()), turn(0, 0));
    assert_eq!(s.w.reject("stranger", pick), party(&accuser, "stranger"));
    let later = Payload::DisputeAnswer { batch, index, step: 1, bytes: Bytes(vec![1]) };
    assert_eq!(s.w.reject("worker", later), turn(0, 1));
    let unbound = Payload::DisputeAnswer { batch, index, step: 0, bytes: Bytes(vec![5]) };
    let fault = MoveFault::Unbound;
    assert_eq!(s.w.reject("worker", unbound), Reject::DisputeMove { batch, index, step: 0, fault });
    // After the deadline, before anybody noticed: `begin_block` has not run in this context.
    let mut state = s.w.state().clone();
    let deadline = DISPUTES.get(&state, &(batch, index)).unwrap().deadline;
    let mut ctx = s.w.chain.next_context(s.w.chain.tip().time_ms + 1);
    ctx.height = deadline + 1;
    let mut tx = s.w.raw("worker", early);
    tx.expires_height = ctx.height;
    let late = dn_ledger::apply(&mut state, &tx.sign(&key("worker")), &ctx);
    assert_eq!(late, Err(Reject::TooLate { deadline, height: deadline + 1 }));
    s.play_rest(0);
    assert_eq!(s.w.reject(&accuser, open), Reject::UnknownDispute { batch, index });
}

impl Scene {
    fn play_rest(&mut self, index: u32) {
        while self.ending(index).is_none() {
            let (name, payload) = self.due(index);
            self.w.ok(&name, payload);
        }
    }

    /// Why the only receipt of a batch cannot be opened.
    fn unopened(change: impl Fn(&mut Signed<Receipt>, &World)) -> Reject {
        let mut w = World::with(params());
        w.chain = w.chain.clone().with_referee(RefereeHandle::new(Counting));
        w.prepare();
        let mut signed = Signed::sign(receipt(&w, 0, false, 1), &key("worker"));
        change(&mut signed, &w);
        let s = Self::posted(w, vec![signed]);
        s.w.reject(&s.accusers[0], s.opening(0, Ground::Computation))
    }
}

#[test]
fn receipts_that_should_not_be_in_a_batch() {
    let sign = |receipt: Receipt, by: &str| Signed::sign(receipt, &key(by));
    let foreign = Scene::unopened(|r, _| {
        *r = sign(Receipt { worker: address("worker2"), ..r.body.clone() }, "worker2");
    });
    let (expected, found) = (address("worker"), address("worker2"));
    assert_eq!(foreign, Reject::ReceiptWorker { expected, found });
    let object = SignedObject::Receipt;
    let unsigned = Scene::unopened(|r, _| *r = sign(r.body.clone(), "stranger"));
    assert_eq!(unsigned, Reject::Signature { object, expected });
    let chain = Scene::unopened(|r, _| *r = sign(Receipt { chain_id: 5, ..r.body.clone() }, "worker"));
    assert_eq!(chain, Reject::ChainId { object, expected: CHAIN_ID, found: 5 });
}

#[test]
fn a_model_that_the_referee_does_not_know_is_not_disputed_by_tiles() {
    let mut w = World::with(params());
    w.chain = w.chain.clone().with_referee(RefereeHandle::new(Counting));
    w.prepare();
    let manifest = ModelManifest { architecture: "unknown".into(), ..common::manifest(5) };
    let model = manifest.id();
    w.ok(
        "owner",
        Payload::PublishModel { manifest, name: "loose".into(), price: price(), domain: 0, salt: None },
    );
    let signed = Signed::sign(Receipt { model, ..receipt(&w, 0, true, 1) }, &key("worker"));
    w.ok("worker", offer(model));
    let mut s = Scene::posted_for(w, model, vec![signed]);
    let accuser = s.accusers[0].clone();
    let refused = s.w.reject(&accuser, s.opening(0, Ground::Computation));
    assert_eq!(refused, Reject::DisputeUnjudged { model });
    let payload = s.opening(0, Ground::Rest);
    s.w.ok(&accuser, payload);
}

#[test]
fn a_block_takes_so_many_moves() {
    let mut params = params();
    params.dispute.max_moves_per_block = 2;
    let mut s = Scene::accused(params, &[(false, 2), (false, 2), (false, 2)]);
    let mut txs = Vec::new();
    let mut ahead = std::collections::BTreeMap::new();
    for index in 0..3 {
        let name = s.accusers[index].clone();
        let mut tx = s.w.raw(&name, s.opening(u32::try_from(index).unwrap(), Ground::Computation));
        tx.nonce += *ahead.entry(name.clone()).and_modify(|n| *n += 1).or_insert(0u64);
        txs.push(tx.sign(&key(&name)));
    }
    let proposal = s.w.block(&txs);
    let height = s.w.height();
    let refused: Vec<_> = proposal.rejected.iter().map(|(_, reject)| reject.clone()).collect();
    assert_eq!(refused, [Reject::DisputesBusy { limit: 2, height }]);
    let waits =
        |index: &u32| DISPUTES.get(s.w.state(), &(s.batch, *index)).is_some_and(|d| d.receipt.is_none());
    let left = (0..3).find(waits);
    s.open(left.unwrap());
}

#[test]
fn without_its_referee_a_replica_executes_nothing() {
    let mut s = Scene::accused(params(), &[(false, 1)]);
    let next = s.w.block(&[]).block;
    let genesis = s.w.genesis.clone();
    let error = Chain::new(&genesis).validate(&s.w.log[0].block).unwrap_err();
    assert_eq!(error, BlockError::Referee { height: 1, expected: RULES, found: None });
    let error = Chain::new(&genesis).propose(address("v1"), 1, &[]).unwrap_err();
    assert!(matches!(error, BlockError::Referee { .. }), "{error}");
    // Another version is as good as none.
    #[derive(Debug)]
    struct Other;
    impl Referee for Other {
        fn rules(&self) -> u32 {
            RULES + 1
        }
        fn judges(&self, _: &ModelManifest) -> bool {
            true
        }
        fn open(&self, _: Case<'_>) -> Standing {
            Standing::Turn(Side::Worker)
        }
        fn play(&self, _: Case<'_>, _: &[Played], _: Side, _: &[u8]) -> Result<Standing, MoveFault> {
            Err(MoveFault::NotDue)
        }
    }
    let mut other = s.w.chain.clone().with_referee(RefereeHandle::new(Other));
    let error = other.validate(&next).unwrap_err();
    assert!(matches!(error, BlockError::Referee { found: Some(10), .. }), "{error}");
}

#[test]
fn a_dispute_may_not_outlast_a_bond() {
    let mut params = params();
    assert_eq!(params.validate(), Ok(()));
    // With the audits before it.
    params.unbonding_epochs = 20;
    assert!(params.validate().unwrap_err().to_string().contains("audits"));
    params.unbonding_epochs = 16;
    assert!(params.validate().unwrap_err().to_string().contains("dispute"));
    params.dispute.referee = 0;
    assert_eq!(params.validate(), Ok(()));
}

/// What the two sides of each dispute do in a block: move, move wrongly, or nothing.
fn plans() -> impl Strategy<Value = (Vec<(bool, u8)>, Vec<u8>)> {
    let receipts = prop::collection::vec((any::<bool>(), 0u8..5), 1..4);
    (receipts, prop::collection::vec(any::<u8>(), 0..40))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 100, ..ProptestConfig::default() })]

    /// However moves and silence interleave: every dispute ends within its bound, exactly one side of it loses (or another receipt's fraud
    /// ends it for nobody), and `block` checks that money is conserved.
    #[test]
    fn every_dispute_ends_and_one_side_loses((receipts, moves) in plans()) {
        let mut s = Scene::accused(params(), &receipts);
        let mut events = Vec::new();
        let count = u32::try_from(receipts.len()).unwrap();
        let start = s.w.height();
        for choice in moves {
            let index = u32::from(choice) % count;
            let open = DISPUTES.get(s.w.state(), &(s.batch, index)).filter(|d| d.ending.is_none());
            // The next block is the one in which an expired clock is noticed: no move is in time there, and where the clock is another
            // receipt's, its end may be everybody's.
            let of_batch = (0..count).filter_map(|index| DISPUTES.get(s.w.state(), &(s.batch, index)));
            let expires = of_batch.filter(|d| d.ending.is_none()).any(|d| s.w.height() >= d.deadline);
            let open = open.filter(|_| !expires);
            let Some(dispute) = open else { events.extend(s.w.blocks(1)); continue };
            let (name, mut payload) = match dispute.receipt {
                None => (s.accusers[index as usize].clone(), s.opening(index, Ground::Computation)),
                Some(_) => s.due(index),
            };
            match choice / 4 % 8 {
                0 => { events.extend(s.w.blocks(u64::from(choice) / 8)); continue; }
                1 => if let Payload::DisputePick { bytes, .. } | Payload::DisputeAnswer { bytes, .. } = &mut payload {
                    bytes.0.push(1);
                    let refused = matches!(s.w.reject(&name, payload), Reject::DisputeMove { .. });
                    prop_assert!(refused);
                    continue;
                },
                _ => {}
            }
            events.extend(s.w.ok(&name, payload));
        }
        let longest = s.w.genesis.params.dispute.longest_blocks();
        while s.w.height() < start + longest + 1 {
            events.extend(s.w.blocks(1));
        }
        prop_assert!(s.is_clean());
        let mut frauds = 0;
        for (index, (wrong, _)) in (0u32..).zip(&receipts) {
            let result = s.result(index).unwrap();
            match s.ending(index) {
                // Nobody lost this one: another receipt had ended the batch.
                None => prop_assert_eq!(result, AuditResult::Cancelled),
                Some(ending) => {
                    let lost = if ending.loser() == Side::Worker { AuditResult::Fraud } else { AuditResult::Refuted };
                    prop_assert_eq!(result, lost);
                    frauds += u32::from(result == AuditResult::Fraud);
                    match ending {
                        Ending::Fraud { .. } => prop_assert!(*wrong),
                        Ending::Refuted {} => prop_assert!(!*wrong),
                        _ => {}
                    }
                }
            }
        }
        // At most one conviction a batch, each loser is slashed once, and the batch is at its end.
        prop_assert!(frauds <= 1);
        let of = |cause| slashed(&events).iter().filter(|(c, _)| *c == cause).count();
        let refuted = (0..count).filter(|i| s.result(*i) == Some(AuditResult::Refuted)).count();
        prop_assert_eq!((of(SlashCause::Fraud), of(SlashCause::FalseVerdict)), (frauds as usize, refuted));
        let batch = BATCHES.get(s.w.state(), &s.batch).unwrap();
        prop_assert_eq!(batch.status, if frauds == 1 { BatchStatus::Voided } else { BatchStatus::Settled });
        prop_assert_eq!((batch.open_audits, batch.escrow), (0, Amount::ZERO));
    }
}
