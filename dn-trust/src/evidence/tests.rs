use proptest::prelude::*;

use super::*;

fn counts(good: u32, bad: u32) -> Counts {
    Counts { good, bad }
}

/// Worked by hand: no evidence is Beta(1, 1), mean ½, deviation √(1/12) = 0.288675.
/// ½ − 1.645·0.288675 = 0.025130 (z is 107807/65536 = 1.645004).
#[test]
fn lower_bound_by_hand() {
    let p = Params::default();
    assert_eq!(format!("{:.5}", counts(0, 0).lower_bound(&p)), "0.02512");
    // Beta(100, 1): mean 0.990099, deviation √(100 / (101² · 102)) = 0.0098035; bound 0.97397.
    assert_eq!(format!("{:.4}", counts(99 << 16, 0).lower_bound(&p)), "0.9739");
    // Beta(1, 100): far below zero.
    assert_eq!(counts(0, 99 << 16).lower_bound(&p), Unit::ZERO);
}

#[test]
fn the_extremes_do_not_overflow() {
    let p = Params { confidence: 2 << 16, ..Params::default() };
    for good in [0, 1, Counts::MAX / 2, Counts::MAX] {
        for bad in [0, 1, Counts::MAX / 2, Counts::MAX] {
            assert!(counts(good, bad).lower_bound(&p) <= Unit::ONE);
        }
    }
    let mut c = counts(Counts::MAX, Counts::MAX);
    c.close_epoch(&p, (u64::MAX, u64::MAX));
    assert_eq!(c, counts(Counts::MAX, Counts::MAX));
}

#[test]
fn weights_of_work() {
    let p = Params { work_unit: 1000, ..Params::default() };
    assert_eq!(Weight::of_work(&p, 1000), Weight::ONE);
    assert_eq!(Weight::of_work(&p, 1).bits(), 66); // ⌈65.536⌉
    assert_eq!(Weight::of_work(&p, 0), Weight::ZERO);
    assert_eq!(Weight::of_work(&p, u128::MAX).bits(), u64::MAX);
}

#[test]
fn counts_over_the_limit_are_refused() {
    let bytes = (Counts::MAX + 1, 0u32).to_bytes();
    assert!(matches!(Counts::from_bytes(&bytes), Err(DecodeError::Invalid { at: 0, .. })));
}

fn any_count() -> impl Strategy<Value = u32> {
    prop_oneof![0..=Counts::MAX, 0..=(1u32 << 20), 0..=1000u32]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn lower_bound_rises_with_good_and_falls_with_bad(
        good in any_count(), bad in any_count(), more in prop_oneof![Just(1), any_count()], z in 0..=2u32 << 16,
    ) {
        let p = Params { confidence: z, ..Params::default() };
        let base = counts(good, bad).lower_bound(&p);
        prop_assert!(counts(good.saturating_add(more).min(Counts::MAX), bad).lower_bound(&p) >= base);
        prop_assert!(counts(good, bad.saturating_add(more).min(Counts::MAX)).lower_bound(&p) <= base);
    }

    #[test]
    fn the_cap_keeps_the_proportion(good: u64, bad: u64, cap: u32) {
        let t = Tally { good: Weight(good), bad: Weight(bad) };
        let (g, b) = t.capped(cap);
        prop_assert!(g <= good && b <= bad.max(1) );
        let total = u128::from(good) + u128::from(bad);
        if total > u128::from(cap) {
            prop_assert_eq!(g + b, u64::from(cap));
            // b / cap is bad / total, rounded up by less than one bit.
            let exact = u128::from(bad) * u128::from(cap);
            prop_assert!(u128::from(b) * total >= exact);
            prop_assert!(u128::from(b) * total < exact + total);
        } else {
            prop_assert_eq!((g, b), (good, bad));
        }
    }
}

