//! The two arithmetics of one algorithm: the chain's fixed point and floating point.

use std::fmt::Debug;
use std::ops::{Add, Mul, Sub};

use fixed::types::{I32F32, I64F64};

/// Steepness and range of the liquid alpha.
#[derive(Debug, Clone, Copy)]
pub(super) struct Liquid<N> {
    pub(super) low: N,
    pub(super) high: N,
    pub(super) steepness: f64,
}

impl<N: Number> Liquid<N> {
    /// The rate of a pair: the further the weight is above consensus when it buys, or below the bond when it sells, the higher.
    #[inline]
    pub(super) fn rate(&self, weight: N, bond: N, consensus: N) -> N {
        let difference = if weight >= bond { weight - consensus } else { bond - weight };
        let difference = difference.higher(N::ZERO).lower(N::ONE);
        let rate = self.low + N::sigmoid(difference, self.steepness) * (self.high - self.low);
        rate.lower(self.high).higher(self.low)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for fixed::types::I32F32 {}
    impl Sealed for f64 {}
    impl Sealed for f32 {}
}

/// A number that Yuma can be computed with: [`I32F32`], the chain's, every division and product cut after 32 bits;
/// [`f64`], close to the formulas; [`f32`], the published simulator's, the fastest.
///
/// The bound between them: with up to six validators and miners whose weights are integers up to 16, dividends and incentives in `I32F32` are
/// within 2^-18 of those in `f64` over three epochs (a test); ties at the majority may fall on either side.
pub trait Number:
    sealed::Sealed
    + Copy
    + PartialOrd
    + Debug
    + Default
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + 'static
{
    /// Nothing.
    const ZERO: Self;
    /// The whole.
    const ONE: Self;
    /// One half.
    const HALF: Self;
    /// The smallest above zero.
    const LEAST: Self;
    /// The largest sum of a validator's weights that can be divided by.
    const MAX_SUM: f64;
    /// What many numbers are divided by.
    type Divisor: Copy + Debug + Send + Sync;

    /// The number, cut to what the type holds; must be finite and of magnitude at most [`Self::MAX_SUM`].
    fn of(number: f64) -> Self;
    /// The number as an `f64`: exactly if it is below 2^21.
    fn to_f64(self) -> f64;
    /// Without its fraction.
    fn whole(self) -> Self;
    /// Prepares a division. Zero divides nothing: what it divides stays as it is, as in the chain.
    fn divisor(self) -> Self::Divisor;
    /// The quotient of a number that is not negative and at most 65,535 times the divisor.
    fn over(self, divisor: Self::Divisor) -> Self;
    /// Every stake ÷ their sum; `None` if the sum is beyond 2^63 in [`I32F32`], beyond what an `f64` holds else.
    fn shares(stake: &[f64]) -> Option<Vec<Self>>;
    /// 1 ÷ (1 + e^(−`steepness`·(`difference` − ½))), the exponent held within ±20.
    fn sigmoid(difference: Self, steepness: f64) -> Self;

    /// The number if `vote` is at least `least`, zero else.
    #[inline]
    fn when(self, vote: Self, least: Self) -> Self {
        if vote >= least { self } else { Self::ZERO }
    }

    /// The smaller of two.
    #[inline]
    fn lower(self, other: Self) -> Self {
        if other < self { other } else { self }
    }

    /// The larger of two.
    #[inline]
    fn higher(self, other: Self) -> Self {
        if other > self { other } else { self }
    }
}

/// Divides numbers of the chain; `bits` is 0 for a division by one.
#[derive(Debug, Clone, Copy)]
pub struct FixedDivisor {
    bits: u64,
    inverse: f64,
}

/// The bits of one.
const FIXED_ONE: f64 = 4_294_967_296.0;

impl Number for I32F32 {
    const ZERO: Self = Self::ZERO;
    const ONE: Self = Self::ONE;
    const HALF: Self = Self::from_bits(1 << 31);
    const LEAST: Self = Self::from_bits(1);
    const MAX_SUM: f64 = 1_073_741_823.0;
    type Divisor = FixedDivisor;

    fn of(number: f64) -> Self {
        Self::from_bits((number * FIXED_ONE) as i64)
    }

    fn to_f64(self) -> f64 {
        self.to_bits() as f64 / FIXED_ONE
    }

    fn whole(self) -> Self {
        self.floor()
    }

    fn divisor(self) -> FixedDivisor {
        let bits = if self == Self::ZERO { Self::ONE } else { self }.to_bits().unsigned_abs();
        FixedDivisor { bits, inverse: FIXED_ONE / bits as f64 }
    }

