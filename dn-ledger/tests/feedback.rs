//! Feedback bound to paid receipts, trust in models, and the registries.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{CHAIN_ID, World, address, dn, key, offer, price};
use dn_core::merkle::MerkleTree;
use dn_core::objects::feedback::Feedback;
use dn_core::objects::{AuditOutcome, BatchRoot, FinishReason, Receipt};
use dn_core::{Amount, BatchId, Canonical, Hash32, JobId, ModelId, ReceiptId, Signed};
use dn_ledger::events::Event;
use dn_ledger::reject::{Field, SignedObject};
use dn_ledger::state::{BatchStatus, FEEDBACKS, HEARD, MODEL_EPOCHS, MODEL_TRUST};
use dn_ledger::views::PageRequest;
use dn_ledger::{Payload, Reject, Role, query};
use dn_trust::{ModelEpoch, ModelTrust, Weight};

struct Scene {
    w: World,
    batch: BatchId,
    receipts: Vec<Signed<Receipt>>,
}

fn receipt(w: &World, n: u8) -> Receipt {
    Receipt {
        chain_id: CHAIN_ID,
        job: JobId([n; 32]),
        domain: 0,
        model: w.model,
        numeric_spec: 1,
        prompt_hash: Hash32([n; 32]),
        output_hash: Hash32([n; 32]),
        trace_root: Hash32([n; 32]),
        prompt_tokens: 4,
        output_tokens: 5,
        finish: FinishReason::Stop,
        price: price(),
        fee: w.genesis.params.feedback.full_fee,
        payer: address("payer"),
        channel: w.channel,
        lane: 0,
        worker: address("worker"),
        gateway: address("gateway"),
        started_ms: 1,
        finished_ms: 2,
        expires_ms: u64::MAX,
    }
}

impl Scene {
    fn settled(change: impl Fn(&mut Receipt)) -> Self {
        let mut s = Self::posted(change);
        s.w.audit_all(|_, _| Some(AuditOutcome::Match {}));
        s
    }

    fn posted(change: impl Fn(&mut Receipt)) -> Self {
        Self::paid(dn(10), change)
    }

    /// Three receipts of one line of these fees.
    fn paid(fees: Amount, change: impl Fn(&mut Receipt)) -> Self {
        let mut params = common::params();
        params.epoch_blocks = 40;
        let mut w = World::with(params);
        w.prepare();
        let sign = |n| {
            let mut body = receipt(&w, n);
            change(&mut body);
            Signed::sign(body, &key("worker"))
        };
        let receipts: Vec<_> = (0..3).map(sign).collect();
        let root = MerkleTree::new(receipts.iter().map(Canonical::to_bytes)).root();
        let body = BatchRoot { root, ..w.root("worker", vec![w.line(0, 3, fees)]) };
        let batch = body.id();
        let vouchers = vec![w.voucher(0, fees)];
        w.ok("worker", Payload::PostBatch { batch: Signed::sign(body, &key("gateway")), vouchers });
        Self { w, batch, receipts }
    }

    fn body(&self, index: u32, score: u8) -> Feedback {
        Feedback {
            chain_id: CHAIN_ID,
            batch: self.batch,
            index,
            receipt: self.receipts[index as usize].body.id(),
            score,
            tag: "prose".into(),
            uri_hash: Hash32([4; 32]),
            signer: address("payer"),
            expires_ms: u64::MAX,
        }
    }

    fn payload(&self, body: Feedback, by: &str) -> Payload {
        let index = body.index.min(2);
        let tree = MerkleTree::new(self.receipts.iter().map(Canonical::to_bytes));
        let (receipt, proof) = (self.receipts[index as usize].clone(), tree.prove(index.into()).unwrap());
        Payload::Feedback { feedback: Signed::sign(body, &key(by)), receipt, proof }
    }
}

