//! Operations element by element or row by row: cut into launches, and who is to blame for a fault.

use super::call::{Call, Faults};
use super::device::Device;
use crate::spec::{DeviceFault, NumericError, Op};

/// Changes `x` in place, `step` elements at a time at most; `part` gets the place of a piece and the piece.
///
/// With a fault `x` stays as it is, so that `reference` can say what is wrong with it.
pub(super) fn in_place(
    device: &Device,
    op: Op,
    x: &mut [f32],
    step: usize,
    mut part: impl FnMut(usize, &mut [f32]) -> Result<Faults, NumericError>,
    reference: impl FnOnce(&mut [f32]) -> Result<(), NumericError>,
) -> Result<(), NumericError> {
    let mut changed = x.to_vec();
    let mut fault = false;
    for (i, piece) in changed.chunks_mut(step).enumerate() {
        fault |= part(i * step, piece)?.any();
    }
    if fault {
        return blame(device, op, reference(x));
    }
    x.copy_from_slice(&changed);
    Ok(())
}

/// The error that the host finds where the device noted a fault. One that the host cannot find is the device's.
pub(super) fn blame(device: &Device, op: Op, found: Result<(), NumericError>) -> Result<(), NumericError> {
    found.and_then(|()| Err(device.fault(op, DeviceFault::Wrong)))
}

/// The bytes of numbers that come back.
pub(super) fn bytes<T: bytemuck::Pod>(x: &mut [T]) -> &mut [u8] {
    bytemuck::cast_slice_mut(x)
}

/// Rows of `cols` that a launch takes.
pub(super) fn rows_at_once(device: &Device, cols: usize) -> usize {
    (device.most_words / cols).clamp(1, 1 << 20)
}

/// A call whose output has as many elements as its input, row by row.
pub(super) fn by_rows(
    device: &Device,
    op: Op,
    cols: usize,
    x: &[f32],
    out: &mut [f32],
    mut part: impl FnMut(Call<'_>, &[f32], &mut [f32]) -> Result<Faults, NumericError>,
) -> Result<Faults, NumericError> {
    let step = rows_at_once(device, cols) * cols;
    let mut all = Faults::default();
    for (x, out) in x.chunks(step).zip(out.chunks_mut(step)) {
        all.0 |= part(Call::new(device, op)?, x, out)?.0;
    }
    Ok(all)
}
