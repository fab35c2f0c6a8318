//! Many tokens by AVX2: some columns of a group of rows are widened once, into memory of the thread, and pass all tokens from there. Block
//! sums times their mantissas add up in 64 bits.

use std::arch::asm;
use std::arch::x86_64::*;
use std::cell::RefCell;
use std::ops::Range;

use super::{
    Both, Halves, Pairs, UNIT_OCTS, add_products, bit_of_row, halves, minima, numbers, outputs, widen,
};
use crate::cpu::acts::{Acts, Line, TILE, Tile, UNIT};
use crate::cpu::linear::{Out, ask, token_scale};
use crate::cpu::pack::{Bits, GROUP, HALVES, OCT, OCTS, Packed, oct_bytes};
use crate::cpu::vnni::add_pairs_256;

/// Tokens from which widening once pays.
pub(in crate::cpu::linear) const MIN_TOKENS: usize = 8;
/// Most octs that are widened at a time: with half a tile's activations they stay in the first-level cache. Whole spans of fixed blocks.
const OCTS_AT_ONCE: usize = 64;
/// Octs of the longest fixed block: a row is cut at its multiples.
const CUT: usize = 16;
/// Tiles of tokens that pass the widened columns.
const TILES: usize = 32;
/// Pairs of columns of an oct.
const PAIRS: usize = OCT / 2;
/// Tokens whose sums stay in registers.
const HALF: usize = TILE / 2;

/// What a thread works in.
#[derive(Default)]
struct Scratch {
    /// Widened weights by pair of columns.
    weights: Vec<Both<__m256i>>,
    /// Mantissas by block; zeros past the last block, where only columns lie that pad the row.
    mantissas: Vec<Both<Halves>>,
    /// Minima, likewise, or empty.
    minima: Vec<Both<Halves>>,
    /// By token.
    sums: Vec<Both<Halves>>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Rows of groups `first..end` for all tokens; false where an output overflowed.
///
/// # Safety
/// No other thread writes these rows of `out` at the same time.
pub(in crate::cpu::linear) unsafe fn piece(
    pairs: Pairs,
    w: &Packed,
    acts: &Acts,
    groups: Range<usize>,
    out: &Out,
) -> bool {
    SCRATCH.with_borrow_mut(|scratch| {
        let work = Work { pairs, w, acts, out };
        // SAFETY: either token proves AVX2; the caller promises the rows.
        unsafe {
            if w.minima { work.run::<true>(groups, scratch) } else { work.run::<false>(groups, scratch) }
        }
    })
}

/// One matrix and the tokens that pass.
struct Work<'a> {
    pairs: Pairs,
    w: &'a Packed,
    acts: &'a Acts,
    out: &'a Out,
}

