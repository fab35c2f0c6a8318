use dn_core::{Amount, ModelId};
use dn_ledger::events::Event;
use dn_ledger::reject::{RegistryReject, Reject};
use dn_ledger::state::{BACKING_POOLS, BACKING_SHARES};
use dn_ledger::tx::{BackingTerms, NewVersion, Parent, Shares};
use dn_ledger::{Payload, query, supply};
use proptest::prelude::*;

use crate::common::{World, address, dn, offer, params};
use crate::{bps, earn, gained, plus, publish, refused, unpublished, version};

fn backed(tag: u8, share_bps: u16, cap: Amount) -> NewVersion {
    NewVersion { backing: Some(BackingTerms { share_bps, cap }), ..version(tag) }
}

/// A world in which "worker" offers a model of "owner" whose backers get 40 % of the owner's income.
fn with_backing(cap: Amount) -> (World, ModelId) {
    let mut params = params();
    params.registry.unbacking_epochs = 2;
    let mut w = World::with(params);
    w.prepare();
    let family = publish(&mut w, "owner", backed(30, 4_000, cap));
    w.ok("worker", offer(family));
    (w, family)
}

fn held(w: &World, name: &str, family: ModelId) -> Shares {
    BACKING_SHARES.get_or_default(w.state(), &(address(name), family))
}

fn worth(w: &World, name: &str, family: ModelId) -> Amount {
    BACKING_POOLS.get_or_default(w.state(), &family).value_of(held(w, name, family).0)
}

#[test]
fn backing_is_locked_earns_and_comes_back() {
    let (mut w, family) = with_backing(dn(100));
    // Without backers the owner has all of it.
    let before = w.balance("owner");
    earn(&mut w, family, 0, dn(5));
    assert!(gained(before, w.balance("owner")) >= dn(1));
    let back = |amount| Payload::BackModel { family, amount };
    let (minimum, cap) = (w.genesis.params.registry.min_backing, dn(100));
    let found = minimum.checked_sub(Amount::from_atto(1)).unwrap();
    assert_eq!(w.reject("payer", back(found)), Reject::AmountTooSmall { minimum, found });
    let plain = w.model;
    let none = Payload::BackModel { family: plain, amount: dn(1) };
    assert_eq!(refused(&w, "payer", none), RegistryReject::NoBacking { family: plain });
    let unknown = ModelId([3; 32]);
    let lost = Payload::BackModel { family: unknown, amount: dn(1) };
    assert_eq!(w.reject("payer", lost), Reject::UnknownModel { model: unknown });
    let full = |held, amount| RegistryReject::BackingFull { cap, held, amount };
    assert_eq!(refused(&w, "payer", back(dn(101))), full(Amount::ZERO, dn(101)));
    w.ok("payer", back(dn(30)));
    w.ok("stranger", back(dn(10)));
    // Whoever comes later cannot dilute those before without bound.
    assert_eq!(refused(&w, "faucet", back(dn(61))), full(dn(40), dn(61)));
    assert_eq!(supply::supply(w.state()).backing, dn(40));

    // 2 DN for the owner, 40 % of it to the backers, 3 : 1.
    let events = earn(&mut w, family, 0, dn(10));
    let part = bps(dn(2), 4_000);
    assert!(events.contains(&Event::BackersRewarded { family, model: family, amount: part }));
    assert_eq!(worth(&w, "payer", family), plus(dn(30), bps(part, 7_500)));
    assert_eq!(worth(&w, "stranger", family), plus(dn(10), bps(part, 2_500)));
    let view = query::backing(w.state(), address("payer"));
    assert_eq!(view.backing[0].value, plus(dn(30), bps(part, 7_500)));
    let shown = query::family(w.state(), family).unwrap();
    assert_eq!((shown.backed, shown.backing.unwrap().share_bps), (plus(dn(40), part), 4_000));

    let unback = |shares| Payload::Unback { family, shares };
    let available = held(&w, "payer", family);
    let needed = Shares(available.0 + 1);
    let short = |needed| RegistryReject::BackingShares { family, available, needed };
    assert_eq!(refused(&w, "payer", unback(needed)), short(needed));
    assert_eq!(refused(&w, "payer", unback(Shares(0))), short(Shares(0)));
    // Little left behind would make shares coarse.
    let most = Shares(available.0 - 10);
    let rest = refused(&w, "payer", unback(most));
    assert!(matches!(rest, RegistryReject::BackingRest { rest, .. } if rest < minimum), "{rest:?}");
    let lost = Payload::Unback { family: unknown, shares: Shares(1) };
    assert_eq!(w.reject("payer", lost), Reject::UnknownModel { model: unknown });
    let value = worth(&w, "payer", family);
    let release_epoch = w.chain.next_context(0).epoch() + 2;
    let events = w.ok("payer", unback(available));
    let (backer, shares, amount) = (address("payer"), available, value);
    assert!(events.contains(&Event::Unbacked { backer, family, shares, amount, release_epoch }));
    assert_eq!(query::backing(w.state(), backer).releases[0].amount, value);
    // What is on its way back neither earns nor can be taken yet.
    let next = Reject::NothingToWithdraw { next_release_epoch: Some(release_epoch) };
    assert_eq!(w.reject("payer", Payload::Withdraw {}), next);
    earn(&mut w, family, 0, dn(10));
    assert_eq!(worth(&w, "stranger", family), plus(plus(dn(10), bps(part, 2_500)), part));
    while w.chain.next_context(0).epoch() < release_epoch {
        w.block(&[]);
    }
    let before = w.balance("payer");
    let events = w.ok("payer", Payload::Withdraw {});
    assert!(events.contains(&Event::Withdrawn { address: backer, amount: value }));
    let fee = w.genesis.params.min_tx_fee;
    assert_eq!(w.balance("payer"), plus(before, value).checked_sub(fee).unwrap());
    let next = Reject::NothingToWithdraw { next_release_epoch: None };
    assert_eq!(w.reject("payer", Payload::Withdraw {}), next);
    // The last one takes everything, and a pool can start again.
    w.ok("stranger", unback(held(&w, "stranger", family)));
    assert!(!BACKING_POOLS.contains(w.state(), &family));
    w.ok("payer", back(dn(1)));
    assert_eq!(worth(&w, "payer", family), dn(1));
}

