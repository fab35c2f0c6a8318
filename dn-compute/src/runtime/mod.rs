//! The decoder: layers over any backend, keys and values of one sequence, and its trace.
//!
//! Every operation of a [`Backend`] gives each row bits that depend on that row and the positions before it only. So
//! how tokens are cut into chunks cannot matter: decoding one by one equals one pass over all.

mod scratch;
mod weights;

use dn_core::objects::Hyperparameters;

use crate::engine::EngineError;
use crate::model::{Model, rope_spec};
use crate::spec::{Backend, BackendInfo, KvLayer, KvShape, Mask, NumericError, RopeTable};
use crate::trace::{ChunkTrace, Trace};
use scratch::Scratch;
use weights::{Layer, Weights};

/// Most logits computed at a time.
const MAX_LOGITS: usize = 1 << 22;

/// What takes a row of logits: the position and the logits.
pub type OnLogits<'a> = dyn FnMut(u32, &[f32]) + Send + 'a;

/// A model on a backend.
#[derive(Debug)]
pub struct Decoder {
    backend: Box<dyn Backend>,
    weights: Weights,
    rope: RopeTable,
    hyper: Hyperparameters,
}

/// One sequence: its keys and values, and the trace of its positions.
#[derive(Debug, Clone)]
pub struct Session {
    kv: Vec<KvLayer>,
    trace: Trace,
    scratch: Scratch,
}

impl Session {
    /// Positions fed.
    pub fn len(&self) -> usize {
        self.kv[0].len()
    }

    /// Whether nothing was fed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The trace of the positions fed.
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Bytes that keys and values take now.
    ///
    /// # Units
    /// Bytes.
    pub fn memory_bytes(&self) -> usize {
        self.kv.iter().map(KvLayer::memory_bytes).sum()
    }
}