impl Work<'_> {
    /// Multiplies some groups; false where an output overflowed.
    ///
    /// # Safety
    /// No other thread writes these rows of the output at the same time.
    #[target_feature(enable = "avx2")]
    unsafe fn run<const MINIMA: bool>(&self, groups: Range<usize>, scratch: &mut Scratch) -> bool {
        let octs = self.w.octs();
        let per = octs.div_ceil(octs.div_ceil(OCTS_AT_ONCE)).next_multiple_of(CUT);
        scratch.weights.resize(per * PAIRS, [_mm256_setzero_si256(); 2]);
        let mut largest = 0u32;
        for tiles in self.acts.tiles.chunks(TILES) {
            let tokens: usize = tiles.iter().map(|tile| tile.width).sum();
            for group in groups.clone() {
                self.scales::<MINIMA>(group, scratch);
                // What the buffer holds is written over.
                scratch.sums.resize(tokens, [[_mm256_setzero_si256(); 2]; 2]);
                for from in (0..octs).step_by(per) {
                    let part = from..octs.min(from + per);
                    self.widen(group, &part, &mut scratch.weights);
                    let mut sums = &mut scratch.sums[..];
                    for tile in tiles {
                        let (of_tile, rest) = sums.split_at_mut(tile.width);
                        sums = rest;
                        if part.start == 0 {
                            of_tile.fill([[_mm256_setzero_si256(); 2]; 2]);
                        }
                        if part.end == octs {
                            self.out.claim(*tile, group..group + 1);
                        }
                        let columns = Columns {
                            octs: part.clone(),
                            span: self.w.span(),
                            whole: self.w.block_of_span(1) == 0,
                            weights: &scratch.weights,
                            mantissas: &scratch.mantissas,
                            minima: &scratch.minima,
                            lines: self.acts.tile(*tile),
                            totals: self.acts.sums(*tile),
                            width: tile.width,
                        };
                        self.add::<MINIMA>(&columns, of_tile);
                        if part.end == octs {
                            // SAFETY: the caller's promise.
                            largest = largest.max(unsafe { self.write(*tile, group, of_tile) });
                        }
                    }
                }
            }
        }
        largest < 0x7f80_0000
    }

    /// Mantissas and minima of a group.
    #[target_feature(enable = "avx2")]
    fn scales<const MINIMA: bool>(&self, group: usize, scratch: &mut Scratch) {
        let blocks = self.w.octs().div_ceil(self.w.span());
        let weights = self.w.group(group);
        fill::<false>(weights.m, blocks, &mut scratch.mantissas);
        fill::<true>(weights.n, if MINIMA { blocks } else { 0 }, &mut scratch.minima);
    }

    /// Some columns of a group as 16-bit integers.
    #[target_feature(enable = "avx2")]
    fn widen(&self, group: usize, octs: &Range<usize>, to: &mut [Both<__m256i>]) {
        let w = self.w;
        let (size, weights) = (oct_bytes(w.bits), w.group(group));
        let rows = bit_of_row();
        let mut to = to.chunks_exact_mut(PAIRS);
        for span in octs.start / w.span()..octs.end.div_ceil(w.span()) {
            let part = octs.start.max(span * w.span())..octs.end.min((span + 1) * w.span());
            let mut least = [_mm256_setzero_si256(); 2];
            if let Bits::Four { base } = w.bits {
                let above = weights.f.get(w.block_of_span(span)).copied().unwrap_or(0);
                for (least, above) in least.iter_mut().zip(above.to_le_bytes()) {
                    let bits = _mm256_and_si256(_mm256_set1_epi32(above.into()), rows);
                    // Minus one in both numbers of a row whose bit is set.
                    *least = _mm256_sub_epi16(_mm256_set1_epi16(base.into()), _mm256_cmpeq_epi32(bits, rows));
                }
            }
            for at in part {
                let (oct, Some(to)) = (&weights.q[at * size..][..size], to.next()) else { return };
                ask(oct, 1, weights.q.len(), at * size);
                for half in 0..2 {
                    for (to, v) in to.iter_mut().zip(widen(oct, half, w.bits)) {
                        to[half] = _mm256_add_epi16(v, least[half]);
                    }
                }
            }
        }
    }

    /// Adds the products of some columns to the sums of a tile.
    fn add<const MINIMA: bool>(&self, columns: &Columns<'_>, sums: &mut [Both<Halves>]) {
        // SAFETY: the tokens prove the features.
        unsafe {
            match (self.pairs, columns.width) {
                (Pairs::Avx2(_), 8 | 4) => add_columns::<4, MINIMA>(columns, sums),
                (Pairs::Avx2(_), 2) => add_columns::<2, MINIMA>(columns, sums),
                (Pairs::Avx2(_), _) => add_columns::<1, MINIMA>(columns, sums),
                (Pairs::Vnni(_), 8 | 4) => add_columns_vnni::<4, MINIMA>(columns, sums),
                (Pairs::Vnni(_), 2) => add_columns_vnni::<2, MINIMA>(columns, sums),
                (Pairs::Vnni(_), _) => add_columns_vnni::<1, MINIMA>(columns, sums),
            }
        }
    }

    /// Rounds, scales and writes the outputs of a tile; gives the bits of the largest magnitude.
    ///
    /// # Safety
    /// No other thread writes these rows of the output at the same time.
    #[target_feature(enable = "avx2")]
    unsafe fn write(&self, tile: Tile, group: usize, sums: &[Both<Halves>]) -> u32 {
        let row = group * GROUP;
        let valid = GROUP.min(self.w.rows - row);
        let mut largest = 0u32;
        for (t, sums) in sums.iter().enumerate() {
            let values = outputs(self.w, group, sums, token_scale(self.acts, tile, t));
            largest = values.iter().fold(largest, |m, v| m.max(v.to_bits() & 0x7fff_ffff));
            // SAFETY: the caller's promise.
            unsafe { self.out.write(tile.first + t, row, &values[..valid]) };
        }
        largest
    }
}

/// Some columns of a group of rows, and a tile's activations.
struct Columns<'a> {
    octs: Range<usize>,
    /// Octs under one mantissa, or of a part of a whole row under one.
    span: usize,
    /// Whether a row has one mantissa.
    whole: bool,
    /// As in [`Scratch`]: the weights from the first of the octs on, the others of the whole row.
    weights: &'a [Both<__m256i>],
    mantissas: &'a [Both<Halves>],
    minima: &'a [Both<Halves>],
    /// `[block of 32][token]`.
    lines: &'a [Line],
    /// `[unit][token]`, where they are needed.
    totals: &'a [i32],
    /// Tokens of the tile.
    width: usize,
}

