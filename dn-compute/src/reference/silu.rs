//! `silu(gate) * up`: see [`crate::spec::silu`].

use crate::spec::{NumericError, Op, quantise::no_overflow, silu};

pub(super) fn silu_mul(gate: &mut [f32], up: &[f32]) -> Result<(), NumericError> {
    silu::check_silu_mul(gate, up)?;
    for (g, u) in gate.iter_mut().zip(up) {
        *g = silu::silu_mul(*g, *u);
    }
    no_overflow(Op::SiluMul, gate)
}
