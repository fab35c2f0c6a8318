//! Rotary position embedding from a table that integers derive.
//!
//! Pair `i` of `n` rotates at position `p` by `p * theta^(-i / n)` radians. In fixed point: `L = log2(theta)` (Q56),
//! `x = floor(2 * i * L / rotary_dim)`, step `floor(2^-x / (2 * pi))` as a Q64 fraction of a turn, angle
//! `p * step mod 2^64`, sine and cosine rounded to f32. Then `a' = sub(mul(a, cos), mul(b, sin))` and
//! `b' = add(mul(a, sin), mul(b, cos))`. A [`RopeScaling`] changes the steps, and YaRN's multiplies sine and cosine.

mod scaling;

pub use scaling::{LN_2_OVER_10_Q64, RopeScaling, yarn_attention};

use super::error::{NumericError, Op};
use super::float::mul;
use super::limits::{MAX_CONTEXT, MAX_HEAD_DIM};
use super::linear::{check, check_tokens};
use super::quantise::all_finite;
use super::resident::Kept;
use super::trig::{INV_TWO_PI_Q64, exp2_neg, log2_q56, sin_cos};

/// Which two elements of a head rotate together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pairing {
    /// Elements `2i` and `2i + 1`: GGUF's Llama files.
    Interleaved,
    /// Elements `i` and `i + rotary_dim / 2`: Hugging Face's layout, and Qwen2 in GGUF.
    HalfSplit,
}

/// What a rope table depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeSpec {
    /// Elements of a head.
    pub head_dim: usize,
    /// Elements that rotate, from the first; the rest stay.
    pub rotary_dim: usize,
    /// Base of the frequencies, often 10,000.
    pub theta: f32,
    /// Which elements rotate together.
    pub pairing: Pairing,
    /// How positions are stretched.
    pub scaling: RopeScaling,
}

impl RopeSpec {
    /// `[cos, sin]` of one pair at one position, as [`RopeTable::row`] has it, derived alone.
    ///
    /// # Errors
    /// As [`RopeTable::new`] for a table that ends with the position; a pair that does not exist.
    pub fn rotation(&self, position: u32, pair: usize) -> Result<[f32; 2], NumericError> {
        self.check((position as usize).saturating_add(1))?;
        let (op, pairs) = (Op::Rope, self.rotary_dim / 2);
        if pair >= pairs {
            return Err(NumericError::Limit { op, what: "pair + 1", min: 1, max: pairs, found: pair + 1 });
        }
        let step = self.scaling.turn(self, log2_q56(self.theta), pair);
        Ok(rotation(position.into(), step, self.scaling.attention()))
    }

    fn check(&self, positions: usize) -> Result<(), NumericError> {
        let op = Op::Rope;
        let limit = |what, min, max, found| {
            if (min..=max).contains(&found) {
                Ok(())
            } else {
                Err(NumericError::Limit { op, what, min, max, found })
            }
        };
        limit("head_dim", 1, MAX_HEAD_DIM, self.head_dim)?;
        limit("rotary_dim", 2, self.head_dim, self.rotary_dim)?;
        limit("positions", 1, MAX_CONTEXT, positions)?;
        if !self.rotary_dim.is_multiple_of(2) {
            return Err(NumericError::Parameter { op, what: "rotary_dim", expected: "even" });
        }
        if !(2.0..=(1u64 << 60) as f32).contains(&self.theta) {
            return Err(NumericError::Parameter { op, what: "theta", expected: "between 2 and 2^60" });
        }
        self.scaling.check(self.rotary_dim / 2)
    }

    /// The turn per position of a pair before any scaling, a Q64 fraction; `log` is `log2(theta)` in Q56.
    fn unscaled_turn(&self, log: u64, pair: usize) -> u64 {
        let x = (2 * pair as u128 * u128::from(log) / self.rotary_dim as u128) as u64;
        let (p, n) = exp2_neg(x);
        // Beyond 2^-64 nothing is left to turn.
        if n > 63 { 0 } else { ((u128::from(p) * u128::from(INV_TWO_PI_Q64)) >> (62 + n)) as u64 }
    }
}

