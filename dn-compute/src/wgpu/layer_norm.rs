//! Layer normalisation: see [`crate::spec::layer_norm`].

use super::call::Call;
use super::device::Gpu;
use super::elements::{blame, by_rows, bytes};
use super::kernels::Kernel;
use crate::reference::Reference;
use crate::spec::{Backend, LayerNormPlan, NumericError, Op, float::recip};

pub(super) async fn layer_norm(
    gpu: &Gpu,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    x: &[f32],
    out: &mut [f32],
) -> Result<(), NumericError> {
    let plan = LayerNormPlan::new(weight, bias, eps, x, out)?;
    let cols = plan.cols;
    let faults =
        by_rows(gpu, Op::LayerNorm, cols, x, out, async |mut call: Call<'_>, x: &[f32], out: &mut [f32]| {
            let rows = x.len() / cols;
            let (bx, bw, bb) = (call.upload(x), call.upload(weight), call.upload(bias));
            let (by, fault) = (call.room(x.len()), call.fault());
            let params = [rows as u32, cols as u32, eps.to_bits(), recip(cols as f32).to_bits()];
            call.dispatch(Kernel::LayerNorm, &[&bx, &bw, &bb, &by, &fault], &params, rows, 1);
            call.finish(&mut [(&by, bytes(out))], false).await
        })
        .await?;
    if faults.any() {
        blame(gpu, Op::LayerNorm, Reference.layer_norm(weight, bias, eps, x, out))
    } else {
        Ok(())
    }
}
