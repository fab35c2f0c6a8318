//! The stake-weighted median of values, exactly.

use num_bigint::BigUint;
use thiserror::Error;

use crate::document::Decimal;

/// Why a median was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MedianError {
    /// Not one stake for every value.
    #[error("{stakes} stakes for {values} values, expected one each")]
    Length {
        /// How many stakes.
        stakes: usize,
        /// How many values.
        values: usize,
    },
    /// A value that is no number.
    #[error("value {index} is no number")]
    Value {
        /// Which.
        index: usize,
    },
    /// Nobody has stake.
    #[error("no stake at all")]
    NoStake,
    /// More support is asked for than all stake.
    #[error("support is more than all stake")]
    Support,
}

/// The largest value such that the stake voting at least that value is at least `support`.
///
/// `support` up to one is a share of all stake, as subtensor's `kappa` is of stake divided by its sum; above one it is an amount of stake. Whoever
/// has no stake has no vote. Support zero is what the largest vote has. All comparisons are exact: nothing is divided.
///
/// ```
/// use dn_sim::baseline::median::weighted_median;
/// use dn_sim::document::Decimal;
/// let stake = [49, 1, 50].map(|digits| Decimal { digits, places: 2 });
/// let support = Decimal { digits: 51, places: 2 };
/// assert_eq!(weighted_median(&stake, &[0.5, 0.7, 1.0], support), Ok(0.7));
/// ```
///
/// # Errors
/// Lengths that differ, a value that is no number, no stake, or support beyond all stake.
///
/// # Source
/// Subtensor, `pallets/subtensor/src/epoch/math.rs`, `weighted_median_col`.
pub fn weighted_median(stake: &[Decimal], values: &[f64], support: Decimal) -> Result<f64, MedianError> {
    if stake.len() != values.len() {
        return Err(MedianError::Length { stakes: stake.len(), values: values.len() });
    }
    if let Some(index) = values.iter().position(|value| value.is_nan()) {
        return Err(MedianError::Value { index });
    }
    let places = stake.iter().map(|stake| stake.places).max().unwrap_or(0);
    let mut votes = Vec::with_capacity(values.len());
    let mut total = BigUint::ZERO;
    for (stake, value) in stake.iter().zip(values).filter(|(stake, _)| stake.digits > 0) {
        let stake = scaled(stake.digits, places - stake.places);
        total += &stake;
        votes.push((*value, stake));
    }
    if votes.is_empty() {
        return Err(MedianError::NoStake);
    }
    let unit = scaled(1, support.places);
    // What the summed stake × `unit` is compared with.
    let needed = match BigUint::from(support.digits) <= unit {
        true => &total * support.digits,
        false => scaled(support.digits, places),
    };
    if needed > total * &unit {
        return Err(MedianError::Support);
    }
    votes.sort_by(|left, right| right.0.total_cmp(&left.0));
    let mut above = BigUint::ZERO;
    for (value, stake) in &votes {
        above += stake * &unit;
        if above >= needed {
            return Ok(*value);
        }
    }
    Err(MedianError::Support)
}

