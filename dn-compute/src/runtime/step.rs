//! One pass of tokens of many sequences through the layers.
//!
//! Linear layers, norms and positions take the rows of all sequences together; attention takes each sequence with its
//! own keys. A row's bits depend on that row and its own sequence only, so who else is in a step cannot matter.

use std::ops::Range;

use rayon::prelude::*;

use super::{Decoder, MAX_LOGITS, Place, Scratch, Session};
use crate::spec::{Backend, KvLayer, LayerWeights, NumericError, RopeTable};
use crate::trace::StepTrace;

/// One sequence's share of a step.
#[derive(Debug)]
pub struct Part<'a> {
    /// The sequence.
    pub session: &'a mut Session,
    /// What to feed; at least one token.
    pub tokens: &'a [u32],
    /// Positions from this one on get logits.
    pub logits_from: usize,
}

/// Whose logits a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogitsRow {
    /// Index of the part.
    pub part: usize,
    /// Position in its sequence, from 0.
    pub position: u32,
}

/// What takes rows of logits: whose they are, and as many rows of the vocabulary's length.
///
/// Rows come in the order of parts and positions, some at a time.
pub type OnRows<'a> = dyn FnMut(&[LogitsRow], &[f32]) + Send + 'a;

/// Why a step was not done. All its sequences are as they were before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The computation of some sequence left the numbers that the spec allows.
    #[error(transparent)]
    Numeric(#[from] NumericError),
    /// The caller gave up.
    #[error("the step was given up")]
    Aborted,
}

/// What belongs to the rows of a step.
pub(super) struct Rows {
    pub(super) positions: Vec<u32>,
    pub(super) tokens: Vec<u32>,
    /// The rows of each part.
    pub(super) parts: Vec<Range<usize>>,
    /// Position of each part's first row.
    first: Vec<usize>,
    /// The rows that get logits, and whose they are.
    pub(super) wanted: Vec<(usize, LogitsRow)>,
}

/// One sequence in one layer's attention.
struct Job<'a> {
    kv: &'a mut KvLayer,
    first: usize,
    k: &'a [f32],
    v: &'a [f32],
    q: &'a [f32],
    out: &'a mut [f32],
}

