//! Many tokens by AVX-512: some columns of two groups of rows are widened once, into memory of the thread, and pass all
//! tokens from there. Short blocks are taken two at a time.

use std::arch::x86_64::*;
use std::cell::RefCell;
use std::ops::Range;

use self::blocks::{BIAS_BITS, Part};
use super::{Sum, UNIT_OCTS, add_products, exponents, halves, integers, outputs, widen};
use crate::cpu::acts::{Acts, TILE, Tile, UNIT};
use crate::cpu::isa::Avx512;
use crate::cpu::linear::Out;
use crate::cpu::pack::{Bits, GROUP, HALVES, OCT, Packed, oct_bytes};
use crate::spec::matrix::MIN_SHIFT;

mod blocks;
#[cfg(test)]
mod tests;

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

/// Sixteen numbers of a block as [`Sum`]s are multiplied.
type Halves = [__m512i; 2];

/// What a thread works in.
#[derive(Default)]
struct Scratch {
    /// Widened weights, `[pair of columns][group]`.
    weights: Vec<__m512i>,
    /// Mantissas of the whole rows, `[block][group]`; zeros past the last block, where only columns lie that pad the row.
    mantissas: Vec<Halves>,
    /// Minima, likewise, or empty.
    minima: Vec<Halves>,
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
        let work = Work { w, acts, out, fused: is_x86_feature_detected!("avx512ifma") };
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
    /// Whether the processor multiplies and adds in 64 bits by one instruction (AVX-512-IFMA).
    fused: bool,
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
                let biases = self.scales::<MINIMA>(&groups, scratch);
                // What the buffer holds is written over.
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
                        if part.end == octs {
                            self.out.claim(*tile, groups.clone());
                        }
                        let (of_tile, rest) = sums.split_at_mut(tile.width * groups.len());
                        sums = rest;
                        if part.start == 0 {
                            let first = if tile.width == TILE { biases } else { [[zero; 2]; GROUPS] };
                            begin(of_tile, &first[..groups.len()]);
                        }
                        let columns = Columns {
                            octs: part.clone(),
                            first: part.start,
                            weights: &scratch.weights,
                            mantissas: &scratch.mantissas,
                            minima: &scratch.minima,
                        };
                        self.add::<MINIMA>(*tile, groups.len(), &columns, of_tile);
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

    /// Spans of a row of so many groups that a full tile takes two at a time.
    const fn paired(&self, groups: usize) -> usize {
        match (groups, self.w.span()) {
            (GROUPS, span @ (2 | 4)) => self.w.octs().div_ceil(span) / 2 * 2,
            _ => 0,
        }
    }

    /// Mantissas and minima of some groups; gives what the sums of a full tile begin with: less what biased block sums will add.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn scales<const MINIMA: bool>(&self, groups: &Range<usize>, scratch: &mut Scratch) -> [Sum; GROUPS] {
        let zero = [_mm512_setzero_si512(); 2];
        let blocks = self.w.octs().div_ceil(self.w.span());
        let biased = if self.fused { self.paired(groups.len()) } else { 0 };
        let bias = [_mm512_set1_epi32(-(1 << BIAS_BITS)); 2];
        let mut biases = [zero; GROUPS];
        scratch.mantissas.resize(blocks * groups.len(), zero);
        scratch.minima.resize(if MINIMA { blocks * groups.len() } else { 0 }, zero);
        for (g, group) in groups.clone().enumerate() {
            let group = self.w.group(group);
            let given = group.m.as_chunks().0.iter().map(|m: &[u8; HALVES]| halves(integers::<false>(m)));
            let mut sum = zero;
            let to = scratch.mantissas.iter_mut().skip(g).step_by(groups.len());
            for (block, (to, m)) in to.zip(given.chain(std::iter::repeat(zero))).enumerate() {
                *to = m;
                if block < biased {
                    add_products(&mut sum, bias, m);
                }
            }
            biases[g] = sum;
            let given = group.n.as_chunks().0.iter().map(|n: &[u8; HALVES]| minima(n));
            let to = scratch.minima.iter_mut().skip(g).step_by(groups.len());
            to.zip(given.chain(std::iter::repeat(zero))).for_each(|(to, n)| *to = n);
        }
        biases
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

