//! The division of a pot among the rows of a population.

use dn_core::Amount;

use super::{PopulationError, same};
use crate::division::{Division, Narrow};
use crate::payout::Payout;

/// Counters of a survey; 2^11.
const BUCKETS: usize = 1 << BUCKET_BITS;
const BUCKET_BITS: u32 = 11;
/// Rows whose scores are looked at before they are divided: few enough for the first-level cache.
const STRIP: usize = 512;
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
        within(first, scores.len())?;
        if self.division.total == 0 {
            return Ok(());
        }
        let shift = self.shift();
        // Where the row does not decide, remainders are enough: the range then starts at a whole one.
        let coarse = shift.checked_sub(ROW_BITS).map(|shift| (self.low >> ROW_BITS, shift));
        let narrow = self.division.narrow();
        for (first, scores) in strips(first, scores) {
            let floors = match (narrow.filter(|narrow| narrow.suits(scores)), coarse) {
                (Some(narrow), Some((low, shift))) => count(narrow, low, shift, scores, &mut survey.counts),
                _ => self.count(first, scores, coarse, &mut survey.counts),
            };
            survey.floors = survey.floors.saturating_add(floors);
        }
        Ok(())
    }

    /// Counts keys of any width; returns the sum of the quotients.
    fn count(&self, first: u32, scores: &[u64], coarse: Option<(u128, u32)>, counts: &mut [u64]) -> u128 {
        let mut floors = 0u128;
        for (row, score) in (first..=u32::MAX).zip(scores) {
            let (floor, remainder) = self.division.divide((*score).into());
            floors = floors.wrapping_add(floor);
            if remainder > 0 {
                let bucket = match coarse {
                    Some((low, shift)) => remainder.wrapping_sub(low) >> shift,
                    None => key(remainder, row).wrapping_sub(self.low) >> self.shift(),
                };
                if let Some(count) = usize::try_from(bucket).ok().and_then(|b| counts.get_mut(b)) {
                    *count += 1;
                }
            }
        }
        floors
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
        within(first, scores.len())?;
        same("amounts", scores.len(), amounts.len())?;
        if self.division.total == 0 {
            amounts.fill(Amount::ZERO);
            return Ok(());
        }
        let narrow = self.division.narrow();
        for ((first, scores), amounts) in strips(first, scores).zip(amounts.chunks_mut(STRIP)) {
            match narrow.filter(|narrow| narrow.suits(scores)) {
                Some(narrow) => self.pay_narrow(narrow, first, scores, amounts, near),
                None => self.pay_wide(first, scores, amounts, near),
            }
        }
        Ok(())
    }

    fn pay_narrow(
        &self,
        narrow: Narrow,
        first: u32,
        scores: &[u64],
        amounts: &mut [Amount],
        near: &mut Vec<u128>,
    ) {
        // Remainders have 63 bits.
        let [low, high] = [self.low, self.high].map(|key| u64::try_from(key >> ROW_BITS).unwrap_or(u64::MAX));
        for (at, (score, amount)) in scores.iter().zip(amounts).enumerate() {
            let (floor, remainder) = narrow.divide(*score);
            let mut above = remainder > high;
            if remainder >= low && !above {
                above = self.by_row(remainder.into(), first + at as u32, near);
            }
            *amount = Amount::from_atto(u128::from(floor) + u128::from(above));
        }
    }

    fn pay_wide(&self, first: u32, scores: &[u64], amounts: &mut [Amount], near: &mut Vec<u128>) {
        let (low, high) = (self.low >> ROW_BITS, self.high >> ROW_BITS);
        for (at, (score, amount)) in scores.iter().zip(amounts).enumerate() {
            let (floor, remainder) = self.division.divide((*score).into());
            let mut above = remainder > high;
            if remainder >= low && !above {
                above = self.by_row(remainder, first + at as u32, near);
            }
            *amount = Amount::from_atto(floor + u128::from(above));
        }
    }

    /// True for a key above the range, where the remainder does not tell. Rarely needed.
    fn by_row(&self, remainder: u128, row: u32, near: &mut Vec<u128>) -> bool {
        let key = key(remainder, row);
        let above = key > self.high;
        if key >= self.low && !above && remainder > 0 {
            near.push(key);
        }
        above
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

/// Counts remainders from `low` on in ranges of `2^shift`; returns the sum of the quotients.
fn count(narrow: Narrow, low: u128, shift: u32, scores: &[u64], counts: &mut [u64]) -> u128 {
    // Remainders have 63 bits, and so has the start of a range of them.
    let low = low as u64;
    let mut floors = 0u128;
    for score in scores {
        let (floor, remainder) = narrow.divide(*score);
        floors += u128::from(floor);
        let bucket = remainder.wrapping_sub(low) >> shift;
        if let Some(count) = usize::try_from(bucket).ok().and_then(|b| counts.get_mut(b)) {
            *count += u64::from(remainder > 0);
        }
    }
    floors
}

/// Remainders are below the total, so 96 bits.
fn key(remainder: u128, row: u32) -> u128 {
    (remainder << ROW_BITS) | u128::from(!row)
}

fn row(key: u128) -> u32 {
    !(key as u32)
}

/// Scores in strips, each with its first row.
fn strips(first: u32, scores: &[u64]) -> impl Iterator<Item = (u32, &[u64])> {
    // The last row has 32 bits.
    scores.chunks(STRIP).enumerate().map(move |(n, strip)| (first + (n * STRIP) as u32, strip))
}

fn within(first: u32, rows: usize) -> Result<(), PopulationError> {
    let Some(more) = rows.checked_sub(1) else { return Ok(()) };
    let last = u32::try_from(more).ok().and_then(|more| first.checked_add(more));
    last.map(|_| ()).ok_or(PopulationError::Rows { first, rows })
}
