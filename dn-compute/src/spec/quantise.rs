//! Activations to 16-bit integers under one power of two per vector.

use super::error::{NumericError, Op};
use super::float::flush;
use super::limits::{MAX_ACTIVATION, MAX_EXPONENT, MIN_EXPONENT};

/// The exponent of a zero vector: below that of any other, so that it never sets a maximum.
pub const ZERO_EXPONENT: i32 = -128;

/// Exponent `et` for a vector whose largest magnitude is `amax` (finite, below `2^100`).
///
/// With `e = floor(log2(amax))`: `e - 14`, or `e - 13` where `RNE(amax * 2^(14 - e))` exceeds 32,639. The smallest
/// exponent, thus, under which no element leaves `-32639..=32639`: nothing is ever clamped. Below `2^-100`
/// the vector is zero and the exponent [`ZERO_EXPONENT`].
#[inline(always)]
pub fn exponent(amax: f32) -> i32 {
    let e = (amax.to_bits() >> 23) as i32 - 127;
    if e < MIN_EXPONENT {
        return ZERO_EXPONENT;
    }
    // The significand scaled to [2^14, 2^15) is exact in f32.
    let top = f32::from_bits((amax.to_bits() & 0x7f_ffff) | ((127 + 14) << 23));
    if top.round_ties_even() > MAX_ACTIVATION as f32 { e - 13 } else { e - 14 }
}

/// Largest magnitude of a vector, subnormal elements as zero.
///
/// # Errors
/// The first element that is not finite, or else the first of `2^100` or more.
#[inline(always)]
pub fn largest(op: Op, input: &'static str, x: &[f32]) -> Result<f32, NumericError> {
    let bits = x.iter().fold(0u32, |m, v| m.max(v.to_bits() & 0x7fff_ffff));
    if bits >= ((127 + MAX_EXPONENT) as u32) << 23 {
        return Err(locate(op, input, x));
    }
    Ok(flush(f32::from_bits(bits)))
}

/// The error for a vector that [`largest`] refuses.
#[cold]
fn locate(op: Op, input: &'static str, x: &[f32]) -> NumericError {
    if let Some(index) = x.iter().position(|v| !v.is_finite()) {
        return NumericError::NonFinite { op, input, index };
    }
    let limit = f32::from_bits(((127 + MAX_EXPONENT) as u32) << 23);
    let index = x.iter().position(|v| v.abs() >= limit).unwrap_or(0);
    NumericError::Range { op, input, index }
}

/// Adds `base` to the index that an error names: from a vector to the slice it came from.
pub fn rebase(error: NumericError, base: usize) -> NumericError {
    match error {
        NumericError::NonFinite { op, input, index } => {
            NumericError::NonFinite { op, input, index: index + base }
        }
        NumericError::Range { op, input, index } => NumericError::Range { op, input, index: index + base },
        NumericError::Overflow { op, index } => NumericError::Overflow { op, index: index + base },
        other => other,
    }
}

/// Quantises one vector: `x[i] ~ out[i] * 2^et`, `out[i] = RNE(x[i] * 2^-et)`; returns `et`.
///
/// # Errors
/// As [`largest`].
#[inline(always)]
pub fn quantise(op: Op, input: &'static str, x: &[f32], out: &mut [i16]) -> Result<i32, NumericError> {
    let et = exponent(largest(op, input, x)?);
    if et == ZERO_EXPONENT {
        out.fill(0);
        return Ok(et);
    }
    // 2^-et is a normal f32: et is between -114 and 87. A product that underflows rounds to zero either way.
    let factor = f32::from_bits(((127 - et) as u32) << 23);
    for (a, v) in out.iter_mut().zip(x) {
        *a = (v * factor).round_ties_even() as i16;
    }
    Ok(et)
}

/// Index of the first element that is not finite.
#[inline(always)]
pub fn non_finite(x: &[f32]) -> Option<usize> {
    let bits = x.iter().fold(0u32, |m, v| m.max(v.to_bits() & 0x7fff_ffff));
    if bits < 0x7f80_0000 { None } else { x.iter().position(|v| !v.is_finite()) }
}

/// Checks that every element is finite.
///
/// # Errors
/// [`NumericError::NonFinite`] naming the first element that is not.
pub fn all_finite(op: Op, input: &'static str, x: &[f32]) -> Result<(), NumericError> {
    match non_finite(x) {
        None => Ok(()),
        Some(index) => Err(NumericError::NonFinite { op, input, index }),
    }
}

/// Checks that no output overflowed.
///
/// # Errors
/// [`NumericError::Overflow`] naming the first output that did.
#[inline(always)]
pub fn no_overflow(op: Op, out: &[f32]) -> Result<(), NumericError> {
    match non_finite(out) {
        None => Ok(()),
        Some(index) => Err(NumericError::Overflow { op, index }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn q(x: &[f32]) -> (Vec<i16>, i32) {
        let mut out = vec![0; x.len()];
        let et = quantise(Op::Linear, "x", x, &mut out).expect("in range");
        (out, et)
    }

    #[test]
    fn the_exponent_is_the_smallest_that_fits() {
        assert_eq!(q(&[1.0, -0.5, 0.0]), (vec![16_384, -8192, 0], -14));
        assert_eq!(q(&[32_639.0]), (vec![32_639], 0));
        assert_eq!(q(&[32_639.5]), (vec![16_320], 1), "a tie to 32640 needs one more");
        assert_eq!(q(&[32_639.49]), (vec![32_639], 0));
        assert_eq!(q(&[32_640.0, 1.0, 3.0]), (vec![16_320, 0, 2], 1), "ties to even");
    }

    #[test]
    fn zero_and_tiny_vectors_are_zero() {
        assert_eq!(q(&[0.0, -0.0]), (vec![0, 0], ZERO_EXPONENT));
        let below = f32::from_bits((27 << 23) - 1); // just below 2^-100
        assert_eq!(q(&[below, f32::from_bits(1)]), (vec![0, 0], ZERO_EXPONENT));
        assert_eq!(q(&[2f32.powi(-100)]), (vec![16_384], -114));
    }

    #[test]
    fn what_cannot_be_quantised_is_named() {
        let mut out = [0; 3];
        let e = |x: &[f32], out: &mut [i16]| quantise(Op::Attention, "q", x, out).unwrap_err();
        assert_eq!(
            e(&[1.0, 2f32.powi(100), f32::NAN], &mut out),
            NumericError::NonFinite { op: Op::Attention, input: "q", index: 2 }
        );
        assert_eq!(
            e(&[1.0, -2f32.powi(100), 2f32.powi(101)], &mut out),
            NumericError::Range { op: Op::Attention, input: "q", index: 1 }
        );
        assert_eq!(
            e(&[f32::NEG_INFINITY], &mut out),
            NumericError::NonFinite { op: Op::Attention, input: "q", index: 0 }
        );
    }
}
