//! Many tokens by AVX-512: some columns of two groups of rows are widened once, into memory of the thread, and pass all
//! tokens from there. Short blocks are taken two at a time.

use std::arch::x86_64::*;
use std::cell::RefCell;
use std::ops::Range;

use super::{Sum, UNIT_OCTS, add_products, exponents, halves, integers, outputs, widen};
use crate::cpu::acts::{Acts, Line, TILE, Tile, UNIT};
use crate::cpu::isa::Avx512;
use crate::cpu::linear::Out;
use crate::cpu::pack::{Bits, GROUP, Group, OCT, OCTS, Packed, oct_bytes};
use crate::cpu::vnni::add_pairs_512;
use crate::spec::matrix::MIN_SHIFT;

/// Most octs that are widened at a time: with a tile's activations they stay in the first-level cache. Whole spans of fixed
/// blocks.
const OCTS_AT_ONCE: usize = 64;
/// Octs of the longest fixed block: a row is cut at its multiples.
const CUT: usize = 16;
/// Most groups that share each activation.
const GROUPS: usize = 2;
/// Tiles of tokens that pass the widened columns.
const TILES: usize = 32;
/// Pairs of columns of an oct.
const PAIRS: usize = OCT / 2;
/// Tokens that pass two short blocks at once.
const HALF: usize = TILE / 2;

/// What a thread works in.
#[derive(Default)]
struct Scratch {
    /// Widened weights, `[pair of columns][group]`.
    weights: Vec<__m512i>,
    /// `[token][group]`.
    sums: Vec<Sum>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Rows of groups `first..end` for all tokens; false where an output overflowed.
///
/// # Safety
/// No other thread writes these rows of `out` at the same time.
pub(in crate::cpu::linear) unsafe fn piece(
    _: Avx512,
    w: &Packed,
    acts: &Acts,
    groups: Range<usize>,
    out: &Out,
) -> bool {
    SCRATCH.with_borrow_mut(|scratch| {
        let work = Work { w, acts, out };
        // SAFETY: the token proves the features; the caller promises the rows.
        unsafe {
            match (w.bits, w.minima) {
                (Bits::Eight, false) => work.run::<false, false>(groups, scratch),
                (Bits::Eight, true) => work.run::<false, true>(groups, scratch),
                (Bits::Four { .. }, false) => work.run::<true, false>(groups, scratch),
                (Bits::Four { .. }, true) => work.run::<true, true>(groups, scratch),
            }
        }
    })
}

/// One matrix and the tokens that pass.
struct Work<'a> {
    w: &'a Packed,
    acts: &'a Acts,
    out: &'a Out,
}

