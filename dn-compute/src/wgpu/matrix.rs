//! Matrices on the device.

use std::any::Any;

use super::call::Buf;
use super::device::{Gpu, Use};
use super::quantise::PIECE;
use super::upload::Write;
use crate::spec::{BlockLength, Blocks, DeviceFault, NumericError, Op, Prepared, QuantMatrix};

/// A matrix on the device, in as many parts as its buffers need.
#[derive(Debug)]
pub(super) struct Resident {
    rows: usize,
    cols: usize,
    pub(super) form: Form,
    pub(super) parts: Vec<Part>,
    bytes: usize,
}

/// How rows are laid out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) blocks: Blocks,
    /// Words of a row's signed bytes: whole pieces, padded with zeros.
    pub(super) words: usize,
    /// Columns of a full block.
    pub(super) block_columns: usize,
    /// Blocks of a row.
    pub(super) block_count: usize,
}

/// Some rows.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) first: usize,
    pub(super) rows: usize,
    /// `[row][word]`: the signed bytes of four columns.
    pub(super) q: Buf,
    /// With minima `[row][block]`: mantissa in the low half, minimum in the high half. Without: two mantissas in a word.
    pub(super) scales: Buf,
    /// `[row]`.
    pub(super) exponents: Buf,
}

impl Form {
    pub(super) const fn new(blocks: Blocks, cols: usize) -> Self {
        Self {
            blocks,
            words: cols.next_multiple_of(PIECE) / 4,
            block_columns: blocks.length.columns(cols),
            block_count: blocks.count(cols),
        }
    }

    /// Rows whose buffers a kernel can see.
    pub(super) fn rows_at_once(self, gpu: &Gpu) -> usize {
        let row_bytes = 4 * self.words.max(self.scale_words()) as u64;
        ((gpu.max_binding / row_bytes) as usize).max(1)
    }

    pub(super) fn scale_words(self) -> usize {
        if self.blocks.minima { self.block_count } else { self.block_count.div_ceil(2) }
    }

    /// Whether a piece has sixteen columns.
    pub(super) fn short(self) -> bool {
        self.blocks.length == BlockLength::B16
    }

    /// Pieces of a row of `cols`, and of a block of it.
    pub(super) fn pieces(self, cols: usize) -> (usize, usize) {
        let pieces = cols.div_ceil(if self.short() { 16 } else { PIECE });
        match self.blocks.length {
            BlockLength::B16 | BlockLength::B32 => (pieces, 1),
            BlockLength::B128 => (pieces, 4),
            BlockLength::Row => (pieces, pieces),
        }
    }
}

impl Resident {
    pub(super) fn new(gpu: &Gpu, matrix: &QuantMatrix) -> Result<Self, NumericError> {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let form = Form::new(matrix.blocks(), cols);
        let step = form.rows_at_once(gpu);
        let parts: Vec<Part> = (0..rows)
            .step_by(step)
            .map(|first| part(gpu, matrix, form, first, step.min(rows - first)))
            .collect::<Result<_, _>>()
            .map_err(|fault| gpu.fault(Op::Linear, fault))?;
        gpu.check(Op::Linear)?;
        let bytes = 4 * rows * (form.words + form.scale_words() + 1);
        Ok(Self { rows, cols, form, parts, bytes })
    }
}

fn part(gpu: &Gpu, matrix: &QuantMatrix, form: Form, first: usize, rows: usize) -> Result<Part, DeviceFault> {
    let mut q = vec![0i8; rows * 4 * form.words];
    let mut scales = Vec::with_capacity(rows * form.scale_words());
    let mut exponents = Vec::with_capacity(rows);
    for (row, to) in (first..).zip(q.chunks_exact_mut(4 * form.words)) {
        to[..matrix.cols()].copy_from_slice(matrix.row_q(row));
        let m = matrix.row_m(row);
        if form.blocks.minima {
            let both = m.iter().zip(matrix.row_n(row));
            scales.extend(both.map(|(m, n)| u32::from(*m) | u32::from(*n as u16) << 16));
        } else {
            scales.extend(m.chunks(2).map(|m| u32::from(m[0]) | u32::from(*m.get(1).unwrap_or(&0)) << 16));
        }
        exponents.push(matrix.row_exponent(row));
    }
    let upload = |bytes: &[u8]| {
        let buffer = gpu.create(Use::Storage, (bytes.len() as u64).next_multiple_of(16))?;
        gpu.send(&[Write { buffer: &buffer, at: 0, bytes }])?;
        Ok(Buf { buffer, bytes: bytes.len() as u64 })
    };
    Ok(Part {
        first,
        rows,
        q: upload(bytemuck::cast_slice(&q))?,
        scales: upload(bytemuck::cast_slice(&scales))?,
        exponents: upload(bytemuck::cast_slice(&exponents))?,
    })
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
