use dn_core::merkle::MerkleTree;
use dn_core::objects::{
    AuditOutcome, BatchLine, BatchRoot, FinishReason, JobAcceptance, NO_NUMERIC_SPEC, Price, Receipt,
};
use dn_core::{Amount, BatchId, Canonical, ChannelId, Hash32, JobId, ModelId, ReceiptId, Signed};
use dn_ledger::events::Event;
use dn_ledger::reject::{ReceiptField, RegistryReject, Reject, SignedObject, TokenKind};
use dn_ledger::state::{
    BATCHES, BatchStatus, DUE_JOBS, IDENTITIES, IdentityStatus, JOB_CLAIMS, JOBS, WORKER_SEQUENCES,
};
use dn_ledger::tx::{NewJob, escrow_id};
use dn_ledger::views::PageRequest;
use dn_ledger::{Params, Payload, Role, query, supply};

use crate::common::{CHAIN_ID, World, address, dn, key, offer, params, price};
use crate::{gained, plus, publish, refused, version};

const SPEC: JobId = JobId([5; 32]);

pub(super) fn new_job(w: &World) -> NewJob {
    NewJob {
        worker: None,
        gateway: address("gateway"),
        model: w.model,
        job: SPEC,
        price: price(),
        amount: dn(1),
        expires_height: w.height() + 10,
        bond: Amount::ZERO,
    }
}

pub(super) fn lock(w: &mut World, change: impl Fn(&mut NewJob)) -> ChannelId {
    let mut job = new_job(w);
    change(&mut job);
    let escrow = escrow_id(address("payer"), job.gateway, w.nonce("payer"));
    w.ok("payer", Payload::LockJob { job });
    escrow
}

/// A receipt of 20 and 50 tokens: 20 · 10⁻⁶ + 50 · 4 · 10⁻⁶ = 0.00022 DN.
pub(super) fn receipt(w: &World, worker: &str, escrow: ChannelId) -> Receipt {
    Receipt {
        chain_id: CHAIN_ID,
        job: SPEC,
        domain: 0,
        model: w.model,
        numeric_spec: 1,
        prompt_hash: Hash32([1; 32]),
        output_hash: Hash32([2; 32]),
        trace_root: Hash32([3; 32]),
        prompt_tokens: 20,
        output_tokens: 50,
        finish: FinishReason::Stop,
        price: price(),
        fee: price().fee(20, 50).unwrap(),
        payer: address("payer"),
        channel: escrow,
        lane: 0,
        worker: address(worker),
        gateway: address("gateway"),
        started_ms: 1,
        finished_ms: 2,
        expires_ms: u64::MAX,
    }
}

fn batch_of(w: &World, receipt: &Signed<Receipt>) -> BatchRoot {
    let r = &receipt.body;
    BatchRoot {
        chain_id: CHAIN_ID,
        worker: r.worker,
        gateway: r.gateway,
        sequence: WORKER_SEQUENCES.get_or_default(w.state(), &r.worker),
        root: MerkleTree::new([receipt.to_bytes()]).root(),
        count: 1,
        lines: vec![BatchLine {
            channel: r.channel,
            lane: r.lane,
            model: r.model,
            domain: r.domain,
            receipts: 1,
            prompt_tokens: r.prompt_tokens.into(),
            output_tokens: r.output_tokens.into(),
            fees: r.fee,
        }],
        expires_ms: u64::MAX,
    }
}

fn acceptance(escrow: ChannelId, receipt: ReceiptId) -> JobAcceptance {
    JobAcceptance { chain_id: CHAIN_ID, escrow, receipt, payer: address("payer"), expires_ms: u64::MAX }
}

fn claim(w: &World, worker: &str, escrow: ChannelId, accepted: bool) -> (BatchId, Payload) {
    claim_with(w, worker, receipt(w, worker, escrow), accepted)
}

/// A claim with this receipt, signed by the worker.
pub(super) fn claim_with(w: &World, worker: &str, receipt: Receipt, accepted: bool) -> (BatchId, Payload) {
    let (escrow, receipt) = (receipt.channel, Signed::sign(receipt, &key(worker)));
    let body = batch_of(w, &receipt);
    let id = body.id();
    let accepted = accepted.then(|| Signed::sign(acceptance(escrow, receipt.body.id()), &key("payer")));
    (
        id,
        Payload::ClaimJob {
            batch: Signed::sign(body, &key("gateway")),
            receipt: Box::new(receipt),
            acceptance: accepted,
        },
    )
}

