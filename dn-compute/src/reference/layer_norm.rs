//! Layer normalisation: see [`crate::spec::layer_norm`].

use crate::spec::{
    LayerNormPlan, NumericError, Op,
    float::{add, mul, sub},
    quantise::{no_overflow, quantise, rebase},
};

pub(super) fn layer_norm(
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    x: &[f32],
    out: &mut [f32],
) -> Result<(), NumericError> {
    let op = Op::LayerNorm;
    let plan = LayerNormPlan::new(weight, bias, eps, x, out)?;
    let mut a = vec![0i16; plan.cols];
    let rows = x.chunks_exact(plan.cols).zip(out.chunks_exact_mut(plan.cols));
    for (t, (x, out)) in rows.enumerate() {
        let base = t * plan.cols;
        let exponent = quantise(op, "x", x, &mut a).map_err(|e| rebase(e, base))?;
        let mean = plan.mean(a.iter().map(|a| i64::from(*a)).sum(), exponent);
        let centred: Vec<f32> = x.iter().map(|x| sub(*x, mean)).collect();
        let exponent = quantise(op, "x - mean", &centred, &mut a).map_err(|e| rebase(e, base))?;
        let sum: i64 = a.iter().map(|a| i64::from(*a)).sum();
        let squares: u64 = a.iter().map(|a| u64::from(a.unsigned_abs()).pow(2)).sum();
        let rest = plan.mean(sum, exponent);
        let factor = plan.factor(sum, squares, exponent).map_err(|e| rebase(e, base))?;
        for (((out, y), w), b) in out.iter_mut().zip(&centred).zip(weight).zip(bias) {
            *out = add(mul(mul(sub(*y, rest), factor), *w), *b);
        }
    }
    no_overflow(op, out)
}
