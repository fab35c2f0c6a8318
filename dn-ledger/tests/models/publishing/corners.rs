//! Limits and last blocks of the registry that chance seldom meets.

use dn_core::objects::Price;
use dn_core::{Amount, Hash32};
use dn_ledger::state::Pool;
use dn_ledger::tx::{FeeMove, NewVersion, Parent};
use dn_ledger::{Payload, Role};

use super::publishing::{Both, address_of, version};
use super::publishing_offers::terms;
use super::publishing_requests::Op;
use crate::common::dn;

fn publish(both: &mut Both, who: &str, version: NewVersion) -> bool {
    both.send(who, Payload::PublishVersion { version })
}

/// Without royalties nobody is paid, but generations count.
#[test]
fn lineage_has_eight_generations() {
    let mut both = Both::new(0);
    for tag in 10..20u8 {
        let parents = vec![Parent { model: both.ids[usize::from(tag) - 1], share_bps: 0 }];
        let parents = if tag == 10 { vec![] } else { parents };
        publish(&mut both, "owner", NewVersion { parents, ..version(tag) });
    }
    assert_eq!(both.times("too many generations"), 1);
}

/// A grandparent's part is a part of the parent's, along every way up, to the last atto.
#[test]
fn royalties_climb_along_every_way() {
    let mut both = Both::new(0);
    let parent = |both: &Both, tag: usize, share_bps| Parent { model: both.ids[tag], share_bps };
    let mut below = |tag: u8, of: &[(usize, u16)]| {
        let mut parents: Vec<_> = of.iter().map(|(tag, bps)| parent(&both, *tag, *bps)).collect();
        parents.sort_unstable_by_key(|parent| parent.model);
        assert!(publish(&mut both, "owner", NewVersion { parents, ..version(tag) }));
    };
    below(9, &[(0, 1_233)]);
    below(12, &[(0, 777), (9, 3_331)]);
    below(15, &[(9, 1_111), (12, 2_223), (3, 999)]);
    let model = both.ids[15];
    let price = Price::default();
    assert!(both.send("worker", Payload::Offer { model, price }));
    for of in [1, 7, 333] {
        both.step(&Op::Post { worker: 0, lines: vec![(0, of), (1, of), (0, 5)], spoil: 5 });
        (0..5).for_each(|_| both.next_block());
    }
    assert!(both.times("royalty_paid") >= 9);
}

#[test]
fn an_owner_has_sixteen_open_commitments() {
    let mut both = Both::new(3);
    for who in ["owner", "stranger"] {
        for n in 0..18 {
            both.send(who, Payload::CommitModel { commitment: Hash32([n; 32]) });
        }
    }
    assert_eq!((both.times("took commit_model"), both.times("commitments are full")), (32, 4));
}

/// A commitment is good from the third block after it to the last one, and forgotten in the block after that.
#[test]
fn a_commitment_has_a_first_and_a_last_block() {
    for (waited, refusal) in
        [(2, Some("the commitment is too young")), (3, None), (10_003, None), (10_004, Some("no commitment"))]
    {
        let mut both = Both::new(3);
        both.step(&Op::Commit { who: 0, tag: 0 });
        assert_eq!(both.times("took commit_model"), 1);
        if waited > 1_000 {
            both.step(&Op::Jump { after: waited == 10_004 });
        } else {
            (0..waited).for_each(|_| both.next_block());
        }
        let version = NewVersion { salt: Some(Both::salt(1)), ..version(1) };
        assert_eq!(publish(&mut both, "owner", version), refusal.is_none(), "after {waited}");
        refusal.into_iter().for_each(|why| assert_eq!(both.times(why), 1));
    }
}

/// Batches for a model that is retired, or no longer offered, are taken for four blocks more; with a gateway's word until its bond is free.
#[test]
fn grace_times_have_a_last_block() {
    let ends = [
        (Op::RetireModel { who: 1, model: 0 }, "retired for too long"),
        (Op::Unoffer { who: 4, model: 0 }, "taken back for too long"),
        (Op::Retire { who: 5, role: 2 }, "the gateway's bond is free"),
    ];
    for (end, why) in ends {
        let mut both = Both::new(0);
        // The model of "stranger" is the only one of "worker2".
        let model = both.ids[3];
        match end {
            Op::RetireModel { .. } => drop(both.send("stranger", Payload::RetireModel { model })),
            Op::Unoffer { .. } => drop(both.send("worker2", Payload::Unoffer { model })),
            _ => drop(both.send("gateway", Payload::Retire { role: Role::Gateway })),
        }
        for _ in 0..16 {
            both.step(&Op::Post { worker: 1, lines: vec![(0, 3)], spoil: 5 });
            both.next_block();
        }
        assert!(both.times(why) >= 2, "{why}");
        let taken = both.times("took post_batch");
        assert!(if why == "the gateway's bond is free" { taken >= 6 } else { taken == 5 }, "{why}: {taken}");
    }
}

