//! The comparisons of the sampler's steps, for whoever chooses and for whoever judges a choice.

use std::cmp::Ordering;

use dn_core::blake3_256;

use super::fixed::{MICRO, WEIGHT_BITS};

/// Step 5: whether one token (its logit in fixed point, and its logit) is better than another one of a lower index.
pub(crate) fn is_better(a: (i64, f32), b: (i64, f32)) -> bool {
    a.0 > b.0 || (a.0 == b.0 && a.1 > b.1)
}

/// Step 7: how two tokens (the logit in fixed point, and the index of each) stand in the ranking.
pub(crate) fn ranking(a: (i64, u32), b: (i64, u32)) -> Ordering {
    b.0.cmp(&a.0).then(a.1.cmp(&b.1))
}

/// Step 8: what [`reaches`] asks of a sum of weights, where all that step 7 kept weigh `total`.
pub(crate) fn needed(total: u128, top_p_micro: u32) -> u128 {
    total * u128::from(top_p_micro)
}

/// Step 8: whether a sum of weights is the share that is [`needed`].
pub(crate) fn reaches(sum: u128, needed: u128) -> bool {
    sum * u128::from(MICRO) >= needed
}

/// Step 9: the least weight that is kept, `w * 10^6 >= min_p * 2^40`.
pub(crate) fn least_weight(min_p_micro: u32) -> u64 {
    (u128::from(min_p_micro.min(MICRO)) << WEIGHT_BITS).div_ceil(u128::from(MICRO)) as u64
}

/// Step 10: `floor(r * W / 2^64)`.
pub(crate) fn target(seed: u64, index: u32, total: u64) -> u64 {
    let hash = blake3_256(&[b"deepnode sampler v1\0", &seed.to_le_bytes(), &index.to_le_bytes()]);
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    ((u128::from(u64::from_le_bytes(first)) * u128::from(total)) >> 64) as u64
}
