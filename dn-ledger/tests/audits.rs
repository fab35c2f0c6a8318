//! From a batch to its end: audits, disputes, slashes, settlement, trust, emission.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{CHAIN_ID, World, address, dn, offer, params};
use dn_core::merkle::MerkleTree;
use dn_core::objects::feedback::Feedback;
use dn_core::objects::{AuditOutcome, BatchRoot};
use dn_core::{Address, Amount, Hash32, Signed};
use dn_ledger::events::{Event, SlashCause};
use dn_ledger::state::{
    AUDIT_TASKS, AUDITS, AuditPhase, AuditResult, BATCHES, BatchStatus, CHANNELS, ENDED_BATCHES, EPOCH_WORK,
    IDENTITIES, IdentityStatus, MODEL_EPOCHS, POOLS, Pool, STAKE_POOLS, TURNS, Turns, VALIDATOR_EPOCHS,
    VALIDATOR_TRUST, WORKER_EPOCHS,
};
use dn_ledger::tx::Shares;
use dn_ledger::views::PageRequest;
use dn_ledger::{Params, Payload, Reject, Role, query};
use dn_trust::{ValidatorEpoch, Weight};
use proptest::prelude::*;

const MATCH: AuditOutcome = AuditOutcome::Match {};
const MISMATCH: AuditOutcome = AuditOutcome::Mismatch { position: 7 };
const UNAVAILABLE: AuditOutcome = AuditOutcome::Unavailable {};
const UNJUDGED: AuditOutcome = AuditOutcome::Unjudged {};

fn settled(events: &[Event]) -> Event {
    let found = events.iter().find(|e| matches!(e, Event::BatchSettled { .. } | Event::BatchVoided { .. }));
    found.expect("the batch ended").clone()
}

#[test]
fn honest_work_is_audited_and_paid() {
    let mut w = World::ready();
    let owner_before = w.balance("owner");
    let id = w.post(4, dn(10), Amount::ZERO);
    assert_eq!(w.open_audits(), []);
    w.blocks(1);
    assert_eq!(w.open_audits().len(), 4, "the rate is one");
    let before = w.balance("worker");
    let events = w.audit_all(|_, _| Some(MATCH));
    let Event::BatchSettled { fees, to_worker, to_owners, burned, .. } = settled(&events) else {
        panic!("{events:?}")
    };
    assert_eq!(
        (fees, to_worker, to_owners, burned),
        (dn(10), w.genesis.params.fees.split(dn(10)).worker, dn(2), Amount::from_atto(dn(1).atto() / 10))
    );
    assert!(w.balance("worker") >= before.checked_add(to_worker).unwrap());
    assert!(w.balance("owner") >= owner_before.checked_add(to_owners).unwrap());
    let batch = BATCHES.get(w.state(), &id).unwrap();
    assert_eq!((batch.status, batch.escrow, batch.passed_audits), (BatchStatus::Settled, Amount::ZERO, 4));
    // The epoch pays emission and trust rises.
    w.blocks(w.genesis.params.epoch_blocks);
    let all = w.all_events();
    let paid = |who| all.iter().any(|e| matches!(e, Event::EmissionPaid { role, .. } if *role == who));
    assert!(paid(Role::Worker) && paid(Role::ModelOwner));
    let rises = |e: &Event| matches!(e, Event::TrustChanged { role: Role::Worker, before, after, .. } if after > before);
    assert!(all.iter().any(rises));
}

#[test]
fn emission_never_exceeds_what_the_fees_lost() {
    let mut w = World::ready();
    w.post(4, dn(10), Amount::ZERO);
    w.audit_all(|_, _| Some(MATCH));
    w.blocks(w.genesis.params.epoch_blocks);
    let emitted = w.all_events().iter().fold(Amount::ZERO, |sum, e| match e {
        Event::EpochClosed { emitted, .. } => sum.checked_add(*emitted).unwrap(),
        _ => sum,
    });
    let lost = u128::from(w.genesis.params.fees.lost_by_self_payment());
    assert!(!emitted.is_zero() && emitted <= dn(10).mul_div(lost, 10_000).unwrap(), "{emitted}");
}

