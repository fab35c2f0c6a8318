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
    let mut candidates = Candidates::new(&fixed, |l| powers.weight(max - l));
    if sampling.top_k > 0 {
        candidates.keep_until(|_| 1, |count| count >= u128::from(sampling.top_k));
    }
    if sampling.top_p_micro < MICRO {
        let total: u64 = candidates.weights.iter().sum();
        let needed = u128::from(total) * u128::from(sampling.top_p_micro);
        candidates.keep_until(|w| w, |sum| sum * u128::from(MICRO) >= needed);
    }
    let mut weights = candidates.weights;
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

/// `RNE(l * 2^24)`, held to the limits. The product is exact in f64, and an integer from 2^24 on; below, adding and
/// subtracting `1.5 * 2^52` rounds it.
fn to_fixed(logit: f32) -> i64 {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let scaled = f64::from(logit) * f64::from(1 << 24);
    let whole = if scaled.abs() < f64::from(1 << 24) { (scaled + ROUND) - ROUND } else { scaled };
    (whole as i64).clamp(-MAX_FIXED, MAX_FIXED)
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

    /// The weight of a token whose logit is `below` the best, in units of `2^-24`, and `n`, at most [`LAST`].
    fn weight(&self, below: i64) -> (u64, u8) {
        let x = (below as u128 * u128::from(self.scale)) >> 40;
        let n = x >> 24;
        if n > u128::from(WEIGHT_BITS) {
            return (0, LAST);
        }
        let digit = |shift: u32| ((x >> shift) & 255) as usize;
        let [a, b, c] = self.tables;
        let product = |x: u64, y: u64| ((u128::from(x) * u128::from(y)) >> WEIGHT_BITS) as u64;
        (product(product(a[digit(16)], b[digit(8)]), c[digit(0)]) >> n, n as u8)
    }
}

/// The octave of tokens without weight.
const LAST: u8 = WEIGHT_BITS as u8 + 1;

/// Tokens with their weights; those that are not kept weigh nothing.
struct Candidates<'a> {
    fixed: &'a [i64],
    weights: Vec<u64>,
    /// The `n` of each: a smaller one ranks higher, so only the octave in which a limit falls has to be sorted.
    octaves: Vec<u8>,
}

impl<'a> Candidates<'a> {
    fn new(fixed: &'a [i64], weight: impl Fn(i64) -> (u64, u8)) -> Self {
        let (weights, octaves) = fixed.iter().map(|l| weight(*l)).unzip();
        Self { fixed, weights, octaves }
    }

    /// Keeps the shortest beginning of the ranking, of at least one token, whose measures are `enough` together; all
    /// when they never are.
    fn keep_until(&mut self, measure: impl Fn(u64) -> u64, enough: impl Fn(u128) -> bool) {
        let mut sums = [0u128; LAST as usize + 1];
        for (w, octave) in self.weights.iter().zip(&self.octaves) {
            if *w > 0 {
                sums[usize::from(*octave)] += u128::from(measure(*w));
            }
        }
        let mut above = 0;
        let full = |sum: &u128| {
            above += sum;
            above > 0 && enough(above)
        };
        let Some(octave) = sums.iter().position(full) else { return };
        above -= sums[octave];
        let octave = octave as u8;
        let in_octave = |t: &u32| self.octaves[*t as usize] == octave && self.weights[*t as usize] > 0;
        let mut ranking: Vec<u32> = (0..self.weights.len() as u32).filter(in_octave).collect();
        ranking.sort_unstable_by_key(|t| (std::cmp::Reverse(self.fixed[*t as usize]), *t));
        let mut kept = 0;
        while kept == 0 || !enough(above) {
            above += u128::from(measure(self.weights[ranking[kept] as usize]));
            kept += 1;
        }
        ranking[kept..].iter().for_each(|t| self.weights[*t as usize] = 0);
        for (w, at) in self.weights.iter_mut().zip(&self.octaves) {
            if *at > octave {
                *w = 0;
            }
        }
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
