//! `out = ((x - mean) * rsqrt(variance + eps)) * weight + bias`, mean and variance from exact integer sums.
//!
//! Per row of `n` elements:
//! 1. `x ~ A * 2^et` quantised as a linear input; `mean = scale(mul(RNE_f32(sum A), recip(n)), et)`, 0 for the zero vector.
//! 2. `y = sub(x, mean)`, quantised in turn: `y ~ B * 2^ey`, `S1 = sum B`, `S2 = sum B^2`, `V = n * S2 - S1^2`. Then
//!    `rest = scale(mul(RNE_f32(S1), recip(n)), ey)`, `variance = scale(mul(mul(RNE_f32(V), recip(n)), recip(n)), 2 * ey)`; both
//!    0 for the zero vector.
//! 3. `r = rsqrt(add(variance, eps))`; `out = add(mul(mul(sub(y, rest), r), weight), bias)`.
//!
//! `|S1| <= 32768 * 32639 < 2^31`, `S2 < 2^46`, and `0 <= V <= n * S2 < 2^61` (Cauchy and Schwarz): exact in 64 bits.
//! The second quantisation is what keeps a row precise whose mean is far larger than its spread: the first alone would leave
//! the spread the few lowest bits.

use super::error::{NumericError, Op};
use super::float::{add, mul, recip, rsqrt, scale};
use super::limits::MAX_COLS;
use super::linear::{check, check_tokens};
use super::quantise::{ZERO_EXPONENT, all_finite};

/// The checked shapes of a normalisation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerNormPlan {
    /// Rows.
    pub tokens: usize,
    /// Length of a row.
    pub cols: usize,
    /// Added to the variance.
    pub eps: f32,
    /// `1 / cols`.
    recip: f32,
}

impl LayerNormPlan {
    /// Checks rows of `weight.len()` elements, a bias as long, and `2^-126 <= eps <= 1`.
    ///
    /// # Errors
    /// A length that does not fit, an `eps` out of range, a weight or bias that is not finite.
    pub fn new(weight: &[f32], bias: &[f32], eps: f32, x: &[f32], out: &[f32]) -> Result<Self, NumericError> {
        let op = Op::LayerNorm;
        let cols = weight.len();
        if !(1..=MAX_COLS).contains(&cols) {
            return Err(NumericError::Limit { op, what: "columns", min: 1, max: MAX_COLS, found: cols });
        }
        if !(f32::MIN_POSITIVE..=1.0).contains(&eps) {
            return Err(NumericError::Parameter { op, what: "eps", expected: "between 2^-126 and 1" });
        }
        let tokens = x.len() / cols;
        check(op, "elements of the bias", cols, bias.len())?;
        check(op, "elements of x", tokens * cols, x.len())?;
        check_tokens(op, tokens)?;
        check(op, "elements of the output", x.len(), out.len())?;
        all_finite(op, "weight", weight)?;
        all_finite(op, "bias", bias)?;
        Ok(Self { tokens, cols, eps, recip: recip(cols as f32) })
    }

    /// The mean of a row (steps 1 and 2) from the exact sum of its integers.
    pub fn mean(&self, sum: i64, exponent: i32) -> f32 {
        if exponent == ZERO_EXPONENT { 0.0 } else { scale(mul(sum as f32, self.recip), exponent) }
    }

    /// The factor `r` of a row from the exact sums of its centred integers.
    ///
    /// # Errors
    /// [`NumericError::Overflow`] (index 0) where the variance leaves f32: magnitudes near `2^64`.
    pub fn factor(&self, sum: i64, squares: u64, exponent: i32) -> Result<f32, NumericError> {
        let spread = self.cols as u64 * squares - sum.unsigned_abs().pow(2);
        let variance = mul(mul(spread as f32, self.recip), self.recip);
        let variance = if exponent == ZERO_EXPONENT { 0.0 } else { scale(variance, 2 * exponent) };
        if !variance.is_finite() {
            return Err(NumericError::Overflow { op: Op::LayerNorm, index: 0 });
        }
        Ok(rsqrt(add(variance, self.eps)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_the_longest_rows_fit() {
        let (ones, zeros) = (vec![1.0; MAX_COLS], vec![0.0; MAX_COLS]);
        let plan = LayerNormPlan::new(&ones, &zeros, 1e-12, &ones, &zeros).unwrap();
        let most = MAX_COLS as i64 * 32_639;
        let squares = MAX_COLS as u64 * 32_639 * 32_639;
        // All alike: no variance at all. Half of each sign: the largest there is.
        assert_eq!(plan.factor(most, squares, 0).unwrap(), rsqrt(1e-12));
        let r = f64::from(plan.factor(0, squares, 0).unwrap());
        assert!((r * 32_639.0 - 1.0).abs() < 1e-6, "{r}");
        assert_eq!(plan.mean(-most, 3), -32_639.0 * 8.0);
        assert_eq!(plan.mean(0, ZERO_EXPONENT), 0.0);
    }
}