#[test]
fn upheld_mismatch_voids_the_batch_and_slashes_the_worker() {
    let mut w = World::ready();
    let spent = dn(10);
    let id = w.post(3, spent, Amount::ZERO);
    let burned_before = POOLS.get_or_default(w.state(), &Pool::Burned);
    let events = w.audit_all(|_, index| Some(if index == 1 { MISMATCH } else { MATCH }));
    assert!(matches!(settled(&events), Event::BatchVoided { fees, .. } if fees == spent), "{events:?}");
    let disputes: Vec<_> = events.iter().filter(|e| matches!(e, Event::DisputeOpened { .. })).collect();
    let [Event::DisputeOpened { accuser, index: 1, .. }] = disputes[..] else { panic!("{disputes:?}") };
    let slashed = events.iter().find_map(|e| match e {
        Event::Slashed { address: a, cause: SlashCause::Fraud, amount, reporter, reward, burned, .. } => {
            Some((*a, *amount, *reporter, *reward, *burned))
        }
        _ => None,
    });
    // 20 % of 1,000 DN; a quarter of it to the accuser.
    assert_eq!(slashed, Some((address("worker"), dn(200), Some(*accuser), dn(50), dn(150))));
    let burned = POOLS.get_or_default(w.state(), &Pool::Burned);
    assert_eq!(burned.checked_sub(burned_before), Ok(dn(150)));
    assert_eq!(CHANNELS.get(w.state(), &w.channel).unwrap().balance(), dn(100), "the fees are back");
    assert_eq!(AUDITS.get(w.state(), &(id, 1)).unwrap().result, Some(AuditResult::Fraud));
    let worker = IDENTITIES.get(w.state(), &(Role::Worker, address("worker"))).unwrap();
    assert_eq!((worker.collateral, worker.status, worker.open_batches), (dn(800), IdentityStatus::Active, 0));
    // What was claimed on the lane stays claimed: the next voucher has to be higher.
    let next = w.post(1, dn(1), spent);
    assert_eq!(BATCHES.get(w.state(), &next).unwrap().escrow, dn(1));
}

#[test]
fn a_worker_at_the_minimum_is_suspended_and_can_come_back() {
    let mut w = World::ready();
    w.ok("worker2", offer(w.model));
    let body = w.root("worker2", vec![w.line(0, 1, dn(2))]);
    let batch = Signed::sign(body, &common::key("gateway"));
    w.ok("worker2", Payload::PostBatch { batch, vouchers: vec![w.voucher(0, dn(2))] });
    let events = w.audit_all(|_, _| Some(MISMATCH));
    let suspended = Event::Suspended { address: address("worker2"), role: Role::Worker, collateral: dn(80) };
    assert!(events.contains(&suspended), "{events:?}");
    let status = IdentityStatus::Suspended;
    let offer = w.reject("worker2", offer(w.model));
    assert_eq!(offer, Reject::NotActive { address: address("worker2"), role: Role::Worker, status });
    let again = |collateral| Payload::Register {
        role: Role::Worker,
        collateral: dn(collateral),
        name: "again".into(),
        endpoint: String::new(),
    };
    assert!(
        matches!(w.reject("worker2", again(19)), Reject::CollateralTooLow { found, .. } if found == dn(99))
    );
    w.ok("worker2", again(20));
    w.blocks(w.genesis.params.epoch_blocks);
    let falls = |e: &Event| match e {
        Event::TrustChanged { address: who, before, after, .. } => {
            *who == address("worker2") && after < before
        }
        _ => false,
    };
    assert!(w.all_events().iter().any(falls), "fraud costs trust");
}

#[test]
fn a_false_accusation_costs_the_accuser() {
    let mut w = World::ready();
    let id = w.post(1, dn(10), Amount::ZERO);
    w.blocks(1);
    let (liar, ..) = w.open_audits()[0].clone();
    let pool_before = STAKE_POOLS.get(w.state(), &address(&liar)).unwrap().tokens();
    let events = w.audit_all(|name, _| Some(if name == liar { MISMATCH } else { MATCH }));
    assert!(matches!(settled(&events), Event::BatchSettled { .. }));
    assert_eq!(AUDITS.get(w.state(), &(id, 0)).unwrap().result, Some(AuditResult::Refuted));
    let tenth = |a: Amount| Amount::from_atto(a.atto() / 10);
    let collateral = w.genesis.params.collateral.validator;
    let slashed = events.iter().find_map(|e| match e {
        Event::Slashed { address: a, cause: SlashCause::FalseVerdict, amount, reporter: None, .. } => {
            Some((*a, *amount))
        }
        _ => None,
    });
    let least = tenth(pool_before).checked_add(tenth(collateral)).unwrap();
    let (who, amount) = slashed.expect("the accuser is slashed");
    assert_eq!(who, address(&liar));
    assert!(amount >= least, "{amount} of {least}");
    let identity = query::identity(w.state(), Role::Validator, address(&liar)).unwrap();
    assert_eq!(identity.status, IdentityStatus::Suspended);
    assert!(identity.voting_power.is_zero());
}

