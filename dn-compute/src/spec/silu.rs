//! `silu(g) * u`, `silu(g) = g * sigmoid(g)`.
//!
//! With `z = RNE(mul(min(|g|, 128), LOG2E) * 2^16)` (an f32 product, then an integer) and `-z = 65536 * i + f`,
//! `0 <= f < 65536`: `E = exp2_q16(f) * 2^(i - 16)` approximates `exp(-|g|)` and is exact in f32; `E = 0` where
//! `z >= 100 * 2^16`. Then `s = recip(add(1, E))`, `sigmoid = s` for `g >= 0` and `mul(E, s)` below, and the
//! result is `mul(mul(g, sigmoid), u)`.

use super::error::{NumericError, Op};
use super::exp2::exp2_q16;
use super::float::{add, flush, mul, pow2, recip};
use super::linear::check;
use super::quantise::all_finite;

/// `log2(e)` rounded to f32.
pub const LOG2_E: f32 = f32::from_bits(0x3fb8_aa3b);

/// From here on `exp(-|g|)` counts as zero.
pub const MAX_Z: i32 = 100 << 16;

/// Checks equal lengths.
///
/// # Errors
/// Lengths that differ.
pub fn check_silu_mul_shape(gate: &[f32], up: &[f32]) -> Result<(), NumericError> {
    check(Op::SiluMul, "elements of up", gate.len(), up.len())
}

/// Checks equal lengths and finite inputs.
///
/// # Errors
/// Lengths that differ; an element that is not finite.
pub fn check_silu_mul(gate: &[f32], up: &[f32]) -> Result<(), NumericError> {
    check_silu_mul_shape(gate, up)?;
    all_finite(Op::SiluMul, "gate", gate)?;
    all_finite(Op::SiluMul, "up", up)
}

/// `exp(-|g|)` by the recipe above: 0, or in `[2^-100, 1]`.
#[inline(always)]
pub fn exp_neg_abs(g: f32) -> f32 {
    let z = (mul(g.abs().min(128.0), LOG2_E) * 65_536.0).round_ties_even() as i32;
    let (i, f) = ((-z) >> 16, ((-z) & 0xffff) as u32);
    if z >= MAX_Z { 0.0 } else { exp2_q16(f) as f32 * pow2(i - 16) as f32 }
}

/// `sigmoid(g)`.
#[inline(always)]
pub fn sigmoid(g: f32) -> f32 {
    let e = exp_neg_abs(g);
    let s = recip(add(1.0, e));
    if flush(g) >= 0.0 { s } else { mul(e, s) }
}

/// `silu(g) * u`; an infinity where the product overflows.
#[inline(always)]
pub fn silu_mul(g: f32, u: f32) -> f32 {
    mul(mul(g, sigmoid(g)), u)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_to_the_real_function() {
        for i in -40_000..40_000 {
            let g = i as f32 * 1e-3;
            let exact = f64::from(g) / (1.0 + (-f64::from(g)).exp());
            let found = f64::from(silu_mul(g, 1.0));
            assert!((found - exact).abs() <= 3e-5 * exact.abs() + 1e-10, "{g}: {found} against {exact}");
        }
        assert_eq!(silu_mul(0.0, 5.0).to_bits(), 0);
        assert_eq!(silu_mul(-0.0, 5.0).to_bits(), 0);
        assert_eq!(silu_mul(1e30, 2.0), 2e30);
        assert_eq!(silu_mul(-1e30, 1.0).to_bits(), 0);
        assert_eq!(silu_mul(-70.0, 1.0).to_bits(), 0);
    }
}
