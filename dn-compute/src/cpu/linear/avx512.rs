//! AVX-512-VNNI: 16 rows to a register, four columns of each; as two pairs through `vpdpwssd`. Block sums times
//! their mantissas add up in 64 bits.

#![allow(
    clippy::needless_range_loop,
    reason = "indices name tokens, groups and halves of several arrays at once"
)]

use std::arch::x86_64::*;

use super::{Results, ask};
use crate::cpu::acts::{Acts, Tile, UNIT};
use crate::cpu::isa::Avx512;
use crate::cpu::pack::{Bits, GROUP, Group, HALVES, OCT, OCTS, Packed};
use crate::cpu::vnni::{add_pairs_512, multiply_even_512};
use crate::spec::matrix::MIN_SHIFT;

pub(super) mod many;

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

/// Sums of a group's even rows, and of its odd ones: `vpmuldq` multiplies every other 32-bit number.
type Sum = [__m512i; 2];

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

/// Sixteen 16-bit numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn integers<const SIGNED: bool>(halves: &[u8]) -> __m512i {
    let bytes: &[u8] = &halves[..HALVES];
    // SAFETY: the slice holds the 32 bytes that are read.
    let v = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
    if SIGNED { _mm512_cvtepi16_epi32(v) } else { _mm512_cvtepu16_epi32(v) }
}

/// Sixteen integers as `vpmuldq` takes them: the even ones, the odd ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn halves(v: __m512i) -> [__m512i; 2] {
    [v, _mm512_srli_epi64::<32>(v)]
}

/// Adds products to sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn add_products(sum: &mut Sum, a: [__m512i; 2], b: [__m512i; 2]) {
    for (sum, (a, b)) in sum.iter_mut().zip(a.into_iter().zip(b)) {
        *sum = _mm512_add_epi64(*sum, multiply_even_512(a, b));
    }
}

/// The exponents of a group's rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn exponents(w: &Packed, group: usize) -> __m512i {
    let er: &[i32] = &w.er[group * GROUP..][..GROUP];
    // SAFETY: the slice holds the sixteen values that are read.
    unsafe { _mm512_loadu_si512(er.as_ptr().cast()) }
}

/// The outputs of a group's rows: its sums, rounded to 24 bits, scaled exactly; what is below `2^-126` is `+0`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn outputs(er: __m512i, sum: Sum, et: i32) -> __m512 {
    let [even, odd] = sum.map(|sum| _mm512_castps256_ps512(_mm512_cvtepi64_ps(sum)));
    let order = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    let rounded = _mm512_permutex2var_ps(even, order, odd);
    let exponent = _mm512_cvtepi32_ps(_mm512_add_epi32(er, _mm512_set1_epi32(et)));
    // Of zero it is minus infinity.
    let first_bit = _mm512_add_ps(_mm512_getexp_ps(rounded), exponent);
    let keep = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(first_bit, _mm512_set1_ps(-126.0));
    _mm512_maskz_scalef_ps(keep, rounded, exponent)
}

/// Writes the outputs of a group's rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn put(to: &mut [f32; GROUP], values: __m512) {
    // SAFETY: the array holds the sixteen values that are written.
    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), values) };
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
    let mut sum: [[Sum; G]; T] = [[[_mm512_setzero_si512(); 2]; G]; T];
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
                        ask(oct, G, weights[g].q.len(), at * oct_bytes); // later tiles find the weights in the cache
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
            let m = halves(integers::<false>(m));
            let n = if MINIMA { halves(_mm512_slli_epi32::<MIN_SHIFT>(integers::<true>(n))) } else { m };
            for t in 0..T {
                let mut d = dot[t][g];
                let total = _mm512_set1_epi32(totals[t]);
                if FOUR {
                    d = _mm512_add_epi32(d, _mm512_set1_epi32(totals[t].wrapping_mul(base)));
                    d = _mm512_mask_add_epi32(d, weights[g].f[block], d, total);
                }
                add_products(&mut sum[t][g], halves(d), m);
                if MINIMA {
                    add_products(&mut sum[t][g], [_mm512_sub_epi32(_mm512_setzero_si512(), total); 2], n);
                }
            }
        }
    }
    for t in 0..T {
        for g in 0..G {
            put(&mut out[g * T + t], outputs(exponents(w, group + g), sum[t][g], acts.et[tile.first + t]));
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
