//! Blocks of widened weights by a tile of tokens.

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use super::{Halves, PAIRS};
use crate::cpu::acts::{Line, TILE};
use crate::cpu::linear::avx512::{Sum, UNIT_OCTS, add_products, halves};
use crate::cpu::pack::OCTS;
use crate::cpu::vnni::{add_pairs_512, multiply_add_512, multiply_even_512};

/// Tokens that pass two short blocks at once.
const HALF: usize = TILE / 2;
/// What the block sums of a full tile begin with where products are added by one instruction, which knows no sign: `32 * 127 * 32639 < 2^27`.
pub(super) const BIAS_BITS: u32 = 28;

/// Adds the products of two blocks of two groups, by half a tile of tokens. For each of the pairs of a block, by number, each group's
/// weights are loaded once, and each token's activations. `w` is where the first block's weights are and `x` where its tokens' lines are; the second
/// block's lie so many bytes on.
///
/// In assembly as a whole: of loops the compiler keeps some, whose ends are mispredicted once a block; written out it keeps so many loads ahead that
/// sums go through memory.
macro_rules! multiply_two {
    ($pairs:literal, $next_w:literal, $next_x:literal, $w:expr, $x:expr, $dot:ident) => {{
        let [[[a0, b0], [a1, b1], [a2, b2], [a3, b3]], [[c0, d0], [c1, d1], [c2, d2], [c3, d3]]] = &mut $dot;
        // With a type: LLVM misnames the upper sixteen registers of outputs that have none.
        let (u, v, x, y): (__m512i, __m512i, __m512i, __m512i);
        asm!(
            concat!(".irp pair, ", $pairs),
            "vmovdqa64 {u}, [{w} + 128*\\pair]",
            "vmovdqa64 {v}, [{w} + 128*\\pair + 64]",
            "vpbroadcastd {x}, [{at} + 4*\\pair]",
            "vpdpwssd {a0}, {u}, {x}",
            "vpdpwssd {b0}, {v}, {x}",
            "vpbroadcastd {y}, [{at} + 4*\\pair + 64]",
            "vpdpwssd {a1}, {u}, {y}",
            "vpdpwssd {b1}, {v}, {y}",
            "vpbroadcastd {x}, [{at} + 4*\\pair + 128]",
            "vpdpwssd {a2}, {u}, {x}",
            "vpdpwssd {b2}, {v}, {x}",
            "vpbroadcastd {y}, [{at} + 4*\\pair + 192]",
            "vpdpwssd {a3}, {u}, {y}",
            "vpdpwssd {b3}, {v}, {y}",
            concat!("vmovdqa64 {u}, [{w} + 128*\\pair + ", $next_w, "]"),
            concat!("vmovdqa64 {v}, [{w} + 128*\\pair + 64 + ", $next_w, "]"),
            concat!("vpbroadcastd {x}, [{at} + 4*\\pair + ", $next_x, "]"),
            "vpdpwssd {c0}, {u}, {x}",
            "vpdpwssd {d0}, {v}, {x}",
            concat!("vpbroadcastd {y}, [{at} + 4*\\pair + 64 + ", $next_x, "]"),
            "vpdpwssd {c1}, {u}, {y}",
            "vpdpwssd {d1}, {v}, {y}",
            concat!("vpbroadcastd {x}, [{at} + 4*\\pair + 128 + ", $next_x, "]"),
            "vpdpwssd {c2}, {u}, {x}",
            "vpdpwssd {d2}, {v}, {x}",
            concat!("vpbroadcastd {y}, [{at} + 4*\\pair + 192 + ", $next_x, "]"),
            "vpdpwssd {c3}, {u}, {y}",
            "vpdpwssd {d3}, {v}, {y}",
            ".endr",
            w = in(reg) $w,
            at = in(reg) $x,
            u = out(zmm_reg) u,
            v = out(zmm_reg) v,
            x = out(zmm_reg) x,
            y = out(zmm_reg) y,
            a0 = inout(zmm_reg) *a0,
            b0 = inout(zmm_reg) *b0,
            a1 = inout(zmm_reg) *a1,
            b1 = inout(zmm_reg) *b1,
            a2 = inout(zmm_reg) *a2,
            b2 = inout(zmm_reg) *b2,
            a3 = inout(zmm_reg) *a3,
            b3 = inout(zmm_reg) *b3,
            c0 = inout(zmm_reg) *c0,
            d0 = inout(zmm_reg) *d0,
            c1 = inout(zmm_reg) *c1,
            d1 = inout(zmm_reg) *d1,
            c2 = inout(zmm_reg) *c2,
            d2 = inout(zmm_reg) *d2,
            c3 = inout(zmm_reg) *c3,
            d3 = inout(zmm_reg) *d3,
            options(pure, readonly, nostack, preserves_flags)
        );
        let _scratch = (u, v, x, y);
    }};
}

/// Some columns of `G` groups of rows, and a tile of tokens.
pub(super) struct Part<'a, const G: usize> {
    /// Widened, from oct `first` on.
    pub(super) weights: &'a [[__m512i; G]],
    pub(super) first: usize,
    /// Of every block of the row, and zeros for spans past the last one.
    pub(super) mantissas: &'a [[Halves; G]],
    /// As `mantissas`, or empty.
    pub(super) minima: &'a [[Halves; G]],
    /// The tile's activations, `[block of 32][token]`.
    pub(super) lines: &'a [Line],
    /// The sums of every unit of them.
    pub(super) totals: &'a [i32],
}

