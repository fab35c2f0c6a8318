//! The split of a task's fee.

use dn_core::{Amount, canonical_struct};

use crate::bps::{Portions, SplitError, check_sum, within};

/// Shares of a fee, in basis points that add up to 10,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FeeSplit {
    /// The worker that computed the answer; it also gets what rounding leaves.
    pub worker: u16,
    /// The model's owner, its lineage, and out of their share the backers.
    pub owner: u16,
    /// The validators.
    pub validators: u16,
    /// The domain's treasury.
    pub domain: u16,
    /// The foundation.
    pub foundation: u16,
    /// Destroyed.
    pub burn: u16,
    /// Back into the pool that emission comes from.
    pub reinforcement: u16,
}
canonical_struct!(FeeSplit {
    worker: u16,
    owner: u16,
    validators: u16,
    domain: u16,
    foundation: u16,
    burn: u16,
    reinforcement: u16,
});

impl Default for FeeSplit {
    fn default() -> Self {
        Self {
            worker: 6_500,
            owner: 2_000,
            validators: 800,
            domain: 400,
            foundation: 100,
            burn: 100,
            reinforcement: 100,
        }
    }
}

/// The parts of one fee; their sum is exactly the fee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FeeShares {
    /// To the worker, with what rounding left.
    pub worker: Amount,
    /// To the model's owner, lineage and backers.
    pub owner: Amount,
    /// To the validators.
    pub validators: Amount,
    /// To the domain's treasury.
    pub domain: Amount,
    /// To the foundation.
    pub foundation: Amount,
    /// Destroyed.
    pub burn: Amount,
    /// Back into the emission pool.
    pub reinforcement: Amount,
}
canonical_struct!(FeeShares {
    worker: Amount,
    owner: Amount,
    validators: Amount,
    domain: Amount,
    foundation: Amount,
    burn: Amount,
    reinforcement: Amount,
});

/// The least and the most of a share, in basis points, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The least.
    pub min: u16,
    /// The most.
    pub max: u16,
}
canonical_struct!(Range { min: u16, max: u16 });

/// How far governance lets a model or domain move the first four shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FeeBounds {
    /// Bounds of the worker's share.
    pub worker: Range,
    /// Bounds of the owner's share.
    pub owner: Range,
    /// Bounds of the validators' share.
    pub validators: Range,
    /// Bounds of the domain's share.
    pub domain: Range,
}
canonical_struct!(FeeBounds { worker: Range, owner: Range, validators: Range, domain: Range });

impl Default for FeeBounds {
    fn default() -> Self {
        Self {
            worker: Range { min: 5_000, max: 8_500 },
            owner: Range { min: 500, max: 3_500 },
            validators: Range { min: 500, max: 1_500 },
            domain: Range { min: 0, max: 1_000 },
        }
    }
}

/// The four shares that a model or domain chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FeeMove {
    /// The worker's share.
    pub worker: u16,
    /// The owner's share.
    pub owner: u16,
    /// The validators' share.
    pub validators: u16,
    /// The domain's share.
    pub domain: u16,
}
canonical_struct!(FeeMove { worker: u16, owner: u16, validators: u16, domain: u16 });

impl FeeSplit {
    /// Checks that the shares add up to 10,000 basis points.
    ///
    /// # Errors
    /// [`SplitError::Sum`].
    pub fn validate(&self) -> Result<(), SplitError> {
        check_sum(&[
            self.worker,
            self.owner,
            self.validators,
            self.domain,
            self.foundation,
            self.burn,
            self.reinforcement,
        ])
    }

    /// This split with the first four shares replaced, if they stay in bounds and the sum stays whole.
    ///
    /// # Errors
    /// [`SplitError`] names the share that is out of bounds, or the sum.
    pub fn moved(&self, to: FeeMove, bounds: &FeeBounds) -> Result<Self, SplitError> {
        for (name, share, range) in [
            ("worker", to.worker, bounds.worker),
            ("owner", to.owner, bounds.owner),
            ("validators", to.validators, bounds.validators),
            ("domain", to.domain, bounds.domain),
        ] {
            within(name, share, range.min, range.max)?;
        }
        let split = Self {
            worker: to.worker,
            owner: to.owner,
            validators: to.validators,
            domain: to.domain,
            ..*self
        };
        split.validate()?;
        Ok(split)
    }

