//! Row lookup in packed weights.

use crate::spec::{Matrix, NumericError, Op, embed::check_embed, embed::dequantise_row};

pub(super) fn embed(table: &Matrix, tokens: &[u32], out: &mut [f32]) -> Result<(), NumericError> {
    check_embed(&**table, tokens, out)?;
    let w = super::own(Op::Embed, table)?;
    for (token, out) in tokens.iter().zip(out.chunks_exact_mut(w.cols)) {
        let (q, m) = w.row(*token as usize);
        dequantise_row(&q, &m, w.er[*token as usize], out);
    }
    Ok(())
}
