//! How a package stores a tensor: the canonical rows, their signed bytes in four bits where those hold them.

use crate::spec::{Blocks, QuantMatrix};

/// The form in which a tensor is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// f32, little-endian.
    Vector,
    /// Per row: the exponent, mantissas and minima of [`QuantMatrix::tile_bytes`], then the signed bytes.
    Matrix {
        /// The form of the blocks.
        blocks: Blocks,
        /// With a number: every `q` less that number as four bits, two to a byte, the first in the lower half.
        low: Option<i8>,
    },
}

impl Packing {
    /// The form for a matrix: four bits where all its signed bytes are within 15 of one another.
    pub(super) fn of(matrix: &QuantMatrix) -> Self {
        let range = matrix.range();
        let low = (range.max.abs_diff(range.min) <= 15).then_some(range.min);
        Self::Matrix { blocks: matrix.blocks(), low }
    }

    /// The four bytes that stand for it in the header.
    pub(super) fn code(self) -> [u8; 4] {
        match self {
            Self::Vector => [0, 0, 32, 0],
            Self::Matrix { blocks, low } => {
                let [length, minima] = blocks.header();
                [length, minima, if low.is_some() { 4 } else { 8 }, low.unwrap_or(0) as u8]
            }
        }
    }

    pub(super) fn from_code(code: [u8; 4]) -> Option<Self> {
        let matrix = |low| Some(Self::Matrix { blocks: Blocks::from_header([code[0], code[1]])?, low });
        match code {
            [0, 0, 32, 0] => Some(Self::Vector),
            [_, _, 8, 0] => matrix(None),
            [_, _, 4, low] => matrix(Some(low as i8)).filter(|_| low as i8 <= 112),
            _ => None,
        }
    }

    /// Bytes of a stored row of `cols` columns; of the whole tensor for a vector.
    pub(super) fn row_bytes(self, cols: usize) -> usize {
        match self {
            Self::Vector => 4 * cols,
            Self::Matrix { blocks, low } => {
                let q = if low.is_some() { cols.div_ceil(2) } else { cols };
                blocks.row_bytes(cols) - cols + q
            }
        }
    }
}

/// A matrix as it is stored.
pub(super) fn pack(matrix: &QuantMatrix, low: Option<i8>) -> Vec<u8> {
    let canonical = matrix.tile_bytes(0..matrix.rows());
    let Some(low) = low else { return canonical[2..].to_vec() };
    let (stride, cols) = (matrix.blocks().row_bytes(matrix.cols()), matrix.cols());
    let mut out = Vec::with_capacity(canonical.len() / 2);
    for row in canonical[2..].chunks_exact(stride) {
        let (scales, q) = row.split_at(stride - cols);
        out.extend_from_slice(scales);
        let nibble = |byte: &u8| byte.wrapping_sub(low as u8) & 15;
        out.extend(q.chunks(2).map(|two| nibble(&two[0]) | two.get(1).map_or(0, nibble) << 4));
    }
    out
}

/// The canonical bytes of stored rows: what [`QuantMatrix::from_tile_bytes`] takes, and what tiles hash.
pub(super) fn unpack(blocks: Blocks, low: Option<i8>, cols: usize, stored: &[u8]) -> Vec<u8> {
    let mut out = blocks.header().to_vec();
    let Some(low) = low else {
        out.extend_from_slice(stored);
        return out;
    };
    let scales = blocks.row_bytes(cols) - cols;
    for row in stored.chunks_exact(scales + cols.div_ceil(2)) {
        let (scales, q) = row.split_at(scales);
        out.extend_from_slice(scales);
        let value = |nibble: u8| nibble.wrapping_add(low as u8);
        let end = out.len() + cols;
        out.extend(q.iter().flat_map(|two| [value(two & 15), value(two >> 4)]));
        // The last half of an odd row holds nothing.
        out.truncate(end);
    }
    out
}
