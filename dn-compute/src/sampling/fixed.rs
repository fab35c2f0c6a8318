//! Logits in fixed point, and the weights that a softmax gives them.

use std::sync::LazyLock;

use crate::spec::trig::exp2_neg;

/// `RNE(log2(e) * 2^32)`.
pub(super) const LOG2E_Q32: u64 = 6_196_328_019;
/// Logits in fixed point are held to this magnitude.
pub(crate) const MAX_FIXED: i64 = 1 << 44;
/// Bits of the weight of the best token.
pub(crate) const WEIGHT_BITS: u32 = 40;
/// One, in millionths.
pub(crate) const MICRO: u32 = 1_000_000;
/// Takes no part. No logit in fixed point is as low.
pub(crate) const EXCLUDED: i64 = i64::MIN;

/// `RNE(l * 2^24)`, held to the limits.
///
/// The product is exact in f64. Adding `1.5 * 2^52` rounds it to an integer, which then stands in the low bits: a form
/// that compilers turn into vector instructions.
#[inline(always)]
pub(crate) fn to_fixed(logit: f32) -> i64 {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const LIMIT: f64 = MAX_FIXED as f64;
    let scaled = f64::from(logit) * f64::from(1 << 24);
    let held = if scaled < -LIMIT { -LIMIT } else { scaled };
    let held = if held > LIMIT { LIMIT } else { held };
    (held + ROUND).to_bits() as i64 - ROUND.to_bits() as i64
}

/// `A`, `B` and `C`.
pub(super) static TABLES: LazyLock<[[u64; 256]; 3]> = LazyLock::new(|| {
    [8, 16, 24].map(|bits| {
        std::array::from_fn(|i| {
            // A Q56 argument and a Q62 power; the shift of a power above 1/2 is 0 or 1.
            let (p, n) = exp2_neg((i as u64) << (56 - bits));
            (p >> (62 - WEIGHT_BITS)) >> n
        })
    })
});

/// Weights at a temperature.
#[derive(Clone, Copy)]
pub(crate) struct Powers {
    /// `K`.
    scale: u64,
    /// From this distance below the best on, weights are 0.
    nothing: u64,
    tables: &'static [[u64; 256]; 3],
}

impl Powers {
    /// `temperature_micro` is not zero.
    pub(crate) fn new(temperature_micro: u32) -> Self {
        let scale = LOG2E_Q32 * u64::from(MICRO) * 256 / u64::from(temperature_micro);
        // The first distance with n > 40: the smallest `below` with `below * K >= 41 * 2^24 * 2^40`.
        let nothing = (u128::from(WEIGHT_BITS + 1) << 64).div_ceil(u128::from(scale));
        Self { scale, nothing: u64::try_from(nothing).unwrap_or(u64::MAX), tables: &TABLES }
    }

    /// `K`.
    #[cfg(all(feature = "engine", target_arch = "x86_64"))]
    pub(crate) const fn scale(&self) -> u64 {
        self.scale
    }

    /// The distance below the best from which on weights are 0.
    #[cfg(all(feature = "engine", any(test, target_arch = "x86_64")))]
    pub(crate) const fn nothing(&self) -> u64 {
        self.nothing
    }

    /// `A`, `B` and `C`.
    #[cfg(all(feature = "engine", target_arch = "x86_64"))]
    pub(crate) const fn tables(&self) -> &'static [[u64; 256]; 3] {
        self.tables
    }

    /// Whether `K`, and `2^12` times every distance at which a weight is not 0, are below `2^52`: at temperatures from about 0.001 to 2,000.
    #[cfg(all(feature = "engine", target_arch = "x86_64"))]
    pub(crate) const fn fits_52_bits(&self) -> bool {
        self.scale < 1 << 52 && self.nothing <= 1 << WEIGHT_BITS
    }

    /// The weight of a token whose logit is `below` the best, in units of `2^-24`.
    #[inline]
    pub(super) fn weight(&self, below: u64) -> u64 {
        if below >= self.nothing {
            return 0;
        }
        // Below `nothing`, the product is below 41 * 2^64.
        let x = ((u128::from(below) * u128::from(self.scale)) >> 40) as u64;
        let digit = |shift: u32| ((x >> shift) & 255) as usize;
        let [a, b, c] = self.tables;
        let product = |x: u64, y: u64| ((u128::from(x) * u128::from(y)) >> WEIGHT_BITS) as u64;
        product(product(a[digit(16)], b[digit(8)]), c[digit(0)]) >> (x >> 24)
    }

    /// The weight of a token with this logit where the best one's is `max`; none for an excluded one.
    #[inline]
    pub(crate) fn of(&self, max: i64, fixed: i64) -> u64 {
        // An excluded one is farther away than any weight reaches, or wraps to 2^63 and more.
        self.weight(max.wrapping_sub(fixed) as u64)
    }

    /// The farthest distance at which a weight is at least `least`, which is not above the best one's.
    #[cfg(feature = "engine")]
    pub(super) fn reach(&self, least: u64) -> u64 {
        let (mut near, mut far) = (0, self.nothing);
        while near + 1 < far {
            let middle = near + (far - near) / 2;
            if self.weight(middle) >= least { near = middle } else { far = middle }
        }
        near
    }
}
