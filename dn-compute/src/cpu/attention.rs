//! Attention: work is cut by token and head; scores and weighted sums a block of 64 keys at a time.

use std::ops::Range;

use crate::spec::{
    AttentionPlan, KvLayer, Mask, NumericError, Op,
    attention::{KEY_BLOCK, KvRows, MAX_P, MAX_SCORE, merge, normalise, reciprocal},
    exp2::exp2_q16,
    float::{mul, pow2},
    quantise::{self, no_overflow, rebase},
};

use super::Cpu;
use super::isa::{Level, multiversioned};
use super::threads::rows_mut;

mod dot;

/// From this many steps below the maximum a block adds nothing: `2^51 / 2^53` rounds to zero.
const VANISHED: i32 = 53;

pub(super) fn kv_append(cpu: &Cpu, kv: &mut KvLayer, k: &[f32], v: &[f32]) -> Result<(), NumericError> {
    let tokens = kv.check_append(k, v)?;
    let d = kv.shape().head_dim;
    let vectors = k.len() / d;
    let mut rows =
        KvRows { k: vec![0; k.len()], v: vec![0; v.len()], ke: vec![0; vectors], ve: vec![0; vectors] };
    for (name, x, a, e) in [("k", k, &mut rows.k, &mut rows.ke), ("v", v, &mut rows.v, &mut rows.ve)] {
        let vectors = x.chunks_exact(d).zip(a.chunks_exact_mut(d)).zip(e);
        for (i, ((x, a), e)) in vectors.enumerate() {
            *e = quantise(cpu.level, Op::KvAppend, name, x, a).map_err(|error| rebase(error, i * d))?;
        }
    }
    kv.append(tokens, &rows);
    Ok(())
}