#[test]
fn unbonding_stake_is_slashed_until_its_release() {
    let mut w = World::ready();
    w.post(1, dn(10), Amount::ZERO);
    w.blocks(1);
    let (liar, ..) = w.open_audits()[0].clone();
    let validator = address(&liar);
    let delegate = Payload::Stake { validator, amount: dn(100) };
    let Event::Staked { shares, .. } = w.ok("stranger", delegate)[1].clone() else { panic!("staked") };
    w.ok("stranger", Payload::Unbond { validator, shares });
    let waiting = query::account(w.state(), address("stranger")).unbonding[0].value;
    w.audit_all(|name, _| Some(if name == liar { MISMATCH } else { MATCH }));
    let left = query::account(w.state(), address("stranger")).unbonding[0].value;
    let nine_tenths = Amount::from_atto(waiting.atto() / 10 * 9);
    assert!(
        left <= nine_tenths.checked_add(Amount::from_atto(9)).unwrap()
            && left >= nine_tenths.checked_sub(Amount::from_atto(9)).unwrap(),
        "{left} of {waiting}"
    );
}

#[test]
fn a_receipt_that_nobody_can_get_is_not_paid() {
    let mut w = World::ready();
    w.post(1, dn(10), Amount::ZERO);
    let events = w.audit_all(|_, _| Some(UNAVAILABLE));
    assert!(matches!(settled(&events), Event::BatchVoided { .. }));
    let slash = events.iter().find_map(|e| match e {
        Event::Slashed { cause: SlashCause::Unavailable, role, amount, .. } => Some((*role, *amount)),
        _ => None,
    });
    assert_eq!(
        slash,
        Some((Role::Gateway, dn(1))),
        "1 % of the gateway's collateral, nothing of the worker's"
    );
    assert_eq!(CHANNELS.get(w.state(), &w.channel).unwrap().balance(), dn(100));
}

/// Who calls all validators because of a receipt that they get, and find right, pays for it out of the epoch's pay, once; not when it was worth it.
#[test]
fn a_false_alarm_costs_pay() {
    for (others, charge) in [(MATCH, 1), (MISMATCH, 0), (UNAVAILABLE, 0)] {
        let mut w = World::with(Params { epoch_blocks: 60, ..params() });
        w.prepare();
        w.post(1, dn(10), Amount::ZERO);
        w.blocks(1);
        let (accuser, ..) = w.open_audits()[0].clone();
        w.audit_all(|name, _| Some(if name == accuser { UNAVAILABLE } else { others }));
        let alarms = |(who, turns): (Address, Turns)| (who, turns.alarms);
        let counted: Vec<_> = TURNS.iter(w.state()).map(alarms).filter(|(_, alarms)| *alarms > 0).collect();
        let expected = (charge > 0).then(|| (address(&accuser), charge));
        assert_eq!(counted, Vec::from_iter(expected));
        let penalty = w.genesis.params.beacon.miss_penalty;
        let charged = |e: &Event| match e {
            Event::TurnsCharged { validator, missed, alarms, amount } => {
                assert_eq!((*missed, *alarms, *amount), (0, 1, penalty));
                Some(*validator)
            }
            _ => None,
        };
        let burned = POOLS.get_or_default(w.state(), &Pool::Burned);
        let events = w.blocks(59 - w.height() % 60);
        let charged: Vec<_> = events.iter().filter_map(charged).collect();
        assert_eq!(charged, Vec::from_iter(expected.map(|(who, _)| who)));
        let taken = POOLS.get_or_default(w.state(), &Pool::Burned).checked_sub(burned);
        assert_eq!(taken, Ok(if charge > 0 { penalty } else { Amount::ZERO }));
        assert_eq!(TURNS.iter(w.state()).count(), 0, "the next epoch begins without");
    }
}

