//! The operations per element, as plain loops that the compiler vectorises for the level in use.

use crate::spec::{
    NumericError, Op, Pairing, RmsNormPlan, RopePlan, RopeTable,
    add::check_add,
    exp2::exp2_q16,
    float::{self, flush, mul, pow2, sub},
    quantise::{ZERO_EXPONENT, exponent, largest, no_overflow, rebase},
    silu::{LOG2_E, MAX_Z, check_silu_mul},
};

use super::Cpu;
use super::pack::nearest;
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
            cpu.level.run(|| norm_row(&plan, weight, row, out)).map_err(|e| rebase(e, base))?;
        }
        Ok::<(), NumericError>(())
    });
    results.into_iter().collect::<Result<(), _>>()?;
    no_overflow(Op::RmsNorm, out)
}

#[inline(always)]
fn norm_row(plan: &RmsNormPlan, weight: &[f32], x: &[f32], out: &mut [f32]) -> Result<(), NumericError> {
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

pub(super) fn rope(
    cpu: &Cpu,
    table: &RopeTable,
    positions: &[u32],
    x: &mut [f32],
) -> Result<(), NumericError> {
    let plan = RopePlan::new(table, positions, x)?;
    let row = plan.heads * table.spec().head_dim;
    let parts = rows_mut(x, row, cpu.threads.pieces(plan.tokens * row));
    cpu.threads.map(parts, |(first, x)| {
        for (x, position) in x.chunks_exact_mut(row).zip(&positions[first..]) {
            cpu.level.run(|| rotate(table, *position, x));
        }
    });
    no_overflow(Op::Rope, x)
}

#[inline(always)]
fn rotate(table: &RopeTable, position: u32, x: &mut [f32]) {
    let (spec, values) = (table.spec(), table.row(position));
    for head in x.chunks_exact_mut(spec.head_dim) {
        let (rotary, rest) = head.split_at_mut(spec.rotary_dim);
        match spec.pairing {
            Pairing::Interleaved => {
                for (pair, [cos, sin]) in rotary.chunks_exact_mut(2).zip(values) {
                    (pair[0], pair[1]) = turn(pair[0], pair[1], *cos, *sin);
                }
            }
            Pairing::HalfSplit => {
                let (a, b) = rotary.split_at_mut(spec.rotary_dim / 2);
                for ((a, b), [cos, sin]) in a.iter_mut().zip(b).zip(values) {
                    (*a, *b) = turn(*a, *b, *cos, *sin);
                }
            }
        }
        for v in rest {
            *v = flush(*v);
        }
    }
}

#[inline(always)]
fn turn(a: f32, b: f32, cos: f32, sin: f32) -> (f32, f32) {
    (sub(mul(a, cos), mul(b, sin)), float::add(mul(a, sin), mul(b, cos)))
}

pub(super) fn silu_mul(cpu: &Cpu, gate: &mut [f32], up: &[f32]) -> Result<(), NumericError> {
    check_silu_mul(gate, up)?;
    // An element costs about eight times a multiplication.
    let parts = rows_mut(gate, 1, cpu.threads.pieces(up.len() * 8));
    cpu.threads.map(parts, |(first, gate)| {
        cpu.level.run(|| {
            for (g, u) in gate.iter_mut().zip(&up[first..]) {
                *g = silu_mul_one(*g, *u);
            }
        });
    });
    no_overflow(Op::SiluMul, gate)
}

/// As [`crate::spec::silu::silu_mul`], without branches and with the machine's own division, which IEEE 754 makes the
/// same function as the recipe.
#[inline(always)]
fn silu_mul_one(g: f32, u: f32) -> f32 {
    // The scaled product is below 1.3e7: its conversion truncates nothing after the rounding.
    let z = (mul(g.abs().min(128.0), LOG2_E) * 65_536.0).round_ties_even() as i32;
    let (i, f) = ((-z) >> 16, ((-z) & 0xffff) as u32);
    let power = f32::from_bits(((127 + i - 16) as u32) << 23);
    let e = if z >= MAX_Z { 0.0 } else { exp2_q16(f) as f32 * power };
    let s = 1.0 / (1.0 + e);
    let sigmoid = if g >= 0.0 { s } else { mul(e, s) };
    mul(mul(g, sigmoid), u)
}

pub(super) fn add(cpu: &Cpu, x: &mut [f32], y: &[f32]) -> Result<(), NumericError> {
    check_add(x, y)?;
    let parts = rows_mut(x, y.len(), cpu.threads.pieces(x.len()));
    cpu.threads.map(parts, |(_, x)| {
        cpu.level.run(|| {
            for x in x.chunks_exact_mut(y.len()) {
                for (x, y) in x.iter_mut().zip(y) {
                    *x = float::add(*x, *y);
                }
            }
        });
    });
    no_overflow(Op::Add, x)
}
