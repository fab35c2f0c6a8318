//! `x + y` per element, flushed; `y` may be one row that is added to every row of `x` (a bias).

use super::error::{NumericError, Op};
use super::linear::check;
use super::quantise::all_finite;

/// Checks that `x` is one or more rows as long as `y`.
///
/// # Errors
/// Lengths that do not fit.
pub fn check_add_shape(x: &[f32], y: &[f32]) -> Result<(), NumericError> {
    let op = Op::Add;
    if y.is_empty() {
        return Err(NumericError::Limit { op, what: "elements of y", min: 1, max: usize::MAX, found: 0 });
    }
    check(op, "elements of x", x.len() / y.len() * y.len(), x.len())
}

/// Checks that `x` is one or more rows as long as `y`, and that both are finite.
///
/// # Errors
/// Lengths that do not fit; an element that is not finite.
pub fn check_add(x: &[f32], y: &[f32]) -> Result<(), NumericError> {
    check_add_shape(x, y)?;
    all_finite(Op::Add, "x", x)?;
    all_finite(Op::Add, "y", y)
}