    /// Adds the products of some columns of `groups` groups to the sums of a tile.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn add<const MINIMA: bool>(&self, tile: Tile, groups: usize, columns: &Columns<'_>, sums: &mut [Sum]) {
        let columns = match (groups, tile.width) {
            (GROUPS, TILE) => &self.add_pairs::<MINIMA>(tile, columns, sums),
            _ => columns,
        };
        match (groups, tile.width) {
            (2, 8) => self.add_of::<2, 8, MINIMA>(tile, columns, sums),
            (2, 4) => self.add_of::<2, 4, MINIMA>(tile, columns, sums),
            (2, 2) => self.add_of::<2, 2, MINIMA>(tile, columns, sums),
            (2, _) => self.add_of::<2, 1, MINIMA>(tile, columns, sums),
            (_, 8) => self.add_of::<1, 8, MINIMA>(tile, columns, sums),
            (_, 4) => self.add_of::<1, 4, MINIMA>(tile, columns, sums),
            (_, 2) => self.add_of::<1, 2, MINIMA>(tile, columns, sums),
            (_, _) => self.add_of::<1, 1, MINIMA>(tile, columns, sums),
        }
    }

    /// A tile's share of some columns.
    fn part<'a, const G: usize>(&'a self, tile: Tile, columns: &'a Columns<'_>) -> Part<'a, G> {
        Part {
            weights: columns.weights.as_chunks().0,
            first: columns.first,
            mantissas: columns.mantissas.as_chunks().0,
            minima: columns.minima.as_chunks().0,
            lines: self.acts.tile(tile),
            totals: self.acts.sums(tile),
        }
    }

    /// Adds the products of those columns that are taken in pairs of blocks; gives the others.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn add_pairs<'a, const MINIMA: bool>(
        &self,
        tile: Tile,
        columns: &Columns<'a>,
        sums: &mut [Sum],
    ) -> Columns<'a> {
        let (octs, span) = (&columns.octs, self.w.span());
        let spans = octs.start / span..octs.end.div_ceil(span).min(self.paired(GROUPS));
        if spans.is_empty() {
            return Columns { octs: octs.clone(), ..*columns };
        }
        let rest = (spans.end * span).min(octs.end)..octs.end;
        let (part, sums) = (self.part(tile, columns), sums.as_chunks_mut().0);
        match (span, self.fused) {
            (4, true) => part.add_pairs::<4, MINIMA, true>(spans, sums),
            (4, false) => part.add_pairs::<4, MINIMA, false>(spans, sums),
            (_, true) => part.add_pairs::<2, MINIMA, true>(spans, sums),
            (_, false) => part.add_pairs::<2, MINIMA, false>(spans, sums),
        }
        Columns { octs: rest, ..*columns }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn add_of<const G: usize, const T: usize, const MINIMA: bool>(
        &self,
        tile: Tile,
        columns: &Columns<'_>,
        sums: &mut [Sum],
    ) {
        let (octs, size) = (&columns.octs, self.w.span());
        let part = self.part::<G>(tile, columns);
        for span in octs.start / size..octs.end.div_ceil(size) {
            let octs = octs.start.max(span * size)..octs.end.min((span + 1) * size);
            part.add_one::<T, MINIMA>(self.w.block_of_span(span), &octs, sums.as_chunks_mut().0);
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

/// Sets each token's sums to these. Written out: the compiler calls a function that copies otherwise, for each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn begin(sums: &mut [Sum], first: &[Sum]) {
    for sums in sums.chunks_exact_mut(first.len()) {
        for ([even, odd], first) in sums.iter_mut().zip(first) {
            *even = first[0];
            *odd = first[1];
        }
    }
}

/// Some columns of some groups of rows.
struct Columns<'a> {
    octs: Range<usize>,
    /// The oct with which the widened weights begin.
    first: usize,
    /// As in [`Scratch`].
    weights: &'a [__m512i],
    mantissas: &'a [Halves],
    minima: &'a [Halves],
}

/// The minima of a block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn minima(n: &[u8]) -> Halves {
    halves(_mm512_slli_epi32::<MIN_SHIFT>(integers::<true>(n)))
}

/// Every bit of a mask twice.
fn spread(rows: u16) -> u32 {
    (0..16).fold(0, |mask, row| mask | ((u32::from(rows >> row & 1) * 3) << (2 * row)))
}

const _: () = assert!(OCTS_AT_ONCE.is_multiple_of(CUT) && UNIT == UNIT_OCTS * OCT);
