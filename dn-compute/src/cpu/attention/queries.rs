//! The queries of one piece of work, as digits.

use std::ops::Range;

use crate::spec::{
    AttentionPlan, NumericError, Op,
    float::{mul, pow2},
    quantise::{self, rebase},
};

use crate::cpu::isa::{Level, multiversioned};

/// Query rows that share a key and value head: all heads of its group for some tokens.
#[derive(Clone)]
pub(super) struct Piece {
    pub(super) kv_head: usize,
    pub(super) tokens: Range<usize>,
}

impl Piece {
    pub(super) fn rows(&self, plan: &AttentionPlan) -> usize {
        self.tokens.len() * plan.group
    }

    /// Which vector of the call a row is.
    pub(super) fn vector(&self, plan: &AttentionPlan, row: usize) -> usize {
        (self.tokens.start + row / plan.group) * plan.heads + self.kv_head * plan.group + row % plan.group
    }
}

/// Quantised query rows of a [`Piece`], token by token.
#[derive(Default)]
pub(super) struct Queries {
    /// `[row][pair of elements]`: the two balanced digits of a query, pairs as halves of an i32.
    pub(super) high: Vec<i32>,
    pub(super) low: Vec<i32>,
    /// `2^(eq + 16)` of each row.
    pub(super) factor: Vec<f64>,
    /// The keys that each row sees.
    pub(super) seen: Vec<Range<usize>>,
    scaled: Vec<f32>,
    quantised: Vec<i16>,
}

impl Queries {
    /// Takes the rows of a piece.
    ///
    /// # Errors
    /// The first row at fault: what is wrong, with its index in `q`.
    pub(super) fn fill(
        &mut self,
        level: Level,
        plan: &AttentionPlan,
        piece: &Piece,
        q: &[f32],
    ) -> Result<(), NumericError> {
        let (rows, d) = (piece.rows(plan), plan.head_dim);
        self.high.resize(rows * d / 2, 0);
        self.low.resize(rows * d / 2, 0);
        self.scaled.resize(d, 0.0);
        self.quantised.resize(d, 0);
        self.factor.clear();
        self.seen.clear();
        let digits = self.high.chunks_exact_mut(d / 2).zip(self.low.chunks_exact_mut(d / 2));
        for (row, (high, low)) in digits.enumerate() {
            let base = piece.vector(plan, row) * d;
            let (scaled, a) = (&mut self.scaled, &mut self.quantised);
            let eq = prepare(level, &q[base..][..d], plan.scale, scaled, a, high, low)
                .map_err(|e| rebase(e, base))?;
            self.factor.push(pow2(eq + 16));
            self.seen.push(plan.keys(piece.tokens.start + row / plan.group));
        }
        Ok(())
    }

    pub(super) fn rows(&self) -> usize {
        self.factor.len()
    }
}

multiversioned! {
    fn prepare(
        q: &[f32], scale: f32, scaled: &mut [f32], a: &mut [i16], high: &mut [i32], low: &mut [i32],
    ) -> Result<i32, NumericError> = prepare_body;
}

#[inline(always)]
fn prepare_body(
    q: &[f32],
    scale: f32,
    scaled: &mut [f32],
    a: &mut [i16],
    high: &mut [i32],
    low: &mut [i32],
) -> Result<i32, NumericError> {
    for (scaled, q) in scaled.iter_mut().zip(q) {
        *scaled = mul(*q, scale);
    }
    let exponent = quantise::quantise(Op::Attention, "q", scaled, a)?;
    for ((high, low), two) in high.iter_mut().zip(low).zip(a.chunks_exact(2)) {
        // A = 256 * high + low, both in -128..=127.
        let digits = |a: i16| (i32::from((a.wrapping_add(128)) >> 8), i32::from(a as i8));
        let ((h0, l0), (h1, l1)) = (digits(two[0]), digits(two[1]));
        *high = (h0 & 0xffff) | (h1 << 16);
        *low = (l0 & 0xffff) | (l1 << 16);
    }
    Ok(exponent)
}
