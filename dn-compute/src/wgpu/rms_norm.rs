//! Root-mean-square normalisation: see [`crate::spec::rms_norm`].

use super::call::{Buf, Call};
use super::device::Gpu;
use super::elements::{blame, by_rows, bytes};
use super::kernels::Kernel;
use crate::reference::Reference;
use crate::spec::{Backend, NumericError, Op, RmsNormPlan, float::recip};

pub(super) async fn rms_norm(
    gpu: &Gpu,
    weight: &[f32],
    eps: f32,
    x: &[f32],
    out: &mut [f32],
) -> Result<(), NumericError> {
    let plan = RmsNormPlan::new(weight, eps, x, out)?;
    let cols = plan.cols;
    let faults =
        by_rows(gpu, Op::RmsNorm, cols, x, out, async |mut call: Call<'_>, x: &[f32], out: &mut [f32]| {
            let (bx, bw) = (call.upload(x), call.upload(weight));
            let by = record(&mut call, &bx, &bw, x.len() / cols, cols, eps);
            call.finish(&mut [(&by, bytes(out))], false).await
        })
        .await?;
    if faults.any() { blame(gpu, Op::RmsNorm, Reference.rms_norm(weight, eps, x, out)) } else { Ok(()) }
}

/// Normalises `rows` of `cols`.
pub(super) fn record(call: &mut Call<'_>, x: &Buf, weight: &Buf, rows: usize, cols: usize, eps: f32) -> Buf {
    let (out, fault) = (call.room(rows * cols), call.fault());
    let params = [rows as u32, cols as u32, eps.to_bits(), recip(cols as f32).to_bits()];
    call.dispatch(Kernel::RmsNorm, &[x, weight, &out, &fault], &params, rows, 1);
    out
}