/// Fees of a model with a split of its own and of a later version of a family with backers; before and after a vote that lets nobody have such a split.
#[test]
fn own_splits_and_versions_earn() {
    for narrow in [false, true] {
        let mut both = Both::new(0);
        let fees = Some(FeeMove { worker: 5_900, owner: 2_399, validators: 901, domain: 500 });
        assert!(publish(&mut both, "stranger", NewVersion { fees, ..version(6) }));
        let family = Some(both.ids[0]);
        assert!(publish(&mut both, "owner", NewVersion { family, ..version(9) }));
        for tag in [6, 9] {
            let (model, price) = (both.ids[tag], Price::default());
            assert!(both.send("worker", Payload::Offer { model, price }));
        }
        both.step(&Op::Post { worker: 0, lines: vec![(0, 7), (1, 5), (2, 3), (3, 2)], spoil: 5 });
        both.step(&Op::Govern { narrow });
        (0..6).for_each(|_| both.next_block());
        assert_eq!(both.times("backers earn with a version"), 1);
        assert_eq!(both.times("a model's split gives way"), u32::from(narrow));
    }
}

/// All parents together are granted half of an income at most.
#[test]
fn grants_add_up_to_half() {
    let mut both = Both::new(0);
    for (tag, more) in [(6, 0), (9, 1)] {
        let parent = |tag: usize, share_bps| Parent { model: both.ids[tag], share_bps };
        let mut parents = vec![parent(0, 2_500), parent(3, 2_500 + more)];
        parents.sort_unstable_by_key(|parent| parent.model);
        assert_eq!(publish(&mut both, "owner", NewVersion { parents, ..version(tag) }), more == 0);
    }
    assert_eq!(both.times("too much granted"), 1);
}

/// What is settled after a domain was closed has no treasury to go to but the community's.
#[test]
fn a_closed_domain_has_no_treasury() {
    let mut both = Both::new(0);
    both.step(&Op::Post { worker: 1, lines: vec![(0, 3)], spoil: 5 });
    let model = both.ids[3];
    assert!(!both.send("stranger", Payload::CloseDomain { domain: 1 }));
    assert!(both.send("stranger", Payload::RetireModel { model }));
    assert!(both.send("stranger", Payload::CloseDomain { domain: 1 }));
    (0..6).for_each(|_| both.next_block());
    assert_eq!((both.times("batch_settled"), both.times("fees for a closed domain")), (1, 1));
    // The name is free again, the number is not.
    assert!(both.send("owner", Payload::CreateDomain { name: "d0".into(), terms: terms(0) }));
    assert_eq!((both.times("a name is used again"), both.spec.domains.len()), (1, 3));
}

/// A fifth of what was there at an epoch's first expense, in that epoch; of what is there then in the next.
#[test]
fn a_treasury_has_a_limit_for_an_epoch() {
    let mut both = Both::new(0);
    both.step(&Op::Post { worker: 1, lines: vec![(0, 900)], spoil: 5 });
    while both.times("batch_settled") == 0 || !both.spec.height.is_multiple_of(6) {
        both.next_block();
    }
    let held = |both: &Both| both.spec.pools[&Pool::Domain { domain: 1 }];
    let spend = |both: &mut Both, atto: u128| {
        let (to, amount) = (address_of("gateway"), Amount::from_atto(atto));
        both.send("stranger", Payload::SpendTreasury { domain: 1, to, amount })
    };
    for _ in 0..2 {
        let limit = held(&both) / 5;
        assert!(!spend(&mut both, limit + 1) && spend(&mut both, limit - 7));
        both.next_block();
        assert!(!spend(&mut both, 8) && spend(&mut both, 7) && !spend(&mut both, 1));
        (0..5).for_each(|_| both.next_block());
    }
}

/// What backers get is fixed when a family starts: a vote that moves the bounds afterwards takes no version from it.
#[test]
fn a_family_goes_on_after_a_vote() {
    let mut both = Both::new(0);
    let family = both.ids[0];
    let mut params = both.spec.params.clone();
    // The family gives its backers 3,333 and has room for 60 DN.
    (params.registry.max_backers_bps, params.registry.min_backing) = (3_332, dn(61));
    both.set_params(params);
    let next = NewVersion { family: Some(family), ..version(6) };
    assert!(publish(&mut both, "owner", next));
}
