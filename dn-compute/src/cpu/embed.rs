//! Row lookup in packed weights.

use crate::spec::{Matrix, NumericError, Op, QuantRow, embed::check_embed, embed::dequantise_row};

pub(super) fn embed(table: &Matrix, tokens: &[u32], out: &mut [f32]) -> Result<(), NumericError> {
    check_embed(&**table, tokens, out)?;
    let w = super::own(Op::Embed, table)?;
    for (token, out) in tokens.iter().zip(out.chunks_exact_mut(w.cols)) {
        let row = *token as usize;
        let (q, m, n) = w.row(row);
        dequantise_row(QuantRow { q: &q, m: &m, n: &n, er: w.er[row], block: w.block_columns() }, out);
    }
    Ok(())
}
