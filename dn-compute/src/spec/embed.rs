//! A row of a quantised matrix as f32: `q * m * 2^er`.
//!
//! `|q * m| <= 127 * 65535 < 2^23` is exact in f32; scaling is exact, or `+0` below `2^-126`.

use super::backend::Prepared;
use super::error::{NumericError, Op};
use super::float::scale;
use super::linear::{check, check_tokens};
use super::matrix::BLOCK;

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
pub fn dequantise_row(q: &[i8], m: &[u16], er: i32, out: &mut [f32]) {
    for ((out, q), m) in out.chunks_mut(BLOCK).zip(q.chunks(BLOCK)).zip(m) {
        for (o, q) in out.iter_mut().zip(q) {
            *o = scale((i32::from(*q) * i32::from(*m)) as f32, er);
        }
    }
}
