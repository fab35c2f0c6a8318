//! What an epoch emits out of the community pool, and why wash work does not pay.

use dn_core::wide::mul_div;
use dn_core::{Amount, canonical_struct};

use crate::bps::BPS;
use crate::fees::FeeSplit;

/// ln 2 in Q64, rounded down.
const LN_2: u128 = 12_786_308_645_202_655_659;
/// Work that the reference price is for: 10^12 verified work units.
const PRICED_WORK: u128 = 1_000_000_000_000;

/// Why emission parameters are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmissionError {
    /// A half-life out of bounds.
    #[error("the half-life is {found} epochs; it must be from {min} to {max}")]
    HalfLife {
        /// What was given.
        found: u64,
        /// The least that is allowed.
        min: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// A reference price out of bounds.
    #[error("the reference price is {found} DN for 10^12 work units; it must be over 0 and at most {max} DN")]
    Price {
        /// What was given.
        found: Amount,
        /// The most that is allowed.
        max: Amount,
    },
}

/// Constants of emission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EmissionParams {
    /// Epochs after which half of the pool is emitted, if demand lets it.
    pub half_life_epochs: u64,
    /// Fee that fully pays for 10^12 verified work units; governance keeps it at or above the market's. Work that paid less
    /// counts only in the proportion of its fee.
    pub reference_price: Amount,
}
canonical_struct!(EmissionParams { half_life_epochs: u64, reference_price: Amount });

impl Default for EmissionParams {
    /// Four years of hourly epochs; 0.001 DN for 10^12 operations.
    fn default() -> Self {
        Self { half_life_epochs: 35_064, reference_price: Amount::from_atto(1_000_000_000_000_000) }
    }
}

impl EmissionParams {
    /// The longest half-life, in epochs.
    pub const MAX_HALF_LIFE: u64 = 1 << 32;
    /// The highest reference price.
    pub const MAX_PRICE: Amount = Amount::from_dn(1_000_000);

    /// Checks the bounds.
    ///
    /// # Errors
    /// [`EmissionError`].
    pub fn validate(&self) -> Result<(), EmissionError> {
        let (min, max) = (1, Self::MAX_HALF_LIFE);
        if !(min..=max).contains(&self.half_life_epochs) {
            return Err(EmissionError::HalfLife { found: self.half_life_epochs, min, max });
        }
        if self.reference_price.is_zero() || self.reference_price > Self::MAX_PRICE {
            return Err(EmissionError::Price { found: self.reference_price, max: Self::MAX_PRICE });
        }
        Ok(())
    }

    /// `⌊pool · (1 − 2^(−1/half-life))⌋`: the most that an epoch may emit. Never exceeds the pool.
    pub fn decay(&self, pool: Amount) -> Amount {
        pool.mul_div(self.rate(), 1 << 64).expect("the rate is below one")
    }

    /// The work of one paid task that earns emission: `min(work, ⌊fee · 10^12 / reference price⌋)`.
    ///
    /// # Units
    /// Verified work units.
    pub fn counted_work(&self, vwu: u128, fee: Amount) -> u128 {
        // A fee that buys more than 128 bits of work buys all of it.
        mul_div(fee.atto(), PRICED_WORK, self.reference_price.atto().max(1)).map_or(vwu, |paid| vwu.min(paid))
    }

    /// The most that may be emitted for a total of points, each at most the counted work of a task:
    /// `⌊points · reference price / 10^12 · lost⌋`, where `lost` is the share of a fee that someone loses who pays
    /// himself ([`FeeSplit::lost_by_self_payment`]).
    ///
    /// Divided by points, no task then earns more emission than its fee lost: `points / P · E ≤ points · price / 10^12 · lost ≤
    /// fee · lost`.
    pub fn wash_bound(&self, points: u128, split: &FeeSplit) -> Amount {
        let price = self.reference_price.atto().saturating_mul(split.lost_by_self_payment().into());
        // Over 128 bits the pool is the tighter bound.
        Amount::from_atto(mul_div(points, price, PRICED_WORK * u128::from(BPS)).unwrap_or(u128::MAX))
    }

    /// The same for points that were multiplied, task by task, by the basis points that its own split loses: `⌊weighted ·
    /// reference price / (10^12 · 10^4)⌋`. Divided by the weighted points, no task earns more than its own fee lost, whatever
    /// the splits.
    pub fn weighted_bound(&self, weighted: u128) -> Amount {
        let bound = mul_div(weighted, self.reference_price.atto(), PRICED_WORK * u128::from(BPS));
        Amount::from_atto(bound.unwrap_or(u128::MAX))
    }

    /// The emission of an epoch: the smaller of [`decay`](Self::decay) and [`wash_bound`](Self::wash_bound). What is not
    /// emitted stays in the pool.
    pub fn emission(&self, pool: Amount, points: u128, split: &FeeSplit) -> Amount {
        self.decay(pool).min(self.wash_bound(points, split))
    }