fn rotation(position: u64, step: u64, attention: Option<f32>) -> [f32; 2] {
    let (sin, cos) = sin_cos(position.wrapping_mul(step));
    match attention {
        Some(factor) => [mul(cos, factor), mul(sin, factor)],
        None => [cos, sin],
    }
}

/// Cosines and sines for every position.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeTable {
    spec: RopeSpec,
    positions: usize,
    /// Cosine then sine of each pair, position-major.
    values: Vec<[f32; 2]>,
    kept: Kept,
}

impl RopeTable {
    /// Derives the table for positions `0..positions`.
    ///
    /// # Errors
    /// An odd or too large `rotary_dim`, a `theta` outside `[2, 2^60]`, too many positions, a scaling out of its limits.
    pub fn new(spec: RopeSpec, positions: usize) -> Result<Self, NumericError> {
        spec.check(positions)?;
        let log = log2_q56(spec.theta);
        let steps: Vec<u64> =
            (0..spec.rotary_dim / 2).map(|pair| spec.scaling.turn(&spec, log, pair)).collect();
        let attention = spec.scaling.attention();
        let mut values = Vec::with_capacity(positions * steps.len());
        for position in 0..positions as u64 {
            values.extend(steps.iter().map(|step| rotation(position, *step, attention)));
        }
        Ok(Self { spec, positions, values, kept: Kept::default() })
    }

    /// `[cos, sin]` of every pair at every position, and what a backend keeps of them.
    #[cfg(feature = "wgpu")]
    pub(crate) fn all(&self) -> (&[[f32; 2]], &Kept) {
        (&self.values, &self.kept)
    }

    /// What the table was derived from.
    pub const fn spec(&self) -> &RopeSpec {
        &self.spec
    }

    /// Positions that the table holds.
    pub const fn positions(&self) -> usize {
        self.positions
    }

    /// `[cos, sin]` of every pair at a position.
    ///
    /// # Panics
    /// When the position is beyond the table; a [`RopePlan`] has checked it.
    pub fn row(&self, position: u32) -> &[[f32; 2]] {
        let pairs = self.spec.rotary_dim / 2;
        &self.values[position as usize * pairs..][..pairs]
    }
}

/// The checked shapes of a rotation: `x` is `positions.len() x heads x head_dim`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RopePlan {
    /// Rows of `x`.
    pub tokens: usize,
    /// Heads per row.
    pub heads: usize,
}

impl RopePlan {
    /// Checks the length of `x` and the positions, and that `x` is finite.
    ///
    /// # Errors
    /// A length that does not fit, a position beyond the table, an element that is not finite.
    pub fn new(table: &RopeTable, positions: &[u32], x: &[f32]) -> Result<Self, NumericError> {
        let plan = Self::of_shape(table, positions, x)?;
        all_finite(Op::Rope, "x", x)?;
        Ok(plan)
    }

    /// Checks the length of `x` and the positions.
    ///
    /// # Errors
    /// A length that does not fit, a position beyond the table.
    pub fn of_shape(table: &RopeTable, positions: &[u32], x: &[f32]) -> Result<Self, NumericError> {
        let op = Op::Rope;
        let tokens = positions.len();
        check_tokens(op, tokens)?;
        let row = tokens * table.spec.head_dim;
        let heads = x.len() / row;
        if heads == 0 {
            return Err(NumericError::Shape { op, what: "elements of x", expected: row, found: x.len() });
        }
        check(op, "elements of x", heads * row, x.len())?;
        if let Some(index) = positions.iter().position(|p| *p as usize >= table.positions) {
            let (position, positions) = (positions[index], table.positions);
            return Err(NumericError::Position { index, position, positions });
        }
        Ok(Self { tokens, heads })
    }
}
