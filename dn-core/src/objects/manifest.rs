//! What a model is, bit for bit.

use serde::{Deserialize, Serialize};

use crate::encoding::Canonical;
use crate::hash::{Hash32, ModelId};
use crate::{canonical_enum, canonical_struct};

/// Which elements of a head RoPE rotates together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RopePairing {
    /// Elements `2i` and `2i + 1` (GGUF `llama`).
    Interleaved,
    /// Elements `i` and `i + head_size / 2` (GGUF `qwen2` and Hugging Face files).
    HalfSplit,
}
canonical_enum!(RopePairing { 0 => Interleaved {}, 1 => HalfSplit {} });

/// How a model stretches its rotary positions beyond those it was trained with. Bits are those of an f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RopeScaling {
    /// Not at all.
    None {},
    /// Every frequency divided by a factor.
    Linear {
        /// The factor.
        factor_bits: u32,
    },
    /// YaRN: low frequencies divided, high ones kept, a ramp between; attention sharpened.
    Yarn {
        /// What low frequencies are divided by.
        factor_bits: u32,
        /// Positions that the model was trained with.
        original_context: u32,
        /// Rotations over those positions from which a frequency is kept.
        beta_fast_bits: u32,
        /// Rotations over those positions below which a frequency is divided.
        beta_slow_bits: u32,
        /// What cosines and sines are multiplied by.
        attention_bits: u32,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, a blend between.
    Llama3 {
        /// What low frequencies are divided by.
        factor_bits: u32,
        /// Rotations over the original positions below which a frequency is divided.
        low_bits: u32,
        /// Rotations over the original positions from which a frequency is kept.
        high_bits: u32,
        /// Positions that the model was trained with.
        original_context: u32,
    },
    /// Each pair's frequency divided by its own factor, a tensor of the model.
    Factors {},
}
canonical_enum!(RopeScaling {
    0 => None {},
    1 => Linear { factor_bits: u32 },
    2 => Yarn {
        factor_bits: u32,
        original_context: u32,
        beta_fast_bits: u32,
        beta_slow_bits: u32,
        attention_bits: u32,
    },
    3 => Llama3 { factor_bits: u32, low_bits: u32, high_bits: u32, original_context: u32 },
    4 => Factors {},
});

/// The sizes and constants of a decoder of the Llama family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Hyperparameters {
    /// Decoder layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub width: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: u32,
    /// Elements of one head.
    pub head_size: u32,
    /// Width of the feed-forward layer.
    pub ffn_width: u32,
    /// Number of token ids.
    pub vocabulary: u32,
    /// Most positions.
    pub context: u32,
    /// Bits of the f32 RoPE base.
    pub rope_theta_bits: u32,
    /// Rotated elements of a head.
    pub rope_size: u32,
    /// How rotated elements pair.
    pub rope_pairing: RopePairing,
    /// How positions are stretched.
    pub rope_scaling: RopeScaling,
    /// Bits of the f32 RMSNorm epsilon.
    pub norm_epsilon_bits: u32,
    /// Every query and key head is normalised before it is rotated.
    pub head_norms: bool,
    /// Queries, keys and values have biases.
    pub attention_bias: bool,
    /// The output of attention has a bias.
    pub output_bias: bool,
    /// Positions that a query sees, its own and those before it; all of them without.
    pub window: Option<u32>,
    /// The output matrix is the embedding matrix.
    pub tied_embeddings: bool,
}
canonical_struct!(Hyperparameters {
    layers: u32,
    width: u32,
    heads: u32,
    kv_heads: u32,
    head_size: u32,
    ffn_width: u32,
    vocabulary: u32,
    context: u32,
    rope_theta_bits: u32,
    rope_size: u32,
    rope_pairing: RopePairing,
    rope_scaling: RopeScaling,
    norm_epsilon_bits: u32,
    head_norms: bool,
    attention_bias: bool,
    output_bias: bool,
    window: Option<u32>,
    tied_embeddings: bool,
});

/// The most stop tokens of a manifest that a ledger takes and a referee judges.
pub const MAX_STOP_TOKENS: usize = 64;

/// Everything that decides a model's output. Its hash is the model's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelManifest {
    /// Version of the numeric spec (1 = `NumericSpec::V1`), or [`NO_NUMERIC_SPEC`].
    pub numeric_spec: u16,
    /// Weights per mantissa where every matrix has the same number; 1 where they differ. The bytes of each tile begin
    /// with its own.
    pub block: u16,
    /// Architecture as GGUF names it, such as `llama`.
    pub architecture: String,
    /// Sizes and constants.
    pub hyperparameters: Hyperparameters,
    /// Keccak Merkle root over the quantised tensors.
    pub tensors_root: Hash32,
    /// BLAKE3 of the tokenizer's canonical bytes.
    pub tokenizer_hash: Hash32,
    /// BLAKE3 of the chat template's bytes; zero when the file has none.
    pub chat_template_hash: Hash32,
    /// Token that starts a text.
    pub bos_token: Option<u32>,
    /// Tokens that end generation, ascending.
    pub stop_tokens: Vec<u32>,
}
canonical_struct!(ModelManifest {
    numeric_spec: u16,
    block: u16,
    architecture: String,
    hyperparameters: Hyperparameters,
    tensors_root: Hash32,
    tokenizer_hash: Hash32,
    chat_template_hash: Hash32,
    bos_token: Option<u32>,
    stop_tokens: Vec<u32>,
});

/// The numeric spec of a model whose results depend on who computes them: nothing about them can be proven.
pub const NO_NUMERIC_SPEC: u16 = 0;

impl ModelManifest {
    /// Whether the model's results are the same bits whoever computes them, so that a replay or a tile proves what happened.
    pub const fn is_exact(&self) -> bool {
        self.numeric_spec != NO_NUMERIC_SPEC
    }

    /// The model's identity.
    pub fn id(&self) -> ModelId {
        ModelId(self.keccak())
    }

    /// Operations (multiplications and additions of the linear layers) for one prompt token.
    pub fn prefill_ops_per_token(&self) -> u64 {
        let h = &self.hyperparameters;
        let wide = |n: u32| u64::from(n);
        let query = wide(h.heads).saturating_mul(wide(h.head_size));
        let key_value = wide(h.kv_heads).saturating_mul(wide(h.head_size));
        let attention = query.saturating_add(key_value).saturating_mul(2).saturating_mul(wide(h.width));
        let feed_forward = wide(h.width).saturating_mul(wide(h.ffn_width)).saturating_mul(3);
        attention.saturating_add(feed_forward).saturating_mul(wide(h.layers)).saturating_mul(2)
    }

    /// Operations for one generated token: a prompt token's and the output matrix.
    pub fn decode_ops_per_token(&self) -> u64 {
        let h = &self.hyperparameters;
        let output = u64::from(h.width).saturating_mul(u64::from(h.vocabulary)).saturating_mul(2);
        self.prefill_ops_per_token().saturating_add(output)
    }
}
