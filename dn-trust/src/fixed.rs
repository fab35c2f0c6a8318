//! Numbers between 0 and 1 in fixed point.

use std::fmt;

use dn_core::encoding::{Canonical, DecodeError, Reader};
use dn_core::wide::mul_div;

use crate::root::{product, square_root};

/// Fractional bits of a [`Unit`].
const BITS: u32 = 32;

/// A number between 0 and 1: an indicator, a quality, a share.
///
/// # Units
/// Q32: 2^32 is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Unit(u64);

impl Unit {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The whole.
    pub const ONE: Self = Self(1 << BITS);

    /// A number from its Q32 bits; more than one becomes one.
    pub const fn from_bits(bits: u64) -> Self {
        if bits > Self::ONE.0 { Self::ONE } else { Self(bits) }
    }

    /// The Q32 bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// `min(1, part / whole)` rounded down; nothing over nothing is 0.
    pub fn ratio(part: u128, whole: u128) -> Self {
        if part >= whole {
            return if part == 0 { Self::ZERO } else { Self::ONE };
        }
        let bits = mul_div(part, 1 << BITS, whole).expect("less than one");
        Self::from_bits(u64::try_from(bits).unwrap_or(u64::MAX))
    }

    /// The product, rounded down.
    #[must_use]
    #[inline]
    pub const fn times(self, other: Self) -> Self {
        // Both factors are at most 2^32: shifted by 31 and 1, the high half is their product in Q32.
        Self(product(self.0 << 31, other.0 << 1).0)
    }

    /// The geometric mean `√(self · other)`, rounded down.
    #[must_use]
    #[inline]
    pub const fn geometric_mean(self, other: Self) -> Self {
        // Only one times one has more than 64 bits.
        match self.0.checked_mul(other.0) {
            Some(square) => Self(square_root(square)),
            None => Self::ONE,
        }
    }

    /// What is missing to one.
    #[must_use]
    pub const fn complement(self) -> Self {
        Self(Self::ONE.0 - self.0)
    }

    /// The 32 fractional bits that states store: one itself becomes the largest number below it.
    pub(crate) fn to_fraction(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }

    /// A stored fraction.
    pub(crate) const fn from_fraction(bits: u32) -> Self {
        Self(bits as u64)
    }
}

impl fmt::Display for Unit {
    /// Decimal, cut after four places unless the format asks for up to nine.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = f.precision().unwrap_or(4).min(9);
        let scale = 10u64.pow(u32::try_from(places).unwrap_or(9));
        let digits = (u128::from(self.0) * u128::from(scale)) >> BITS;
        let (whole, fraction) = (digits / u128::from(scale), digits % u128::from(scale));
        if places == 0 {
            return f.pad_integral(true, "", &whole.to_string());
        }
        f.pad_integral(true, "", &format!("{whole}.{fraction:0places$}"))
    }
}

impl Canonical for Unit {
    const MIN_LEN: usize = 8;
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = r.position();
        let bits = u64::decode(r)?;
        if bits > Self::ONE.0 {
            return Err(DecodeError::Invalid { at, what: "a fraction is over one" });
        }
        Ok(Self(bits))
    }
}

impl<'de> serde::Deserialize<'de> for Unit {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let bits = u64::deserialize(d)?;
        if bits > Self::ONE.0 {
            return Err(serde::de::Error::custom("expected Q32 bits of at most 4294967296 (one)"));
        }
        Ok(Self(bits))
    }
}

/// The trust weight of an identity in a role, between `trust_min` and 1.
///
/// Prints as a decimal with four places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Trust(Unit);

impl Trust {
    /// Full trust: what no record reaches, and the neutral factor.
    pub const ONE: Self = Self(Unit::ONE);

    /// A trust weight that was computed elsewhere, such as one read back from a query.
    pub const fn new(value: Unit) -> Self {
        Self(value)
    }

    /// The weight as a plain number.
    pub const fn value(self) -> Unit {
        self.0
    }

    /// `max(least, h · √(a · √(b · c)))`: `h` counts in full, `a` by its root, `b` and `c` by their fourth root.
    #[inline]
    pub(crate) fn combine(least: Unit, h: Unit, a: Unit, b: Unit, c: Unit) -> Self {
        Self::under(least, h, a.geometric_mean(b.geometric_mean(c)))
    }

    /// `max(least, h · other)`.
    fn under(least: Unit, h: Unit, other: Unit) -> Self {
        Self(h.times(other).max(least))
    }

    /// `max(least, h · other)` of stored fractions.
    #[inline]
    pub(crate) fn of_fractions(least: Unit, h: u32, other: u32) -> Self {
        Self(Unit((u64::from(h) * u64::from(other)) >> BITS).max(least))
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Canonical for Trust {
    const MIN_LEN: usize = 8;
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Unit::decode(r).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: Unit = Unit(1 << 31);

    #[test]
    fn arithmetic_by_hand() {
        let quarter = HALF.times(HALF);
        assert_eq!(quarter.bits(), 1 << 30);
        assert_eq!(quarter.geometric_mean(Unit::ONE), HALF);
        assert_eq!(quarter.complement().to_string(), "0.7500");
        assert_eq!(Unit::ratio(1, 3).to_string(), "0.3333");
        assert_eq!(Unit::ratio(5, 3), Unit::ONE);
        assert_eq!(Unit::ratio(0, 0), Unit::ZERO);
        assert_eq!(Unit::ratio(u128::MAX / 2, u128::MAX).to_string(), "0.4999");
        // ½ · √(¼ · √(¼ · ¼)) = ½ · ¼.
        let t = Trust::combine(Unit::ZERO, HALF, quarter, quarter, quarter);
        assert_eq!(t.value().bits(), 1 << 29);
        assert_eq!(Trust::combine(HALF, Unit::ZERO, HALF, HALF, HALF).value(), HALF);
    }

    #[test]
    fn display_cuts_and_pads() {
        assert_eq!(Unit::ONE.to_string(), "1.0000");
        assert_eq!(Unit(Unit::ONE.0 - 1).to_string(), "0.9999");
        assert_eq!(format!("{:.2}", HALF), "0.50");
        assert_eq!(format!("{:>8}|{:.0}", Trust::new(HALF), Unit::ONE), "  0.5000|1");
    }

    #[test]
    fn bits_over_one_are_refused() {
        let over = (Unit::ONE.0 + 1).to_bytes();
        assert!(matches!(Trust::from_bytes(&over), Err(DecodeError::Invalid { at: 0, .. })));
        assert_eq!(Trust::from_bytes(&Trust::ONE.to_bytes()), Ok(Trust::ONE));
    }
}
