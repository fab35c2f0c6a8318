//! AVX-512-VNNI: 16 rows to a register, four columns of each; as two pairs through `vpdpwssd`. Block sums in f64 (exact
//! below 2^53).

#![allow(
    clippy::needless_range_loop,
    reason = "indices name tokens, groups and halves of several arrays at once"
)]

use std::arch::x86_64::*;

use super::{Results, token_scale};
use crate::cpu::acts::{Acts, Tile, UNIT};
use crate::cpu::isa::Avx512;
use crate::cpu::pack::{Bits, GROUP, Group, HALVES, OCT, OCTS, Packed};
use crate::cpu::vnni::add_pairs_512;
use crate::spec::matrix::MIN_SHIFT;

/// Octs of a unit of sums.
const UNIT_OCTS: usize = UNIT / OCT;

/// `groups` (1 or 2, 4 where at most two tokens pass) groups of 16 rows from `group`, times a tile.
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
        match (w.bits, w.minima) {
            (Bits::Eight, false) => shapes::<false, false>(w, acts, group, groups, tile, out),
            (Bits::Eight, true) => shapes::<false, true>(w, acts, group, groups, tile, out),
            (Bits::Four { .. }, false) => shapes::<true, false>(w, acts, group, groups, tile, out),
            (Bits::Four { .. }, true) => shapes::<true, true>(w, acts, group, groups, tile, out),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn shapes<const FOUR: bool, const MINIMA: bool>(
    w: &Packed,
    acts: &Acts,
    group: usize,
    groups: usize,
    tile: Tile,
    out: &mut Results,
) {
    match (groups, tile.width) {
        (4, 1) => tile_of::<4, 1, FOUR, MINIMA>(w, acts, group, tile, out),
        (4, _) => tile_of::<4, 2, FOUR, MINIMA>(w, acts, group, tile, out),
        (2, 8) => tile_of::<2, 8, FOUR, MINIMA>(w, acts, group, tile, out),
        (2, 4) => tile_of::<2, 4, FOUR, MINIMA>(w, acts, group, tile, out),
        (2, 2) => tile_of::<2, 2, FOUR, MINIMA>(w, acts, group, tile, out),
        (2, _) => tile_of::<2, 1, FOUR, MINIMA>(w, acts, group, tile, out),
        (_, 8) => tile_of::<1, 8, FOUR, MINIMA>(w, acts, group, tile, out),
        (_, 4) => tile_of::<1, 4, FOUR, MINIMA>(w, acts, group, tile, out),
        (_, 2) => tile_of::<1, 2, FOUR, MINIMA>(w, acts, group, tile, out),
        (_, _) => tile_of::<1, 1, FOUR, MINIMA>(w, acts, group, tile, out),
    }
}

/// Bytes ahead of the one in use that are asked for.
const AHEAD: usize = 4096;

/// An oct's columns as 16-bit integers, each register a pair of every row: the first and third, the second and fourth, then
/// the same of the other four. Of weights in four bits, what is above their least.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn widen<const FOUR: bool>(oct: &[u8]) -> [__m512i; 4] {
    let line = |i: usize| {
        let bytes: &[u8] = &oct[i * 64..][..64];
        // SAFETY: the slice holds the 64 bytes that are read.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    };
    if FOUR {
        let (v, low) = (line(0), _mm512_set1_epi16(15));
        [
            _mm512_and_si512(v, low),
            _mm512_and_si512(_mm512_srli_epi16::<4>(v), low),
            _mm512_and_si512(_mm512_srli_epi16::<8>(v), low),
            _mm512_srli_epi16::<12>(v),
        ]
    } else {
        let (a, b) = (line(0), line(1));
        let even = |v| _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(v));
        [even(a), _mm512_srai_epi16::<8>(a), even(b), _mm512_srai_epi16::<8>(b)]
    }
}

/// Asks for the lines that lie `AHEAD` of an oct; past the end of the weights nothing happens.
#[inline]
fn ask(oct: &[u8]) {
    for line in (0..oct.len()).step_by(64) {
        // SAFETY: a prefetch reads nothing and never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(oct.as_ptr().wrapping_add(AHEAD + line).cast()) };
    }
}

