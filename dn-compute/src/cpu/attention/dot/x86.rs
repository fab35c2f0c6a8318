//! AVX2 and AVX-512 bodies of the block products.

use std::arch::x86_64::*;

use crate::spec::attention::KEY_BLOCK;

/// 32 keys at a time: four registers of eight for each digit.
#[target_feature(enable = "avx2")]
pub(super) fn scores_avx2(
    k: &[i16],
    high: &[i32],
    low: &[i32],
    out_high: &mut [i32; KEY_BLOCK],
    out_low: &mut [i32; KEY_BLOCK],
) {
    for half in 0..2 {
        let mut sum = [[_mm256_setzero_si256(); 2]; 4];
        for ((k, high), low) in k.chunks_exact(2 * KEY_BLOCK).zip(high).zip(low) {
            let (h, l) = (_mm256_set1_epi32(*high), _mm256_set1_epi32(*low));
            let k = &k[half * KEY_BLOCK..][..KEY_BLOCK];
            for (sum, k) in sum.iter_mut().zip(k.chunks_exact(16)) {
                // SAFETY: the chunk holds the sixteen values that are read.
                let k = unsafe { _mm256_loadu_si256(k.as_ptr().cast()) };
                sum[0] = _mm256_add_epi32(sum[0], _mm256_madd_epi16(k, h));
                sum[1] = _mm256_add_epi32(sum[1], _mm256_madd_epi16(k, l));
            }
        }
        for (i, sum) in sum.iter().enumerate() {
            let at = half * KEY_BLOCK / 2 + i * 8;
            let (h, l): (&mut [i32], &mut [i32]) = (&mut out_high[at..][..8], &mut out_low[at..][..8]);
            // SAFETY: the slices hold the eight values that are written.
            unsafe {
                _mm256_storeu_si256(h.as_mut_ptr().cast(), sum[0]);
                _mm256_storeu_si256(l.as_mut_ptr().cast(), sum[1]);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) fn scores_avx512(
    k: &[i16],
    high: &[i32],
    low: &[i32],
    out_high: &mut [i32; KEY_BLOCK],
    out_low: &mut [i32; KEY_BLOCK],
) {
    let mut sum = [[_mm512_setzero_si512(); 2]; 4];
    for ((k, high), low) in k.chunks_exact(2 * KEY_BLOCK).zip(high).zip(low) {
        let (h, l) = (_mm512_set1_epi32(*high), _mm512_set1_epi32(*low));
        for (sum, k) in sum.iter_mut().zip(k.chunks_exact(32)) {
            // SAFETY: the chunk holds the 32 values that are read.
            let k = unsafe { _mm512_loadu_si512(k.as_ptr().cast()) };
            sum[0] = _mm512_dpwssd_epi32(sum[0], k, h);
            sum[1] = _mm512_dpwssd_epi32(sum[1], k, l);
        }
    }
    for (i, sum) in sum.iter().enumerate() {
        let (h, l): (&mut [i32], &mut [i32]) = (&mut out_high[i * 16..][..16], &mut out_low[i * 16..][..16]);
        // SAFETY: the slices hold the sixteen values that are written.
        unsafe {
            _mm512_storeu_si512(h.as_mut_ptr().cast(), sum[0]);
            _mm512_storeu_si512(l.as_mut_ptr().cast(), sum[1]);
        }
    }
}

/// Eight elements at a time; returns how many elements are done.
#[target_feature(enable = "avx2")]
pub(super) fn weigh_avx2(v: &[i16], high: &[i32], low: &[i32], num: &mut [i64]) -> usize {
    let row = 2 * num.len();
    for (i, num) in num.chunks_exact_mut(8).enumerate() {
        let (mut h, mut l) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        for ((v, high), low) in v.chunks_exact(row).zip(high).zip(low) {
            let v: &[i16] = &v[i * 16..][..16];
            // SAFETY: the slice holds the sixteen values that are read.
            let v = unsafe { _mm256_loadu_si256(v.as_ptr().cast()) };
            h = _mm256_add_epi32(h, _mm256_madd_epi16(v, _mm256_set1_epi32(*high)));
            l = _mm256_add_epi32(l, _mm256_madd_epi16(v, _mm256_set1_epi32(*low)));
        }
        let (mut high, mut low) = ([0i32; 8], [0i32; 8]);
        // SAFETY: the arrays hold the eight values that are written.
        unsafe {
            _mm256_storeu_si256(high.as_mut_ptr().cast(), h);
            _mm256_storeu_si256(low.as_mut_ptr().cast(), l);
        }
        combine(num, &high, &low);
    }
    num.len() / 8 * 8
}

/// Sixteen elements at a time; returns how many elements are done.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) fn weigh_avx512(v: &[i16], high: &[i32], low: &[i32], num: &mut [i64]) -> usize {
    let row = 2 * num.len();
    for (i, num) in num.chunks_exact_mut(16).enumerate() {
        let (mut h, mut l) = (_mm512_setzero_si512(), _mm512_setzero_si512());
        for ((v, high), low) in v.chunks_exact(row).zip(high).zip(low) {
            let v: &[i16] = &v[i * 32..][..32];
            // SAFETY: the slice holds the 32 values that are read.
            let v = unsafe { _mm512_loadu_si512(v.as_ptr().cast()) };
            h = _mm512_dpwssd_epi32(h, v, _mm512_set1_epi32(*high));
            l = _mm512_dpwssd_epi32(l, v, _mm512_set1_epi32(*low));
        }
        let (mut high, mut low) = ([0i32; 16], [0i32; 16]);
        // SAFETY: the arrays hold the sixteen values that are written.
        unsafe {
            _mm512_storeu_si512(high.as_mut_ptr().cast(), h);
            _mm512_storeu_si512(low.as_mut_ptr().cast(), l);
        }
        combine(num, &high, &low);
    }
    num.len() / 16 * 16
}

#[inline(always)]
fn combine(num: &mut [i64], high: &[i32], low: &[i32]) {
    for ((num, high), low) in num.iter_mut().zip(high).zip(low) {
        *num = i64::from(*high) * 128 + i64::from(*low);
    }
}
