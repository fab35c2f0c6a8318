//! Layer normalisation: see [`crate::spec::layer_norm`].

use super::device::Device;
use super::elements::{blame, by_rows, bytes};
use crate::reference::Reference;
use crate::spec::{Backend, LayerNormPlan, NumericError, Op, float::recip};

pub(super) fn layer_norm(
    device: &Device,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    x: &[f32],
    out: &mut [f32],
) -> Result<(), NumericError> {
    let plan = LayerNormPlan::new(weight, bias, eps, x, out)?;
    let cols = plan.cols;
    let faults = by_rows(device, Op::LayerNorm, cols, x, out, |call, x, out| {
        let (bx, bw, bb) = (call.upload(x)?, call.upload(weight)?, call.upload(bias)?);
        let by = call.room(x.len())?;
        let addresses = [bx.at(), bw.at(), bb.at(), by.at(), call.fault()];
        let numbers = [cols as u32, eps.to_bits(), recip(cols as f32).to_bits()];
        call.launch_rows("layer_norm", x.len() / cols, cols, &addresses, &numbers)?;
        call.finish(&mut [(&by, bytes(out))])
    })?;
    if faults.any() {
        blame(device, Op::LayerNorm, Reference.layer_norm(weight, bias, eps, x, out))
    } else {
        Ok(())
    }
}
