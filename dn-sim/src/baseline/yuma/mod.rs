//! Yuma consensus: what Bittensor's validators and miners are paid for the weights that validators give miners.
//!
//! An epoch takes stakes and weights. Each row of weights is divided by its sum (a row of zeros stays). A miner's *consensus* is the largest
//! weight that a share `kappa` of stake gives at least; weights are clipped there. *Incentive* is the share of stake × clipped weight. Validators
//! hold *bonds* in miners and are paid *dividends* in proportion to bonds × incentive (in Yuma 3 × stake); dividends and incentives each
//! sum to one, or to zero when no majority agrees on anyone. The chain pays by stake then; [`Epoch`] leaves that to the caller.
//!
//! ```
//! use dn_sim::baseline::yuma::{Matrix, Params, Yuma};
//! let mut yuma = Yuma::<f64>::new(Params::default())?;
//! let weights = Matrix::from_rows(&[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])?;
//! let epoch = yuma.step(&[8.0, 1.0, 1.0], &weights)?;
//! assert_eq!(epoch.consensus, [1.0, 0.0]);
//! assert_eq!(epoch.incentive, [1.0, 0.0]);
//! assert!((epoch.dividends[0] - 8.0 / 9.0).abs() < 1e-12);
//! # Ok::<(), dn_sim::baseline::yuma::YumaError>(())
//! ```
//!
//! # Source
//! Subtensor at commit 14bc6f9f, `pallets/subtensor/src/epoch/run_epoch.rs` (`epoch_dense_mechanism`) and `math.rs`; for [`Version::Two`]
//! `Yuma2b` of `bactensor/yuma-simulation` at commit 2b976fd5. Differences, all stated where they matter:
//! - Validators and miners are separate here; on the chain a neuron is both and weights on oneself are masked.
//! - The chain's sparse epoch drops a bond at once when its validator leaves the miner out of its weights; its dense epoch, and this, let it decay.
//! - The simulator divides consensus by its sum and cuts it to 16 bits, and applies liquid alpha only from its second epoch; the chain, and
//!   this, do neither.

mod blocks;
mod bonds;
mod consensus;
mod crew;
mod isa;
mod lanes;
mod matrix;
mod number;
mod pack;
mod params;
mod short;

use std::collections::VecDeque;

use thiserror::Error;

use blocks::{Input, Means, epoch, keeps_weights};
use bonds::Rule;
use isa::Isa;
pub use matrix::{MAX_CELLS, Matrix};
pub use number::{FixedDivisor, Number};
pub use params::{BondStorage, Params, Version};

/// Why an epoch was refused.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum YumaError {
    /// A parameter out of range.
    #[error("{name} = {value}, expected {expected}")]
    Parameter {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What was expected.
        expected: &'static str,
    },
    /// An empty matrix, or one too large.
    #[error("{validators} validators by {miners} miners, expected 1 to {MAX_CELLS} cells")]
    Size {
        /// Rows.
        validators: usize,
        /// Columns.
        miners: usize,
    },
    /// A row of another length than the first.
    #[error("row {validator}: {found} entries, expected {expected}")]
    Row {
        /// Whose row.
        validator: usize,
        /// Its length.
        found: usize,
        /// The length of the first.
        expected: usize,
    },
    /// A cell that is negative, no number, or too large.
    #[error("row {validator}, column {miner}: {value}, expected a number from 0 to {max}")]
    Cell {
        /// The row.
        validator: usize,
        /// The column.
        miner: usize,
        /// What stands there.
        value: f64,
        /// The largest allowed.
        max: f64,
    },
    /// A row whose sum cannot be divided by.
    #[error("row {validator}: sums to {sum}, at most {max}")]
    RowSum {
        /// Whose row.
        validator: usize,
        /// Its sum.
        sum: f64,
        /// The largest allowed.
        max: f64,
    },
    /// A stake that is negative or no number.
    #[error("stake {validator}: {value}, expected a number from 0")]
    Stake {
        /// Whose stake.
        validator: usize,
        /// What it is.
        value: f64,
    },
    /// Stakes whose sum the arithmetic cannot hold.
    #[error("the sum of all stakes is beyond the arithmetic")]
    StakeSum,
    /// A matrix or vector that does not fit those before.
    #[error("{what}: {found:?} validators and miners, expected {expected:?}")]
    Shape {
        /// What does not fit.
        what: &'static str,
        /// Its sides.
        found: (usize, usize),
        /// The sides of what came before.
        expected: (usize, usize),
    },
    /// Bonds above the whole.
    #[error("bond of validator {validator} in miner {miner}: {value}, at most 1")]
    Bond {
        /// The row.
        validator: usize,
        /// The column.
        miner: usize,
        /// The bond.
        value: f64,
    },
}

/// What an epoch found.
#[derive(Debug, Clone, PartialEq)]
pub struct Epoch<N> {
    /// Each validator's share of stake.
    pub stake: Vec<N>,
    /// Each miner's consensus weight.
    pub consensus: Vec<N>,
    /// Each miner's share of what miners are paid.
    pub incentive: Vec<N>,
    /// Each validator's sum of clipped weights: one who agrees has one.
    pub validator_trust: Vec<N>,
    /// Each validator's share of what validators are paid.
    pub dividends: Vec<N>,
}

/// The most threads of an epoch.
pub const MAX_THREADS: usize = 64;

