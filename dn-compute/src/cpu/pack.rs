//! Weights as the kernels read them.

use crate::spec::{BLOCK, BlockLength, Blocks, Prepared, QuantMatrix, QuantRow, float::pow2};

use super::isa::Level;
use super::pages::Pages;
use super::threads::{Threads, rows_mut};

/// Rows that lie side by side.
pub(crate) const GROUP: usize = 16;
/// Columns of an oct: what a kernel takes at a time.
pub(crate) const OCT: usize = 8;
/// Octs of 32 columns.
pub(crate) const OCTS: usize = BLOCK / OCT;
/// Bytes of a 16-bit number for every row of a group.
pub(crate) const HALVES: usize = 2 * GROUP;
/// Octs of a whole-row block that a kernel sums up at a time: `512 * 127 * 32639 < 2^31`.
const ROW_OCTS: usize = 512 / OCT;

/// How a weight's small integer is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bits {
    /// As it is. `[quad of columns][row][column]`.
    Eight,
    /// Four bits `q - base - f`, where `f` is a bit of the block. Per row a word of columns 0, 1, 4, 5 and one of columns 2, 3,
    /// 6, 7 of the oct, lowest first.
    Four {
        /// The smallest `q` of the matrix.
        base: i8,
    },
}

/// A matrix in groups of 16 rows, group-major, then by columns. Missing rows and columns have no weight.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) bits: Bits,
    pub(crate) minima: bool,
    length: BlockLength,
    /// Octs of a row, whole cells of 32 columns.
    octs: usize,
    /// Mantissas of a row.
    blocks: usize,
    /// `[group][oct]`.
    q: Pages,
    /// `[group][block][row]`, little-endian.
    m: Pages,
    /// As `m`; empty without minima.
    n: Pages,
    /// `f` of each row as bits, `[group][block]`; empty unless held in four bits.
    f: Vec<u16>,
    /// `2^er` of every row, padded to whole groups.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "plain code scales by the exponent"))]
    pub(crate) scale: Vec<f64>,
    pub(crate) er: Vec<i32>,
}

impl Prepared for Packed {
    fn rows(&self) -> usize {
        self.rows
    }
    fn cols(&self) -> usize {
        self.cols
    }
    fn memory_bytes(&self) -> usize {
        self.q.len() + self.m.len() + self.n.len() + self.f.len() * 2 + self.scale.len() * 12
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// The weights of a group of rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group<'a> {
    /// `oct_bytes` for each oct.
    pub(crate) q: &'a [u8],
    /// `HALVES` for each block.
    pub(crate) m: &'a [u8],
    /// As `m`, or empty.
    pub(crate) n: &'a [u8],
    /// One for each block, or empty.
    pub(crate) f: &'a [u16],
}

impl Packed {
    pub(crate) fn new(level: Level, w: &QuantMatrix, threads: &Threads) -> Self {
        let (rows, cols, blocks) = (w.rows(), w.cols(), w.block_count());
        let groups = rows.div_ceil(GROUP);
        let octs = cols.div_ceil(BLOCK) * OCTS;
        let (range, minima) = (w.range(), w.blocks().minima);
        let bits = match range.four_bits() {
            Some(base) if level.takes_four_bits() => Bits::Four { base },
            _ => Bits::Eight,
        };
        let four = bits != Bits::Eight;
        let mut q = Pages::zeroed(groups * octs * oct_bytes(bits));
        let mut m = Pages::zeroed(groups * blocks * HALVES);
        let mut n = Pages::zeroed(if minima { m.len() } else { 0 });
        let mut f = vec![0u16; if four { groups * blocks } else { 0 }];
        let pieces = threads.pieces(rows * cols);
        let parts = rows_mut(&mut q, octs * oct_bytes(bits), pieces)
            .into_iter()
            .zip(rows_mut(&mut m, blocks * HALVES, pieces))
            .zip(optional(rows_mut(&mut n, blocks * HALVES, pieces)))
            .zip(optional(rows_mut(&mut f, blocks, pieces)))
            .collect();
        threads.map(parts, |((((first, q), (_, m)), n), f)| {
            for (g, (q, m)) in q
                .chunks_exact_mut(octs * oct_bytes(bits))
                .zip(m.chunks_exact_mut(blocks * HALVES))
                .enumerate()
            {
                let n = &mut n[if minima { g * blocks * HALVES..(g + 1) * blocks * HALVES } else { 0..0 }];
                let f = &mut f[if four { g * blocks..(g + 1) * blocks } else { 0..0 }];
                let first_row = (first + g) * GROUP;
                for lane in 0..GROUP.min(rows - first_row) {
                    pack_row(w.row(first_row + lane), lane, bits, q, (m, n, f));
                }
            }
        });
        let er: Vec<i32> =
            (0..groups * GROUP).map(|r| if r < rows { w.row_exponent(r) } else { 0 }).collect();
        let scale = er.iter().map(|e| pow2(*e)).collect();
        let length = w.blocks().length;
        Self { rows, cols, bits, minima, length, octs, blocks, q, m, n, f, scale, er }
    }

