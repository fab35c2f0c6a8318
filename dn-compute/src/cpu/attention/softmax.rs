//! What lies between the two products: dot products to fixed-point scores, scores to probabilities, sums of a block to
//! sums over all.

use std::ops::Range;

use crate::spec::{
    attention::{KEY_BLOCK, KvPage, MAX_P, MAX_SCORE, merge, slot},
    exp2::exp2_q16,
    float::pow2,
};

use crate::cpu::isa::{Level, multiversioned};

#[cfg(target_arch = "x86_64")]
mod avx512;

/// Query rows that are worked on together.
pub(super) const STRIP: usize = 16;

/// Score of a key that a query does not see: its probability is zero, and it is below every real maximum.
const UNSEEN: i32 = i32::MIN;

/// Largest whole part of a block's scores, alone and with the value's exponent.
pub(super) type Tops = [i32; 2];

/// Below every real maximum.
pub(super) const NO_TOPS: Tops = [i32::MIN / 2; 2];

/// The exponents of a page for one head.
pub(super) struct Exponents {
    /// `2^ek` by slot.
    key: [f64; KEY_BLOCK],
    /// `ev` by slot.
    value: [i32; KEY_BLOCK],
    /// `ev` by position.
    value_ordered: [i16; KEY_BLOCK],
}

impl Exponents {
    pub(super) fn new(page: &KvPage, head: usize) -> Self {
        let (ke, ve) = (&page.ke[head * KEY_BLOCK..][..KEY_BLOCK], &page.ve[head * KEY_BLOCK..][..KEY_BLOCK]);
        let mut all = Self {
            key: [0.0; KEY_BLOCK],
            value: ve.try_into().expect("64 of them"),
            value_ordered: [0; KEY_BLOCK],
        };
        for (key, e) in all.key.iter_mut().zip(ke) {
            *key = pow2(*e);
        }
        for (position, e) in all.value_ordered.iter_mut().enumerate() {
            *e = all.value[slot(position)] as i16;
        }
        all
    }
}

/// The position in its page of each slot.
const POSITION: [i32; KEY_BLOCK] = {
    let mut table = [0; KEY_BLOCK];
    let mut position = 0;
    while position < KEY_BLOCK {
        table[slot(position)] = position as i32;
        position += 1;
    }
    table
};

/// The part of `seen` inside the page that starts at `base`.
#[inline(always)]
fn within(seen: &Range<usize>, base: usize) -> Range<i32> {
    let clip = |n: usize| n.saturating_sub(base).min(KEY_BLOCK) as i32;
    clip(seen.start)..clip(seen.end)
}

/// Dot products of a strip with the page at `base`, two digits each, to scores in Q16 and their tops.
///
/// # Shape
/// `high`, `low`, `scores`: `[row][slot]`; `factor` (`2^(eq + 16)`), `seen`, `tops`: `[row]`.
#[allow(clippy::too_many_arguments, reason = "kernels take their operands one by one")]
pub(super) fn score(
    level: Level,
    high: &[i32],
    low: &[i32],
    factor: &[f64],
    seen: &[Range<usize>],
    base: usize,
    exponents: &Exponents,
    scores: &mut [i32],
    tops: &mut [Tops],
) {
    let rows = tops.len();
    assert!(high.len() >= rows * KEY_BLOCK && low.len() >= rows * KEY_BLOCK);
    assert!(scores.len() == rows * KEY_BLOCK && factor.len() == rows && seen.len() == rows);
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves these features; the lengths are checked above.
        Level::Avx512(_) | Level::Amx(_) => unsafe {
            avx512::score(high, low, factor, seen, base, exponents, scores, tops);
        },
        _ => score_any(level, high, low, factor, seen, base, exponents, scores, tops),
    }
}

multiversioned! {
    fn score_any(
        high: &[i32], low: &[i32], factor: &[f64], seen: &[Range<usize>], base: usize, exponents: &Exponents,
        scores: &mut [i32], tops: &mut [Tops],
    ) = score_body;
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "kernels take their operands one by one")]
fn score_body(
    high: &[i32],
    low: &[i32],
    factor: &[f64],
    seen: &[Range<usize>],
    base: usize,
    exponents: &Exponents,
    scores: &mut [i32],
    tops: &mut [Tops],
) {
    let limit = MAX_SCORE as f64;
    for (row, tops) in tops.iter_mut().enumerate() {
        let at = row * KEY_BLOCK;
        let (high, low) = (&high[at..][..KEY_BLOCK], &low[at..][..KEY_BLOCK]);
        let scores: &mut [i32; KEY_BLOCK] = (&mut scores[at..][..KEY_BLOCK]).try_into().expect("64 of them");
        for n in 0..KEY_BLOCK {
            // Below 2^39 and exact in f64, as is the product with a power of two; held to the limit before rounding,
            // which is the same because the limit is an integer. Adding 1.5 * 2^52 rounds to nearest even.
            let dot = f64::from(high[n]) * 256.0 + f64::from(low[n]);
            let s = (dot * (factor[row] * exponents.key[n])).clamp(-limit, limit);
            scores[n] = (s + 6_755_399_441_055_744.0).to_bits() as i32;
        }
        let seen = within(&seen[row], base);
        if seen != (0..KEY_BLOCK as i32) {
            for n in 0..KEY_BLOCK {
                scores[n] =
                    if seen.start <= POSITION[n] && POSITION[n] < seen.end { scores[n] } else { UNSEEN };
            }
        }
        *tops = NO_TOPS;
        for (score, value) in scores.iter().zip(&exponents.value) {
            let whole = score >> 16;
            *tops = [tops[0].max(whole), tops[1].max(whole + value)];
        }
    }
}

