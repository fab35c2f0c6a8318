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
    /// What attention gives.
    pub(super) a: Vec<f32>,
    pub(super) gate: Vec<f32>,
    pub(super) up: Vec<f32>,
    /// Rows of the residual stream that get logits.
    pub(super) picked: Vec<f32>,
    pub(super) logits: Vec<f32>,
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