    /// A group's values.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(crate) fn values(&self, group: usize) -> &[u8] {
        let len = self.octs * oct_bytes(self.bits);
        &self.q[group * len..][..len]
    }

    /// A group's weights.
    #[inline]
    pub(crate) fn group(&self, group: usize) -> Group<'_> {
        fn part<T>(all: &[T], group: usize, len: usize) -> &[T] {
            if all.is_empty() { all } else { &all[group * len..][..len] }
        }
        Group {
            q: part(&self.q, group, self.octs * oct_bytes(self.bits)),
            m: part(&self.m, group, self.blocks * HALVES),
            n: part(&self.n, group, self.blocks * HALVES),
            f: part(&self.f, group, self.blocks),
        }
    }

    /// Whether it is the usual form: signed bytes in blocks of 32, no minima.
    #[cfg(target_arch = "aarch64")]
    pub(crate) fn is_usual(&self) -> bool {
        self.bits == Bits::Eight && self.length == BlockLength::B32 && !self.minima
    }

    /// Octs of a row.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const fn octs(&self) -> usize {
        self.octs
    }

    /// Octs that a kernel sums up under one mantissa: those of a block, or of a part of one.
    pub(crate) const fn span(&self) -> usize {
        match self.length {
            BlockLength::Row => ROW_OCTS,
            fixed => fixed.code() as usize / OCT,
        }
    }

    /// Mantissas and minima (or nothing) of a block; `None` past the last one, where only columns lie that pad the row.
    pub(crate) fn scales<'a>(&self, group: Group<'a>, block: usize) -> Option<(&'a [u8], &'a [u8])> {
        let m = group.m.get(block * HALVES..)?.get(..HALVES)?;
        let n = if self.minima { &group.n[block * HALVES..][..HALVES] } else { &[] };
        Some((m, n))
    }

    /// The block of a span.
    pub(crate) const fn block_of_span(&self, span: usize) -> usize {
        match self.length {
            BlockLength::Row => 0,
            _ => span,
        }
    }

    /// A row back in logical order: its bytes, mantissas, minima.
    pub(crate) fn row(&self, row: usize) -> (Vec<i8>, Vec<u16>, Vec<i16>) {
        let (group, lane) = (self.group(row / GROUP), row % GROUP);
        let columns = self.length.columns(self.cols);
        let mut q = Vec::with_capacity(self.octs * OCT);
        for oct in group.q.chunks_exact(oct_bytes(self.bits)) {
            // A column that pads the row belongs to no block.
            q.extend(eight(oct, lane, self.bits, group.f.get(q.len() / columns)));
        }
        q.truncate(self.cols);
        let m = group.m.chunks_exact(HALVES).map(|m| half(m, lane)).collect();
        let n = group.n.chunks_exact(HALVES).map(|n| half(n, lane) as i16).collect();
        (q, m, n)
    }

    /// Columns of a block.
    pub(crate) const fn block_columns(&self) -> usize {
        self.length.columns(self.cols)
    }
}

/// Bytes of a matrix as it is held, in four bits or in eight.
pub(crate) fn packed_bytes(rows: usize, cols: usize, blocks: Blocks, four_bits: bool) -> u64 {
    let bits = if four_bits { Bits::Four { base: 0 } } else { Bits::Eight };
    let values = cols.div_ceil(BLOCK) * OCTS * oct_bytes(bits);
    let scales = HALVES * if blocks.minima { 2 } else { 1 } + if four_bits { size_of::<u16>() } else { 0 };
    let exponents = GROUP * (size_of::<f64>() + size_of::<i32>());
    rows.div_ceil(GROUP) as u64 * (values + blocks.count(cols) * scales + exponents) as u64
}

/// Parts that may be missing, in which case each is empty.
fn optional<T>(parts: Vec<(usize, &mut [T])>) -> impl Iterator<Item = &mut [T]> {
    parts.into_iter().map(|(_, part)| part).chain(std::iter::repeat_with(Default::default))
}

/// Bytes of an oct of a group.
pub(crate) const fn oct_bytes(bits: Bits) -> usize {
    match bits {
        Bits::Eight => OCT * GROUP,
        Bits::Four { .. } => OCT * GROUP / 2,
    }
}

/// A row's values in an oct, whose block has these bits `f`.
pub(crate) fn eight(oct: &[u8], lane: usize, bits: Bits, f: Option<&u16>) -> [i8; OCT] {
    match bits {
        Bits::Eight => {
            std::array::from_fn(|column| oct[column / 4 * 4 * GROUP + 4 * lane + column % 4] as i8)
        }
        Bits::Four { base } => {
            let least = base + f.map_or(0, |f| f >> lane & 1) as i8;
            NIBBLES.map(|slot| (oct[4 * lane + slot / 2] >> (slot % 2 * 4) & 15) as i8 + least)
        }
    }
}

