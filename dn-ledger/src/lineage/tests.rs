use proptest::prelude::*;

use super::*;

fn id(n: usize) -> ModelId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    ModelId(bytes)
}

/// A graph: for each model its parents, which come before it, with basis points.
type Graph = Vec<Vec<(usize, u16)>>;

fn graphs() -> impl Strategy<Value = Graph> {
    let parents = prop::collection::vec((any::<prop::sample::Index>(), 0..=2_500u16), 0..=4);
    prop::collection::vec(parents, 1..14).prop_map(|models| {
        let mut depths: Vec<u8> = Vec::new();
        let mut graph = Graph::new();
        for (n, parents) in models.into_iter().enumerate() {
            let mut own = std::collections::BTreeMap::new();
            for (index, bps) in parents {
                let Some(parent) = n.checked_sub(1).map(|_| index.index(n)) else { continue };
                if depths[parent] < MAX_DEPTH {
                    own.insert(parent, bps);
                }
            }
            depths.push(own.keys().map(|p| depths[*p] + 1).max().unwrap_or(0));
            graph.push(own.into_iter().collect());
        }
        graph
    })
}

/// As the ledger does it: each model once, out of its parents' lists.
fn flat(graph: &Graph) -> Vec<(u8, Vec<Royalty>)> {
    let mut known: Vec<(u8, Vec<Royalty>)> = Vec::new();
    for parents in graph {
        let grants: Vec<_> = parents
            .iter()
            .map(|(p, share_bps)| Grant {
                model: id(*p),
                share_bps: *share_bps,
                depth: known[*p].0,
                royalties: &known[*p].1,
            })
            .collect();
        let new = flatten(&grants);
        known.push(new);
    }
    known
}

/// The specification: an income of `num / 10^(4·steps)` reaches a model, which passes parts on to its parents, all the way up.
/// Exact: everything is brought to tenths of 10^36 only at the end.
fn recursive(graph: &Graph, model: usize, num: u128, steps: u32, out: &mut Vec<u128>) {
    let granted: u128 = graph[model].iter().map(|(_, bps)| u128::from(*bps)).sum();
    // What stays: num·(10^4 − granted) / 10^(4·(steps + 1)).
    out[model] += num * (BPS - granted) * 10u128.pow(36 - 4 * (steps + 1));
    for (parent, bps) in &graph[model] {
        recursive(graph, *parent, num * u128::from(*bps), steps + 1, out);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Flattened shares equal the recursive specification exactly, and are together at most the whole.
    #[test]
    fn shares_are_those_of_the_recursive_specification(graph in graphs()) {
        for (model, (depth, royalties)) in flat(&graph).iter().enumerate() {
            prop_assert!(*depth <= MAX_DEPTH);
            let mut expected = vec![0u128; graph.len()];
            recursive(&graph, model, 1, 0, &mut expected);
            prop_assert_eq!(expected.iter().sum::<u128>(), WHOLE);
            let found = |n: usize| royalties.iter().find(|r| r.model == id(n)).map_or(0, |r| r.share);
            for (n, share) in expected.iter().enumerate() {
                let own = if n == model { kept(royalties) } else { found(n) };
                prop_assert_eq!(own, *share, "model {} pays {}", model, n);
            }
            prop_assert!(royalties.windows(2).all(|pair| pair[0].model < pair[1].model));
            prop_assert!(royalties.iter().all(|r| r.share > 0));
        }
    }

    /// Parts and rest are the income to the last atto; each part is its exact share rounded down.
    #[test]
    fn incomes_divide_exactly(graph in graphs(), income in prop_oneof![0..100u128, any::<u128>()]) {
        let income = Amount::from_atto(income);
        for (_, royalties) in flat(&graph) {
            let (parts, rest) = divide(income, &royalties);
            let all = parts.iter().map(|(_, amount)| *amount).chain([rest]);
            prop_assert_eq!(Amount::sum(all), Ok(income));
            for ((_, part), royalty) in parts.iter().zip(&royalties) {
                prop_assert_eq!(Ok(*part), income.mul_div(royalty.share, WHOLE));
            }
        }
    }
}

#[test]
fn a_lineage_by_hand() {
    // 0 ← 1 (20 %) ← 2 (10 %), and 0 ← 2 (5 %).
    let graph = vec![vec![], vec![(0, 2_000)], vec![(0, 500), (1, 1_000)]];
    let all = flat(&graph);
    // Of 1,000 atto: model 1 gets 100 and passes 20 of them on to 0, which has 50 already.
    let (parts, rest) = divide(Amount::from_atto(1_000), &all[2].1);
    let atto: Vec<_> = parts.iter().map(|(model, amount)| (*model, amount.atto())).collect();
    assert_eq!((atto, rest.atto()), (vec![(id(0), 70), (id(1), 80)], 850));
    assert_eq!(all[2].0, 2);
    // Dust stays with the owner of the model that was used.
    let (parts, rest) = divide(Amount::from_atto(13), &all[2].1);
    assert_eq!((parts[0].1.atto(), parts[1].1.atto(), rest.atto()), (0, 1, 12));
}

#[test]
fn the_longest_chain_is_exact() {
    let graph: Graph =
        (0..=usize::from(MAX_DEPTH)).map(|n| n.checked_sub(1).map_or(vec![], |p| vec![(p, 9_999)])).collect();
    let all = flat(&graph);
    let (depth, royalties) = &all[usize::from(MAX_DEPTH)];
    assert_eq!(*depth, MAX_DEPTH);
    assert_eq!(royalties[0].share, 9_999u128.pow(8) * 10_000);
    assert_eq!(kept(royalties), WHOLE / 10_000);
}
