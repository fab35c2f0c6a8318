//! Row lookup: see [`crate::spec::embed`].

use crate::spec::{Matrix, NumericError, Op, embed::check_embed, embed::dequantise_row};

pub(super) fn embed(table: &Matrix, tokens: &[u32], out: &mut [f32]) -> Result<(), NumericError> {
    check_embed(&**table, tokens, out)?;
    let w = super::own(Op::Embed, table)?;
    for (token, out) in tokens.iter().zip(out.chunks_exact_mut(w.cols())) {
        dequantise_row(w.row(*token as usize), out);
    }
    Ok(())
}