    #[inline]
    fn over(self, divisor: FixedDivisor) -> Self {
        // The quotient of the floats is off by at most one, as it has at most 48 bits; the remainder tells.
        let numerator = self.to_bits();
        let guess = (numerator as f64 * divisor.inverse) as i64;
        let bits = divisor.bits as i64;
        let rest = (numerator << 32).wrapping_sub(guess.wrapping_mul(bits));
        Self::from_bits(guess + i64::from(rest >= bits) - i64::from(rest < 0))
    }

    fn shares(stake: &[f64]) -> Option<Vec<Self>> {
        let mut sum = I64F64::ZERO;
        for stake in stake {
            sum = sum.checked_add(I64F64::checked_from_num(*stake)?)?;
        }
        let share = |stake: &f64| match I64F64::from_num(*stake).checked_div(sum) {
            Some(share) => Self::from_num(share),
            None => Self::ZERO,
        };
        let mut shares: Vec<Self> = stake.iter().map(share).collect();
        // The chain divides again after it has left out who may not vote.
        let sum: Self = shares.iter().sum();
        let divisor = sum.divisor();
        shares.iter_mut().for_each(|share| *share = share.over(divisor));
        Some(shares)
    }

    #[inline]
    fn when(self, vote: Self, least: Self) -> Self {
        // Without a branch: processors have no such choice between 64-bit integers in their narrow vectors.
        let below = (vote.to_bits().wrapping_sub(least.to_bits())) >> 63;
        Self::from_bits(self.to_bits() & !below)
    }

    #[inline]
    fn sigmoid(difference: Self, steepness: f64) -> Self {
        Self::of(sigmoid(difference.to_f64(), steepness))
    }
}

macro_rules! float {
    ($float:ty, $sigmoid:path) => {
        impl Number for $float {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const HALF: Self = 0.5;
            const LEAST: Self = <$float>::MIN_POSITIVE;
            const MAX_SUM: f64 = 1e30;
            type Divisor = $float;

            fn of(number: f64) -> Self {
                number as $float
            }

            fn to_f64(self) -> f64 {
                f64::from(self)
            }

            fn whole(self) -> Self {
                self.floor()
            }

            fn divisor(self) -> $float {
                if self == 0.0 { 1.0 } else { 1.0 / self }
            }

            #[inline]
            fn over(self, divisor: $float) -> Self {
                self * divisor
            }

            fn shares(stake: &[f64]) -> Option<Vec<Self>> {
                let sum: f64 = stake.iter().sum();
                let divisor = if sum == 0.0 { 1.0 } else { sum };
                let shares = || stake.iter().map(|stake| (stake / divisor) as $float).collect();
                sum.is_finite().then(shares)
            }

            #[inline]
            fn sigmoid(difference: Self, steepness: f64) -> Self {
                $sigmoid(difference, steepness as $float)
            }
        }
    };
}

float!(f64, sigmoid);
float!(f32, sigmoid_f32);

/// 1 ÷ 13! up to 1 ÷ 0!.
const INVERSE_FACTORIALS: [f64; 14] = {
    let mut inverses = [1.0; 14];
    let (mut n, mut factorial) = (1, 1.0);
    while n < 14 {
        factorial *= n as f64;
        inverses[13 - n] = 1.0 / factorial;
        n += 1;
    }
    inverses
};

/// e^x for |x| ≤ 20 with nothing but sums and products, so that it is the same on every machine; relative error below 2^-50.
#[inline]
pub(super) fn exp(x: f64) -> f64 {
    // Rounds to an integer: the sum is so large that no bits are left for a fraction.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let shifted = x * std::f64::consts::LOG2_E + SHIFT;
    let power = shifted - SHIFT;
    let rest = (x - power * LN2_HIGH) - power * LN2_LOW;
    let mut sum = 0.0;
    for inverse in INVERSE_FACTORIALS {
        sum = sum * rest + inverse;
    }
    let exponent = (shifted.to_bits() as i64).wrapping_sub(SHIFT.to_bits() as i64);
    sum * f64::from_bits(((exponent + 1023) as u64) << 52)
}

#[inline]
fn sigmoid(difference: f64, steepness: f64) -> f64 {
    1.0 / (1.0 + exp((steepness * (0.5 - difference)).clamp(-20.0, 20.0)))
}

#[inline]
fn sigmoid_f32(difference: f32, steepness: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    let x = (steepness * (0.5 - difference)).clamp(-20.0, 20.0);
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let power = shifted - SHIFT;
    let r = (x - power * 0.693_359_4) - power * -2.121_944_4e-4;
    let tail = 1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0)));
    let sum = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * tail)));
    let exponent = (shifted.to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32);
    1.0 / (1.0 + sum * f32::from_bits(((exponent + 127) as u32) << 23))
}
