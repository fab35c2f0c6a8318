//! Two to the power of a fixed-point number, in 32-bit integers.

/// Coefficients of the polynomial, highest first. They sum to 65,536, so both ends are exact.
pub const COEFFICIENTS: [u32; 4] = [900, 3386, 15_836, 45_414];

/// `2^(f / 65536)` in units of `2^-16`: from 65,536 to 131,071 for `f` in `0..65536`.
///
/// Error below `1.8 * 2^-16`. No product exceeds `65535 * 65536 + 32768 < 2^32`.
#[inline(always)]
pub fn exp2_q16(f: u32) -> u32 {
    let mut y = COEFFICIENTS[0];
    y = COEFFICIENTS[1] + ((f * y + 32_768) >> 16);
    y = COEFFICIENTS[2] + ((f * y + 32_768) >> 16);
    y = COEFFICIENTS[3] + ((f * y + 32_768) >> 16);
    65_536 + ((f * y + 32_768) >> 16)
}

/// `y / 2^n` rounded to nearest, ties to even, for `y < 2^31`; zero from `n = 32` on.
#[inline(always)]
pub fn shift_round_u32(y: u32, n: u32) -> u32 {
    // n = 0 must not shift by 32 below, n > 31 not at all.
    let n = n.min(31);
    let half = (1u32 << n) >> 1;
    let odd = (y >> n) & 1;
    // Adding half - 1 + odd rounds up above the middle, and at the middle only from an odd quotient.
    if n == 0 { y } else { (y + (half - 1) + odd) >> n }
}

/// `x / 2^n` rounded to nearest, ties to even, for `|x| < 2^62`; zero from `n = 63` on.
#[inline(always)]
pub fn shift_round_i64(x: i64, n: u32) -> i64 {
    match n {
        0 => x,
        1..=62 => (x + ((1i64 << (n - 1)) - 1) + ((x >> n) & 1)) >> n,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_to_the_real_power_everywhere_and_monotone() {
        let mut last = 0;
        for f in 0..65_536u32 {
            let y = exp2_q16(f);
            let exact = 65_536.0 * (f64::from(f) / 65_536.0).exp2();
            assert!((f64::from(y) - exact).abs() < 1.8, "{f}: {y} against {exact}");
            assert!(y >= last && (65_536..131_072).contains(&y));
            last = y;
        }
    }

    #[test]
    fn shifts_round_ties_to_even() {
        for (x, n, want) in [(5, 1, 2), (7, 1, 4), (6, 2, 2), (10, 2, 2), (11, 2, 3), (0, 9, 0), (9, 0, 9)] {
            assert_eq!(shift_round_u32(x, n), want, "{x} >> {n}");
            assert_eq!(shift_round_i64(i64::from(x), n), i64::from(want), "{x} >> {n}");
            assert_eq!(shift_round_i64(-i64::from(x), n), -i64::from(want), "-{x} >> {n}");
        }
        assert_eq!(shift_round_u32(131_071, 18), 0);
        assert_eq!(shift_round_u32(131_071, 17), 1);
        assert_eq!(shift_round_u32(131_071, 40), 0);
        assert_eq!(shift_round_i64(-(1 << 52), 63), 0);
    }
}
