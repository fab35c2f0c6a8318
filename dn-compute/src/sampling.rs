//! The canonical sampler: from logits to a token, in integers.
//!
//! # Meaning (numeric spec V1)
//! For logits `l[0..n]`, settings [`Sampling`] and [`Decoding`](dn_core::objects::Decoding), the tokens before, and the index `i` of the generated token
//! (the first is 0), in this order:
//!
//! 1. **Fixed point.** `L[t] = RNE(l[t] * 2^24)`, held to `-2^44..=2^44`.
//! 2. **Penalties.** The window is the last `penalty_window` tokens of prompt and output, all of them where it is 0. For
//!    each token `t` in it, with `r = repetition_micro`: `L[t] = floor(L[t] * 10^6 / r)` where `L[t] > 0`, else
//!    `-floor(-L[t] * r / 10^6)`. If `t` is in it `c > 0` times as output:
//!    `L[t] -= floor((presence_micro + c * frequency_micro) * 2^24 / 10^6)`.
//! 3. **Bias.** `L[t] += floor(bias_micro * 2^24 / 10^6)`. What steps 2 and 3 changed is held to `-2^44..=2^44` again.
//! 4. **Exclusion.** Banned tokens, and tokens that the grammar does not allow here, take no part from here on.
//! 5. **Greedy.** `temperature_micro = 0`: the token with the largest `L`; among equals the largest `l`; among those the
//!    lowest index. Nothing below counts.
//! 6. **Weights.** `M = max L`. With `LOG2E = RNE(log2(e) * 2^32)` and
//!    `K = floor(LOG2E * 10^6 * 2^8 / temperature_micro)`: `x = floor((M - L[t]) * K / 2^40) = n * 2^24 + a * 2^16 + b * 2^8 + c`
//!    with `a, b, c < 256`. The weight `w[t]` is `floor(floor(A[a] * B[b] / 2^40) * C[c] / 2^40) / 2^n`, rounded down, and 0 for
//!    `n > 40`, where `A[i] = floor(2^(40 - i / 2^8))`, `B[i] = floor(2^(40 - i / 2^16))`, `C[i] = floor(2^(40 - i / 2^24))`.
//! 7. **top-k.** Tokens are ranked by `L`, largest first, equals by index. `top_k > 0` keeps the first `top_k`.
//! 8. **top-p.** `top_p_micro < 10^6` keeps the shortest beginning of the ranking whose weights sum to at least
//!    `top_p_micro / 10^6` of what step 7 kept, and at least one token.
//! 9. **min-p.** `w[t] * 10^6 >= min(min_p_micro, 10^6) * 2^40` is kept, which holds for the best.
//! 10. **Draw.** `r` is the first 8 bytes, little-endian, of `BLAKE3("deepnode sampler v1\0" ‖ seed u64 ‖ i u32)`. With `W` the
//!     sum of the kept weights, the token is the first, in the order of *indices*, at which the running sum of kept
//!     weights exceeds `floor(r * W / 2^64)`.
//!
//! Every product fits 128 bits: `M - L < 2^46`, `K < 2^61`; `W <= 2^24 * 2^40`.
//!
//! **Log-probabilities** are those of the model, before step 2: with `w` of step 6 at `temperature_micro = 10^6` over all
//! tokens, `W` their sum, `G = log2(W)` in Q56 (bit by bit, `log_sum`), `E = floor((G - 40 * 2^56) * LN2 / 2^88)`,
//! `LN2 = floor(ln(2) * 2^56)`: the log-probability of `t` is `L[t] - M - E`, times `2^-24`. Its error is below 1e-6.
//! The best ones are ranked by `l`, largest first, equals by index.

pub(crate) mod fixed;
#[cfg(feature = "engine")]
mod logprobs;
#[cfg(feature = "engine")]
mod penalties;
pub(crate) mod rules;
#[cfg(feature = "engine")]
mod sampler;
#[cfg(feature = "engine")]
mod select;
pub(crate) mod transform;

#[cfg(feature = "engine")]
pub use logprobs::token_logprobs;
#[cfg(feature = "engine")]
pub use sampler::{Choice, Progress, Sampler, SamplerError, Scratch};

#[cfg(feature = "engine")]
use dn_core::objects::Sampling;

/// The token that these logits, settings and index give where nothing is penalised, biased, banned or constrained.
///
/// # Panics
/// When there are no logits.
#[cfg(feature = "engine")]
pub fn sample(logits: &[f32], sampling: &Sampling, index: u32) -> u32 {
    assert!(!logits.is_empty(), "a vocabulary has at least one token");
    if sampling.temperature_micro == 0 {
        return select::best(logits);
    }
    let mut scratch = Scratch::default();
    crate::cpu::sampling::fill(logits, &mut scratch.fixed);
    select::draw_one(&scratch.fixed, sampling, index, &mut scratch.select)
}

#[cfg(feature = "engine")]
#[cfg(test)]
mod tests;
