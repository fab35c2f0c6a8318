//! Element-wise addition, as a plain loop that the compiler vectorises for the level in use.

use crate::spec::{NumericError, Op, add::check_add, float, quantise::no_overflow};

use super::Cpu;
use super::isa::multiversioned;
use super::threads::rows_mut;

pub(super) fn add(cpu: &Cpu, x: &mut [f32], y: &[f32]) -> Result<(), NumericError> {
    check_add(x, y)?;
    let parts = rows_mut(x, y.len(), cpu.threads.pieces(x.len()));
    cpu.threads.map(parts, |(_, x)| add_rows(cpu.level, x, y));
    no_overflow(Op::Add, x)
}

multiversioned! {
    fn add_rows(x: &mut [f32], y: &[f32]) = add_body;
}

#[inline(always)]
fn add_body(x: &mut [f32], y: &[f32]) {
    for x in x.chunks_exact_mut(y.len()) {
        for (x, y) in x.iter_mut().zip(y) {
            *x = float::add(*x, *y);
        }
    }
}
