//! The weights of many workers.

use super::WorkerTrust;
use crate::evidence::Counts;
use crate::fixed::Trust;
use crate::params::Params;
use crate::root::{LANES, square_roots};

/// [`WorkerTrust::weight`] of each state, as far as there is room in `weights`.
///
/// Each step is taken for many states before the next one: those of one state wait for each other, those of its neighbours do not.
#[inline]
pub fn worker_weights<'a, I>(params: &Params, states: I, weights: &mut [Trust])
where
    I: Iterator<Item = &'a WorkerTrust> + Clone,
{
    let mut states = states;
    let (mut completion, mut accuracy) = ([Counts::default(); LANES], [Counts::default(); LANES]);
    let (mut means, mut bounds, mut history) = ([0; LANES], [0; LANES], [0; LANES]);
    for weights in weights.chunks_mut(LANES) {
        let mut count = 0;
        for (row, state) in states.by_ref().take(weights.len()).enumerate() {
            completion[row] = state.completion;
            accuracy[row] = state.accuracy;
            means[row] = u64::from(state.stability) * u64::from(state.speed);
            history[row] = state.history;
            count = row + 1;
        }
        let (means, bounds) = (&mut means[..count], &mut bounds[..count]);
        square_roots(means);
        for counts in [&completion[..count], &accuracy[..count]] {
            Counts::lower_bounds(counts, params, bounds);
            // Both are fractions below one.
            means.iter_mut().zip(&*bounds).for_each(|(mean, bound)| *mean *= bound);
            square_roots(means);
        }
        for ((weight, mean), history) in weights.iter_mut().zip(means).zip(history) {
            *weight = Trust::of_fractions(params.trust_min, history, *mean as u32);
        }
    }
}
