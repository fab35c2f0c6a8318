//! Amounts of DN: unsigned 128-bit counts of the smallest unit, 10^-18 DN ("atto"), with checked arithmetic only.

use std::fmt;
use std::str::FromStr;

use crate::encoding::{Canonical, DecodeError, Reader};

/// Decimal places of one DN.
pub const DECIMALS: u32 = 18;
/// Atto in one DN.
pub const ATTO_PER_DN: u128 = 10u128.pow(DECIMALS);
/// The most that can ever exist: 100,000,000 DN.
pub const SUPPLY_CAP: Amount = Amount(100_000_000 * ATTO_PER_DN);

/// Why an amount could not be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AmountError {
    /// A sum or product does not fit 128 bits.
    #[error("{left} and {right} (atto) overflow")]
    Overflow {
        /// Left operand in atto.
        left: u128,
        /// Right operand in atto or a plain factor.
        right: u128,
    },
    /// A difference would be negative.
    #[error("{available} DN available, {needed} DN needed")]
    Insufficient {
        /// What is there.
        available: Amount,
        /// What was asked for.
        needed: Amount,
    },
}

/// Why a text is not an amount of DN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseAmountError {
    /// Not digits with at most one point between them.
    #[error("`{text}` is not a decimal amount such as `12` or `0.05`")]
    Syntax {
        /// The text, cut at 64 characters.
        text: String,
    },
    /// More than 18 decimal places.
    #[error("{found} decimal places; DN has {DECIMALS}")]
    Precision {
        /// Places in the text.
        found: usize,
    },
    /// Over 128 bits of atto.
    #[error("the amount is too large: at most 2^128 - 1 atto")]
    TooLarge,
}

/// An amount of DN, in atto (10^-18 DN).
///
/// Prints as decimal DN without trailing zeros; JSON carries atto as a decimal string, so no reader rounds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(u128);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// An amount given in atto.
    pub const fn from_atto(atto: u128) -> Self {
        Self(atto)
    }

    /// An amount of whole DN.
    pub const fn from_dn(dn: u64) -> Self {
        Self(dn as u128 * ATTO_PER_DN)
    }

    /// The amount in atto.
    pub const fn atto(self) -> u128 {
        self.0
    }

    /// True for nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum.
    ///
    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn checked_add(self, other: Self) -> Result<Self, AmountError> {
        self.0.checked_add(other.0).map(Self).ok_or(AmountError::Overflow { left: self.0, right: other.0 })
    }

    /// The difference.
    ///
    /// # Errors
    /// [`AmountError::Insufficient`] when it would be negative.
    pub fn checked_sub(self, other: Self) -> Result<Self, AmountError> {
        self.0
            .checked_sub(other.0)
            .map(Self)
            .ok_or(AmountError::Insufficient { available: self, needed: other })
    }

    /// The difference, or nothing when it would be negative.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The amount times a count, such as a price per token times tokens.
    ///
    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn checked_mul(self, factor: u64) -> Result<Self, AmountError> {
        let right = u128::from(factor);
        self.0.checked_mul(right).map(Self).ok_or(AmountError::Overflow { left: self.0, right })
    }

    /// `⌊self · numerator / denominator⌋` through 256-bit intermediates.
    ///
    /// # Errors
    /// [`AmountError::Overflow`] when the result does not fit 128 bits or the denominator is 0.
    pub fn mul_div(self, numerator: u128, denominator: u128) -> Result<Self, AmountError> {
        crate::wide::mul_div(self.0, numerator, denominator)
            .map(Self)
            .ok_or(AmountError::Overflow { left: self.0, right: numerator })
    }

    /// The sum of all, or the first overflow.
    ///
    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn sum(amounts: impl IntoIterator<Item = Self>) -> Result<Self, AmountError> {
        amounts.into_iter().try_fold(Self::ZERO, Self::checked_add)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / ATTO_PER_DN, self.0 % ATTO_PER_DN);
        if let Some(places) = f.precision() {
            // Cut, never rounded up: a balance is never shown larger than it is.
            let digits = format!("{fraction:018}");
            let point = if places == 0 { "" } else { "." };
            let text = format!("{whole}{point}{}", &digits[..places.min(18)]);
            return f.pad_integral(true, "", &text);
        }
        if fraction == 0 {
            return f.pad_integral(true, "", &whole.to_string());
        }
        let digits = format!("{fraction:018}");
        f.pad_integral(true, "", &format!("{whole}.{}", digits.trim_end_matches('0')))
    }
}

impl FromStr for Amount {
    type Err = ParseAmountError;

    /// Parses decimal DN: digits, optionally a point and 1 to 18 digits. No sign, exponent or separator.
    fn from_str(text: &str) -> Result<Self, ParseAmountError> {
        let syntax = || ParseAmountError::Syntax { text: text.chars().take(64).collect() };
        let (whole, fraction) = match text.split_once('.') {
            None => (text, ""),
            Some((_, "")) => return Err(syntax()),
            Some(parts) => parts,
        };
        if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
            return Err(syntax());
        }
        if fraction.len() > DECIMALS as usize {
            return Err(ParseAmountError::Precision { found: fraction.len() });
        }
        let too_large = |_| ParseAmountError::TooLarge;
        let whole: u128 = whole.parse().map_err(too_large)?;
        let fraction: u128 = format!("{fraction:0<18}").parse().map_err(too_large)?;
        whole
            .checked_mul(ATTO_PER_DN)
            .and_then(|atto| atto.checked_add(fraction))
            .map(Self)
            .ok_or(ParseAmountError::TooLarge)
    }
}

impl serde::Serialize for Amount {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Amount {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let canonical = !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'));
        let parsed = if canonical { text.parse().ok() } else { None };
        parsed.map(Self).ok_or_else(|| serde::de::Error::custom("expected atto as a decimal string"))
    }
}

impl Canonical for Amount {
    const MIN_LEN: usize = 16;
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u128::decode(r).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_round_trip() {
        for (text, atto) in [
            ("0", 0),
            ("1", ATTO_PER_DN),
            ("0.05", ATTO_PER_DN / 20),
            ("12.000000000000000001", 12 * ATTO_PER_DN + 1),
        ] {
            assert_eq!(text.parse::<Amount>(), Ok(Amount(atto)));
            assert_eq!(Amount(atto).to_string(), text);
        }
        let max = Amount(u128::MAX);
        assert_eq!(max.to_string().parse::<Amount>(), Ok(max));
        assert_eq!(format!("{:.2}", Amount(ATTO_PER_DN * 2 - 1)), "1.99");
        assert_eq!(format!("{:>8.2}", Amount::from_dn(3)), "    3.00");
    }

    #[test]
    fn bad_text_is_refused_with_a_reason() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", " 1", "0x1", "1.2.3", "١"] {
            assert!(matches!(text.parse::<Amount>(), Err(ParseAmountError::Syntax { .. })), "{text}");
        }
        assert_eq!("0.1234567890123456789".parse::<Amount>(), Err(ParseAmountError::Precision { found: 19 }));
        assert_eq!("340282366920938463464".parse::<Amount>(), Err(ParseAmountError::TooLarge));
    }

    #[test]
    fn arithmetic_is_checked() {
        assert!(Amount(u128::MAX).checked_add(Amount(1)).is_err());
        assert!(Amount(1).checked_sub(Amount(2)).is_err());
        assert!(Amount(u128::MAX).checked_mul(2).is_err());
        assert_eq!(Amount(u128::MAX).mul_div(6, 12), Ok(Amount(u128::MAX / 2)));
        assert!(Amount(1).mul_div(1, 0).is_err());
    }
}
