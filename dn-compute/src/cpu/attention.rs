//! Attention: rows of queries that share a key and value head pass together over its pages of 64 keys, twice: once for
//! the scores, whose maxima fix the scale, once for the weighted sums.
//!
//! Long contexts of few queries are cut by pages as well: all sums are exact, so the cut cannot touch a bit.

use std::cell::RefCell;
use std::ops::Range;

use crate::spec::{
    AttentionPlan, KvLayer, Mask, NumericError, Op,
    attention::{KEY_BLOCK, KvRows, normalise, reciprocal, value_width},
    quantise::{self, rebase},
};

use super::Cpu;
use super::checks::no_overflow;
use super::isa::{Level, multiversioned};
use dot::{Product, multiply};
use queries::{Piece, Queries};
use softmax::{Exponents, NO_TOPS, STRIP, Tops};

mod dot;
mod queries;
mod softmax;
mod split;

/// Scores of a piece that should stay in the second-level cache: 1 MiB.
const SCORES_AT_ONCE: usize = 1 << 18;

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
    let keys = plan.keys(plan.tokens - 1).len();
    let wanted = cpu.threads.pieces(q.len().saturating_mul(keys));
    let pieces = pieces(&plan, wanted, keys);
    let target = Out { at: out.as_mut_ptr(), len: out.len() };
    let call = Call { level: cpu.level, kv, plan: &plan, q, out: &target };
    let idle = pieces.len() < cpu.threads.count().min(wanted);
    if idle && pages(&plan, &pieces[0].tokens).len() > 1 {
        split::run(&cpu.threads, &call, &pieces, wanted.div_ceil(pieces.len()))?;
    } else if wanted == 1 {
        first_error(pieces.iter().map(|piece| call.run(piece)))?;
    } else {
        first_error(cpu.threads.map(pieces, |piece| call.run(&piece)))?;
    }
    no_overflow(cpu.level, Op::Attention, out)
}

/// Cuts the queries by head and tokens into at least `wanted` pieces if there are as many, none so large that its scores
/// leave the cache.
fn pieces(plan: &AttentionPlan, wanted: usize, keys: usize) -> Vec<Piece> {
    let kv_heads = plan.heads / plan.group;
    let rows = (SCORES_AT_ONCE / keys.max(1)).clamp(STRIP, 4 * STRIP);
    let tokens = (rows / plan.group).clamp(1, (plan.tokens * kv_heads).div_ceil(wanted));
    let starts = (0..plan.tokens).step_by(tokens);
    let piece = |first| {
        (0..kv_heads).map(move |kv_head| Piece { kv_head, tokens: first..plan.tokens.min(first + tokens) })
    };
    starts.flat_map(piece).collect()
}

/// The pages that some queries see.
fn pages(plan: &AttentionPlan, tokens: &Range<usize>) -> Range<usize> {
    let (start, end) = (plan.keys(tokens.start).start, plan.keys(tokens.end - 1).end);
    start / KEY_BLOCK..end.div_ceil(KEY_BLOCK)
}

/// Of the errors the one that the reference meets first.
fn first_error(results: impl IntoIterator<Item = Result<(), NumericError>>) -> Result<(), NumericError> {
    let index = |e: &NumericError| match e {
        NumericError::NonFinite { index, .. } | NumericError::Range { index, .. } => *index,
        _ => 0,
    };
    results.into_iter().filter_map(Result::err).min_by_key(index).map_or(Ok(()), Err)
}

/// Where the outputs go. Pieces write disjoint vectors of it.
struct Out {
    at: *mut f32,
    len: usize,
}

// SAFETY: the pointer comes from one `&mut [f32]` that outlives the call, and pieces write disjoint elements.
unsafe impl Send for Out {}
// SAFETY: as above; nothing reads through it.
unsafe impl Sync for Out {}

