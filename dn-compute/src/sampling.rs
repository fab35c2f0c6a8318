//! The canonical sampler: from logits to a token, in integers.
//!
//! # Meaning (numeric spec V1)
//! For logits `l[0..n]`, settings [`Sampling`] and the index `i` of the generated token (the first is 0):
//!
//! 1. `temperature_micro = 0`: the token is the largest logit's, the lowest index among equals. Nothing else counts.
//! 2. `L[t] = RNE(l[t] * 2^24)`, held to `-2^44..=2^44`; `M = max L`. With `LOG2E = RNE(log2(e) * 2^32)` and
//!    `K = floor(LOG2E * 10^6 * 2^8 / temperature_micro)`: `x = floor((M - L[t]) * K / 2^40) = n * 2^24 + a * 2^16 + b * 2^8 + c`
//!    with `a, b, c < 256`. The weight `w[t]` is `floor(floor(A[a] * B[b] / 2^40) * C[c] / 2^40) / 2^n`, rounded down, and 0 for
//!    `n > 40`, where `A[i] = floor(2^(40 - i / 2^8))`, `B[i] = floor(2^(40 - i / 2^16))`, `C[i] = floor(2^(40 - i / 2^24))`.
//! 3. Tokens are ranked by `L`, largest first, equals by index. `top_k > 0` keeps the first `top_k`.
//! 4. `top_p_micro < 10^6` keeps the shortest beginning of the ranking whose weights sum to at least `top_p_micro / 10^6`
//!    of what step 3 kept, and at least one token.
//! 5. `w[t] * 10^6 >= min(min_p_micro, 10^6) * 2^40` is kept, which holds for the best.
//! 6. `r` is the first 8 bytes, little-endian, of `BLAKE3("deepnode sampler v1\0" ‖ seed u64 ‖ i u32)`. With `W` the sum
//!    of the kept weights, the token is the first, in the order of *indices*, at which the running sum of kept
//!    weights exceeds `floor(r * W / 2^64)`.
//!
//! Every product fits 128 bits: `M - L < 2^46`, `K < 2^61`; `W <= 2^24 * 2^40`.

use std::sync::LazyLock;

use dn_core::blake3_256;
use dn_core::objects::Sampling;

use crate::spec::trig::exp2_neg;

/// `RNE(log2(e) * 2^32)`.
const LOG2E_Q32: u64 = 6_196_328_019;
/// Logits in fixed point are held to this magnitude.
const MAX_FIXED: i64 = 1 << 44;
/// Bits of the weight of the best token.
const WEIGHT_BITS: u32 = 40;
const MICRO: u32 = 1_000_000;

/// The token that these logits, settings and index give.
///
/// # Panics
/// When there are no logits.
pub fn sample(logits: &[f32], sampling: &Sampling, index: u32) -> u32 {
    assert!(!logits.is_empty(), "a vocabulary has at least one token");
    if sampling.temperature_micro == 0 {
        return best(logits);
    }
    let fixed: Vec<i64> = logits.iter().map(|l| to_fixed(*l)).collect();
    let max = fixed.iter().copied().max().unwrap_or(0);
    let powers = Powers::new(sampling.temperature_micro);
    let mut weights: Vec<u64> = fixed.iter().map(|l| powers.weight(max - l)).collect();
    keep_best(&fixed, &mut weights, sampling);
    let least = u128::from(sampling.min_p_micro.min(MICRO)) << WEIGHT_BITS;
    for w in &mut weights {
        if u128::from(*w) * u128::from(MICRO) < least {
            *w = 0;
        }
    }
    draw(&weights, sampling.seed, index)
}

/// The largest logit's token, the lowest index among equals.
fn best(logits: &[f32]) -> u32 {
    let mut at = 0;
    for (i, l) in logits.iter().enumerate() {
        if *l > logits[at] {
            at = i;
        }
    }
    at as u32
}

