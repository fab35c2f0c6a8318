//! `gelu(x)`: see [`crate::spec::gelu`].

use super::call::Call;
use super::device::Gpu;
use super::elements::{bytes, in_place};
use super::kernels::Kernel;
use crate::reference::Reference;
use crate::spec::{Backend, NumericError, Op};

pub(super) async fn gelu(gpu: &Gpu, x: &mut [f32]) -> Result<(), NumericError> {
    let part = async |_: usize, x: &mut [f32]| {
        let mut call = Call::new(gpu, Op::Gelu)?;
        let (bx, fault) = (call.upload(x), call.fault());
        call.dispatch_items(Kernel::Gelu, &[&bx, &fault], &[x.len() as u32, 0, 0, 0], x.len());
        call.finish(&mut [(&bx, bytes(x))], false).await
    };
    in_place(gpu, Op::Gelu, x, gpu.most_words, part, |x| Reference.gelu(x)).await
}