/// A gateway can refuse one auditor alone: whoever says so is not wrong when the others got the receipt.
#[test]
fn who_got_no_receipt_is_not_misaligned() {
    for (others, result) in [(MATCH, AuditResult::Refuted), (MISMATCH, AuditResult::Fraud)] {
        let mut w = World::with(Params { epoch_blocks: 100, ..params() });
        w.prepare();
        let id = w.post(1, dn(10), Amount::ZERO);
        w.blocks(1);
        let (refused, ..) = w.open_audits()[0].clone();
        w.audit_all(|name, _| Some(if name == refused { UNAVAILABLE } else { others }));
        assert_eq!(AUDITS.get(w.state(), &(id, 0)).unwrap().result, Some(result));
        let mut expected = ValidatorEpoch::default();
        expected.timely(Weight::ONE);
        assert_eq!(VALIDATOR_EPOCHS.get(w.state(), &address(&refused)), Some(expected));
    }
}

#[test]
fn silent_auditors_are_replaced_once_and_then_counted_out() {
    let mut w = World::ready();
    let id = w.post(1, dn(10), Amount::ZERO);
    let events = w.audit_all(|_, _| None);
    let missed: Vec<_> = events
        .iter()
        .filter_map(|e| if let Event::AuditMissed { auditor, .. } = e { Some(*auditor) } else { None })
        .collect();
    assert_eq!(missed.len(), 2);
    assert_ne!(missed[0], missed[1], "somebody else is asked");
    assert_eq!(AUDITS.get(w.state(), &(id, 0)).unwrap().result, Some(AuditResult::NoAudit));
    assert!(matches!(settled(&events), Event::BatchSettled { .. }));
}

/// An auditor without the model says so: somebody else is asked, once, and it has neither kept nor missed anything.
#[test]
fn who_cannot_judge_is_replaced_and_has_missed_nothing() {
    for (second, result) in [(MATCH, AuditResult::Passed), (UNJUDGED, AuditResult::NoAudit)] {
        let mut w = World::with(Params { epoch_blocks: 100, ..params() });
        w.prepare();
        let id = w.post(1, dn(10), Amount::ZERO);
        w.blocks(1);
        let (first, ..) = w.open_audits()[0].clone();
        let events = w.audit_all(|name, _| Some(if name == first { UNJUDGED } else { second }));
        let audit = AUDITS.get(w.state(), &(id, 0)).unwrap();
        assert_eq!((audit.result, audit.redraws), (Some(result), 1));
        assert!(matches!(settled(&events), Event::BatchSettled { .. }));
        assert!(!events.iter().any(|e| matches!(e, Event::AuditMissed { .. })), "{events:?}");
        let asked: Vec<_> = AUDIT_TASKS.iter_from(w.state(), &id).map(|((_, _, who), _)| who).collect();
        assert_eq!(asked.len(), 2);
        for who in asked {
            let judged = second == MATCH && who != address(&first);
            assert_eq!(VALIDATOR_EPOCHS.get(w.state(), &who).is_some(), judged);
        }
    }
}

#[test]
fn in_a_vote_who_cannot_judge_has_not_voted() {
    let mut w = World::with(Params { epoch_blocks: 100, ..params() });
    w.prepare();
    let id = w.post(1, dn(10), Amount::ZERO);
    w.blocks(1);
    let (accuser, ..) = w.open_audits()[0].clone();
    let events = w.audit_all(|name, _| Some(if name == accuser { MISMATCH } else { UNJUDGED }));
    assert_eq!(AUDITS.get(w.state(), &(id, 0)).unwrap().result, Some(AuditResult::NoAudit));
    assert!(!events.iter().any(|e| matches!(e, Event::Slashed { .. } | Event::AuditMissed { .. })));
    for name in ["v1", "v2", "v3"] {
        assert_eq!(VALIDATOR_EPOCHS.get(w.state(), &address(name)).is_some(), name == accuser);
    }
}

