//! A row of a quantised matrix as f32: `(q * m - 16 * n) * 2^er`.
//!
//! The integer is at most `127 * 65535 < 2^23` in magnitude (with minima `71 * 65535`) and exact in f32; scaling is exact, or `+0` below `2^-126`.

use super::backend::Prepared;
use super::error::{NumericError, Op};
use super::float::scale;
use super::linear::{check, check_tokens};
use super::matrix::QuantRow;

/// Checks a lookup of `tokens` in `table` into `out`.
///
/// # Errors
/// No token, a token that is not a row, or an output of the wrong length.
pub fn check_embed(table: &dyn Prepared, tokens: &[u32], out: &[f32]) -> Result<(), NumericError> {
    check_tokens(Op::Embed, tokens.len())?;
    check(Op::Embed, "elements of the output", tokens.len() * table.cols(), out.len())?;
    let rows = table.rows();
    match tokens.iter().position(|t| *t as usize >= rows) {
        Some(index) => Err(NumericError::TokenOutOfVocabulary { index, token: tokens[index], rows }),
        None => Ok(()),
    }
}

/// Writes one row. The largest possible value is below `2^123`, so nothing overflows.
///
/// # Shape
/// `out`: the columns of the row.
pub fn dequantise_row(row: QuantRow<'_>, out: &mut [f32]) {
    for (out, integer) in out.iter_mut().zip(row.integers()) {
        *out = scale(integer as f32, row.er);
    }
}
