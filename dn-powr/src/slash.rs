//! What an offence costs, and who gets it.

use dn_core::{Amount, canonical_enum, canonical_struct};

use crate::bps::{BPS, SplitError, portion, portion_up, within};

/// What an identity can be slashed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Offence {
    /// A worker's result was proven wrong.
    WorkerFraud,
    /// A worker did not open its trace, or was not there when it had said it would be.
    Availability,
    /// A validator's verdict was proven false.
    FalseVerdict,
    /// A validator signed two conflicting messages.
    Equivocation,
}
canonical_enum!(Offence { 0 => WorkerFraud {}, 1 => Availability {}, 2 => FalseVerdict {}, 3 => Equivocation {} });

/// Fractions that are slashed, in basis points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SlashParams {
    /// Of the job's bond, for a worker's fraud.
    pub fraud_bond: u16,
    /// Of the collateral, for a worker's fraud.
    pub fraud_collateral: u16,
    /// Of the collateral, for failed availability.
    pub availability: u16,
    /// Of the stake, for a false verdict.
    pub false_verdict: u16,
    /// Of the stake, for equivocation.
    pub equivocation: u16,
    /// Of what was slashed, to the reporter; the rest is burned.
    pub reporter: u16,
}
canonical_struct!(SlashParams {
    fraud_bond: u16,
    fraud_collateral: u16,
    availability: u16,
    false_verdict: u16,
    equivocation: u16,
    reporter: u16,
});

impl Default for SlashParams {
    fn default() -> Self {
        Self {
            fraud_bond: BPS,
            fraud_collateral: 2_000,
            availability: 100,
            false_verdict: 1_000,
            equivocation: 500,
            reporter: 2_500,
        }
    }
}

/// What is taken from an offender and where it goes: `from_bond + from_collateral = to_reporter + burned`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Penalty {
    /// Taken from the job's bond.
    pub from_bond: Amount,
    /// Taken from the collateral or stake.
    pub from_collateral: Amount,
    /// Paid to the reporter.
    pub to_reporter: Amount,
    /// Destroyed.
    pub burned: Amount,
}
canonical_struct!(Penalty {
    from_bond: Amount,
    from_collateral: Amount,
    to_reporter: Amount,
    burned: Amount,
});

impl SlashParams {
    /// Checks the bounds: no fraction over one, and at most half to the reporter, so that nobody gains by reporting himself, of what is his own.
    ///
    /// # Errors
    /// [`SplitError::OutOfBounds`].
    pub fn validate(&self) -> Result<(), SplitError> {
        within("fraud_bond", self.fraud_bond, 0, BPS)?;
        within("fraud_collateral", self.fraud_collateral, 0, BPS)?;
        within("availability", self.availability, 0, BPS)?;
        within("false_verdict", self.false_verdict, 0, BPS)?;
        within("equivocation", self.equivocation, 0, BPS)?;
        within("reporter", self.reporter, 0, BPS / 2)
    }

    /// The fractions of the job's bond and of the collateral or stake that an offence costs.
    ///
    /// # Units
    /// Basis points.
    pub const fn fractions(&self, offence: Offence) -> (u16, u16) {
        match offence {
            Offence::WorkerFraud => (self.fraud_bond, self.fraud_collateral),
            Offence::Availability => (0, self.availability),
            Offence::FalseVerdict => (0, self.false_verdict),
            Offence::Equivocation => (0, self.equivocation),
        }
    }

    /// The penalty for an offence of someone with this bond on the job and this collateral or stake. What is taken is rounded
    /// up, the reporter's part down. At most 2^128 − 1 atto are taken, which is far over the supply.
    pub fn penalty(&self, offence: Offence, bond: Amount, collateral: Amount) -> Penalty {
        let (of_bond, of_collateral) = self.fractions(offence);
        let from_bond = portion_up(bond, of_bond);
        let room = u128::MAX - from_bond.atto();
        let from_collateral = portion_up(collateral, of_collateral).min(Amount::from_atto(room));
        let taken = Amount::from_atto(from_bond.atto() + from_collateral.atto());
        let (to_reporter, burned) = self.share_out(taken);
        Penalty { from_bond, from_collateral, to_reporter, burned }
    }

    /// Divides an amount that was already taken, such as out of a stake pool, between reporter and burn.
    pub fn share_out(&self, taken: Amount) -> (Amount, Amount) {
        let reporter = portion(taken, self.reporter);
        (reporter, taken.saturating_sub(reporter))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn penalties_by_hand() {
        let p = SlashParams::default();
        let at = |o| {
            let x = p.penalty(o, Amount::from_atto(50), Amount::from_atto(1_001));
            [x.from_bond, x.from_collateral, x.to_reporter, x.burned].map(|a| a.atto())
        };
        assert_eq!(at(Offence::WorkerFraud), [50, 201, 62, 189]); // ⌈200.2⌉; ⌊251 / 4⌋
        assert_eq!(at(Offence::Availability), [0, 11, 2, 9]);
        assert_eq!(at(Offence::FalseVerdict), [0, 101, 25, 76]);
        assert_eq!(at(Offence::Equivocation), [0, 51, 12, 39]);
        assert_eq!(p.validate(), Ok(()));
        assert!(SlashParams { reporter: 5_001, ..p }.validate().is_err());
        assert!(SlashParams { equivocation: 10_001, ..p }.validate().is_err());
    }

    proptest! {
        #[test]
        fn taken_is_given(bond: u128, collateral: u128, o in 0..4usize) {
            let offence = [Offence::WorkerFraud, Offence::Availability, Offence::FalseVerdict, Offence::Equivocation][o];
            let (bond, collateral) = (Amount::from_atto(bond), Amount::from_atto(collateral));
            let x = SlashParams::default().penalty(offence, bond, collateral);
            prop_assert!(x.from_bond <= bond && x.from_collateral <= collateral);
            prop_assert_eq!(x.from_bond.checked_add(x.from_collateral), x.to_reporter.checked_add(x.burned));
        }
    }
}
