//! Linear layers: see [`crate::spec::linear`].

use super::call::{Buf, Call};
use super::device::Gpu;
use super::elements::{blame, bytes};
use super::kernels::{Kernel, Rows};
use super::matrix::Resident;
use super::own;
use super::quantise::{Digits, PIECE, locate, quantise};
use crate::spec::{LinearPlan, Matrix, NumericError, Op, Prepared, quantise::no_overflow};

/// Most tokens of a dispatch: its third dimension counts tiles of them.
pub(super) const MOST_TOKENS: usize = 1 << 15;

pub(super) async fn linear(
    gpu: &Gpu,
    weights: &[&Matrix],
    x: &[f32],
    tokens: usize,
    out: &mut [&mut [f32]],
) -> Result<(), NumericError> {
    let op = Op::Linear;
    let shapes: Vec<&dyn Prepared> = weights.iter().map(|w| &***w).collect();
    let plan = LinearPlan::new(&shapes, x, tokens, out)?;
    let own: Vec<&Resident> = weights.iter().map(|w| own(op, w)).collect::<Result<_, _>>()?;
    let longest = plan.rows.iter().copied().max().unwrap_or(1).max(plan.cols.next_multiple_of(PIECE));
    let step = (gpu.most_words / longest).clamp(1, MOST_TOKENS);
    let (mut bad_input, mut any) = (false, false);
    for first in (0..tokens).step_by(step) {
        let count = step.min(tokens - first);
        let mut call = Call::new(gpu, op)?;
        let x = call.upload(&x[first * plan.cols..][..count * plan.cols]);
        let a = quantise(&mut call, &x, count, plan.cols, PIECE, None);
        let bufs: Vec<Buf> = own.iter().map(|w| multiply(&mut call, w, &a, count)).collect();
        let mut outs: Vec<(&Buf, &mut [u8])> = bufs
            .iter()
            .zip(out.iter_mut())
            .zip(&plan.rows)
            .map(|((buf, out), rows)| (buf, bytes(&mut out[first * rows..][..count * rows])))
            .collect();
        let faults = call.finish(&mut outs, true).await?;
        bad_input |= faults.input();
        any |= faults.any();
    }
    let found = || match bad_input {
        true => locate(op, "x", x, plan.cols),
        false => out.iter().try_for_each(|out| no_overflow(op, out)),
    };
    if any { blame(gpu, op, found()) } else { Ok(()) }
}

/// Records the product of `tokens` quantised rows with a matrix.
pub(super) fn multiply(call: &mut Call<'_>, w: &Resident, a: &Digits, tokens: usize) -> Buf {
    let (y, fault) = (call.room(tokens * w.rows()), call.fault());
    let rows = Rows::of(tokens);
    let kernel = Kernel::Linear { rows, short: w.form.short(), minima: w.form.blocks.minima };
    let (tile_tokens, tile_rows) = rows.tile();
    let (pieces, per_block) = w.form.pieces(w.cols());
    for part in &w.parts {
        let params =
            [part.rows, w.form.words, pieces, tokens, part.first, w.rows(), per_block, w.form.block_count]
                .map(|n| n as u32);
        let bufs = [&part.q, &part.scales, &part.exponents, &a.digits, &a.exponents, &a.sums, &y, &fault];
        call.dispatch(kernel, &bufs, &params, part.rows.div_ceil(tile_rows), tokens.div_ceil(tile_tokens));
    }
    y
}
