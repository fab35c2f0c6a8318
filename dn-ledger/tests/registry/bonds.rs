//! The bond of a job: held as long as its batch is open, given back once whatever ends it, and taken for a proven fraud alone.

use dn_core::merkle::MerkleTree;
use dn_core::objects::{AuditOutcome, Price, Receipt};
use dn_core::{Address, Amount, BatchId, Canonical, ChannelId, Signed};
use dn_ledger::bytes::Bytes;
use dn_ledger::events::{Event, SlashCause};
use dn_ledger::params::DisputeParams;
use dn_ledger::reject::{RegistryReject, Reject};
use dn_ledger::state::{
    AUDITS, AuditPhase, BATCHES, BatchStatus, DISPUTES, IDENTITIES, JOB_CLAIMS, JOBS, POOLS, Pool,
};
use dn_ledger::tx::{Ground, MAX_BOND_TIMES, NewJob};
use dn_ledger::{Params, Payload, RefereeHandle, Role, query, supply};

use super::jobs::{claim_with, lock, new_job, receipt};
use crate::common::counting::{Counting, RULES};
use crate::common::{World, address, dn, key, params, price};
use crate::{gained, plus};

/// A bond that no share divides evenly.
const BOND: Amount = Amount::from_atto(30_000_000_000_000_000_001);

/// What became of bonds: of which batch, taken, returned.
fn released(events: &[Event]) -> Vec<(BatchId, Amount, Amount)> {
    let release = |event: &Event| match event {
        Event::JobBondReleased { batch, worker, taken, returned } => {
            assert_eq!(*worker, address("worker"));
            Some((*batch, *taken, *returned))
        }
        _ => None,
    };
    events.iter().filter_map(release).collect()
}

/// Who was slashed: role, cause, amount, reward and what was burned.
fn slashed(events: &[Event]) -> Vec<(Role, SlashCause, [Amount; 3])> {
    let slash = |event: &Event| match event {
        Event::Slashed { role, cause, amount, reward, burned, .. } => {
            Some((*role, *cause, [*amount, *reward, *burned]))
        }
        _ => None,
    };
    events.iter().filter_map(slash).collect()
}

/// A world without what else burns DN, and a claimed job with a bond; the worker's balance before and after the claim.
fn claimed(change: impl Fn(&mut Params)) -> (World, BatchId, [Amount; 2]) {
    let mut params = params();
    params.beacon.miss_penalty = Amount::ZERO;
    change(&mut params);
    let mut w = World::with(params);
    w.chain = w.chain.clone().with_referee(RefereeHandle::new(Counting));
    w.prepare();
    let escrow = lock(&mut w, |job| job.bond = BOND);
    let before = w.balance("worker");
    let receipt = receipt(&w, "worker", escrow);
    let (batch, payload) = claim_with(&w, "worker", receipt, false);
    w.ok("worker", payload);
    let after = w.balance("worker");
    (w, batch, [before, after])
}

/// The bond left the worker's balance with the claim, and its batch holds none any more.
fn is_over(w: &World, batch: BatchId, status: BatchStatus) {
    let record = BATCHES.get(w.state(), &batch).unwrap();
    assert_eq!((record.status, record.bond, record.escrow), (status, Amount::ZERO, Amount::ZERO));
    assert_eq!(query::batch(w.state(), batch).unwrap().bond, Amount::ZERO);
    supply::check_all(w.state()).unwrap();
}

#[test]
fn a_bond_is_held_until_the_batch_is_settled() {
    let mut params = params();
    params.governance.kept_epochs = 1;
    let mut w = World::with(params);
    w.prepare();
    let escrow = lock(&mut w, |job| (job.worker, job.bond) = (Some(address("worker")), BOND));
    assert_eq!(query::job(w.state(), escrow).unwrap().bond, BOND);
    assert_eq!(supply::supply(w.state()).jobs, dn(1), "nobody put it up yet");
    let before = w.balance("worker");
    let (batch, payload) = claim_with(&w, "worker", receipt(&w, "worker", escrow), false);
    let events = w.ok("worker", payload);
    assert!(events.iter().any(|e| matches!(e, Event::JobClaimed { bond: BOND, .. })));
    let (fee, cost) = (price().fee(20, 50).unwrap(), w.genesis.params.min_tx_fee);
    assert_eq!(gained(w.balance("worker"), before), plus(BOND, cost));
    let held = |w: &World| {
        let record = BATCHES.get(w.state(), &batch).unwrap();
        assert_eq!((record.bond, record.escrow), (BOND, fee));
        assert_eq!(query::batch(w.state(), batch).unwrap().bond, BOND);
        assert_eq!(supply::supply(w.state()).batches, plus(fee, BOND));
        let balances = query::balances(w.state(), w.height()).batches;
        assert_eq!(
            balances.iter().map(|b| (b.batch, b.amount)).collect::<Vec<_>>(),
            [(batch, plus(fee, BOND))]
        );
        supply::check_all(w.state()).unwrap();
    };
    held(&w);
    // The claim is forgotten when the audit is drawn; the bond is not.
    w.blocks(1);
    assert!(!JOB_CLAIMS.contains(w.state(), &batch));
    held(&w);
    let events = w.audit_all(|_, _| Some(AuditOutcome::Match {}));
    assert_eq!(released(&events), [(batch, Amount::ZERO, BOND)]);
    let paid = events.iter().find_map(|event| match event {
        Event::BatchSettled { to_worker, .. } => Some(*to_worker),
        _ => None,
    });
    let balance = w.balance("worker");
    assert_eq!(plus(balance, cost), plus(before, paid.unwrap()), "whole, and the work is paid");
    is_over(&w, batch, BatchStatus::Settled);
    // Nothing more comes of it, not even when the batch is forgotten.
    let kept = w.genesis.params.governance.kept_epochs * w.genesis.params.epoch_blocks;
    let events = w.blocks(kept + 2);
    assert!(released(&events).is_empty() && !BATCHES.contains(w.state(), &batch));
    supply::check_all(w.state()).unwrap();
}

