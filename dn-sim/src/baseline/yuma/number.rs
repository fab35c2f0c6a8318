//! The two arithmetics of one algorithm: the chain's fixed point and floating point.

use std::fmt::Debug;
use std::ops::{Add, Mul, Sub};

use fixed::types::{I32F32, I64F64};

use pulp::Simd;

use super::pack::{Pack, Plain};
use super::short::Short;

/// Steepness and range of the liquid alpha.
#[derive(Debug, Clone, Copy)]
pub struct Liquid<N> {
    pub(super) low: N,
    pub(super) high: N,
    pub(super) steepness: f64,
}

impl<N: Number> Liquid<N> {
    /// The rates of pairs: the further a weight is above consensus when it buys, or below the bond when it sells, the higher.
    #[inline(always)]
    pub(super) fn of<P: Pack<N>>(&self, p: P, weight: P::Of, bond: P::Of, consensus: P::Of) -> P::Of {
        let buys = p.at_least(weight, bond);
        let difference = p.choose(buys, p.sub(weight, consensus), p.sub(bond, weight));
        p.rate(self, difference)
    }

    /// From low to high by 1 ÷ (1 + e^(−steepness·(difference − ½))), the difference held within 0 and 1, the exponent within ±20. `sigmoid`
    /// takes a difference and the steepness.
    #[inline(always)]
    fn rate_by(&self, difference: N, sigmoid: impl Fn(N, f64) -> N) -> N {
        let part = sigmoid(difference.higher(N::ZERO).lower(N::ONE), self.steepness);
        (self.low + part * (self.high - self.low)).lower(self.high)
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
    /// How many partial sums a sum over validators is made of: every so-manieth validator's, at most 16, a power of two.
    const PARTS: usize;
    /// Whether sums over miners are made in the miners' order; else of every sixteenth miner first. Both are the same on every machine.
    const MINERS_IN_ORDER: bool;
    /// Whether dividends may be found with incentives that are not divided by their sum yet: only sums are rounded otherwise.
    const PAID_AT_ONCE: bool;
    /// The largest sum of a validator's weights that can be divided by.
    const MAX_SUM: f64;
    /// What many numbers are divided by.
    type Divisor: Copy + Debug + Send + Sync;
    /// Stake in whole units: sums of shares are exact.
    type Units: Copy + Debug + Default + Ord + Add<Output = Self::Units> + Send + Sync;
    /// The smallest stake that counts.
    const ONE_UNIT: Self::Units;
    /// What each voter's units are raised by, so that stake that is exactly a majority is one whatever its shares were rounded to.
    const RAISED: Self::Units;
    /// How vectors of an instruction set are used.
    #[doc(hidden)]
    type Pack<S: Simd>: Pack<Self>;

    /// How vectors of an instruction set are used.
    #[doc(hidden)]
    fn pack<S: Simd>(simd: S) -> Self::Pack<S>;

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
    /// The liquid rate of a pair that is so far from consensus, or from its bond.
    #[doc(hidden)]
    fn rate(difference: Self, liquid: &Liquid<Self>) -> Self;

    /// The units of a share of stake.
    fn units(self) -> Self::Units;
    /// The units if `vote` is at least `least`, none else.
    fn when(units: Self::Units, vote: Self, least: Self) -> Self::Units;
    /// The next larger number.
    fn next(self) -> Self;
    /// The number halfway, counted in numbers that the type has.
    fn between(low: Self, high: Self) -> Self;

    /// The smaller of two.
    #[inline(always)]
    fn lower(self, other: Self) -> Self {
        if other < self { other } else { self }
    }

    /// The larger of two.
    #[inline(always)]
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
    const PARTS: usize = 4;
    const MINERS_IN_ORDER: bool = false;
    const PAID_AT_ONCE: bool = false;
    const MAX_SUM: f64 = 1_073_741_823.0;
    type Divisor = FixedDivisor;
    type Units = i64;
    const ONE_UNIT: i64 = 1;
    // The chain's ties fall as its divisions are cut.
    const RAISED: i64 = 0;
    type Pack<S: Simd> = Plain;

    #[inline(always)]
    fn pack<S: Simd>(_: S) -> Plain {
        Plain
    }

    fn of(number: f64) -> Self {
        Self::from_bits((number * FIXED_ONE) as i64)
    }

    fn to_f64(self) -> f64 {
        self.to_bits() as f64 / FIXED_ONE
    }

    fn whole(self) -> Self {
        self.floor()
    }

    #[inline(always)]
    fn divisor(self) -> FixedDivisor {
        let bits = if self == Self::ZERO { Self::ONE } else { self }.to_bits().unsigned_abs();
        FixedDivisor { bits, inverse: FIXED_ONE / bits as f64 }
    }

    #[inline(always)]
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

    fn units(self) -> i64 {
        self.to_bits()
    }

    #[inline(always)]
    fn when(units: i64, vote: Self, least: Self) -> i64 {
        // Without a branch: processors have no such choice between 64-bit integers in their narrow vectors.
        let below = (vote.to_bits().wrapping_sub(least.to_bits())) >> 63;
        units & !below
    }

    #[inline(always)]
    fn next(self) -> Self {
        Self::from_bits(self.to_bits() + 1)
    }

    #[inline(always)]
    fn between(low: Self, high: Self) -> Self {
        Self::from_bits((low.to_bits() + high.to_bits()) >> 1)
    }

    #[inline(always)]
    fn rate(difference: Self, liquid: &Liquid<Self>) -> Self {
        liquid.rate_by(difference, |difference, steepness| Self::of(sigmoid(difference.to_f64(), steepness)))
    }
}

macro_rules! float {
    ($float:ty, $rate:expr, $units:ty, $all:expr, $raised:expr, $parts:expr, $in_order:expr, ($simd:pat) => $made:expr, $pack:ty) => {
        impl Number for $float {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const HALF: Self = 0.5;
            const PARTS: usize = $parts;
            const MINERS_IN_ORDER: bool = $in_order;
            const PAID_AT_ONCE: bool = !$in_order;
            const MAX_SUM: f64 = 1e30;
            type Divisor = $float;
            type Units = $units;
            const ONE_UNIT: $units = 1;
            const RAISED: $units = $raised;
            type Pack<S: Simd> = $pack;

            #[inline(always)]
            fn pack<S: Simd>($simd: S) -> $pack {
                $made
            }

            fn of(number: f64) -> Self {
                number as $float
            }

            fn to_f64(self) -> f64 {
                f64::from(self)
            }

            #[inline(always)]
            fn whole(self) -> Self {
                self.floor()
            }

            #[inline(always)]
            fn divisor(self) -> $float {
                if self == 0.0 { 1.0 } else { 1.0 / self }
            }

            #[inline(always)]
            fn over(self, divisor: $float) -> Self {
                self * divisor
            }

            fn shares(stake: &[f64]) -> Option<Vec<Self>> {
                let sum: f64 = stake.iter().sum();
                let divisor = if sum == 0.0 { 1.0 } else { sum };
                let shares = || stake.iter().map(|stake| (stake / divisor) as $float).collect();
                sum.is_finite().then(shares)
            }

            #[inline(always)]
            fn rate(difference: Self, liquid: &Liquid<Self>) -> Self {
                $rate(difference, liquid)
            }

            fn units(self) -> $units {
                (f64::from(self) * $all).round() as $units
            }

            #[inline(always)]
            fn when(units: $units, vote: Self, least: Self) -> $units {
                if vote >= least { units } else { 0 }
            }

            #[inline(always)]
            fn next(self) -> Self {
                // None is negative.
                Self::from_bits(self.to_bits() + 1)
            }

            #[inline(always)]
            fn between(low: Self, high: Self) -> Self {
                // Numbers that are not negative lie in the order of their bits.
                Self::from_bits((low.to_bits() + high.to_bits()) >> 1)
            }
        }
    };
}

// The order of sums in `f64` is that of the pinned studies. A share is divided twice: it is right to 2^-53 of the whole each time, 2^8 units.
float!(f64, |difference, liquid: &Liquid<f64>| liquid.rate_by(difference, sigmoid), i64, (1_i64 << 61) as f64, 1 << 9, 16, true, (_) => Plain, Plain);
float!(f32, rate_f32, i32, (1_i32 << 30) as f64, 0, 4, false, (simd) => Short(simd), Short<S>);

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
#[inline(always)]
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

#[inline(always)]
fn sigmoid(difference: f64, steepness: f64) -> f64 {
    1.0 / (1.0 + exp((steepness * (0.5 - difference)).clamp(-20.0, 20.0)))
}

/// Rounds to an integer: the sum is so large that no bits are left for a fraction.
pub(super) const ROUNDING: f32 = 12_582_912.0;
/// 2^f for |f| ≤ ½, from the highest power down; relative error below 2^-23 with all roundings (a test).
#[expect(clippy::approx_constant, reason = "nearer to all powers together than the series is")]
pub(super) const POWER_OF_TWO: [f32; 6] =
    [0.001_326_472_7, 0.009_671_513, 0.055_507_336, 0.240_222_42, 0.693_147, 1.0];

/// [`Liquid`] as the shortest way to a rate needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShortLiquid {
    pub(super) low: f32,
    pub(super) high: f32,
    pub(super) range: f32,
    /// What a difference is held within.
    pub(super) least: f32,
    pub(super) most: f32,
    /// The exponent of two is `offset` − `slope` × difference.
    pub(super) slope: f32,
    pub(super) offset: f32,
}

impl ShortLiquid {
    #[inline(always)]
    pub(super) fn new(liquid: &Liquid<f32>) -> Self {
        let (low, high, steepness) = (liquid.low, liquid.high, liquid.steepness as f32);
        let room = if steepness > 40.0 { 20.0 / steepness } else { 0.5 };
        let slope = steepness * std::f32::consts::LOG2_E;
        Self { low, high, range: high - low, least: 0.5 - room, most: 0.5 + room, slope, offset: 0.5 * slope }
    }
}

#[inline(always)]
fn rate_f32(difference: f32, liquid: &Liquid<f32>) -> f32 {
    let l = ShortLiquid::new(liquid);
    let exponent = l.offset - l.slope * difference.higher(l.least).lower(l.most);
    let shifted = exponent + ROUNDING;
    let rest = exponent - (shifted - ROUNDING);
    let mut sum = POWER_OF_TWO[0];
    for factor in &POWER_OF_TWO[1..] {
        sum = sum * rest + factor;
    }
    // What the bits hold beside the integer is shifted out.
    let power = f32::from_bits(sum.to_bits().wrapping_add(shifted.to_bits() << 23));
    (l.low + l.range / (1.0 + power)).lower(l.high)
}