    /// Divides a fee. Each share is rounded down; what is left over goes to the worker, so the sum is exactly the fee.
    pub fn split(&self, fee: Amount) -> FeeShares {
        let mut left = fee;
        let portions = Portions::of(fee);
        // Saturating, so that a split that was never validated still divides no more than the fee.
        let mut take = |bps| {
            let part = portions.portion(bps).min(left);
            left = left.saturating_sub(part);
            part
        };
        let (owner, validators, domain) = (take(self.owner), take(self.validators), take(self.domain));
        let (foundation, burn, reinforcement) =
            (take(self.foundation), take(self.burn), take(self.reinforcement));
        FeeShares { worker: left, owner, validators, domain, foundation, burn, reinforcement }
    }

    /// The share that someone loses who pays himself as worker, owner and domain: validators, burn and foundation.
    ///
    /// # Units
    /// Basis points.
    pub fn lost_by_self_payment(&self) -> u16 {
        self.validators.saturating_add(self.burn).saturating_add(self.foundation).min(crate::BPS)
    }
}

impl FeeShares {
    /// All parts together: the fee. (Parts that no split made and that exceed 128 bits give 2^128 − 1.)
    pub fn total(&self) -> Amount {
        Amount::sum([
            self.worker,
            self.owner,
            self.validators,
            self.domain,
            self.foundation,
            self.burn,
            self.reinforcement,
        ])
        .unwrap_or(Amount::from_atto(u128::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_fee_by_hand() {
        let shares = FeeSplit::default().split(Amount::from_atto(999));
        // 199.8, 79.92, 39.96, 9.99 × 3 rounded down: 199 + 79 + 39 + 27 = 344; the worker has the other 655.
        assert_eq!(shares.owner.atto(), 199);
        assert_eq!(shares.validators.atto(), 79);
        assert_eq!(shares.domain.atto(), 39);
        assert_eq!([shares.foundation, shares.burn, shares.reinforcement], [Amount::from_atto(9); 3]);
        assert_eq!(shares.worker.atto(), 655);
        assert_eq!(FeeSplit::default().split(Amount::ZERO).total(), Amount::ZERO);
        assert_eq!(FeeSplit::default().lost_by_self_payment(), 1_000);
        assert_eq!(FeeSplit::default().validate(), Ok(()));
    }

    #[test]
    fn overrides_are_bounded() {
        let (split, bounds) = (FeeSplit::default(), FeeBounds::default());
        let to = FeeMove { worker: 7_000, owner: 1_500, validators: 800, domain: 400 };
        assert_eq!(split.moved(to, &bounds).map(|s| (s.worker, s.burn)), Ok((7_000, 100)));
        assert_eq!(
            split.moved(FeeMove { validators: 100, ..to }, &bounds),
            Err(SplitError::OutOfBounds { name: "validators", found: 100, min: 500, max: 1_500 })
        );
        assert_eq!(
            split.moved(FeeMove { worker: 7_001, ..to }, &bounds),
            Err(SplitError::Sum { found: 10_001 })
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn the_sum_is_the_fee(fee: u128, cuts in prop::array::uniform6(0u16..=10_000)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let split = FeeSplit {
                worker: cuts[0],
                owner: cuts[1] - cuts[0],
                validators: cuts[2] - cuts[1],
                domain: cuts[3] - cuts[2],
                foundation: cuts[4] - cuts[3],
                burn: cuts[5] - cuts[4],
                reinforcement: 10_000 - cuts[5],
            };
            prop_assert_eq!(split.validate(), Ok(()));
            let fee = Amount::from_atto(fee);
            let shares = split.split(fee);
            prop_assert_eq!(shares.total(), fee);
            // The dust is less than one atto for each of the six rounded shares.
            let exact = crate::bps::portion(fee, split.worker);
            prop_assert!(shares.worker >= exact && shares.worker.atto() - exact.atto() <= 6);
        }

        #[test]
        fn even_an_invalid_split_pays_no_more_than_the_fee(fee: u128, s: [u16; 7]) {
            let [worker, owner, validators, domain, foundation, burn, reinforcement] = s;
            let split = FeeSplit { worker, owner, validators, domain, foundation, burn, reinforcement };
            prop_assert_eq!(split.split(Amount::from_atto(fee)).total().atto(), fee);
        }
    }
}
