//! `gelu(x)`, as a plain loop that the compiler vectorises for the level in use.

use crate::spec::{
    NumericError,
    exp2::exp2_q16,
    float::{flush, mul},
    gelu::{COEFFICIENTS, CUT, check_gelu},
};

use super::Cpu;
use super::isa::multiversioned;
use super::threads::rows_mut;

pub(super) fn gelu(cpu: &Cpu, x: &mut [f32]) -> Result<(), NumericError> {
    check_gelu(x)?;
    // An element costs about eight times a multiplication.
    let pieces = cpu.threads.pieces(x.len() * 8);
    cpu.threads.map(rows_mut(x, 1, pieces), |(_, x)| gelu_all(cpu.level, x));
    Ok(())
}

multiversioned! {
    fn gelu_all(x: &mut [f32]) = gelu_body;
}

#[inline(always)]
fn gelu_body(x: &mut [f32]) {
    for x in x {
        *x = gelu_one(*x);
    }
}

/// As [`crate::spec::gelu::gelu`], without branches; a flush that cannot change anything is left out.
#[inline(always)]
fn gelu_one(x: f32) -> f32 {
    let x = flush(x);
    let a = x.abs();
    let held = a.min(CUT);
    // Each partial sum is at least 1.7e-6 in magnitude or its product is added to a number far above the normal range's
    // end; a product that underflows then vanishes in the sum with or without a flush.
    let mut p = COEFFICIENTS[0];
    for c in &COEFFICIENTS[1..] {
        p = p * held + c;
    }
    let z = (p * 65_536.0).round_ties_even() as i32;
    let (i, f) = ((-z) >> 16, ((-z) & 0xffff) as u32);
    // i - 16 is between -46 and -17: a normal power.
    let power = f32::from_bits(((127 + i - 16) as u32) << 23);
    let t = if a >= CUT { 0.0 } else { mul(a, exp2_q16(f) as f32 * power) };
    flush(x.max(0.0) - t)
}
