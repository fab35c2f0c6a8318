//! Buffers that a sequence keeps between its chunks.

use dn_core::objects::Hyperparameters;

/// One chunk's values on their way through the layers.
#[derive(Debug, Clone, Default)]
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