#[test]
fn locks_are_checked() {
    let mut w = World::ready();
    let with = |change: &dyn Fn(&mut NewJob)| {
        let mut job = new_job(&w);
        change(&mut job);
        w.reject("payer", Payload::LockJob { job })
    };
    let (minimum, found) = (w.genesis.params.registry.min_job, Amount::from_atto(1));
    assert_eq!(with(&|j| j.amount = found), Reject::AmountTooSmall { minimum, found });
    let now = w.height() + 1;
    let (min, max) = (now + 1, now + w.genesis.params.registry.max_job_blocks);
    let expiry = |found| Reject::Registry(RegistryReject::JobExpiry { min, max, found });
    assert_eq!(with(&|j| j.expires_height = now), expiry(now));
    assert_eq!(with(&|j| j.expires_height = max + 1), expiry(max + 1));
    let dear = Price { output_token: dn(2), ..price() };
    assert!(matches!(with(&|j| j.price = dear), Reject::PriceTooHigh { .. }));
    let model = ModelId([8; 32]);
    assert_eq!(with(&|j| j.model = model), Reject::UnknownModel { model });
    let (stranger, worker2) = (address("stranger"), address("worker2"));
    let unknown = |role| Reject::UnknownIdentity { address: stranger, role };
    assert_eq!(with(&|j| j.gateway = stranger), unknown(Role::Gateway));
    assert_eq!(with(&|j| j.worker = Some(stranger)), unknown(Role::Worker));
    let model = w.model;
    assert_eq!(with(&|j| j.worker = Some(worker2)), Reject::NotOffered { model, worker: worker2 });
    // Whoever is named must want the price.
    let dearer = Price { prompt_token: plus(price().prompt_token, Amount::from_atto(1)), ..price() };
    w.ok("worker", Payload::Offer { model, price: dearer });
    let with = |change: &dyn Fn(&mut NewJob)| {
        let mut job = new_job(&w);
        change(&mut job);
        w.reject("payer", Payload::LockJob { job })
    };
    let worker = address("worker");
    let (asked, found) = (dearer.prompt_token, price().prompt_token);
    let under = RegistryReject::JobUnderOffer { model, worker, token: TokenKind::Prompt, asked, found };
    assert_eq!(with(&|j| j.worker = Some(worker)), Reject::Registry(under));
    let found = Amount::from_atto(price().output_token.atto() - 1);
    let under = with(&|j| {
        (j.worker, j.price) = (Some(worker), Price { output_token: found, ..dearer });
    });
    let asked = price().output_token;
    let expected = RegistryReject::JobUnderOffer { model, worker, token: TokenKind::Output, asked, found };
    assert_eq!(under, Reject::Registry(expected));
    assert!(matches!(with(&|j| j.amount = dn(1_000_000)), Reject::Insufficient { .. }));
    let job = NewJob { worker: Some(worker), price: dearer, ..new_job(&w) };
    w.ok("payer", Payload::LockJob { job });
    w.ok("owner", Payload::RetireModel { model });
    let job = NewJob { expires_height: w.height() + 9, ..new_job(&w) };
    assert!(matches!(w.reject("payer", Payload::LockJob { job }), Reject::ModelRetired { .. }));
}

/// Its payer could take the result and say nothing.
#[test]
fn no_job_is_locked_for_a_model_that_nobody_can_check() {
    let mut w = World::ready();
    let mut version = version(41);
    version.manifest.numeric_spec = NO_NUMERIC_SPEC;
    let model = publish(&mut w, "owner", version);
    w.ok("worker", offer(model));
    let job = NewJob { model, ..new_job(&w) };
    assert_eq!(refused(&w, "payer", Payload::LockJob { job }), RegistryReject::JobInexact { model });
}

