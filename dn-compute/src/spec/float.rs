//! The closed set of f32 arithmetic: add, subtract, multiply, scaling by powers of two, and the two recipes
//! (reciprocal, reciprocal square root) that are defined over integers.
//!
//! Every function reads a subnormal operand as `+0` and returns `+0` where the result is zero of either sign
//! or its magnitude is below `2^-126`. Addition, subtraction and multiplication are those of IEEE 754,
//! rounded to nearest, ties to even, never contracted. An overflow gives an infinity, which the operation
//! that called turns into a typed error: no operation returns one.

/// `x`, with subnormal numbers and `-0` replaced by `+0`.
#[inline(always)]
pub fn flush(x: f32) -> f32 {
    // A NaN compares false and passes through; operations refuse it at their inputs.
    if x.abs() < f32::MIN_POSITIVE { 0.0 } else { x }
}

/// `a + b`, flushed.
#[inline(always)]
pub fn add(a: f32, b: f32) -> f32 {
    flush(flush(a) + flush(b))
}

/// `a - b`, flushed.
#[inline(always)]
pub fn sub(a: f32, b: f32) -> f32 {
    flush(flush(a) - flush(b))
}

/// `a * b`, flushed.
///
/// The product is first rounded as IEEE 754 rounds it, gradual underflow included, and then flushed; so the
/// one product range that rounds up to `2^-126` survives.
#[inline(always)]
pub fn mul(a: f32, b: f32) -> f32 {
    flush(flush(a) * flush(b))
}

/// `2^e` as an f64, for `-1022 <= e <= 1023`.
#[inline(always)]
pub fn pow2(e: i32) -> f64 {
    f64::from_bits(((1023 + e) as u64) << 52)
}

/// `v * 2^e`: exact where the result is a normal f32; `+0` where its magnitude is below `2^-126`; an infinity
/// where it is `2^128` or more.
///
/// Needs `|v|` to be zero or in `[2^-64, 2^64]` and `-700 <= e <= 700`, so that the f64 product is exact.
#[inline(always)]
pub fn scale(v: f32, e: i32) -> f32 {
    flush_wide(f64::from(v) * pow2(e))
}

/// The f32 equal to `v`, a number of at most 24 significant bits: below `2^-126` is `+0`.
#[inline(always)]
pub fn flush_wide(v: f64) -> f32 {
    // Compared before the conversion: the conversion would round a subnormal up to 2^-126 now and then.
    if v.abs() < f64::from(f32::MIN_POSITIVE) { 0.0 } else { v as f32 }
}

/// An exact sum to an f32: `s` rounded to 24 significant bits, nearest even, then times `2^e` as [`scale`] does.
#[inline(always)]
pub fn finish(s: i64, e: i32) -> f32 {
    scale(s as f32, e)
}

/// Mantissa in `[2^23, 2^24)` and exponent of a positive normal number: `v = mantissa * 2^exponent`.
pub(crate) fn split(v: f32) -> (u32, i32) {
    let bits = v.to_bits();
    ((bits & 0x7f_ffff) | 0x80_0000, ((bits >> 23) & 255) as i32 - 150)
}

/// `1 / d` rounded to nearest, for a positive normal `d`.
///
/// With `d = D * 2^x`, `D` in `[2^23, 2^24)`: `RNE(2^47 / D) * 2^(-47 - x)`. A tie cannot occur. A backend may
/// use an IEEE division, which is the same function.
pub fn recip(d: f32) -> f32 {
    let (mantissa, x) = split(d);
    let m = u64::from(mantissa);
    let (q, r) = ((1u64 << 47) / m, (1u64 << 47) % m);
    let q = q + u64::from(2 * r > m);
    scale(q as f32, -47 - x)
}

/// `1 / sqrt(v)` rounded to nearest, for a positive normal `v`.
///
/// With `v = M * 2^x`, `x` even and `M` in `[2^24, 2^26)`: `RNE(2^36 / sqrt(M)) * 2^(-36 - x / 2)`. A tie cannot
/// occur: it would make the square of an odd number divide a power of two.
pub fn rsqrt(v: f32) -> f32 {
    let (mantissa, x) = split(v);
    let up = if x % 2 == 0 { 2 } else { 1 };
    let (m, x) = (u128::from(mantissa) << up, x - up);
    let floor = ((1u128 << 72) / m).isqrt();
    let odd = 2 * floor + 1; // twice the middle between floor and floor + 1
    let r = floor + u128::from(odd * odd * m < 1 << 74);
    scale(r as f32, -36 - x / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recip_is_ieee_division() {
        // Every mantissa at exponent 0; exponents only shift.
        for bits in (0x3f80_0000u32..0x4000_0000).step_by(3) {
            let d = f32::from_bits(bits);
            assert_eq!(recip(d).to_bits(), (1.0 / d).to_bits(), "{d}");
        }
        assert_eq!(recip(f32::from_bits(0x3fff_ffff)), 1.0 / f32::from_bits(0x3fff_ffff));
        assert_eq!(recip(3.0e-20), 1.0 / 3.0e-20);
    }

    #[test]
    fn rsqrt_is_nearest() {
        for step in 0..40_000u32 {
            let v = f32::from_bits(0x0080_0000 + step * 53_000);
            let r = f64::from(rsqrt(v));
            let ulp = f64::from(f32::from_bits((r as f32).to_bits() + 1)) - r;
            // v * (r +- ulp/2)^2 must enclose 1; f64 has the room for all but near-ties.
            let (lo, hi) = (r - ulp * 0.500_001, r + ulp * 0.500_001);
            assert!(f64::from(v) * lo * lo < 1.0 && f64::from(v) * hi * hi > 1.0, "{v}");
        }
        assert_eq!(rsqrt(1.0), 1.0);
        assert_eq!(rsqrt(4.0), 0.5);
        assert_eq!(rsqrt(0.25), 2.0);
    }

    #[test]
    fn results_below_the_normal_range_are_plus_zero() {
        let tiny = f32::MIN_POSITIVE;
        assert_eq!(mul(tiny, 0.5).to_bits(), 0);
        assert_eq!(mul(-tiny, 0.25).to_bits(), 0);
        assert_eq!(add(-0.0, -0.0).to_bits(), 0);
        assert_eq!(sub(tiny * 1.5, tiny).to_bits(), 0);
        assert_eq!(mul(f32::from_bits(1), 1e30).to_bits(), 0, "a subnormal operand is zero");
        // One ulp below 2^-126 is flushed by scale, which never rounds up.
        assert_eq!(finish(0xff_ffff, -150).to_bits(), 0);
        assert_eq!(finish(0x100_0000, -150), tiny);
        assert_eq!(finish(-3, 0), -3.0);
        assert_eq!(finish((1 << 40) + 1, -40), 1.0);
    }
}
