//! Element-wise addition, as a plain loop that the compiler vectorises for the level in use.

use crate::spec::{NumericError, Op, add::check_add_shape, float};

use super::Cpu;
use super::checks::{AT_ONCE, Faults};
use super::isa::multiversioned;
use super::threads::rows_mut;

pub(super) fn add(cpu: &Cpu, x: &mut [f32], y: &[f32]) -> Result<(), NumericError> {
    check_add_shape(x, y)?;
    let pieces = cpu.threads.pieces(x.len());
    let found = if x.len() == y.len() {
        let parts = rows_mut(x, 1, pieces);
        cpu.threads.map(parts, |(first, x)| add_part(cpu.level, first, x, first, &y[first..][..x.len()]))
    } else {
        let parts = rows_mut(x, y.len(), pieces);
        cpu.threads.map(parts, |(row, x)| add_part(cpu.level, row * y.len(), x, 0, y))
    };
    Faults::error(found, Op::Add, &["x", "y"])
}

multiversioned! {
    fn add_part(first: usize, x: &mut [f32], first_y: usize, y: &[f32]) -> Faults = add_body;
}

/// Adds `y` to each row of `x`.
#[inline(always)]
fn add_body(first: usize, x: &mut [f32], first_y: usize, y: &[f32]) -> Faults {
    let mut faults = Faults::NONE;
    for (row, x) in x.chunks_exact_mut(y.len()).enumerate() {
        for (i, (x, part)) in x.chunks_mut(AT_ONCE).zip(y.chunks(AT_ONCE)).enumerate() {
            let (at, at_y) = (first + row * y.len() + i * AT_ONCE, first_y + i * AT_ONCE);
            if faults.input(0, at, x) | faults.input(1, at_y, part) {
                continue;
            }
            for (x, y) in x.iter_mut().zip(part) {
                *x = float::add(*x, *y);
            }
            faults.output(at, x);
        }
    }
    faults
}