/// A subnet between epochs.
#[derive(Debug, Clone)]
pub struct Yuma<N: Number> {
    params: Params,
    bonds: Option<Matrix<N>>,
    /// Normalized weights of the epoch before; only Yuma 2 keeps them.
    before: Option<Matrix<N>>,
    /// Room for the normalized weights of an epoch.
    spare: Option<Matrix<N>>,
    /// Weights committed and not yet revealed, oldest first.
    hidden: VecDeque<Matrix<N>>,
    means: Means,
}

impl<N: Number> Yuma<N> {
    /// A subnet without bonds.
    ///
    /// # Errors
    /// A parameter is out of range.
    pub fn new(params: Params) -> Result<Self, YumaError> {
        params.check()?;
        let means = Means { threads: 1, isa: Isa::widest() };
        Ok(Self { params, bonds: None, before: None, spare: None, hidden: VecDeque::new(), means })
    }

    /// A subnet that has bonds, each a share in [0, 1] of the largest possible.
    ///
    /// # Errors
    /// A parameter is out of range, or a bond is above one.
    pub fn with_bonds(params: Params, bonds: Matrix<N>) -> Result<Self, YumaError> {
        let cells = (0..bonds.miners())
            .flat_map(|miner| (0..bonds.validators()).map(move |validator| (validator, miner)));
        for (validator, miner) in cells {
            if let Some(bond) = bonds.cell(validator, miner).filter(|bond| *bond > N::ONE) {
                return Err(YumaError::Bond { validator, miner, value: bond.to_f64() });
            }
        }
        Ok(Self { bonds: Some(bonds), ..Self::new(params)? })
    }

    /// Lets epochs run on so many threads, from 1 to [`MAX_THREADS`] (held there); one otherwise. What they find is the same to the bit.
    /// A thread takes 256 miners at a time: fewer are one thread's work.
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        Self { means: Means { threads: threads.clamp(1, MAX_THREADS), ..self.means }, ..self }
    }

    /// The parameters.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The bonds after the last epoch, row by row: shares of the largest in their column in Yuma 1 stored as the chain does, of the column's sum
    /// in Yuma 1 and 2 else, of one in Yuma 3. `None` before anything happened.
    pub fn bonds(&self) -> Option<Vec<Vec<f64>>> {
        let rule = Rule::<N>::new(&self.params, false);
        let mut rows = self.bonds.as_ref()?.to_rows();
        rows.iter_mut().flatten().for_each(|bond| *bond = rule.share(N::of(*bond)).to_f64());
        Some(rows)
    }

    /// Takes all bonds in a miner away, as the chain does when a miner's hotkey asks for it.
    pub fn reset_miner(&mut self, miner: usize) {
        if let Some(bonds) = &mut self.bonds {
            bonds.clear(miner);
        }
    }

    /// One epoch. `stake` need not sum to one, nor do the rows of `weights`.
    ///
    /// # Errors
    /// Sides that do not fit each other or the epochs before, or a bad stake. The subnet is as it was then.
    pub fn step(&mut self, stake: &[f64], weights: &Matrix<N>) -> Result<Epoch<N>, YumaError> {
        let stake = self.shares(stake, weights)?;
        if self.params.reveal_lag_epochs == 0 {
            return self.run(stake, weights);
        }
        self.hidden.push_back(weights.clone());
        let due =
            if self.hidden.len() > self.params.reveal_lag_epochs { self.hidden.pop_front() } else { None };
        match due {
            Some(weights) => self.run(stake, &weights),
            None => self.run(stake, &Matrix::zeros(weights.validators(), weights.miners())?),
        }
    }

    fn shares(&self, stake: &[f64], weights: &Matrix<N>) -> Result<Vec<N>, YumaError> {
        let expected = (weights.validators(), weights.miners());
        if stake.len() != weights.validators() {
            return Err(YumaError::Shape { what: "stake", found: (stake.len(), weights.miners()), expected });
        }
        let earlier = self.bonds.as_ref().or(self.hidden.front());
        if let Some(earlier) = earlier.filter(|earlier| !earlier.same_shape(weights)) {
            let (found, expected) = (expected, (earlier.validators(), earlier.miners()));
            return Err(YumaError::Shape { what: "weights", found, expected });
        }
        let bad = |value: &f64| !(value.is_finite() && *value >= 0.0);
        if let Some(validator) = stake.iter().position(bad) {
            return Err(YumaError::Stake { validator, value: stake[validator] });
        }
        N::shares(stake).ok_or(YumaError::StakeSum)
    }

    fn run(&mut self, stake: Vec<N>, weights: &Matrix<N>) -> Result<Epoch<N>, YumaError> {
        let room = || Matrix::zeros(weights.validators(), weights.miners());
        let mut normalized = match self.spare.take() {
            None if keeps_weights::<N>(&self.params) => Some(room()?),
            spare => spare,
        };
        let first = self.bonds.is_none();
        let mut bonds = self.bonds.take().map_or_else(room, Ok)?;
        let input = Input {
            params: &self.params,
            stake,
            weights,
            before: self.before.as_ref(),
            normalized: normalized.as_mut(),
            bonds: &mut bonds,
            first,
        };
        let epoch = epoch(input, self.means);
        self.bonds = Some(bonds);
        self.spare = match self.params.version {
            Version::Two => std::mem::replace(&mut self.before, normalized),
            Version::One | Version::Three => normalized,
        };
        Ok(epoch)
    }
}

#[cfg(test)]
mod tests;
