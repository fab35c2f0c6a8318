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
    /// Bytes of a row of `q`: whole chunks, padded with zeros.
    pub(super) stride: usize,
    /// Columns of a full block.
    pub(super) block_columns: usize,
    /// Blocks of a row.
    pub(super) block_count: usize,
    /// `[row][column]`: the signed bytes.
    pub(super) q: Buf,
    /// `[row][block]`: mantissas.
    pub(super) m: Buf,
    /// As `m`, where there are any.
    minima: Option<Buf>,
    /// `[row]`.
    pub(super) exponents: Buf,
    bytes: usize,
}

impl Resident {
    pub(super) fn new(device: &Device, matrix: &QuantMatrix) -> Result<Self, NumericError> {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let (stride, block_count) = (cols.next_multiple_of(CHUNK), matrix.block_count());
        let hold = |bytes| device.hold(Op::Linear, bytes);
        let (q, m, exponents) = (hold(rows * stride)?, hold(2 * rows * block_count)?, hold(4 * rows)?);
        let minima = if matrix.blocks().minima { Some(hold(2 * rows * block_count)?) } else { None };
        let send = |buf: &Buf, at: usize, bytes: &[u8]| {
            let sent = device.driver().upload(buf.at() + at as u64, bytes);
            sent.map_err(|fault| device.fault(Op::Linear, fault))
        };
        let step = (PIECE / stride).max(1);
        for first in (0..rows).step_by(step) {
            let some = first..rows.min(first + step);
            let mut bytes = vec![0u8; some.len() * stride];
            for (row, to) in some.clone().zip(bytes.chunks_exact_mut(stride)) {
                to[..cols].copy_from_slice(bytemuck::cast_slice(matrix.row_q(row)));
            }
            send(&q, first * stride, &bytes)?;
            let mantissas: Vec<u16> = some.clone().flat_map(|row| matrix.row_m(row)).copied().collect();
            send(&m, 2 * first * block_count, bytemuck::cast_slice(&mantissas))?;
            if let Some(minima) = &minima {
                let values: Vec<i16> = some.clone().flat_map(|row| matrix.row_n(row)).copied().collect();
                send(minima, 2 * first * block_count, bytemuck::cast_slice(&values))?;
            }
            let own: Vec<i32> = some.map(|row| matrix.row_exponent(row)).collect();
            send(&exponents, 4 * first, bytemuck::cast_slice(&own))?;
        }
        let bytes = rows * (stride + block_count * if minima.is_some() { 4 } else { 2 } + 4);
        let (blocks, block_columns) = (matrix.blocks(), matrix.block_columns());
        Ok(Self { rows, cols, blocks, stride, block_columns, block_count, q, m, minima, exponents, bytes })
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
