//! AVX-512-VNNI: 16 rows to a register, four columns of each; as two pairs through `vpdpwssd`. Block sums in f64 (exact
//! below 2^53).

#![allow(
    clippy::needless_range_loop,
    reason = "indices name tokens, groups and halves of several arrays at once"
)]

use std::arch::x86_64::*;

use super::{Results, token_scale};
use crate::cpu::acts::{Acts, Tile};
use crate::cpu::isa::Avx512;
use crate::cpu::pack::{BLOCK_BYTES, GROUP, MANTISSA_BYTES, Packed, QUAD_BYTES, QUADS};

/// `groups` (1 or 2, 4 for a tile of one token) groups of 16 rows from `group`, times a tile.
pub(super) fn kernel(
    _: Avx512,
    w: &Packed,
    acts: &Acts,
    group: usize,
    groups: usize,
    tile: Tile,
    out: &mut Results,
) {
    // SAFETY: the token proves the features; everything else is checked by slices inside.
    unsafe {
        match (groups, tile.width) {
            (4, 1) => tile_of::<4, 1>(w, acts, group, tile, out),
            (2, 8) => tile_of::<2, 8>(w, acts, group, tile, out),
            (2, 4) => tile_of::<2, 4>(w, acts, group, tile, out),
            (2, 2) => tile_of::<2, 2>(w, acts, group, tile, out),
            (2, _) => tile_of::<2, 1>(w, acts, group, tile, out),
            (_, 8) => tile_of::<1, 8>(w, acts, group, tile, out),
            (_, 4) => tile_of::<1, 4>(w, acts, group, tile, out),
            (_, 2) => tile_of::<1, 2>(w, acts, group, tile, out),
            (_, _) => tile_of::<1, 1>(w, acts, group, tile, out),
        }
    }
}

/// Bytes ahead of the one in use that are asked for.
const AHEAD: usize = 4096;

/// A quad's columns as 16-bit integers: the first and third of every row, and the second and fourth.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn widen(quad: &[u8]) -> [__m512i; 2] {
    assert!(quad.len() == QUAD_BYTES);
    // SAFETY: the slice holds the 64 bytes that are read.
    let v = unsafe { _mm512_loadu_si512(quad.as_ptr().cast()) };
    [_mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(v)), _mm512_srai_epi16::<8>(v)]
}

/// Asks for the line that lies `AHEAD` of a quad; past the end of the weights nothing happens.
#[inline]
fn ask(quad: &[u8]) {
    // SAFETY: a prefetch reads nothing and never faults.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(quad.as_ptr().wrapping_add(AHEAD).cast()) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn tile_of<const G: usize, const T: usize>(
    w: &Packed,
    acts: &Acts,
    group: usize,
    tile: Tile,
    out: &mut Results,
) {
    let mut lo = [[_mm512_setzero_pd(); G]; T];
    let mut hi = [[_mm512_setzero_pd(); G]; T];
    let q: [&[u8]; G] = std::array::from_fn(|g| w.group_q(group + g));
    let m: [&[u8]; G] = std::array::from_fn(|g| w.group_m(group + g));
    for (b, lines) in acts.tile(tile).chunks_exact(T).enumerate() {
        let q: [&[u8]; G] = std::array::from_fn(|g| &q[g][b * BLOCK_BYTES..][..BLOCK_BYTES]);
        let mut dot = [[_mm512_setzero_si512(); G]; T];
        // One token leaves a single chain of dependent dots per group: spread it over two.
        let mut odd = [_mm512_setzero_si512(); G];
        for p in 0..QUADS {
            for g in 0..G {
                let quad = &q[g][p * QUAD_BYTES..][..QUAD_BYTES];
                if T == 1 {
                    ask(quad);
                }
                let v = widen(quad);
                for t in 0..T {
                    for (half, v) in v.into_iter().enumerate() {
                        let two = &lines[t].0[4 * p + 2 * half..][..2];
                        // SAFETY: the slice holds the four bytes that are read.
                        let x = _mm512_set1_epi32(unsafe { two.as_ptr().cast::<i32>().read_unaligned() });
                        let d = if T == 1 && half == 1 { &mut odd[g] } else { &mut dot[t][g] };
                        *d = _mm512_dpwssd_epi32(*d, v, x);
                    }
                }
            }
        }
        for g in 0..G {
            if T == 1 {
                dot[0][g] = _mm512_add_epi32(dot[0][g], odd[g]);
            }
            let bytes = &m[g][b * MANTISSA_BYTES..][..MANTISSA_BYTES];
            // SAFETY: the slice holds the 32 bytes that are read.
            let mantissa = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
            let mantissa = _mm512_cvtepu16_epi32(mantissa);
            let m0 = _mm512_cvtepi32_pd(_mm512_castsi512_si256(mantissa));
            let m1 = _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64::<1>(mantissa));
            for t in 0..T {
                // Integers below 2^53 throughout: the fused product and sum is exact.
                let d0 = _mm512_cvtepi32_pd(_mm512_castsi512_si256(dot[t][g]));
                let d1 = _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64::<1>(dot[t][g]));
                lo[t][g] = _mm512_fmadd_pd(d0, m0, lo[t][g]);
                hi[t][g] = _mm512_fmadd_pd(d1, m1, hi[t][g]);
            }
        }
    }
    for t in 0..T {
        let token = _mm512_set1_pd(token_scale(acts, tile, t));
        for g in 0..G {
            let rows: &[f64] = &w.scale[(group + g) * GROUP..][..GROUP];
            // SAFETY: the slice holds the sixteen values that the two loads read.
            let (r0, r1) = unsafe { (_mm512_loadu_pd(rows.as_ptr()), _mm512_loadu_pd(rows.as_ptr().add(8))) };
            let to = &mut out[g * T + t];
            let (a, b) =
                (finish(lo[t][g], _mm512_mul_pd(r0, token)), finish(hi[t][g], _mm512_mul_pd(r1, token)));
            // SAFETY: the array holds the sixteen values that the two stores write.
            unsafe {
                _mm256_storeu_ps(to.as_mut_ptr(), a);
                _mm256_storeu_ps(to.as_mut_ptr().add(8), b);
            }
        }
    }
}

/// Rounds to 24 bits, scales exactly, turns what is below `2^-126` into `+0`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) fn finish(sum: __m512d, scale: __m512d) -> __m256 {
    let rounded = _mm512_cvtps_pd(_mm512_cvtpd_ps(sum));
    let v = _mm512_mul_pd(rounded, scale);
    let least = _mm512_set1_pd(f64::from(f32::MIN_POSITIVE));
    let keep = _mm512_cmp_pd_mask::<_CMP_GE_OQ>(_mm512_abs_pd(v), least);
    _mm512_cvtpd_ps(_mm512_maskz_mov_pd(keep, v))
}
