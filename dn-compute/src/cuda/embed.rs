//! Row lookup: see [`crate::spec::embed`].

use super::call::Call;
use super::device::Device;
use super::elements::{bytes, rows_at_once};
use super::own;
use crate::spec::{Matrix, NumericError, Op, Prepared, embed::check_embed};

pub(super) fn embed(
    device: &Device,
    table: &Matrix,
    tokens: &[u32],
    out: &mut [f32],
) -> Result<(), NumericError> {
    check_embed(&**table, tokens, out)?;
    let w = own(Op::Embed, table)?;
    let (cols, step) = (w.cols(), rows_at_once(device, w.cols()));
    for (tokens, out) in tokens.chunks(step).zip(out.chunks_mut(step * cols)) {
        let call = Call::new(device, Op::Embed)?;
        let (bt, by) = (call.upload(tokens)?, call.room(out.len())?);
        let addresses = [w.q.at(), w.m.at(), w.minima_at(), w.exponents.at(), bt.at(), by.at(), w.above_at()];
        let [fours, least] = w.four_numbers();
        let [cols, stride, columns, count, tokens] =
            [cols, w.stride, w.block_columns, w.block_count, tokens.len()].map(|n| n as u32);
        let numbers = [cols, stride, columns, count, tokens, fours, least];
        call.launch_items("rows_of", out.len(), &addresses, &numbers)?;
        call.finish(&mut [(&by, bytes(out))])?;
    }
    Ok(())
}
