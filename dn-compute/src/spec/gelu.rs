//! `gelu(x) = x * Phi(x)`, `Phi` the normal distribution: the exact form, not the one by a hyperbolic tangent.
//!
//! With `a = min(|x|, 6)` and the polynomial `P(a) = 1 + c1 a + .. + c7 a^7` by Horner's rule in f32 (`mul`, `add`),
//! `z = RNE(P * 2^16)` and `-z = 65536 * i + f`, `0 <= f < 65536`: `Q = exp2_q16(f) * 2^(i - 16)` approximates `Phi(-a)` and
//! is exact in f32. `t = mul(a, Q)`, or 0 where `|x| >= 6`; the result is `sub(max(x, 0), t)`.
//!
//! `P` is within 5.6e-6 of `-log2 Phi(-a)` up to `a = 4.5` and within 1.6e-5 up to 6, where `P < 30`. With the rounding of
//! `z` and the error of [`exp2_q16`] the relative error of `Q` stays below `4e-5`; since `a * Phi(-a) < 0.17` and
//! `6 * Phi(-6) < 6e-9`, the absolute error of the result is below `7e-6` and `2^-23 |x|` more from the subtraction.

use super::error::{NumericError, Op};
use super::exp2::exp2_q16;
use super::float::{add, flush, mul, pow2, sub};
use super::quantise::all_finite;

/// `c7` to `c1`, and `c0 = 1`: so `gelu(x)` is near `x / 2` with the full precision of [`exp2_q16`]'s exact ends.
pub const COEFFICIENTS: [f32; 8] = [
    f32::from_bits(0x35ee_34f5),
    f32::from_bits(0xb87d_527b),
    f32::from_bits(0x3a71_6f8c),
    f32::from_bits(0xbc0a_c571),
    f32::from_bits(0x3d5c_b172),
    f32::from_bits(0x3eea_c6f0),
    f32::from_bits(0x3f93_5af0),
    1.0,
];

/// From this magnitude on the result is `max(x, 0)`.
pub const CUT: f32 = 6.0;

/// Checks that every input is finite.
///
/// # Errors
/// An element that is not.
pub fn check_gelu(x: &[f32]) -> Result<(), NumericError> {
    all_finite(Op::Gelu, "x", x)
}

/// `Phi(-a)` by the recipe above, for `0 <= a <= 6`.
#[inline(always)]
pub fn upper_tail(a: f32) -> f32 {
    let [first, rest @ ..] = COEFFICIENTS;
    let p = rest.iter().fold(first, |p, c| add(mul(p, a), *c));
    let z = (p * 65_536.0).round_ties_even() as i32;
    let (i, f) = ((-z) >> 16, ((-z) & 0xffff) as u32);
    exp2_q16(f) as f32 * pow2(i - 16) as f32
}

/// `gelu(x)` of a finite number.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    let x = flush(x);
    let a = x.abs();
    let t = if a >= CUT { 0.0 } else { mul(a, upper_tail(a)) };
    sub(x.max(0.0), t)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Phi(-a)` in f64: a continued fraction for the tail, a series near zero.
    fn exact_tail(a: f64) -> f64 {
        let density = (-a * a / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        if a < 2.5 {
            let (mut term, mut sum) = (a, a);
            for n in 1..80 {
                term *= a * a / f64::from(2 * n + 1);
                sum += term;
            }
            0.5 - density * sum
        } else {
            density / (1..100).rev().fold(a, |f, n| a + f64::from(n) / f)
        }
    }

    #[test]
    fn the_yardstick_is_right() {
        for (a, tail) in [(0.0, 0.5), (1.0, 0.158_655_253_931_457_05), (3.0, 1.349_898_031_630_094_6e-3)] {
            assert!((exact_tail(a) - tail).abs() < 1e-15 * 100.0, "{a}");
        }
        assert!((exact_tail(2.499_999_9) - exact_tail(2.5)).abs() < 3e-9);
        assert!((exact_tail(6.0) / 9.865_876_450_376_98e-10 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn close_to_the_real_function() {
        let (mut worst, mut worst_tail) = (0f64, 0f64);
        for i in 0..200_000u32 {
            let a = i as f32 * 4e-5;
            let tail = exact_tail(f64::from(a));
            for x in [a, -a] {
                let exact = f64::from(x).max(0.0) - f64::from(a) * tail;
                let error = (f64::from(gelu(x)) - exact).abs();
                worst = worst.max(error - f64::from(a) * 2f64.powi(-23));
            }
            if a < 6.0 {
                worst_tail = worst_tail.max((f64::from(upper_tail(a)) / tail - 1.0).abs());
            }
        }
        assert!(worst < 7e-6, "{worst:e}");
        assert!(worst_tail < 4e-5, "{worst_tail:e}");
    }

    #[test]
    fn ends_and_signs() {
        assert_eq!(gelu(0.0).to_bits(), 0);
        assert_eq!(gelu(-0.0).to_bits(), 0);
        assert_eq!(gelu(f32::from_bits(1)).to_bits(), 0);
        assert_eq!(gelu(f32::from_bits(0x8000_0001)).to_bits(), 0);
        assert_eq!(gelu(6.0), 6.0);
        assert_eq!(gelu(-6.0).to_bits(), 0);
        assert_eq!(gelu(f32::MAX), f32::MAX);
        assert_eq!(gelu(f32::MIN).to_bits(), 0);
        assert_eq!(gelu(2f32.powi(-60)), 2f32.powi(-61));
    }
}
