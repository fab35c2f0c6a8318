//! Paying oneself never pays, however a domain and a model split fees and emission.

use dn_core::{Amount, ModelId};
use dn_ledger::Payload;
use dn_ledger::events::Event;
use dn_ledger::state::{POOLS, Pool};
use dn_ledger::tx::{DomainTerms, NewVersion};
use dn_powr::{DomainSplit, FeeMove};
use proptest::prelude::*;

use crate::common::{World, address, dn, offer, params};
use crate::{model_owner, plus, post, publish, version};

/// Shares that add up with the default foundation, burn and reinforcement, within the default bounds.
fn moves() -> impl Strategy<Value = FeeMove> {
    (500..=1_500u16, 0..=1_000u16, 500..=3_500u16).prop_filter_map(
        "out of bounds",
        |(validators, domain, owner)| {
            let worker = 9_700 - validators - domain - owner;
            (5_000..=8_500).contains(&worker).then_some(FeeMove { worker, owner, validators, domain })
        },
    )
}

/// Everything but the foundation's hundredth for workers, creators and the treasury: for oneself.
fn selfish() -> impl Strategy<Value = DomainSplit> {
    (0..=1_000u16, 0..=8_900u16).prop_map(|(treasury, creators)| DomainSplit {
        workers: 9_900 - treasury - creators,
        validators: 0,
        stakers: 0,
        creators,
        treasury,
        foundation: 100,
    })
}

/// Until no batch is open; everybody finds every receipt right.
fn settle_all(w: &mut World, batches: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.iter().filter(|e| matches!(e, Event::BatchSettled { .. })).count() < batches {
        events.extend(w.audit_all(|_, _| Some(dn_core::objects::AuditOutcome::Match {})));
    }
    events
}

fn worker_of(w: &mut World, name: &str, model: ModelId) {
    w.ok(name, offer(model));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 20, ..ProptestConfig::default() })]

    /// Two models in one domain, each with its own split, worker and owner, at the same fee: emission for each is in the proportion of
    /// what *its* fee lost, and no more than that; what a domain emits in all is no more than its fees lost.
    #[test]
    fn each_task_earns_at_most_what_its_own_split_loses(domain in moves(), a in moves(), b in moves(), split in selfish()) {
        let mut params = params();
        params.epoch_blocks = 40;
        let mut w = World::with(params);
        w.prepare();
        w.ok("stranger", model_owner());
        // The domain's split gives validators and treasury the least, so that both models may have theirs.
        let least = FeeMove {
            validators: domain.validators.min(a.validators).min(b.validators),
            domain: domain.domain.min(a.domain).min(b.domain),
            ..domain
        };
        let least = FeeMove { worker: 8_500.min(9_700 - 500 - least.validators - least.domain), ..least };
        let least = FeeMove { owner: 9_700 - least.worker - least.validators - least.domain, ..least };
        let terms = DomainTerms { emission: Some(split), fees: Some(least), ..DomainTerms::default() };
        w.ok("v3", Payload::CreateDomain { name: "own".into(), terms });
        let of = |tag, fees| NewVersion { domain: 1, fees: Some(fees), ..version(tag) };
        let models = [publish(&mut w, "owner", of(40, a)), publish(&mut w, "stranger", of(41, b))];
        worker_of(&mut w, "worker", models[0]);
        worker_of(&mut w, "worker2", models[1]);
        post(&mut w, "worker", models[0], 1, dn(10));
        post(&mut w, "worker2", models[1], 1, dn(10));
        let mut events = settle_all(&mut w, 2);
        while !events.iter().any(|e| matches!(e, Event::EpochClosed { emitted, .. } if !emitted.is_zero())) {
            events.extend(w.blocks(1));
        }
        let paid = |who: &str| events.iter().fold(Amount::ZERO, |sum, e| match e {
            Event::EmissionPaid { address: a, amount, .. } if *a == address(who) => plus(sum, *amount),
            _ => sum,
        });
        let lost = |fees: FeeMove| dn(10).mul_div(u128::from(fees.validators) + 200, 10_000).unwrap();
        let (one, two) = (plus(paid("worker"), paid("owner")), plus(paid("worker2"), paid("stranger")));
        prop_assert!(one <= lost(a) && two <= lost(b));
        // Both workers are newcomers with the same record: 10^-9 for rounding.
        let (left, right) = (one.atto() as f64 * lost(b).atto() as f64, two.atto() as f64 * lost(a).atto() as f64);
        prop_assert!((left - right).abs() <= 1e-9 * left.max(right), "{one} : {two} for {} : {}", lost(a), lost(b));
        let emitted = events.iter().fold(Amount::ZERO, |sum, e| match e {
            Event::EpochClosed { emitted, .. } => plus(sum, *emitted),
            _ => sum,
        });
        prop_assert!(emitted <= plus(lost(a), lost(b)));
    }

    /// One person is payer, spender, gateway, worker, model owner and domain owner: with all that comes back, treasury included, there is less
    /// than before.
    #[test]
    fn whoever_pays_himself_has_less_afterwards(fees in moves(), split in selfish(), amount in 1..90u64) {
        let mut params = params();
        // So dear that the fee, not the work, is what counts: the bound at its edge.
        params.emission.reference_price = dn(1_000_000);
        let mut w = World::with(params);
        w.prepare();
        let terms = DomainTerms { emission: Some(split), fees: Some(fees), ..DomainTerms::default() };
        w.ok("owner", Payload::CreateDomain { name: "own".into(), terms });
        let model = publish(&mut w, "owner", NewVersion { domain: 1, ..version(40) });
        worker_of(&mut w, "worker", model);
        let held = |w: &World| {
            let own = ["payer", "gateway", "worker", "owner"].map(|name| w.balance(name));
            let channel = dn_ledger::state::CHANNELS.get(w.state(), &w.channel).unwrap().balance();
            let treasury = POOLS.get_or_default(w.state(), &Pool::Domain { domain: 1 });
            Amount::sum(own.into_iter().chain([channel, treasury])).unwrap()
        };
        let before = held(&w);
        post(&mut w, "worker", model, 1, dn(amount));
        let fee = w.genesis.params.min_tx_fee;
        settle_all(&mut w, 1);
        w.blocks(w.genesis.params.epoch_blocks);
        let after = plus(held(&w), fee);
        prop_assert!(after < before, "{before} became {after}");
        // What is not back is the fee lost, and what reinforces the pool, less what was emitted: at most the fee lost.
        let lost = dn(amount).mul_div(u128::from(fees.validators) + 200, 10_000).unwrap();
        let reinforced = dn(amount).mul_div(100, 10_000).unwrap();
        let closed = |e| match e {
            Event::EpochClosed { emitted, work, .. } if !emitted.is_zero() => Some((emitted, work)),
            _ => None,
        };
        let (emitted, work) = w.all_events().into_iter().find_map(closed).unwrap();
        prop_assert!(emitted <= lost);
        // Exactly the fee lost, times the trust that the score says: at full trust no more than it.
        let counted = dn(amount).atto() / dn(1_000_000).atto().div_ceil(1_000_000_000_000);
        let (left, right) = (emitted.atto() as f64 * counted as f64, lost.atto() as f64 * work.parse::<f64>().unwrap());
        prop_assert!((left - right).abs() <= 1e-4 * right, "{emitted} emitted for {work} of {counted}, {lost} lost");
        let cost = before.checked_sub(after).unwrap();
        prop_assert!(plus(cost, emitted) >= plus(lost, reinforced), "{cost}, {emitted} emitted, {lost} lost");
    }
}