#[test]
fn feedback_on_a_paid_receipt_counts_once_and_is_bounded() {
    let mut s = Scene::settled(|_| {});
    let model = s.w.model;
    // Anybody may bring it; the payer signed it.
    let payload = s.payload(s.body(0, 80), "payer");
    let events = s.w.ok("stranger", payload.clone());
    assert!(events.iter().any(|e| matches!(e, Event::FeedbackGiven { score: 80, .. })));
    let again = Reject::FeedbackGiven { batch: s.batch, index: 0 };
    assert_eq!(s.w.reject("stranger", payload), again);
    let record = FEEDBACKS.get(s.w.state(), &(s.batch, 0)).unwrap();
    assert_eq!((record.payer, record.model, record.score), (address("payer"), model, 80));
    // The receipt's fee is a full one: one payer counts no more for this model in this epoch.
    assert_eq!(HEARD.get(s.w.state(), &(model, address("payer"))).unwrap().weight, Weight::ONE.bits());
    let epoch = s.w.chain.next_context(0).epoch();
    let before = MODEL_EPOCHS.get(s.w.state(), &(epoch, model)).unwrap();
    let spender = Feedback { signer: address("spender"), ..s.body(1, 0) };
    let payload = s.payload(spender, "spender");
    s.w.ok("stranger", payload);
    assert_eq!(
        MODEL_EPOCHS.get(s.w.state(), &(epoch, model)).unwrap(),
        before,
        "heard, but not counted again"
    );
    // The summary has both.
    let reputation = query::reputation(s.w.state(), address("worker"), &PageRequest::default()).unwrap();
    assert_eq!((reputation.count, reputation.average_score), (2, 40));
    assert_eq!(reputation.feedback[0].feedback_auth.signer, address("spender"), "the newest first");
    let json = serde_json::to_value(&reputation).unwrap();
    for name in ["agentId", "averageScore", "count"] {
        assert!(json.get(name).is_some(), "{name}");
    }
    for name in ["clientAddress", "feedbackAuth", "score", "tag1", "tag2", "feedbackHash", "isRevoked"] {
        assert!(json["feedback"][0].get(name).is_some(), "{name}");
    }
    // At the epoch's end the model's trust has it.
    let trust = |s: &Scene| MODEL_TRUST.get(s.w.state(), &model).unwrap();
    let newcomer = trust(&s);
    s.w.blocks(40);
    assert_ne!(trust(&s).trust, newcomer.trust);
    let view = query::model_trust(s.w.state(), model).unwrap();
    assert_eq!((view.feedback_count, view.feedback_average, view.indicators.len()), (2, Some(40), 4));
}

#[test]
fn a_small_fee_counts_little() {
    let heard_of = |fee: Amount, line: Amount| {
        let mut s = Scene::paid(line, |receipt| receipt.fee = fee);
        s.w.audit_all(|_, _| Some(AuditOutcome::Match {}));
        let payload = s.payload(s.body(0, 100), "payer");
        s.w.ok("payer", payload);
        HEARD.get(s.w.state(), &(s.w.model, address("payer"))).unwrap().weight
    };
    let heard = |fee| heard_of(fee, dn(10));
    let full = common::params().feedback.full_fee;
    // What a receipt says is worth no more than what its line has paid: three receipts.
    assert_eq!(heard_of(full, full), Weight::ONE.bits() / 3);
    assert_eq!(heard(Amount::from_atto(full.atto() / 4)), Weight::ONE.bits() / 4);
    assert_eq!(heard(Amount::ZERO), 0);
    assert_eq!(heard(dn(1)), Weight::ONE.bits());
}