/// Work counts by the part of its drawn audits that somebody did.
#[test]
fn what_nobody_audited_is_no_evidence() {
    let work = |unjudged: u32| {
        let mut w = World::with(Params { epoch_blocks: 100, ..params() });
        w.prepare();
        let id = w.post(4, dn(50), Amount::ZERO);
        w.audit_all(|_, index| Some(if index < unjudged { UNJUDGED } else { MATCH }));
        assert_eq!(BATCHES.get(w.state(), &id).unwrap().status, BatchStatus::Settled);
        let key = (0, 0, (address("worker"), address("owner")));
        let epoch = WORKER_EPOCHS.get(w.state(), &address("worker")).unwrap();
        let paid = MODEL_EPOCHS.get(w.state(), &(0, w.model)).unwrap().paid_work();
        (paid, EPOCH_WORK.get(w.state(), &key).unwrap().counted, epoch)
    };
    let (whole, counted, _) = work(0);
    let (half, half_counted, epoch) = work(2);
    assert!(whole > 0 && counted > 0);
    assert_eq!((half, half_counted), (whole / 2, counted / 2));
    let trust = params().trust;
    let mut expected = dn_trust::WorkerEpoch::default();
    expected.completed(Weight::of_work(&trust, whole / 2));
    expected.online();
    expected.audit_passed(Weight::of_work(&trust, whole / 2));
    assert_eq!(epoch, expected, "two of four receipts are proven right");
    let (none, none_counted, _) = work(4);
    assert_eq!((none, none_counted), (0, 0));
}

#[test]
fn a_dispute_without_half_of_the_weight_decides_nothing() {
    let mut w = World::ready();
    let id = w.post(1, dn(10), Amount::ZERO);
    w.blocks(1);
    let (accuser, ..) = w.open_audits()[0].clone();
    let events = w.audit_all(|name, _| (name == accuser).then_some(MISMATCH));
    assert!(matches!(settled(&events), Event::BatchSettled { .. }), "{events:?}");
    assert_eq!(AUDITS.get(w.state(), &(id, 0)).unwrap().result, Some(AuditResult::NoAudit));
    assert!(!events.iter().any(|e| matches!(e, Event::Slashed { .. })));
}

#[test]
fn commit_and_reveal_rules() {
    let mut w = World::ready();
    let id = w.post(1, dn(10), Amount::ZERO);
    w.blocks(1);
    let (auditor, ..) = w.open_audits()[0].clone();
    let verdict = World::verdict(&auditor, id, 0, MISMATCH);
    let other = ["v1", "v2", "v3"].into_iter().find(|n| *n != auditor).unwrap();
    let foreign = World::verdict(other, id, 0, MATCH);
    let not_assigned = |name: &str| Reject::NotAssigned { batch: id, index: 0, auditor: address(name) };
    let payload = |v| (World::commit_payload(v), World::reveal_payload(v));
    assert_eq!(w.reject_tx(&w.tx(other, payload(&foreign).0)), not_assigned(other));
    let none = World::verdict(&auditor, dn_core::BatchId([3; 32]), 0, MATCH);
    let tx = w.tx(&auditor, payload(&none).0);
    assert_eq!(w.reject_tx(&tx), Reject::UnknownBatch { batch: dn_core::BatchId([3; 32]) });
    assert_eq!(w.reject(&auditor, payload(&verdict).1), Reject::NotCommitted { batch: id, index: 0 });
    w.ok(&auditor, payload(&verdict).0);
    assert_eq!(w.reject(&auditor, payload(&verdict).0), Reject::AlreadyCommitted { batch: id, index: 0 });
    // Another verdict or salt than committed to.
    let changed = World::verdict(&auditor, id, 0, MATCH);
    assert!(matches!(w.reject(&auditor, payload(&changed).1), Reject::Commitment { .. }));
    let salt = Hash32([1; 32]);
    assert!(matches!(w.reject(&auditor, Payload::AuditReveal { verdict, salt }), Reject::Commitment { .. }));
    let sender = address(other);
    assert_eq!(
        w.reject(other, payload(&verdict).1),
        Reject::VerdictAuditor { auditor: address(&auditor), sender }
    );
    w.ok(&auditor, payload(&verdict).1);
    assert_eq!(w.reject(&auditor, payload(&verdict).1), Reject::AlreadyRevealed { batch: id, index: 0 });
    // The dispute: others commit, and nobody reveals while one may still commit.
    let open = w.open_audits();
    assert_eq!(open.len(), 2);
    let commit_deadline = AUDITS.get(w.state(), &(id, 0)).unwrap().commit_deadline;
    let first = open[0].0.clone();
    let theirs = World::verdict(&first, id, 0, MATCH);
    let tx = w.tx(&first, payload(&theirs).0);
    w.block(&[tx]);
    let height = w.height() + 1;
    assert_eq!(w.reject(&first, payload(&theirs).1), Reject::RevealTooEarly { commit_deadline, height });
    while w.height() < commit_deadline {
        w.block(&[]);
    }
    let late = World::verdict(&open[1].0, id, 0, MATCH);
    let tx = w.tx(&open[1].0, payload(&late).0);
    let height = w.height() + 1;
    assert_eq!(w.reject_tx(&tx), Reject::TooLate { deadline: commit_deadline, height });
    assert!(w.open_audits().iter().any(|(n, _, _, phase)| *n == first && *phase == AuditPhase::Reveal));
    w.ok(&first, payload(&theirs).1);
}

