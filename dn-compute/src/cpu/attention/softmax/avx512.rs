//! AVX-512 bodies: scores eight at a time in f64, probabilities 32 at a time in 16 bits.

use std::arch::x86_64::*;
use std::ops::Range;

use crate::spec::attention::{KEY_BLOCK, MAX_P, MAX_SCORE};

use super::{Exponents, POSITION, Tops, UNSEEN, within};

/// # Safety
/// The lengths fit, as [`super::score`] checks.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[allow(clippy::too_many_arguments, reason = "kernels take their operands one by one")]
pub(super) unsafe fn score(
    high: &[i32],
    low: &[i32],
    factor: &[f64],
    seen: &[Range<usize>],
    base: usize,
    exponents: &Exponents,
    scores: &mut [i32],
    tops: &mut [Tops],
) {
    const ROUND: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    /// The smaller magnitude, with the sign of the first operand.
    const CLAMP: i32 = 0b0010;
    let (shift, limit) = (_mm512_set1_pd(256.0), _mm512_set1_pd(MAX_SCORE as f64));
    for (row, tops) in tops.iter_mut().enumerate() {
        let at = row * KEY_BLOCK;
        let factor = _mm512_set1_pd(factor[row]);
        for n in (0..KEY_BLOCK).step_by(8) {
            // SAFETY: every row of the three holds 64 values, the exponents too.
            unsafe {
                let h = _mm512_cvtepi32_pd(_mm256_loadu_si256(high.as_ptr().add(at + n).cast()));
                let l = _mm512_cvtepi32_pd(_mm256_loadu_si256(low.as_ptr().add(at + n).cast()));
                // Exact: below 2^39, then times powers of two.
                let dot = _mm512_fmadd_pd(h, shift, l);
                let key = _mm512_loadu_pd(exponents.key.as_ptr().add(n));
                let s = _mm512_mul_pd(_mm512_mul_pd(dot, factor), key);
                let s = _mm512_range_pd::<CLAMP>(s, limit);
                let s = _mm512_cvt_roundpd_epi32::<ROUND>(s);
                _mm256_storeu_si256(scores.as_mut_ptr().add(at + n).cast(), s);
            }
        }
        let scores: &mut [i32; KEY_BLOCK] = (&mut scores[at..][..KEY_BLOCK]).try_into().expect("64 of them");
        let seen = within(&seen[row], base);
        if seen != (0..KEY_BLOCK as i32) {
            hide(&seen, scores);
        }
        *tops = largest(scores, exponents);
    }
}

/// Replaces the scores of keys outside `seen`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn hide(seen: &Range<i32>, scores: &mut [i32; KEY_BLOCK]) {
    let (start, end) = (_mm512_set1_epi32(seen.start), _mm512_set1_epi32(seen.end));
    for n in (0..KEY_BLOCK).step_by(16) {
        // SAFETY: both arrays hold 64 values.
        unsafe {
            let position = _mm512_loadu_si512(POSITION.as_ptr().add(n).cast());
            let keep = _mm512_cmp_epi32_mask::<_MM_CMPINT_NLT>(position, start)
                & _mm512_cmp_epi32_mask::<_MM_CMPINT_LT>(position, end);
            let at = scores.as_mut_ptr().add(n);
            _mm512_storeu_si512(at.cast(), _mm512_mask_loadu_epi32(_mm512_set1_epi32(UNSEEN), keep, at));
        }
    }
}

