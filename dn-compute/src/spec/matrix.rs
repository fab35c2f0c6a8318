//! The one weight format: `w[r][c] = q[r][c] * m[r][c / 32] * 2^er[r]`.

use std::ops::Range;

use super::error::MatrixError;
use super::float::pow2;
use super::limits::{MAX_COLS, MAX_EXPONENT, MAX_ROWS, MIN_EXPONENT};

/// Columns that share one mantissa.
pub const BLOCK: usize = 32;

/// Bytes of one Q8_0 block: an f16 scale and 32 signed bytes.
const Q8_BLOCK_BYTES: usize = 34;

/// A quantised matrix in its logical, canonical form.
///
/// # Shape
/// `rows x cols`, row-major, the last block of a row possibly short. `q` in `-127..=127`. In each row the largest
/// mantissa is in `[2^15, 2^16)`; a block whose mantissa is zero has only zero `q`; a row of zero blocks has
/// exponent 0. So equal weights under equal blocks have equal bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantMatrix {
    rows: usize,
    cols: usize,
    q: Vec<i8>,
    m: Vec<u16>,
    er: Vec<i16>,
}

impl QuantMatrix {
    /// Takes a matrix apart into blocks of GGUF's Q8_0: rows of `cols / 32` blocks of 34 bytes.
    ///
    /// Exact while a block's scale is within `2^5` of the largest of its row; the rest is rounded to nearest
    /// even, by at most `2^-17` of the largest.
    ///
    /// # Errors
    /// A size, a column count or a byte count that does not fit; a scale that is not finite; a value of -128.
    pub fn from_q8_0(rows: usize, cols: usize, bytes: &[u8]) -> Result<Self, MatrixError> {
        check_size(rows, cols)?;
        if !cols.is_multiple_of(BLOCK) {
            return Err(MatrixError::Q8Columns { cols });
        }
        let blocks = cols / BLOCK;
        check_len(rows, cols, "Q8_0 bytes", rows * blocks * Q8_BLOCK_BYTES, bytes.len())?;
        let mut out = Self::zeros(rows, cols);
        let mut scales = vec![0f64; blocks];
        for (row, data) in bytes.chunks_exact(blocks * Q8_BLOCK_BYTES).enumerate() {
            for (b, block) in data.chunks_exact(Q8_BLOCK_BYTES).enumerate() {
                let d = half::f16::from_le_bytes([block[0], block[1]]);
                if !d.is_finite() {
                    return Err(MatrixError::NonFinite { row, col: b * BLOCK });
                }
                scales[b] = d.to_f64();
                for (c, byte) in block[2..].iter().enumerate() {
                    let q = *byte as i8;
                    if q == i8::MIN {
                        return Err(MatrixError::Quant { row, col: b * BLOCK + c });
                    }
                    out.q[row * cols + b * BLOCK + c] = if d.is_sign_negative() { -q } else { q };
                }
            }
            // Blocks without a value do not count: a scale alone carries nothing.
            for (b, scale) in scales.iter_mut().enumerate() {
                let q = &out.q[row * cols + b * BLOCK..][..BLOCK];
                *scale = if q.iter().all(|q| *q == 0) { 0.0 } else { scale.abs() };
            }
            out.set_mantissas(row, &scales);
        }
        Ok(out)
    }