#[test]
fn a_claim_pays_by_the_rules_of_batches() {
    let mut w = World::ready();
    let before = w.balance("payer");
    let escrow = lock(&mut w, |job| job.worker = Some(address("worker")));
    assert_eq!(supply::supply(w.state()).jobs, dn(1));
    let view = query::job(w.state(), escrow).unwrap();
    assert_eq!((view.amount, view.payer, view.job), (dn(1), address("payer"), SPEC));
    let open_to = |name| query::jobs(w.state(), Some(address(name)), &PageRequest::default()).unwrap().items;
    assert_eq!((open_to("worker").len(), open_to("worker2").len()), (1, 0));
    let (batch, payload) = claim(&w, "worker", escrow, false);
    let fee = price().fee(20, 50).unwrap();
    let refund = dn(1).checked_sub(fee).unwrap();
    let worker = address("worker");
    let events = w.ok("worker", payload.clone());
    assert!(events.contains(&Event::JobClaimed {
        escrow,
        batch,
        worker,
        fee,
        refund,
        accepted: false,
        bond: Amount::ZERO
    }));
    assert_eq!(BATCHES.get(w.state(), &batch).unwrap().escrow, fee);
    assert!(!JOBS.contains(w.state(), &escrow) && DUE_JOBS.iter(w.state()).next().is_none());
    let spent = plus(fee, w.genesis.params.min_tx_fee);
    assert_eq!(gained(w.balance("payer"), before), spent, "what it cost less is back");
    assert_eq!(refused(&w, "worker", payload), RegistryReject::UnknownJob { escrow });
    let events = w.audit_all(|_, _| Some(AuditOutcome::Match {}));
    assert!(
        events
            .iter()
            .any(|e| matches!(e, Event::BatchSettled { batch: b, fees, .. } if *b == batch && *fees == fee))
    );
    assert!(!JOB_CLAIMS.contains(w.state(), &batch));
    assert!(!events.iter().any(|e| matches!(e, Event::JobBondReleased { .. })), "none was asked for");
}

#[test]
fn fraud_returns_the_fee_to_the_payer() {
    let mut w = World::ready();
    let before = w.balance("payer");
    let escrow = lock(&mut w, |_| {});
    let (batch, payload) = claim(&w, "worker", escrow, false);
    w.ok("worker", payload);
    let events = w.audit_all(|_, _| Some(AuditOutcome::Mismatch { position: 1 }));
    assert!(events.iter().any(|e| matches!(e, Event::BatchVoided { batch: b, .. } if *b == batch)));
    assert!(events.iter().any(|e| matches!(e, Event::Slashed { role: Role::Worker, .. })));
    assert_eq!(gained(w.balance("payer"), before), w.genesis.params.min_tx_fee);
}

/// Audits drawn of jobs when the rate for everybody is 1 %.
fn audits_drawn(accepted: bool) -> usize {
    let mut params: Params = params();
    params.audit_rate = dn_trust::AuditParams { ceiling: 100, floor: 100 };
    let mut w = World::with(params);
    w.prepare();
    let mut audited = 0;
    for _ in 0..12 {
        let escrow = lock(&mut w, |_| {});
        let (_, payload) = claim(&w, "worker", escrow, accepted);
        w.ok("worker", payload);
        let events = w.blocks(1);
        audited += events.iter().filter(|e| matches!(e, Event::AuditAssigned { .. })).count();
    }
    audited
}

#[test]
fn without_the_payers_word_a_job_is_audited_for_certain() {
    assert_eq!(audits_drawn(false), 12);
    assert!(audits_drawn(true) < 6);
}

