//! The exact division of a pot in proportion to points.

use dn_core::Amount;

use crate::division::Division;

/// Why a pot cannot be divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayoutError {
    /// The points add up to more than 128 bits hold.
    #[error("the points of {entries} entries add up to more than 128 bits hold")]
    Overflow {
        /// Entries up to the one that overflowed.
        entries: usize,
    },
    /// Columns of different lengths.
    #[error("{ids} ids, {points} points and room for {out} shares; all three must be equal")]
    Length {
        /// Ids given.
        ids: usize,
        /// Points given.
        points: usize,
        /// Shares that can be written.
        out: usize,
    },
}

/// The division of a pot: `⌊E · p_i / P⌋` each, and the atto that rounding leaves go one by one to the largest remainders, the
/// smaller id first where they are equal.
///
/// Normalised shares are never stored: a share is computed from the id and its points whenever it is asked for. An id has one
/// entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payout<Id> {
    division: Division,
    /// The last entry, by falling remainder and rising id, that gets one atto more.
    cut: Option<(u128, Id)>,
}

impl<Id: Ord + Copy> Payout<Id> {
    /// Plans the division; the entries are read twice and need no order.
    ///
    /// # Errors
    /// [`PayoutError::Overflow`].
    pub fn new<I>(pot: Amount, entries: I) -> Result<Self, PayoutError>
    where
        I: IntoIterator<Item = (Id, u128)>,
        I::IntoIter: Clone,
    {
        let entries = entries.into_iter();
        let mut total = 0u128;
        for (n, (_, points)) in entries.clone().enumerate() {
            total = total.checked_add(points).ok_or(PayoutError::Overflow { entries: n + 1 })?;
        }
        let mut plan = Self { division: Division::new(pot.atto(), total), cut: None };
        if total == 0 {
            return Ok(plan);
        }
        let mut floors = 0u128;
        let mut remainders = Vec::new();
        for (id, points) in entries {
            let (floor, remainder) = plan.division.divide(points);
            floors += floor; // at most the pot
            if remainder > 0 {
                remainders.push((remainder, id));
            }
        }
        // Less than one atto for each entry that has a remainder.
        let left = usize::try_from(plan.division.pot - floors).unwrap_or(usize::MAX).min(remainders.len());
        if left > 0 {
            let order = |a: &(u128, Id), b: &(u128, Id)| b.0.cmp(&a.0).then(a.1.cmp(&b.1));
            plan.cut = Some(*remainders.select_nth_unstable_by(left - 1, order).1);
        }
        Ok(plan)
    }

    /// What an entry gets, given the id and points it was planned with.
    pub fn share_of(&self, id: Id, points: u128) -> Amount {
        if self.division.total == 0 {
            return Amount::ZERO;
        }
        let (floor, remainder) = self.division.divide(points);
        let extra = self
            .cut
            .is_some_and(|(cut, last)| remainder > cut || (remainder == cut && remainder > 0 && id <= last));
        Amount::from_atto(floor + u128::from(extra))
    }

    /// All points together: P.
    pub const fn total_points(&self) -> u128 {
        self.division.total
    }

    /// What carries over to the next epoch: the whole pot if nobody has points, else nothing.
    pub const fn carried_over(&self) -> Amount {
        Amount::from_atto(if self.division.total == 0 { self.division.pot } else { 0 })
    }

    /// The plan with this cut, which the caller has found.
    pub(crate) const fn with_cut(division: Division, cut: Option<(u128, Id)>) -> Self {
        Self { division, cut }
    }
}

/// Divides a pot over columns of ids and points into `out`; returns what carries over. The same result as
/// [`Payout::share_of`] for each entry.
///
/// # Errors
/// [`PayoutError`]; `out` is then unchanged.
pub fn payout<Id: Ord + Copy>(
    pot: Amount,
    ids: &[Id],
    points: &[u128],
    out: &mut [Amount],
) -> Result<Amount, PayoutError> {
    if ids.len() != points.len() || points.len() != out.len() {
        return Err(PayoutError::Length { ids: ids.len(), points: points.len(), out: out.len() });
    }
    let plan = Payout::new(pot, ids.iter().copied().zip(points.iter().copied()))?;
    for ((share, id), points) in out.iter_mut().zip(ids).zip(points) {
        *share = plan.share_of(*id, *points);
    }
    Ok(plan.carried_over())
}

#[cfg(test)]
mod tests;
