//! AVX2: a group of 16 rows in two halves of 8 to a register, pairs of columns through `vpmaddwd` (which cannot saturate: i8 times i16) or, with
//! AVX-VNNI, `vpdpwssd`. Block sums times their mantissas add up in 64 bits.

#![allow(
    clippy::needless_range_loop,
    reason = "indices name tokens, groups and halves of several arrays at once"
)]

use std::arch::x86_64::*;

use super::{Results, ask, token_scale};
use crate::cpu::acts::{Acts, Tile, UNIT};
use crate::cpu::isa::{Avx2, AvxVnni, Level};
use crate::cpu::pack::{Bits, GROUP, Group, HALVES, OCT, OCTS, Packed};
use crate::cpu::vnni::add_pairs_256;
use crate::spec::matrix::MIN_SHIFT;

pub(super) mod many;

/// Octs of a unit of sums.
const UNIT_OCTS: usize = UNIT / OCT;

/// Which products of pairs there are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pairs {
    /// A product and a sum.
    Avx2(Avx2),
    /// Both in one instruction.
    Vnni(AvxVnni),
}

impl Pairs {
    /// Those of a level; none where wider vectors are used.
    pub(super) const fn of(level: Level) -> Option<Self> {
        match level {
            Level::Avx2(token) => Some(Self::Avx2(token)),
            Level::AvxVnni(token) => Some(Self::Vnni(token)),
            _ => None,
        }
    }
}

/// Of the first eight rows of a group, and of the others.
type Both<T> = [T; 2];
/// 64-bit sums of eight rows, the even ones and the odd ones, and what they are multiplied by: `vpmuldq` takes every other 32-bit number.
type Halves = [__m256i; 2];

/// `groups` groups of 16 rows from `group`, times a tile of at most four tokens.
pub(super) fn kernel(
    pairs: Pairs,
    w: &Packed,
    acts: &Acts,
    group: usize,
    groups: usize,
    tile: Tile,
    out: &mut Results,
) {
    // As many as have most of their block sums in registers.
    let together = groups.min(if tile.width == 1 { 4 } else { 2 });
    for (group, out) in
        (group..group + groups).step_by(together).zip(out.chunks_exact_mut(together * tile.width))
    {
        // SAFETY: the tokens prove the features; everything else is checked by slices inside.
        unsafe {
            match (pairs, w.bits != Bits::Eight) {
                (Pairs::Avx2(_), false) => shapes::<false>(w, acts, group, together, tile, out),
                (Pairs::Avx2(_), true) => shapes::<true>(w, acts, group, together, tile, out),
                (Pairs::Vnni(_), false) => shapes_vnni::<false>(w, acts, group, together, tile, out),
                (Pairs::Vnni(_), true) => shapes_vnni::<true>(w, acts, group, together, tile, out),
            }
        }
    }
}