/// Counts as they grow, and the corners of what 64-bit arithmetic must bear.
fn any_pair() -> impl Strategy<Value = (u32, u32)> {
    let corner =
        prop::sample::select(vec![0, 1, 2, 65_535, 65_536, Counts::MAX / 2, Counts::MAX - 1, Counts::MAX]);
    let one =
        prop_oneof![any_count(), (0..30u32, any::<u32>()).prop_map(|(s, x)| (x & Counts::MAX) >> s), corner];
    (one.clone(), one)
}

fn any_confidence() -> impl Strategy<Value = u32> {
    prop_oneof![Just(Params::default().confidence), 0..=2u32 << 16, Just(0), Just(1), Just(2 << 16)]
}

fn the_quick_bound_is_the_exact_one((good, bad): (u32, u32), confidence: u32) -> Result<(), TestCaseError> {
    let (c, p) = (counts(good, bad), Params { confidence, ..Params::default() });
    if let Some(quick) = c.quick_bound(&p) {
        prop_assert_eq!(quick, c.exact_bound(&p));
    }
    Ok(())
}

/// Around the counts where the exact value is a whole number of 2^-24, or next to one, an estimate would betray itself.
#[test]
fn the_quick_bound_next_to_steps() {
    for confidence in [0, 1, 65_536, 107_807, 2 << 16] {
        let p = Params { confidence, ..Params::default() };
        for bad in [0, 1, 65_536, 1 << 20, Counts::MAX] {
            for base in [0, 65_535, 131_072, 1 << 22, 1 << 26] {
                // Find where the bound steps within the next counts, and look at both sides.
                for good in base..base + 300 {
                    let c = counts(good, bad);
                    assert_eq!(c.lower_bound(&p), c.exact_bound(&p), "{c:?} {confidence}");
                }
            }
        }
    }
}

/// The quick way is the usual one: otherwise it would only cost.
#[test]
fn the_wide_way_is_rare() {
    let p = Params::default();
    let wide = |range: std::ops::Range<u32>| {
        range.filter(|good| counts(*good, *good / 7).quick_bound(&p).is_none()).count()
    };
    let (young, old) = (wide(0..100_000), wide(100_000_000..100_100_000));
    assert!((1..50).contains(&young) && old < 10, "{young} and {old} of 100,000");
    assert!(counts(0, 0).quick_bound(&p).is_some(), "newcomers");
}

/// The cap in 64 bits is the cap in 128.
fn the_cap_in_any_width(good: u64, bad: u64, cap: u32) -> Result<(), TestCaseError> {
    let (wide, total) = (u128::from(cap), u128::from(good) + u128::from(bad));
    let expected = if total <= wide {
        (good, bad)
    } else {
        let bad = (u128::from(bad) * wide).div_ceil(total) as u64;
        (u64::from(cap) - bad, bad)
    };
    prop_assert_eq!(Tally { good: Weight(good), bad: Weight(bad) }.capped(cap), expected);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn quick_bounds_are_exact(pair in any_pair(), confidence in any_confidence()) {
        the_quick_bound_is_the_exact_one(pair, confidence)?;
    }

    #[test]
    fn caps_in_any_width(good: u64, bad: u64, g in 0..64u32, b in 0..64u32, cap: u32) {
        the_cap_in_any_width(good >> g, bad >> b, cap)?;
    }
}

/// Ten seconds: `cargo test --release -p dn-trust -- --ignored`.
mod long {
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000_000))]

        #[test]
        #[ignore = "long: cargo test --release -p dn-trust -- --ignored"]
        fn quick_bounds_are_exact(pair in any_pair(), confidence in any_confidence()) {
            the_quick_bound_is_the_exact_one(pair, confidence)?;
        }

        #[test]
        #[ignore = "long: cargo test --release -p dn-trust -- --ignored"]
        fn caps_in_any_width(good: u64, bad: u64, g in 0..64u32, b in 0..64u32, cap: u32) {
            the_cap_in_any_width(good >> g, bad >> b, cap)?;
        }
    }
}
