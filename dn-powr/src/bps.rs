//! Basis points: parts of ten thousand.

use dn_core::Amount;

/// Basis points in one.
pub const BPS: u16 = 10_000;

/// Why shares in basis points are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// The shares do not add up to one.
    #[error("the shares add up to {found} basis points; they must add up to {BPS}")]
    Sum {
        /// What they add up to.
        found: u32,
    },
    /// A share is out of its bounds.
    #[error("the share `{name}` is {found} basis points; it must be from {min} to {max}")]
    OutOfBounds {
        /// The share.
        name: &'static str,
        /// Its value.
        found: u16,
        /// The least that is allowed.
        min: u16,
        /// The most that is allowed.
        max: u16,
    },
}

/// `⌊amount · bps / 10,000⌋`, at most the amount.
pub(crate) fn portion(amount: Amount, bps: u16) -> Amount {
    Portions::of(amount).portion(bps)
}

/// An amount of which several portions are wanted: 10,000 · `units` + `rest`, divided once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portions {
    units: u128,
    rest: u32,
}

impl Portions {
    pub(crate) fn of(amount: Amount) -> Self {
        let (whole, base) = (amount.atto(), u128::from(BPS));
        Self { units: whole / base, rest: (whole % base) as u32 }
    }

    /// `⌊amount · bps / 10,000⌋` = `units` · bps + `⌊rest · bps / 10,000⌋`, at most the amount.
    pub(crate) fn portion(self, bps: u16) -> Amount {
        let bps = u32::from(bps.min(BPS));
        Amount::from_atto(self.units * u128::from(bps) + u128::from(self.rest * bps / u32::from(BPS)))
    }
}

/// `⌈amount · bps / 10,000⌉`, at most the amount.
pub(crate) fn portion_up(amount: Amount, bps: u16) -> Amount {
    amount.saturating_sub(portion(amount, BPS.saturating_sub(bps)))
}

pub(crate) fn check_sum(shares: &[u16]) -> Result<(), SplitError> {
    let found = shares.iter().map(|s| u32::from(*s)).sum();
    if found == u32::from(BPS) { Ok(()) } else { Err(SplitError::Sum { found }) }
}

pub(crate) fn within(name: &'static str, found: u16, min: u16, max: u16) -> Result<(), SplitError> {
    if (min..=max).contains(&found) { Ok(()) } else { Err(SplitError::OutOfBounds { name, found, min, max }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_portion_is_the_product_divided(amount: u128, bps: u16, cut in 0..128u32) {
            let amount = Amount::from_atto(amount >> cut);
            prop_assert_eq!(Ok(portion(amount, bps)), amount.mul_div(bps.min(BPS).into(), BPS.into()));
        }
    }

    #[test]
    fn rounding() {
        let ten = Amount::from_atto(10);
        assert_eq!(portion(ten, 1_999).atto(), 1);
        assert_eq!(portion_up(ten, 1_001).atto(), 2);
        assert_eq!(portion_up(ten, 0), Amount::ZERO);
        assert_eq!(portion_up(ten, BPS), ten);
        assert_eq!(portion(Amount::from_atto(u128::MAX), BPS).atto(), u128::MAX);
    }
}