impl Decoder {
    /// Prepares a model's weights for a backend.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn new(model: &Model, backend: Box<dyn Backend>) -> Result<Self, EngineError> {
        let hyper = model.front().hyperparameters().clone();
        let weights = Weights::prepare(model, backend.as_ref())?;
        let rope = RopeTable::new(rope_spec(&hyper, weights.rope_factors.clone()), hyper.context as usize)?;
        Ok(Self { backend, weights, rope, hyper })
    }

    /// What the backend is.
    pub fn info(&self) -> BackendInfo {
        self.backend.info()
    }

    /// Runs `job` close to the backend's threads.
    pub fn enter(&self, job: &mut (dyn FnMut() + Send)) {
        self.backend.enter(job);
    }

    /// An empty sequence of at most `positions`.
    ///
    /// # Errors
    /// [`NumericError`] for no positions, or more than the numeric spec allows.
    pub fn session(&self, positions: usize) -> Result<Session, NumericError> {
        let h = &self.hyper;
        let (heads, head_dim) = (h.kv_heads as usize, h.head_size as usize);
        let shape = KvShape { heads, head_dim, capacity: positions };
        let kv: Result<Vec<_>, _> = (0..h.layers).map(|_| self.backend.kv_layer(shape)).collect();
        Ok(Session { kv: kv?, trace: Trace::default(), scratch: Scratch::default() })
    }

    /// Feeds tokens; calls `on_logits` for each position from `logits_from` on.
    ///
    /// # Errors
    /// [`NumericError`]; the session then is as it was before.
    pub fn feed(
        &self,
        session: &mut Session,
        tokens: &[u32],
        logits_from: usize,
        on_logits: &mut OnLogits<'_>,
    ) -> Result<(), NumericError> {
        let before = session.len();
        let result = self.forward(session, tokens, logits_from, on_logits);
        if result.is_err() {
            session.kv.iter_mut().for_each(|kv| kv.truncate(before));
        }
        result
    }

    fn forward(
        &self,
        session: &mut Session,
        tokens: &[u32],
        logits_from: usize,
        on_logits: &mut OnLogits<'_>,
    ) -> Result<(), NumericError> {
        let first = session.len();
        let Session { kv, trace, scratch: s } = session;
        s.resize(&self.hyper, tokens.len());
        let positions: Vec<u32> = (first as u32..).take(tokens.len()).collect();
        let boundaries = self.hyper.layers + 1;
        let parallel = self.backend.info().threads > 1;
        let mut leaves = ChunkTrace::new(first as u32, tokens, boundaries, parallel);
        self.backend.embed(&self.weights.embedding, tokens, &mut s.x)?;
        leaves.boundary(&s.x);
        for (layer, kv) in self.weights.layers.iter().zip(kv) {
            self.attention(layer, kv, &positions, s)?;
            self.feed_forward(layer, s)?;
            leaves.boundary(&s.x);
        }
        let without = logits_from.saturating_sub(first).min(tokens.len());
        self.logits(s, without, first, &mut leaves, on_logits)?;
        leaves.finish(without, trace);
        Ok(())
    }

    fn mask(&self) -> Mask {
        match self.hyper.window {
            Some(positions) => Mask::Window { positions: positions as usize },
            None => Mask::Causal,
        }
    }

    fn epsilon(&self) -> f32 {
        f32::from_bits(self.hyper.norm_epsilon_bits)
    }

    fn attention(
        &self,
        layer: &Layer,
        kv: &mut KvLayer,
        positions: &[u32],
        s: &mut Scratch,
    ) -> Result<(), NumericError> {
        let (b, tokens) = (&self.backend, positions.len());
        b.rms_norm(&layer.attention_norm, self.epsilon(), &s.x, &mut s.h)?;
        let weights = [&layer.query, &layer.key, &layer.value];
        b.linear(&weights, &s.h, tokens, &mut [&mut s.q, &mut s.k, &mut s.v])?;
        if let Some([query, key, value]) = &layer.biases {
            b.add(&mut s.q, query)?;
            b.add(&mut s.k, key)?;
            b.add(&mut s.v, value)?;
        }
        if let Some([query, key]) = &layer.head_norms {
            // Both are written over before they are read again.
            b.rms_norm(query, self.epsilon(), &s.q, &mut s.a)?;
            std::mem::swap(&mut s.q, &mut s.a);
            b.rms_norm(key, self.epsilon(), &s.k, &mut s.k_normed)?;
            std::mem::swap(&mut s.k, &mut s.k_normed);
        }
        b.rope(&self.rope, positions, &mut s.q)?;
        b.rope(&self.rope, positions, &mut s.k)?;
        b.kv_append(kv, &s.k, &s.v)?;
        b.attention(kv, self.mask(), self.hyper.heads as usize, positions[0] as usize, &s.q, &mut s.a)?;
        b.linear(&[&layer.attention_output], &s.a, tokens, &mut [&mut s.h])?;
        if let Some(bias) = &layer.output_bias {
            b.add(&mut s.h, bias)?;
        }
        b.add(&mut s.x, &s.h)
    }

    fn feed_forward(&self, layer: &Layer, s: &mut Scratch) -> Result<(), NumericError> {
        let b = &self.backend;
        let tokens = s.x.len() / self.hyper.width as usize;
        b.rms_norm(&layer.ffn_norm, self.epsilon(), &s.x, &mut s.h)?;
        b.linear(&[&layer.gate, &layer.up], &s.h, tokens, &mut [&mut s.gate, &mut s.up])?;
        b.silu_mul(&mut s.gate, &s.up)?;
        b.linear(&[&layer.down], &s.gate, tokens, &mut [&mut s.h])?;
        b.add(&mut s.x, &s.h)
    }

    /// Logits of the chunk's positions from `without` on, some rows at a time.
    fn logits(
        &self,
        s: &mut Scratch,
        without: usize,
        first: usize,
        leaves: &mut ChunkTrace,
        on_logits: &mut OnLogits<'_>,
    ) -> Result<(), NumericError> {
        let (width, vocabulary) = (self.hyper.width as usize, self.hyper.vocabulary as usize);
        let step = (MAX_LOGITS / vocabulary).max(1);
        let mut row = without;
        for x in s.x[without * width..].chunks(step * width) {
            let rows = x.len() / width;
            let normed = &mut s.h[..x.len()];
            self.backend.rms_norm(&self.weights.output_norm, self.epsilon(), x, normed)?;
            s.logits.resize(rows * vocabulary, 0.0);
            self.backend.linear(&[&self.weights.output], normed, rows, &mut [&mut s.logits])?;
            leaves.logits(row, &s.logits, vocabulary);
            for logits in s.logits.chunks_exact(vocabulary) {
                on_logits((first + row) as u32, logits);
                row += 1;
            }
        }
        Ok(())
    }
}
