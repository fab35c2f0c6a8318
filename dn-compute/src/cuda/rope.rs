//! Rotary position embedding: see [`crate::spec::rope`].

use super::call::Call;
use super::device::{Buf, Device};
use super::elements::{bytes, in_place, rows_at_once};
use crate::reference::Reference;
use crate::spec::{Backend, NumericError, Op, Pairing, RopePlan, RopeSpec, RopeTable};

pub(super) fn rope(
    device: &Device,
    table: &RopeTable,
    positions: &[u32],
    x: &mut [f32],
) -> Result<(), NumericError> {
    let plan = RopePlan::of_shape(table, positions, x)?;
    let spec = table.spec();
    let row = plan.heads * spec.head_dim;
    let part = |at: usize, x: &mut [f32]| {
        let tokens = x.len() / row;
        let positions = &positions[at / row..][..tokens];
        let call = Call::new(device, Op::Rope)?;
        let (buf, turns) = (call.upload(x)?, turns(&call, table, positions)?);
        record(&call, &buf, &turns, spec, RopePlan { tokens, ..plan })?;
        call.finish(&mut [(&buf, bytes(x))])
    };
    let step = rows_at_once(device, row) * row;
    in_place(device, Op::Rope, x, step, part, |x| Reference.rope(table, positions, x))
}

/// Cosines and sines of some positions, on the device.
pub(super) fn turns(call: &Call<'_>, table: &RopeTable, positions: &[u32]) -> Result<Buf, NumericError> {
    let turns: Vec<[f32; 2]> = positions.iter().flat_map(|p| table.row(*p)).copied().collect();
    call.upload(&turns)
}

/// Turns every head of every row.
pub(super) fn record(
    call: &Call<'_>,
    x: &Buf,
    turns: &Buf,
    spec: &RopeSpec,
    plan: RopePlan,
) -> Result<(), NumericError> {
    let half_split = u32::from(spec.pairing == Pairing::HalfSplit);
    let [tokens, heads, head_dim, rotary] =
        [plan.tokens, plan.heads, spec.head_dim, spec.rotary_dim].map(|n| n as u32);
    let items = plan.tokens * plan.heads * (spec.head_dim - spec.rotary_dim / 2);
    let addresses = [x.at(), turns.at(), call.fault()];
    call.launch_items("turn", items, &addresses, &[tokens, heads, head_dim, rotary, half_split])
}
