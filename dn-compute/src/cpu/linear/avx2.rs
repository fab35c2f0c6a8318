//! AVX2: 8 rows to a register, pairs of columns through `vpmaddwd` (which cannot saturate: i8 times i16), block sums
//! in f64 (exact below 2^53).

#![allow(
    clippy::needless_range_loop,
    reason = "indices name tokens, groups and halves of several arrays at once"
)]

use std::arch::x86_64::*;

use super::{Results, token_scale};
use crate::cpu::acts::{Acts, Tile, UNIT};
use crate::cpu::isa::{Avx2, AvxVnni};
use crate::cpu::pack::{Bits, GROUP, OCT, OCTS, Packed, oct_bytes};
use crate::cpu::vnni::add_pairs_256;
use crate::spec::matrix::MIN_SHIFT;

pub(super) mod many;

/// Octs of a unit of sums.
const UNIT_OCTS: usize = UNIT / OCT;

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
            let (lines, sums) = (acts.tile(tile), acts.sums(tile));
            let weights = w.group(group);
            let base = if let Bits::Four { base } = w.bits { i32::from(base) } else { 0 };
            // The rows of this half as bits, lowest first.
            let rows = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let mut sum = [[_mm256_setzero_pd(); 2]; T];
            for (span, from) in (0..w.octs()).step_by(w.span()).enumerate() {
                let octs = from..w.octs().min(from + w.span());
                let block = w.block_of_span(span);
                let mut dot = [_mm256_setzero_si256(); T];
                for at in octs.clone() {
                    let lines = &lines[at / OCTS * tile.width + first..][..T];
                    let oct = &weights.q[at * oct_bytes(w.bits)..][..oct_bytes(w.bits)];
                    for (i, v) in widen(oct, half, w.bits).into_iter().enumerate() {
                        for t in 0..T {
                            let two: &[i16] = &lines[t].0[at % OCTS * OCT + 2 * i..][..2];
                            // SAFETY: the slice holds the four bytes that are read.
                            let x = _mm256_set1_epi32(unsafe { two.as_ptr().cast::<i32>().read_unaligned() });
                            dot[t] = $dot_add(dot[t], v, x);
                        }
                    }
                }
                // What the activations sum up to, for what all weights of a block have in common.
                let mut totals = [0i32; T];
                if w.minima || w.bits != Bits::Eight {
                    let units = from / UNIT_OCTS * tile.width..octs.end / UNIT_OCTS * tile.width;
                    for sums in sums[units].chunks_exact(tile.width) {
                        totals.iter_mut().zip(&sums[first..]).for_each(|(total, sum)| *total += sum);
                    }
                }
                let Some((m, n)) = w.scales(weights, block) else { continue };
                let m = numbers(m, half, false);
                for t in 0..T {
                    let mut d = dot[t];
                    if let Some(f) = weights.f.get(block) {
                        let f = _mm256_set1_epi32(i32::from(*f) >> (8 * half));
                        let above = _mm256_cmpeq_epi32(_mm256_and_si256(f, rows), rows);
                        d = _mm256_add_epi32(d, _mm256_set1_epi32(totals[t].wrapping_mul(base)));
                        d = _mm256_add_epi32(d, _mm256_and_si256(above, _mm256_set1_epi32(totals[t])));
                    }
                    // Integers below 2^53 throughout: product and sum are exact.
                    let d = pair(d);
                    for part in 0..2 {
                        sum[t][part] = _mm256_add_pd(sum[t][part], _mm256_mul_pd(d[part], m[part]));
                    }
                    if w.minima {
                        let n = numbers(n, half, true);
                        let total = _mm256_set1_pd(f64::from(totals[t]) * f64::from(1 << MIN_SHIFT));
                        for part in 0..2 {
                            sum[t][part] = _mm256_sub_pd(sum[t][part], _mm256_mul_pd(n[part], total));
                        }
                    }
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
half_group!(half_group_vnni, "avx2,avxvnni", add_pairs_256);

/// Half of the rows of an oct as 16-bit integers, each register a pair of every row: the first and third column, the second
/// and fourth, then the same of the other four. Of weights in four bits, what is above their least.
#[inline]
#[target_feature(enable = "avx2")]
fn widen(oct: &[u8], half: usize, bits: Bits) -> [__m256i; 4] {
    let line = |i: usize| {
        let bytes: &[u8] = &oct[i * 64 + half * 32..][..32];
        // SAFETY: the slice holds the 32 bytes that are read.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    };
    match bits {
        Bits::Four { .. } => {
            let (v, low) = (line(0), _mm256_set1_epi16(15));
            [
                _mm256_and_si256(v, low),
                _mm256_and_si256(_mm256_srli_epi16::<4>(v), low),
                _mm256_and_si256(_mm256_srli_epi16::<8>(v), low),
                _mm256_srli_epi16::<12>(v),
            ]
        }
        Bits::Eight => {
            let (a, b) = (line(0), line(1));
            let even = |v| _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(v));
            [even(a), _mm256_srai_epi16::<8>(a), even(b), _mm256_srai_epi16::<8>(b)]
        }
    }
}

/// Eight 16-bit numbers of half a group, four at a time as f64.
#[inline]
#[target_feature(enable = "avx2")]
fn numbers(halves: &[u8], half: usize, signed: bool) -> [__m256d; 2] {
    let bytes: &[u8] = &halves[half * 16..][..16];
    // SAFETY: the slice holds the 16 bytes that are read.
    let v = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
    pair(if signed { _mm256_cvtepi16_epi32(v) } else { _mm256_cvtepu16_epi32(v) })
}

/// Eight integers, four at a time as f64.
#[inline]
#[target_feature(enable = "avx2")]
fn pair(v: __m256i) -> [__m256d; 2] {
    [_mm256_cvtepi32_pd(_mm256_castsi256_si128(v)), _mm256_cvtepi32_pd(_mm256_extracti128_si256::<1>(v))]
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
