//! Element-wise addition: see [`crate::spec::add`].

use super::call::{Call, words};
use super::device::{Buf, Device};
use super::elements::{bytes, in_place};
use crate::reference::Reference;
use crate::spec::{Backend, NumericError, Op, add::check_add_shape};

pub(super) fn add(device: &Device, x: &mut [f32], y: &[f32]) -> Result<(), NumericError> {
    check_add_shape(x, y)?;
    // Whole rows of `y`, or pieces of the one row there is.
    let most = device.most_words;
    let step = if x.len() == y.len() { most } else { (most / y.len()).max(1) * y.len() };
    let part = |at: usize, x: &mut [f32]| {
        let y = if at + x.len() <= y.len() { &y[at..at + x.len()] } else { y };
        let call = Call::new(device, Op::Add)?;
        let (bx, by) = (call.upload(x)?, call.upload(y)?);
        record(&call, &bx, &by, x.len(), y.len())?;
        call.finish(&mut [(&bx, bytes(x))])
    };
    in_place(device, Op::Add, x, step, part, |x| Reference.add(x, y))
}

/// Adds `y` to `len` elements of `x`, over and over where it is shorter (`period`).
pub(super) fn record(
    call: &Call<'_>,
    x: &Buf,
    y: &Buf,
    len: usize,
    period: usize,
) -> Result<(), NumericError> {
    let [low, high] = words(len);
    call.launch_items("add_to", len, &[x.at(), y.at(), call.fault()], &[low, high, period as u32])
}