impl Rows {
    fn new(parts: &[Part<'_>]) -> Self {
        let mut rows = Self {
            positions: Vec::new(),
            tokens: Vec::new(),
            parts: Vec::new(),
            first: Vec::new(),
            wanted: Vec::new(),
        };
        for (index, part) in parts.iter().enumerate() {
            let (from, first) = (rows.tokens.len(), part.session.len());
            rows.tokens.extend_from_slice(part.tokens);
            rows.positions.extend((first as u32..).take(part.tokens.len()));
            rows.parts.push(from..rows.tokens.len());
            rows.first.push(first);
            let without = part.logits_from.saturating_sub(first).min(part.tokens.len());
            rows.wanted.extend(
                (without..part.tokens.len())
                    .map(|row| (from + row, LogitsRow { part: index, position: (first + row) as u32 })),
            );
        }
        rows
    }

    fn len(&self) -> usize {
        self.tokens.len()
    }
}

impl Decoder {
    /// Feeds each part's tokens to its sequence; calls `on_rows` with the logits that were asked for. `abort` is asked
    /// before every layer.
    ///
    /// After an error `on_rows` may have been called already: what it was given does not count.
    ///
    /// # Errors
    /// [`StepError`]; all sequences then are as they were before. A part of another's numbers does not fail for them
    /// when it is fed alone.
    pub fn step(
        &self,
        parts: &mut [Part<'_>],
        abort: &(dyn Fn() -> bool + Sync),
        on_rows: &mut OnRows<'_>,
    ) -> Result<(), StepError> {
        if parts.is_empty() {
            return Ok(());
        }
        let before: Vec<usize> = parts.iter().map(|part| part.session.len()).collect();
        let mut scratch = self.scratch.take();
        let mut result = Ok(());
        self.backends.enter(&mut || result = self.forward(parts, &mut scratch, abort, on_rows));
        self.scratch.give(scratch);
        if result.is_err() {
            parts.iter_mut().zip(before).for_each(|(part, len)| part.session.roll_back(len));
        }
        result
    }

    fn forward(
        &self,
        parts: &mut [Part<'_>],
        s: &mut Scratch,
        abort: &(dyn Fn() -> bool + Sync),
        on_rows: &mut OnRows<'_>,
    ) -> Result<(), StepError> {
        let rows = Rows::new(parts);
        let rope = self.rope(rows.positions.iter().max().map_or(1, |last| *last as usize + 1))?;
        s.resize(&self.hyper, rows.len());
        let traced = parts.iter().any(|part| part.session.traced);
        let layers = self.hyper.layers;
        let mut trace =
            traced.then(|| StepTrace::new(&rows.positions, &rows.tokens, layers, self.parallel()));
        let share = self.backends.share(&self.hyper);
        if abort() {
            return Err(StepError::Aborted);
        }
        if !share.embedding {
            self.embed(&rows, s, trace.as_mut())?;
        }
        let passed = self.pass(share, parts, &rows, &rope, s, trace.as_mut())?;
        if share.embedding && passed.layers == 0 {
            self.embed(&rows, s, trace.as_mut())?;
        }
        for (l, layer) in self.weights.layers.iter().enumerate().skip(passed.layers) {
            if l > 0 && abort() {
                return Err(StepError::Aborted);
            }
            self.attention(l, layer, parts, &rows, &rope, s)?;
            self.feed_forward(l, layer, s)?;
            if let Some(trace) = &mut trace {
                self.entries(l, parts, &rows, trace);
                trace.boundary(&s.x);
            }
        }
        if passed.logits {
            self.hand_out(&rows.wanted, &s.logits, trace.as_mut(), on_rows);
        } else {
            self.logits(&rows.wanted, s, trace.as_mut(), on_rows)?;
        }
        if let Some(trace) = trace {
            let leaves = trace.finish();
            let own = parts.iter_mut().zip(&rows.parts).filter(|(part, _)| part.session.traced);
            own.for_each(|(part, range)| part.session.extend_trace(&leaves[range.clone()]));
        }
        Ok(())
    }

    fn parallel(&self) -> bool {
        self.backends.info().threads > 1
    }

    /// The backend of a layer.
    fn at(&self, l: usize) -> &dyn Backend {
        self.backends.at(Place::Layer(l as u32))
    }

    pub(super) fn epsilon(&self) -> f32 {
        f32::from_bits(self.hyper.norm_epsilon_bits)
    }

    fn embed(&self, rows: &Rows, s: &mut Scratch, trace: Option<&mut StepTrace>) -> Result<(), NumericError> {
        let backend = self.backends.at(Place::Embedding);
        backend.embed(&self.weights.embedding, &rows.tokens, &mut s.x)?;
        if let Some(trace) = trace {
            trace.boundary(&s.x);
        }
        Ok(())
    }

    /// What a layer has appended to the caches, for the trace.
    pub(super) fn entries(&self, l: usize, parts: &[Part<'_>], rows: &Rows, trace: &mut StepTrace) {
        for ((part, range), first) in parts.iter().zip(&rows.parts).zip(&rows.first) {
            trace.entries(range.clone(), &part.session.kv[l], *first);
        }
    }

    fn attention(
        &self,
        l: usize,
        layer: &LayerWeights,
        parts: &mut [Part<'_>],
        rows: &Rows,
        rope: &RopeTable,
        s: &mut Scratch,
    ) -> Result<(), NumericError> {
        let b = self.at(l);
        b.rms_norm(&layer.attention_norm, self.epsilon(), &s.x, &mut s.h)?;
        let weights = [&layer.query, &layer.key, &layer.value];
        b.linear(&weights, &s.h, rows.len(), &mut [&mut s.q, &mut s.k, &mut s.v])?;
        if let Some([query, key, value]) = &layer.biases {
            b.add(&mut s.q, query)?;
            b.add(&mut s.k, key)?;
            b.add(&mut s.v, value)?;
        }
        if let Some([query, key]) = &layer.head_norms {
            // What attention gives is written over before it is read.
            b.rms_norm(query, self.epsilon(), &s.q, &mut s.a)?;
            std::mem::swap(&mut s.q, &mut s.a);
            b.rms_norm(key, self.epsilon(), &s.k, &mut s.k_normed)?;
            std::mem::swap(&mut s.k, &mut s.k_normed);
        }
        b.rope(rope, &rows.positions, &mut s.q)?;
        b.rope(rope, &rows.positions, &mut s.k)?;
        self.attend(l, parts, rows, s)?;
        b.linear(&[&layer.attention_output], &s.a, rows.len(), &mut [&mut s.h])?;
        if let Some(bias) = &layer.output_bias {
            b.add(&mut s.h, bias)?;
        }
        b.add(&mut s.x, &s.h)
    }

    /// Each sequence's new keys and values to its cache, and its queries over them.
    fn attend(
        &self,
        l: usize,
        parts: &mut [Part<'_>],
        rows: &Rows,
        s: &mut Scratch,
    ) -> Result<(), NumericError> {
        let kv_width = (self.hyper.kv_heads * self.hyper.head_size) as usize;
        let width = (self.hyper.heads * self.hyper.head_size) as usize;
        let mut jobs = Vec::with_capacity(parts.len());
        let (mut q, mut k, mut v, mut out) = (&s.q[..], &s.k[..], &s.v[..], &mut s.a[..]);
        for ((part, range), first) in parts.iter_mut().zip(&rows.parts).zip(&rows.first) {
            let (own_q, own_k, own_v, own_out);
            (own_q, q) = q.split_at(range.len() * width);
            (own_k, k) = k.split_at(range.len() * kv_width);
            (own_v, v) = v.split_at(range.len() * kv_width);
            (own_out, out) = out.split_at_mut(range.len() * width);
            let kv = &mut part.session.kv[l];
            jobs.push(Job { kv, first: *first, k: own_k, v: own_v, q: own_q, out: own_out });
        }
        let (heads, mask) = (self.hyper.heads as usize, self.mask());
        let b = self.at(l);
        let one = |job: Job<'_>| {
            b.kv_append(job.kv, job.k, job.v)?;
            b.attention(job.kv, mask, heads, job.first, job.q, job.out)
        };
        if jobs.len() > 1 && self.parallel() {
            jobs.into_par_iter().try_for_each(one)
        } else {
            jobs.into_iter().try_for_each(one)
        }
    }

    fn feed_forward(&self, l: usize, layer: &LayerWeights, s: &mut Scratch) -> Result<(), NumericError> {
        let b = self.at(l);
        let tokens = s.x.len() / self.hyper.width as usize;
        b.rms_norm(&layer.ffn_norm, self.epsilon(), &s.x, &mut s.h)?;
        b.linear(&[&layer.gate, &layer.up], &s.h, tokens, &mut [&mut s.gate, &mut s.up])?;
        b.silu_mul(&mut s.gate, &s.up)?;
        b.linear(&[&layer.down], &s.gate, tokens, &mut [&mut s.h])?;
        b.add(&mut s.x, &s.h)
    }

    /// Logits of the positions that want them, some rows at a time.
    fn logits(
        &self,
        wanted: &[(usize, LogitsRow)],
        s: &mut Scratch,
        mut trace: Option<&mut StepTrace>,
        on_rows: &mut OnRows<'_>,
    ) -> Result<(), NumericError> {
        let (width, vocabulary) = (self.hyper.width as usize, self.hyper.vocabulary as usize);
        let b = self.backends.at(Place::Output);
        for some in wanted.chunks(logits_rows(vocabulary)) {
            s.picked.clear();
            some.iter().for_each(|(row, _)| s.picked.extend_from_slice(&s.x[row * width..][..width]));
            let normed = &mut s.h[..s.picked.len()];
            b.rms_norm(&self.weights.output_norm, self.epsilon(), &s.picked, normed)?;
            s.logits.resize(some.len() * vocabulary, 0.0);
            b.linear(&[&self.weights.output], normed, some.len(), &mut [&mut s.logits])?;
            self.hand_out(some, &s.logits, trace.as_deref_mut(), on_rows);
        }
        Ok(())
    }

    /// Logits to the trace and to whoever wants them.
    fn hand_out(
        &self,
        some: &[(usize, LogitsRow)],
        logits: &[f32],
        trace: Option<&mut StepTrace>,
        on_rows: &mut OnRows<'_>,
    ) {
        let vocabulary = self.hyper.vocabulary as usize;
        let (at, whose): (Vec<usize>, Vec<LogitsRow>) = some.iter().copied().unzip();
        match trace {
            // Hashing beside choosing: in a decode of one sequence each alone would leave the other threads idle.
            Some(trace) if self.parallel() => {
                rayon::join(|| trace.logits(&at, logits, vocabulary), || on_rows(&whose, logits));
            }
            Some(trace) => {
                trace.logits(&at, logits, vocabulary);
                on_rows(&whose, logits);
            }
            None => on_rows(&whose, logits),
        }
    }
}

/// Rows of logits computed at a time: whole tiles of sixteen where they fit.
pub(crate) const fn logits_rows(vocabulary: usize) -> usize {
    match MAX_LOGITS / vocabulary {
        0 => 1,
        few @ 1..16 => few,
        many => many / 16 * 16,
    }
}