    /// Quantises f32 weights: per block the mantissa of `amax / 127`, then `q` to nearest even.
    ///
    /// A row whose largest magnitude is below `2^-100` is zero; subnormal weights are zero.
    ///
    /// # Errors
    /// A size or a length that does not fit; a weight that is not finite or of `2^100` and more.
    pub fn from_f32(rows: usize, cols: usize, weights: &[f32]) -> Result<Self, MatrixError> {
        check_size(rows, cols)?;
        check_len(rows, cols, "weights", rows * cols, weights.len())?;
        let limit = pow2(MAX_EXPONENT) as f32;
        let mut out = Self::zeros(rows, cols);
        let mut scales = vec![0f64; cols.div_ceil(BLOCK)];
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
            for (scale, block) in scales.iter_mut().zip(w.chunks(BLOCK)) {
                // The f64 quotient of a 24-bit number by 127 rounds to the same integer as the exact one:
                // it is nowhere nearer to a tie than 1/254 of its last bit.
                *scale = f64::from(block.iter().fold(0f32, |a, v| a.max(v.abs()))) / 127.0;
            }
            out.set_mantissas(row, &scales);
            out.quantise_row(row, w);
        }
        Ok(out)
    }

    /// A matrix from its parts: `q` row-major, `m` one per started block of 32, `er` one per row.
    ///
    /// # Errors
    /// A size or a length that does not fit, or a row that is not canonical.
    pub fn from_parts(
        rows: usize,
        cols: usize,
        q: Vec<i8>,
        m: Vec<u16>,
        er: Vec<i16>,
    ) -> Result<Self, MatrixError> {
        check_size(rows, cols)?;
        check_len(rows, cols, "q", rows * cols, q.len())?;
        check_len(rows, cols, "m", rows * cols.div_ceil(BLOCK), m.len())?;
        check_len(rows, cols, "er", rows, er.len())?;
        let out = Self { rows, cols, q, m, er };
        for row in 0..rows {
            out.check_row(row)?;
        }
        Ok(out)
    }

    /// The inverse of [`tile_bytes`](Self::tile_bytes) for a whole matrix.
    ///
    /// # Errors
    /// As [`from_parts`](Self::from_parts).
    pub fn from_tile_bytes(rows: usize, cols: usize, bytes: &[u8]) -> Result<Self, MatrixError> {
        check_size(rows, cols)?;
        let blocks = cols.div_ceil(BLOCK);
        let stride = Self::row_bytes(cols);
        check_len(rows, cols, "bytes", rows * stride, bytes.len())?;
        let mut out = Self::zeros(rows, cols);
        for (row, data) in bytes.chunks_exact(stride).enumerate() {
            out.er[row] = i16::from_le_bytes([data[0], data[1]]);
            for (m, two) in out.m[row * blocks..].iter_mut().zip(data[2..2 + 2 * blocks].chunks_exact(2)) {
                *m = u16::from_le_bytes([two[0], two[1]]);
            }
            for (q, byte) in out.q[row * cols..].iter_mut().zip(&data[2 + 2 * blocks..]) {
                *q = *byte as i8;
            }
            out.check_row(row)?;
        }
        Ok(out)
    }

    /// Canonical bytes of some rows, what a Merkle leaf of the model hashes.
    ///
    /// Per row: `er` as i16, the mantissas as u16, both little-endian, then `cols` bytes of `q`.
    ///
    /// # Panics
    /// When the range leaves the matrix.
    pub fn tile_bytes(&self, rows: Range<usize>) -> Vec<u8> {
        let mut out = Vec::with_capacity(rows.len() * Self::row_bytes(self.cols));
        for row in rows {
            out.extend_from_slice(&self.er[row].to_le_bytes());
            for m in self.row_m(row) {
                out.extend_from_slice(&m.to_le_bytes());
            }
            out.extend(self.row_q(row).iter().map(|q| *q as u8));
        }
        out
    }

    /// Canonical bytes of one row of `cols` columns.
    pub const fn row_bytes(cols: usize) -> usize {
        2 + 2 * cols.div_ceil(BLOCK) + cols
    }

    /// Rows.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// The signed bytes of a row.
    pub fn row_q(&self, row: usize) -> &[i8] {
        &self.q[row * self.cols..][..self.cols]
    }

    /// The mantissas of a row.
    pub fn row_m(&self, row: usize) -> &[u16] {
        let blocks = self.cols.div_ceil(BLOCK);
        &self.m[row * blocks..][..blocks]
    }

    /// The exponent of a row.
    pub fn row_exponent(&self, row: usize) -> i32 {
        i32::from(self.er[row])
    }

    /// The value of a weight as an f64, exactly.
    pub fn value(&self, row: usize, col: usize) -> f64 {
        let scale = f64::from(self.row_m(row)[col / BLOCK]) * pow2(self.row_exponent(row));
        f64::from(self.row_q(row)[col]) * scale
    }

    fn zeros(rows: usize, cols: usize) -> Self {
        let blocks = cols.div_ceil(BLOCK);
        Self { rows, cols, q: vec![0; rows * cols], m: vec![0; rows * blocks], er: vec![0; rows] }
    }

    /// Chooses the row's exponent for these block scales, sets the mantissas, clears blocks that vanish.
    fn set_mantissas(&mut self, row: usize, scales: &[f64]) {
        let largest = scales.iter().fold(0f64, |a, v| a.max(*v));
        let blocks = scales.len();
        let (q, m) = (&mut self.q[row * self.cols..][..self.cols], &mut self.m[row * blocks..][..blocks]);
        if largest == 0.0 {
            q.fill(0);
            m.fill(0);
            self.er[row] = 0;
            return;
        }
        let floor_log2 = ((largest.to_bits() >> 52) & 0x7ff) as i32 - 1023;
        let mut er = floor_log2 - 15;
        if (largest * pow2(-er)).round_ties_even() > 65_535.0 {
            er += 1;
        }
        for ((m, scale), q) in m.iter_mut().zip(scales).zip(q.chunks_mut(BLOCK)) {
            *m = (scale * pow2(-er)).round_ties_even() as u16;
            if *m == 0 {
                q.fill(0);
            }
        }
        self.er[row] = er as i16;
    }

    /// `q = RNE(w / (m * 2^er))`, held to `-127..=127`: a mantissa rounded down lets the largest weight pass 127.5.
    fn quantise_row(&mut self, row: usize, w: &[f32]) {
        let blocks = self.cols.div_ceil(BLOCK);
        let factor = pow2(-i32::from(self.er[row]));
        let q = &mut self.q[row * self.cols..][..self.cols];
        for ((q, w), m) in q.chunks_mut(BLOCK).zip(w.chunks(BLOCK)).zip(&self.m[row * blocks..]) {
            if *m == 0 {
                continue;
            }
            for (q, v) in q.iter_mut().zip(w) {
                let exact = f64::from(super::float::flush(*v)) * factor / f64::from(*m);
                *q = exact.round_ties_even().clamp(-127.0, 127.0) as i8;
            }
            // Nothing but the largest weight's rounding could leave all q zero, and that one is near 127.
        }
    }

    fn check_row(&self, row: usize) -> Result<(), MatrixError> {
        let not = |what| Err(MatrixError::NotCanonical { row, what });
        if let Some(col) = self.row_q(row).iter().position(|q| *q == i8::MIN) {
            return Err(MatrixError::Quant { row, col });
        }
        let vacant = |q: &[i8]| q.iter().all(|q| *q == 0);
        for (m, q) in self.row_m(row).iter().zip(self.row_q(row).chunks(BLOCK)) {
            if (*m == 0) != vacant(q) {
                return not("a block has a zero mantissa exactly when all its values are zero");
            }
        }
        match self.row_m(row).iter().max() {
            Some(0) | None if self.er[row] != 0 => not("a zero row has exponent 0"),
            Some(1..0x8000) => not("the largest mantissa is at least 32768"),
            Some(0x8000..) if !(-160..=100).contains(&self.er[row]) => {
                not("the exponent is between -160 and 100")
            }
            _ => Ok(()),
        }
    }
}

fn check_size(rows: usize, cols: usize) -> Result<(), MatrixError> {
    if (1..=MAX_ROWS).contains(&rows) && (1..=MAX_COLS).contains(&cols) {
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
