//! Row lookup in packed weights.

use crate::spec::{BLOCK, Matrix, NumericError, Op, QuantRow, embed::check_embed, embed::dequantise_row};

pub(super) fn embed(table: &Matrix, tokens: &[u32], out: &mut [f32]) -> Result<(), NumericError> {
    check_embed(&**table, tokens, out)?;
    if let Some(w) = super::general(table) {
        let rows = tokens.iter().zip(out.chunks_exact_mut(w.cols()));
        rows.for_each(|(token, out)| dequantise_row(w.row(*token as usize), out));
        return Ok(());
    }
    let w = super::own(Op::Embed, table)?;
    for (token, out) in tokens.iter().zip(out.chunks_exact_mut(w.cols)) {
        let (q, m) = w.row(*token as usize);
        let er = w.er[*token as usize];
        dequantise_row(QuantRow { q: &q, m: &m, n: &[], er, block: BLOCK }, out);
    }
    Ok(())
}