fn scaled(digits: u128, places: u32) -> BigUint {
    BigUint::from(10u8).pow(places) * digits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hundredths(digits: u128) -> Decimal {
        Decimal { digits, places: 2 }
    }

    /// Subtensor, `pallets/subtensor/src/tests/math.rs`, `test_math_weighted_median`, majority 0.51 throughout.
    #[test]
    fn subtensors_medians() {
        let cases: [(&[u128], &[f64], f64); 10] = [
            (&[51], &[1.0], 1.0),
            (&[49, 51], &[0.5, 1.0], 1.0),
            (&[51, 49], &[0.5, 1.0], 0.5),
            (&[49, 0, 51], &[0.5, 0.7, 1.0], 1.0),
            (&[49, 1, 50], &[0.5, 0.7, 1.0], 0.7),
            (&[49, 51, 0], &[0.5, 0.7, 1.0], 0.7),
            (&[0, 49, 51], &[0.5, 0.7, 1.0], 1.0),
            (&[0, 49, 0, 51, 0], &[0.5, 0.5, 1.0, 1.0, 0.5], 1.0),
            (&[20; 5], &[0.8, 0.2, 1.0, 0.6, 0.4], 0.6),
            (&[10; 10], &[0.8, 0.8, 0.2, 0.2, 1.0, 1.0, 0.6, 0.6, 0.4, 0.4], 0.6),
        ];
        for (stake, values, expected) in cases {
            let stake: Vec<_> = stake.iter().map(|digits| hundredths(*digits)).collect();
            assert_eq!(weighted_median(&stake, values, hundredths(51)), Ok(expected));
        }
    }

    #[test]
    fn support_above_one_is_an_amount() {
        let stake = [10, 20, 30].map(|digits| Decimal { digits, places: 0 });
        let median = |digits, places| weighted_median(&stake, &[3.0, 2.0, 1.0], Decimal { digits, places });
        assert_eq!(median(10, 0), Ok(3.0));
        assert_eq!(median(30, 0), Ok(2.0));
        assert_eq!(median(31, 0), Ok(1.0));
        assert_eq!(median(61, 0), Err(MedianError::Support));
        assert_eq!(median(5, 1), Ok(2.0));
        assert_eq!(median(50001, 5), Ok(1.0));
        assert_eq!(median(1, 0), Ok(1.0));
        assert_eq!(median(0, 0), Ok(3.0));
    }

    #[test]
    fn what_cannot_be_decided_is_refused() {
        let one = Decimal { digits: 1, places: 0 };
        assert_eq!(weighted_median(&[], &[], one), Err(MedianError::NoStake));
        assert_eq!(weighted_median(&[one], &[f64::NAN], one), Err(MedianError::Value { index: 0 }));
        assert_eq!(
            weighted_median(&[one], &[1.0, 2.0], one),
            Err(MedianError::Length { stakes: 1, values: 2 })
        );
    }

    /// The smallest and the largest stakes that a document can hold, side by side.
    #[test]
    fn digits_are_no_limit() {
        let huge = Decimal { digits: u128::MAX, places: 0 };
        let tiny = Decimal { digits: 1, places: 400 };
        let median = |stake: &[Decimal], support| weighted_median(stake, &[1.0, 2.0], support);
        let half = Decimal { digits: 5, places: 1 };
        assert_eq!(median(&[huge, tiny], half), Ok(1.0));
        assert_eq!(median(&[huge, huge], half), Ok(2.0));
        assert_eq!(median(&[tiny, tiny], Decimal { digits: 50_000_000_000_001, places: 14 }), Ok(1.0));
    }

    proptest! {
        #[test]
        fn it_is_the_largest_with_support(
            votes in prop::collection::vec((0_u128..1000, 0_u32..50), 1..40),
            support in 0_u128..=100,
        ) {
            let stake: Vec<_> = votes.iter().map(|vote| hundredths(vote.0)).collect();
            let values: Vec<_> = votes.iter().map(|vote| f64::from(vote.1)).collect();
            let total: u128 = votes.iter().map(|vote| vote.0).sum();
            prop_assume!(total > 0);
            let median = weighted_median(&stake, &values, hundredths(support)).unwrap();
            let at_least = |value: f64| -> u128 {
                votes.iter().filter(|vote| f64::from(vote.1) >= value).map(|vote| vote.0).sum()
            };
            prop_assert!(at_least(median) * 100 >= support * total);
            for (vote, value) in votes.iter().zip(&values) {
                if *value > median && vote.0 > 0 {
                    prop_assert!(at_least(*value) * 100 < support * total);
                }
            }
            let mut reversed = (stake, values);
            reversed.0.reverse();
            reversed.1.reverse();
            prop_assert_eq!(weighted_median(&reversed.0, &reversed.1, hundredths(support)), Ok(median));
        }
    }
}
