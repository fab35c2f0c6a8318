//! The weights of many workers.

use super::WorkerTrust;
use crate::evidence::{Counts, lower_bounds};
use crate::fixed::Trust;
use crate::params::Params;
use crate::root::{LANES, narrow, square_roots};

/// [`WorkerTrust::weight`] of each state, as far as there is room in `weights`.
///
/// Each step is taken for many states before the next one: those of one state wait for each other, those of its neighbours do not.
#[inline(always)]
pub fn worker_weights<'a, I>(params: &Params, states: I, weights: &mut [Trust])
where
    I: Iterator<Item = &'a WorkerTrust> + Clone,
{
    let mut states = states;
    let (mut completion, mut accuracy) = (Columns::default(), Columns::default());
    let (mut means, mut bounds, mut history) = ([0; LANES], [0; LANES], [0; LANES]);
    for weights in weights.chunks_mut(LANES) {
        let mut count = 0;
        for (row, state) in states.by_ref().take(weights.len()).enumerate() {
            completion.set(row, state.completion);
            accuracy.set(row, state.accuracy);
            means[row] = u64::from(state.stability) * u64::from(state.speed);
            history[row] = state.history;
            count = row + 1;
        }
        // Rows beyond the last are computed too, from what was there before: a loop of a fixed length is a faster one.
        square_roots(&mut means);
        for counts in [&completion, &accuracy] {
            lower_bounds(&counts.good, &counts.bad, params, &mut bounds);
            // Both are fractions below one.
            means.iter_mut().zip(&bounds).for_each(|(mean, bound)| *mean = narrow(*mean, *bound));
            square_roots(&mut means);
        }
        for ((weight, mean), history) in weights[..count].iter_mut().zip(means).zip(history) {
            *weight = Trust::of_fractions(params.trust_min, history, mean as u32);
        }
    }
}

/// Good and bad weight of each row.
struct Columns {
    good: [u32; LANES],
    bad: [u32; LANES],
}

impl Default for Columns {
    fn default() -> Self {
        Self { good: [0; LANES], bad: [0; LANES] }
    }
}

impl Columns {
    #[inline(always)]
    fn set(&mut self, row: usize, counts: Counts) {
        (self.good[row], self.bad[row]) = (counts.good(), counts.bad());
    }
}
