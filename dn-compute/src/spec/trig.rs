//! Logarithm, power and sine in fixed point, for the rope table. Integers only: the same on every machine.
//!
//! `Qn` is a number times `2^n`. All divisions and shifts round down.

/// `2^64 / (2 * pi)`, rounded down.
pub const INV_TWO_PI_Q64: u64 = 0x28be_60db_9391_054a;
/// `pi / 2` in Q62, rounded down.
pub const HALF_PI_Q62: u64 = 0x6487_ed51_10b4_611a;
/// `log2(e)` in Q60, rounded down.
pub const LOG2_E_Q60: u64 = 0x1715_4765_2b82_fe17;

const ONE_Q62: u64 = 1 << 62;

fn mul_q62(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> 62) as u64
}

/// `log2(v)` in Q56 for a finite `v >= 1`, bit by bit: square, and note whether the square passed 2.
pub fn log2_q56(v: f32) -> u64 {
    let (mantissa, exponent) = super::float::split(v);
    let mut m = u64::from(mantissa) << 39; // Q62 in [1, 2)
    let mut log = (exponent + 23) as u64;
    for _ in 0..56 {
        m = mul_q62(m, m);
        log <<= 1;
        if m >= 2 * ONE_Q62 {
            m >>= 1;
            log |= 1;
        }
    }
    log
}

/// `2^(2^-k)` in Q62 for `k` from 1 on.
static ROOTS: [u64; 56] = {
    let (mut roots, mut root, mut k) = ([0; 56], 2 * ONE_Q62, 0);
    while k < roots.len() {
        root = ((root as u128) << 62).isqrt() as u64;
        roots[k] = root;
        k += 1;
    }
    roots
};

/// `2^-x` for `x` in Q56, as a Q62 number `p` in `[1, 2)` and a shift `n`: `2^-x = p * 2^-n`.
///
/// The factors `2^(2^-k)` come from repeated integer square roots of 2.
pub fn exp2_neg(x: u64) -> (u64, u32) {
    let (whole, fraction) = ((x >> 56) as u32, x & ((1 << 56) - 1));
    if fraction == 0 {
        return (ONE_Q62, whole);
    }
    let g = (1u64 << 56) - fraction; // 2^-fraction = 2^g / 2
    let mut p = ONE_Q62;
    for (bit, root) in (0..56).rev().zip(&ROOTS) {
        if (g >> bit) & 1 == 1 {
            p = mul_q62(p, *root);
        }
    }
    (p, whole + 1)
}

/// `sin(r * pi / 2)` in Q62 for `r` in Q62, `0 <= r <= 1`: thirteen terms of the series, nested.
fn sine_of_quarter(r: u64) -> u64 {
    let a = mul_q62(r, HALF_PI_Q62);
    let square = mul_q62(a, a); // at most 2.47 in Q62: below 2^64
    let mut t = ONE_Q62;
    for k in (1..=13).rev() {
        t = ONE_Q62 - mul_q62(square, t) / (2 * k * (2 * k + 1));
    }
    mul_q62(a, t)
}

/// Sine and cosine of a fraction of a full turn in Q64, both rounded to f32 once.
pub fn sin_cos(turn: u64) -> (f32, f32) {
    let r = turn & (ONE_Q62 - 1);
    let (s, c) = (sine_of_quarter(r) as i64, sine_of_quarter(ONE_Q62 - r) as i64);
    let (s, c) = match turn >> 62 {
        0 => (s, c),
        1 => (c, -s),
        2 => (-s, -c),
        _ => (-c, s),
    };
    (super::float::finish(s, -62), super::float::finish(c, -62))
}

/// `log2(e) / sqrt(d)` rounded to f32: the scale of attention scores for heads of `d` values.
pub fn score_scale(d: usize) -> f32 {
    let square = u128::from(LOG2_E_Q60) * u128::from(LOG2_E_Q60) / d as u128;
    super::float::finish(square.isqrt() as i64, -60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithm_and_power_are_right_to_many_bits() {
        for v in [1.0f32, 1.5, 2.0, 10_000.0, 500_000.0, 1e6, 8192.0] {
            let found = log2_q56(v) as f64 / (1u64 << 56) as f64;
            assert!((found - f64::from(v).log2()).abs() < 1e-14, "{v}");
        }
        for i in 0..1000u64 {
            let x = i * ((1 << 56) / 47) + i;
            let (p, n) = exp2_neg(x);
            let found = p as f64 / ONE_Q62 as f64 * 2f64.powi(-(n as i32));
            let exact = (-(x as f64) / (1u64 << 56) as f64).exp2();
            assert!((found / exact - 1.0).abs() < 1e-14, "{i}");
        }
    }

    #[test]
    fn sine_and_cosine_are_nearest_f32() {
        for i in 0..20_000u64 {
            let turn = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let angle = turn as f64 / 2f64.powi(64) * std::f64::consts::TAU;
            let (s, c) = sin_cos(turn);
            assert!((f64::from(s) - angle.sin()).abs() <= 3.0e-8, "{i}");
            assert!((f64::from(c) - angle.cos()).abs() <= 3.0e-8, "{i}");
        }
        assert_eq!(sin_cos(0), (0.0, 1.0));
        assert_eq!(sin_cos(1 << 62), (1.0, 0.0));
        assert_eq!(sin_cos(2 << 62), (0.0, -1.0));
        assert_eq!(sin_cos(3 << 62), (-1.0, 0.0));
    }

    #[test]
    fn score_scale_is_log2_e_over_root_d() {
        for d in [1usize, 2, 32, 64, 80, 96, 128, 256] {
            let exact = std::f64::consts::LOG2_E / (d as f64).sqrt();
            assert_eq!(score_scale(d), exact as f32, "{d}");
        }
    }
}
