//! The sampler's passes over a whole vocabulary in the processor's vectors: fixed point, the largest, and the weights of a softmax.
//!
//! All of it is integers, or floats that the spec rounds the same way everywhere: which code runs cannot matter.

use crate::sampling::fixed::{Powers, to_fixed};

/// All logits in fixed point.
pub(crate) fn fill(logits: &[f32], fixed: &mut Vec<i64>) {
    // What the buffer holds is written over.
    fixed.resize(logits.len(), 0);
    #[cfg(target_arch = "x86_64")]
    if x86::detected() {
        // SAFETY: the processor has the features.
        return unsafe { x86::fill(logits, fixed) };
    }
    fill_body(logits, fixed);
}

/// The largest number, 0 of none.
pub(crate) fn largest(fixed: &[i64]) -> i64 {
    #[cfg(target_arch = "x86_64")]
    if x86::detected() {
        // SAFETY: the processor has the features.
        return unsafe { x86::largest(fixed) };
    }
    largest_body(fixed)
}

/// The weights of all tokens where the best one's logit is `max`.
pub(crate) fn weights(powers: &Powers, max: i64, fixed: &[i64], out: &mut Vec<u64>) {
    out.resize(fixed.len(), 0);
    let out = &mut out[..];
    #[cfg(target_arch = "x86_64")]
    let (fixed, out) = {
        let whole = if x86::detected() && powers.fits_52_bits() { fixed.len() / 8 * 8 } else { 0 };
        let ((now, later), (to, rest)) = (fixed.split_at(whole), out.split_at_mut(whole));
        // SAFETY: the processor has the features; the factors fit.
        unsafe { x86::weights(powers, max, now, to) };
        (later, rest)
    };
    for (out, l) in out.iter_mut().zip(fixed) {
        *out = powers.of(max, *l);
    }
}

#[inline(always)]
fn fill_body(logits: &[f32], fixed: &mut [i64]) {
    for (fixed, l) in fixed.iter_mut().zip(logits) {
        *fixed = to_fixed(*l);
    }
}

#[inline(always)]
fn largest_body(fixed: &[i64]) -> i64 {
    const LANES: usize = 32;
    let (chunks, rest) = fixed.as_chunks::<LANES>();
    let mut most = [i64::MIN; LANES];
    for chunk in chunks {
        for (most, l) in most.iter_mut().zip(chunk) {
            *most = (*most).max(*l);
        }
    }
    most.iter().chain(rest).copied().max().filter(|_| !fixed.is_empty()).unwrap_or(0)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use crate::sampling::fixed::{Powers, WEIGHT_BITS};

    /// Whether the processor has what the functions here are compiled for.
    pub(super) fn detected() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512ifma")
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) fn fill(logits: &[f32], fixed: &mut [i64]) {
        super::fill_body(logits, fixed);
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) fn largest(fixed: &[i64]) -> i64 {
        super::largest_body(fixed)
    }

    /// What [`Powers::of`] gives for each, eight at a time: of a product of factors below `2^52`, bits 52 to 103 are one instruction.
    ///
    /// # Safety
    /// The factors fit: [`Powers::fits_52_bits`]. There are as many weights as numbers, and whole eights.
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    pub(super) unsafe fn weights(powers: &Powers, max: i64, fixed: &[i64], out: &mut [u64]) {
        const UP: u32 = 52 - WEIGHT_BITS;
        let (zero, byte) = (_mm512_setzero_si512(), _mm512_set1_epi64(255));
        let [scale, nothing] = [powers.scale(), powers.nothing()].map(|v| _mm512_set1_epi64(v as i64));
        let product = |a, b| {
            // Of powers up to `2^40`: half of the shift for each, since all of it would take one to `2^52`.
            let [a, b] = [a, b].map(|v| _mm512_slli_epi64::<{ UP / 2 }>(v));
            _mm512_madd52hi_epu64(zero, a, b)
        };
        for (out, l) in out.as_chunks_mut::<8>().0.iter_mut().zip(fixed.as_chunks::<8>().0) {
            // SAFETY: the array holds the eight numbers that are read.
            let l = unsafe { _mm512_loadu_si512(l.as_ptr().cast()) };
            let below = _mm512_sub_epi64(_mm512_set1_epi64(max), l);
            let near = _mm512_cmplt_epu64_mask(below, nothing);
            let x = _mm512_madd52hi_epu64(zero, _mm512_slli_epi64::<UP>(below), scale);
            let digits = [_mm512_srli_epi64::<16>(x), _mm512_srli_epi64::<8>(x), x];
            let [a, b, c] = std::array::from_fn(|i| {
                let at = _mm512_and_si512(digits[i], byte);
                // SAFETY: each table has 256 numbers.
                unsafe { _mm512_i64gather_epi64::<8>(at, powers.tables()[i].as_ptr().cast()) }
            });
            let power = product(product(a, b), c);
            let weight = _mm512_maskz_srlv_epi64(near, power, _mm512_srli_epi64::<24>(x));
            // SAFETY: the array holds the eight numbers that are written.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), weight) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::fixed::{EXCLUDED, MAX_FIXED};

    /// Against the definition, one by one: near, far, excluded, at the edges of every temperature's reach.
    #[test]
    fn passes_give_what_the_definition_does() {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 20
        };
        for temperature in [1, 1_000, 300_000, 1_000_000, 1_700_000, 100_000_000, u32::MAX] {
            let powers = Powers::new(temperature);
            let max = 5 << 24;
            let edge = powers.nothing();
            let mut fixed: Vec<i64> = (0..1003).map(|i| max - (next() >> (i % 44)) as i64).collect();
            for (at, below) in [0, 1, edge - 1, edge, edge.saturating_add(1), 1 << 41].into_iter().enumerate()
            {
                fixed[7 * at] = max.saturating_sub_unsigned(below);
            }
            fixed[500] = EXCLUDED;
            fixed[1001] = EXCLUDED;
            fixed[1002] = -MAX_FIXED;
            let mut out = vec![3; 2_000];
            weights(&powers, max, &fixed, &mut out);
            let wanted: Vec<u64> = fixed.iter().map(|l| powers.of(max, *l)).collect();
            assert_eq!(out, wanted, "temperature {temperature}");
            assert_eq!(out[500], 0);
            assert_eq!(largest(&fixed), max);
        }
        assert_eq!((largest(&[]), largest(&[EXCLUDED, -3, -4])), (0, -3));
        let logits: Vec<f32> = (0..1003).map(|_| f32::from_bits((next() as u32) & 0xff7f_ffff)).collect();
        let mut fixed = vec![9; 5];
        fill(&logits, &mut fixed);
        assert_eq!(fixed, logits.iter().map(|l| to_fixed(*l)).collect::<Vec<_>>());
    }
}
