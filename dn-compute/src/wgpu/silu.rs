//! `silu(gate) * up`: see [`crate::spec::silu`].

use super::call::{Buf, Call};
use super::device::Gpu;
use super::elements::{bytes, in_place};
use super::kernels::Kernel;
use crate::reference::Reference;
use crate::spec::{Backend, NumericError, Op, silu::check_silu_mul_shape};

pub(super) async fn silu_mul(gpu: &Gpu, gate: &mut [f32], up: &[f32]) -> Result<(), NumericError> {
    check_silu_mul_shape(gate, up)?;
    let part = async |at: usize, gate: &mut [f32]| {
        let mut call = Call::new(gpu, Op::SiluMul)?;
        let (bg, bu) = (call.upload(gate), call.upload(&up[at..at + gate.len()]));
        record(&mut call, &bg, &bu, gate.len());
        call.finish(&mut [(&bg, bytes(gate))], false).await
    };
    in_place(gpu, Op::SiluMul, gate, gpu.most_words, part, |gate| Reference.silu_mul(gate, up)).await
}

/// `gate = silu(gate) * up`, of `len` elements.
pub(super) fn record(call: &mut Call<'_>, gate: &Buf, up: &Buf, len: usize) {
    let fault = call.fault();
    call.dispatch_items(Kernel::Silu, &[gate, up, &fault], &[len as u32, 0, 0, 0], len);
}