    /// 1 − 2^(−1/n) = x − x²/2! + x³/3! − … with x = ln 2 / n, in Q64, below one.
    fn rate(&self) -> u128 {
        let x = LN_2 / u128::from(self.half_life_epochs.max(1));
        let (mut term, mut plus, mut minus) = (x, 0u128, 0u128);
        // x < 0.7: the 22nd term is below 2^-64.
        for k in 2..=22 {
            if k % 2 == 0 {
                plus += term
            } else {
                minus += term
            }
            term = ((term * x) >> 64) / k;
        }
        plus - minus
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn half_life(epochs: u64) -> EmissionParams {
        EmissionParams { half_life_epochs: epochs, ..EmissionParams::default() }
    }

    #[test]
    fn decay_by_hand() {
        // 1 − 2^(−1/n) for n = 1, 2 and 35064: 0.5, 0.292893218813452… and 0.000019767862466298948…, from 60-digit arithmetic.
        let pool = Amount::from_dn(1_000_000_000);
        let within = |got: Amount, want: u128| assert!(got.atto().abs_diff(want) < 1_000_000_000, "{got}");
        within(half_life(1).decay(pool), 500_000_000 * 10u128.pow(18));
        within(half_life(2).decay(pool), 292_893_218_813_452_475_599_155_637);
        within(half_life(35_064).decay(pool), 19_767_862_466_298_948_016_888);
        assert_eq!(half_life(1).decay(Amount::ZERO), Amount::ZERO);
    }

    #[test]
    fn a_half_life_halves() {
        let pool = Amount::from_dn(50_000_000);
        for epochs in [1, 24, 1000] {
            let p = half_life(epochs);
            let left = (0..epochs).fold(pool, |left, _| left.saturating_sub(p.decay(left)));
            assert!(left.atto().abs_diff(pool.atto() / 2) < 10u128.pow(10), "{epochs}: {left}");
        }
    }

    #[test]
    fn the_wash_bound_by_hand() {
        let p = EmissionParams::default();
        let split = FeeSplit::default();
        // A fee of 0.0005 DN pays for half of 10^12 units at 0.001 DN.
        let fee: Amount = "0.0005".parse().expect("decimal");
        assert_eq!(p.counted_work(PRICED_WORK, fee), PRICED_WORK / 2);
        assert_eq!(p.counted_work(1000, fee), 1000);
        assert_eq!(p.counted_work(1000, Amount::ZERO), 0);
        // 10 % of that fee.
        assert_eq!(p.wash_bound(PRICED_WORK / 2, &split).to_string(), "0.00005");
        assert_eq!(p.emission(Amount::from_dn(50_000_000), PRICED_WORK / 2, &split).to_string(), "0.00005");
        assert_eq!(p.emission(Amount::from_atto(1), u128::MAX, &split), Amount::ZERO);
    }

    #[test]
    fn bounds() {
        assert_eq!(EmissionParams::default().validate(), Ok(()));
        let max = EmissionParams::MAX_HALF_LIFE;
        assert_eq!(half_life(0).validate(), Err(EmissionError::HalfLife { found: 0, min: 1, max }));
        let free = EmissionParams { reference_price: Amount::ZERO, ..EmissionParams::default() };
        assert!(matches!(free.validate(), Err(EmissionError::Price { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        /// Weighted by one split's lost share, points have that split's bound.
        #[test]
        fn one_split_weighs_all_alike(points in 0..=1u128 << 100, validators in 0..=9_000u16) {
            let split = FeeSplit { worker: 6_500 + 800, validators: 0, ..FeeSplit::default() };
            let split = FeeSplit { worker: split.worker.saturating_sub(validators), validators, ..split };
            let p = EmissionParams::default();
            let lost = u128::from(split.lost_by_self_payment());
            prop_assert_eq!(p.weighted_bound(points * lost), p.wash_bound(points, &split));
        }

        #[test]
        fn emission_never_exceeds_the_pool(pool: u128, points: u128, epochs in 1..=EmissionParams::MAX_HALF_LIFE) {
            let pool = Amount::from_atto(pool);
            prop_assert!(half_life(epochs).emission(pool, points, &FeeSplit::default()) <= pool);
        }

        #[test]
        fn a_longer_half_life_emits_less(pool: u128, a in 1..=EmissionParams::MAX_HALF_LIFE, b in 1..=EmissionParams::MAX_HALF_LIFE) {
            let pool = Amount::from_atto(pool);
            prop_assert!(half_life(a.min(b)).decay(pool) >= half_life(a.max(b)).decay(pool));
        }

        /// For every task: what its points earn is at most what its fee lost by paying oneself.
        #[test]
        fn no_task_earns_more_than_its_fee_lost(
            tasks in prop::collection::vec((0..=1u128 << 80, 0..=1u128 << 80, 0..=1u64 << 32), 1..20),
            pool in 0..=1u128 << 90,
            price in 1..=1u128 << 70,
        ) {
            let p = EmissionParams { reference_price: Amount::from_atto(price), ..half_life(100) };
            let split = FeeSplit::default();
            let points: Vec<u128> = tasks
                .iter()
                .map(|(vwu, fee, q)| mul_div(p.counted_work(*vwu, Amount::from_atto(*fee)), u128::from(*q), 1 << 32).expect("fits"))
                .collect();
            let total: u128 = points.iter().sum();
            let e = p.emission(Amount::from_atto(pool), total, &split);
            if total > 0 {
                for ((_, fee, _), points) in tasks.iter().zip(points) {
                    let earned = e.mul_div(points, total).expect("fits").atto();
                    prop_assert!(earned * u128::from(BPS) <= fee * u128::from(split.lost_by_self_payment()));
                }
            }
        }
    }
}
