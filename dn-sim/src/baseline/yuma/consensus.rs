//! The stake-weighted majority of columns.

use super::Number;
use super::lanes::{GROUP, Group, Row, grouped, normalize, sum};
use super::pack::Pack;

/// How often the range of a column's votes is halved before the votes left in it are tried.
const HALVINGS: usize = 7;
/// How many votes are tried, from the highest down, before the range is halved to its end.
const TRIALS: usize = 6;

/// Finds majority values, for sixteen columns side by side: all of them take the same steps, whatever their votes.
///
/// Stake is counted in whole units, so that its sums are exact and their order does not matter.
#[derive(Debug)]
pub(super) struct Majority<N: Number> {
    units: Vec<Group<N::Units>>,
    support: N::Units,
    /// Nobody votes.
    silent: bool,
}

impl<N: Number> Majority<N> {
    /// `shares` of stake, none negative; `kappa` the share that makes a majority.
    pub(super) fn new(shares: &[N], kappa: N) -> Self {
        let voters: Vec<usize> = (0..shares.len()).filter(|i| shares[*i] > N::ZERO).collect();
        let mut stake: Vec<N> = voters.iter().map(|i| shares[*i]).collect();
        normalize(&mut stake);
        let mut units = vec![N::Units::default(); shares.len()];
        let mut all = N::Units::default();
        for (voter, stake) in voters.into_iter().zip(&stake) {
            units[voter] = stake.units() + N::RAISED;
            all = all + units[voter];
        }
        // Without need for support the largest vote is the majority's: any unit will do.
        let support = kappa.lower(sum(&stake)).units().min(all).max(N::ONE_UNIT);
        let units = grouped(&units, N::Units::default());
        Self { units, support, silent: all < N::ONE_UNIT }
    }

    /// For each column the largest vote such that the stake voting at least that is a majority; zero when nobody votes. `most` is not below
    /// any vote.
    ///
    /// Subtensor searches by pivots (`weighted_median`); as its sums are exact the way there does not matter.
    #[inline(always)]
    pub(super) fn of<P: Pack<N>>(&self, p: P, part: usize, votes: &[Group<Row<N>>], most: P::Of) -> P::Of {
        let zero = p.all(N::ZERO);
        if self.silent {
            return zero;
        }
        // The majority value is at least `low` and below `high`: everybody votes zero or more.
        let (mut low, mut high) = (zero, p.next(most));
        for _ in 0..HALVINGS {
            let middle = p.add(low, p.mul(p.sub(high, low), p.all(N::HALF)));
            (low, high) = self.halve(p, part, votes, middle, (low, high));
        }
        let mut votes_below = [zero; GROUP];
        for votes in votes {
            for at in 0..GROUP {
                votes_below[at] = below(p, votes_below[at], p.load(&votes[at], part), high);
            }
        }
        let mut vote = highest(p, votes_below);
        for _ in 0..TRIALS {
            let (mut behind, mut next) = (p.all_units(N::Units::default()), [zero; GROUP]);
            for (votes, units) in votes.iter().zip(&self.units) {
                for at in 0..GROUP {
                    let votes = p.load(&votes[at], part);
                    behind = p.add_behind(behind, units[at], votes, vote);
                    next[at] = below(p, next[at], votes, vote);
                }
            }
            let found = p.enough(behind, p.all_units(self.support));
            if p.everywhere(found) {
                return vote;
            }
            high = p.choose(found, high, vote);
            vote = p.choose(found, vote, highest(p, next));
        }
        // Votes lie close together. The largest number that a majority stands behind is a vote.
        while !p.everywhere(p.at_least(p.next(low), high)) {
            (low, high) = self.halve(p, part, votes, p.between(low, high), (low, high));
        }
        low
    }

    /// Raises what is low to `middle`, or lowers what is high.
    #[inline(always)]
    fn halve<P: Pack<N>>(
        &self,
        p: P,
        part: usize,
        votes: &[Group<Row<N>>],
        middle: P::Of,
        (low, high): (P::Of, P::Of),
    ) -> (P::Of, P::Of) {
        let mut behind = p.all_units(N::Units::default());
        for (votes, units) in votes.iter().zip(&self.units) {
            for at in 0..GROUP {
                behind = p.add_behind(behind, units[at], p.load(&votes[at], part), middle);
            }
        }
        let enough = p.enough(behind, p.all_units(self.support));
        (p.choose(enough, middle, low), p.choose(enough, high, middle))
    }
}

/// The larger of `most` and those votes that are below `high`.
#[inline(always)]
fn below<N: Number, P: Pack<N>>(p: P, most: P::Of, votes: P::Of, high: P::Of) -> P::Of {
    p.higher(most, p.choose(p.at_least(votes, high), p.all(N::ZERO), votes))
}

/// The highest of a group.
#[inline(always)]
pub(super) fn highest<N: Number, P: Pack<N>>(p: P, [first, second, third, fourth]: Group<P::Of>) -> P::Of {
    p.higher(p.higher(first, second), p.higher(third, fourth))
}
