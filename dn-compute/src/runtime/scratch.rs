//! Buffers of a step, kept between steps.

use std::sync::{Mutex, PoisonError};

use dn_core::objects::Hyperparameters;

/// Buffers kept; callers beyond that many at the same time allocate their own.
const KEPT: usize = 4;

/// A step's values on their way through the layers.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The residual stream.
    pub(super) x: Vec<f32>,
    /// What goes into and comes out of a block.
    pub(super) h: Vec<f32>,
    pub(super) q: Vec<f32>,
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
    /// Keys whose heads are normalised.
    pub(super) k_normed: Vec<f32>,
    /// What attention gives.
    pub(super) a: Vec<f32>,
    pub(super) gate: Vec<f32>,
    pub(super) up: Vec<f32>,
    /// Rows of the residual stream that get logits.
    pub(super) picked: Vec<f32>,
    pub(super) logits: Vec<f32>,
    /// The residual stream between the layers of a pass, for the trace.
    pub(super) boundaries: Vec<f32>,
}

impl Scratch {
    /// Sets every buffer to the length that `tokens` rows need.
    pub(super) fn resize(&mut self, h: &Hyperparameters, tokens: usize) {
        let (query, kv) = (h.heads * h.head_size, h.kv_heads * h.head_size);
        let sizes = [
            (&mut self.x, h.width),
            (&mut self.h, h.width),
            (&mut self.q, query),
            (&mut self.k, kv),
            (&mut self.v, kv),
            (&mut self.k_normed, if h.head_norms { kv } else { 0 }),
            (&mut self.a, query),
            (&mut self.gate, h.ffn_width),
            (&mut self.up, h.ffn_width),
        ];
        for (buffer, width) in sizes {
            buffer.resize(tokens * width as usize, 0.0);
        }
    }
}

/// Scratch buffers that nobody uses just now.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Scratch>>);

impl Pool {
    pub(super) fn take(&self) -> Scratch {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub(super) fn give(&self, scratch: Scratch) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(scratch);
        }
    }
}

/// Bytes that a step of `tokens` takes beside weights, keys and values: an upper estimate.
pub(crate) fn scratch_bytes(h: &Hyperparameters, tokens: usize, context: u32, threads: u64) -> u64 {
    let (query, kv) = (u64::from(h.heads * h.head_size), u64::from(h.kv_heads * h.head_size));
    let (width, ffn, vocabulary) = (u64::from(h.width), u64::from(h.ffn_width), u64::from(h.vocabulary));
    let logits_rows = super::step::logits_rows(h.vocabulary as usize).min(tokens) as u64;
    let tokens = tokens as u64;
    let floats = tokens * (2 * width + 2 * query + 3 * kv + 2 * ffn) + logits_rows * (width + vocabulary);
    // Quantised activations, and the two sums and the digits that some kernels keep beside them.
    let activations = tokens * width.max(ffn).max(query) * 4;
    // What a thread works with: attention a score and a power of each key, the sampler three numbers of each token.
    let threads = threads * (u64::from(context) * 8 + vocabulary * 24);
    let hashes = tokens * size_of::<blake3::Hasher>() as u64;
    4 * floats + activations + threads + hashes
}
