//! The tensors of an architecture in their canonical order, and the tiles in which a model's identity binds them.

use std::sync::Arc;

use dn_core::objects::{Hyperparameters, RopePairing, RopeScaling};
use dn_core::{Hash32, canonical_struct};

use crate::spec::{Pairing, RopeScaling as Scaling, RopeSpec};

/// The decoders that are computed here, as GGUF names them; Mistral's is Llama's.
pub(crate) const ARCHITECTURES: [&str; 3] = ["llama", "qwen2", "qwen3"];

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
    RopeFactors,
    AttentionNorm(u32),
    Query(u32),
    Key(u32),
    Value(u32),
    QueryBias(u32),
    KeyBias(u32),
    ValueBias(u32),
    QueryNorm(u32),
    KeyNorm(u32),
    AttentionOutput(u32),
    OutputBias(u32),
    FfnNorm(u32),
    Gate(u32),
    Up(u32),
    Down(u32),
    OutputNorm,
    Output,
}

impl Slot {
    /// Every tensor of a model, in the order in which its identity has them.
    pub(crate) fn all(h: &Hyperparameters) -> Vec<Self> {
        let mut slots = vec![Self::Embedding];
        if matches!(h.rope_scaling, RopeScaling::Factors {}) {
            slots.push(Self::RopeFactors);
        }
        for l in 0..h.layers {
            slots.extend([Self::AttentionNorm(l), Self::Query(l), Self::Key(l), Self::Value(l)]);
            if h.attention_bias {
                slots.extend([Self::QueryBias(l), Self::KeyBias(l), Self::ValueBias(l)]);
            }
            if h.head_norms {
                slots.extend([Self::QueryNorm(l), Self::KeyNorm(l)]);
            }
            slots.push(Self::AttentionOutput(l));
            if h.output_bias {
                slots.push(Self::OutputBias(l));
            }
            slots.extend([Self::FfnNorm(l), Self::Gate(l), Self::Up(l), Self::Down(l)]);
        }
        slots.push(Self::OutputNorm);
        if !h.tied_embeddings {
            slots.push(Self::Output);
        }
        slots
    }

    /// Columns and, for matrices, rows.
    pub(crate) fn shape(self, h: &Hyperparameters) -> (u32, Option<u32>) {
        let (query, kv) = (h.heads * h.head_size, h.kv_heads * h.head_size);
        match self {
            Self::Embedding | Self::Output => (h.width, Some(h.vocabulary)),
            Self::AttentionNorm(_) | Self::FfnNorm(_) | Self::OutputNorm | Self::OutputBias(_) => {
                (h.width, None)
            }
            Self::RopeFactors => (h.rope_size / 2, None),
            Self::Query(_) => (h.width, Some(query)),
            Self::Key(_) | Self::Value(_) => (h.width, Some(kv)),
            Self::QueryBias(_) => (query, None),
            Self::KeyBias(_) | Self::ValueBias(_) => (kv, None),
            Self::QueryNorm(_) | Self::KeyNorm(_) => (h.head_size, None),
            Self::AttentionOutput(_) => (query, Some(h.width)),
            Self::Gate(_) | Self::Up(_) => (h.width, Some(h.ffn_width)),
            Self::Down(_) => (h.ffn_width, Some(h.width)),
        }
    }
}

/// What the rope table of a model depends on; `factors` are the values of its tensor, where it has one.
pub(crate) fn rope_spec(h: &Hyperparameters, factors: Option<Arc<[f32]>>) -> RopeSpec {
    let f32 = f32::from_bits;
    RopeSpec {
        head_dim: h.head_size as usize,
        rotary_dim: h.rope_size as usize,
        theta: f32(h.rope_theta_bits),
        pairing: match h.rope_pairing {
            RopePairing::Interleaved => Pairing::Interleaved,
            RopePairing::HalfSplit => Pairing::HalfSplit,
        },
        scaling: match (h.rope_scaling, factors) {
            (RopeScaling::Linear { factor_bits }, _) => Scaling::Linear { factor: f32(factor_bits) },
            (RopeScaling::Llama3 { factor_bits, low_bits, high_bits, original_context }, _) => {
                Scaling::Llama3 {
                    factor: f32(factor_bits),
                    low: f32(low_bits),
                    high: f32(high_bits),
                    original: original_context,
                }
            }
            (
                RopeScaling::Yarn {
                    factor_bits,
                    original_context,
                    beta_fast_bits,
                    beta_slow_bits,
                    attention_bits,
                },
                _,
            ) => Scaling::Yarn {
                factor: f32(factor_bits),
                original: original_context,
                beta_fast: f32(beta_fast_bits),
                beta_slow: f32(beta_slow_bits),
                attention: f32(attention_bits),
            },
            (_, Some(factors)) => Scaling::Factors(factors),
            _ => Scaling::None,
        },
    }
}