#[test]
fn claims_are_checked() {
    let mut w = World::ready();
    w.ok("worker2", offer(w.model));
    let named = lock(&mut w, |job| job.worker = Some(address("worker2")));
    let escrow = lock(&mut w, |_| {});
    let (expected, found) = (address("worker2"), address("worker"));
    let (_, by_other) = claim(&w, "worker", named, false);
    assert_eq!(refused(&w, "worker", by_other), RegistryReject::JobWorker { escrow: named, expected, found });
    let none = ChannelId([1; 32]);
    let (_, of_none) = claim(&w, "worker", none, false);
    assert_eq!(refused(&w, "worker", of_none), RegistryReject::UnknownJob { escrow: none });
    // Not through a batch of the usual kind, nor a channel through a claim.
    let receipt_of = |change: &dyn Fn(&mut Receipt)| {
        let mut body = receipt(&w, "worker", escrow);
        change(&mut body);
        Signed::sign(body, &key("worker"))
    };
    let good = receipt_of(&|_| {});
    let batch = Signed::sign(batch_of(&w, &good), &key("gateway"));
    let usual = Payload::PostBatch { batch: batch.clone(), vouchers: vec![] };
    assert!(matches!(w.reject("worker", usual), Reject::VoucherMissing { .. }));
    let other = ChannelId(w.channel.0);
    let (_, of_channel) = claim(&w, "worker", other, false);
    assert_eq!(refused(&w, "worker", of_channel), RegistryReject::UnknownJob { escrow: other });

    let claim = |batch: &Signed<BatchRoot>, receipt: &Signed<Receipt>, acceptance| {
        let (batch, receipt) = (batch.clone(), Box::new(receipt.clone()));
        w.reject("worker", Payload::ClaimJob { batch, receipt, acceptance })
    };
    let field = |change: &dyn Fn(&mut Receipt)| {
        let receipt = receipt_of(change);
        // A batch that is right by itself, so that the receipt's own check is what refuses.
        match claim(&batch, &receipt, None) {
            Reject::Registry(RegistryReject::JobReceipt { field, escrow: e }) if e == escrow => field,
            other => panic!("{other}"),
        }
    };
    let stranger = address("stranger");
    assert_eq!(field(&|r| r.job = JobId([6; 32])), ReceiptField::Job);
    assert_eq!(field(&|r| r.domain = 1), ReceiptField::Domain);
    assert_eq!(field(&|r| r.model = ModelId([6; 32])), ReceiptField::Model);
    assert_eq!(field(&|r| r.numeric_spec = 2), ReceiptField::NumericSpec);
    assert_eq!(field(&|r| r.price.prompt_token = dn(1)), ReceiptField::Price);
    assert_eq!(field(&|r| r.payer = stranger), ReceiptField::Payer);
    assert_eq!(field(&|r| r.lane = 1), ReceiptField::Lane);
    assert_eq!(field(&|r| r.gateway = stranger), ReceiptField::Gateway);
    let by_worker2 = Signed::sign(receipt(&w, "worker2", escrow), &key("worker2"));
    let why = RegistryReject::JobReceipt { escrow, field: ReceiptField::Worker };
    assert_eq!(claim(&batch, &by_worker2, None), why.into());
    let forged = Signed::sign(receipt(&w, "worker", escrow), &key("stranger"));
    let (object, expected) = (SignedObject::Receipt, address("worker"));
    assert_eq!(claim(&batch, &forged, None), Reject::Signature { object, expected });
    let old = receipt_of(&|r| r.expires_ms = 1);
    assert!(matches!(claim(&batch, &old, None), Reject::ObjectExpired { object: SignedObject::Receipt, .. }));
    let fee = |found: Amount, limit| {
        assert_eq!(
            claim(&batch, &receipt_of(&|r| r.fee = found), None),
            RegistryReject::JobFee { escrow, limit, found }.into()
        );
    };
    let cost = price().fee(20, 50).unwrap();
    fee(Amount::ZERO, cost);
    fee(plus(cost, Amount::from_atto(1)), cost);
    // More than is locked, however many tokens.
    let many = receipt_of(&|r| (r.output_tokens, r.fee) = (500_000, dn(2)));
    assert_eq!(
        claim(&batch, &many, None),
        RegistryReject::JobFee { escrow, limit: dn(1), found: dn(2) }.into()
    );
    // The batch is of this receipt and nothing else.
    let another = receipt_of(&|r| r.output_hash = Hash32([9; 32]));
    let (expected, found) = (batch_of(&w, &another).id(), batch.body.id());
    assert_eq!(claim(&batch, &another, None), RegistryReject::JobBatch { expected, found }.into());
    let mut uncountersigned = batch.clone();
    uncountersigned = Signed::sign(uncountersigned.body, &key("stranger"));
    let (object, expected) = (SignedObject::BatchRoot, address("gateway"));
    assert_eq!(claim(&uncountersigned, &good, None), Reject::Signature { object, expected });
    // The payer's word.
    let accepted = |body: JobAcceptance, by: &str| claim(&batch, &good, Some(Signed::sign(body, &key(by))));
    let right = acceptance(escrow, good.body.id());
    let (object, expected) = (SignedObject::JobAcceptance, address("payer"));
    assert_eq!(accepted(right.clone(), "worker"), Reject::Signature { object, expected });
    let expected = good.body.id();
    let other = |found| RegistryReject::JobAcceptance { expected, found }.into();
    let of_other = JobAcceptance { receipt: ReceiptId([7; 32]), ..right.clone() };
    assert_eq!(accepted(of_other, "payer"), other(ReceiptId([7; 32])));
    let by_other = JobAcceptance { payer: stranger, ..right.clone() };
    assert_eq!(accepted(by_other, "stranger"), other(expected));
    let elsewhere = JobAcceptance { escrow: none, ..right };
    assert_eq!(accepted(elsewhere, "payer"), other(expected));
    let (id, payload) = self::claim(&w, "worker", escrow, true);
    w.ok("worker", payload);
    assert_eq!(BATCHES.get(w.state(), &id).unwrap().status, BatchStatus::Posted);
}

