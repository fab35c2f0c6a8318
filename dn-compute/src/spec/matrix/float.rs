//! Matrices from float weights.

use super::{BlockLength, Blocks, MatrixError, QuantMatrix, check_len, check_size, nearest};
use crate::spec::float::{flush, pow2};
use crate::spec::limits::{MAX_EXPONENT, MIN_EXPONENT};

impl QuantMatrix {
    /// Quantises f32 weights in blocks of 32: see [`from_f32_blocks`](Self::from_f32_blocks).
    ///
    /// # Errors
    /// As there.
    pub fn from_f32(rows: usize, cols: usize, weights: &[f32]) -> Result<Self, MatrixError> {
        Self::from_f32_blocks(rows, cols, BlockLength::B32, weights)
    }

    /// Quantises f32 weights (f16 and bf16 widen exactly): per block the mantissa of `amax / 127`, then `q` to nearest
    /// even.
    ///
    /// A row whose largest magnitude is below `2^-100` is zero; subnormal weights are zero.
    ///
    /// # Errors
    /// A size or a length that does not fit; a weight that is not finite or of `2^100` and more.
    pub fn from_f32_blocks(
        rows: usize,
        cols: usize,
        length: BlockLength,
        weights: &[f32],
    ) -> Result<Self, MatrixError> {
        check_size(rows, cols)?;
        check_len(rows, cols, "weights", rows * cols, weights.len())?;
        let limit = pow2(MAX_EXPONENT) as f32;
        let mut out = Self::zeros(rows, cols, Blocks::plain(length));
        let mut scales = vec![0f64; out.block_count()];
        for (row, w) in weights.chunks_exact(cols).enumerate() {
            if let Some(col) = w.iter().position(|v| !v.is_finite()) {
                return Err(MatrixError::NonFinite { row, col });
            }
            if let Some(col) = w.iter().position(|v| v.abs() >= limit) {
                return Err(MatrixError::Range { row, col });
            }
            let largest = w.iter().fold(0f32, |a, v| a.max(v.abs()));
            if f64::from(largest) < pow2(MIN_EXPONENT) {
                continue;
            }
            for (scale, block) in scales.iter_mut().zip(w.chunks(length.columns(cols))) {
                // The f64 quotient of a 24-bit number by 127 rounds to the same integer as the exact one:
                // it is nowhere nearer to a tie than 1/254 of its last bit.
                *scale = f64::from(block.iter().fold(0f32, |a, v| a.max(v.abs()))) / 127.0;
            }
            out.set_scales(row, &scales, &[]);
            out.quantise_row(row, w);
        }
        out.measure();
        Ok(out)
    }

    /// `q = RNE(w / (m * 2^er))`, held to `-127..=127`: a mantissa rounded down lets the largest weight pass 127.5.
    fn quantise_row(&mut self, row: usize, w: &[f32]) {
        let (blocks, length) = (self.block_count(), self.blocks.length.columns(self.cols));
        let factor = pow2(-i32::from(self.er[row]));
        let q = &mut self.q[row * self.cols..][..self.cols];
        for ((q, w), m) in q.chunks_mut(length).zip(w.chunks(length)).zip(&self.m[row * blocks..]) {
            if *m == 0 {
                continue;
            }
            for (q, v) in q.iter_mut().zip(w) {
                // The f64 quotient rounds to the same integer as the exact one: the distance to a tie is zero or at
                // least 2^-41, the error of a quotient below 128 at most 2^-47.
                let exact = f64::from(flush(*v)) * factor / f64::from(*m);
                *q = nearest(exact).clamp(-127.0, 127.0) as i8;
            }
            // Nothing but the largest weight's rounding could leave all q zero, and that one is near 127.
        }
    }
}
