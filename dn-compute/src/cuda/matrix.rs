//! Matrices on the device.

use std::any::Any;

use super::device::{Buf, Device};
use super::quantise::CHUNK;
use crate::spec::{BlockLength, Blocks, NumericError, Op, Prepared, QuantMatrix};

/// Bytes of a piece on its way to the device.
const PIECE: usize = 1 << 24;

/// A matrix on the device.
#[derive(Debug)]
pub(super) struct Resident {
    rows: usize,
    cols: usize,
    pub(super) blocks: Blocks,
    /// Columns of a row of `q`: whole chunks, padded.
    pub(super) stride: usize,
    /// Columns of a full block.
    pub(super) block_columns: usize,
    /// Blocks of a row.
    pub(super) block_count: usize,
    /// `[row][column]`: the signed bytes, or what they are in four bits.
    pub(super) q: Buf,
    /// What those count from, where four bits hold them.
    pub(super) fours: Option<Fours>,
    /// `[row][block]`: mantissas.
    pub(super) m: Buf,
    /// As `m`, where there are any.
    minima: Option<Buf>,
    /// `[row]`.
    pub(super) exponents: Buf,
    bytes: usize,
}

/// Values of four bits.
#[derive(Debug)]
pub(super) struct Fours {
    /// The least of the matrix.
    least: i8,
    /// `[row][block / 32]`: a bit for each block, set where its values count from one above the least; `None` where no block's do.
    above: Option<Buf>,
}

/// Words of a row of `above`.
pub(super) const fn above_words(blocks: usize) -> usize {
    blocks.div_ceil(32)
}

/// A row's values as the kernels read them, of four bits: sixteen columns in two words, the low halves of whose bytes are four
/// columns, the high halves the next four. Sets the bits of the blocks that count from one above the least.
fn pack(q: &[i8], block: usize, least: i8, to: &mut [u8], above: &mut [u32]) {
    for (i, values) in q.chunks(block).enumerate() {
        let is_above = values.iter().any(|q| q.wrapping_sub(least) == 16);
        above[i / 32] |= u32::from(is_above) << (i % 32);
        for (column, q) in (i * block..).zip(values) {
            let four = q.wrapping_sub(least).wrapping_sub(i8::from(is_above)) as u8 & 15;
            let byte = column / 16 * 8 + column % 16 / 8 * 4 + column % 4;
            to[byte] |= if column % 8 < 4 { four } else { four << 4 };
        }
    }
}

impl Resident {
    pub(super) fn new(device: &Device, matrix: &QuantMatrix) -> Result<Self, NumericError> {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let (stride, block_count) = (cols.next_multiple_of(CHUNK), matrix.block_count());
        let hold = |bytes| device.hold(Op::Linear, bytes);
        let least = matrix.range().four_bits();
        let line = if least.is_some() { stride / 2 } else { stride };
        let (q, m, exponents) = (hold(rows * line)?, hold(2 * rows * block_count)?, hold(4 * rows)?);
        let minima = if matrix.blocks().minima { Some(hold(2 * rows * block_count)?) } else { None };
        let words = above_words(block_count);
        let is_any_above = least.is_some_and(|least| matrix.range().max.abs_diff(least) == 16);
        let above = if is_any_above { Some(hold(4 * rows * words)?) } else { None };
        let send = |buf: &Buf, at: usize, bytes: &[u8]| {
            let sent = device.driver().upload(buf.at() + at as u64, bytes);
            sent.map_err(|fault| device.fault(Op::Linear, fault))
        };
        let step = (PIECE / stride).max(1);
        for first in (0..rows).step_by(step) {
            let some = first..rows.min(first + step);
            let mut bytes = vec![0u8; some.len() * line];
            let mut bits = vec![0u32; some.len() * words];
            for ((row, to), above) in
                some.clone().zip(bytes.chunks_exact_mut(line)).zip(bits.chunks_exact_mut(words))
            {
                match least {
                    Some(least) => pack(matrix.row_q(row), matrix.block_columns(), least, to, above),
                    None => to[..cols].copy_from_slice(bytemuck::cast_slice(matrix.row_q(row))),
                }
            }
            send(&q, first * line, &bytes)?;
            if let Some(above) = &above {
                send(above, 4 * first * words, bytemuck::cast_slice(&bits))?;
            }
            let mantissas: Vec<u16> = some.clone().flat_map(|row| matrix.row_m(row)).copied().collect();
            send(&m, 2 * first * block_count, bytemuck::cast_slice(&mantissas))?;
            if let Some(minima) = &minima {
                let values: Vec<i16> = some.clone().flat_map(|row| matrix.row_n(row)).copied().collect();
                send(minima, 2 * first * block_count, bytemuck::cast_slice(&values))?;
            }
            let own: Vec<i32> = some.map(|row| matrix.row_exponent(row)).collect();
            send(&exponents, 4 * first, bytemuck::cast_slice(&own))?;
        }
        let scales = block_count * if minima.is_some() { 4 } else { 2 };
        let bytes = rows * (line + scales + 4 + if is_any_above { 4 * words } else { 0 });
        let (blocks, block_columns) = (matrix.blocks(), matrix.block_columns());
        let fours = least.map(|least| Fours { least, above });
        Ok(Self {
            rows,
            cols,
            blocks,
            stride,
            block_columns,
            block_count,
            q,
            fours,
            m,
            minima,
            exponents,
            bytes,
        })
    }

    /// Where the bits of blocks are that count from one above the least, or 0.
    pub(super) fn above_at(&self) -> u64 {
        self.fours.as_ref().and_then(|fours| fours.above.as_ref()).map_or(0, Buf::at)
    }

    /// Whether values are of four bits, and what they count from.
    pub(super) fn four_numbers(&self) -> [u32; 2] {
        self.fours.as_ref().map_or([0, 0], |fours| [1, i32::from(fours.least) as u32])
    }

    /// Where the minima are, or 0.
    pub(super) fn minima_at(&self) -> u64 {
        self.minima.as_ref().map_or(0, Buf::at)
    }

    /// By how many bits a piece of sixteen columns is shifted to get its block.
    pub(super) const fn piece_shift(&self) -> u32 {
        match self.blocks.length {
            BlockLength::B16 => 0,
            BlockLength::B32 => 1,
            BlockLength::B128 => 3,
            BlockLength::Row => 31,
        }
    }
}

impl Prepared for Resident {
    fn rows(&self) -> usize {
        self.rows
    }
    fn cols(&self) -> usize {
        self.cols
    }
    fn memory_bytes(&self) -> usize {
        self.bytes
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
