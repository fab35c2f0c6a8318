//! `out[t][r] = RNE_f32(S) * 2^(er + et)` with `S = sum over c of q[r][c] * m[r][c / 32] * A[t][c]`, an exact integer.
//!
//! `|S| <= 32768 * 127 * 65535 * 32639 < 2^53`. A block's dot product `sum q * A` is at most
//! `32 * 127 * 32639 < 2^27` and fits an i32.

use super::backend::Prepared;
use super::error::{NumericError, Op};
use super::limits::MAX_TOKENS;

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
