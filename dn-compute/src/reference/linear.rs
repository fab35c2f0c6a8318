//! Linear layers: see [`crate::spec::linear`].

use crate::spec::{
    BLOCK, LinearPlan, Matrix, NumericError, Op, Prepared, QuantMatrix,
    float::finish,
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
                out[t * w.rows() + row] = finish(exact_sum(w, row, &a), w.row_exponent(row) + et);
            }
        }
    }
    out.iter().try_for_each(|out| no_overflow(Op::Linear, out))
}

/// `S`, block by block.
fn exact_sum(w: &QuantMatrix, row: usize, a: &[i16]) -> i64 {
    let mut sum = 0i64;
    for ((q, a), m) in w.row_q(row).chunks(BLOCK).zip(a.chunks(BLOCK)).zip(w.row_m(row)) {
        let dot: i32 = q.iter().zip(a).map(|(q, a)| i32::from(*q) * i32::from(*a)).sum();
        sum += i64::from(dot) * i64::from(*m);
    }
    sum
}
