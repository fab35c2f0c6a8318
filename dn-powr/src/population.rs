//! Whole populations of workers: an epoch closed, scored and paid block by block, with the bits that
//! [`WorkerTrust`], [`score`](crate::score) and [`Payout`](crate::Payout) give one identity at a time.
//!
//! An identity is a row: its position, a 32-bit number, is its id. The caller owns the columns and cuts them into
//! blocks as it likes, one thread or many; what blocks have in common are sums of integers, so no cut changes a bit.
//!
//! 1. [`Block::close`] folds the epoch into the states and writes the scores; the points of the blocks add up to the total.
//! 2. [`Pot::survey`] counts remainders, [`Pot::narrow`] says when enough is known about where the odd atto end.
//! 3. [`Shares::pay`] writes the amounts, [`Shares::settle`] gives the last odd atto.
//!
//! # Bounds
//! A row's work has 64 bits (5·10^15 operations a second for an hour); [`narrow_work`] refuses more. A score is at most the work,
//! so 2^32 rows have less than 2^96 points together: no sum here can overflow 128 bits, and neither can a remainder with
//! an id beside it.
//!
//! # Memory
//! Bytes per row: state 28, idle epochs 2, sums 28, work 8, quality 8, score 8, amount 16: 98.

mod pot;

pub use pot::{Narrowed, Pot, Shares, Survey};

use dn_trust::{Params, Trust, Unit, WorkerSums, WorkerTrust, worker_weights};

use crate::score::narrow_score;

/// Rows that are worked on together: their intermediate results stay in the first-level cache.
const STRIP: usize = 64;

/// Why a population is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PopulationError {
    /// Columns of a block that differ in length.
    #[error("the column `{column}` has {found} rows; the block has {expected}")]
    Length {
        /// The column.
        column: &'static str,
        /// Rows of the block's first column.
        expected: usize,
        /// Rows of this one.
        found: usize,
    },
    /// Ids have 32 bits.
    #[error("{rows} rows from row {first} on; the last row is 4294967295")]
    Rows {
        /// First row of the block.
        first: u32,
        /// Rows in it.
        rows: usize,
    },
    /// The points of all rows together.
    #[error("{found} points in all; 2^32 scores add up to at most 2^96 - 2^32")]
    Total {
        /// The points.
        found: u128,
    },
    /// Work has 64 bits.
    #[error("{found} verified work units in an epoch; a population holds at most 18446744073709551615 a row")]
    Work {
        /// The work.
        found: u128,
    },
}

/// The work of a row.
///
/// # Errors
/// [`PopulationError::Work`] over 64 bits.
pub fn narrow_work(vwu: u128) -> Result<u64, PopulationError> {
    u64::try_from(vwu).map_err(|_| PopulationError::Work { found: vwu })
}

/// Consecutive rows of all columns of an epoch.
#[derive(Debug)]
pub struct Block<'a> {
    /// Trust states, each as of its last epoch that was not idle.
    pub states: &'a mut [WorkerTrust],
    /// Idle epochs since then, which the state does not show yet ([`settle_idle`]).
    pub idle_epochs: &'a mut [u16],
    /// Sums of the epoch's events.
    pub sums: &'a [WorkerSums],
    /// Verified work of the epoch.
    pub work: &'a [u64],
    /// Its quality.
    pub quality: &'a [Unit],
    /// Where the scores go.
    pub scores: &'a mut [u64],
}

impl Block<'_> {
    /// Closes the epoch: states move, scores are written. Returns the points of the block. A row without events and work is only
    /// counted: it has no score, and its state catches up when there is something to add to it.
    ///
    /// # Errors
    /// [`PopulationError::Length`]; nothing has changed then.
    #[inline(always)]
    pub fn close(self, params: &Params) -> Result<u128, PopulationError> {
        let rows = self.states.len();
        for (column, found) in [
            ("idle_epochs", self.idle_epochs.len()),
            ("sums", self.sums.len()),
            ("work", self.work.len()),
            ("quality", self.quality.len()),
            ("scores", self.scores.len()),
        ] {
            same(column, rows, found)?;
        }
        let strips = self.states.chunks_mut(STRIP).zip(self.idle_epochs.chunks_mut(STRIP));
        let inputs = self.sums.chunks(STRIP).zip(self.work.chunks(STRIP)).zip(self.quality.chunks(STRIP));
        let mut points = 0;
        for (((states, idle), ((sums, work), quality)), scores) in
            strips.zip(inputs).zip(self.scores.chunks_mut(STRIP))
        {
            points += Block { states, idle_epochs: idle, sums, work, quality, scores }.strip(params);
        }
        Ok(points)
    }

    /// A block of at most [`STRIP`] rows. Each step runs over all rows before the next: the chain of roots of one row is
    /// long, those of its neighbours do not wait for it.
    #[inline(always)]
    fn strip(self, params: &Params) -> u128 {
        let mut busy = [0u8; STRIP];
        let mut count = 0;
        for (row, (idle, (sums, work))) in
            self.idle_epochs.iter_mut().zip(self.sums.iter().zip(self.work)).enumerate()
        {
            let asleep = sums.is_idle() & (*work == 0);
            if *idle > 0 && (!asleep || *idle == u16::MAX) {
                self.states[row].close_idle_epochs(params, (*idle).into());
                *idle = 0;
            }
            *idle += u16::from(asleep);
            busy[count] = row as u8;
            count += usize::from(!asleep);
        }
        let busy = &busy[..count];
        for row in busy {
            let row = usize::from(*row);
            self.states[row].close_sums(params, &self.sums[row]);
        }
        let mut trust = [Trust::ONE; STRIP];
        worker_weights(params, busy.iter().map(|row| &self.states[usize::from(*row)]), &mut trust[..count]);
        if count < self.scores.len() {
            self.scores.fill(0);
        }
        let mut points = 0;
        for (trust, row) in trust.iter().zip(busy) {
            let row = usize::from(*row);
            let score = narrow_score(self.work[row], self.quality[row], *trust);
            self.scores[row] = score;
            points += u128::from(score);
        }
        points
    }
}

/// Brings states up to date with their idle epochs, for whoever wants to look at them.
///
/// # Errors
/// [`PopulationError::Length`]; nothing has changed then.
pub fn settle_idle(
    params: &Params,
    states: &mut [WorkerTrust],
    idle_epochs: &mut [u16],
) -> Result<(), PopulationError> {
    same("idle_epochs", states.len(), idle_epochs.len())?;
    for (state, idle) in states.iter_mut().zip(idle_epochs) {
        state.close_idle_epochs(params, (*idle).into());
        *idle = 0;
    }
    Ok(())
}

fn same(column: &'static str, expected: usize, found: usize) -> Result<(), PopulationError> {
    if found == expected { Ok(()) } else { Err(PopulationError::Length { column, expected, found }) }
}

#[cfg(test)]
mod tests;
