//! The one weight format: `w[r][c] = (q[r][c] * m[r][b] - 16 * n[r][b]) * 2^er[r]` with `b` the block of column `c`.
//!
//! How many columns a block has, and whether there are minima `n`, are properties of the matrix ([`Blocks`]).

mod blocks;
mod float;
mod gguf;
mod row;

use std::ops::Range;

use super::error::MatrixError;
use super::float::pow2;
use super::limits::{MAX_COLS, MAX_ROWS};

pub use blocks::{BlockLength, Blocks, ParseBlockLengthError};
pub use row::QuantRow;

/// Columns of the usual block, [`BlockLength::B32`].
pub const BLOCK: usize = 32;

/// A minimum counts `2^MIN_SHIFT` units of its row's `2^er`: with 15 bits and a sign it reaches 8 times as far as a mantissa.
pub const MIN_SHIFT: u32 = 4;

/// Largest magnitude of `q` in a matrix with minima; `127` in one without.
///
/// `|q * m| + |16 * n| <= 63 * 65535 + 16 * 32767 < 71 * 65535`: sums stay below those of a matrix without minima.
pub const MAX_Q_WITH_MINIMA: i8 = 63;

/// Bytes before the rows of a tile.
const HEADER_BYTES: usize = 2;

/// What the signed bytes of a matrix have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuantRange {
    /// The smallest.
    pub min: i8,
    /// The largest.
    pub max: i8,
    /// The largest difference between two of one block.
    pub spread: u8,
}

impl QuantRange {
    /// Bits that hold `q - (smallest q of the block)` in every block; 4 for what came from Q4_0 and Q4_K.
    pub const fn bits(self) -> u32 {
        u8::BITS - self.spread.leading_zeros()
    }

    /// The smallest `q`, where the sixteen values from it or from one above it on hold each block: so may a backend keep them in
    /// four bits, with one more for each block.
    pub const fn four_bits(self) -> Option<i8> {
        if self.spread <= 15 && self.max.abs_diff(self.min) <= 16 { Some(self.min) } else { None }
    }

    /// Whether every `q` is in `0..=15`, so that 4 bits hold it as it is.
    pub const fn unsigned_4(self) -> bool {
        self.min >= 0 && self.max <= 15
    }
}

/// The parts of a matrix: what [`QuantMatrix::from_blocks`] takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantParts {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// The form of the blocks.
    pub blocks: Blocks,
    /// The signed bytes, row-major.
    pub q: Vec<i8>,
    /// A mantissa per started block, row-major.
    pub m: Vec<u16>,
    /// A minimum per started block, row-major; empty without minima.
    pub n: Vec<i16>,
    /// An exponent per row.
    pub er: Vec<i16>,
}

/// A quantised matrix in its logical, canonical form.
///
/// # Shape
/// `rows x cols`, row-major, the last block of a row possibly short. `q` in `-127..=127`, with minima in `-63..=63`. In each row
/// the largest mantissa is at least `2^15`, or a minimum's magnitude is at least `2^14`; a block's mantissa is zero exactly when
/// all its `q` are; a row of zeros has exponent 0. So equal weights under equal blocks have equal bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantMatrix {
    rows: usize,
    cols: usize,
    blocks: Blocks,
    q: Vec<i8>,
    m: Vec<u16>,
    n: Vec<i16>,
    er: Vec<i16>,
    range: QuantRange,
}

impl QuantMatrix {
    /// A matrix in blocks of 32 without minima from its parts: `q` row-major, `m` one per started block, `er` one per row.
    ///
    /// # Errors
    /// As [`from_blocks`](Self::from_blocks).
    pub fn from_parts(
        rows: usize,
        cols: usize,
        q: Vec<i8>,
        m: Vec<u16>,
        er: Vec<i16>,
    ) -> Result<Self, MatrixError> {
        let blocks = Blocks::plain(BlockLength::B32);
        Self::from_blocks(QuantParts { rows, cols, blocks, q, m, n: Vec::new(), er })
    }

    /// A matrix from its parts.
    ///
    /// # Errors
    /// A size or a length that does not fit, or a row that is not canonical.
    pub fn from_blocks(parts: QuantParts) -> Result<Self, MatrixError> {
        let QuantParts { rows, cols, blocks, q, m, n, er } = parts;
        check_size(rows, cols)?;
        let count = rows * blocks.count(cols);
        check_len(rows, cols, "q", rows * cols, q.len())?;
        check_len(rows, cols, "m", count, m.len())?;
        check_len(rows, cols, "n", if blocks.minima { count } else { 0 }, n.len())?;
        check_len(rows, cols, "er", rows, er.len())?;
        let mut out = Self { rows, cols, blocks, q, m, n, er, range: EMPTY };
        for row in 0..rows {
            out.check_row(row)?;
        }
        out.measure();
        Ok(out)
    }

