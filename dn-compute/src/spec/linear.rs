//! `out[t][r] = RNE_f32(S) * 2^(er + et)` with `S = sum over c of (q[r][c] * m[r][b] - 16 * n[r][b]) * A[t][c]`, `b` the block
//! of column `c`: an exact integer, and also `sum over b of m[b] * (sum q * A) - 16 * n[b] * (sum A)`.
//!
//! Without minima `|S| <= 32768 * 127 * 65535 * 32639 < 2^53`, with minima `32768 * 71 * 65535 * 32639 < 2^53`; the bounds
//! hold for every partial sum of the terms `q * m * A` and `16 * n * A` in any order.
//!
//! A block's `sum q * A` is at most `127 * 32639` per column: `< 2^27` for 32 columns, `< 2^29` for 128, `< 2^31` for 518. A
//! longer block (a whole row) is summed in pieces of up to 512 columns, in 64 bits, or by digits: with
//! `A = 256 * hi + lo` both `sum q * hi` and `sum q * lo` are at most `32768 * 127 * 128 < 2^30`. `sum A` is at most
//! `32768 * 32639 < 2^30`.

use super::backend::Prepared;
use super::error::{NumericError, Op};
use super::limits::MAX_TOKENS;
use super::matrix::{MIN_SHIFT, QuantRow};

/// The checked shapes of a product of `tokens` activation rows with one or more matrices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinearPlan {
    /// Activation rows.
    pub tokens: usize,
    /// Columns of every matrix, and length of an activation row.
    pub cols: usize,
    /// Rows of each matrix.
    pub rows: Vec<usize>,
}

impl LinearPlan {
    /// Checks that `x` is `tokens x cols` and each output `tokens x rows`.
    ///
    /// # Errors
    /// No matrix, no token, or a length that does not fit.
    pub fn new(
        weights: &[&dyn Prepared],
        x: &[f32],
        tokens: usize,
        out: &[&mut [f32]],
    ) -> Result<Self, NumericError> {
        let op = Op::Linear;
        check_tokens(op, tokens)?;
        let Some(first) = weights.first() else {
            return Err(NumericError::Limit { op, what: "matrices", min: 1, max: usize::MAX, found: 0 });
        };
        let cols = first.cols();
        check(op, "elements of x", tokens * cols, x.len())?;
        check(op, "outputs", weights.len(), out.len())?;
        let mut rows = Vec::with_capacity(weights.len());
        for (w, y) in weights.iter().zip(out) {
            check(op, "columns of a matrix", cols, w.cols())?;
            check(op, "elements of an output", tokens * w.rows(), y.len())?;
            rows.push(w.rows());
        }
        Ok(Self { tokens, cols, rows })
    }
}

/// `S` over a row or some of its columns: sums of disjoint ranges of columns add up to the row's.
///
/// # Shape
/// `a`: the columns of `row`.
pub fn exact_sum(row: QuantRow<'_>, a: &[i16]) -> i64 {
    let mut sum = 0i64;
    for ((q, m, n), a) in row.blocks().zip(a.chunks(row.block)) {
        let dot: i64 = q.iter().zip(a).map(|(q, a)| i64::from(i32::from(*q) * i32::from(*a))).sum();
        sum += dot * i64::from(m);
        if n != 0 {
            let total: i64 = a.iter().map(|a| i64::from(*a)).sum();
            sum -= (total * i64::from(n)) << MIN_SHIFT;
        }
    }
    sum
}

/// Equal, or the shape error that says what is not.
pub(crate) fn check(op: Op, what: &'static str, expected: usize, found: usize) -> Result<(), NumericError> {
    if expected == found { Ok(()) } else { Err(NumericError::Shape { op, what, expected, found }) }
}

pub(crate) fn check_tokens(op: Op, tokens: usize) -> Result<(), NumericError> {
    if (1..=MAX_TOKENS).contains(&tokens) {
        return Ok(());
    }
    Err(NumericError::Limit { op, what: "tokens", min: 1, max: MAX_TOKENS, found: tokens })
}