/// A row's 16-bit number.
pub(crate) fn half(halves: &[u8], lane: usize) -> u16 {
    u16::from_le_bytes([halves[2 * lane], halves[2 * lane + 1]])
}

/// The place of each column of an oct among the eight half bytes of its row.
const NIBBLES: [usize; OCT] = [0, 1, 4, 5, 2, 3, 6, 7];

/// Writes a row to its places in a group.
fn pack_row(
    row: QuantRow<'_>,
    lane: usize,
    bits: Bits,
    q: &mut [u8],
    (m, n, f): (&mut [u8], &mut [u8], &mut [u16]),
) {
    for (m, value) in m.chunks_exact_mut(HALVES).zip(row.m) {
        m[2 * lane..][..2].copy_from_slice(&value.to_le_bytes());
    }
    for (n, value) in n.chunks_exact_mut(HALVES).zip(row.n) {
        n[2 * lane..][..2].copy_from_slice(&value.to_le_bytes());
    }
    match bits {
        Bits::Eight => {
            let mut slots = q[4 * lane..].chunks_mut(4 * GROUP);
            let quads = row.q.chunks_exact(4);
            let rest = quads.remainder();
            for (four, slot) in quads.zip(&mut slots) {
                slot[..4].copy_from_slice(&[four[0] as u8, four[1] as u8, four[2] as u8, four[3] as u8]);
            }
            if let Some(slot) = slots.next() {
                slot.iter_mut().zip(rest).for_each(|(slot, value)| *slot = *value as u8);
            }
        }
        Bits::Four { base } => {
            for (f, q) in f.iter_mut().zip(row.q.chunks(row.block)) {
                // The sixteen values from `base` hold the block, or those from one above.
                let above = q.iter().any(|q| q.wrapping_sub(base) == 16);
                *f |= u16::from(above) << lane;
            }
            // A block begins with an oct, but in rows of one block.
            let per = if row.m.len() == 1 { usize::MAX } else { row.block / OCT };
            for (i, (eight, slot)) in row.q.chunks(OCT).zip(q[4 * lane..].chunks_mut(4 * GROUP)).enumerate() {
                let least = base + (f[i / per] >> lane & 1) as i8;
                let mut word = 0u32;
                for (value, nibble) in eight.iter().zip(NIBBLES) {
                    word |= (value.wrapping_sub(least) as u32 & 15) << (4 * nibble);
                }
                slot[..4].copy_from_slice(&word.to_le_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::matrix::QuantParts;

    fn round_trip(blocks: Blocks, rows: usize, cols: usize, least: i8, most: i8, four: bool) {
        let count = blocks.count(cols);
        let columns = blocks.length.columns(cols);
        let width = i32::from(most) - i32::from(least) + 1;
        let q: Vec<i8> = (0..rows * cols)
            .map(|i| {
                // Blocks of both kinds: one that reaches the least and one that reaches the most.
                let high = i % cols / columns % 2 == 1 && width > 16;
                let value = (i * 7919 % 1013) as i32 % if four { width.min(16) } else { width };
                (i32::from(least) + i32::from(high) + value) as i8
            })
            .collect();
        let mut m = vec![0x8001u16; rows * count];
        for (q, m) in q.chunks(cols).zip(m.chunks_mut(count)) {
            for (q, m) in q.chunks(columns).zip(m) {
                *m = if q.iter().all(|q| *q == 0) { 0 } else { *m };
            }
        }
        let n = (0..if blocks.minima { rows * count } else { 0 }).map(|i| 20_000 - i as i16).collect();
        let vacant = |m: &[u16]| !blocks.minima && m.iter().all(|m| *m == 0);
        let er = m.chunks(count).map(|m| if vacant(m) { 0 } else { -30 }).collect();
        let parts = QuantParts { rows, cols, blocks, q, m, n, er };
        let w = QuantMatrix::from_blocks(parts).expect("canonical");
        let threads = Threads::new(1).expect("a thread");
        let packed = Packed::new(Level::Scalar, &w, &threads);
        assert_eq!(packed.bits != Bits::Eight, four);
        assert_eq!(packed.memory_bytes() as u64, packed_bytes(rows, cols, blocks, four));
        for row in 0..rows {
            let (q, m, n) = packed.row(row);
            assert_eq!((&q[..], &m[..], &n[..]), (w.row_q(row), w.row_m(row), w.row_n(row)), "row {row}");
        }
    }

    #[test]
    fn rows_come_back() {
        for length in BlockLength::ALL {
            for cols in [1, 31, 64, 135] {
                for blocks in [Blocks::plain(length), Blocks::with_minima(length)] {
                    round_trip(blocks, 17, cols, -60, 60, cols == 1);
                    round_trip(blocks, 17, cols, 0, 15, true);
                    if length != BlockLength::Row {
                        round_trip(blocks, 33, cols, -8, 8, true);
                    }
                }
            }
        }
    }
}
