//! Operations element by element or row by row: cut into dispatches, and who is to blame for a fault.

use super::call::{Call, Faults};
use super::device::Gpu;
use crate::spec::{DeviceFault, NumericError, Op};

/// Changes `x` in place, `step` elements at a time at most; `part` gets the place of a piece and the piece.
///
/// With a fault `x` stays as it is, so that `reference` can say what is wrong with it.
pub(super) async fn in_place(
    gpu: &Gpu,
    op: Op,
    x: &mut [f32],
    step: usize,
    mut part: impl AsyncFnMut(usize, &mut [f32]) -> Result<Faults, NumericError>,
    reference: impl FnOnce(&mut [f32]) -> Result<(), NumericError>,
) -> Result<(), NumericError> {
    let fault = if x.len() <= step {
        if x.is_empty() { false } else { part(0, x).await?.any() }
    } else {
        let mut changed = x.to_vec();
        let mut fault = false;
        for (i, piece) in changed.chunks_mut(step).enumerate() {
            fault |= part(i * step, piece).await?.any();
        }
        if !fault {
            x.copy_from_slice(&changed);
        }
        fault
    };
    if fault { blame(gpu, op, reference(x)) } else { Ok(()) }
}

/// The error that the host finds where the device noted a fault. One that the host cannot find is the device's.
pub(super) fn blame(gpu: &Gpu, op: Op, found: Result<(), NumericError>) -> Result<(), NumericError> {
    found.and_then(|()| Err(gpu.fault(op, DeviceFault::Wrong)))
}

/// The bytes of numbers that come back.
pub(super) fn bytes(x: &mut [f32]) -> &mut [u8] {
    bytemuck::cast_slice_mut(x)
}

/// Rows of `cols` that a dispatch takes.
pub(super) fn rows_at_once(gpu: &Gpu, cols: usize) -> usize {
    (gpu.most_words / cols).clamp(1, 1 << 20)
}

/// A call whose output has as many elements as its input, row by row.
pub(super) async fn by_rows(
    gpu: &Gpu,
    op: Op,
    cols: usize,
    x: &[f32],
    out: &mut [f32],
    mut part: impl AsyncFnMut(Call<'_>, &[f32], &mut [f32]) -> Result<Faults, NumericError>,
) -> Result<Faults, NumericError> {
    let step = rows_at_once(gpu, cols) * cols;
    let mut all = Faults::default();
    for (x, out) in x.chunks(step).zip(out.chunks_mut(step)) {
        all.0 |= part(Call::new(gpu, op)?, x, out).await?.0;
    }
    Ok(all)
}