impl Work<'_> {
    /// Multiplies some groups; false where an output overflowed.
    ///
    /// # Safety
    /// No other thread writes these rows of the output at the same time.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn run<const FOUR: bool, const MINIMA: bool>(
        &self,
        all: Range<usize>,
        scratch: &mut Scratch,
    ) -> bool {
        let zero = _mm512_setzero_si512();
        let octs = self.w.octs();
        let per = octs.div_ceil(octs.div_ceil(OCTS_AT_ONCE)).next_multiple_of(CUT);
        scratch.weights.resize(per * PAIRS * GROUPS, zero);
        let mut largest = zero;
        for tiles in self.acts.tiles.chunks(TILES) {
            let tokens: usize = tiles.iter().map(|tile| tile.width).sum();
            for first in all.clone().step_by(GROUPS) {
                let groups = first..all.end.min(first + GROUPS);
                scratch.sums.clear();
                scratch.sums.resize(tokens * groups.len(), [zero; 2]);
                for from in (0..octs).step_by(per) {
                    let part = from..octs.min(from + per);
                    self.widen::<FOUR>(&groups, &part, &mut scratch.weights);
                    let next = if part.end < octs {
                        (groups.clone(), part.end..octs.min(part.end + per))
                    } else {
                        (groups.end..self.w.rows.div_ceil(GROUP).min(groups.end + GROUPS), 0..octs.min(per))
                    };
                    let mut sums = &mut scratch.sums[..];
                    for (i, tile) in tiles.iter().enumerate() {
                        self.ask(&next, i, tiles.len());
                        let (of_tile, rest) = sums.split_at_mut(tile.width * groups.len());
                        sums = rest;
                        self.add::<MINIMA>(*tile, &groups, &part, &scratch.weights, of_tile);
                        if part.end == octs {
                            // SAFETY: the caller's promise.
                            largest = unsafe { self.write(*tile, &groups, of_tile, largest) };
                        }
                    }
                }
            }
        }
        _mm512_reduce_max_epu32(largest) < 0x7f80_0000
    }

    /// Asks for a share of the weights that are widened next.
    fn ask(&self, (groups, octs): &(Range<usize>, Range<usize>), share: usize, shares: usize) {
        let size = oct_bytes(self.w.bits);
        for group in groups.clone() {
            let bytes = &self.w.values(group)[octs.start * size..octs.end * size];
            let each = bytes.len().div_ceil(shares).next_multiple_of(64);
            for line in bytes.chunks(each).nth(share).unwrap_or_default().chunks(64) {
                // SAFETY: a prefetch reads nothing and never faults.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
            }
        }
    }

    /// Some columns of some groups as 16-bit integers.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn widen<const FOUR: bool>(&self, groups: &Range<usize>, octs: &Range<usize>, to: &mut [__m512i]) {
        let w = self.w;
        let size = oct_bytes(w.bits);
        for (g, group) in groups.clone().enumerate() {
            let weights = w.group(group);
            let mut at = g;
            for span in octs.start / w.span()..octs.end.div_ceil(w.span()) {
                let part = octs.start.max(span * w.span())..octs.end.min((span + 1) * w.span());
                let least = match w.bits {
                    Bits::Eight => _mm512_setzero_si512(),
                    Bits::Four { base } => {
                        let base = _mm512_set1_epi16(base.into());
                        let above = weights.f.get(w.block_of_span(span)).copied().unwrap_or(0);
                        _mm512_mask_add_epi16(base, spread(above), base, _mm512_set1_epi16(1))
                    }
                };
                for oct in weights.q[part.start * size..part.end * size].chunks_exact(size) {
                    for v in widen::<FOUR>(oct) {
                        to[at] = if FOUR { _mm512_add_epi16(v, least) } else { v };
                        at += groups.len();
                    }
                }
            }
        }
    }

    /// Adds the products of some columns to the sums of a tile.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn add<const MINIMA: bool>(
        &self,
        tile: Tile,
        groups: &Range<usize>,
        octs: &Range<usize>,
        weights: &[__m512i],
        sums: &mut [Sum],
    ) {
        match (groups.len(), tile.width) {
            (2, 8) => self.add_of::<2, 8, MINIMA>(tile, groups, octs, weights, sums),
            (2, 4) => self.add_of::<2, 4, MINIMA>(tile, groups, octs, weights, sums),
            (2, 2) => self.add_of::<2, 2, MINIMA>(tile, groups, octs, weights, sums),
            (2, _) => self.add_of::<2, 1, MINIMA>(tile, groups, octs, weights, sums),
            (_, 8) => self.add_of::<1, 8, MINIMA>(tile, groups, octs, weights, sums),
            (_, 4) => self.add_of::<1, 4, MINIMA>(tile, groups, octs, weights, sums),
            (_, 2) => self.add_of::<1, 2, MINIMA>(tile, groups, octs, weights, sums),
            (_, _) => self.add_of::<1, 1, MINIMA>(tile, groups, octs, weights, sums),
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn add_of<const G: usize, const T: usize, const MINIMA: bool>(
        &self,
        tile: Tile,
        groups: &Range<usize>,
        octs: &Range<usize>,
        weights: &[__m512i],
        sums: &mut [Sum],
    ) {
        let w = self.w;
        let part = Part::<G> {
            w,
            groups: std::array::from_fn(|g| w.group(groups.start + g)),
            weights: weights.as_chunks().0,
            first: octs.start,
            lines: self.acts.tile(tile),
            totals: self.acts.sums(tile),
        };
        let sums = sums.as_chunks_mut::<G>().0;
        let mut spans = octs.start / w.span()..octs.end.div_ceil(w.span());
        if T == TILE {
            while spans.len() >= 2 {
                match w.span() {
                    4 => part.add_two::<4, MINIMA>(spans.start, sums),
                    2 => part.add_two::<2, MINIMA>(spans.start, sums),
                    _ => break,
                }
                spans.start += 2;
            }
        }
        for span in spans {
            part.add_one::<T, MINIMA>(span, octs, sums);
        }
    }

    /// Rounds, scales and writes the outputs of a tile; takes and gives the largest magnitudes' bits so far.
    ///
    /// # Safety
    /// No other thread writes these rows of the output at the same time.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn write(&self, tile: Tile, groups: &Range<usize>, sums: &[Sum], largest: __m512i) -> __m512i {
        let (w, mut largest) = (self.w, largest);
        for (t, sums) in sums.chunks_exact(groups.len()).enumerate() {
            for (group, sum) in groups.clone().zip(sums) {
                let values = outputs(exponents(w, group), *sum, self.acts.et[tile.first + t]);
                largest = _mm512_max_epu32(largest, _mm512_castps_si512(_mm512_abs_ps(values)));
                let row = group * GROUP;
                let valid = GROUP.min(w.rows - row);
                let to = self.out.place(tile.first + t, row, valid);
                // SAFETY: the place holds `valid` values, which nobody else writes, by the caller's promise.
                unsafe { _mm512_mask_storeu_ps(to, ((1u32 << valid) - 1) as u16, values) };
            }
        }
        largest
    }
}

