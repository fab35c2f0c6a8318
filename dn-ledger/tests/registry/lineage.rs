//! Random families trees, published and used through the ledger.

use std::collections::BTreeMap;

use dn_core::{Amount, ModelId};
use dn_ledger::Role;
use dn_ledger::events::Event;
use dn_ledger::state::MODEL_TERMS;
use dn_ledger::tx::{NewVersion, Parent};
use proptest::prelude::*;

use crate::common::{World, dn, offer};
use crate::{earn, plus, publish, version};

/// Parents by place, with basis points above what they demand.
type Plan = Vec<Vec<(prop::sample::Index, u16)>>;

fn plans() -> impl Strategy<Value = Plan> {
    let parents = prop::collection::vec((any::<prop::sample::Index>(), 500..=1_200u16), 0..=4);
    prop::collection::vec(parents, 2..9)
}

/// What each model's owner gets of an income, by the recursive specification, in exact parts of 10^36.
fn specification(graph: &[Vec<(usize, u16)>], model: usize, num: u128, steps: u32, out: &mut [u128]) {
    let granted: u128 = graph[model].iter().map(|(_, bps)| u128::from(*bps)).sum();
    out[model] += num * (10_000 - granted) * 10u128.pow(36 - 4 * (steps + 1));
    for (parent, bps) in &graph[model] {
        specification(graph, *parent, num * u128::from(*bps), steps + 1, out);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 30, ..ProptestConfig::default() })]

    /// Every owner gets exactly what the specification says, rounded down; the used model's the rest: together the owner's share.
    #[test]
    fn owners_get_what_the_recursive_specification_says(plan in plans(), atto in 1..1_000_000_000u128) {
        let mut w = World::ready();
        let mut models: Vec<ModelId> = Vec::new();
        let mut graph: Vec<Vec<(usize, u16)>> = Vec::new();
        for (n, parents) in plan.iter().enumerate() {
            let of = |(index, bps): &(prop::sample::Index, u16)| (n > 0).then(|| (index.index(n.max(1)), *bps));
            let parents: BTreeMap<usize, u16> = parents.iter().filter_map(of).collect();
            let mut list: Vec<_> =
                parents.iter().map(|(p, share_bps)| Parent { model: models[*p], share_bps: *share_bps }).collect();
            list.sort_by_key(|parent| parent.model);
            let tag = 100 + u8::try_from(n).unwrap();
            models.push(publish(&mut w, "owner", NewVersion { parents: list, ..version(tag) }));
            graph.push(parents.into_iter().collect());
        }
        let (last, leaf) = (models.len() - 1, *models.last().unwrap());
        w.ok("worker", offer(leaf));
        let fees = plus(dn(1), Amount::from_atto(atto));
        let income = w.genesis.params.fees.split(fees).owner;
        let before = w.balance("owner");
        let events = earn(&mut w, leaf, 0, fees);
        let mut parts = vec![0; models.len()];
        specification(&graph, last, 1, 0, &mut parts);
        let paid = |of: ModelId| {
            events.iter().find_map(|e| match e {
                Event::RoyaltyPaid { model, ancestor, amount } if *ancestor == of => {
                    assert_eq!(*model, leaf);
                    Some(*amount)
                }
                _ => None,
            })
        };
        let mut sum = Amount::ZERO;
        for (n, part) in parts.iter().enumerate().filter(|(n, _)| *n != last) {
            let expected = income.mul_div(*part, 10u128.pow(36)).unwrap();
            let found = paid(models[n]).unwrap_or_default();
            prop_assert_eq!(found, expected, "model {}", n);
            sum = plus(sum, found);
        }
        prop_assert!(sum <= income);
        let listed = MODEL_TERMS.get(w.state(), &leaf).unwrap().royalties.len();
        prop_assert!(listed <= w.genesis.params.registry.max_royalty_payees as usize);
        // All models are one owner's here: to the atto the share, and what emission paid on top.
        let emitted = events.iter().fold(Amount::ZERO, |sum, e| match e {
            Event::EmissionPaid { role: Role::ModelOwner, amount, .. } => plus(sum, *amount),
            _ => sum,
        });
        prop_assert_eq!(w.balance("owner"), plus(before, plus(income, emitted)));
    }
}
