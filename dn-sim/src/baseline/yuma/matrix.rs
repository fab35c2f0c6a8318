//! Matrices of validators by miners, kept miner by miner: all that Yuma does to a column happens in one cache line's neighbourhood.

use super::blocks::BLOCK;
use super::{Number, YumaError};

/// The most cells of a matrix.
pub const MAX_CELLS: usize = 1 << 24;

/// A matrix of numbers that are not negative, a row for each validator, a column for each miner.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix<N> {
    validators: usize,
    miners: usize,
    /// All of miner 0's column, then miner 1's.
    cells: Vec<N>,
}

impl<N: Number> Matrix<N> {
    /// A matrix of zeros.
    ///
    /// # Errors
    /// A side is empty, or there are more than [`MAX_CELLS`] cells.
    pub fn zeros(validators: usize, miners: usize) -> Result<Self, YumaError> {
        match validators.checked_mul(miners) {
            Some(cells @ 1..=MAX_CELLS) => Ok(Self { validators, miners, cells: vec![N::ZERO; cells] }),
            _ => Err(YumaError::Size { validators, miners }),
        }
    }

    /// Reads rows, a validator each. What the rows mean, and whether they sum to one, is the reader's business.
    ///
    /// # Errors
    /// Rows of different length, none, more than [`MAX_CELLS`] cells, a negative number or none at all, a cell or a row's sum beyond
    /// [`Number::MAX_SUM`].
    pub fn from_rows<R: AsRef<[f64]>>(rows: &[R]) -> Result<Self, YumaError> {
        let miners = rows.first().map_or(0, |row| row.as_ref().len());
        let mut matrix = Self::zeros(rows.len(), miners)?;
        for (validator, row) in rows.iter().enumerate() {
            let row = row.as_ref();
            if row.len() != miners {
                return Err(YumaError::Row { validator, found: row.len(), expected: miners });
            }
            for (miner, value) in row.iter().enumerate() {
                if !(0.0..=N::MAX_SUM).contains(value) {
                    return Err(YumaError::Cell { validator, miner, value: *value, max: N::MAX_SUM });
                }
                matrix.cells[miner * matrix.validators + validator] = N::of(*value);
            }
            let sum: f64 = row.iter().sum();
            if sum > N::MAX_SUM {
                return Err(YumaError::RowSum { validator, sum, max: N::MAX_SUM });
            }
        }
        Ok(matrix)
    }

    /// How many validators.
    pub fn validators(&self) -> usize {
        self.validators
    }

    /// How many miners.
    pub fn miners(&self) -> usize {
        self.miners
    }

    /// What all validators say of a miner; a miner beyond the last has nothing said.
    pub fn column(&self, miner: usize) -> &[N] {
        self.cells.chunks_exact(self.validators).nth(miner).unwrap_or(&[])
    }

    /// Row by row as `f64`.
    pub fn to_rows(&self) -> Vec<Vec<f64>> {
        let cell = |validator, column: &[N]| N::to_f64(column[validator]);
        let row = |validator| self.columns().map(|column| cell(validator, column)).collect();
        (0..self.validators).map(row).collect()
    }

    pub(super) fn columns(&self) -> impl ExactSizeIterator<Item = &[N]> {
        self.cells.chunks_exact(self.validators)
    }

    pub(super) fn columns_mut(&mut self) -> impl ExactSizeIterator<Item = &mut [N]> {
        self.cells.chunks_exact_mut(self.validators)
    }

    /// The columns of [`BLOCK`] miners after another.
    pub(super) fn blocks(&self) -> impl ExactSizeIterator<Item = &[N]> {
        self.cells.chunks(BLOCK * self.validators)
    }

    pub(super) fn blocks_mut(&mut self) -> impl ExactSizeIterator<Item = &mut [N]> {
        self.cells.chunks_mut(BLOCK * self.validators)
    }

    pub(super) fn same_shape(&self, other: &Self) -> bool {
        self.validators == other.validators && self.miners == other.miners
    }
}
