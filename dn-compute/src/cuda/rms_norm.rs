//! Root-mean-square normalisation: see [`crate::spec::rms_norm`].

use super::call::Call;
use super::device::{Buf, Device};
use super::elements::{blame, by_rows, bytes};
use crate::reference::Reference;
use crate::spec::{Backend, NumericError, Op, RmsNormPlan, float::recip};

pub(super) fn rms_norm(
    device: &Device,
    weight: &[f32],
    eps: f32,
    x: &[f32],
    out: &mut [f32],
) -> Result<(), NumericError> {
    let plan = RmsNormPlan::new(weight, eps, x, out)?;
    let cols = plan.cols;
    let faults = by_rows(device, Op::RmsNorm, cols, x, out, |call, x, out| {
        let (bx, bw) = (call.upload(x)?, call.upload(weight)?);
        let by = record(&call, &bx, &bw, x.len() / cols, cols, eps)?;
        call.finish(&mut [(&by, bytes(out))])
    })?;
    if faults.any() { blame(device, Op::RmsNorm, Reference.rms_norm(weight, eps, x, out)) } else { Ok(()) }
}

/// Normalises `rows` of `cols`.
pub(super) fn record(
    call: &Call<'_>,
    x: &Buf,
    weight: &Buf,
    rows: usize,
    cols: usize,
    eps: f32,
) -> Result<Buf, NumericError> {
    let out = call.room(rows * cols)?;
    let addresses = [x.at(), weight.at(), out.at(), call.fault()];
    let numbers = [cols as u32, eps.to_bits(), recip(cols as f32).to_bits()];
    call.launch_rows("rms_norm", rows, cols, &addresses, &numbers)?;
    Ok(out)
}