/// Fraud: the named part of bond and collateral, rounded up; a quarter of both together to the reporter, the rest burned.
#[test]
fn fraud_takes_the_bond() {
    for bps in [10_000u16, 3_333, 0] {
        let (mut w, batch, [_, after]) = claimed(|params| params.slash.fraud_bond = bps);
        let burned = POOLS.get_or_default(w.state(), &Pool::Burned);
        let collateral =
            |w: &World| IDENTITIES.get(w.state(), &(Role::Worker, address("worker"))).unwrap().collateral;
        assert_eq!(collateral(&w), dn(1_000));
        let events = w.audit_all(|_, _| Some(AuditOutcome::Mismatch { position: 1 }));
        let of_bond = Amount::from_atto((BOND.atto() * u128::from(bps)).div_ceil(10_000));
        let returned = BOND.checked_sub(of_bond).unwrap();
        assert_eq!(released(&events), [(batch, of_bond, returned)]);
        let taken = plus(of_bond, dn(200));
        let reward = Amount::from_atto(taken.atto() / 4);
        let rest = taken.checked_sub(reward).unwrap();
        assert_eq!(slashed(&events), [(Role::Worker, SlashCause::Fraud, [taken, reward, rest])]);
        assert_eq!(collateral(&w), dn(800));
        assert_eq!(gained(burned, POOLS.get_or_default(w.state(), &Pool::Burned)), rest);
        assert_eq!(gained(after, w.balance("worker")), returned);
        is_over(&w, batch, BatchStatus::Voided);
    }
}

/// What the reporter has: nobody else's account changes by the reward.
#[test]
fn the_reporter_has_a_quarter() {
    let (mut w, ..) = claimed(|_| {});
    w.blocks(1);
    let (accuser, batch, index, _) = w.open_audits().remove(0);
    let verdict = World::verdict(&accuser, batch, index, AuditOutcome::Mismatch { position: 1 });
    w.ok(&accuser, World::commit_payload(&verdict));
    w.ok(&accuser, World::reveal_payload(&verdict));
    let before = w.balance(&accuser);
    let others = |name: &str, _: u32| (name != accuser).then_some(AuditOutcome::Mismatch { position: 1 });
    w.audit_all(others);
    let taken = plus(BOND, dn(200));
    assert_eq!(gained(before, w.balance(&accuser)).atto(), taken.atto() / 4);
}

/// A receipt that was not handed over is the gateway's fault.
#[test]
fn a_job_that_is_not_opened_costs_the_worker_no_bond() {
    let (mut w, batch, [_, after]) = claimed(|_| {});
    let events = w.audit_all(|_, _| Some(AuditOutcome::Unavailable {}));
    assert_eq!(released(&events), [(batch, Amount::ZERO, BOND)]);
    assert_eq!(gained(after, w.balance("worker")), BOND);
    // 1 % of 100 DN, as without a bond.
    let reward = Amount::from_atto(dn(1).atto() / 4);
    let parts = [dn(1), reward, dn(1).checked_sub(reward).unwrap()];
    assert_eq!(slashed(&events), [(Role::Gateway, SlashCause::Unavailable, parts)]);
    is_over(&w, batch, BatchStatus::Voided);
}