/// Sixteen 16-bit numbers, eight at a time as f64.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn numbers<const SIGNED: bool>(halves: &[u8]) -> [__m512d; 2] {
    let bytes: &[u8] = &halves[..HALVES];
    // SAFETY: the slice holds the 32 bytes that are read.
    let v = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
    pair(if SIGNED { _mm512_cvtepi16_epi32(v) } else { _mm512_cvtepu16_epi32(v) })
}

/// Sixteen integers, eight at a time as f64.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn pair(v: __m512i) -> [__m512d; 2] {
    [_mm512_cvtepi32_pd(_mm512_castsi512_si256(v)), _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64::<1>(v))]
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn tile_of<const G: usize, const T: usize, const FOUR: bool, const MINIMA: bool>(
    w: &Packed,
    acts: &Acts,
    group: usize,
    tile: Tile,
    out: &mut Results,
) {
    let oct_bytes = if FOUR { OCT * GROUP / 2 } else { OCT * GROUP };
    let base = if let Bits::Four { base } = w.bits { i32::from(base) } else { 0 };
    let (lines, sums) = (acts.tile(tile), acts.sums(tile));
    let weights: [Group<'_>; G] = std::array::from_fn(|g| w.group(group + g));
    let mut lo = [[_mm512_setzero_pd(); G]; T];
    let mut hi = [[_mm512_setzero_pd(); G]; T];
    for (span, first) in (0..w.octs()).step_by(w.span()).enumerate() {
        let octs = first..w.octs().min(first + w.span());
        let block = w.block_of_span(span);
        let mut dot = [[_mm512_setzero_si512(); G]; T];
        // One token leaves a single chain of dependent dots per group: spread it over two.
        let mut odd = [_mm512_setzero_si512(); G];
        for at in octs.clone() {
            let lines = &lines[at / OCTS * T..][..T];
            // Many tokens share each broadcast among the groups; few leave registers for one group's columns at a time.
            let together = if T > 2 { G } else { 1 };
            for from in (0..G).step_by(together) {
                let mut v = [[_mm512_setzero_si512(); 4]; G];
                for g in from..from + together {
                    let oct = &weights[g].q[at * oct_bytes..][..oct_bytes];
                    if tile.first == 0 {
                        ask(oct); // later tiles find the weights in the cache
                    }
                    v[g] = widen::<FOUR>(oct);
                }
                for i in 0..4 {
                    for t in 0..T {
                        let two: &[i16] = &lines[t].0[at % OCTS * OCT + 2 * i..][..2];
                        // SAFETY: the slice holds the four bytes that are read.
                        let x = _mm512_set1_epi32(unsafe { two.as_ptr().cast::<i32>().read_unaligned() });
                        for g in from..from + together {
                            let d = if T == 1 && i % 2 == 1 { &mut odd[g] } else { &mut dot[t][g] };
                            *d = add_pairs_512(*d, v[g][i], x);
                        }
                    }
                }
            }
        }
        // What the activations sum up to, for what all weights of a block have in common.
        let mut totals = [0i32; T];
        if FOUR || MINIMA {
            for sums in sums[first / UNIT_OCTS * T..octs.end / UNIT_OCTS * T].chunks_exact(T) {
                totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
            }
        }
        for g in 0..G {
            if T == 1 {
                dot[0][g] = _mm512_add_epi32(dot[0][g], odd[g]);
            }
            let Some((m, n)) = w.scales(weights[g], block) else { continue };
            let m = numbers::<false>(m);
            let n = if MINIMA { numbers::<true>(n) } else { m };
            for t in 0..T {
                let mut d = dot[t][g];
                if FOUR {
                    let total = _mm512_set1_epi32(totals[t]);
                    d = _mm512_add_epi32(d, _mm512_set1_epi32(totals[t].wrapping_mul(base)));
                    d = _mm512_mask_add_epi32(d, weights[g].f[block], d, total);
                }
                // Integers below 2^53 throughout: the fused product and sum is exact.
                let d = pair(d);
                lo[t][g] = _mm512_fmadd_pd(d[0], m[0], lo[t][g]);
                hi[t][g] = _mm512_fmadd_pd(d[1], m[1], hi[t][g]);
                if MINIMA {
                    let total = _mm512_set1_pd(-f64::from(totals[t]) * f64::from(1 << MIN_SHIFT));
                    lo[t][g] = _mm512_fmadd_pd(n[0], total, lo[t][g]);
                    hi[t][g] = _mm512_fmadd_pd(n[1], total, hi[t][g]);
                }
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
