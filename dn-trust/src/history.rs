//! The slow record: rises by small steps, falls by large ones.

use crate::fixed::Unit;
use crate::params::Params;
use crate::root::product;

/// One epoch of history: `⌊h + G·(1 − h) − L·h⌋` with `G = gain · w_pass` and `L = loss · w_fail`, then the share
/// `fraud_keep` for each proven fraud.
///
/// Gain and loss act on the same `h`, so that the level that a steady rate of failures leads to, `G / (G + L)`, does not
/// depend on how much work an epoch holds: nothing is won by splitting one identity into many.
#[inline]
pub(crate) fn close_epoch(params: &Params, history: u32, (pass, fail): (u64, u64), frauds: u32) -> u32 {
    const ONE: u64 = 1 << 32;
    // Weights are capped below 2^24 and rates below 2^16: both products stay below 2^40 and are cut to Q32's one.
    let rate = |per_unit: u32, weight: u64| (u64::from(per_unit) * weight).min(ONE);
    let (gain, loss) = (rate(params.history_gain, pass), rate(params.history_loss, fail));
    // ⌊h·(1 − G − L) + G⌋, rounded once: G is whole. At most one.
    let kept = (u64::from(history) * ONE.saturating_sub(gain + loss)) >> 32;
    let mut h = (gain + kept).min(u32::MAX.into()) as u32;
    // 32 halvings clear every bit, whatever the number of frauds.
    for _ in 0..frauds.min(64) {
        h = ((u64::from(h) * u64::from(params.fraud_keep)) >> 16) as u32;
    }
    h
}

/// A leaky level in Q32: `⌊level + up·(1 − level)·part − down·level·(1 − part)⌋`, where `part` is the good share.
///
/// Rounded once, like history. Rounding the rise down and the fall up, each for itself, would now and then send the larger of two
/// neighbouring levels below the smaller, so that a better record gave less trust.
#[inline]
pub(crate) fn leak(level: u32, up: u32, down: u32, part: Unit) -> u32 {
    // Rates are at most 2^16 and shares at most 2^32: terms in Q48. Their sum is from 0 to one, whatever the sign of the last term.
    let gain = u64::from(up).wrapping_mul(part.bits());
    let slower = u64::from(down).wrapping_sub(u64::from(up));
    // 1 − up·part − down·(1 − part) = 1 − down + (down − up)·part.
    let keep =
        (1u64 << 48).wrapping_sub(u64::from(down) << 32).wrapping_add(slower.wrapping_mul(part.bits()));
    // In Q96, whose high half is Q32. At most one, as the rates are.
    let (high, low) = product(u64::from(level) << 16, keep);
    let carry = u64::from(low.checked_add(gain << 48).is_none());
    (high + (gain >> 16) + carry).min(u32::MAX.into()) as u32
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

    /// `⌊level·(1 − gain − loss) + gain⌋` in 128 bits, gain and loss in fractions of 2^scale; one becomes the largest number below it.
    fn by_definition(level: u32, gain: u64, loss: u64, scale: u32) -> u32 {
        let (level, gain, loss) = (u128::from(level), u128::from(gain), u128::from(loss));
        let keep = (1u128 << scale).saturating_sub(gain + loss);
        u32::try_from((level * keep + (gain << 32)) >> scale).unwrap_or(u32::MAX)
    }

    fn edge(most: u64) -> impl Strategy<Value = u64> {
        prop_oneof![4 => 0..=most, 1 => Just(0), 1 => Just(most), 1 => Just(most - 1)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn the_definitions(
            level in edge(u32::MAX.into()), up in edge(1 << 16), down in edge(1 << 16), part in edge(1 << 32),
            pass in edge(1 << 24), fail in edge(1 << 24),
        ) {
            let (level, up, down) = (level as u32, up as u32, down as u32);
            let terms = (u64::from(up) * part, u64::from(down) * ((1 << 32) - part));
            prop_assert_eq!(leak(level, up, down, Unit::from_bits(part)), by_definition(level, terms.0, terms.1, 48));
            let p = Params { history_gain: up >> 3, history_loss: down >> 1, ..Params::default() };
            let [gain, loss] = [(p.history_gain, pass), (p.history_loss, fail)].map(|(r, w)| (u64::from(r) * w).min(1 << 32));
            prop_assert_eq!(close_epoch(&p, level, (pass, fail), 0), by_definition(level, gain, loss, 32));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// The better of two records stays the better, by however little, whatever happens to both.
        #[test]
        fn the_better_record_stays_the_better(
            a in any::<u32>(), above in prop_oneof![3 => Just(1u32), 1 => any::<u32>()], pass in 0..=W1, fail in 0..=W1, frauds in 0..3u32,
            up in 0..=1u32 << 16, down in 0..=1u32 << 16, part in 0..=1u64 << 32,
        ) {
            let b = a.saturating_add(above);
            let p = Params { history_gain: 1 << 13, history_loss: 1 << 15, ..Params::default() };
            prop_assert!(close_epoch(&p, a, (pass, fail), frauds) <= close_epoch(&p, b, (pass, fail), frauds));
            let part = Unit::from_bits(part);
            prop_assert!(leak(a, up, down, part) <= leak(b, up, down, part));
        }
    }
}
