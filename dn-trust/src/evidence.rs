//! Evidence: the weight of an event, and counts of good and bad weight that forget.

use dn_core::canonical_struct;
use dn_core::encoding::{Canonical, DecodeError, Reader};

use crate::fixed::Unit;
use crate::params::Params;

mod bound;

pub(crate) use bound::lower_bounds;

/// One unit of weight in Q16.
const ONE: u64 = 1 << 16;

/// How much an event counts: its work in units of `work_unit`.
///
/// # Units
/// Q16: 65,536 is one unit of work.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Weight(u64);

impl Weight {
    /// No weight.
    pub const ZERO: Self = Self(0);
    /// One unit of work.
    pub const ONE: Self = Self(1 << 16);

    /// The weight with these Q16 bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The Q16 bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The weight of work in verified work units, rounded up so that no event goes unseen.
    pub fn of_work(params: &Params, vwu: u128) -> Self {
        // Above 2^112 the weight is beyond every cap anyway.
        let scaled = vwu.min(u128::MAX >> 16) << 16;
        Self(u64::try_from(scaled.div_ceil(u128::from(params.work_unit).max(1))).unwrap_or(u64::MAX))
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }
}

/// Good and bad weight seen in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) struct Tally {
    pub(crate) good: Weight,
    pub(crate) bad: Weight,
}
canonical_struct!(Tally { good: Weight, bad: Weight });

impl Tally {
    /// The tally scaled down in proportion so that both together weigh at most the cap: the share of failures is kept,
    /// so a busy identity is judged by its rate and not by its size. The bad part is rounded up.
    pub(crate) fn capped(self, cap: u32) -> (u64, u64) {
        let (good, bad, cap) = (self.good.0, self.bad.0, u64::from(cap));
        match good.checked_add(bad) {
            Some(total) if total <= cap => (good, bad),
            // The product has 64 bits.
            Some(total) if bad <= u64::from(u32::MAX) => {
                let bad = (bad * cap).div_ceil(total);
                (cap - bad, bad)
            }
            _ => {
                let total = u128::from(good) + u128::from(bad);
                // At most the cap, which has 32 bits.
                let bad = (u128::from(bad) * u128::from(cap)).div_ceil(total) as u64;
                (cap - bad, bad)
            }
        }
    }

    /// The share of good weight, or `None` when nothing was seen.
    pub(crate) fn good_share(self) -> Option<Unit> {
        let (good, bad) = (u128::from(self.good.0), u128::from(self.bad.0));
        (good + bad > 0).then(|| Unit::ratio(good, good + bad))
    }
}

/// Beta counts that forget: weight of good and of bad outcomes, decayed once per epoch.
///
/// # Units
/// Q16, at most [`Counts::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Counts {
    good: u32,
    bad: u32,
}

impl Counts {
    /// The largest count: 2^30 − 1, just under 16,384 units of work.
    pub const MAX: u32 = (1 << 30) - 1;

    /// Good weight remembered.
    pub const fn good(self) -> u32 {
        self.good
    }

    /// Bad weight remembered, already multiplied by ρ.
    pub const fn bad(self) -> u32 {
        self.bad
    }

    /// `r ← ⌊γ·r⌋ + w_good`, `s ← ⌊γ_b·s⌋ + ⌊ρ·w_bad⌋`.
    #[inline]
    pub(crate) fn close_epoch(&mut self, params: &Params, (good, bad): (u64, u64)) {
        let fold = |count: u32, keep: u32, new: u64| {
            let kept = (u64::from(count) * u64::from(keep)) >> 32;
            // At most the limit, which has 30 bits.
            kept.saturating_add(new).min(Self::MAX.into()) as u32
        };
        // More than 64 bits are more than every count holds.
        let weighed = bad.saturating_mul(params.bad_weight.into()) >> 16;
        self.good = fold(self.good, params.keep_good, good);
        self.bad = fold(self.bad, params.keep_bad, weighed);
    }

    /// The same as closing so many epochs without events, one after another; counts that reach zero end it early.
    pub(crate) fn close_idle_epochs(&mut self, params: &Params, epochs: u64) {
        for _ in 0..epochs {
            if *self == Self::default() {
                break;
            }
            self.close_epoch(params, (0, 0));
        }
    }

    /// A lower confidence bound of the chance of a good outcome: mean minus `z` standard deviations of the
    /// Beta(r + 1, s + 1) distribution, at least 0. Little evidence gives a low bound.
    ///
    /// With a = r + 1, b = s + 1, n = a + b: `max(0, (a − z·√(a·b/(n+1))) / n)`, the exact value rounded down to 24 bits,
    /// hence rising in r and falling in s without exception.
    ///
    /// # Source
    /// Moments of the Beta distribution; the use for reputation is Jøsang and Ismail, "The Beta Reputation System" (2002).
    #[inline]
    pub fn lower_bound(self, params: &Params) -> Unit {
        self.quick_bound(params).unwrap_or_else(|| self.exact_bound(params))
    }

    /// The lower bound by 64-bit arithmetic, or `None` where that is too coarse to tell its last bit: once in 4,000 for newcomers,
    /// more rarely for others.
    #[inline]
    fn quick_bound(self, params: &Params) -> Option<Unit> {
        bound::quick(self, params).map(Unit::from_fraction)
    }

    /// The definition of [`lower_bound`](Self::lower_bound), with all bits of the deviation.
    #[cold]
    fn exact_bound(self, params: &Params) -> Unit {
        let (a, b) = (u128::from(u64::from(self.good) + ONE), u128::from(u64::from(self.bad) + ONE));
        let n = a + b;
        let z = u128::from(params.confidence);
        // (z·2^24·√(ab/(n+1)))², in the Q16 scale of `a`: at most 2^(34+61+32) by the bounds on z and the counts.
        let square = ((z * z * a * b) << 32).div_ceil(n + u128::from(ONE));
        let floor = square.isqrt();
        let deviation = if floor * floor == square { floor } else { floor + 1 };
        let bound = (a << 24).saturating_sub(deviation) / n;
        Unit::from_bits(u64::try_from(bound << 8).unwrap_or(u64::MAX))
    }
}

impl Canonical for Weight {
    const MIN_LEN: usize = 8;
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u64::decode(r).map(Self)
    }
}

impl Canonical for Counts {
    const MIN_LEN: usize = 8;
    fn encode(&self, out: &mut Vec<u8>) {
        self.good.encode(out);
        self.bad.encode(out);
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = r.position();
        let (good, bad) = <(u32, u32)>::decode(r)?;
        if good > Self::MAX || bad > Self::MAX {
            return Err(DecodeError::Invalid { at, what: "a count is over its limit of 2^30 - 1" });
        }
        Ok(Self { good, bad })
    }
}

#[cfg(test)]
mod tests;
