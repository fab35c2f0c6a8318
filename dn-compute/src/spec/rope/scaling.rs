//! How rotary positions are stretched: each pair's turn per position, changed in integers.
//!
//! `t` is a pair's unstretched turn per position, a Q64 fraction; `R = floor(original * t / 2^32)` its rotations over the
//! original positions, in Q32. `divide(t, f)` is `floor(t / f)` for the exact value of the f32 `f`, modulo `2^64`. An
//! f32 between `2^-8` and `2^24` in Q32 is exact; `Q(f)` below.

use std::sync::Arc;

use super::RopeSpec;
use crate::spec::error::{NumericError, Op};
use crate::spec::float::{finish, split};
use crate::spec::trig::log2_q56;

/// `ln(2) / 10` in Q64, rounded down.
pub const LN_2_OVER_10_Q64: u64 = 0x11be_9bff_2e94_bf5d;

/// How a model stretches its positions beyond those it was trained with.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    None,
    /// Every turn divided by a factor.
    ///
    /// # Source
    /// Chen et al., *Extending Context Window of Large Language Models via Positional Interpolation*, 2023.
    Linear {
        /// The factor.
        factor: f32,
    },
    /// Slow pairs divided by a factor, fast ones kept, a ramp over the pairs between.
    ///
    /// # Source
    /// Peng et al., *YaRN: Efficient Context Window Extension of Large Language Models*, 2023.
    Yarn {
        /// The factor.
        factor: f32,
        /// Positions that the model was trained with.
        original: u32,
        /// Rotations over those positions from which a pair is kept.
        beta_fast: f32,
        /// Rotations over those positions up to which a pair is divided.
        beta_slow: f32,
        /// What cosines and sines are multiplied by; usually [`yarn_attention`] of the factor.
        attention: f32,
    },
    /// Slow pairs divided by a factor, fast ones kept, a blend by their rotations between: Llama 3.1.
    Llama3 {
        /// The factor.
        factor: f32,
        /// Rotations over the original positions up to which a pair is divided.
        low: f32,
        /// Rotations over the original positions from which a pair is kept.
        high: f32,
        /// Positions that the model was trained with.
        original: u32,
    },
    /// Every pair's turn divided by its own factor.
    Factors(Arc<[f32]>),
}

impl RopeScaling {
    /// What cosines and sines are multiplied by, if by anything.
    pub(super) fn attention(&self) -> Option<f32> {
        match self {
            Self::Yarn { attention, .. } => Some(*attention),
            _ => None,
        }
    }

    /// Refuses parameters for which the recipes are not defined.
    pub(super) fn check(&self, pairs: usize) -> Result<(), NumericError> {
        let (op, small, large) = (Op::Rope, 1.0 / 256.0, 65_536.0);
        let holds = |holds: bool, what, expected| {
            if holds { Ok(()) } else { Err(NumericError::Parameter { op, what, expected }) }
        };
        let factor = |factor: f32, least: f32| {
            let expected = "at most 65536, and at least 1 (2^-8 for a linear scale)";
            holds((least..=large).contains(&factor), "scaling factor", expected)
        };
        let between = |low: f32, high: f32, original: u32| {
            let ordered = (small..=large).contains(&low) && (small..=large).contains(&high) && low < high;
            holds(ordered, "rotations", "from 2^-8 to 65536, the lower bound below the upper")?;
            holds((1..=1 << 24).contains(&original), "original positions", "from 1 to 2^24")
        };
        match self {
            Self::None => Ok(()),
            Self::Linear { factor: f } => factor(*f, small),
            Self::Yarn { factor: f, original, beta_fast, beta_slow, attention } => {
                factor(*f, 1.0)?;
                between(*beta_slow, *beta_fast, *original)?;
                holds((small..=256.0).contains(attention), "attention factor", "from 2^-8 to 256")
            }
            Self::Llama3 { factor: f, low, high, original } => {
                factor(*f, 1.0)?;
                between(*low, *high, *original)
            }
            Self::Factors(factors) => {
                holds(factors.len() == pairs, "scaling factors", "one for each pair")?;
                let fit = factors.iter().all(|f| (small..=f32::MAX).contains(f));
                holds(fit, "scaling factors", "finite and at least 2^-8")
            }
        }
    }

    /// The turn per position of pair `pair` of a checked specification.
    pub(super) fn turn(&self, spec: &RopeSpec, log: u64, pair: usize) -> u64 {
        let t = spec.unscaled_turn(log, pair);
        match self {
            Self::None => t,
            Self::Linear { factor } => divide(t, *factor),
            Self::Factors(factors) => divide(t, factors[pair]),
            Self::Llama3 { factor, low, high, original } => {
                let (low, high, rotations) = (q32(*low), q32(*high), rotations(*original, t));
                if rotations <= low {
                    divide(t, *factor)
                } else if rotations >= high {
                    t
                } else {
                    blend(t, divide(t, *factor), ((rotations - low) << 32) / (high - low), 1 << 32)
                }
            }
            Self::Yarn { factor, original, beta_fast, beta_slow, .. } => {
                // Pairs are counted as if there were one for every element: so the ramp's ends were defined.
                let count = |holds: &dyn Fn(u128) -> bool| {
                    let holds = |i: &usize| holds(rotations(*original, spec.unscaled_turn(log, *i)));
                    (0..spec.rotary_dim).take_while(holds).count()
                };
                let first = count(&|r| r >= q32(*beta_fast)).saturating_sub(1);
                let last = count(&|r| r > q32(*beta_slow)).min(spec.rotary_dim - 1);
                if pair <= first {
                    t
                } else if pair >= last {
                    divide(t, *factor)
                } else {
                    blend(t, divide(t, *factor), (last - pair) as u128, (last - first) as u128)
                }
            }
        }
    }
}

/// `0.1 * ln(factor) + 1` rounded to f32, for a factor of at least 1: what YaRN multiplies cosines and sines by where a
/// model says nothing else. `1 + floor(log2(factor) * (ln(2) / 10))` in Q56.
pub fn yarn_attention(factor: f32) -> f32 {
    let log = u128::from(log2_q56(factor.max(1.0)));
    finish((1 << 56) + ((log * u128::from(LN_2_OVER_10_Q64)) >> 64) as i64, -56)
}

/// `floor((kept * share + divided * (whole - share)) / whole)`.
fn blend(kept: u64, divided: u64, share: u128, whole: u128) -> u64 {
    ((u128::from(kept) * share + u128::from(divided) * (whole - share)) / whole) as u64
}

/// A pair's rotations over the original positions, in Q32.
fn rotations(original: u32, turn: u64) -> u128 {
    (u128::from(original) * u128::from(turn)) >> 32
}

/// An f32 between `2^-8` and `2^24`, exactly.
fn q32(v: f32) -> u128 {
    let (mantissa, exponent) = split(v);
    u128::from(mantissa) << (exponent + 32)
}

/// `floor(turn / factor)` modulo `2^64`, for a factor of at least `2^-8`.
fn divide(turn: u64, factor: f32) -> u64 {
    let (mantissa, exponent) = split(factor);
    let (turn, mantissa) = (u128::from(turn), u128::from(mantissa));
    if exponent < 0 {
        ((turn << -exponent) / mantissa) as u64
    } else {
        (turn / (mantissa << exponent)) as u64
    }
}
