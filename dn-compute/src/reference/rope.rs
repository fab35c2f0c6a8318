//! Rotary position embedding: see [`crate::spec::rope`].

use crate::spec::{
    NumericError, Op, Pairing, RopePlan, RopeTable,
    float::{add, flush, mul, sub},
    quantise::no_overflow,
};

pub(super) fn rope(table: &RopeTable, positions: &[u32], x: &mut [f32]) -> Result<(), NumericError> {
    let plan = RopePlan::new(table, positions, x)?;
    let spec = table.spec();
    for (row, position) in x.chunks_exact_mut(plan.heads * spec.head_dim).zip(positions) {
        for head in row.chunks_exact_mut(spec.head_dim) {
            for (i, [cos, sin]) in table.row(*position).iter().enumerate() {
                let (a, b) = match spec.pairing {
                    Pairing::Interleaved => (2 * i, 2 * i + 1),
                    Pairing::HalfSplit => (i, i + spec.rotary_dim / 2),
                };
                let (va, vb) = (head[a], head[b]);
                head[a] = sub(mul(va, *cos), mul(vb, *sin));
                head[b] = add(mul(va, *sin), mul(vb, *cos));
            }
            for v in &mut head[spec.rotary_dim..] {
                *v = flush(*v);
            }
        }
    }
    no_overflow(Op::Rope, x)
}
