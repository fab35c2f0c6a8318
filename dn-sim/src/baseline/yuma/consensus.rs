//! The stake-weighted majority of a column.

use std::cmp::Ordering;

use super::Number;
use super::lanes::{most, most_below, normalize, sum, sum_of};

/// How often the range of the votes is halved: one vote in hundreds is left then, unless they are very close.
const HALVINGS: usize = 7;
/// How many votes left in the range are tried one by one before the rest are sorted.
const TRIALS: usize = 6;

/// Finds a column's majority value; keeps its scratch space between columns.
#[derive(Debug, Clone)]
pub(super) struct Majority<N> {
    stake: Vec<N>,
    /// Validators with stake: only they vote.
    voters: Vec<usize>,
    support: N,
    votes: Vec<N>,
    near: Vec<(N, N)>,
}

impl<N: Number> Majority<N> {
    /// `shares` of stake, none negative; `kappa` the share that makes a majority.
    pub(super) fn new(shares: &[N], kappa: N) -> Self {
        let voters: Vec<usize> = (0..shares.len()).filter(|i| shares[*i] > N::ZERO).collect();
        let mut stake: Vec<N> = voters.iter().map(|i| shares[*i]).collect();
        normalize(&mut stake);
        let support = kappa.lower(sum(&stake));
        Self { stake, voters, support, votes: Vec::new(), near: Vec::new() }
    }

    /// The largest vote such that the stake voting at least that is a majority; zero when nobody votes.
    ///
    /// Subtensor searches by pivots (`weighted_median`); as its sums are exact the way there does not matter.
    pub(super) fn of(&mut self, column: &[N]) -> N {
        if self.voters.is_empty() {
            return N::ZERO;
        }
        if self.voters.len() == column.len() {
            return Self::search(&self.stake, self.support, column, &mut self.near);
        }
        self.votes.clear();
        self.votes.extend(self.voters.iter().map(|i| column[*i]));
        Self::search(&self.stake, self.support, &self.votes, &mut self.near)
    }

    fn search(stake: &[N], support: N, votes: &[N], near: &mut Vec<(N, N)>) -> N {
        // How much stake votes at least that much.
        let behind = |least| sum_of(votes, stake, |vote, stake: N| stake.when(vote, least));
        // In sparse weights most miners have no majority behind anything.
        if behind(N::LEAST) < support {
            return N::ZERO;
        }
        let most = most(votes);
        if behind(most) >= support {
            return most;
        }
        // The majority value is at least `low` and below `high`: everybody votes zero or more.
        let (mut low, mut high) = (N::ZERO, most);
        for _ in 0..HALVINGS {
            let middle = (low + high) * N::HALF;
            if behind(middle) >= support {
                low = middle;
            } else {
                high = middle;
            }
        }
        for _ in 0..TRIALS {
            high = most_below(votes, high);
            if behind(high) >= support {
                return high;
            }
        }
        let mut above = behind(high);
        near.clear();
        let inside = |(vote, _): &(&N, &N)| **vote >= low && **vote < high;
        near.extend(votes.iter().zip(stake).filter(inside).map(|(vote, stake)| (*vote, *stake)));
        // None is no number: all can be compared.
        near.sort_unstable_by(|left, right| right.0.partial_cmp(&left.0).unwrap_or(Ordering::Equal));
        let mut majority = low;
        for (vote, stake) in near {
            majority = *vote;
            above = above + *stake;
            if above >= support {
                break;
            }
        }
        majority
    }
}