impl Out {
    /// Vector `index` of `len` elements.
    ///
    /// # Safety
    /// No other thread holds the same vector.
    #[allow(clippy::mut_from_ref, reason = "that is what the caller promises")]
    unsafe fn vector(&self, index: usize, len: usize) -> &mut [f32] {
        assert!((index + 1) * len <= self.len);
        // SAFETY: in bounds by the assertion, exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.at.add(index * len), len) }
    }
}

/// One call, as its pieces see it.
struct Call<'a> {
    level: Level,
    kv: &'a KvLayer,
    plan: &'a AttentionPlan,
    q: &'a [f32],
    out: &'a Out,
}

/// Working memory of one thread, kept: about a MiB, and `64 * keys` bytes (or `4 * group * keys`) once a context was longer.
#[derive(Default)]
struct Work {
    queries: Queries,
    scores: Vec<i32>,
    tops: Vec<Tops>,
    buffers: Buffers,
    sums: Sums,
}

/// What passes between the steps of one strip and page.
#[derive(Default)]
struct Buffers {
    /// The two halves of a product's outputs.
    high: Vec<i32>,
    low: Vec<i32>,
    /// The digits of probabilities.
    p_high: Vec<i32>,
    p_low: Vec<i32>,
}

impl Buffers {
    /// Makes room for a strip of heads of `d` elements.
    fn fit(&mut self, d: usize) {
        let outputs = STRIP * KEY_BLOCK.max(value_width(d));
        self.high.resize(outputs, 0);
        self.low.resize(outputs, 0);
        self.p_high.resize(STRIP * KEY_BLOCK / 2, 0);
        self.p_low.resize(STRIP * KEY_BLOCK / 2, 0);
    }
}

/// Denominators `[row]` and numerators `[row][element]`.
#[derive(Default)]
struct Sums {
    den: Vec<i64>,
    num: Vec<i64>,
}

impl Sums {
    fn reset(&mut self, rows: usize, width: usize) {
        self.den.clear();
        self.den.resize(rows, 0);
        self.num.clear();
        self.num.resize(rows * width, 0);
    }
}

thread_local! {
    static WORK: RefCell<Work> = RefCell::default();
}