    /// The inverse of [`tile_bytes`](Self::tile_bytes) for a whole matrix.
    ///
    /// # Errors
    /// As [`from_blocks`](Self::from_blocks), and a header that names no form of blocks.
    pub fn from_tile_bytes(rows: usize, cols: usize, bytes: &[u8]) -> Result<Self, MatrixError> {
        check_size(rows, cols)?;
        let Some((header, data)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(MatrixError::Length { rows, cols, what: "header", expected: 2, found: bytes.len() });
        };
        let blocks = Blocks::from_header(*header).ok_or(MatrixError::Header { found: *header })?;
        let stride = blocks.row_bytes(cols);
        // More than can be addressed is as wrong as any other length.
        let expected =
            rows.checked_mul(stride).and_then(|n| n.checked_add(HEADER_BYTES)).unwrap_or(usize::MAX);
        check_len(rows, cols, "bytes", expected, bytes.len())?;
        let mut out = Self::zeros(rows, cols, blocks);
        let count = out.block_count();
        for (row, data) in data.chunks_exact(stride).enumerate() {
            let (er, data) = data.split_at(2);
            let (m, data) = data.split_at(2 * count);
            let (n, q) = data.split_at(data.len() - cols);
            out.er[row] = i16::from_le_bytes([er[0], er[1]]);
            for (m, two) in out.m[row * count..].iter_mut().zip(m.chunks_exact(2)) {
                *m = u16::from_le_bytes([two[0], two[1]]);
            }
            // Without minima there are no bytes of them.
            for (i, two) in n.chunks_exact(2).enumerate() {
                out.n[row * count + i] = i16::from_le_bytes([two[0], two[1]]);
            }
            for (to, byte) in out.q[row * cols..].iter_mut().zip(q) {
                *to = *byte as i8;
            }
            out.check_row(row)?;
        }
        out.measure();
        Ok(out)
    }

