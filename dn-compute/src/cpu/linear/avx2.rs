//! AVX2: 8 rows to a register, pairs of columns through `vpmaddwd` (which cannot saturate: i8 times i16), block sums
//! in f64 (exact below 2^53).

#![allow(
    clippy::needless_range_loop,
    reason = "indices name tokens, groups and halves of several arrays at once"
)]

use std::arch::x86_64::*;

use super::{Results, token_scale};
use crate::cpu::isa::Avx2;
use crate::cpu::pack::{Acts, GROUP, Packed, STEPS, Tile};

/// `groups` groups of 16 rows from `group`, times a tile.
pub(super) fn kernel(
    _: Avx2,
    w: &Packed,
    acts: &Acts,
    group: usize,
    groups: usize,
    tile: Tile,
    out: &mut Results,
) {
    for g in 0..groups {
        let out = &mut out[g * tile.width..][..tile.width];
        // SAFETY: the token proves AVX2; everything else is checked by slices inside.
        unsafe {
            match tile.width {
                8 => {
                    for (half, first) in [(0, 0), (0, 4), (1, 0), (1, 4)] {
                        half_group::<1, 4>(w, acts, group + g, half, tile, first, out);
                    }
                }
                4 => {
                    half_group::<1, 4>(w, acts, group + g, 0, tile, 0, out);
                    half_group::<1, 4>(w, acts, group + g, 1, tile, 0, out);
                }
                2 => half_group::<2, 2>(w, acts, group + g, 0, tile, 0, out),
                _ => half_group::<2, 1>(w, acts, group + g, 0, tile, 0, out),
            }
        }
    }
}

/// `H` halves of a group from `half`, times `T` tokens of the tile from `first`.
#[target_feature(enable = "avx2")]
fn half_group<const H: usize, const T: usize>(
    w: &Packed,
    acts: &Acts,
    group: usize,
    half: usize,
    tile: Tile,
    first: usize,
    out: &mut [[f32; GROUP]],
) {
    let pairs = acts.tile(tile);
    let (q, m) = (&w.q[group * w.blocks..][..w.blocks], &w.m[group * w.blocks..][..w.blocks]);
    let mut sum = [[[_mm256_setzero_pd(); 2]; H]; T];
    for ((q, m), pairs) in q.iter().zip(m).zip(pairs.chunks_exact(STEPS * tile.width)) {
        let mut dot = [[_mm256_setzero_si256(); H]; T];
        for (p, pairs) in pairs.chunks_exact(tile.width).enumerate() {
            let pairs = &pairs[first..][..T];
            for h in 0..H {
                let bytes: &[i8] = &q.0[p * 2 * GROUP + (half + h) * GROUP..][..GROUP];
                // SAFETY: the slice holds the 16 bytes that are read.
                let v = _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) });
                for t in 0..T {
                    let x = _mm256_set1_epi32(pairs[t]);
                    dot[t][h] = _mm256_add_epi32(dot[t][h], _mm256_madd_epi16(v, x));
                }
            }
        }
        for h in 0..H {
            let mantissas: &[u16] = &m.0[(half + h) * 8..][..8];
            // SAFETY: the slice holds the eight mantissas that are read.
            let v = _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(mantissas.as_ptr().cast()) });
            let m0 = _mm256_cvtepi32_pd(_mm256_castsi256_si128(v));
            let m1 = _mm256_cvtepi32_pd(_mm256_extracti128_si256::<1>(v));
            for t in 0..T {
                // Integers below 2^53 throughout: product and sum are exact.
                let d0 = _mm256_cvtepi32_pd(_mm256_castsi256_si128(dot[t][h]));
                let d1 = _mm256_cvtepi32_pd(_mm256_extracti128_si256::<1>(dot[t][h]));
                sum[t][h][0] = _mm256_add_pd(sum[t][h][0], _mm256_mul_pd(d0, m0));
                sum[t][h][1] = _mm256_add_pd(sum[t][h][1], _mm256_mul_pd(d1, m1));
            }
        }
    }
    for t in 0..T {
        let token = _mm256_set1_pd(token_scale(acts, tile, first + t));
        for h in 0..H {
            for part in 0..2 {
                let at = (half + h) * 8 + part * 4;
                let rows: &[f64] = &w.scale[group * GROUP + at..][..4];
                // SAFETY: the slice holds the four values that are read.
                let scale = _mm256_mul_pd(unsafe { _mm256_loadu_pd(rows.as_ptr()) }, token);
                let to: &mut [f32] = &mut out[first + t][at..][..4];
                // SAFETY: the slice holds the four values that are written.
                unsafe { _mm_storeu_ps(to.as_mut_ptr(), finish(sum[t][h][part], scale)) };
            }
        }
    }
}

/// Rounds to 24 bits, scales exactly, turns what is below `2^-126` into `+0`.
#[inline]
#[target_feature(enable = "avx2")]
fn finish(sum: __m256d, scale: __m256d) -> __m128 {
    let rounded = _mm256_cvtps_pd(_mm256_cvtpd_ps(sum));
    let v = _mm256_mul_pd(rounded, scale);
    let magnitude = _mm256_andnot_pd(_mm256_set1_pd(-0.0), v);
    let keep = _mm256_cmp_pd::<_CMP_GE_OQ>(magnitude, _mm256_set1_pd(f64::from(f32::MIN_POSITIVE)));
    _mm256_cvtpd_ps(_mm256_and_pd(v, keep))
}