#[test]
fn every_reason_to_refuse() {
    let early = Scene::posted(|_| {});
    let payload = early.payload(early.body(0, 1), "payer");
    let status = BatchStatus::Posted;
    assert_eq!(early.w.reject("payer", payload), Reject::BatchUnsettled { batch: early.batch, status });
    let s = Scene::settled(|_| {});
    let refused = |body: Feedback, by: &str| s.w.reject("payer", s.payload(body, by));
    let batch = BatchId([9; 32]);
    assert_eq!(refused(Feedback { batch, ..s.body(0, 1) }, "payer"), Reject::UnknownBatch { batch });
    assert_eq!(refused(s.body(0, 101), "payer"), Reject::Score { maximum: 100, found: 101 });
    let long = Feedback { tag: "x".repeat(33), ..s.body(0, 1) };
    assert_eq!(refused(long, "payer"), Reject::Size { field: Field::Tag, min: 0, max: 32, found: 33 });
    let (expected, found) = (s.receipts[0].body.id(), ReceiptId([1; 32]));
    let other = Feedback { receipt: found, ..s.body(0, 1) };
    assert_eq!(refused(other, "payer"), Reject::FeedbackReceipt { expected, found });
    let elsewhere = Feedback { index: 7, ..s.body(0, 1) };
    assert!(matches!(refused(elsewhere, "payer"), Reject::ProofPlace { index: 7, .. }));
    let (payer, signer) = (address("payer"), address("stranger"));
    let stranger = Feedback { signer, ..s.body(0, 1) };
    assert_eq!(refused(stranger, "stranger"), Reject::FeedbackSigner { payer, signer });
    let object = SignedObject::Feedback;
    assert_eq!(refused(s.body(0, 1), "stranger"), Reject::Signature { object, expected: payer });
    let late = Feedback { expires_ms: 5, ..s.body(0, 1) };
    assert!(matches!(refused(late, "payer"), Reject::ObjectExpired { object: SignedObject::Feedback, .. }));
    let chain = Feedback { chain_id: 5, ..s.body(0, 1) };
    assert_eq!(refused(chain, "payer"), Reject::ChainId { object, expected: CHAIN_ID, found: 5 });
    let Payload::Feedback { feedback, mut receipt, proof } = s.payload(s.body(0, 1), "payer") else {
        unreachable!()
    };
    receipt.body.fee = dn(9);
    assert!(matches!(
        s.w.reject("payer", Payload::Feedback { feedback, receipt, proof }),
        Reject::Proof { .. }
    ));
    // A receipt that no line of its batch pays for.
    let s = Scene::settled(|receipt| receipt.lane = 3);
    let payload = s.payload(s.body(0, 1), "payer");
    assert_eq!(s.w.reject("payer", payload), Reject::FeedbackLine { batch: s.batch, index: 0 });
}

#[test]
fn nobody_praises_their_own_work() {
    let mut w = World::with(common::params());
    w.prepare();
    // The model's owner pays for its own model.
    let nonce = w.nonce("owner");
    w.channel = dn_ledger::tx::channel_id(address("owner"), address("gateway"), nonce);
    let (payee, spender) = (address("gateway"), address("spender"));
    w.ok("owner", Payload::OpenChannel { payee, deposit: dn(100), spender });
    let signed = Signed::sign(Receipt { payer: address("owner"), ..receipt(&w, 0) }, &key("worker"));
    let root = MerkleTree::new([signed.to_bytes()]).root();
    let body = BatchRoot { root, ..w.root("worker", vec![w.line(0, 1, dn(10))]) };
    let batch = body.id();
    let vouchers = vec![w.voucher(0, dn(10))];
    w.ok("worker", Payload::PostBatch { batch: Signed::sign(body, &key("gateway")), vouchers });
    w.audit_all(|_, _| Some(AuditOutcome::Match {}));
    let s = Scene { w, batch, receipts: vec![signed] };
    let own = Feedback { signer: address("spender"), ..s.body(0, 100) };
    let payload = s.payload(own, "spender");
    assert_eq!(s.w.reject("stranger", payload), Reject::FeedbackSelf { payer: address("owner") });
}

#[test]
fn the_registries_have_the_drafts_names() {
    let s = Scene::settled(|_| {});
    let state = s.w.state();
    let agent = query::agent(state, address("worker")).unwrap();
    assert_eq!(agent.roles, [Role::Worker]);
    let json = serde_json::to_value(&agent).unwrap();
    for name in ["agentId", "agentDomain", "agentURI", "agentAddress"] {
        assert!(json.get(name).is_some(), "{name}");
    }
    assert_eq!(query::agent(state, address("nobody")), None);
    let validations = query::validations(state, address("worker"), &PageRequest::default()).unwrap();
    assert_eq!((validations.count, validations.avg_response), (3, 100));
    let json = serde_json::to_value(&validations).unwrap();
    for name in ["requestHash", "validatorAddress", "agentId", "response", "tag"] {
        assert!(json["validations"][0].get(name).is_some(), "{name}");
    }
    let empty = query::reputation(state, address("worker2"), &PageRequest::default()).unwrap();
    assert_eq!((empty.count, empty.average_score, empty.feedback.len()), (0, 0, 0));
}

