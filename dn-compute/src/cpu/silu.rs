//! `silu(gate) * up`, as a plain loop that the compiler vectorises for the level in use.

use crate::spec::{
    NumericError, Op,
    exp2::exp2_q16,
    float::mul,
    quantise::no_overflow,
    silu::{LOG2_E, MAX_Z, check_silu_mul},
};

use super::Cpu;
use super::isa::multiversioned;
use super::threads::rows_mut;

pub(super) fn silu_mul(cpu: &Cpu, gate: &mut [f32], up: &[f32]) -> Result<(), NumericError> {
    check_silu_mul(gate, up)?;
    // An element costs about eight times a multiplication.
    let parts = rows_mut(gate, 1, cpu.threads.pieces(up.len() * 8));
    cpu.threads.map(parts, |(first, gate)| silu_mul_all(cpu.level, gate, &up[first..]));
    no_overflow(Op::SiluMul, gate)
}

multiversioned! {
    fn silu_mul_all(gate: &mut [f32], up: &[f32]) = silu_mul_body;
}

#[inline(always)]
fn silu_mul_body(gate: &mut [f32], up: &[f32]) {
    for (g, u) in gate.iter_mut().zip(up) {
        *g = silu_mul_one(*g, *u);
    }
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
