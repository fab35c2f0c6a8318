//! Where the supply starts.

use dn_core::{Amount, canonical_struct};

use crate::bps::{SplitError, check_sum, portion};

/// The genesis preset: shares of the supply cap, in basis points that add up to 10,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GenesisSplit {
    /// The community pool, which all emission comes out of; also what rounding leaves.
    pub community: u16,
    /// The team.
    pub team: u16,
    /// Investors.
    pub investors: u16,
    /// Liquidity.
    pub liquidity: u16,
    /// Airdrop.
    pub airdrop: u16,
    /// Ecosystem reserve.
    pub reserve: u16,
}
canonical_struct!(GenesisSplit {
    community: u16,
    team: u16,
    investors: u16,
    liquidity: u16,
    airdrop: u16,
    reserve: u16,
});

impl Default for GenesisSplit {
    fn default() -> Self {
        Self {
            community: 5_000,
            team: 1_500,
            investors: 1_300,
            liquidity: 1_000,
            airdrop: 200,
            reserve: 1_000,
        }
    }
}

/// The supply at genesis by purpose; the sum is exactly the supply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Allocation {
    /// The community pool.
    pub community: Amount,
    /// The team.
    pub team: Amount,
    /// Investors.
    pub investors: Amount,
    /// Liquidity.
    pub liquidity: Amount,
    /// Airdrop.
    pub airdrop: Amount,
    /// Ecosystem reserve.
    pub reserve: Amount,
}

impl GenesisSplit {
    /// Checks the sum.
    ///
    /// # Errors
    /// [`SplitError::Sum`].
    pub fn validate(&self) -> Result<(), SplitError> {
        check_sum(&[self.community, self.team, self.investors, self.liquidity, self.airdrop, self.reserve])
    }

    /// Allocates a supply, such as [`SUPPLY_CAP`](dn_core::amount::SUPPLY_CAP).
    pub fn allocate(&self, supply: Amount) -> Allocation {
        let mut left = supply;
        let mut take = |bps| {
            let part = portion(supply, bps).min(left);
            left = left.saturating_sub(part);
            part
        };
        let (team, investors, liquidity) = (take(self.team), take(self.investors), take(self.liquidity));
        let (airdrop, reserve) = (take(self.airdrop), take(self.reserve));
        Allocation { community: left, team, investors, liquidity, airdrop, reserve }
    }
}

#[cfg(test)]
mod tests {
    use dn_core::amount::SUPPLY_CAP;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_preset() {
        let split = GenesisSplit::default();
        assert_eq!(split.validate(), Ok(()));
        let a = split.allocate(SUPPLY_CAP);
        let millions = [a.community, a.team, a.investors, a.liquidity, a.airdrop, a.reserve]
            .map(|x| x.atto() / Amount::from_dn(1_000_000).atto());
        assert_eq!(millions, [50, 15, 13, 10, 2, 10]);
        assert_eq!(GenesisSplit { team: 1_501, ..split }.validate(), Err(SplitError::Sum { found: 10_001 }));
    }

    proptest! {
        #[test]
        fn the_sum_is_the_supply(supply: u128) {
            let a = GenesisSplit::default().allocate(Amount::from_atto(supply));
            let parts = [a.community, a.team, a.investors, a.liquidity, a.airdrop, a.reserve];
            prop_assert_eq!(Amount::sum(parts), Ok(Amount::from_atto(supply)));
        }
    }
}
