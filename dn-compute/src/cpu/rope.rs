//! Rotary position embedding, as plain loops that the compiler vectorises for the level in use.

use crate::spec::{
    NumericError, Op, Pairing, RopePlan, RopeTable,
    float::{add, flush, mul, sub},
};

use super::Cpu;
use super::checks::Faults;
use super::isa::multiversioned;
use super::threads::rows_mut;

pub(super) fn rope(
    cpu: &Cpu,
    table: &RopeTable,
    positions: &[u32],
    x: &mut [f32],
) -> Result<(), NumericError> {
    let plan = RopePlan::of_shape(table, positions, x)?;
    let row = plan.heads * table.spec().head_dim;
    let parts = rows_mut(x, row, cpu.threads.pieces(plan.tokens * row));
    let found = cpu.threads.map(parts, |(first, x)| {
        let positions = &positions[first..];
        rotate_rows(cpu.level, table, positions, first * row, row, x)
    });
    Faults::error(found, Op::Rope, &["x"])
}

multiversioned! {
    fn rotate_rows(table: &RopeTable, positions: &[u32], first: usize, row: usize, x: &mut [f32]) -> Faults
        = rotate_rows_body;
}

#[inline(always)]
fn rotate_rows_body(table: &RopeTable, positions: &[u32], first: usize, row: usize, x: &mut [f32]) -> Faults {
    let mut faults = Faults::NONE;
    for (i, (x, position)) in x.chunks_exact_mut(row).zip(positions).enumerate() {
        let at = first + i * row;
        if !faults.input(0, at, x) {
            rotate(table, *position, x);
            faults.output(at, x);
        }
    }
    faults
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
    (sub(mul(a, cos), mul(b, sin)), add(mul(a, sin), mul(b, cos)))
}
