//! Weights as the kernels read them.

use crate::spec::{BLOCK, Prepared, QuantMatrix, float::pow2};

use super::pages::Pages;
use super::threads::{Threads, rows_mut};

/// Rows that lie side by side.
pub(crate) const GROUP: usize = 16;
/// Columns of a row that lie side by side.
pub(crate) const QUAD: usize = 4;
/// Quads of a block.
pub(crate) const QUADS: usize = BLOCK / QUAD;
/// Bytes of a quad of columns of a group.
pub(crate) const QUAD_BYTES: usize = QUAD * GROUP;
/// Bytes of a block of columns of a group.
pub(crate) const BLOCK_BYTES: usize = BLOCK * GROUP;
/// Bytes of the mantissas of a block of a group.
pub(crate) const MANTISSA_BYTES: usize = 2 * GROUP;

/// A matrix in groups of 16 rows, group-major, then block. Missing rows and columns are zero.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) blocks: usize,
    /// `[group][block][quad][row][column]`.
    q: Pages,
    /// `[group][block][row]`, little-endian.
    m: Pages,
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
        self.q.len() + self.m.len() + self.scale.len() * 12
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

impl Packed {
    pub(crate) fn new(w: &QuantMatrix, threads: &Threads) -> Self {
        let (rows, cols) = (w.rows(), w.cols());
        let (groups, blocks) = (rows.div_ceil(GROUP), cols.div_ceil(BLOCK));
        let mut q = Pages::zeroed(groups * blocks * BLOCK_BYTES);
        let mut m = Pages::zeroed(groups * blocks * MANTISSA_BYTES);
        let pieces = threads.pieces(rows * cols);
        let parts = rows_mut(&mut q, blocks * BLOCK_BYTES, pieces)
            .into_iter()
            .zip(rows_mut(&mut m, blocks * MANTISSA_BYTES, pieces))
            .collect();
        threads.map(parts, |((first, q), (_, m))| {
            let groups =
                q.chunks_exact_mut(blocks * BLOCK_BYTES).zip(m.chunks_exact_mut(blocks * MANTISSA_BYTES));
            for (g, (q, m)) in groups.enumerate() {
                let first_row = (first + g) * GROUP;
                for lane in 0..GROUP.min(rows - first_row) {
                    pack_q(w.row_q(first_row + lane), &mut q[QUAD * lane..]);
                    for (m, value) in m[2 * lane..].chunks_mut(MANTISSA_BYTES).zip(w.row_m(first_row + lane))
                    {
                        m[..2].copy_from_slice(&value.to_le_bytes());
                    }
                }
            }
        });
        let er: Vec<i32> =
            (0..groups * GROUP).map(|r| if r < rows { w.row_exponent(r) } else { 0 }).collect();
        let scale = er.iter().map(|e| pow2(*e)).collect();
        Self { rows, cols, blocks, q, m, scale, er }
    }

    /// The signed bytes of a group: `BLOCK_BYTES` for each block.
    pub(crate) fn group_q(&self, group: usize) -> &[u8] {
        let len = self.blocks * BLOCK_BYTES;
        &self.q[group * len..][..len]
    }

    /// The mantissas of a group: `MANTISSA_BYTES` for each block.
    pub(crate) fn group_m(&self, group: usize) -> &[u8] {
        let len = self.blocks * MANTISSA_BYTES;
        &self.m[group * len..][..len]
    }

    /// A row back in logical order.
    pub(crate) fn row(&self, row: usize) -> (Vec<i8>, Vec<u16>) {
        let (group, lane) = (row / GROUP, row % GROUP);
        let quads = self.group_q(group).chunks_exact(QUAD_BYTES);
        let mut q: Vec<i8> =
            quads.flat_map(|quad| &quad[QUAD * lane..][..QUAD]).map(|byte| *byte as i8).collect();
        q.truncate(self.cols);
        let m = self.group_m(group).chunks_exact(MANTISSA_BYTES).map(|m| mantissa(m, lane)).collect();
        (q, m)
    }
}

/// The mantissa of a row of a group.
pub(crate) fn mantissa(block: &[u8], lane: usize) -> u16 {
    u16::from_le_bytes([block[2 * lane], block[2 * lane + 1]])
}

/// Writes a row's bytes to its places, the first of which is the first of `q`.
fn pack_q(values: &[i8], q: &mut [u8]) {
    let mut slots = q.chunks_mut(QUAD_BYTES);
    let quads = values.chunks_exact(QUAD);
    let rest = quads.remainder();
    for (four, slot) in quads.zip(&mut slots) {
        slot[..QUAD].copy_from_slice(&[four[0] as u8, four[1] as u8, four[2] as u8, four[3] as u8]);
    }
    if let Some(slot) = slots.next() {
        slot.iter_mut().zip(rest).for_each(|(slot, value)| *slot = *value as u8);
    }
}
