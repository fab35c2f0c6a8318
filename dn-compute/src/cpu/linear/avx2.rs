//! AVX2: 8 rows to a register, pairs of columns through `vpmaddwd` (which cannot saturate: i8 times i16), block sums
//! in f64 (exact below 2^53).

#![allow(
    clippy::needless_range_loop,
    reason = "indices name tokens, groups and halves of several arrays at once"
)]

use std::arch::x86_64::*;

use super::{Results, token_scale};
use crate::cpu::acts::{Acts, Tile};
use crate::cpu::isa::{Avx2, AvxVnni};
use crate::cpu::pack::{BLOCK_BYTES, GROUP, MANTISSA_BYTES, Packed, QUAD_BYTES, QUADS};

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
        for (half, first) in pieces(tile) {
            let out = &mut out[g * tile.width..][..tile.width];
            // SAFETY: the token proves AVX2; everything else is checked by slices inside.
            unsafe {
                match tile.width {
                    8 | 4 => half_group::<4>(w, acts, group + g, half, tile, first, out),
                    2 => half_group::<2>(w, acts, group + g, half, tile, first, out),
                    _ => half_group::<1>(w, acts, group + g, half, tile, first, out),
                }
            }
        }
    }
}

/// The same with 256-bit VNNI.
pub(super) fn kernel_vnni(
    _: AvxVnni,
    w: &Packed,
    acts: &Acts,
    group: usize,
    groups: usize,
    tile: Tile,
    out: &mut Results,
) {
    for g in 0..groups {
        for (half, first) in pieces(tile) {
            let out = &mut out[g * tile.width..][..tile.width];
            // SAFETY: the token proves both features; everything else is checked by slices inside.
            unsafe {
                match tile.width {
                    8 | 4 => half_group_vnni::<4>(w, acts, group + g, half, tile, first, out),
                    2 => half_group_vnni::<2>(w, acts, group + g, half, tile, first, out),
                    _ => half_group_vnni::<1>(w, acts, group + g, half, tile, first, out),
                }
            }
        }
    }
}

/// (half of the group, first token): at most four tokens at a time, or the sums leave the registers.
fn pieces(tile: Tile) -> impl Iterator<Item = (usize, usize)> {
    (0..tile.width).step_by(4).flat_map(|first| [(0, first), (1, first)])
}

/// The kernel for one set of features; a macro, since the step would not be inlined into a function with fewer of them.
macro_rules! half_group {
    ($name:ident, $features:literal, $dot_add:expr) => {
        /// Half a group from `half`, times `T` tokens of the tile from `first`.
        #[target_feature(enable = $features)]
        fn $name<const T: usize>(
            w: &Packed,
            acts: &Acts,
            group: usize,
            half: usize,
            tile: Tile,
            first: usize,
            out: &mut [[f32; GROUP]],
        ) {
            let mut sum = [[_mm256_setzero_pd(); 2]; T];
            let blocks =
                w.group_q(group).chunks_exact(BLOCK_BYTES).zip(w.group_m(group).chunks_exact(MANTISSA_BYTES));
            for ((q, m), lines) in blocks.zip(acts.tile(tile).chunks_exact(tile.width)) {
                let lines = &lines[first..][..T];
                let mut dot = [_mm256_setzero_si256(); T];
                for p in 0..QUADS {
                    let bytes: &[u8] = &q[p * QUAD_BYTES + half * (QUAD_BYTES / 2)..][..QUAD_BYTES / 2];
                    // SAFETY: the slice holds the 32 bytes that are read.
                    let v = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
                    let v = [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(v)), _mm256_srai_epi16::<8>(v)];
                    for t in 0..T {
                        for (pair, v) in v.into_iter().enumerate() {
                            let two: &[i16] = &lines[t].0[4 * p + 2 * pair..][..2];
                            // SAFETY: the slice holds the four bytes that are read.
                            let x = _mm256_set1_epi32(unsafe { two.as_ptr().cast::<i32>().read_unaligned() });
                            dot[t] = $dot_add(dot[t], v, x);
                        }
                    }
                }
                let mantissas: &[u8] = &m[half * 16..][..16];
                // SAFETY: the slice holds the eight mantissas that are read.
                let v = _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(mantissas.as_ptr().cast()) });
                let m0 = _mm256_cvtepi32_pd(_mm256_castsi256_si128(v));
                let m1 = _mm256_cvtepi32_pd(_mm256_extracti128_si256::<1>(v));
                for t in 0..T {
                    // Integers below 2^53 throughout: product and sum are exact.
                    let d0 = _mm256_cvtepi32_pd(_mm256_castsi256_si128(dot[t]));
                    let d1 = _mm256_cvtepi32_pd(_mm256_extracti128_si256::<1>(dot[t]));
                    sum[t][0] = _mm256_add_pd(sum[t][0], _mm256_mul_pd(d0, m0));
                    sum[t][1] = _mm256_add_pd(sum[t][1], _mm256_mul_pd(d1, m1));
                }
            }
            for t in 0..T {
                let token = _mm256_set1_pd(token_scale(acts, tile, first + t));
                for part in 0..2 {
                    let at = half * 8 + part * 4;
                    let rows: &[f64] = &w.scale[group * GROUP + at..][..4];
                    // SAFETY: the slice holds the four values that are read.
                    let scale = _mm256_mul_pd(unsafe { _mm256_loadu_pd(rows.as_ptr()) }, token);
                    let to: &mut [f32] = &mut out[first + t][at..][..4];
                    // SAFETY: the slice holds the four values that are written.
                    unsafe { _mm_storeu_ps(to.as_mut_ptr(), finish(sum[t][part], scale)) };
                }
            }
        }
    };
}
half_group!(half_group, "avx2", |sum, v, x| _mm256_add_epi32(sum, _mm256_madd_epi16(v, x)));
half_group!(half_group_vnni, "avx2,avxvnni", |sum, v, x| _mm256_dpwssd_avx_epi32(sum, v, x));

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