#[test]
fn a_job_can_be_claimed_until_it_expires_and_is_refunded_by_itself() {
    let mut w = World::ready();
    let expires_height = w.height() + 6;
    let escrows = [0, 1].map(|_| lock(&mut w, |job| job.expires_height = expires_height));
    while w.height() + 1 < expires_height {
        w.block(&[]);
    }
    // The last height: one is claimed.
    let (_, payload) = claim(&w, "worker", escrows[0], false);
    w.ok("worker", payload);
    assert_eq!(w.height(), expires_height);
    // One later the other is refunded before any transaction of the block; a claim in the same block comes too late.
    let before = w.balance("payer");
    let (_, late) = claim(&w, "worker", escrows[1], false);
    let tx = w.tx("worker", late);
    let proposal = w.block(std::slice::from_ref(&tx));
    let escrow = escrows[1];
    assert_eq!(proposal.rejected, [(tx, RegistryReject::UnknownJob { escrow }.into())]);
    let refund = Event::JobRefunded { escrow, payer: address("payer"), amount: dn(1) };
    assert!(proposal.executed.begin.contains(&refund));
    assert_eq!(gained(before, w.balance("payer")), dn(1));
    assert_eq!(supply::supply(w.state()).jobs, Amount::ZERO);
}

#[test]
fn refunds_are_bounded_in_a_block_and_always_come() {
    let mut params = params();
    params.registry.max_job_refunds = 2;
    let mut w = World::with(params);
    w.prepare();
    let expires_height = w.height() + 8;
    for _ in 0..5 {
        lock(&mut w, |job| job.expires_height = expires_height);
    }
    let last = JOBS.iter(w.state()).last().unwrap().0;
    while w.height() < expires_height {
        w.block(&[]);
    }
    let refunds = |w: &mut World| {
        let events = w.blocks(1);
        events.iter().filter(|e| matches!(e, Event::JobRefunded { .. })).count()
    };
    assert_eq!(refunds(&mut w), 2);
    // Whoever waits for his refund is not robbed by a claim: time is over.
    let (_, late) = claim(&w, "worker", last, true);
    let height = w.height() + 1;
    let mut state = w.state().clone();
    let ctx = w.chain.next_context(w.chain.tip().time_ms + 1_000);
    let refused = dn_ledger::apply(&mut state, &w.tx("worker", late), &ctx).unwrap_err();
    assert_eq!(refused, RegistryReject::JobExpired { escrow: last, expires_height, height }.into());
    assert_eq!([refunds(&mut w), refunds(&mut w), refunds(&mut w)], [2, 1, 0]);
    assert_eq!(JOBS.iter(w.state()).count() + DUE_JOBS.iter(w.state()).count(), 0);
}

/// Who locked a job cannot take the work and the DN: not by retiring its own model, and not by its gateway's leaving.
#[test]
fn nobody_escapes_a_job_by_leaving() {
    let grace = params().model_grace_blocks;
    let start = || {
        let mut w = World::with(Params { unbonding_epochs: 30, ..params() });
        w.prepare();
        let expires_height = w.height() + grace + 40;
        let escrow = lock(&mut w, |job| {
            job.worker = Some(address("worker"));
            job.expires_height = expires_height;
        });
        (w, escrow)
    };
    for who in ["owner", "gateway", "worker"] {
        let (mut w, escrow) = start();
        let payload = match who {
            "owner" => Payload::RetireModel { model: w.model },
            "gateway" => Payload::Retire { role: Role::Gateway },
            _ => Payload::Unoffer { model: w.model },
        };
        w.ok(who, payload);
        w.blocks(grace + 2);
        let (id, claim) = claim(&w, "worker", escrow, true);
        w.ok("worker", claim);
        assert_eq!(BATCHES.get(w.state(), &id).unwrap().status, BatchStatus::Posted, "{who}");
    }
    // Once its bond is free, a gateway's signature is worth nothing.
    let mut w = World::with(Params { unbonding_epochs: 5, ..params() });
    w.prepare();
    let free =
        |w: &World| match IDENTITIES.get(w.state(), &(Role::Gateway, address("gateway"))).unwrap().status {
            IdentityStatus::Retired { release_epoch } => w.chain.next_context(0).epoch() >= release_epoch,
            _ => false,
        };
    let expires_height = w.height() + 90;
    let escrow = lock(&mut w, |job| job.expires_height = expires_height);
    w.ok("gateway", Payload::Retire { role: Role::Gateway });
    while !free(&w) {
        w.blocks(1);
    }
    let (_, claim) = claim(&w, "worker", escrow, true);
    assert!(matches!(w.reject("worker", claim), Reject::NotActive { role: Role::Gateway, .. }));
}