#[test]
fn an_involved_validator_never_audits() {
    let mut params = params();
    params.audit_rate = dn_trust::AuditParams { ceiling: 10_000, floor: 10_000 };
    let mut w = World::with(params);
    w.prepare();
    // v1 pays: it is excluded from every draw of the batch.
    let nonce = w.nonce("v1");
    w.channel = dn_ledger::tx::channel_id(address("v1"), address("gateway"), nonce);
    let (payee, spender) = (address("gateway"), address("spender"));
    w.ok("v1", Payload::OpenChannel { payee, deposit: dn(100), spender });
    w.post(40, dn(10), Amount::ZERO);
    w.blocks(1);
    let open = w.open_audits();
    assert_eq!(open.len(), 40);
    assert!(open.iter().all(|(name, ..)| name != "v1"));
    assert!(open.iter().any(|(name, ..)| name == "v2") && open.iter().any(|(name, ..)| name == "v3"));
}

#[test]
fn a_block_takes_batches_of_so_many_audits() {
    let mut params = params();
    params.audit_rate = dn_trust::AuditParams { ceiling: 5_000, floor: 5_000 };
    (params.audit_times.max_per_batch, params.max_batch_receipts) = (4_096, 6_000);
    let mut w = World::with(params);
    w.prepare();
    w.ok("worker2", offer(w.model));
    let post = |w: &World, name: &str, lane| {
        let body = w.root(name, vec![w.line(lane, 5_000, dn(10))]);
        let batch = Signed::sign(body, &common::key("gateway"));
        Payload::PostBatch { batch, vouchers: vec![w.voucher(lane, dn(10))] }
    };
    let txs = [w.tx("worker", post(&w, "worker", 0)), w.tx("worker2", post(&w, "worker2", 1))];
    let proposal = w.block(&txs);
    // One is always taken, however large; the other one has to wait.
    let refused: Vec<_> = proposal.rejected.iter().map(|(tx, reject)| (tx.tx.sender, reject)).collect();
    let busy = Reject::AuditsBusy { limit: 4_096, height: w.height(), held: 4_097, load: 4_097 };
    assert_eq!(refused, [(address("worker2"), &busy)]);
    assert_eq!(w.block(&txs[1..]).rejected, []);
}

/// An ended batch is forgotten after a time, with all that belongs to it; nobody posts it again or says anything about it.
#[test]
fn ended_batches_are_forgotten() {
    let mut params = params();
    params.governance.kept_epochs = 2;
    let kept = 2 * params.epoch_blocks;
    let mut w = World::with(params);
    w.prepare();
    let body = w.root("worker", vec![w.line(0, 3, dn(10))]);
    let batch = Signed::sign(body, &common::key("gateway"));
    let again = Payload::PostBatch { batch, vouchers: vec![w.voucher(0, dn(10))] };
    // One that is paid, and a later one that is thrown out.
    let mut ended = Vec::new();
    for (finds, claimed) in [(MATCH, dn(0)), (MISMATCH, dn(10))] {
        let id = w.post(3, dn(10), claimed);
        w.audit_all(|_, _| Some(finds));
        ended.push((id, w.height()));
    }
    for (n, (id, height)) in ended.iter().enumerate() {
        while w.height() < height + kept {
            w.blocks(1);
            assert!(query::batch(w.state(), *id).is_some_and(|batch| batch.audits.len() >= 3));
        }
        w.blocks(1);
        assert_eq!(query::batch(w.state(), *id), None);
        assert!(AUDITS.iter_from(w.state(), id).next().is_none());
        assert!(AUDIT_TASKS.iter_from(w.state(), id).next().is_none());
        assert_eq!(ENDED_BATCHES.iter(w.state()).count(), 1 - n);
        let all = PageRequest { limit: None, after: None };
        let listed = query::batches(w.state(), address("worker"), &all).unwrap();
        assert!(listed.items.len() == 1 - n && listed.next.is_none());
        let receipt = common::counting::receipt(&w, 0, false, 0);
        let body = Feedback {
            chain_id: CHAIN_ID,
            batch: *id,
            index: 0,
            receipt: receipt.id(),
            score: 90,
            tag: String::new(),
            uri_hash: Hash32::ZERO,
            signer: address("payer"),
            expires_ms: u64::MAX,
        };
        let feedback = Signed::sign(body, &common::key("payer"));
        let receipt = Signed::sign(receipt, &common::key("worker"));
        let proof = MerkleTree::new((0..3u32).map(|i| i.to_le_bytes())).prove(0).unwrap();
        let late = w.reject("payer", Payload::Feedback { feedback, receipt, proof });
        assert_eq!(late, Reject::UnknownBatch { batch: *id });
    }
    assert!(matches!(w.reject("worker", again), Reject::BatchSequence { expected: 2, found: 0 }));
}