/// `RNE(l * 2^24)`, held to the limits. The product is exact in f64.
fn to_fixed(logit: f32) -> i64 {
    ((f64::from(logit) * f64::from(1 << 24)).round_ties_even() as i64).clamp(-MAX_FIXED, MAX_FIXED)
}

/// `A`, `B` and `C`.
static TABLES: LazyLock<[[u64; 256]; 3]> = LazyLock::new(|| {
    [8, 16, 24].map(|bits| {
        std::array::from_fn(|i| {
            // A Q56 argument and a Q62 power; the shift of a power above 1/2 is 0 or 1.
            let (p, n) = exp2_neg((i as u64) << (56 - bits));
            (p >> (62 - WEIGHT_BITS)) >> n
        })
    })
});

/// Weights at a temperature.
struct Powers {
    /// `K`.
    scale: u64,
    tables: &'static [[u64; 256]; 3],
}

impl Powers {
    /// `temperature_micro` is not zero.
    fn new(temperature_micro: u32) -> Self {
        let scale = LOG2E_Q32 * u64::from(MICRO) * 256 / u64::from(temperature_micro);
        Self { scale, tables: &TABLES }
    }

    /// The weight of a token whose logit is `below` the best, in units of `2^-24`.
    fn weight(&self, below: i64) -> u64 {
        let x = (below as u128 * u128::from(self.scale)) >> 40;
        let n = x >> 24;
        if n > u128::from(WEIGHT_BITS) {
            return 0;
        }
        let digit = |shift: u32| ((x >> shift) & 255) as usize;
        let [a, b, c] = self.tables;
        let product = |x: u64, y: u64| ((u128::from(x) * u128::from(y)) >> WEIGHT_BITS) as u64;
        product(product(a[digit(16)], b[digit(8)]), c[digit(0)]) >> n
    }
}

/// Steps 3 and 4: sets the weights of tokens that are not kept to zero.
fn keep_best(fixed: &[i64], weights: &mut [u64], sampling: &Sampling) {
    let n = fixed.len();
    let k = match sampling.top_k {
        0 => n,
        k => n.min(k as usize),
    };
    let nucleus = sampling.top_p_micro < MICRO;
    if k == n && !nucleus {
        return;
    }
    let key = |t: &u32| (std::cmp::Reverse(fixed[*t as usize]), *t);
    let mut ranking: Vec<u32> = (0..n as u32).collect();
    if k < n {
        ranking.select_nth_unstable_by_key(k, key);
        for t in ranking.drain(k..) {
            weights[t as usize] = 0;
        }
    }
    if !nucleus {
        return;
    }
    let total: u64 = ranking.iter().map(|t| weights[*t as usize]).sum();
    let needed = u128::from(total) * u128::from(sampling.top_p_micro);
    let (mut sum, mut sorted, mut kept) = (0u64, 0, 0);
    // Ranks a growing beginning only: few tokens hold most of the weight.
    while kept == 0 || u128::from(sum) * u128::from(MICRO) < needed {
        if kept == sorted {
            let more = (sorted * 4).max(64).min(ranking.len() - sorted);
            if sorted + more < ranking.len() {
                ranking[sorted..].select_nth_unstable_by_key(more, key);
            }
            ranking[sorted..sorted + more].sort_unstable_by_key(key);
            sorted += more;
        }
        sum += weights[ranking[kept] as usize];
        kept += 1;
    }
    for t in &ranking[kept..] {
        weights[*t as usize] = 0;
    }
}

/// Step 6.
fn draw(weights: &[u64], seed: u64, index: u32) -> u32 {
    let hash = blake3_256(&[b"deepnode sampler v1\0", &seed.to_le_bytes(), &index.to_le_bytes()]);
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    let total: u64 = weights.iter().sum();
    let target = ((u128::from(u64::from_le_bytes(first)) * u128::from(total)) >> 64) as u64;
    let mut sum = 0;
    for (t, w) in weights.iter().enumerate() {
        sum += w;
        if sum > target {
            return t as u32;
        }
    }
    unreachable!("the best token always has weight, so the sum passes a target below it")
}

#[cfg(test)]
mod tests;
