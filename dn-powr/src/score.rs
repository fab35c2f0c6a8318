//! The score that emission is divided by.

use dn_core::wide::mul_div;
use dn_trust::{Trust, Unit};

/// `⌊work · quality · trust⌋`: linear in work on purpose, since any concave curve would pay for splitting an identity.
///
/// # Units
/// Verified work units in, verified work units out.
pub fn score(work: u128, quality: Unit, trust: Trust) -> u128 {
    let factor = u128::from(quality.bits()) * u128::from(trust.value().bits());
    mul_div(work, factor, 1 << 64).expect("quality and trust are at most one")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unit() -> impl Strategy<Value = Unit> {
        (0..=1u64 << 32).prop_map(Unit::from_bits)
    }

    #[test]
    fn a_score_by_hand() {
        let (half, quarter) = (Unit::from_bits(1 << 31), Unit::from_bits(1 << 30));
        assert_eq!(score(801, half, Trust::new(quarter)), 100);
        assert_eq!(score(u128::MAX, Unit::ONE, Trust::ONE), u128::MAX);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn monotone_in_work_quality_and_trust(
            w: u128, q in unit(), t in unit(), dw: u128, q2 in unit(), t2 in unit(),
        ) {
            let base = score(w, q, Trust::new(t));
            prop_assert!(score(w.saturating_add(dw), q, Trust::new(t)) >= base);
            prop_assert!(score(w, q.max(q2), Trust::new(t)) >= base);
            prop_assert!(score(w, q, Trust::new(t.max(t2))) >= base);
            prop_assert!(base <= w);
        }

        #[test]
        fn splitting_work_gains_nothing(a in 0..u128::MAX / 2, b in 0..u128::MAX / 2, q in unit(), t in unit()) {
            let t = Trust::new(t);
            prop_assert!(score(a, q, t) + score(b, q, t) <= score(a + b, q, t));
        }
    }
}