/// Some columns of `G` groups of rows, and a tile of tokens.
struct Part<'a, const G: usize> {
    w: &'a Packed,
    groups: [Group<'a>; G],
    /// Widened, from oct `first` on.
    weights: &'a [[__m512i; G]],
    first: usize,
    /// The tile's activations, `[block of 32][token]`.
    lines: &'a [Line],
    /// The sums of every unit of them.
    totals: &'a [i32],
}

impl<const G: usize> Part<'_, G> {
    /// Adds the products of a span to the sums of `T` tokens.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn add_one<const T: usize, const MINIMA: bool>(
        &self,
        span: usize,
        octs: &Range<usize>,
        sums: &mut [[Sum; G]],
    ) {
        let w = self.w;
        let lines = self.lines.as_chunks::<T>().0;
        let part = octs.start.max(span * w.span())..octs.end.min((span + 1) * w.span());
        let mut dot = [[_mm512_setzero_si512(); G]; T];
        for at in part.clone().step_by(UNIT_OCTS) {
            let columns: &[[__m512i; G]] = &self.weights[(at - self.first) * PAIRS..][..UNIT_OCTS * PAIRS];
            multiply(columns, &lines[at / OCTS], at % OCTS * PAIRS, &mut dot);
        }
        let mut total = [0i32; T];
        if MINIMA {
            let units = &self.totals.as_chunks::<T>().0[part.start / UNIT_OCTS..part.end / UNIT_OCTS];
            units.iter().for_each(|unit| total.iter_mut().zip(unit).for_each(|(total, unit)| *total += unit));
        }
        for g in 0..G {
            let Some((m, n)) = w.scales(self.groups[g], w.block_of_span(span)) else { continue };
            let m = halves(integers::<false>(m));
            for t in 0..T {
                add_products(&mut sums[t][g], halves(dot[t][g]), m);
            }
            if MINIMA {
                let n = minima(n);
                for t in 0..T {
                    add_products(&mut sums[t][g], [_mm512_set1_epi32(-total[t]); 2], n);
                }
            }
        }
    }

    /// Adds the products of two spans of `S` octs to the sums of a full tile: half of its tokens at a time, so that the sums in memory are
    /// touched half as often.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn add_two<const S: usize, const MINIMA: bool>(&self, span: usize, sums: &mut [[Sum; G]]) {
        let octs = [span * S, (span + 1) * S];
        let weights = &self.weights[(octs[0] - self.first) * PAIRS..][..2 * S * PAIRS];
        let (a, b) = weights.split_at(S * PAIRS);
        for half in [0, HALF] {
            let lines = [self.half(octs[0], half), self.half(octs[1], half)];
            let mut dot = [[[_mm512_setzero_si512(); G]; HALF]; 2];
            for (oct, (a, b)) in a.as_chunks::<PAIRS>().0.iter().zip(b.as_chunks::<PAIRS>().0).enumerate() {
                let at = [(octs[0] % OCTS + oct) * PAIRS, (octs[1] % OCTS + oct) * PAIRS];
                // Written out: the compiler makes a loop of it otherwise, whose end is mispredicted once a block.
                multiply_two([&a[0], &b[0]], lines, at, &mut dot);
                multiply_two([&a[1], &b[1]], lines, [at[0] + 1, at[1] + 1], &mut dot);
                multiply_two([&a[2], &b[2]], lines, [at[0] + 2, at[1] + 2], &mut dot);
                multiply_two([&a[3], &b[3]], lines, [at[0] + 3, at[1] + 3], &mut dot);
            }
            let sums = &mut sums[half..][..HALF];
            for g in 0..G {
                let [(ma, na), (mb, nb)] = [self.scales(g, span), self.scales(g, span + 1)];
                for t in 0..HALF {
                    let mut sum = sums[t][g];
                    add_products(&mut sum, halves(dot[0][t][g]), ma);
                    add_products(&mut sum, halves(dot[1][t][g]), mb);
                    if MINIMA {
                        add_products(&mut sum, self.less::<S>(octs[0], half + t), na);
                        add_products(&mut sum, self.less::<S>(octs[1], half + t), nb);
                    }
                    sums[t][g] = sum;
                }
            }
        }
    }

    /// The lines of half a full tile in which an oct is.
    #[inline]
    fn half(&self, oct: usize, half: usize) -> &[Line; HALF] {
        &self.lines.as_chunks::<HALF>().0[oct / OCTS * 2 + half / HALF]
    }

    /// The mantissas and minima of a block; zeros past the last one, where only columns lie that pad the row.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn scales(&self, g: usize, block: usize) -> ([__m512i; 2], [__m512i; 2]) {
        let zero = [_mm512_setzero_si512(); 2];
        match self.w.scales(self.groups[g], block) {
            Some((m, n)) if self.w.minima => (halves(integers::<false>(m)), minima(n)),
            Some((m, _)) => (halves(integers::<false>(m)), zero),
            None => (zero, zero),
        }
    }

    /// What a token's activations in a block of a full tile add up to, negative, for what all weights of the block have in common.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn less<const S: usize>(&self, oct: usize, token: usize) -> [__m512i; 2] {
        let units = &self.totals.as_chunks::<TILE>().0[oct / UNIT_OCTS..][..S / UNIT_OCTS];
        [_mm512_set1_epi32(-units.iter().map(|unit| unit[token]).sum::<i32>()); 2]
    }
}

/// The minima of a block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn minima(n: &[u8]) -> [__m512i; 2] {
    halves(_mm512_slli_epi32::<MIN_SHIFT>(integers::<true>(n)))
}

/// Adds the products of a unit of columns: pairs of weights by pairs of activations from number `first` of each line.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn multiply<const G: usize, const T: usize>(
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

/// Adds the products of a pair of columns of each of two blocks, by pairs of activations at their numbers of each line.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn multiply_two<const G: usize>(
    weights: [&[__m512i; G]; 2],
    lines: [&[Line; HALF]; 2],
    at: [usize; 2],
    dot: &mut [[[__m512i; G]; HALF]; 2],
) {
    for b in 0..2 {
        for t in 0..HALF {
            let x = both(&lines[b][t], at[b]);
            for g in 0..G {
                dot[b][t][g] = add_pairs_512(dot[b][t][g], weights[b][g], x);
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

/// Every bit of a mask twice.
fn spread(rows: u16) -> u32 {
    (0..16).fold(0, |mask, row| mask | ((u32::from(rows >> row & 1) * 3) << (2 * row)))
}

const _: () = assert!(OCTS_AT_ONCE.is_multiple_of(CUT) && UNIT == UNIT_OCTS * OCT);
