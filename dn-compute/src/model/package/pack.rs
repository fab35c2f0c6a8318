//! How a package stores a tensor: the canonical rows, their signed bytes in four bits where those hold them.

use crate::spec::{Blocks, QuantMatrix};

/// How many bits a signed byte takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// Eight: as it is.
    Eight,
    /// Four: `q` less this number, two to a byte, the first in the lower half.
    Four {
        /// The smallest `q` of the matrix.
        low: i8,
    },
    /// Four, less the smallest `q` of its block; those stand as bytes before the row's values.
    FourPerBlock,
}

/// The form in which a tensor is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// f32, little-endian.
    Vector,
    /// Per row: the exponent, mantissas and minima of [`QuantMatrix::tile_bytes`], then the signed bytes.
    Matrix {
        /// The form of the blocks.
        blocks: Blocks,
        /// Of the signed bytes.
        width: Width,
    },
}

impl Packing {
    /// The form for a matrix: four bits where they hold what its blocks or the whole of it hold.
    pub(super) fn of(matrix: &QuantMatrix) -> Self {
        let range = matrix.range();
        let width = match (range.max.abs_diff(range.min), range.bits()) {
            (0..=15, _) => Width::Four { low: range.min },
            (_, 0..=4) => Width::FourPerBlock,
            _ => Width::Eight,
        };
        Self::Matrix { blocks: matrix.blocks(), width }
    }

    /// The four bytes that stand for it in the header.
    pub(super) fn code(self) -> [u8; 4] {
        match self {
            Self::Vector => [0, 0, 32, 0],
            Self::Matrix { blocks, width } => {
                let [length, minima] = blocks.header();
                let [kind, low] = match width {
                    Width::Eight => [8, 0],
                    Width::Four { low } => [4, low as u8],
                    Width::FourPerBlock => [5, 0],
                };
                [length, minima, kind, low]
            }
        }
    }

    pub(super) fn from_code(code: [u8; 4]) -> Option<Self> {
        let width = match code {
            [0, 0, 32, 0] => return Some(Self::Vector),
            [_, _, 8, 0] => Width::Eight,
            [_, _, 4, low] => Width::Four { low: low as i8 },
            [_, _, 5, 0] => Width::FourPerBlock,
            _ => return None,
        };
        Some(Self::Matrix { blocks: Blocks::from_header([code[0], code[1]])?, width })
    }

    /// Whether signed bytes take four bits.
    pub(crate) const fn is_four_bits(self) -> bool {
        matches!(self, Self::Matrix { width: Width::Four { .. } | Width::FourPerBlock, .. })
    }

    /// Bytes of a stored row of `cols` columns; of the whole tensor for a vector.
    pub(super) fn row_bytes(self, cols: usize) -> usize {
        match self {
            Self::Vector => 4 * cols,
            Self::Matrix { blocks, width } => {
                let q = match width {
                    Width::Eight => cols,
                    Width::Four { .. } => cols.div_ceil(2),
                    Width::FourPerBlock => blocks.count(cols) + cols.div_ceil(2),
                };
                blocks.row_bytes(cols) - cols + q
            }
        }
    }
}

/// A matrix as it is stored.
pub(super) fn pack(matrix: &QuantMatrix, width: Width) -> Vec<u8> {
    let canonical = matrix.tile_bytes(0..matrix.rows());
    let (blocks, cols) = (matrix.blocks(), matrix.cols());
    let (stride, length) = (blocks.row_bytes(cols), blocks.length.columns(cols));
    let mut out = Vec::with_capacity(canonical.len());
    for row in canonical[2..].chunks_exact(stride) {
        let (scales, q) = row.split_at(stride - cols);
        out.extend_from_slice(scales);
        let lows = match width {
            Width::Eight => {
                out.extend_from_slice(q);
                continue;
            }
            Width::Four { low } => vec![low as u8; blocks.count(cols)],
            Width::FourPerBlock => {
                let low = |block: &[u8]| block.iter().map(|q| *q as i8).min().unwrap_or(0) as u8;
                let lows: Vec<u8> = q.chunks(length).map(low).collect();
                out.extend_from_slice(&lows);
                lows
            }
        };
        let nibble = |col: usize| q.get(col).map_or(0, |q| q.wrapping_sub(lows[col / length]) & 15);
        out.extend((0..cols).step_by(2).map(|col| nibble(col) | nibble(col + 1) << 4));
    }
    out
}

/// The canonical bytes of stored rows: what [`QuantMatrix::from_tile_bytes`] takes, and what tiles hash.
pub(super) fn unpack(blocks: Blocks, width: Width, cols: usize, stored: &[u8]) -> Vec<u8> {
    let packing = Packing::Matrix { blocks, width };
    let (scales, length) = (blocks.row_bytes(cols) - cols, blocks.length.columns(cols));
    let rows = stored.len() / packing.row_bytes(cols);
    let mut out = Vec::with_capacity(2 + rows * blocks.row_bytes(cols));
    out.extend(blocks.header());
    for row in stored.chunks_exact(packing.row_bytes(cols)) {
        let (scales, rest) = row.split_at(scales);
        out.extend_from_slice(scales);
        let (lows, q) = match width {
            Width::Eight => {
                out.extend_from_slice(rest);
                continue;
            }
            Width::Four { .. } => (&[][..], rest),
            Width::FourPerBlock => rest.split_at(blocks.count(cols)),
        };
        for (i, part) in q.chunks(length.div_ceil(2)).enumerate() {
            let low = match width {
                Width::Four { low } => low as u8,
                _ => lows[i],
            };
            out.extend(
                part.iter().flat_map(|two| [(two & 15).wrapping_add(low), (two >> 4).wrapping_add(low)]),
            );
        }
        // The last half of an odd row holds nothing.
        out.truncate(out.len() - cols % 2);
    }
    out
}
