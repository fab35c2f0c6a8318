//! Weights as the kernels read them, and activations cut into tiles.

use crate::spec::{BLOCK, NumericError, Op, Prepared, QuantMatrix, float::pow2, quantise};

use super::isa::Level;
use super::threads::Threads;

/// Rows that lie side by side.
pub(crate) const GROUP: usize = 16;
/// Pairs of columns in a block.
pub(crate) const STEPS: usize = BLOCK / 2;
/// Tokens of a full tile.
pub(crate) const TILE: usize = 8;

/// One block of 32 columns of 16 rows: `[column / 2][row][column % 2]`.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct QBlock(pub(crate) [i8; GROUP * BLOCK]);

/// The mantissas of one block of 16 rows.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub(crate) struct MBlock(pub(crate) [u16; GROUP]);

/// A matrix in groups of 16 rows, group-major, then block. Missing rows and columns are zero.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) blocks: usize,
    pub(crate) q: Vec<QBlock>,
    pub(crate) m: Vec<MBlock>,
    /// `2^er` of every row, padded to whole groups.
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
        self.q.len() * size_of::<QBlock>() + self.m.len() * size_of::<MBlock>() + self.scale.len() * 12
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

impl Packed {
    pub(crate) fn new(w: &QuantMatrix, threads: &Threads) -> Self {
        let (rows, cols) = (w.rows(), w.cols());
        let (groups, blocks) = (rows.div_ceil(GROUP), cols.div_ceil(BLOCK));
        let mut q = vec![QBlock([0; GROUP * BLOCK]); groups * blocks];
        let mut m = vec![MBlock([0; GROUP]); groups * blocks];
        let pieces = threads.pieces(rows * cols);
        let parts = super::threads::rows_mut(&mut q, blocks, pieces)
            .into_iter()
            .zip(super::threads::rows_mut(&mut m, blocks, pieces))
            .collect();
        threads.map(parts, |((first, q), (_, m))| {
            let groups = q.chunks_exact_mut(blocks).zip(m.chunks_exact_mut(blocks));
            for (g, (q, m)) in groups.enumerate() {
                let first_row = (first + g) * GROUP;
                for lane in 0..GROUP.min(rows - first_row) {
                    pack_row(w, first_row + lane, lane, q, m);
                }
            }
        });
        let er: Vec<i32> =
            (0..groups * GROUP).map(|r| if r < rows { w.row_exponent(r) } else { 0 }).collect();
        let scale = er.iter().map(|e| pow2(*e)).collect();
        Self { rows, cols, blocks, q, m, scale, er }
    }

    /// A row back in logical order.
    pub(crate) fn row(&self, row: usize) -> (Vec<i8>, Vec<u16>) {
        let (group, lane) = (row / GROUP, row % GROUP);
        let at = group * self.blocks;
        let q = (0..self.cols)
            .map(|c| self.q[at + c / BLOCK].0[(c % BLOCK / 2) * 2 * GROUP + 2 * lane + c % 2])
            .collect();
        (q, self.m[at..at + self.blocks].iter().map(|m| m.0[lane]).collect())
    }
}

fn pack_row(w: &QuantMatrix, row: usize, lane: usize, q: &mut [QBlock], m: &mut [MBlock]) {
    for ((values, q), (mantissa, m)) in w.row_q(row).chunks(BLOCK).zip(q).zip(w.row_m(row).iter().zip(m)) {
        m.0[lane] = *mantissa;
        for (step, pair) in values.chunks(2).enumerate() {
            q.0[step * 2 * GROUP + 2 * lane..][..pair.len()].copy_from_slice(pair);
        }
    }
}

/// Some tokens that a kernel takes together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tile {
    /// First token.
    pub(crate) first: usize,
    /// Tokens: 8, 4, 2 or 1.
    pub(crate) width: usize,
}

/// Quantised activations of a call: tiles of 8 tokens, and what is left as 4, 2 and 1.
#[derive(Debug)]
pub(crate) struct Acts {
    pub(crate) tiles: Vec<Tile>,
    /// Pairs of columns of a token.
    pub(crate) steps: usize,
    /// Tile-major, then `[step][token]`, each two i16 as the halves of an i32, the even column low.
    pub(crate) pairs: Vec<i32>,
    /// `et` of every token.
    pub(crate) et: Vec<i32>,
}

impl Acts {
    /// Quantises `tokens` rows of `cols`.
    ///
    /// # Errors
    /// As [`quantise::quantise`], for the first element at fault.
    pub(crate) fn new(level: Level, threads: &Threads, x: &[f32], cols: usize) -> Result<Self, NumericError> {
        let tokens = x.len() / cols;
        let steps = cols.div_ceil(BLOCK) * STEPS;
        let tiles = tiles(tokens);
        let mut pairs = vec![0i32; tokens * steps];
        let mut et = vec![0i32; tokens];
        let mut parts = Vec::with_capacity(tiles.len());
        let (mut rest, mut rest_et) = (&mut pairs[..], &mut et[..]);
        for tile in &tiles {
            let (part, more) = rest.split_at_mut(tile.width * steps);
            let (part_et, more_et) = rest_et.split_at_mut(tile.width);
            (rest, rest_et) = (more, more_et);
            parts.push((*tile, part, part_et));
        }
        let one = |(tile, pairs, et): (Tile, &mut [i32], &mut [i32])| {
            level.run(|| quantise_tile(x, cols, tile, pairs, et))
        };
        let results = if threads.pieces(x.len()) > 1 {
            threads.map(parts, one)
        } else {
            parts.into_iter().map(one).collect()
        };
        results.into_iter().collect::<Result<(), _>>()?;
        Ok(Self { tiles, steps, pairs, et })
    }

    /// The pairs of a tile.
    pub(crate) fn tile(&self, tile: Tile) -> &[i32] {
        &self.pairs[tile.first * self.steps..][..tile.width * self.steps]
    }
}

fn tiles(tokens: usize) -> Vec<Tile> {
    let mut out = Vec::with_capacity(tokens / TILE + 3);
    let mut first = 0;
    for width in [TILE, 4, 2, 1] {
        while tokens - first >= width {
            out.push(Tile { first, width });
            first += width;
        }
    }
    out
}

#[inline(always)]
fn quantise_tile(
    x: &[f32],
    cols: usize,
    tile: Tile,
    pairs: &mut [i32],
    et: &mut [i32],
) -> Result<(), NumericError> {
    for (t, et) in et.iter_mut().enumerate() {
        let base = (tile.first + t) * cols;
        let row = &x[base..][..cols];
        let amax = quantise::largest(Op::Linear, "x", row).map_err(|error| quantise::rebase(error, base))?;
        *et = quantise::exponent(amax);
        if *et == quantise::ZERO_EXPONENT {
            continue; // the pairs are zero already
        }
        let factor = pow2(-*et) as f32;
        let slots = pairs[t..].iter_mut().step_by(tile.width);
        for (slot, two) in slots.zip(row.chunks(2)) {
            let lo = nearest(two[0] * factor);
            let hi = if two.len() == 2 { nearest(two[1] * factor) } else { 0 };
            *slot = (lo & 0xffff) | (hi << 16);
        }
    }
    Ok(())
}

/// Nearest even integer of `|v| < 2^22`, by adding 1.5 * 2^23: the sum's last bit is the unit.
#[inline(always)]
pub(crate) fn nearest(v: f32) -> i32 {
    ((v + 12_582_912.0).to_bits() as i32).wrapping_sub(0x4b40_0000)
}