#[test]
fn terms_are_bounded_and_hold_for_royalties_and_later_versions() {
    let (mut w, root) = with_backing(dn(100));
    let max = w.genesis.params.registry.max_backers_bps;
    let bounds = |found| {
        let share = "backers".to_owned();
        Reject::Registry(RegistryReject::ShareBounds { share, found, min: 1, max })
    };
    assert_eq!(unpublished(&w, "owner", backed(31, max + 1, dn(5))), bounds(max + 1));
    assert_eq!(unpublished(&w, "owner", backed(31, 0, dn(5))), bounds(0));
    let minimum = w.genesis.params.registry.min_backing;
    let found = Amount::ZERO;
    assert_eq!(unpublished(&w, "owner", backed(31, 5, found)), Reject::AmountTooSmall { minimum, found });
    w.ok("payer", Payload::BackModel { family: root, amount: dn(10) });
    // A derived model's royalty is income of the root: its backers have their part of it.
    w.ok("stranger", crate::model_owner());
    let parents = vec![Parent { model: root, share_bps: 1_000 }];
    let child = publish(&mut w, "stranger", NewVersion { parents, ..version(32) });
    w.ok("worker", offer(child));
    let events = earn(&mut w, child, 0, dn(10));
    let part = bps(bps(dn(2), 1_000), 4_000);
    assert!(events.contains(&Event::BackersRewarded { family: root, model: root, amount: part }));
    // A later version of the family as well; its owner cannot leave the backers behind with an update.
    let next = publish(&mut w, "owner", NewVersion { family: Some(root), ..version(33) });
    w.ok("worker", offer(next));
    let events = earn(&mut w, next, 0, dn(10));
    let part = bps(dn(2), 4_000);
    assert!(events.contains(&Event::BackersRewarded { family: root, model: next, amount: part }));
}

/// What somebody does with a pool.
#[derive(Debug, Clone, Copy)]
enum Act {
    Back { who: usize, dn: u64 },
    Unback { who: usize, part: u128 },
    Earn { dn: u64 },
}

const BACKERS: [&str; 4] = ["payer", "stranger", "v1", "v2"];

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..4usize, 1..40u64).prop_map(|(who, dn)| Act::Back { who, dn }),
        2 => (0..4usize, 1..=4u128).prop_map(|(who, part)| Act::Unback { who, part }),
        2 => (1..6u64).prop_map(|dn| Act::Earn { dn }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 50, ..ProptestConfig::default() })]

    /// The pool against a model that keeps what each backer has and divides each income among them, one by one.
    #[test]
    fn a_pool_pays_as_if_it_counted_every_backer(plan in prop::collection::vec(acts(), 1..16)) {
        let (mut w, family) = with_backing(dn(10_000));
        let mut naive = [0f64; 4];
        for act in plan {
            match act {
                Act::Back { who, dn: amount } => {
                    w.ok(BACKERS[who], Payload::BackModel { family, amount: dn(amount) });
                    naive[who] += amount as f64;
                }
                Act::Unback { who, part } => {
                    let all = held(&w, BACKERS[who], family);
                    let shares = Shares(all.0 / part);
                    let left = naive[who] * (1.0 - shares.0 as f64 / all.0.max(1) as f64);
                    let payload = Payload::Unback { family, shares };
                    if shares.0 == 0 || (part > 1 && left < 1.000_001) {
                        continue;
                    }
                    w.ok(BACKERS[who], payload);
                    naive[who] = if part == 1 { 0.0 } else { left };
                }
                Act::Earn { dn: fees } => {
                    let all: f64 = naive.iter().sum();
                    earn(&mut w, family, 0, dn(fees));
                    if all > 0.0 {
                        let part = fees as f64 * 0.2 * 0.4;
                        naive = naive.map(|has| has + part * has / all);
                    }
                }
            }
            let mut sum = Amount::ZERO;
            for (name, has) in BACKERS.iter().zip(naive) {
                let value = worth(&w, name, family);
                sum = plus(sum, value);
                let found = value.atto() as f64 / 1e18;
                prop_assert!((found - has).abs() <= 1e-9 * has.max(1.0), "{name}: {found} against {has}");
            }
            // Shares never claim more than there is, and rounding leaves less than an atto each.
            let pool = BACKING_POOLS.get_or_default(w.state(), &family).tokens();
            prop_assert!(sum <= pool && pool.atto() - sum.atto() < 4);
        }
    }
}