/// Adds two halves' products of pairs with a token's pair in `x`: a product and a sum each.
macro_rules! products_avx2 {
    ($a:literal, $b:literal, $x:literal) => {
        concat!(
            "vpmaddwd {p}, {u}, ",
            $x,
            "\n",
            "vpmaddwd {q}, {v}, ",
            $x,
            "\n",
            "vpaddd ",
            $a,
            ", ",
            $a,
            ", {p}\n",
            "vpaddd ",
            $b,
            ", ",
            $b,
            ", {q}",
        )
    };
}

/// The same by AVX-VNNI.
macro_rules! products_vnni {
    ($a:literal, $b:literal, $x:literal) => {
        concat!(
            "{{vex}} vpdpwssd ",
            $a,
            ", {u}, ",
            $x,
            "\n",
            "{{vex}} vpdpwssd ",
            $b,
            ", {v}, ",
            $x,
            " /* not {p}, {q} */",
        )
    };
}

/// Adds the products of these pairs of columns, by number, by half a tile of tokens: of each pair of columns the weights are loaded once, and each token's
/// activations. `w` is where the weights are and `x` where the first token's are, the next ones' a line on each.
///
/// In assembly as a whole: the compiler keeps so many products ahead that sums go through memory.
macro_rules! multiply {
    ($pairs:literal, $products:ident, $w:expr, $x:expr, $dot:expr) => {{
        let [[a0, b0], [a1, b1], [a2, b2], [a3, b3]] = $dot;
        let (u, v, x, y, p, q): (__m256i, __m256i, __m256i, __m256i, __m256i, __m256i);
        asm!(
            concat!(".irp pair, ", $pairs),
            "vmovdqa {u}, [{w} + 64*\\pair]",
            "vmovdqa {v}, [{w} + 64*\\pair + 32]",
            "vpbroadcastd {x}, [{at} + 4*\\pair]",
            "vpbroadcastd {y}, [{at} + 4*\\pair + 64]",
            $products!("{a0}", "{b0}", "{x}"),
            $products!("{a1}", "{b1}", "{y}"),
            "vpbroadcastd {x}, [{at} + 4*\\pair + 128]",
            "vpbroadcastd {y}, [{at} + 4*\\pair + 192]",
            $products!("{a2}", "{b2}", "{x}"),
            $products!("{a3}", "{b3}", "{y}"),
            ".endr",
            w = in(reg) $w,
            at = in(reg) $x,
            u = out(ymm_reg) u,
            v = out(ymm_reg) v,
            x = out(ymm_reg) x,
            y = out(ymm_reg) y,
            p = out(ymm_reg) p,
            q = out(ymm_reg) q,
            a0 = inout(ymm_reg) *a0,
            b0 = inout(ymm_reg) *b0,
            a1 = inout(ymm_reg) *a1,
            b1 = inout(ymm_reg) *b1,
            a2 = inout(ymm_reg) *a2,
            b2 = inout(ymm_reg) *b2,
            a3 = inout(ymm_reg) *a3,
            b3 = inout(ymm_reg) *b3,
            options(pure, readonly, nostack, preserves_flags)
        );
        let _scratch = (u, v, x, y, p, q);
    }};
}

