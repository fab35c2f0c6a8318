//! Matrices of validators by miners, kept in tiles of sixteen miners: what Yuma does to a column it does to sixteen side by side, and a tile
//! of a few dozen validators stays in the nearest cache meanwhile.

use super::lanes::{GROUP, Group, LANES, Row};
use super::{Number, YumaError};

/// The most cells of a matrix, validators counted as the next multiple of four and miners as that of sixteen.
pub const MAX_CELLS: usize = 1 << 24;

/// A matrix of numbers that are not negative, a row for each validator, a column for each miner.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix<N> {
    validators: usize,
    miners: usize,
    /// For each sixteen miners a row of every validator. Beyond the last of either stand zeros.
    rows: Vec<Group<Row<N>>>,
}

/// How many groups validators make.
pub(super) fn groups(validators: usize) -> usize {
    validators.div_ceil(GROUP)
}

impl<N: Number> Matrix<N> {
    /// A matrix of zeros.
    ///
    /// # Errors
    /// A side is empty, or there are more than [`MAX_CELLS`] cells.
    pub fn zeros(validators: usize, miners: usize) -> Result<Self, YumaError> {
        match groups(validators).checked_mul(miners.div_ceil(LANES)) {
            Some(rows) if (1..=MAX_CELLS / LANES / GROUP).contains(&rows) => {
                Ok(Self { validators, miners, rows: vec![[Row::ZERO; GROUP]; rows] })
            }
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
                let (group, at) = matrix.place(validator, miner);
                matrix.rows[group][at].0[miner % LANES] = N::of(*value);
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

    /// What a validator says of a miner; `None` beyond the last of either.
    pub fn cell(&self, validator: usize, miner: usize) -> Option<N> {
        let inside = validator < self.validators && miner < self.miners;
        let (group, at) = self.place(validator, miner);
        inside.then(|| self.rows[group][at].0[miner % LANES])
    }

    /// Where a validator's row of a miner's tile is.
    fn place(&self, validator: usize, miner: usize) -> (usize, usize) {
        (miner / LANES * groups(self.validators) + validator / GROUP, validator % GROUP)
    }

    /// Row by row as `f64`.
    pub fn to_rows(&self) -> Vec<Vec<f64>> {
        let row = |validator: usize| {
            let groups = self.rows.iter().skip(validator / GROUP).step_by(groups(self.validators));
            groups.flat_map(|group| group[validator % GROUP].0).take(self.miners).map(N::to_f64).collect()
        };
        (0..self.validators).map(row).collect()
    }

    /// Makes a column zero, if there is one.
    pub(super) fn clear(&mut self, miner: usize) {
        if miner < self.miners {
            let tile = self.rows.chunks_exact_mut(groups(self.validators)).nth(miner / LANES);
            tile.into_iter().flatten().flatten().for_each(|row| row.0[miner % LANES] = N::ZERO);
        }
    }

    /// So many tiles after another.
    pub(super) fn blocks(&self, tiles: usize) -> impl ExactSizeIterator<Item = &[Group<Row<N>>]> {
        self.rows.chunks(tiles * groups(self.validators))
    }

    pub(super) fn blocks_mut(&mut self, tiles: usize) -> impl ExactSizeIterator<Item = &mut [Group<Row<N>>]> {
        self.rows.chunks_mut(tiles * groups(self.validators))
    }

    pub(super) fn same_shape(&self, other: &Self) -> bool {
        self.validators == other.validators && self.miners == other.miners
    }
}