/// Scores of a strip to probabilities: their sums, and the two digits of those that weigh values.
///
/// # Shape
/// `scores`: `[row][slot]`; `tops`, `sums`: `[row]`; `high`, `low`: `[row][pair of positions]`, as halves of an i32.
pub(super) fn weights(
    level: Level,
    scores: &[i32],
    tops: &[Tops],
    exponents: &Exponents,
    sums: &mut [i64],
    high: &mut [i32],
    low: &mut [i32],
) {
    let rows = tops.len();
    assert!(scores.len() == rows * KEY_BLOCK && sums.len() >= rows);
    assert!(high.len() >= rows * KEY_BLOCK / 2 && low.len() >= rows * KEY_BLOCK / 2);
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves these features; the lengths are checked above.
        Level::Avx512(_) | Level::Amx(_) => unsafe {
            avx512::weights(scores, tops, exponents, sums, high, low);
        },
        _ => weights_any(level, scores, tops, exponents, sums, high, low),
    }
}

multiversioned! {
    fn weights_any(
        scores: &[i32], tops: &[Tops], exponents: &Exponents, sums: &mut [i64], high: &mut [i32], low: &mut [i32],
    ) = weights_body;
}

#[inline(always)]
fn weights_body(
    scores: &[i32],
    tops: &[Tops],
    exponents: &Exponents,
    sums: &mut [i64],
    high: &mut [i32],
    low: &mut [i32],
) {
    for (row, tops) in tops.iter().enumerate() {
        let scores: &[i32; KEY_BLOCK] =
            scores[row * KEY_BLOCK..][..KEY_BLOCK].try_into().expect("64 of them");
        let mut p = [0u32; KEY_BLOCK];
        let mut sum = 0u32;
        for n in 0..KEY_BLOCK {
            let (whole, power) = (scores[n] >> 16, exp2_q16((scores[n] & 0xffff) as u32));
            sum += probability(power, tops[0].wrapping_sub(whole));
            p[n] = probability(power, tops[1].wrapping_sub(whole + exponents.value[n]));
        }
        sums[row] = i64::from(sum);
        let digits = high[row * KEY_BLOCK / 2..].iter_mut().zip(&mut low[row * KEY_BLOCK / 2..]);
        for (pair, (high, low)) in digits.take(KEY_BLOCK / 2).enumerate() {
            let (even, odd) = (p[slot(2 * pair)], p[slot(2 * pair + 1)]);
            *high = (even >> 8 | odd >> 8 << 16) as i32;
            *low = (even & 255 | (odd & 255) << 16) as i32;
        }
    }
}

/// `min(RNE(power / 2^(below + 3)), 16383)`.
#[inline(always)]
fn probability(power: u32, below: i32) -> u32 {
    // At 20 and more the power, below 2^17, rounds to zero.
    let shift = below.clamp(0, 17) as u32 + 3;
    let odd = (power >> shift) & 1;
    ((power + ((1 << (shift - 1)) - 1) + odd) >> shift).min(MAX_P)
}

/// Adds a block's numerators to those of a row, `down` steps below the row's maximum.
pub(super) fn add_block(level: Level, high: &[i32], low: &[i32], down: i32, num: &mut [i64]) {
    // From 53 steps on `2^51 / 2^53` rounds to zero; so it does at 60.
    add_block_any(level, high, low, pow2(16 - down.min(60)), num);
}

/// Adds a block's denominator to that of a row.
pub(super) fn add_sum(den: &mut i64, sum: i64, down: i32) {
    *den += merge(sum, down);
}

multiversioned! {
    fn add_block_any(high: &[i32], low: &[i32], factor: f64, num: &mut [i64]) = add_block_body;
}

#[inline(always)]
fn add_block_body(high: &[i32], low: &[i32], factor: f64, num: &mut [i64]) {
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    for ((num, high), low) in num.iter_mut().zip(high).zip(low) {
        // The sum is below 2^35, times 2^16 below 2^51: exact until the addition rounds to nearest even.
        let scaled = (f64::from(*high) * 256.0 + f64::from(*low)) * factor;
        *num = num.wrapping_add(((scaled + MAGIC).to_bits() as i64).wrapping_sub(MAGIC.to_bits() as i64));
    }
}

#[cfg(test)]
mod tests;
