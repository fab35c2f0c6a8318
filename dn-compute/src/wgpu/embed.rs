//! Row lookup: see [`crate::spec::embed`].

use super::call::{Buf, Call};
use super::device::Gpu;
use super::elements::{bytes, rows_at_once};
use super::kernels::Kernel;
use super::matrix::Resident;
use super::own;
use crate::spec::{Matrix, NumericError, Op, Prepared, embed::check_embed};

pub(super) async fn embed(
    gpu: &Gpu,
    table: &Matrix,
    tokens: &[u32],
    out: &mut [f32],
) -> Result<(), NumericError> {
    check_embed(&**table, tokens, out)?;
    let w = own(Op::Embed, table)?;
    let (cols, step) = (w.cols(), rows_at_once(gpu, w.cols()));
    for (tokens, out) in tokens.chunks(step).zip(out.chunks_mut(step * cols)) {
        let mut call = Call::new(gpu, Op::Embed)?;
        let by = record(&mut call, w, tokens);
        call.finish(&mut [(&by, bytes(out))], false).await?;
    }
    Ok(())
}

/// The rows of some tokens.
pub(super) fn record(call: &mut Call<'_>, w: &Resident, tokens: &[u32]) -> Buf {
    let (cols, elements) = (w.cols(), tokens.len() * w.cols());
    let (bt, by) = (call.upload(tokens), call.room(elements));
    for part in &w.parts {
        let form = w.form;
        let params =
            [part.rows, cols, form.words, part.first, form.block_columns, form.block_count, tokens.len(), 0]
                .map(|n| n as u32);
        let kernel = Kernel::Embed { minima: form.blocks.minima };
        let bufs = [&part.q, &part.scales, &part.exponents, &bt, &by];
        call.dispatch_items(kernel, &bufs, &params, elements);
    }
    by
}
