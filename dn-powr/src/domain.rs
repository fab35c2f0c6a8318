//! The division of a domain's emission by role. [`EpochEmission`](crate::EpochEmission) divides an epoch's among domains.

use dn_core::{Amount, canonical_struct};

use crate::bps::{SplitError, check_sum, portion, within};

/// Shares of a domain's emission, in basis points that add up to 10,000; chosen by the domain's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DomainSplit {
    /// Workers, by score; also what rounding leaves.
    pub workers: u16,
    /// Validators.
    pub validators: u16,
    /// Stakers of the domain.
    pub stakers: u16,
    /// Creators of its models.
    pub creators: u16,
    /// The domain's treasury: at most 1,000.
    pub treasury: u16,
    /// The foundation: 100, fixed.
    pub foundation: u16,
}
canonical_struct!(DomainSplit {
    workers: u16,
    validators: u16,
    stakers: u16,
    creators: u16,
    treasury: u16,
    foundation: u16,
});

impl Default for DomainSplit {
    fn default() -> Self {
        Self {
            workers: 5_000,
            validators: 2_000,
            stakers: 1_000,
            creators: 1_500,
            treasury: 400,
            foundation: 100,
        }
    }
}

/// The parts of a domain's emission; their sum is exactly the emission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DomainShares {
    /// To the workers, with what rounding left.
    pub workers: Amount,
    /// To the validators.
    pub validators: Amount,
    /// To the stakers.
    pub stakers: Amount,
    /// To the creators.
    pub creators: Amount,
    /// To the treasury.
    pub treasury: Amount,
    /// To the foundation.
    pub foundation: Amount,
}
canonical_struct!(DomainShares {
    workers: Amount,
    validators: Amount,
    stakers: Amount,
    creators: Amount,
    treasury: Amount,
    foundation: Amount,
});

impl DomainSplit {
    /// The most of a domain's emission that its treasury may take, in basis points.
    pub const MAX_TREASURY: u16 = 1_000;
    /// What the foundation takes, in basis points.
    pub const FOUNDATION: u16 = 100;

    /// Checks the bounds and the sum.
    ///
    /// # Errors
    /// [`SplitError`].
    pub fn validate(&self) -> Result<(), SplitError> {
        within("treasury", self.treasury, 0, Self::MAX_TREASURY)?;
        within("foundation", self.foundation, Self::FOUNDATION, Self::FOUNDATION)?;
        check_sum(&[
            self.workers,
            self.validators,
            self.stakers,
            self.creators,
            self.treasury,
            self.foundation,
        ])
    }

    /// Divides a domain's emission.
    pub fn split(&self, emission: Amount) -> DomainShares {
        let mut left = emission;
        let mut take = |bps| {
            let part = portion(emission, bps).min(left);
            left = left.saturating_sub(part);
            part
        };
        let (validators, stakers, creators) =
            (take(self.validators), take(self.stakers), take(self.creators));
        let (treasury, foundation) = (take(self.treasury), take(self.foundation));
        DomainShares { workers: left, validators, stakers, creators, treasury, foundation }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn by_hand() {
        let s = DomainSplit::default().split(Amount::from_atto(101));
        let parts = [s.workers, s.validators, s.stakers, s.creators, s.treasury, s.foundation];
        assert_eq!(parts.map(|p| p.atto()), [51, 20, 10, 15, 4, 1]);
    }

    #[test]
    fn bounds() {
        let d = DomainSplit::default();
        assert_eq!(d.validate(), Ok(()));
        let greedy = DomainSplit { treasury: 1_001, workers: 4_399, ..d };
        assert!(matches!(greedy.validate(), Err(SplitError::OutOfBounds { name: "treasury", .. })));
        let none = DomainSplit { foundation: 0, workers: 5_100, ..d };
        assert!(matches!(none.validate(), Err(SplitError::OutOfBounds { name: "foundation", .. })));
        assert_eq!(DomainSplit { workers: 0, ..d }.validate(), Err(SplitError::Sum { found: 5_000 }));
    }

    proptest! {
        #[test]
        fn the_sum_is_the_emission(emission: u128) {
            let s = DomainSplit::default().split(Amount::from_atto(emission));
            let parts = [s.workers, s.validators, s.stakers, s.creators, s.treasury, s.foundation];
            prop_assert_eq!(Amount::sum(parts), Ok(Amount::from_atto(emission)));
        }
    }
}