/// A job that its auditor calls wrong, where a referee judges what a tile shows.
fn accused(wrong: bool) -> (World, BatchId, Signed<Receipt>, String, Amount) {
    let mut params = params();
    params.unbonding_epochs = 21;
    params.dispute =
        DisputeParams { referee: RULES, open_blocks: 8, clock_blocks: 64, max_moves_per_block: 8 };
    let mut w = World::with(params);
    w.chain = w.chain.clone().with_referee(RefereeHandle::new(Counting));
    w.prepare();
    let escrow = lock(&mut w, |job| job.bond = BOND);
    let mut receipt = receipt(&w, "worker", escrow);
    (receipt.trace_root.0[0], receipt.trace_root.0[1]) = (u8::from(wrong), 1);
    let (batch, payload) = claim_with(&w, "worker", receipt.clone(), false);
    w.ok("worker", payload);
    let after = w.balance("worker");
    w.blocks(1);
    let (accuser, _, index, phase) = w.open_audits().remove(0);
    assert_eq!((index, phase), (0, AuditPhase::Commit));
    let verdict = World::verdict(&accuser, batch, 0, AuditOutcome::Mismatch { position: 7 });
    w.ok(&accuser, World::commit_payload(&verdict));
    w.ok(&accuser, World::reveal_payload(&verdict));
    (w, batch, Signed::sign(receipt, &key("worker")), accuser, after)
}

fn opening(batch: BatchId, receipt: &Signed<Receipt>, ground: Ground) -> Payload {
    let proof = MerkleTree::new([receipt.to_bytes()]).prove(0).unwrap();
    Payload::DisputeOpen { batch, index: 0, receipt: receipt.clone(), proof, ground }
}

/// What a majority upholds and no tile shows is no proven fraud.
#[test]
fn what_is_only_voted_costs_no_bond() {
    let (mut w, batch, receipt, accuser, after) = accused(false);
    w.ok(&accuser, opening(batch, &receipt, Ground::Rest));
    let events = w.audit_all(|_, _| Some(AuditOutcome::Mismatch { position: 7 }));
    assert_eq!(released(&events), [(batch, Amount::ZERO, BOND)]);
    assert_eq!((slashed(&events), gained(after, w.balance("worker"))), (vec![], BOND));
    is_over(&w, batch, BatchStatus::Voided);
}

/// A dispute that the worker loses costs it the bond, one that it wins does not.
#[test]
fn a_dispute_decides_about_the_bond() {
    for wrong in [true, false] {
        let (mut w, batch, receipt, accuser, after) = accused(wrong);
        let (index, answer, pick) = (0, Bytes(vec![0]), Bytes(vec![1]));
        let mut events = w.ok(&accuser, opening(batch, &receipt, Ground::Computation));
        events.extend(w.ok("worker", Payload::DisputeAnswer { batch, index, step: 0, bytes: answer }));
        events.extend(w.ok(&accuser, Payload::DisputePick { batch, index, step: 1, bytes: pick }));
        assert!(DISPUTES.get(w.state(), &(batch, 0)).unwrap().ending.is_some());
        while !matches!(
            BATCHES.get(w.state(), &batch).unwrap().status,
            BatchStatus::Settled | BatchStatus::Voided
        ) {
            events.extend(w.blocks(1));
        }
        assert!(AUDITS.get(w.state(), &(batch, 0)).unwrap().result.is_some());
        let cost = w.genesis.params.min_tx_fee;
        if wrong {
            assert_eq!(released(&events), [(batch, BOND, Amount::ZERO)]);
            assert_eq!(slashed(&events)[0].2[0], plus(BOND, dn(200)));
            assert_eq!(plus(w.balance("worker"), cost), after, "an answer's fee and no more");
        } else {
            assert_eq!(released(&events), [(batch, Amount::ZERO, BOND)]);
            assert!(w.balance("worker") > plus(after, BOND).checked_sub(cost).unwrap(), "and paid");
        }
        is_over(&w, batch, if wrong { BatchStatus::Voided } else { BatchStatus::Settled });
    }
}

