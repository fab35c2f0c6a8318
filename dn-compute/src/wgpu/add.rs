//! Element-wise addition: see [`crate::spec::add`].

use super::call::{Buf, Call};
use super::device::Gpu;
use super::elements::{bytes, in_place};
use super::kernels::Kernel;
use crate::reference::Reference;
use crate::spec::{Backend, NumericError, Op, add::check_add_shape};

pub(super) async fn add(gpu: &Gpu, x: &mut [f32], y: &[f32]) -> Result<(), NumericError> {
    check_add_shape(x, y)?;
    // Whole rows of `y`, or pieces of the one row there is.
    let step = if x.len() == y.len() { gpu.most_words } else { (gpu.most_words / y.len()).max(1) * y.len() };
    let part = async |at: usize, x: &mut [f32]| {
        let y = if at + x.len() <= y.len() { &y[at..at + x.len()] } else { y };
        let mut call = Call::new(gpu, Op::Add)?;
        let (bx, by) = (call.upload(x), call.upload(y));
        record(&mut call, &bx, &by, x.len(), y.len());
        call.finish(&mut [(&bx, bytes(x))], false).await
    };
    in_place(gpu, Op::Add, x, step, part, |x| Reference.add(x, y)).await
}

/// Adds `y` to `len` elements of `x`, over and over where it is shorter (`period`).
pub(super) fn record(call: &mut Call<'_>, x: &Buf, y: &Buf, len: usize, period: usize) {
    let fault = call.fault();
    call.dispatch_items(Kernel::Add, &[x, y, &fault], &[len as u32, period as u32, 0, 0], len);
}