/// The kernel for one set of features; a macro, since the products would not be inlined into a function with fewer of them.
macro_rules! tile_of {
    ($shapes:ident, $name:ident, $features:literal, $dot_add:expr) => {
        #[target_feature(enable = $features)]
        fn $shapes<const FOUR: bool>(
            w: &Packed,
            acts: &Acts,
            group: usize,
            groups: usize,
            tile: Tile,
            out: &mut [[f32; GROUP]],
        ) {
            match (groups, tile.width) {
                (4, _) => $name::<4, 1, FOUR>(w, acts, group, tile, out),
                (2, 4) => $name::<2, 4, FOUR>(w, acts, group, tile, out),
                (2, 2) => $name::<2, 2, FOUR>(w, acts, group, tile, out),
                (2, _) => $name::<2, 1, FOUR>(w, acts, group, tile, out),
                (_, 4) => $name::<1, 4, FOUR>(w, acts, group, tile, out),
                (_, 2) => $name::<1, 2, FOUR>(w, acts, group, tile, out),
                (_, _) => $name::<1, 1, FOUR>(w, acts, group, tile, out),
            }
        }

        #[target_feature(enable = $features)]
        fn $name<const G: usize, const T: usize, const FOUR: bool>(
            w: &Packed,
            acts: &Acts,
            group: usize,
            tile: Tile,
            out: &mut [[f32; GROUP]],
        ) {
            let (size, bits) = match FOUR {
                true => (OCT * GROUP / 2, Bits::Four { base: 0 }),
                false => (OCT * GROUP, Bits::Eight),
            };
            let base = if let Bits::Four { base } = w.bits { i32::from(base) } else { 0 };
            let (lines, sums) = (acts.tile(tile), acts.sums(tile));
            let weights: [Group<'_>; G] = std::array::from_fn(|g| w.group(group + g));
            let rows = bit_of_row();
            let mut sum = [[[[_mm256_setzero_si256(); 2]; 2]; G]; T];
            for (span, first) in (0..w.octs()).step_by(w.span()).enumerate() {
                let octs = first..w.octs().min(first + w.span());
                let block = w.block_of_span(span);
                let mut dot = [[[_mm256_setzero_si256(); 2]; G]; T];
                for at in octs.clone() {
                    let lines = &lines[at / OCTS * T..][..T];
                    for g in 0..G {
                        let oct = &weights[g].q[at * size..][..size];
                        if tile.first == 0 {
                            ask(oct, G, weights[g].q.len(), at * size); // later tiles find the weights in the cache
                        }
                        for half in 0..2 {
                            for (i, v) in widen(oct, half, bits).into_iter().enumerate() {
                                for t in 0..T {
                                    let two: &[i16] = &lines[t].0[at % OCTS * OCT + 2 * i..][..2];
                                    // SAFETY: the slice holds the four bytes that are read.
                                    let x = unsafe { two.as_ptr().cast::<i32>().read_unaligned() };
                                    dot[t][g][half] = $dot_add(dot[t][g][half], v, _mm256_set1_epi32(x));
                                }
                            }
                        }
                    }
                }
                // What the activations sum up to, for what all weights of a block have in common.
                let mut totals = [0i32; T];
                if w.minima || FOUR {
                    for sums in sums[first / UNIT_OCTS * T..octs.end / UNIT_OCTS * T].chunks_exact(T) {
                        totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
                    }
                }
                for g in 0..G {
                    let Some((m, n)) = w.scales(weights[g], block) else { continue };
                    for half in 0..2 {
                        let m = halves(numbers::<false>(m, half));
                        for t in 0..T {
                            let mut d = dot[t][g][half];
                            let total = _mm256_set1_epi32(totals[t]);
                            if FOUR {
                                let f = _mm256_set1_epi32(i32::from(weights[g].f[block]) >> (8 * half));
                                let above = _mm256_cmpeq_epi32(_mm256_and_si256(f, rows), rows);
                                d = _mm256_add_epi32(d, _mm256_set1_epi32(totals[t].wrapping_mul(base)));
                                d = _mm256_add_epi32(d, _mm256_and_si256(above, total));
                            }
                            add_products(&mut sum[t][g][half], halves(d), m);
                            if w.minima {
                                let n = halves(minima(n, half));
                                let less = _mm256_sub_epi32(_mm256_setzero_si256(), total);
                                add_products(&mut sum[t][g][half], [less; 2], n);
                            }
                        }
                    }
                }
            }
            for t in 0..T {
                for g in 0..G {
                    out[g * T + t] = outputs(w, group + g, &sum[t][g], token_scale(acts, tile, t));
                }
            }
        }
    };
}
tile_of!(shapes, tile_of, "avx2", |sum, v, x| _mm256_add_epi32(sum, _mm256_madd_epi16(v, x)));
tile_of!(shapes_vnni, tile_of_vnni, "avx2,avxvnni", add_pairs_256);

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

/// The rows of a half as bits, lowest first.
#[inline]
#[target_feature(enable = "avx2")]
fn bit_of_row() -> __m256i {
    _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128)
}

