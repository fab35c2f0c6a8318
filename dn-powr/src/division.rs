//! `E · p / P` for many `p`, without a division for each.

use dn_core::wide::{mul_div, mul_div_rem};

/// The proportion of a pot to a total of points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Division {
    pub(crate) pot: u128,
    /// Never 0 where something is divided.
    pub(crate) total: u128,
    /// `⌊E · 2^64 / P⌋`, where it fits 128 bits and P fits 127.
    per_point: Option<u128>,
}

impl Division {
    pub(crate) fn new(pot: u128, total: u128) -> Self {
        let per_point = mul_div(pot, 1 << 64, total).filter(|_| total <= 1 << 127);
        Self { pot, total, per_point }
    }

    /// The division in 64-bit arithmetic, where P has 63 bits and every quotient of points up to some limit has 64.
    pub(crate) fn narrow(&self) -> Option<Narrow> {
        let per_point = self.per_point.filter(|_| (1..1 << 63).contains(&self.total))?;
        // Bits that are too many for 64.
        let cut = u64::BITS.saturating_sub(per_point.leading_zeros());
        let most = u64::MAX.checked_shr(cut)?;
        let total = self.total as u64;
        Some(Narrow {
            factor: (per_point >> cut) as u64,
            cut,
            most: most.min(total),
            pot: self.pot as u64,
            total,
        })
    }

    /// `(⌊E · p / P⌋, E · p mod P)`. Points over the total were not planned; they get no more than the pot.
    #[inline]
    pub(crate) fn divide(&self, points: u128) -> (u128, u128) {
        let points = points.min(self.total);
        match (u64::try_from(points), self.per_point) {
            (Ok(points), Some(per_point)) => self.by_product(points, per_point),
            _ => mul_div_rem(self.pot, points, self.total).unwrap_or((0, 0)),
        }
    }

    /// With M = E·2^64/P − ε, 0 ≤ ε < 1: p·M/2^64 = E·p/P − p·ε/2^64, and p < 2^64, so that its floor is the quotient or one
    /// less. What is left is then below 2·P ≤ 2^128, and right although its terms are taken modulo 2^128; below 2^64, modulo 2^64.
    #[inline]
    fn by_product(&self, points: u64, per_point: u128) -> (u128, u128) {
        let p = u128::from(points);
        let quotient = p * (per_point >> 64) + ((p * u128::from(per_point as u64)) >> 64);
        let left = if self.total <= 1 << 63 {
            let given = (quotient as u64).wrapping_mul(self.total as u64);
            u128::from((self.pot as u64).wrapping_mul(points).wrapping_sub(given))
        } else {
            self.pot.wrapping_mul(p).wrapping_sub(quotient.wrapping_mul(self.total))
        };
        let short = left >= self.total;
        (quotient + u128::from(short), if short { left - self.total } else { left })
    }
}

/// [`Division`] for points up to `most`, where quotients and remainders have 64 bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Narrow {
    /// `⌊E · 2^(64 − cut) / P⌋`.
    factor: u64,
    cut: u32,
    /// Below `2^(64 − cut)`, at most P.
    most: u64,
    /// E modulo 2^64.
    pot: u64,
    total: u64,
}

impl Narrow {
    /// True when it is for all of these.
    pub(crate) fn suits(&self, points: &[u64]) -> bool {
        // Without an early end: no branches, a few instructions a row.
        !points.iter().fold(false, |over, points| over | (*points > self.most))
    }

    /// As in [`Division::by_product`] with `2^(64 − cut)` instead of 2^64: the product's high half is the quotient or one less, as points are
    /// below that power; what is left is below 2·P ≤ 2^64, and right modulo 2^64.
    #[inline]
    pub(crate) fn divide(&self, points: u64) -> (u64, u64) {
        let quotient = ((u128::from(points << self.cut) * u128::from(self.factor)) >> 64) as u64;
        let left = self.pot.wrapping_mul(points).wrapping_sub(quotient.wrapping_mul(self.total));
        let short = left >= self.total;
        (quotient + u64::from(short), if short { left - self.total } else { left })
    }
}

#[cfg(test)]
mod tests {
    use dn_core::amount::SUPPLY_CAP;
    use proptest::prelude::*;

    use super::*;

    fn check(pot: u128, points: u128, total: u128) {
        let expected = mul_div_rem(pot, points, total).expect("a part of the pot");
        let division = Division::new(pot, total);
        assert_eq!(division.divide(points), expected, "{pot} · {points} / {total}");
        if let Some(narrow) = division.narrow() {
            // Also with the most points that it is for.
            let points = u64::try_from(points).unwrap_or(u64::MAX).min(narrow.most);
            for points in [points, narrow.most, narrow.most - 1] {
                let (quotient, rest) = narrow.divide(points);
                let expected = mul_div_rem(pot, points.into(), total).expect("a part of the pot");
                assert_eq!((quotient.into(), rest.into()), expected, "{pot} · {points} / {total}");
            }
        }
    }

    /// 2^32 of the largest scores and the whole supply, and the edges of each representation.
    #[test]
    fn corners() {
        let most = u128::from(u64::MAX);
        for pot in [0, 1, most, most + 1, SUPPLY_CAP.atto(), 1 << 127, u128::MAX] {
            for total in [
                1,
                2,
                3,
                1 << 63,
                (1 << 63) + 1,
                most,
                most + 1,
                most << 32,
                1 << 127,
                (1 << 127) + 1,
                u128::MAX,
            ] {
                for points in [0, 1, 2, most - 1, most, most + 1, total - 1, total] {
                    check(pot, points.min(total), total);
                }
            }
        }
        assert!(Division::new(SUPPLY_CAP.atto(), most << 32).per_point.is_some());
        assert!(Division::new(SUPPLY_CAP.atto(), 1).per_point.is_none());
        // A thousand DN for 2^20 rows of 10^12 points.
        let narrow = Division::new(1_000 * 10u128.pow(18), 1_000_000_000_000 << 20).narrow().expect("narrow");
        assert!(narrow.most > 1 << 52);
        assert!(Division::new(SUPPLY_CAP.atto(), most << 32).narrow().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn the_product_is_the_division(
            pot: u128, total in 1u128.., points: u64, a in 0..128u32, b in 0..127u32, c in 0..64u32,
        ) {
            let (pot, total) = (pot >> a, (total >> b).max(1));
            check(pot, u128::from(points >> c).min(total), total);
        }
    }
}
