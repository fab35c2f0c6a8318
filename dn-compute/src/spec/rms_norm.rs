//! `out = (x * rsqrt(mean(x^2) + eps)) * weight`, the mean over quantised squares.
//!
//! Per row, with `x ~ A * 2^et` quantised as a linear input: `S = sum A^2` exactly (`S <= 32768 * 32639^2 < 2^46`),
//! then in f32 `ms = scale(mul(RNE_f32(S), recip(n)), 2 * et)`, `r = rsqrt(add(ms, eps))`, and per element
//! `mul(mul(x, r), weight)`. A zero vector has `ms = 0`.

use super::error::{NumericError, Op};
use super::float::{add, mul, recip, rsqrt, scale};
use super::limits::MAX_COLS;
use super::linear::{check, check_tokens};
use super::quantise::{ZERO_EXPONENT, all_finite};

/// The checked shapes of a normalisation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmsNormPlan {
    /// Rows.
    pub tokens: usize,
    /// Length of a row.
    pub cols: usize,
    /// Added to the mean of squares.
    pub eps: f32,
}

impl RmsNormPlan {
    /// Checks rows of `weight.len()` elements, and `2^-126 <= eps <= 1`.
    ///
    /// # Errors
    /// A length that does not fit, an `eps` out of range, a weight that is not finite.
    pub fn new(weight: &[f32], eps: f32, x: &[f32], out: &[f32]) -> Result<Self, NumericError> {
        let op = Op::RmsNorm;
        let cols = weight.len();
        if !(1..=MAX_COLS).contains(&cols) {
            return Err(NumericError::Limit { op, what: "columns", min: 1, max: MAX_COLS, found: cols });
        }
        if !(f32::MIN_POSITIVE..=1.0).contains(&eps) {
            return Err(NumericError::Parameter { op, what: "eps", expected: "between 2^-126 and 1" });
        }
        let tokens = x.len() / cols;
        check(op, "elements of x", tokens * cols, x.len())?;
        check_tokens(op, tokens)?;
        check(op, "elements of the output", x.len(), out.len())?;
        all_finite(op, "weight", weight)?;
        Ok(Self { tokens, cols, eps })
    }

    /// The factor of a row from its exact sum of squares.
    ///
    /// # Errors
    /// [`NumericError::Overflow`] (index 0) where the mean of squares leaves f32: magnitudes near `2^64`.
    pub fn factor(&self, sum: u64, et: i32) -> Result<f32, NumericError> {
        let mean = mul(sum as f32, recip(self.cols as f32));
        let ms = if et == ZERO_EXPONENT { 0.0 } else { scale(mean, 2 * et) };
        if !ms.is_finite() {
            return Err(NumericError::Overflow { op: Op::RmsNorm, index: 0 });
        }
        Ok(rsqrt(add(ms, self.eps)))
    }
}
