//! Log-probabilities of the model, in fixed point.

use std::cmp::Ordering;

use dn_core::objects::{TokenLogprob, TokenLogprobs};

use super::fixed::{MICRO, Powers, WEIGHT_BITS};
use crate::cpu::sampling::{fill, largest};

/// `floor(ln(2) * 2^56)`.
const LN2_Q56: u64 = 49_946_518_145_322_873;

/// What the model thinks of `chosen`, and of the `top` best tokens.
///
/// # Panics
/// When `chosen` is not in the vocabulary.
pub fn token_logprobs(logits: &[f32], chosen: u32, top: usize) -> TokenLogprobs {
    let mut fixed = Vec::new();
    fill(logits, &mut fixed);
    from_fixed(logits, &fixed, chosen, top)
}

/// The same for logits that are in fixed point already.
pub(super) fn from_fixed(logits: &[f32], fixed: &[i64], chosen: u32, top: usize) -> TokenLogprobs {
    let max = largest(fixed);
    let log_sum = log_sum(fixed, max);
    let one = |token: u32| TokenLogprob { token, logprob_q24: fixed[token as usize] - max - log_sum };
    TokenLogprobs { chosen: one(chosen), top: best(logits, top).into_iter().map(one).collect() }
}

/// `E`: the logarithm of the sum of `exp(L - M)`, in units of `2^-24`, rounded down.
fn log_sum(fixed: &[i64], max: i64) -> i64 {
    let powers = Powers::new(MICRO);
    let sum: u64 = fixed.iter().map(|l| powers.of(max, *l)).sum();
    // The best one alone weighs 2^40.
    let above = log2_q56(sum) - (u64::from(WEIGHT_BITS) << 56);
    ((u128::from(above) * u128::from(LN2_Q56)) >> 88) as i64
}

/// `log2(x)` in Q56, rounded down, bit by bit: square, and note whether the square passed 2.
fn log2_q56(x: u64) -> u64 {
    let whole = x.ilog2();
    let mut m = (x << (63 - whole)) >> 1; // Q62 in [1, 2)
    let mut log = u64::from(whole);
    for _ in 0..56 {
        m = ((u128::from(m) * u128::from(m)) >> 62) as u64;
        log <<= 1;
        if m >= 1 << 63 {
            m >>= 1;
            log |= 1;
        }
    }
    log
}

/// The best tokens, largest logit first, equals by index.
fn best(logits: &[f32], count: usize) -> Vec<u32> {
    let count = count.min(logits.len());
    let mut out: Vec<u32> = Vec::with_capacity(count + 1);
    for (token, l) in logits.iter().enumerate() {
        if out.len() == count && out.last().is_none_or(|worst| *l <= logits[*worst as usize]) {
            continue;
        }
        // Behind everything that is at least as large: those have lower indices.
        let at = out.partition_point(|t| logits[*t as usize].partial_cmp(l) != Some(Ordering::Less));
        out.insert(at, token as u32);
        out.truncate(count);
    }
    out
}
