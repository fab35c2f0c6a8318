//! Root-mean-square normalisation, as plain loops that the compiler vectorises for the level in use.

use crate::spec::{
    NumericError, Op, RmsNormPlan,
    float::{mul, pow2},
    quantise::{ZERO_EXPONENT, exponent, largest, rebase},
};

use super::Cpu;
use super::acts::nearest;
use super::checks::no_overflow;
use super::isa::multiversioned;
use super::threads::rows_mut;

pub(super) fn rms_norm(
    cpu: &Cpu,
    weight: &[f32],
    eps: f32,
    x: &[f32],
    out: &mut [f32],
) -> Result<(), NumericError> {
    let plan = RmsNormPlan::new(weight, eps, x, out)?;
    let cols = plan.cols;
    let parts = rows_mut(out, cols, cpu.threads.pieces(x.len()));
    let results = cpu.threads.map(parts, |(first, out)| {
        for (i, out) in out.chunks_exact_mut(cols).enumerate() {
            let base = (first + i) * cols;
            let row = &x[base..][..cols];
            norm_row(cpu.level, &plan, weight, row, out).map_err(|e| rebase(e, base))?;
        }
        Ok::<(), NumericError>(())
    });
    results.into_iter().collect::<Result<(), _>>()?;
    no_overflow(cpu.level, Op::RmsNorm, out)
}

multiversioned! {
    fn norm_row(plan: &RmsNormPlan, weight: &[f32], x: &[f32], out: &mut [f32]) -> Result<(), NumericError> = norm_row_body;
}

#[inline(always)]
fn norm_row_body(plan: &RmsNormPlan, weight: &[f32], x: &[f32], out: &mut [f32]) -> Result<(), NumericError> {
    let et = exponent(largest(Op::RmsNorm, "x", x)?);
    let mut sum = 0u64;
    if et != ZERO_EXPONENT {
        let factor = pow2(-et) as f32;
        sum = x.iter().map(|x| u64::from(nearest(x * factor).unsigned_abs().pow(2))).sum();
    }
    let factor = plan.factor(sum, et)?;
    for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
        *out = mul(mul(*x, factor), *w);
    }
    Ok(())
}
