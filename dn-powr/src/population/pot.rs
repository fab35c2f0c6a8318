//! The division of a pot among the rows of a population.

use std::ops::RangeInclusive;

use dn_core::Amount;

use super::{PopulationError, same};
use crate::division::Division;
use crate::payout::Payout;

/// Counters of a survey; 2^11.
const BUCKETS: usize = 1 << BUCKET_BITS;
const BUCKET_BITS: u32 = 11;
/// Rows near the cut that are sorted out one by one.
const NEAR: u64 = 1 << 16;
/// The largest scores in the largest population.
const MAX_TOTAL: u128 = (u64::MAX as u128) << ROW_BITS;
/// Bits of a row.
const ROW_BITS: u32 = 32;

/// A pot on its way to the rows of a population: the division of [`Payout`], with rows as ids.
///
/// The odd atto go to the largest keys, where a key is the remainder followed by the inverted row: no two are equal, and their order is
/// "largest remainder first, ties to the smaller row". The key where they end is found by counting keys in ever
/// smaller ranges, hence without sorting and in bounded memory whatever the scores.
#[derive(Debug, Clone)]
pub struct Pot {
    division: Division,
    /// The cut is in `low..low + 2^bits`.
    low: u128,
    bits: u32,
    /// Odd atto, once the floors are known.
    odd: Option<u64>,
    /// Keys above the range.
    above: u64,
}

/// What a survey led to.
#[derive(Debug, Clone)]
pub enum Narrowed {
    /// Many rows are alike: the narrower range must be surveyed too.
    Further(Pot),
    /// Few rows are left near the cut: the amounts can be paid.
    Ready(Shares),
}

/// A pot whose odd atto are known but for a few rows near the cut.
#[derive(Debug, Clone)]
pub struct Shares {
    division: Division,
    /// Keys from `low` to `high` are sorted out at the end; those above get an odd atto, those below none.
    low: u128,
    high: u128,
    /// Odd atto for keys of the range.
    left: u64,
}

/// What blocks count for a [`Pot`]; counts of blocks add up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    floors: u128,
    counts: Vec<u64>,
}

impl Default for Survey {
    fn default() -> Self {
        Self { floors: 0, counts: vec![0; BUCKETS] }
    }
}

impl Survey {
    /// Adds what another block counted.
    pub fn merge(&mut self, other: &Self) {
        // Floors add up to at most the pot.
        self.floors = self.floors.saturating_add(other.floors);
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
    }
}

impl Pot {
    /// A pot to divide by the scores of a population, whose sum is `total`.
    ///
    /// # Errors
    /// [`PopulationError::Total`] for what no 2^32 scores add up to.
    pub fn new(pot: Amount, total: u128) -> Result<Self, PopulationError> {
        if total > MAX_TOTAL {
            return Err(PopulationError::Total { found: total });
        }
        let bits = u128::BITS - total.leading_zeros() + ROW_BITS;
        Ok(Self { division: Division::new(pot.atto(), total), low: 0, bits, odd: None, above: 0 })
    }

    /// Counts the keys of a block in the range where the cut is.
    ///
    /// # Errors
    /// [`PopulationError::Rows`]; nothing was counted then.
    pub fn survey(&self, first: u32, scores: &[u64], survey: &mut Survey) -> Result<(), PopulationError> {
        let rows = rows(first, scores.len())?;
        if self.division.total == 0 {
            return Ok(());
        }
        let shift = self.shift();
        // Where the row does not decide, remainders are enough: the range then starts at a whole one.
        let coarse = shift.checked_sub(ROW_BITS).map(|shift| (self.low >> ROW_BITS, shift));
        let mut floors = 0u128;
        for (row, score) in rows.zip(scores) {
            let (floor, remainder) = self.division.divide((*score).into());
            floors = floors.wrapping_add(floor);
            if remainder > 0 {
                let bucket = match coarse {
                    Some((low, shift)) => remainder.wrapping_sub(low) >> shift,
                    None => key(remainder, row).wrapping_sub(self.low) >> shift,
                };
                if let Some(count) = usize::try_from(bucket).ok().and_then(|b| survey.counts.get_mut(b)) {
                    *count += 1;
                }
            }
        }
        survey.floors = survey.floors.saturating_add(floors);
        Ok(())
    }

