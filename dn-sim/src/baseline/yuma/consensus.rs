//! The stake-weighted majority of a column.

use super::Number;

/// Finds a column's majority value; keeps its scratch space between columns.
#[derive(Debug)]
pub(super) struct Majority<N> {
    stake: Vec<N>,
    /// Validators with stake: only they vote.
    voters: Vec<usize>,
    support: N,
    votes: Vec<(N, N)>,
    kept: Vec<(N, N)>,
}

impl<N: Number> Majority<N> {
    /// `shares` of stake, none negative; `kappa` the share that makes a majority.
    pub(super) fn new(shares: &[N], kappa: N) -> Self {
        let voters: Vec<usize> = (0..shares.len()).filter(|i| shares[*i] > N::ZERO).collect();
        let mut stake: Vec<N> = voters.iter().map(|i| shares[*i]).collect();
        let sum = stake.iter().fold(N::ZERO, |sum, share| sum + *share);
        let divisor = sum.divisor();
        stake.iter_mut().for_each(|share| *share = share.over(divisor));
        let sum = stake.iter().fold(N::ZERO, |sum, share| sum + *share);
        Self { stake, voters, support: kappa.lower(sum), votes: Vec::new(), kept: Vec::new() }
    }

    /// The largest vote such that the stake voting at least that is a majority; zero when nobody votes.
    ///
    /// Subtensor searches by pivots too (`weighted_median`); as its sums are exact the pivot does not matter.
    pub(super) fn of(&mut self, column: &[N]) -> N {
        self.votes.clear();
        self.votes.extend(self.voters.iter().zip(&self.stake).map(|(i, stake)| (column[*i], *stake)));
        let mut above = N::ZERO;
        loop {
            let Some((pivot, _)) = self.votes.get(self.votes.len() / 2).copied() else { return N::ZERO };
            let (mut over, mut at) = (N::ZERO, N::ZERO);
            for (vote, stake) in &self.votes {
                over = over + if *vote > pivot { *stake } else { N::ZERO };
                at = at + if *vote == pivot { *stake } else { N::ZERO };
            }
            let upwards = above + over >= self.support && over > N::ZERO;
            if !upwards && above + over + at >= self.support {
                return pivot;
            }
            self.kept.clear();
            let keep = |(vote, _): &&(N, N)| if upwards { *vote > pivot } else { *vote < pivot };
            self.kept.extend(self.votes.iter().filter(keep));
            if self.kept.is_empty() {
                return pivot;
            }
            if !upwards {
                above = above + over + at;
            }
            std::mem::swap(&mut self.votes, &mut self.kept);
        }
    }
}
