//! The score that emission is divided by.

use dn_core::wide::mul;
use dn_trust::{Trust, Unit};

/// `⌊work · quality · trust⌋`: linear in work on purpose, since any concave curve would pay for splitting an identity.
///
/// # Units
/// Verified work units in, verified work units out.
#[inline]
pub fn score(work: u128, quality: Unit, trust: Trust) -> u128 {
    let factor = u128::from(quality.bits()) * u128::from(trust.value().bits());
    // The factor is at most 2^64, and so is what the high half holds below.
    let (high, low) = mul(work, factor);
    (high << 64) | (low >> 64)
}

/// [`score`] where the work has 64 bits; the score is at most the work.
#[inline]
pub(crate) fn narrow_score(work: u64, quality: Unit, trust: Trust) -> u64 {
    match quality.bits().checked_mul(trust.value().bits()) {
        Some(factor) => ((u128::from(work) * u128::from(factor)) >> 64) as u64,
        // One times one.
        None => work,
    }
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
        fn the_definition_in_any_width(w: u128, shift in 0..128u32, q in unit(), t in unit()) {
            let (w, whole) = (w >> shift, Unit::ONE.bits());
            let factor = u128::from(q.bits()) * u128::from(t.bits());
            prop_assert_eq!(Some(score(w, q, Trust::new(t))), dn_core::wide::mul_div(w, factor, u128::from(whole).pow(2)));
            let narrow = w as u64;
            prop_assert_eq!(u128::from(narrow_score(narrow, q, Trust::new(t))), score(narrow.into(), q, Trust::new(t)));
            prop_assert_eq!(narrow_score(narrow, Unit::ONE, Trust::ONE), narrow);
        }

        #[test]
        fn splitting_work_gains_nothing(a in 0..u128::MAX / 2, b in 0..u128::MAX / 2, q in unit(), t in unit()) {
            let t = Trust::new(t);
            prop_assert!(score(a, q, t) + score(b, q, t) <= score(a + b, q, t));
        }
    }
}