/// The pool is divided by stake × trust: what a silent validator loses of its trust it loses of its pay, in full.
#[test]
fn validators_are_paid_by_stake_times_trust() {
    let mut w = World::ready();
    let params = w.genesis.params.clone();
    w.post(3, dn(10), Amount::ZERO);
    // Whoever is drawn in place of v2 answers.
    w.audit_all(|name, _| (name != "v2").then_some(MATCH));
    let (mut events, mut height) = (Vec::new(), w.height());
    while !events.iter().any(|e| matches!(e, Event::PoolRewarded { .. })) {
        assert!(w.height() < height + 2 * params.epoch_blocks, "nobody was paid");
        events = w.blocks(1);
    }
    height = w.height();
    let paid = |name: &str| {
        let amount = events.iter().find_map(|e| match e {
            Event::PoolRewarded { validator, amount } if *validator == address(name) => Some(*amount),
            _ => None,
        });
        let amount = amount.unwrap_or(Amount::ZERO).atto();
        let stake = STAKE_POOLS.get(w.state(), &address(name)).unwrap().tokens().atto() - amount;
        let trust = VALIDATOR_TRUST.get(w.state(), &address(name)).unwrap().weight(&params.trust);
        (amount as f64, stake as f64 * trust.value().bits() as f64)
    };
    let ((silent, less), (other, more)) = (paid("v2"), paid("v1"));
    assert!(less < more && silent < other, "at height {height}: {less} {more}");
    assert!((silent / other - less / more).abs() < 1e-9, "{} {}", silent / other, less / more);
}

/// 1,000 DN stand for a mean fee of 1,000 · 5 % · 20 % / (95 % · 65 %) = 16.19 DN: above, cheating would pay.
#[test]
fn a_workers_collateral_bounds_its_fees() {
    let mut params = params();
    params.audit_rate = dn_trust::AuditParams::default();
    let mut w = World::with(params);
    w.prepare();
    let each = w.genesis.params.max_mean_fee(dn(1_000), Amount::ZERO, 0).unwrap();
    assert_eq!(each.atto(), dn(1_000).atto() * 500 * 2_000 / (9_500 * 6_500));
    let post = |w: &World, receipts: u32, fees: Amount| {
        let body = w.root("worker", vec![w.line(0, receipts, fees)]);
        let vouchers = vec![w.voucher(0, fees)];
        Payload::PostBatch { batch: Signed::sign(body, &common::key("gateway")), vouchers }
    };
    let (worker, collateral, bond) = (address("worker"), dn(1_000), Amount::ZERO);
    for receipts in [1, 3] {
        let limit = each.checked_mul(receipts.into()).unwrap();
        let found = limit.checked_add(Amount::from_atto(1)).unwrap();
        let refused = w.reject("worker", post(&w, receipts, found));
        let open = 0;
        assert_eq!(refused, Reject::FeesOverBond { worker, receipts, collateral, bond, open, limit, found });
    }
    w.ok("worker", post(&w, 3, each.checked_mul(3).unwrap()));
    // With a batch open 1 % of the collateral is probably gone: 5 % of 20 %.
    let limit = w.genesis.params.max_mean_fee(dn(1_000), Amount::ZERO, 1).unwrap();
    assert_eq!(limit.atto() / 10u128.pow(14), each.atto() * 99 / 100 / 10u128.pow(14));
    let (receipts, open, found) = (1, 1, each);
    let post = |w: &World, fees: Amount| {
        let all = each.checked_mul(3).unwrap().checked_add(fees).unwrap();
        let body = BatchRoot { sequence: 1, ..w.root("worker", vec![w.line(0, 1, fees)]) };
        let vouchers = vec![w.voucher(0, all)];
        Payload::PostBatch { batch: Signed::sign(body, &common::key("gateway")), vouchers }
    };
    let refused = w.reject("worker", post(&w, found));
    assert_eq!(refused, Reject::FeesOverBond { worker, receipts, collateral, bond, open, limit, found });
    w.ok("worker", post(&w, limit));
    // Nothing is gained by cheating where everything is audited.
    let all =
        Params { audit_rate: dn_trust::AuditParams { ceiling: 10_000, floor: 10_000 }, ..w.genesis.params };
    assert_eq!(all.max_mean_fee(dn(1), Amount::ZERO, 9), None);
}

