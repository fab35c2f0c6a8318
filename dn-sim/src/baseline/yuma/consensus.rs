//! The stake-weighted majority of a column.

use std::cmp::Ordering;

use super::Number;
use super::lanes::{behind_both, normalize, probe, sum, sum_of, survey};

/// The majority value is guessed as if stake were spread evenly over the range of the votes, first so many votes of average stake
/// to both sides of it, then fewer.
const MARGINS: [f64; 2] = [6.0, 1.5];
/// How often the range is halved after that at most, while much stake is left in it.
const HALVINGS: usize = 7;
/// How many votes of average stake may be left in the range.
const FEW: f64 = 5.0;
/// How many votes left in the range are tried one by one before the rest are sorted.
const TRIALS: usize = 6;

/// Finds a column's majority value; keeps its scratch space between columns.
#[derive(Debug, Clone)]
pub(super) struct Majority<N> {
    stake: Vec<N>,
    /// Validators with stake: only they vote.
    voters: Vec<usize>,
    support: N,
    /// So little stake left between two guesses that votes are tried one by one.
    few: N,
    margins: [N; 2],
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
        let average = sum(&stake).to_f64() / voters.len().max(1) as f64;
        let (few, margins) = (N::of(average * FEW), MARGINS.map(|votes| N::of(average * votes)));
        Self { stake, voters, support, few, margins, votes: Vec::new(), near: Vec::new() }
    }

    /// The largest vote such that the stake voting at least that is a majority; zero when nobody votes.
    ///
    /// Subtensor searches by pivots (`weighted_median`); as its sums are exact the way there does not matter.
    pub(super) fn of(&mut self, column: &[N]) -> N {
        if self.voters.is_empty() {
            return N::ZERO;
        }
        let mut near = std::mem::take(&mut self.near);
        let majority = if self.voters.len() == column.len() {
            self.search(column, &mut near)
        } else {
            self.votes.clear();
            self.votes.extend(self.voters.iter().map(|i| column[*i]));
            self.search(&self.votes, &mut near)
        };
        self.near = near;
        majority
    }

    fn search(&self, votes: &[N], near: &mut Vec<(N, N)>) -> N {
        let (stake, support) = (&self.stake[..], self.support);
        let (all, most) = survey(votes, stake);
        // In sparse weights most miners have no majority behind anything.
        if all < support {
            return N::ZERO;
        }
        // The majority value is at least `low` and, unless it is `most`, below `high`: everybody votes zero or more.
        let (mut low, mut high) = (N::ZERO, most);
        let (mut behind_low, mut behind_high) = (all, N::ZERO);
        for margin in self.margins {
            let divisor = (behind_low - behind_high).divisor();
            let at = |behind: N| {
                let part = (behind_low - behind).higher(N::ZERO).over(divisor).lower(N::ONE);
                low + (high - low) * part
            };
            let (left, right) = (at(support + margin), at((support - margin).higher(N::ZERO)));
            let (behind_left, behind_right) = behind_both(votes, stake, left, right);
            if behind_right >= support {
                (low, behind_low) = (right, behind_right);
            } else if behind_left < support {
                (high, behind_high) = (left, behind_left);
            } else {
                (low, behind_low, high, behind_high) = (left, behind_left, right, behind_right);
            }
        }
        for _ in 0..HALVINGS {
            if behind_low - behind_high <= self.few {
                break;
            }
            let middle = low + (high - low) * N::HALF;
            let behind = sum_of(votes, stake, |vote, stake: N| stake.when(vote, middle));
            if behind >= support {
                (low, behind_low) = (middle, behind);
            } else {
                (high, behind_high) = (middle, behind);
            }
        }
        let mut vote = if high == most { most } else { probe(votes, stake, high).1 };
        for _ in 0..TRIALS {
            let (behind, below) = probe(votes, stake, vote);
            if behind >= support {
                return vote;
            }
            (high, behind_high, vote) = (vote, behind, below);
        }
        self.sorted(votes, low, (high, behind_high), near)
    }

    /// The majority value, if it is at least `low` and below `high`.
    #[cold]
    fn sorted(&self, votes: &[N], low: N, (high, mut above): (N, N), near: &mut Vec<(N, N)>) -> N {
        near.clear();
        let inside = |(vote, _): &(&N, &N)| **vote >= low && **vote < high;
        near.extend(votes.iter().zip(&self.stake).filter(inside).map(|(vote, stake)| (*vote, *stake)));
        // None is no number: all can be compared.
        near.sort_unstable_by(|left, right| right.0.partial_cmp(&left.0).unwrap_or(Ordering::Equal));
        let mut majority = low;
        for (vote, stake) in near {
            majority = *vote;
            above = above + *stake;
            if above >= self.support {
                break;
            }
        }
        majority
    }
}