multiversioned! {
    fn quantise(op: Op, input: &'static str, x: &[f32], out: &mut [i16]) -> Result<i32, NumericError> = quantise::quantise;
}

pub(super) fn attention(
    cpu: &Cpu,
    kv: &KvLayer,
    mask: Mask,
    heads: usize,
    first: usize,
    q: &[f32],
    out: &mut [f32],
) -> Result<(), NumericError> {
    let plan = AttentionPlan::new(kv, mask, heads, first, q, out)?;
    let d = plan.head_dim;
    let work = q.len().saturating_mul(plan.keys(plan.tokens - 1).len());
    let parts = rows_mut(out, d, cpu.threads.pieces(work));
    let results = cpu.threads.map(parts, |(from, out)| {
        let mut scratch = Scratch::new(d, plan.keys(plan.tokens - 1).end);
        for (i, out) in out.chunks_exact_mut(d).enumerate() {
            let vector = from + i;
            let (token, head) = (vector / heads, vector % heads);
            let at = At { kv_head: head / plan.group, keys: plan.keys(token) };
            let q = &q[vector * d..][..d];
            scratch.query(cpu.level, &plan, q).map_err(|e| rebase(e, vector * d))?;
            scratch.scores(cpu.level, kv, &at);
            scratch.weigh(cpu.level, kv, &at, out);
        }
        Ok::<(), NumericError>(())
    });
    results.into_iter().collect::<Result<(), _>>()?;
    no_overflow(Op::Attention, out)
}

/// The keys that a query sees.
struct At {
    kv_head: usize,
    keys: Range<usize>,
}

impl At {
    /// The blocks that hold them.
    fn blocks(&self) -> Range<usize> {
        self.keys.start / KEY_BLOCK..self.keys.end.div_ceil(KEY_BLOCK)
    }
}

/// Working memory of one thread.
struct Scratch {
    scaled: Vec<f32>,
    a: Vec<i16>,
    /// The two balanced digits of the query, pairs of elements as halves of an i32.
    high: Vec<i32>,
    low: Vec<i32>,
    exponent: i32,
    /// Whole part and power of each score, whole blocks; keys not seen have whole part `UNSEEN`.
    whole: Vec<i32>,
    power: Vec<u32>,
    /// Per block: largest whole part alone, and with the value's exponent.
    tops: Vec<(i32, i32)>,
    num_block: Vec<i64>,
    num: Vec<i64>,
}

/// Whole part of a key that the query does not see: so low that its probability is zero, so high that nothing wraps.
const UNSEEN: i32 = -(1 << 28);

impl Scratch {
    fn new(d: usize, keys: usize) -> Self {
        let blocks = keys.div_ceil(KEY_BLOCK);
        Self {
            scaled: vec![0.0; d],
            a: vec![0; d],
            high: vec![0; d / 2],
            low: vec![0; d / 2],
            exponent: 0,
            whole: vec![0; blocks * KEY_BLOCK],
            power: vec![0; blocks * KEY_BLOCK],
            tops: vec![(0, 0); blocks],
            num_block: vec![0; d],
            num: vec![0; d],
        }
    }

    fn query(&mut self, level: Level, plan: &AttentionPlan, q: &[f32]) -> Result<(), NumericError> {
        for (scaled, q) in self.scaled.iter_mut().zip(q) {
            *scaled = mul(*q, plan.scale);
        }
        self.exponent = quantise(level, Op::Attention, "q", &self.scaled, &mut self.a)?;
        for ((high, low), two) in self.high.iter_mut().zip(&mut self.low).zip(self.a.chunks_exact(2)) {
            // A = 256 * high + low, both in -128..=127.
            let digits = |a: i16| (i32::from((a.wrapping_add(128)) >> 8), i32::from(a as i8));
            let ((h0, l0), (h1, l1)) = (digits(two[0]), digits(two[1]));
            *high = (h0 & 0xffff) | (h1 << 16);
            *low = (l0 & 0xffff) | (l1 << 16);
        }
        Ok(())
    }

    fn scores(&mut self, level: Level, kv: &KvLayer, at: &At) {
        for block in at.blocks() {
            let page = kv.page(block);
            let k = &page.k[at.kv_head * KEY_BLOCK * self.scaled.len()..][..KEY_BLOCK * self.scaled.len()];
            let (mut high, mut low) = ([0i32; KEY_BLOCK], [0i32; KEY_BLOCK]);
            dot::scores(level, k, &self.high, &self.low, &mut high, &mut low);
            let exponents = |all: &[i32]| -> [i32; KEY_BLOCK] {
                all[at.kv_head * KEY_BLOCK..][..KEY_BLOCK].try_into().expect("a page holds 64 per head")
            };
            let (ke, ve) = (exponents(&page.ke), exponents(&page.ve));
            let seen = at.keys.start.saturating_sub(block * KEY_BLOCK)..at.keys.end - block * KEY_BLOCK;
            let whole: &mut [i32; KEY_BLOCK] =
                (&mut self.whole[block * KEY_BLOCK..][..KEY_BLOCK]).try_into().expect("64 of them");
            let power: &mut [u32; KEY_BLOCK] =
                (&mut self.power[block * KEY_BLOCK..][..KEY_BLOCK]).try_into().expect("64 of them");
            let eq = self.exponent;
            self.tops[block] = finish_scores(level, &high, &low, eq, &ke, &ve, seen, whole, power);
        }
    }

    fn weigh(&mut self, level: Level, kv: &KvLayer, at: &At, out: &mut [f32]) {
        let tops = &self.tops[at.blocks()];
        let top = tops.iter().fold(i32::MIN, |m, t| m.max(t.0));
        let top_value = tops.iter().fold(i32::MIN, |m, t| m.max(t.1));
        let d = out.len();
        let mut den = 0i64;
        self.num.fill(0);
        for (block, (block_top, block_top_value)) in at.blocks().zip(tops) {
            let whole: &[i32; KEY_BLOCK] =
                self.whole[block * KEY_BLOCK..][..KEY_BLOCK].try_into().expect("64 of them");
            let power: &[u32; KEY_BLOCK] =
                self.power[block * KEY_BLOCK..][..KEY_BLOCK].try_into().expect("64 of them");
            let mut p = [0u32; KEY_BLOCK];
            if top - block_top < VANISHED {
                probabilities(level, whole, &[0; KEY_BLOCK], power, *block_top, &mut p);
                den += merge(p.iter().map(|p| i64::from(*p)).sum(), top - block_top);
            }
            let down = top_value - block_top_value;
            if down < VANISHED {
                let page = kv.page(block);
                let ve: &[i32; KEY_BLOCK] =
                    page.ve[at.kv_head * KEY_BLOCK..][..KEY_BLOCK].try_into().expect("64 of them");
                probabilities(level, whole, ve, power, *block_top_value, &mut p);
                let v = &page.v[at.kv_head * KEY_BLOCK * d..][..KEY_BLOCK * d];
                dot::weigh(level, v, &p, &mut self.num_block);
                for (num, block) in self.num.iter_mut().zip(&self.num_block) {
                    *num += merge(*block, down);
                }
            }
        }
        let factor = reciprocal(den);
        for (out, num) in out.iter_mut().zip(&self.num) {
            *out = normalise(*num, factor, top_value - top);
        }
    }
}

multiversioned! {
    /// Dot products of a block to whole parts and powers; returns the two maxima over the keys seen.
    fn finish_scores(
        high: &[i32; KEY_BLOCK], low: &[i32; KEY_BLOCK], eq: i32, ke: &[i32; KEY_BLOCK], ve: &[i32; KEY_BLOCK],
        seen: Range<usize>, whole: &mut [i32; KEY_BLOCK], power: &mut [u32; KEY_BLOCK],
    ) -> (i32, i32) = finish_scores_body;
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "kernels take their operands one by one")]
fn finish_scores_body(
    high: &[i32; KEY_BLOCK],
    low: &[i32; KEY_BLOCK],
    eq: i32,
    ke: &[i32; KEY_BLOCK],
    ve: &[i32; KEY_BLOCK],
    seen: Range<usize>,
    whole: &mut [i32; KEY_BLOCK],
    power: &mut [u32; KEY_BLOCK],
) -> (i32, i32) {
    let limit = MAX_SCORE as f64;
    let factor = pow2(eq + 16);
    for n in 0..KEY_BLOCK {
        // Below 2^39 and exact in f64, as is the product with a power of two; held to the limit before rounding,
        // which is the same because the limit is an integer. Adding 1.5 * 2^52 rounds to nearest even.
        let dot = f64::from(high[n]) * 256.0 + f64::from(low[n]);
        let s = (dot * (factor * pow2(ke[n]))).clamp(-limit, limit);
        let s = (s + 6_755_399_441_055_744.0).to_bits() as i32;
        whole[n] = if seen.start <= n && n < seen.end { s >> 16 } else { UNSEEN };
        power[n] = exp2_q16((s & 0xffff) as u32);
    }
    let mut tops = (UNSEEN, UNSEEN);
    for n in 0..KEY_BLOCK {
        tops.0 = tops.0.max(whole[n]);
        tops.1 = tops.1.max(whole[n] + ve[n]);
    }
    tops
}

multiversioned! {
    /// `min(RNE(power / 2^(top - whole - extra + 3)), 16383)` for every key of a block.
    fn probabilities(
        whole: &[i32; KEY_BLOCK], extra: &[i32; KEY_BLOCK], power: &[u32; KEY_BLOCK], top: i32, p: &mut [u32; KEY_BLOCK],
    ) = probabilities_body;
}

#[inline(always)]
fn probabilities_body(
    whole: &[i32; KEY_BLOCK],
    extra: &[i32; KEY_BLOCK],
    power: &[u32; KEY_BLOCK],
    top: i32,
    p: &mut [u32; KEY_BLOCK],
) {
    for n in 0..KEY_BLOCK {
        // At 20 and more the power, below 2^17, rounds to zero.
        let shift = (top - whole[n] - extra[n] + 3).clamp(3, 20) as u32;
        let odd = (power[n] >> shift) & 1;
        p[n] = ((power[n] + ((1 << (shift - 1)) - 1) + odd) >> shift).min(MAX_P);
    }
}