/// Vouchers are verified side by side; which of them is bad is said all the same.
#[test]
fn one_bad_voucher_among_many_is_named() {
    let mut params = params();
    params.audit_rate = dn_trust::AuditParams { ceiling: 500, floor: 500 };
    let mut w = World::with(params);
    w.prepare();
    let lanes = w.genesis.params.max_lanes.min(100);
    let lines: Vec<_> = (0..lanes).map(|lane| w.line(lane, 1, Amount::from_atto(10))).collect();
    let body = w.root("worker", lines);
    let mut vouchers: Vec<_> = (0..lanes).map(|lane| w.voucher(lane, Amount::from_atto(10))).collect();
    let payload = |vouchers: &[_]| Payload::PostBatch {
        batch: Signed::sign(body.clone(), &common::key("gateway")),
        vouchers: vouchers.to_vec(),
    };
    let good = vouchers[70].clone();
    vouchers[70] = Signed::sign(good.body.clone(), &common::key("stranger"));
    let expected = address("spender");
    let object = dn_ledger::reject::SignedObject::Voucher;
    assert_eq!(w.reject("worker", payload(&vouchers)), Reject::Signature { object, expected });
    vouchers[70] = good;
    w.ok("worker", payload(&vouchers));
}

/// Who audits what of a batch of 40, after these transactions between the post and the draw.
fn drawn_after(salt: u64, txs: &[(&'static str, Payload)]) -> Vec<(u32, Address)> {
    let mut params = Params { epoch_blocks: 64, ..params() };
    // A block's randomness is its proposer's, whatever is in the block.
    (params.beacon.required, params.beacon.delay_blocks) = (true, 3);
    let mut w = World::with(params);
    w.prepare();
    let id = w.post(40, dn(10).checked_add(Amount::from_atto(salt.into())).unwrap(), Amount::ZERO);
    let txs: Vec<_> = txs.iter().map(|(name, payload)| w.tx(name, payload.clone())).collect();
    assert_eq!(w.block(&txs).rejected, []);
    let assigned = |e: &Event| match e {
        Event::AuditAssigned { batch, index, auditor, .. } if *batch == id => Some((*index, *auditor)),
        _ => None,
    };
    let events = w.blocks(2);
    let drawn: Vec<_> = events.iter().filter_map(assigned).collect();
    assert_eq!(drawn.len(), 40, "the rate is one");
    drawn
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Whoever knows what will be drawn before others do cannot move it: not by stake that comes or goes, and by leaving only where it was
    /// drawn itself.
    #[test]
    fn nothing_after_the_post_moves_a_draw(
        salt in 0u64..1_000,
        stake in 1u64..4_000,
        part in 1u128..4,
        (one, other) in (0usize..3, 1usize..3),
        leaves in any::<bool>(),
    ) {
        let names = ["v1", "v2", "v3"];
        let (one, other) = (names[one], names[(one + other) % 3]);
        let before = drawn_after(salt, &[]);
        let shares = Shares(dn(10_000).atto() / part);
        let moved = drawn_after(salt, &[
            ("payer", Payload::Stake { validator: address(one), amount: dn(stake) }),
            if leaves {
                (other, Payload::Retire { role: Role::Validator })
            } else {
                (other, Payload::Unbond { validator: address(other), shares })
            },
        ]);
        for (was, is) in before.iter().zip(&moved) {
            prop_assert_eq!(was.0, is.0);
            if !leaves || was.1 != address(other) {
                prop_assert_eq!(was.1, is.1);
            } else {
                prop_assert_ne!(is.1, address(other));
            }
        }
    }
}