impl Call<'_> {
    /// A whole piece on one thread.
    fn run(&self, piece: &Piece) -> Result<(), NumericError> {
        WORK.with_borrow_mut(|work| {
            let Work { queries, scores, tops, buffers, sums } = work;
            queries.fill(self.level, self.plan, piece, self.q)?;
            let (rows, pages) = (queries.rows(), pages(self.plan, &piece.tokens));
            scores.resize(pages.len() * rows * KEY_BLOCK, 0);
            tops.resize(pages.len() * rows, NO_TOPS);
            self.score(piece.kv_head, queries, pages.clone(), scores, tops, buffers);
            let of_rows = highest(tops, rows);
            sums.reset(rows, value_width(self.plan.head_dim));
            self.weigh(piece.kv_head, pages, scores, tops, &of_rows, buffers, sums);
            self.finish(piece, &of_rows, sums);
            Ok(())
        })
    }

    /// Scores of all rows with some pages: `scores` is `[page][row][slot]`, `tops` `[page][row]`.
    fn score(
        &self,
        kv_head: usize,
        queries: &Queries,
        pages: Range<usize>,
        scores: &mut [i32],
        tops: &mut [Tops],
        buffers: &mut Buffers,
    ) {
        let (rows, d) = (queries.rows(), self.plan.head_dim);
        buffers.fit(d);
        let Buffers { high, low, .. } = buffers;
        let outputs = scores.chunks_exact_mut(rows * KEY_BLOCK).zip(tops.chunks_exact_mut(rows));
        for (index, (scores, tops)) in pages.zip(outputs) {
            let page = self.kv.page(index);
            let exponents = Exponents::new(page, kv_head);
            let values = &page.k[kv_head * KEY_BLOCK * d..][..KEY_BLOCK * d];
            let strips = scores.chunks_mut(STRIP * KEY_BLOCK).zip(tops.chunks_mut(STRIP));
            for (strip, (scores, tops)) in strips.enumerate() {
                let first = strip * STRIP;
                let digits = first * d / 2..(first + tops.len()) * d / 2;
                let product = Product {
                    values,
                    width: KEY_BLOCK,
                    rows: tops.len(),
                    high: &queries.high[digits.clone()],
                    low: &queries.low[digits],
                };
                multiply(self.level, &product, high, low);
                let (factor, seen) = (&queries.factor[first..], &queries.seen[first..]);
                let (factor, seen) = (&factor[..tops.len()], &seen[..tops.len()]);
                let base = index * KEY_BLOCK;
                softmax::score(self.level, high, low, factor, seen, base, &exponents, scores, tops);
            }
        }
    }

    /// Adds what some pages weigh to the sums of all rows.
    #[allow(clippy::too_many_arguments, reason = "a step takes what the others left, one by one")]
    fn weigh(
        &self,
        kv_head: usize,
        pages: Range<usize>,
        scores: &[i32],
        tops: &[Tops],
        of_rows: &[Tops],
        buffers: &mut Buffers,
        sums: &mut Sums,
    ) {
        let (rows, width) = (of_rows.len(), value_width(self.plan.head_dim));
        buffers.fit(self.plan.head_dim);
        let Buffers { high, low, p_high, p_low } = buffers;
        let inputs = scores.chunks_exact(rows * KEY_BLOCK).zip(tops.chunks_exact(rows));
        for (index, (scores, tops)) in pages.zip(inputs) {
            let page = self.kv.page(index);
            let exponents = Exponents::new(page, kv_head);
            let values = &page.v[kv_head * KEY_BLOCK * width..][..KEY_BLOCK * width];
            let strips = scores.chunks(STRIP * KEY_BLOCK).zip(tops.chunks(STRIP));
            for (strip, (scores, tops)) in strips.enumerate() {
                let first = strip * STRIP;
                let mut dens = [0i64; STRIP];
                softmax::weights(self.level, scores, tops, &exponents, &mut dens, p_high, p_low);
                let product = Product { values, width, rows: tops.len(), high: p_high, low: p_low };
                multiply(self.level, &product, high, low);
                for (row, block) in tops.iter().enumerate() {
                    let top = of_rows[first + row];
                    softmax::add_sum(&mut sums.den[first + row], dens[row], top[0] - block[0]);
                    let num = &mut sums.num[(first + row) * width..][..width];
                    let (high, low) = (&high[row * width..][..width], &low[row * width..][..width]);
                    softmax::add_block(self.level, high, low, top[1] - block[1], num);
                }
            }
        }
    }

    /// Divides and writes the outputs of a piece.
    fn finish(&self, piece: &Piece, of_rows: &[Tops], sums: &Sums) {
        let d = self.plan.head_dim;
        let rows = of_rows.iter().zip(&sums.den).zip(sums.num.chunks_exact(value_width(d)));
        for (row, ((top, den), num)) in rows.enumerate() {
            // SAFETY: a row of a piece belongs to no other piece, and pieces are run once.
            let out = unsafe { self.out.vector(piece.vector(self.plan, row), d) };
            divide(self.level, num, reciprocal(*den), top[1] - top[0], out);
        }
    }
}

/// The maxima of each row over all pages.
fn highest(tops: &[Tops], rows: usize) -> Vec<Tops> {
    let mut of_rows = vec![NO_TOPS; rows];
    for page in tops.chunks_exact(rows) {
        for (row, block) in of_rows.iter_mut().zip(page) {
            *row = [row[0].max(block[0]), row[1].max(block[1])];
        }
    }
    of_rows
}

multiversioned! {
    fn divide(num: &[i64], factor: f32, e: i32, out: &mut [f32]) = divide_body;
}

#[inline(always)]
fn divide_body(num: &[i64], factor: f32, e: i32, out: &mut [f32]) {
    for (out, num) in out.iter_mut().zip(num) {
        *out = normalise(*num, factor, e);
    }
}
