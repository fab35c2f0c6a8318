//! What a subnet can choose.

use super::YumaError;

/// Which Yuma.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Subtensor's epoch without `Yuma3On`: each column of bonds is the moving average of the shares of stake × weight and always sums to one.
    One,
    /// The published simulator's "Adrian-Fish" (2B): as the paper's, but bonds, ranks and trust take the weights of the epoch before, clipped
    /// at this epoch's consensus, so that a small validator who is right first keeps what it bought.
    Two,
    /// Subtensor's epoch with `Yuma3On` ("Rhef, relative bonds"): every pair of validator and miner has its own bond between zero and one,
    /// bought at the pair's own rate; stake counts only when dividends are paid.
    Three,
}

/// How bonds outlive an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BondStorage {
    /// Cut to 16 bits, as the chain stores them.
    U16,
    /// As computed, as the published simulator keeps them.
    Full,
}

/// The parameters of a subnet; the default is that of subtensor's runtime, with Yuma 3 and bonds kept in full.
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    /// Which Yuma.
    pub version: Version,
    /// The share of stake that makes a majority, in [0, 1]. Default 32,767 ÷ 65,535.
    pub kappa: f64,
    /// What part of the clipped weights bonds are bought with, in [0, 1]; the rest are weights as given. Default 1.
    pub bond_penalty: f64,
    /// What part of a bond stays when no liquid alpha applies, in [0, 1]. Default 0.9.
    pub bonds_moving_average: f64,
    /// Whether every pair has its own rate. Yuma 1 has none, as in the chain. Default off.
    pub liquid_alpha: bool,
    /// The lowest liquid rate. Default 45,875 ÷ 65,535.
    pub alpha_low: f64,
    /// The highest liquid rate. Default 58,982 ÷ 65,535.
    pub alpha_high: f64,
    /// How sharply the rate turns from low to high, per unit of difference. Default 10 (subtensor stores 1,000).
    pub alpha_steepness: f64,
    /// How bonds outlive an epoch. Default [`BondStorage::Full`].
    pub storage: BondStorage,
    /// After how many epochs weights count (commit and reveal); nothing counts before. At most 64. Default 0.
    pub reveal_lag_epochs: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            version: Version::Three,
            kappa: 32_767.0 / 65_535.0,
            bond_penalty: 1.0,
            bonds_moving_average: 0.9,
            liquid_alpha: false,
            alpha_low: 45_875.0 / 65_535.0,
            alpha_high: 58_982.0 / 65_535.0,
            alpha_steepness: 10.0,
            storage: BondStorage::Full,
            reveal_lag_epochs: 0,
        }
    }
}

impl Params {
    /// The longest lag.
    pub const MAX_LAG_EPOCHS: usize = 64;

    pub(super) fn check(&self) -> Result<(), YumaError> {
        let shares = [
            ("kappa", self.kappa),
            ("bond_penalty", self.bond_penalty),
            ("bonds_moving_average", self.bonds_moving_average),
            ("alpha_low", self.alpha_low),
            ("alpha_high", self.alpha_high),
        ];
        let outside = |(_, value): &(&str, f64)| !(0.0..=1.0).contains(value);
        if let Some((name, value)) = shares.into_iter().find(outside) {
            return Err(YumaError::Parameter { name, value, expected: "a share from 0 to 1" });
        }
        if self.alpha_low > self.alpha_high {
            let expected = "at most alpha_high";
            return Err(YumaError::Parameter { name: "alpha_low", value: self.alpha_low, expected });
        }
        if !(0.0..=100.0).contains(&self.alpha_steepness) {
            let expected = "a steepness from 0 to 100";
            let value = self.alpha_steepness;
            return Err(YumaError::Parameter { name: "alpha_steepness", value, expected });
        }
        if self.reveal_lag_epochs > Self::MAX_LAG_EPOCHS {
            let (name, value) = ("reveal_lag_epochs", self.reveal_lag_epochs as f64);
            return Err(YumaError::Parameter { name, value, expected: "at most 64 epochs" });
        }
        Ok(())
    }
}
