//! What a model's identity commits to: the tiles of its tensors.

use dn_core::{Hash32, blake3_256};

use super::Tensor;
use super::layout::Entry;
use crate::spec::Blocks;
use crate::tensors::Tile;

/// Canonical bytes of a tile aim at this size.
const TILE_BYTES: usize = 32 * 1024;

/// Rows of a full tile of a matrix.
pub(super) fn tile_rows(blocks: Blocks, cols: usize) -> usize {
    (TILE_BYTES / blocks.row_bytes(cols)).max(1)
}

/// Tiles of a tensor: 1 for a vector.
pub(super) fn count(entry: &Entry, blocks: Blocks) -> usize {
    entry.rows.map_or(1, |rows| rows.div_ceil(tile_rows(blocks, entry.cols)))
}

/// The tiles of a tensor.
pub(crate) fn of(tensor: usize, values: &Tensor) -> Vec<Tile> {
    let tensor = tensor as u32;
    match values {
        Tensor::Vector(values) => {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let hash = Hash32(blake3_256(&[&bytes]));
            vec![Tile { tensor, first_row: 0, rows: 0, cols: values.len() as u32, hash }]
        }
        Tensor::Matrix(matrix) => {
            let rows = matrix.rows();
            let step = tile_rows(matrix.blocks(), matrix.cols());
            let tile = |first: usize| {
                let range = first..rows.min(first + step);
                let (first_row, count) = (first as u32, range.len() as u32);
                let hash = Hash32(blake3_256(&[&matrix.tile_bytes(range)]));
                Tile { tensor, first_row, rows: count, cols: matrix.cols() as u32, hash }
            };
            (0..rows).step_by(step).map(tile).collect()
        }
    }
}
