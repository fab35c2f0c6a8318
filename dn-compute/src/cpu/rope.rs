//! Rotary position embedding, as plain loops that the compiler vectorises for the level in use.

use crate::spec::{
    NumericError, Op, Pairing, RopePlan, RopeTable,
    float::{add, flush, mul, sub},
    quantise::no_overflow,
};

use super::Cpu;
use super::isa::multiversioned;
use super::threads::rows_mut;

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
            rotate(cpu.level, table, *position, x);
        }
    });
    no_overflow(Op::Rope, x)
}

multiversioned! {
    fn rotate(table: &RopeTable, position: u32, x: &mut [f32]) = rotate_body;
}

#[inline(always)]
fn rotate_body(table: &RopeTable, position: u32, x: &mut [f32]) {
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
