//! `silu(gate) * up`: see [`crate::spec::silu`].

use super::call::{Call, words};
use super::device::{Buf, Device};
use super::elements::{bytes, in_place};
use crate::reference::Reference;
use crate::spec::{Backend, NumericError, Op, silu::check_silu_mul_shape};

pub(super) fn silu_mul(device: &Device, gate: &mut [f32], up: &[f32]) -> Result<(), NumericError> {
    check_silu_mul_shape(gate, up)?;
    let part = |at: usize, gate: &mut [f32]| {
        let call = Call::new(device, Op::SiluMul)?;
        let (bg, bu) = (call.upload(gate)?, call.upload(&up[at..at + gate.len()])?);
        record(&call, &bg, &bu, gate.len())?;
        call.finish(&mut [(&bg, bytes(gate))])
    };
    in_place(device, Op::SiluMul, gate, device.most_words, part, |gate| Reference.silu_mul(gate, up))
}

/// `gate = silu(gate) * up`, of `len` elements.
pub(super) fn record(call: &Call<'_>, gate: &Buf, up: &Buf, len: usize) -> Result<(), NumericError> {
    call.launch_items("silu_mul", len, &[gate.at(), up.at(), call.fault()], &words(len))
}