    /// Canonical bytes of some rows, what a Merkle leaf of the model hashes.
    ///
    /// First the [header](Blocks::header) of the blocks. Then per row: `er` as i16, the mantissas as u16, the minima (where there
    /// are any) as i16, all little-endian, then `cols` bytes of `q`.
    ///
    /// # Panics
    /// When the range leaves the matrix.
    pub fn tile_bytes(&self, rows: Range<usize>) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + rows.len() * self.blocks.row_bytes(self.cols));
        out.extend(self.blocks.header());
        for row in rows {
            out.extend(self.er[row].to_le_bytes());
            out.extend(self.row_m(row).iter().flat_map(|m| m.to_le_bytes()));
            out.extend(self.row_n(row).iter().flat_map(|n| n.to_le_bytes()));
            out.extend(self.row_q(row).iter().map(|q| *q as u8));
        }
        out
    }

    /// Rows.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// The form of its blocks.
    pub const fn blocks(&self) -> Blocks {
        self.blocks
    }

    /// Columns of a full block.
    pub const fn block_columns(&self) -> usize {
        self.blocks.length.columns(self.cols)
    }

    /// Blocks of a row.
    pub const fn block_count(&self) -> usize {
        self.blocks.count(self.cols)
    }

    /// What its signed bytes have in common: a kernel may hold them in fewer bits.
    pub const fn range(&self) -> QuantRange {
        self.range
    }

    /// A row.
    pub fn row(&self, row: usize) -> QuantRow<'_> {
        QuantRow {
            q: self.row_q(row),
            m: self.row_m(row),
            n: self.row_n(row),
            er: self.row_exponent(row),
            block: self.block_columns(),
        }
    }

    /// The signed bytes of a row.
    pub fn row_q(&self, row: usize) -> &[i8] {
        &self.q[row * self.cols..][..self.cols]
    }

    /// The mantissas of a row.
    pub fn row_m(&self, row: usize) -> &[u16] {
        let count = self.block_count();
        &self.m[row * count..][..count]
    }

    /// The minima of a row; empty in a matrix without.
    pub fn row_n(&self, row: usize) -> &[i16] {
        let count = if self.blocks.minima { self.block_count() } else { 0 };
        &self.n[row * count..][..count]
    }

    /// The exponent of a row.
    pub fn row_exponent(&self, row: usize) -> i32 {
        i32::from(self.er[row])
    }

    /// The value of a weight as an f64, exactly.
    pub fn value(&self, row: usize, col: usize) -> f64 {
        let block = col / self.block_columns();
        let minimum = self.row_n(row).get(block).map_or(0, |n| i32::from(*n) << MIN_SHIFT);
        let product = i32::from(self.row_q(row)[col]) * i32::from(self.row_m(row)[block]);
        f64::from(product - minimum) * pow2(self.row_exponent(row))
    }

    fn zeros(rows: usize, cols: usize, blocks: Blocks) -> Self {
        let count = rows * blocks.count(cols);
        let n = vec![0; if blocks.minima { count } else { 0 }];
        Self {
            rows,
            cols,
            blocks,
            q: vec![0; rows * cols],
            m: vec![0; count],
            n,
            er: vec![0; rows],
            range: EMPTY,
        }
    }

    /// Chooses the row's exponent for these block scales (none negative) and minima, sets mantissas and minima, clears
    /// blocks that vanish.
    fn set_scales(&mut self, row: usize, scales: &[f64], minima: &[f64]) {
        let largest = |values: &[f64]| values.iter().fold(0f64, |a, v| a.max(v.abs()));
        let for_m = exponent(largest(scales), 15, f64::from(u16::MAX));
        let for_n = exponent(largest(minima), 14, f64::from(i16::MAX)).map(|e| e - MIN_SHIFT as i32);
        // A zero row has no exponent of either kind, and nothing to scale.
        let er = for_m.max(for_n).unwrap_or(0);
        let (count, length) = (scales.len(), self.block_columns());
        let q = &mut self.q[row * self.cols..][..self.cols];
        for ((m, scale), q) in self.m[row * count..].iter_mut().zip(scales).zip(q.chunks_mut(length)) {
            *m = nearest(scale * pow2(-er)) as u16;
            if *m == 0 {
                q.fill(0);
            }
        }
        if self.blocks.minima {
            for (n, minimum) in self.n[row * count..].iter_mut().zip(minima) {
                *n = nearest(minimum * pow2(-er - MIN_SHIFT as i32)) as i16;
            }
        }
        self.er[row] = er as i16;
    }

    /// Finds the range of the signed bytes, once they are there.
    fn measure(&mut self) {
        let (mut min, mut max, mut spread) = (i8::MAX, i8::MIN, 0);
        let length = self.block_columns();
        for row in self.q.chunks_exact(self.cols) {
            for block in row.chunks(length) {
                let low = block.iter().fold(i8::MAX, |a, q| a.min(*q));
                let high = block.iter().fold(i8::MIN, |a, q| a.max(*q));
                (min, max, spread) = (min.min(low), max.max(high), spread.max(high.abs_diff(low)));
            }
        }
        self.range = QuantRange { min, max, spread };
    }

    fn check_row(&self, row: usize) -> Result<(), MatrixError> {
        let not = |what| Err(MatrixError::NotCanonical { row, what });
        let QuantRow { q, m, n, block, .. } = self.row(row);
        if let Some(col) = q.iter().position(|q| *q == i8::MIN) {
            return Err(MatrixError::Quant { row, col });
        }
        if self.blocks.minima && q.iter().any(|q| q.abs() > MAX_Q_WITH_MINIMA) {
            return not("beside minima the values are between -63 and 63");
        }
        if n.contains(&i16::MIN) {
            return not("a minimum is between -32767 and 32767");
        }
        for (m, q) in m.iter().zip(q.chunks(block)) {
            if (*m == 0) != q.iter().all(|q| *q == 0) {
                return not("a block has a zero mantissa exactly when all its values are zero");
            }
        }
        let top_m = m.iter().max().copied().unwrap_or(0);
        let top_n = n.iter().map(|n| n.unsigned_abs()).max().unwrap_or(0);
        match self.er[row] {
            er if (top_m, top_n) == (0, 0) => {
                if er == 0 {
                    Ok(())
                } else {
                    not("a zero row has exponent 0")
                }
            }
            _ if top_m < 0x8000 && top_n < 0x4000 => {
                not("the largest mantissa is at least 32768, or a minimum at least 16384")
            }
            -160..=100 => Ok(()),
            _ => not("the exponent is between -160 and 100"),
        }
    }
}

/// The range of a matrix whose bytes have not been looked at.
const EMPTY: QuantRange = QuantRange { min: 0, max: 0, spread: 0 };

/// The smallest exponent under which `largest` has `bits` bits after its first and rounds to no more than `limit`; `None`
/// for zero.
fn exponent(largest: f64, bits: i32, limit: f64) -> Option<i32> {
    if largest == 0.0 {
        return None;
    }
    let floor_log2 = ((largest.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    let e = floor_log2 - bits;
    Some(if nearest(largest * pow2(-e)) > limit { e + 1 } else { e })
}

/// Nearest even integer of `|v| < 2^51`: the addition of 1.5 * 2^52 leaves no bits below one. (The library's function is a
/// call per weight on machines without a rounding instruction.)
fn nearest(v: f64) -> f64 {
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    (v + MAGIC) - MAGIC
}

fn check_size(rows: usize, cols: usize) -> Result<(), MatrixError> {
    // The product also bounds what 32-bit machines can address.
    let fits = rows.checked_mul(cols).is_some_and(|n| n <= isize::MAX as usize / 8);
    if (1..=MAX_ROWS).contains(&rows) && (1..=MAX_COLS).contains(&cols) && fits {
        return Ok(());
    }
    Err(MatrixError::Size { rows, cols, max_rows: MAX_ROWS, max_cols: MAX_COLS })
}

fn check_len(
    rows: usize,
    cols: usize,
    what: &'static str,
    expected: usize,
    found: usize,
) -> Result<(), MatrixError> {
    if expected == found {
        return Ok(());
    }
    Err(MatrixError::Length { rows, cols, what, expected, found })
}

#[cfg(test)]
mod tests;
