//! The slow record: rises by small steps, falls by large ones.

use crate::fixed::Unit;
use crate::params::Params;
use crate::root::product;

/// One epoch of history: `h + G·(1 − h) − L·h` with `G = gain · w_pass` and `L = loss · w_fail`, then the share
/// `fraud_keep` for each proven fraud.
///
/// Gain and loss act on the same `h`, so that the level that a steady rate of failures leads to, `G / (G + L)`, does not
/// depend on how much work an epoch holds: nothing is won by splitting one identity into many.
#[inline]
pub(crate) fn close_epoch(params: &Params, history: u32, (pass, fail): (u64, u64), frauds: u32) -> u32 {
    let h = u64::from(history);
    // Weights are capped below 2^24 and rates below 2^16: both products stay below 2^40 and are cut to Q32's one.
    let rate = |per_unit: u32, weight: u64| (u64::from(per_unit) * weight).min(1 << 32);
    let gain = rate(params.history_gain, pass);
    let loss = rate(params.history_loss, fail);
    // Shifted by 31 and 1 the high half is the product in Q32; all factors are at most 2^32.
    let (up, _) = product(((1 << 32) - h) << 31, gain << 1);
    let (down, rest) = product(h << 31, loss << 1);
    let down = down + u64::from(rest > 0);
    let mut h = Unit::from_bits((h + up).saturating_sub(down)).to_fraction();
    // 32 halvings clear every bit, whatever the number of frauds.
    for _ in 0..frauds.min(64) {
        h = ((u64::from(h) * u64::from(params.fraud_keep)) >> 16) as u32;
    }
    h
}

/// A leaky level in Q32: `level + up·(1 − level)·part − down·level·(1 − part)`, where `part` is the good share.
#[inline]
pub(crate) fn leak(level: u32, up: u32, down: u32, part: Unit) -> u32 {
    // Q32 · Q16 · Q32 to Q32: 48 bits less. Room times rate is below 2^64, the share at most 2^32.
    let step = |room: u64, rate: u32, share: Unit| product(room * u64::from(rate), share.bits() << 16);
    let (rise, _) = step((1 << 32) - u64::from(level), up, part);
    let (fall, rest) = step(level.into(), down, part.complement());
    let fall = fall + u64::from(rest > 0);
    Unit::from_bits((u64::from(level) + rise).saturating_sub(fall)).to_fraction()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const W1: u64 = 1 << 16;

    #[test]
    fn history_by_hand() {
        let p = Params::default();
        let eighth = 1 << 29;
        // 1/8 + (7/8)/256 = 0.128418: 2^29 + 7·2^21.
        assert_eq!(close_epoch(&p, eighth, (W1, 0), 0), (1 << 29) + 7 * (1 << 21));
        // 1/8 · 31/32.
        assert_eq!(close_epoch(&p, eighth, (0, W1), 0), (1 << 29) - (1 << 24));
        // Halved twice.
        assert_eq!(close_epoch(&p, eighth, (0, 0), 2), 1 << 27);
        assert_eq!(close_epoch(&p, u32::MAX, (0, 0), u32::MAX), 0);
        assert_eq!(close_epoch(&p, u32::MAX, (1000 * W1, 0), 0), u32::MAX);
        assert_eq!(close_epoch(&p, u32::MAX, (0, 1000 * W1), 0), 0);
    }

    #[test]
    fn leak_by_hand() {
        let half = 1u32 << 31;
        let (up, down) = (1024, 4096); // 1/64 and 1/16
        assert_eq!(leak(half, up, down, Unit::ONE), half + (1 << 25)); // ½ + ½/64
        assert_eq!(leak(half, up, down, Unit::ZERO), half - (1 << 27)); // ½ − ½/16
        assert_eq!(leak(0, up, down, Unit::ZERO), 0);
        assert!(leak(u32::MAX, up, down, Unit::ONE) >= u32::MAX - 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        /// Both moves, written out in 128 bits.
        #[test]
        fn moves_in_any_width(
            level: u32, up: u32, down: u32, part in 0..=1u64 << 32, pass in 0..=1u64 << 32, fail in 0..=1u64 << 32,
        ) {
            let (h, whole) = (u128::from(level), 1u128 << 32);
            let cut = |x: u128| u32::try_from(x).unwrap_or(u32::MAX);
            let rise = ((whole - h) * u128::from(up) * u128::from(part)) >> 48;
            let fall = (h * u128::from(down) * (whole - u128::from(part))).div_ceil(1 << 48);
            let expected = cut((h + rise).saturating_sub(fall));
            prop_assert_eq!(leak(level, up, down, Unit::from_bits(part)), expected);

            let p = Params::default();
            let gain = (u128::from(p.history_gain) * u128::from(pass)).min(whole);
            let loss = (u128::from(p.history_loss) * u128::from(fail)).min(whole);
            let moved = (h + (((whole - h) * gain) >> 32)).saturating_sub((h * loss).div_ceil(whole));
            prop_assert_eq!(close_epoch(&p, level, (pass, fail), 0), cut(moved));
        }
    }
}
