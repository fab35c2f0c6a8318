//! Layer normalisation, as plain loops that the compiler vectorises for the level in use.

use crate::spec::{
    LayerNormPlan, NumericError, Op,
    float::{add, mul, pow2, sub},
    quantise::{ZERO_EXPONENT, exponent, largest, rebase},
};

use super::Cpu;
use super::acts::nearest;
use super::checks::no_overflow;
use super::isa::multiversioned;
use super::threads::rows_mut;

pub(super) fn layer_norm(
    cpu: &Cpu,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    x: &[f32],
    out: &mut [f32],
) -> Result<(), NumericError> {
    let plan = LayerNormPlan::new(weight, bias, eps, x, out)?;
    let cols = plan.cols;
    let parts = rows_mut(out, cols, cpu.threads.pieces(x.len() * 2));
    let results = cpu.threads.map(parts, |(first, out)| {
        for (i, out) in out.chunks_exact_mut(cols).enumerate() {
            let base = (first + i) * cols;
            let row = &x[base..][..cols];
            norm_row(cpu.level, &plan, weight, bias, row, out).map_err(|e| rebase(e, base))?;
        }
        Ok::<(), NumericError>(())
    });
    results.into_iter().collect::<Result<(), _>>()?;
    no_overflow(cpu.level, Op::LayerNorm, out)
}

multiversioned! {
    fn norm_row(plan: &LayerNormPlan, weight: &[f32], bias: &[f32], x: &[f32], out: &mut [f32]) -> Result<(), NumericError>
        = norm_row_body;
}

#[inline(always)]
fn norm_row_body(
    plan: &LayerNormPlan,
    weight: &[f32],
    bias: &[f32],
    x: &[f32],
    out: &mut [f32],
) -> Result<(), NumericError> {
    let op = Op::LayerNorm;
    let (sum, _, et) = sums(x, exponent(largest(op, "x", x)?));
    let mean = plan.mean(sum, et);
    for (y, x) in out.iter_mut().zip(x) {
        *y = sub(*x, mean);
    }
    let (sum, squares, ey) = sums(out, exponent(largest(op, "x - mean", out)?));
    let rest = plan.mean(sum, ey);
    let factor = plan.factor(sum, squares, ey)?;
    for ((y, w), b) in out.iter_mut().zip(weight).zip(bias) {
        *y = add(mul(mul(sub(*y, rest), factor), *w), *b);
    }
    Ok(())
}

/// Sums of the quantised elements and of their squares, and the exponent.
#[inline(always)]
fn sums(x: &[f32], exponent: i32) -> (i64, u64, i32) {
    if exponent == ZERO_EXPONENT {
        return (0, 0, exponent);
    }
    let factor = pow2(-exponent) as f32;
    // 32,768 integers of at most 32,639 stay below 2^31.
    let (mut sum, mut squares) = (0i32, 0u64);
    for x in x {
        let a = nearest(x * factor);
        sum += a;
        squares += u64::from((a * a).unsigned_abs());
    }
    (i64::from(sum), squares, exponent)
}
