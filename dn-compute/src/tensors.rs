//! The tensors of an architecture in their canonical order, and the tiles in which a model's identity binds them.

use dn_core::objects::Hyperparameters;
use dn_core::{Hash32, canonical_struct};

/// What a leaf of the tensors' Merkle tree commits to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// The tensor's place in the order of the architecture, from 0.
    pub tensor: u32,
    /// The first row.
    pub first_row: u32,
    /// Rows; 0 for a vector.
    pub rows: u32,
    /// Columns.
    pub cols: u32,
    /// BLAKE3 of the tile's canonical bytes.
    pub hash: Hash32,
}
canonical_struct!(Tile { tensor: u32, first_row: u32, rows: u32, cols: u32, hash: Hash32 });

/// A tensor's place in a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Slot {
    Embedding,
    AttentionNorm(u32),
    Query(u32),
    QueryBias(u32),
    Key(u32),
    KeyBias(u32),
    Value(u32),
    ValueBias(u32),
    AttentionOutput(u32),
    FfnNorm(u32),
    Gate(u32),
    Up(u32),
    Down(u32),
    OutputNorm,
    Output,
}

impl Slot {
    /// Columns and, for matrices, rows.
    pub(crate) fn shape(self, h: &Hyperparameters) -> (u32, Option<u32>) {
        let (query, kv) = (h.heads * h.head_size, h.kv_heads * h.head_size);
        match self {
            Self::Embedding | Self::Output => (h.width, Some(h.vocabulary)),
            Self::AttentionNorm(_) | Self::FfnNorm(_) | Self::OutputNorm => (h.width, None),
            Self::Query(_) => (h.width, Some(query)),
            Self::Key(_) | Self::Value(_) => (h.width, Some(kv)),
            Self::QueryBias(_) => (query, None),
            Self::KeyBias(_) | Self::ValueBias(_) => (kv, None),
            Self::AttentionOutput(_) => (query, Some(h.width)),
            Self::Gate(_) | Self::Up(_) => (h.width, Some(h.ffn_width)),
            Self::Down(_) => (h.ffn_width, Some(h.width)),
        }
    }
}

/// Whether the architecture adds biases to query, key and value.
pub(crate) fn has_biases(architecture: &str) -> bool {
    architecture == "qwen2"
}

/// Every tensor of the architecture, in the order in which a model's identity has them.
pub(crate) fn slots(architecture: &str, h: &Hyperparameters) -> Vec<Slot> {
    let mut slots = vec![Slot::Embedding];
    for l in 0..h.layers {
        slots.extend([Slot::AttentionNorm(l), Slot::Query(l), Slot::Key(l), Slot::Value(l)]);
        if has_biases(architecture) {
            slots.extend([Slot::QueryBias(l), Slot::KeyBias(l), Slot::ValueBias(l)]);
        }
        slots.extend([Slot::AttentionOutput(l), Slot::FfnNorm(l), Slot::Gate(l), Slot::Up(l), Slot::Down(l)]);
    }
    slots.push(Slot::OutputNorm);
    if !h.tied_embeddings {
        slots.push(Slot::Output);
    }
    slots
}
