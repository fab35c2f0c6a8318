//! Root-mean-square normalisation: see [`crate::spec::rms_norm`].

use crate::spec::{
    NumericError, Op, RmsNormPlan,
    float::mul,
    quantise::{no_overflow, quantise, rebase},
};

pub(super) fn rms_norm(weight: &[f32], eps: f32, x: &[f32], out: &mut [f32]) -> Result<(), NumericError> {
    let plan = RmsNormPlan::new(weight, eps, x, out)?;
    let mut a = vec![0i16; plan.cols];
    let rows = x.chunks_exact(plan.cols).zip(out.chunks_exact_mut(plan.cols));
    for (t, (x, out)) in rows.enumerate() {
        let base = t * plan.cols;
        let et = quantise(Op::RmsNorm, "x", x, &mut a).map_err(|e| rebase(e, base))?;
        let sum: u64 = a.iter().map(|a| u64::from(a.unsigned_abs()).pow(2)).sum();
        let factor = plan.factor(sum, et).map_err(|e| rebase(e, base))?;
        for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
            *out = mul(mul(*x, factor), *w);
        }
    }
    no_overflow(Op::RmsNorm, out)
}
