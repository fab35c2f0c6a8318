//! Which tokens are kept, and which of them is drawn.

use dn_core::objects::Sampling;

use super::fixed::{EXCLUDED, MICRO, Powers};
use super::rules::{is_better, least_weight, needed, ranking, reaches, target};
use crate::cpu::sampling;

/// Buckets of the distance from the best logit, in steps of 1/32.
const BUCKETS: usize = 4096;
/// Bits of a step.
const STEP_BITS: u32 = 19;

/// Room to work in.
#[derive(Debug, Default)]
pub(super) struct SelectScratch {
    weights: Vec<u64>,
    buckets: Vec<u64>,
    kept: Vec<Kept>,
}

/// A token that is still in.
#[derive(Debug, Clone, Copy)]
struct Kept {
    fixed: i64,
    token: u32,
    weight: u64,
}

/// The largest logit's token, the lowest index among equals.
pub(super) fn best(logits: &[f32]) -> u32 {
    let (mut at, mut most) = (0, logits[0]);
    for (i, l) in logits.iter().enumerate() {
        if *l > most {
            (at, most) = (i, *l);
        }
    }
    at as u32
}

/// The token with the largest logit in fixed point, of those the largest logit, of those the lowest index.
pub(super) fn best_fixed(fixed: &[i64], logits: &[f32]) -> u32 {
    let mut at = 0;
    for (i, l) in fixed.iter().enumerate() {
        if is_better((*l, logits[i]), (fixed[at], logits[at])) {
            at = i;
        }
    }
    at as u32
}

/// Which bucket a distance falls into: nearer is lower.
fn bucket(max: i64, fixed: i64) -> usize {
    ((max.wrapping_sub(fixed) as u64) >> STEP_BITS).min(BUCKETS as u64 - 1) as usize
}

/// Steps 6 to 10: at least one token takes part, and the temperature is not zero.
pub(super) fn draw_one(fixed: &[i64], s: &Sampling, index: u32, scratch: &mut SelectScratch) -> u32 {
    let max = sampling::largest(fixed);
    let powers = Powers::new(s.temperature_micro);
    let SelectScratch { weights, buckets, kept } = scratch;
    let least = least_weight(s.min_p_micro);
    kept.clear();
    if s.top_k > 0 && (s.top_k as usize) < fixed.len() {
        buckets.clear();
        buckets.resize(BUCKETS, 0);
        fixed.iter().filter(|l| **l != EXCLUDED).for_each(|l| buckets[bucket(max, *l)] += 1);
        let last = filled(buckets, |count| count >= u128::from(s.top_k));
        collect(fixed, max, last, kept, |l| powers.of(max, l));
        rank(kept);
        kept.truncate(s.top_k as usize);
        if s.top_p_micro < MICRO {
            let total = kept.iter().map(|k| u128::from(k.weight)).sum();
            kept.truncate(top_p(kept, total, s.top_p_micro));
        }
    } else if s.top_p_micro < MICRO {
        sampling::weights(&powers, max, fixed, weights);
        buckets.clear();
        buckets.resize(BUCKETS, 0);
        for (l, w) in fixed.iter().zip(&*weights).filter(|(_, w)| **w > 0) {
            buckets[bucket(max, *l)] += w;
        }
        let total: u128 = buckets.iter().map(|w| u128::from(*w)).sum();
        let needed = needed(total, s.top_p_micro);
        let last = filled(buckets, |sum| sum > 0 && reaches(sum, needed));
        collect(fixed, max, last, kept, |l| powers.of(max, l));
        rank(kept);
        kept.truncate(top_p(kept, total, s.top_p_micro));
    } else if least > 1 {
        let reach = powers.reach(least);
        for (token, l) in fixed.iter().enumerate() {
            let below = max.wrapping_sub(*l) as u64;
            if below <= reach {
                kept.push(Kept { fixed: *l, token: token as u32, weight: powers.weight(below) });
            }
        }
    } else {
        sampling::weights(&powers, max, fixed, weights);
        let total = weights.iter().sum();
        return pick(weights.iter().copied(), target(s.seed, index, total)) as u32;
    }
    kept.retain(|k| k.weight >= least);
    kept.sort_unstable_by_key(|k| k.token);
    let total = kept.iter().map(|k| k.weight).sum();
    kept[pick(kept.iter().map(|k| k.weight), target(s.seed, index, total))].token
}

/// The first bucket with which the running sum is enough; the last one when it never is.
fn filled(buckets: &[u64], enough: impl Fn(u128) -> bool) -> usize {
    let mut sum = 0;
    let full = |x: &u64| {
        sum += u128::from(*x);
        enough(sum)
    };
    buckets.iter().position(full).unwrap_or(BUCKETS - 1)
}

/// Takes the tokens up to a bucket.
fn collect(fixed: &[i64], max: i64, last: usize, kept: &mut Vec<Kept>, weight: impl Fn(i64) -> u64) {
    // In the last bucket is everything that is farther away.
    let end = if last + 1 < BUCKETS { (last as u64 + 1) << STEP_BITS } else { 1 << 62 };
    for (token, l) in fixed.iter().enumerate() {
        if (max.wrapping_sub(*l) as u64) < end {
            kept.push(Kept { fixed: *l, token: token as u32, weight: weight(*l) });
        }
    }
}

fn rank(kept: &mut [Kept]) {
    kept.sort_unstable_by(|a, b| ranking((a.fixed, a.token), (b.fixed, b.token)));
}

/// Length of the shortest beginning of a ranking that has the wanted share of `total`; at least 1.
fn top_p(ranking: &[Kept], total: u128, top_p_micro: u32) -> usize {
    let needed = needed(total, top_p_micro);
    let mut sum = 0;
    for (n, k) in ranking.iter().enumerate() {
        sum += u128::from(k.weight);
        if reaches(sum, needed) {
            return n + 1;
        }
    }
    ranking.len()
}

/// The first place at which the running sum exceeds `target`.
fn pick(weights: impl Iterator<Item = u64>, target: u64) -> usize {
    let mut sum = 0;
    for (at, w) in weights.enumerate() {
        sum += w;
        if sum > target {
            return at;
        }
    }
    unreachable!("the best token always has weight, so the sum passes a target below it")
}

#[cfg(test)]
pub(super) fn draw_from(weights: &[u64], seed: u64, index: u32) -> u32 {
    pick(weights.iter().copied(), target(seed, index, weights.iter().sum())) as u32
}