#[test]
fn a_bond_is_put_up_whole_or_not_at_all() {
    let mut w = World::ready();
    // The worker is the payer too: what the job costs less is no part of what it puts up.
    let own = NewJob { bond: dn(7), amount: dn(5), ..new_job(&w) };
    let own_escrow = dn_ledger::tx::escrow_id(address("worker"), own.gateway, w.nonce("worker"));
    w.ok("worker", Payload::LockJob { job: own });
    let escrow = lock(&mut w, |job| job.bond = dn(7));
    let cost = w.genesis.params.min_tx_fee;
    let account = address("worker");
    let leave = |w: &mut World, rest: Amount| {
        let amount = w.balance("worker").checked_sub(plus(rest, cost)).unwrap();
        w.ok("worker", Payload::Transfer { to: address("owner"), amount });
        assert_eq!(w.balance("worker"), rest);
    };
    let one = Amount::from_atto(1);
    let short = dn(7).checked_sub(one).unwrap();
    leave(&mut w, plus(short, plus(cost, cost)));
    w.ok("worker", Payload::Unoffer { model: w.model });
    let claim_of = |w: &World, escrow: ChannelId, payer: Address| {
        let receipt = Receipt { payer, ..receipt(w, "worker", escrow) };
        claim_with(w, "worker", receipt, false)
    };
    let underfunded = Reject::Insufficient { account, available: short, needed: dn(7) };
    for (escrow, payer) in [(own_escrow, account), (escrow, address("payer"))] {
        let (batch, payload) = claim_of(&w, escrow, payer);
        assert_eq!(w.reject("worker", payload), underfunded);
        assert!(JOBS.contains(w.state(), &escrow) && !BATCHES.contains(w.state(), &batch));
    }
    w.ok("payer", Payload::Transfer { to: account, amount: one });
    let (batch, payload) = claim_of(&w, escrow, address("payer"));
    w.ok("worker", payload);
    assert_eq!(w.balance("worker"), Amount::ZERO);
    assert_eq!(BATCHES.get(w.state(), &batch).unwrap().bond, dn(7));
}

#[test]
fn a_bond_is_bounded_by_what_is_locked() {
    let w = World::ready();
    let limit = Amount::from_atto(dn(1).atto() * MAX_BOND_TIMES);
    assert_eq!((limit, new_job(&w).amount), (dn(100), dn(1)));
    let with = |bond| Payload::LockJob { job: NewJob { bond, ..new_job(&w) } };
    let found = plus(limit, Amount::from_atto(1));
    let refused = w.reject("payer", with(found));
    assert_eq!(refused, RegistryReject::JobBond { limit, found }.into());
    let whole = Amount::from_atto(u128::MAX);
    let job = NewJob { bond: whole, amount: whole, ..new_job(&w) };
    assert!(matches!(w.reject("payer", Payload::LockJob { job }), Reject::Insufficient { .. }));
    let payload = with(limit);
    let mut w = w;
    w.ok("payer", payload);
}

/// (1,000 DN · 20 % + 100 DN · 100 %) · 5 % / (95 % · 65 %) = 24.29 DN: a bond lets a payer hire a worker for more than the 16.19 DN that
/// its collateral alone stands for.
#[test]
fn a_bond_stands_for_a_larger_job() {
    let mut params = params();
    params.audit_rate = dn_trust::AuditParams::default();
    let mut w = World::with(params);
    w.prepare();
    let (worker, collateral, receipts) = (address("worker"), dn(1_000), 1);
    let most = |bond| w.genesis.params.max_mean_fee(collateral, bond, 0).unwrap();
    let bond = dn(100);
    let stands_for = (dn(1_000).atto() * 2_000 + dn(100).atto() * 10_000) * 500 / (9_500 * 6_500);
    assert_eq!((most(bond).atto(), stands_for / 10_u128.pow(16)), (stands_for, 2_429));
    assert_eq!(most(Amount::ZERO).atto() / 10_u128.pow(16), 1_619);
    let dear = Price { output_token: dn(1), ..price() };
    let over = plus(most(bond), Amount::from_atto(1));
    let named = |w: &World, bond, amount| {
        let job = NewJob { worker: Some(worker), price: dear, bond, amount, ..new_job(w) };
        Payload::LockJob { job }
    };
    let open = 0;
    for (bond, found) in [(bond, over), (Amount::ZERO, dn(20))] {
        let limit = w.genesis.params.max_mean_fee(collateral, bond, open).unwrap();
        let expected = Reject::FeesOverBond { worker, receipts, collateral, bond, open, limit, found };
        assert_eq!(w.reject("payer", named(&w, bond, found)), expected);
    }
    let limit = w.genesis.params.max_mean_fee(collateral, bond, open).unwrap();
    let payload = named(&w, bond, limit);
    w.ok("payer", payload);
    // Nobody is named, so the claim is where it is known who stands for the fee.
    let cases = [(bond, limit, true), (bond, over, false), (Amount::ZERO, dn(20), false)];
    for (open, (bond, fee, fits)) in [0, 1, 1].into_iter().zip(cases) {
        let escrow = lock(&mut w, |job| (job.price, job.amount, job.bond) = (dear, dn(50), bond));
        let receipt = Receipt { price: dear, fee, ..receipt(&w, "worker", escrow) };
        let (_, payload) = claim_with(&w, "worker", receipt, true);
        if fits {
            w.ok("worker", payload);
        } else {
            let limit = w.genesis.params.max_mean_fee(collateral, bond, open).unwrap();
            let expected =
                Reject::FeesOverBond { worker, receipts, collateral, bond, open, limit, found: fee };
            assert_eq!(w.reject("worker", payload), expected);
        }
    }
}
