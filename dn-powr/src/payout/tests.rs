use dn_core::wide::mul_div_rem;
use proptest::prelude::*;

use super::*;

fn shares(pot: u128, entries: &[(u32, u128)]) -> Vec<u128> {
    let plan = Payout::new(Amount::from_atto(pot), entries.iter().copied()).expect("fits");
    entries.iter().map(|(id, p)| plan.share_of(*id, *p).atto()).collect()
}

/// 100 over 1 : 1 : 1 leaves one atto for the smallest id; over 3 : 3 : 1 the floors are 42, 42, 14 with
/// remainders 6, 6, 2 of 7, so the two larger get one each.
#[test]
fn divisions_by_hand() {
    assert_eq!(shares(100, &[(9, 1), (5, 1), (7, 1)]), [33, 34, 33]);
    assert_eq!(shares(100, &[(1, 3), (2, 3), (3, 1)]), [43, 43, 14]);
    assert_eq!(shares(2, &[(1, 1), (2, 1), (3, 1)]), [1, 1, 0]);
    assert_eq!(shares(7, &[(1, 0), (2, 5)]), [0, 7]);
    assert_eq!(shares(0, &[(1, 3)]), [0]);
    let most = u128::MAX;
    assert_eq!(shares(most, &[(1, most - 1), (2, 1)]), [most - 1, 1]);
}

#[test]
fn no_points_carry_over() {
    let pot = Amount::from_dn(5);
    let plan = Payout::new(pot, [(1, 0), (2, 0)]).expect("fits");
    assert_eq!((plan.share_of(1, 0), plan.carried_over()), (Amount::ZERO, pot));
    let none = Payout::<u32>::new(pot, []).expect("fits");
    assert_eq!(none.carried_over(), pot);
}

#[test]
fn bad_columns_are_refused_and_change_nothing() {
    let mut out = [Amount::from_atto(7); 2];
    let pot = Amount::from_atto(10);
    assert_eq!(payout(pot, &[1, 2], &[1], &mut out), Err(PayoutError::Length { ids: 2, points: 1, out: 2 }));
    assert_eq!(payout(pot, &[1, 2], &[u128::MAX, 1], &mut out), Err(PayoutError::Overflow { entries: 2 }));
    assert_eq!(out, [Amount::from_atto(7); 2]);
}

/// The definition, literally: floors, then a full sort.
fn by_definition(pot: u128, entries: &[(u32, u128)]) -> Vec<u128> {
    let total: u128 = entries.iter().map(|e| e.1).sum();
    if total == 0 {
        return vec![0; entries.len()];
    }
    let parts: Vec<_> = entries.iter().map(|e| mul_div_rem(pot, e.1, total).expect("fits")).collect();
    let mut left = pot - parts.iter().map(|p| p.0).sum::<u128>();
    let mut out: Vec<u128> = parts.iter().map(|p| p.0).collect();
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(parts[*i].1), entries[*i].0));
    for i in order {
        if left > 0 {
            out[i] += 1;
            left -= 1;
        }
    }
    out
}

fn entries() -> impl Strategy<Value = Vec<(u32, u128)>> {
    let points = prop_oneof![0..5u128, 0..1000u128, 0..=u128::MAX >> 8];
    prop::collection::btree_map(any::<u32>(), points, 0..40)
        .prop_map(|m| m.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn sums_exactly_and_matches_the_definition(pot in prop_oneof![0..100u128, any::<u128>()], e in entries()) {
        let got = shares(pot, &e);
        prop_assert_eq!(&got, &by_definition(pot, &e));
        let any_points = e.iter().any(|x| x.1 > 0);
        prop_assert_eq!(got.iter().sum::<u128>(), if any_points { pot } else { 0 });
    }

    #[test]
    fn batch_and_single_agree_and_order_does_not_matter(pot: u128, e in entries()) {
        let (mut ids, mut points): (Vec<u32>, Vec<u128>) = e.iter().copied().unzip();
        let mut out = vec![Amount::ZERO; ids.len()];
        let carried = payout(Amount::from_atto(pot), &ids, &points, &mut out).expect("fits");
        let single = shares(pot, &e);
        prop_assert_eq!(out.iter().map(|a| a.atto()).collect::<Vec<_>>(), single);
        prop_assert_eq!(carried.atto() + out.iter().map(|a| a.atto()).sum::<u128>(), pot);
        ids.reverse();
        points.reverse();
        let mut reversed = vec![Amount::ZERO; ids.len()];
        payout(Amount::from_atto(pot), &ids, &points, &mut reversed).expect("fits");
        reversed.reverse();
        prop_assert_eq!(out, reversed);
    }

    /// More points never earn less, and of two entries the one with more points earns at least as much.
    #[test]
    fn monotone_in_points(pot in 0..=u128::MAX >> 40, e in entries(), pick: prop::sample::Index, more in 1..1u128 << 100) {
        prop_assume!(!e.is_empty());
        let i = pick.index(e.len());
        let before = shares(pot, &e);
        let mut richer = e.clone();
        richer[i].1 += more;
        prop_assert!(shares(pot, &richer)[i] >= before[i]);
        for (a, x) in e.iter().zip(&before) {
            for (b, y) in e.iter().zip(&before) {
                prop_assert!(a.1 <= b.1 || x >= y);
            }
        }
    }

    /// Splitting an entry in two gains at most one atto of rounding for each new identity.
    #[test]
    fn splitting_gains_only_dust(pot in 0..=u128::MAX >> 8, e in entries(), part in 0..=100u128) {
        prop_assume!(!e.is_empty() && e[0].1 < u128::MAX >> 8);
        let whole = shares(pot, &e)[0];
        let mut split = e.clone();
        let a = split[0].1 / 100 * part;
        let b = split[0].1 - a;
        split[0].1 = a;
        let fresh = (0..).find(|id| e.iter().all(|x| x.0 != *id)).expect("32 bits of ids");
        split.push((fresh, b));
        let got = shares(pot, &split);
        prop_assert!(got[0] + got[got.len() - 1] <= whole + 2);
    }
}
