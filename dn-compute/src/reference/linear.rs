//! Linear layers: see [`crate::spec::linear`].

use crate::spec::{
    LinearPlan, Matrix, NumericError, Op, Prepared, QuantMatrix,
    float::finish,
    linear::exact_sum,
    quantise::{no_overflow, quantise, rebase},
};

pub(super) fn linear(
    weights: &[&Matrix],
    x: &[f32],
    tokens: usize,
    out: &mut [&mut [f32]],
) -> Result<(), NumericError> {
    let shapes: Vec<&dyn Prepared> = weights.iter().map(|w| &***w).collect();
    let plan = LinearPlan::new(&shapes, x, tokens, out)?;
    let mut a = vec![0i16; plan.cols];
    let own: Vec<&QuantMatrix> =
        weights.iter().map(|w| super::own(Op::Linear, w)).collect::<Result<_, _>>()?;
    for (t, x) in x.chunks_exact(plan.cols).enumerate() {
        let et = quantise(Op::Linear, "x", x, &mut a).map_err(|e| rebase(e, t * plan.cols))?;
        for (w, out) in own.iter().zip(out.iter_mut()) {
            for row in 0..w.rows() {
                let weights = w.row(row);
                out[t * w.rows() + row] = finish(exact_sum(weights, &a), weights.er + et);
            }
        }
    }
    out.iter().try_for_each(|out| no_overflow(Op::Linear, out))
}