/// Adds the products of some columns to the sums of a tile, `T` tokens at a time; a macro, since the products would not be inlined into a function
/// with fewer features.
macro_rules! add_columns {
    ($name:ident, $features:literal, $products:ident, $dot_add:expr) => {
        #[target_feature(enable = $features)]
        fn $name<const T: usize, const MINIMA: bool>(columns: &Columns<'_>, sums: &mut [Both<Halves>]) {
            let Columns { octs: all, span: size, weights, width, .. } = columns;
            for span in all.start / size..all.end.div_ceil(*size) {
                let octs = all.start.max(span * size)..all.end.min((span + 1) * size);
                let block = if columns.whole { 0 } else { span };
                let m = &columns.mantissas[block];
                for (sums, first) in sums.as_chunks_mut::<T>().0.iter_mut().zip((0..).step_by(T)) {
                    let mut dot = [[_mm256_setzero_si256(); 2]; T];
                    let mut at = octs.start;
                    while at < octs.end {
                        let cell = at % OCTS == 0 && octs.end - at >= OCTS;
                        let count = if cell { OCTS } else { UNIT_OCTS };
                        let pairs: &[Both<__m256i>] = &weights[(at - all.start) * PAIRS..][..count * PAIRS];
                        let lines: &[Line] = &columns.lines[at / OCTS * width + first..][..T];
                        if let (Some(dot), true) = (dot.first_chunk_mut::<HALF>(), T == HALF) {
                            let (w, x) =
                                (pairs.as_ptr(), lines.as_ptr().cast::<i16>().wrapping_add(at % OCTS * OCT));
                            // SAFETY: there are as many pairs of weights, and of each token, whose lines lie one after the other.
                            unsafe {
                                if cell {
                                    multiply!("0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", $products, w, x, dot);
                                } else {
                                    multiply!("0,1,2,3,4,5,6,7", $products, w, x, dot);
                                }
                            }
                        } else {
                            for (i, v) in pairs.iter().enumerate() {
                                for t in 0..T {
                                    let two = lines[t].0.as_chunks::<2>().0[at % OCTS * PAIRS + i];
                                    let [a, b] = two.map(|a| u32::from(a as u16));
                                    let x = _mm256_set1_epi32((a | b << 16) as i32);
                                    for half in 0..2 {
                                        dot[t][half] = $dot_add(dot[t][half], v[half], x);
                                    }
                                }
                            }
                        }
                        at += count;
                    }
                    for t in 0..T {
                        for half in 0..2 {
                            add_products(&mut sums[t][half], halves(dot[t][half]), m[half]);
                        }
                    }
                    if MINIMA {
                        let units = octs.start / UNIT_OCTS..octs.end / UNIT_OCTS;
                        let n = &columns.minima[block];
                        for t in 0..T {
                            let total: i32 =
                                units.clone().map(|u| columns.totals[u * width + first + t]).sum();
                            for half in 0..2 {
                                add_products(&mut sums[t][half], [_mm256_set1_epi32(-total); 2], n[half]);
                            }
                        }
                    }
                }
            }
        }
    };
}
add_columns!(add_columns, "avx2", products_avx2, |sum, v, x| _mm256_add_epi32(sum, _mm256_madd_epi16(v, x)));
add_columns!(add_columns_vnni, "avx2,avxvnni", products_vnni, add_pairs_256);

/// So many blocks' numbers; zeros for those past the last.
#[target_feature(enable = "avx2")]
fn fill<const MINIMA: bool>(all: &[u8], blocks: usize, to: &mut Vec<Both<Halves>>) {
    to.clear();
    to.resize(blocks, [[_mm256_setzero_si256(); 2]; 2]);
    for (to, block) in to.iter_mut().zip(all.chunks_exact(HALVES)) {
        for (half, to) in to.iter_mut().enumerate() {
            *to = halves(if MINIMA { minima(block, half) } else { numbers::<false>(block, half) });
        }
    }
}

const _: () = assert!(OCTS_AT_ONCE.is_multiple_of(CUT) && UNIT == UNIT_OCTS * OCT);
const _: () =
    assert!(HALF == 4 && OCTS * PAIRS == 16 && size_of::<Line>() == 64, "the offsets are written for these");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;
    use crate::cpu::linear::cases;

    /// Products and sums, the two in one instruction, and plain integers: the same bits.
    #[test]
    fn ways_to_multiply_agree() {
        for isa in [Isa::Avx2, Isa::AvxVnni] {
            let Some(cpu) = cases::cpu(isa) else { continue };
            let pairs = Pairs::of(cpu.level).expect("it was asked for");
            // SAFETY: nobody else writes.
            cases::check(&cpu, isa.name(), |w, acts, groups, out| unsafe {
                piece(pairs, w, acts, groups, out)
            });
        }
    }

    /// Up to the largest that a sum can be, of either sign.
    #[test]
    fn integers_become_floats_exactly() {
        if cases::cpu(Isa::Avx2).is_none() {
            return;
        }
        let powers = (0..53).flat_map(|bit| [(2i64 << bit) - 1, 1 << bit]);
        let all: Vec<i64> = powers.flat_map(|v| [v, -v]).collect();
        for four in all.chunks_exact(4) {
            let mut out = [0.0f64; 4];
            // SAFETY: the processor has AVX2; four numbers are read and written.
            unsafe {
                _mm256_storeu_pd(
                    out.as_mut_ptr(),
                    crate::cpu::linear::avx2::floats(_mm256_loadu_si256(four.as_ptr().cast())),
                );
            }
            assert_eq!(out.map(|v| v as i64), four);
        }
    }
}