/// 32 scores from `half` on, in the order of the positions: the whole parts and the fractions.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn split(scores: &[i32; KEY_BLOCK], half: usize) -> (__m512i, __m512i) {
    const ODD: __mmask32 = 0xaaaa_aaaa;
    assert!(half <= KEY_BLOCK / 2);
    // SAFETY: both reads are inside the 64 values.
    let (even, odd) = unsafe {
        (
            _mm512_loadu_si512(scores.as_ptr().add(half).cast()),
            _mm512_loadu_si512(scores.as_ptr().add(half + 16).cast()),
        )
    };
    let whole = _mm512_mask_blend_epi16(ODD, _mm512_srli_epi32::<16>(even), odd);
    let fraction = _mm512_mask_blend_epi16(ODD, even, _mm512_slli_epi32::<16>(odd));
    (whole, fraction)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn value_exponents(exponents: &Exponents, half: usize) -> __m512i {
    assert!(half <= KEY_BLOCK / 2);
    // SAFETY: the read is inside the 64 values.
    unsafe { _mm512_loadu_si512(exponents.value_ordered.as_ptr().add(half).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn largest(scores: &[i32; KEY_BLOCK], exponents: &Exponents) -> Tops {
    let ((a, _), (b, _)) = (split(scores, 0), split(scores, 32));
    // Saturating: a key that is not seen must not wrap to a maximum.
    let ja = _mm512_adds_epi16(a, value_exponents(exponents, 0));
    let jb = _mm512_adds_epi16(b, value_exponents(exponents, 32));
    [reduce(_mm512_max_epi16(a, b)), reduce(_mm512_max_epi16(ja, jb))]
}

/// The largest of 32 signed values.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn reduce(v: __m512i) -> i32 {
    let v = _mm256_max_epi16(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64::<1>(v));
    let v = _mm_max_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
    // The signed order upside down is an unsigned one.
    let least = _mm_minpos_epu16(_mm_xor_si128(v, _mm_set1_epi16(0x7fff)));
    i32::from((_mm_cvtsi128_si32(least) as u16 ^ 0x7fff) as i16)
}

/// # Safety
/// The lengths fit, as [`super::weights`] checks.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn weights(
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
        let top = _mm512_set1_epi16(tops[0] as i16);
        let top_value = _mm512_set1_epi16(tops[1] as i16);
        let mut sum = _mm512_setzero_si512();
        for half in [0, 32] {
            let (whole, fraction) = split(scores, half);
            let power = power(fraction);
            // Differences are below 2^16: right modulo 2^16, whatever the summands do.
            let p = probability(power, _mm512_sub_epi16(top, whole));
            sum = _mm512_dpwssd_epi32(sum, p, _mm512_set1_epi16(1));
            let whole = _mm512_add_epi16(whole, value_exponents(exponents, half));
            let p = probability(power, _mm512_sub_epi16(top_value, whole));
            let at = row * KEY_BLOCK / 2 + half / 2;
            // SAFETY: every row of the outputs holds 32 values.
            unsafe {
                _mm512_storeu_si512(high.as_mut_ptr().add(at).cast(), _mm512_srli_epi16::<8>(p));
                let low_digits = _mm512_and_si512(p, _mm512_set1_epi16(255));
                _mm512_storeu_si512(low.as_mut_ptr().add(at).cast(), low_digits);
            }
        }
        sums[row] = i64::from(_mm512_reduce_add_epi32(sum));
    }
}

/// `exp2_q16(f) / 2` of 32 fractions, a lost last bit kept by an odd result: 16 bits, which round as all 17 would, since at
/// least two more are dropped.
///
/// At `f = 65535` one step saturates and the power is 131070 instead of 131071. Divided by 8 and more both round alike.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn power(f: __m512i) -> __m512i {
    let one = _mm512_set1_epi16(1);
    let y = product(f, _mm512_set1_epi16(900));
    let y = product(f, _mm512_add_epi16(y, _mm512_set1_epi16(3386)));
    let y = product(f, _mm512_add_epi16(y, _mm512_set1_epi16(15_836)));
    let y = product(f, _mm512_adds_epu16(y, _mm512_set1_epi16(45_414u16 as i16)));
    // Half of 65536 + y, or its last bit.
    let half = _mm512_or_si512(_mm512_srli_epi16::<1>(y), _mm512_set1_epi16(i16::MIN));
    _mm512_or_si512(half, _mm512_and_si512(y, one))
}

/// `(f * y + 32768) >> 16`, unsigned.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn product(f: __m512i, y: __m512i) -> __m512i {
    let round = _mm512_srli_epi16::<15>(_mm512_mullo_epi16(f, y));
    _mm512_add_epi16(_mm512_mulhi_epu16(f, y), round)
}

/// `min(RNE(2 * half / 2^(below + 3)), 16383)`, for `below` as an unsigned 16-bit number.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn probability(half: __m512i, below: __m512i) -> __m512i {
    /// `2^(n + 1) - 2` for n steps below the maximum: half of what is dropped, less two.
    const BIAS: [u16; 32] = {
        let mut table = [0; 32];
        let mut n = 0;
        while n < 16 {
            table[n] = (1u16 << n << 1).wrapping_sub(2);
            n += 1;
        }
        table
    };
    // SAFETY: the table holds 32 values.
    let table = unsafe { _mm512_loadu_si512(BIAS.as_ptr().cast()) };
    let one = _mm512_set1_epi16(1);
    // From 15 on everything rounds to zero.
    let below = _mm512_min_epu16(below, _mm512_set1_epi16(15));
    let less = _mm512_add_epi16(below, one);
    let quotient = _mm512_srlv_epi16(half, _mm512_add_epi16(less, one));
    let bias = _mm512_permutexvar_epi16(below, table);
    let bias = _mm512_add_epi16(bias, _mm512_and_si512(quotient, one));
    // (half + bias + 1) / 2 without losing the 17th bit; the rest of the shift follows.
    let p = _mm512_srlv_epi16(_mm512_avg_epu16(half, bias), less);
    _mm512_min_epu16(p, _mm512_set1_epi16(MAX_P as i16))
}