/// Eight 16-bit numbers of half a group.
#[inline]
#[target_feature(enable = "avx2")]
fn numbers<const SIGNED: bool>(halves: &[u8], half: usize) -> __m256i {
    let bytes: &[u8] = &halves[half * HALVES / 2..][..HALVES / 2];
    // SAFETY: the slice holds the 16 bytes that are read.
    let v = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
    if SIGNED { _mm256_cvtepi16_epi32(v) } else { _mm256_cvtepu16_epi32(v) }
}

/// The minima of half a group.
#[inline]
#[target_feature(enable = "avx2")]
fn minima(halves: &[u8], half: usize) -> __m256i {
    _mm256_slli_epi32::<{ MIN_SHIFT as i32 }>(numbers::<true>(halves, half))
}

/// Eight integers as `vpmuldq` takes them: the even ones, the odd ones.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(v: __m256i) -> Halves {
    [v, _mm256_srli_epi64::<32>(v)]
}

/// Adds products to sums.
#[inline]
#[target_feature(enable = "avx2")]
fn add_products(sum: &mut Halves, a: Halves, b: Halves) {
    for (sum, (a, b)) in sum.iter_mut().zip(a.into_iter().zip(b)) {
        *sum = _mm256_add_epi64(*sum, _mm256_mul_epi32(a, b));
    }
}

/// Integers below `2^53` as f64, exactly: the upper half counts in a number near `2^84`, whose last bit is worth `2^32`, the lower half in one near
/// `2^52`.
#[inline]
#[target_feature(enable = "avx2")]
fn floats(v: __m256i) -> __m256d {
    const NEAR_84: i64 = 0x4530_0000_8000_0000; // 2^84 + 2^63, for the sign
    const NEAR_52: i64 = 0x4330_0000_0000_0000; // 2^52
    const BOTH: i64 = 0x4530_0000_8010_0000; // 2^84 + 2^63 + 2^52
    let upper = _mm256_xor_si256(_mm256_srli_epi64::<32>(v), _mm256_set1_epi64x(NEAR_84));
    let lower = _mm256_blend_epi32::<0b0101_0101>(_mm256_set1_epi64x(NEAR_52), v);
    let both = _mm256_castsi256_pd(_mm256_set1_epi64x(BOTH));
    _mm256_add_pd(_mm256_sub_pd(_mm256_castsi256_pd(upper), both), _mm256_castsi256_pd(lower))
}

/// The outputs of a group's rows for one token: its sums, rounded to 24 bits and scaled exactly; what is below `2^-126` is `+0`.
#[inline]
#[target_feature(enable = "avx2")]
fn outputs(w: &Packed, group: usize, sums: &Both<Halves>, token: f64) -> [f32; GROUP] {
    let scales: &[f64; GROUP] = w.scale[group * GROUP..].first_chunk().expect("whole groups");
    let mut values = [0.0f32; GROUP];
    for (half, [even, odd]) in sums.iter().enumerate() {
        let (even, odd) = (floats(*even), floats(*odd));
        let pairs = [_mm256_unpacklo_pd(even, odd), _mm256_unpackhi_pd(even, odd)];
        // Rows 0, 1, 4, 5 and 2, 3, 6, 7 of the eight.
        let rows = [
            _mm256_permute2f128_pd::<0x20>(pairs[0], pairs[1]),
            _mm256_permute2f128_pd::<0x31>(pairs[0], pairs[1]),
        ];
        for (part, sum) in rows.into_iter().enumerate() {
            let at = half * 8 + part * 4;
            // SAFETY: the array has as many values from there.
            let scale = unsafe { _mm256_loadu_pd(scales.as_ptr().add(at)) };
            let scale = _mm256_mul_pd(scale, _mm256_set1_pd(token));
            // SAFETY: as before.
            unsafe { _mm_storeu_ps(values.as_mut_ptr().add(at), finish(sum, scale)) };
        }
    }
    values
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