/// Trust in a model is what closing every epoch would have made of it, and epochs in which nothing happens to it cost nothing.
#[test]
fn models_that_do_nothing_are_not_looked_at() {
    let mut params = common::params();
    params.epoch_blocks = 24;
    let mut w = World::with(params);
    w.prepare();
    // Another model of the same domain, whose work makes epochs of the class busy.
    let other = common::manifest(2);
    let (name, price) = ("other".to_owned(), price());
    w.ok("owner", Payload::PublishModel { manifest: other.clone(), name, price, domain: 0, salt: None });
    w.ok("worker", offer(other.id()));
    let params = w.genesis.params.trust.clone();
    let mut naive = std::collections::BTreeMap::new();
    let mut paid = Amount::ZERO;
    for epoch in 0..9u64 {
        let works: &[ModelId] = match epoch {
            0 | 7 => &[w.model, other.id()],
            1 | 3 | 4 => &[other.id()],
            8 => &[w.model],
            _ => &[],
        };
        for (lane, model) in (0..).zip(works) {
            let mut line = w.line(lane, 1, dn(1));
            line.model = *model;
            let body = w.root("worker", vec![line]);
            paid = paid.checked_add(dn(1)).unwrap();
            let vouchers = vec![w.voucher(lane, paid)];
            w.ok("worker", Payload::PostBatch { batch: Signed::sign(body, &key("gateway")), vouchers });
            w.sequence += 1;
        }
        if !works.is_empty() {
            w.audit_all(|_, _| Some(AuditOutcome::Match {}));
        }
        while !w.chain.next_context(0).ends_epoch() {
            w.blocks(1);
        }
        let epoch = w.chain.next_context(0).epoch();
        let epochs: Vec<_> =
            [w.model, other.id()].map(|id| (id, MODEL_EPOCHS.get_or_default(w.state(), &(epoch, id)))).into();
        let mut works: Vec<u128> =
            epochs.iter().map(|(_, e)| e.paid_work()).filter(|work| *work > 0).collect();
        works.sort_unstable();
        let median = works.get(works.len().saturating_sub(1) / 2).copied().unwrap_or(0);
        for (id, events) in &epochs {
            if MODEL_TRUST.contains(w.state(), id) {
                let trust = naive.entry(*id).or_insert_with(|| ModelTrust::newcomer(&params));
                trust.close_epoch(&params, events, median);
            }
        }
        let before: Vec<_> = epochs.iter().map(|(id, _)| MODEL_TRUST.get(w.state(), id)).collect();
        w.blocks(1);
        for ((id, events), before) in epochs.iter().zip(before) {
            let after = MODEL_TRUST.get(w.state(), id);
            if *events == ModelEpoch::default() {
                assert_eq!(after, before, "epoch {epoch}");
            } else {
                assert_eq!(after.unwrap().trust, naive[id], "epoch {epoch}");
                assert_eq!(after.unwrap().from_epoch, epoch + 1);
            }
        }
    }
    assert_eq!(naive.len(), 2);
}

/// A batch of one atto is work of one atto, for the worker and for its model.
#[test]
fn work_that_nobody_paid_for_is_no_record() {
    let trust_after = |fee: Amount| {
        let mut params = common::params();
        params.epoch_blocks = 20;
        let mut w = World::with(params);
        w.prepare();
        let mut claimed = Amount::ZERO;
        for epoch in 0..12u64 {
            w.post(1, fee, claimed);
            claimed = claimed.checked_add(fee).unwrap();
            w.audit_all(|_, _| Some(AuditOutcome::Match {}));
            while w.chain.next_context(0).epoch() == epoch {
                w.blocks(1);
            }
        }
        let worker = query::trust(w.state(), Role::Worker, address("worker")).unwrap().trust;
        let model = query::model_trust(w.state(), w.model).unwrap().trust;
        (worker.value().bits(), model.value().bits())
    };
    let (paid, unpaid) = (trust_after(dn(1)), trust_after(Amount::from_atto(1)));
    println!("paid {paid:?}, unpaid {unpaid:?}");
    assert!(paid.0 > 4 * unpaid.0 && paid.1 > 4 * unpaid.1, "paid {paid:?}, unpaid {unpaid:?}");
}
