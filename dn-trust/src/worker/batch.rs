//! The weights of many workers.

use super::WorkerTrust;
use crate::fixed::{Trust, Unit};
use crate::params::Params;

/// Workers whose intermediate results are kept.
const STRIP: usize = 64;

/// [`WorkerTrust::weight`] of each state, as far as there is room in `weights`.
///
/// Each root is taken of many states before the next one: those of one state wait for each other, those of its neighbours do not.
#[inline]
pub fn worker_weights<'a, I>(params: &Params, states: I, weights: &mut [Trust])
where
    I: Iterator<Item = &'a WorkerTrust> + Clone,
{
    let mut states = states;
    for weights in weights.chunks_mut(STRIP) {
        let (mut inner, mut accuracy) = ([Unit::ZERO; STRIP], [Unit::ZERO; STRIP]);
        let strip = states.clone().take(weights.len());
        for (inner, state) in inner.iter_mut().zip(strip.clone()) {
            *inner = Unit::from_fraction(state.stability).geometric_mean(Unit::from_fraction(state.speed));
        }
        for (inner, state) in inner.iter_mut().zip(strip.clone()) {
            *inner = state.completion.lower_bound(params).geometric_mean(*inner);
        }
        for (accuracy, state) in accuracy.iter_mut().zip(strip) {
            *accuracy = state.accuracy.lower_bound(params);
        }
        for (((weight, state), accuracy), inner) in
            weights.iter_mut().zip(&mut states).zip(&accuracy).zip(&inner)
        {
            let outer = accuracy.geometric_mean(*inner);
            *weight = Trust::under(params.trust_min, Unit::from_fraction(state.history), outer);
        }
    }
}
