//! `gelu(x)`: see [`crate::spec::gelu`].

use super::call::{Call, words};
use super::device::Device;
use super::elements::{bytes, in_place};
use crate::reference::Reference;
use crate::spec::{Backend, NumericError, Op};

pub(super) fn gelu(device: &Device, x: &mut [f32]) -> Result<(), NumericError> {
    let part = |_: usize, x: &mut [f32]| {
        let call = Call::new(device, Op::Gelu)?;
        let buf = call.upload(x)?;
        call.launch_items("gelu_all", x.len(), &[buf.at(), call.fault()], &words(x.len()))?;
        call.finish(&mut [(&buf, bytes(x))])
    };
    in_place(device, Op::Gelu, x, device.most_words, part, |x| Reference.gelu(x))
}