impl<const G: usize> Part<'_, G> {
    /// Adds the products of some octs of a block to the sums of `T` tokens.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    pub(super) fn add_one<const T: usize, const MINIMA: bool>(
        &self,
        block: usize,
        octs: &Range<usize>,
        sums: &mut [[Sum; G]],
    ) {
        let lines = self.lines.as_chunks::<T>().0;
        let mut dot = [[_mm512_setzero_si512(); G]; T];
        for at in octs.clone().step_by(UNIT_OCTS) {
            let columns: &[[__m512i; G]] = &self.weights[(at - self.first) * PAIRS..][..UNIT_OCTS * PAIRS];
            multiply_unit(columns, &lines[at / OCTS], at % OCTS * PAIRS, &mut dot);
        }
        let mut total = [0i32; T];
        if MINIMA {
            let units = &self.totals.as_chunks::<T>().0[octs.start / UNIT_OCTS..octs.end / UNIT_OCTS];
            units.iter().for_each(|unit| total.iter_mut().zip(unit).for_each(|(total, unit)| *total += unit));
        }
        for g in 0..G {
            for t in 0..T {
                add_products(&mut sums[t][g], halves(dot[t][g]), self.mantissas[block][g]);
                if MINIMA {
                    let less = [_mm512_set1_epi32(-total[t]); 2];
                    add_products(&mut sums[t][g], less, self.minima[block][g]);
                }
            }
        }
    }
}

impl Part<'_, 2> {
    /// Adds the products of an even number of spans of `S` octs (2 or 4) to the sums of a full tile, two at a time and for half of its
    /// tokens, so that the sums in memory are touched half as often.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    pub(super) fn add_pairs<const S: usize, const MINIMA: bool, const FUSED: bool>(
        &self,
        spans: Range<usize>,
        sums: &mut [[Sum; 2]],
    ) {
        let sums: &mut [[Sum; 2]; TILE] = sums.first_chunk_mut().expect("a full tile");
        let first = (spans.start * S - self.first) * PAIRS;
        let weights = self.weights[first..][..spans.len() * S * PAIRS].chunks_exact(2 * S * PAIRS);
        let lines = self.lines[spans.start * S / OCTS * TILE..].chunks_exact(2 * S / OCTS * TILE);
        let scales = self.mantissas[spans.clone()].as_chunks::<2>().0;
        for (i, ((m, weights), lines)) in scales.iter().zip(weights).zip(lines).enumerate() {
            let span = spans.start + 2 * i;
            for half in [0, HALF] {
                // Sums without a sign are what one instruction multiplies and adds.
                let mut dot = [[[_mm512_set1_epi32(if FUSED { 1 << BIAS_BITS } else { 0 }); 2]; HALF]; 2];
                let (w, x) = (weights.as_ptr(), lines[half..].as_ptr());
                // SAFETY: of two spans there are `2 * S * PAIRS` pairs of weights, and `HALF` tokens' lines from `half` on in each of their
                // cells of 32 columns.
                unsafe {
                    match S {
                        4 => multiply_two!("0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", 2048, 512, w, x, dot),
                        _ => multiply_two!("0,1,2,3,4,5,6,7", 1024, 32, w, x, dot),
                    }
                }
                for g in 0..2 {
                    for t in 0..HALF {
                        let mut sum = sums[half + t][g];
                        add_block::<FUSED>(&mut sum, dot[0][t][g], m[0][g]);
                        add_block::<FUSED>(&mut sum, dot[1][t][g], m[1][g]);
                        if MINIMA {
                            for at in [span, span + 1] {
                                add_products(&mut sum, self.less::<S>(at * S, half + t), self.minima[at][g]);
                            }
                        }
                        sums[half + t][g] = sum;
                    }
                }
            }
        }
    }

    /// What a token's activations in a block of a full tile add up to, negative, for what all weights of the block have in common.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn less<const S: usize>(&self, oct: usize, token: usize) -> Halves {
        let units = &self.totals.as_chunks::<TILE>().0[oct / UNIT_OCTS..][..S / UNIT_OCTS];
        [_mm512_set1_epi32(-units.iter().map(|unit| unit[token]).sum::<i32>()); 2]
    }
}

/// Adds a block's sums times its mantissas; the odd rows' by one instruction where there is one, for sums that are not negative.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn add_block<const FUSED: bool>(sum: &mut Sum, dot: __m512i, m: Halves) {
    if FUSED {
        let [even, odd] = halves(dot);
        sum[0] = _mm512_add_epi64(sum[0], multiply_even_512(even, m[0]));
        // SAFETY: the caller has found the instruction.
        sum[1] = unsafe { multiply_add_512(sum[1], odd, m[1]) };
    } else {
        add_products(sum, halves(dot), m);
    }
}

/// Adds the products of a unit of columns: pairs of weights by pairs of activations from number `first` of each line.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn multiply_unit<const G: usize, const T: usize>(
    weights: &[[__m512i; G]],
    lines: &[Line; T],
    first: usize,
    dot: &mut [[__m512i; G]; T],
) {
    for (i, weights) in weights.iter().enumerate() {
        for (line, dot) in lines.iter().zip(dot.iter_mut()) {
            let x = both(line, first + i);
            for (dot, weights) in dot.iter_mut().zip(weights) {
                *dot = add_pairs_512(*dot, *weights, x);
            }
        }
    }
}

/// A pair of activations for every row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn both(line: &Line, pair: usize) -> __m512i {
    let two: &[i16] = &line.0[2 * pair..][..2];
    // SAFETY: the slice holds the four bytes that are read.
    _mm512_set1_epi32(unsafe { two.as_ptr().cast::<i32>().read_unaligned() })
}

const _: () = assert!(TILE == 8 && OCTS * PAIRS == 16, "the offsets are written for these");
