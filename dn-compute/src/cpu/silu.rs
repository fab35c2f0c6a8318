//! `silu(gate) * up`, as a plain loop that the compiler vectorises for the level in use.

use crate::spec::{
    NumericError, Op,
    exp2::exp2_q16,
    float::{flush, mul},
    silu::{LOG2_E, MAX_Z, check_silu_mul_shape},
};

use super::Cpu;
use super::checks::{AT_ONCE, Faults};
use super::isa::multiversioned;
use super::threads::rows_mut;

pub(super) fn silu_mul(cpu: &Cpu, gate: &mut [f32], up: &[f32]) -> Result<(), NumericError> {
    check_silu_mul_shape(gate, up)?;
    // An element costs about eight times a multiplication.
    let parts = rows_mut(gate, 1, cpu.threads.pieces(up.len() * 8));
    let found = cpu.threads.map(parts, |(first, gate)| {
        let up = &up[first..][..gate.len()];
        silu_mul_part(cpu.level, first, gate, up)
    });
    Faults::error(found, Op::SiluMul, &["gate", "up"])
}

multiversioned! {
    fn silu_mul_part(first: usize, gate: &mut [f32], up: &[f32]) -> Faults = silu_mul_body;
}

#[inline(always)]
fn silu_mul_body(first: usize, gate: &mut [f32], up: &[f32]) -> Faults {
    let mut faults = Faults::NONE;
    for (i, (gate, up)) in gate.chunks_mut(AT_ONCE).zip(up.chunks(AT_ONCE)).enumerate() {
        let at = first + i * AT_ONCE;
        if faults.input(0, at, gate) | faults.input(1, at, up) {
            continue;
        }
        for (g, u) in gate.iter_mut().zip(up) {
            *g = silu_mul_one(*g, *u);
        }
        faults.output(at, gate);
    }
    faults
}

/// As [`crate::spec::silu::silu_mul`], without branches, with the machine's own division, which IEEE 754 makes the
/// same function as the recipe, and without the flushes that cannot change anything. `g` is finite.
#[inline(always)]
fn silu_mul_one(g: f32, u: f32) -> f32 {
    // A product that underflows rounds to zero with or without a flush.
    let scaled = (g.abs().min(128.0) * LOG2_E * 65_536.0).round_ties_even();
    // SAFETY: `g` is finite, so this is an integer between 0 and 1.3e7.
    let z = unsafe { scaled.to_int_unchecked::<i32>() };
    let (i, f) = ((-z) >> 16, ((-z) & 0xffff) as u32);
    let power = f32::from_bits(((127 + i - 16) as u32) << 23);
    // 0, or between 2^-100 and 1.
    let e = if z >= MAX_Z { 0.0 } else { exp2_q16(f) as i32 as f32 * power };
    let s = 1.0 / (1.0 + e);
    let sigmoid = if g >= 0.0 { s } else { e * s };
    mul(flush(flush(g) * sigmoid), u)
}