    /// Takes the merged survey of all rows. Where remainders are spread one survey is enough; where all are equal a few are needed,
    /// never more than twelve.
    pub fn narrow(mut self, survey: &Survey) -> Narrowed {
        let odd = self.odd.unwrap_or_else(|| {
            let left = self.division.pot.saturating_sub(survey.floors);
            if self.division.total == 0 { 0 } else { u64::try_from(left).unwrap_or(u64::MAX) }
        });
        self.odd = Some(odd);
        let shift = self.shift();
        for (bucket, count) in survey.counts.iter().enumerate().rev() {
            if self.above + count >= odd || bucket == 0 {
                self.low += (bucket as u128) << shift;
                self.bits = shift;
                if *count > NEAR && shift > 0 {
                    return Narrowed::Further(self);
                }
                break;
            }
            self.above += count;
        }
        let (low, high) = (self.low, self.low | ((1 << shift) - 1));
        Narrowed::Ready(Shares { division: self.division, low, high, left: odd - self.above })
    }

    /// Bits of a key below those that choose the bucket.
    fn shift(&self) -> u32 {
        self.bits.saturating_sub(BUCKET_BITS)
    }
}

impl Shares {
    /// Writes the amounts of a block; the keys of rows near the cut, which may get one atto more, are added to `near`.
    ///
    /// # Errors
    /// [`PopulationError`]; nothing was written then.
    pub fn pay(
        &self,
        first: u32,
        scores: &[u64],
        amounts: &mut [Amount],
        near: &mut Vec<u128>,
    ) -> Result<(), PopulationError> {
        let rows = rows(first, scores.len())?;
        same("amounts", scores.len(), amounts.len())?;
        if self.division.total == 0 {
            amounts.fill(Amount::ZERO);
            return Ok(());
        }
        let (low, high) = (self.low >> ROW_BITS, self.high >> ROW_BITS);
        for ((row, score), amount) in rows.zip(scores).zip(amounts) {
            let (floor, remainder) = self.division.divide((*score).into());
            let mut above = remainder > high;
            // Rarely: the row decides too.
            if remainder >= low && !above {
                let key = key(remainder, row);
                above = key > self.high;
                if key >= self.low && !above && remainder > 0 {
                    near.push(key);
                }
            }
            *amount = Amount::from_atto(floor + u128::from(above));
        }
        Ok(())
    }

    /// Gives the odd atto that are left to rows near the cut, whose keys [`pay`](Self::pay) of all blocks has collected in any order;
    /// `amounts` are those of all rows. Returns the plan, which answers for one identity at a time.
    pub fn settle(&self, near: &mut [u128], amounts: &mut [Amount]) -> Payout<u32> {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX).min(near.len());
        if left == 0 {
            return Payout::with_cut(self.division, None);
        }
        let cut = *near.select_nth_unstable_by(left - 1, |a, b| b.cmp(a)).1;
        for key in near.iter().filter(|key| **key >= cut) {
            if let Some(amount) = amounts.get_mut(row(*key) as usize) {
                *amount = Amount::from_atto(amount.atto() + 1);
            }
        }
        Payout::with_cut(self.division, Some((cut >> ROW_BITS, row(cut))))
    }
}

/// Remainders are below the total, so 96 bits.
fn key(remainder: u128, row: u32) -> u128 {
    (remainder << ROW_BITS) | u128::from(!row)
}

fn row(key: u128) -> u32 {
    !(key as u32)
}

fn rows(first: u32, rows: usize) -> Result<RangeInclusive<u32>, PopulationError> {
    let Some(more) = rows.checked_sub(1) else { return Ok(first..=first) };
    let last = u32::try_from(more).ok().and_then(|more| first.checked_add(more));
    last.map(|last| first..=last).ok_or(PopulationError::Rows { first, rows })
}
