//! Rotary position embedding: see [`crate::spec::rope`].

use super::call::{Buf, Call};
use super::device::Gpu;
use super::elements::{bytes, in_place, rows_at_once};
use super::kernels::Kernel;
use crate::reference::Reference;
use crate::spec::{Backend, NumericError, Op, Pairing, RopePlan, RopeSpec, RopeTable};

pub(super) async fn rope(
    gpu: &Gpu,
    table: &RopeTable,
    positions: &[u32],
    x: &mut [f32],
) -> Result<(), NumericError> {
    let plan = RopePlan::of_shape(table, positions, x)?;
    let spec = table.spec();
    let row = plan.heads * spec.head_dim;
    let part = async |at: usize, x: &mut [f32]| {
        let tokens = x.len() / row;
        let positions = &positions[at / row..][..tokens];
        let mut call = Call::new(gpu, Op::Rope)?;
        let (bx, turns) = (call.upload(x), turns(&mut call, table, positions));
        record(&mut call, &bx, &turns, spec, RopePlan { tokens, ..plan });
        call.finish(&mut [(&bx, bytes(x))], false).await
    };
    let step = rows_at_once(gpu, row) * row;
    in_place(gpu, Op::Rope, x, step, part, |x| Reference.rope(table, positions, x)).await
}

/// Cosines and sines of all positions, on the device, and which positions are meant.
pub(super) struct Turns {
    table: Buf,
    positions: Buf,
}

/// What rows at these positions are turned by.
pub(super) fn turns(call: &mut Call<'_>, table: &RopeTable, positions: &[u32]) -> Turns {
    let (values, kept) = table.all();
    Turns { table: call.constant(values, kept), positions: call.upload(positions) }
}

/// Turns every head of every row.
pub(super) fn record(call: &mut Call<'_>, x: &Buf, turns: &Turns, spec: &RopeSpec, plan: RopePlan) {
    let fault = call.fault();
    let half_split = u32::from(spec.pairing == Pairing::HalfSplit);
    let [tokens, heads, head_dim, rotary] =
        [plan.tokens, plan.heads, spec.head_dim, spec.rotary_dim].map(|n| n as u32);
    let params = [tokens, heads, head_dim, rotary, half_split, 0, 0, 0];
    let items = plan.tokens * plan.heads * (spec.head_dim - spec.rotary_dim / 2);
    call.dispatch_items(Kernel::Rope, &[x, &turns.table, &turns.positions, &fault], &params, items);
}
