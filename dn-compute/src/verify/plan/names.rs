//! The names of a computation's parts.

use dn_core::canonical_enum;

/// A part of a position's computation: what lies between two things that its leaf binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Which token is fed: that of the request or of the output.
    Token,
    /// The token's row of the embedding.
    Embedding,
    /// One layer.
    Layer {
        /// Its index, from 0.
        layer: u32,
    },
    /// The logits, where the position chooses an output token.
    Logits,
    /// The choice of the next token.
    Choice,
}
canonical_enum!(Stage { 0 => Token {}, 1 => Embedding {}, 2 => Layer { layer: u32 }, 3 => Logits {}, 4 => Choice {} });

/// What a row of values is: the name of the operation that gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum OpName {
    /// The token that is fed.
    Token,
    /// The token's row of the embedding matrix.
    Embedding,
    /// Norm before attention.
    AttentionNorm,
    /// Query before its bias.
    Query,
    /// Key before its bias.
    Key,
    /// Value before its bias.
    Value,
    /// Query with its bias.
    QueryBias,
    /// Key with its bias.
    KeyBias,
    /// Value with its bias.
    ValueBias,
    /// Rotated query.
    QueryRope,
    /// Rotated key.
    KeyRope,
    /// Quantised key and value.
    CacheEntry,
    /// What attention gives, head by head.
    Attention,
    /// The attention's output matrix.
    AttentionOutput,
    /// Residual stream after attention.
    AttentionResidual,
    /// Norm before the feed-forward part.
    FfnNorm,
    /// Gate.
    Gate,
    /// Up.
    Up,
    /// Gate's SiLU times up.
    SiluMul,
    /// Down.
    Down,
    /// Residual stream after the layer.
    FfnResidual,
    /// Last norm.
    OutputNorm,
    /// Logits.
    Logits,
    /// The next token.
    Choice,
    /// Query with each head normalised.
    QueryNorm,
    /// Key with each head normalised.
    KeyNorm,
    /// The attention's output with its bias.
    AttentionOutputBias,
}

impl OpName {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::Token,
        Self::Embedding,
        Self::AttentionNorm,
        Self::Query,
        Self::Key,
        Self::Value,
        Self::QueryBias,
        Self::KeyBias,
        Self::ValueBias,
        Self::QueryRope,
        Self::KeyRope,
        Self::CacheEntry,
        Self::Attention,
        Self::AttentionOutput,
        Self::AttentionResidual,
        Self::FfnNorm,
        Self::Gate,
        Self::Up,
        Self::SiluMul,
        Self::Down,
        Self::FfnResidual,
        Self::OutputNorm,
        Self::Logits,
        Self::Choice,
        Self::QueryNorm,
        Self::KeyNorm,
        Self::AttentionOutputBias,
    ];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Embedding => "embedding",
            Self::AttentionNorm => "attention_norm",
            Self::Query => "query",
            Self::Key => "key",
            Self::Value => "value",
            Self::QueryBias => "query_bias",
            Self::KeyBias => "key_bias",
            Self::ValueBias => "value_bias",
            Self::QueryRope => "query_rope",
            Self::KeyRope => "key_rope",
            Self::CacheEntry => "cache_entry",
            Self::Attention => "attention",
            Self::AttentionOutput => "attention_output",
            Self::AttentionResidual => "attention_residual",
            Self::FfnNorm => "ffn_norm",
            Self::Gate => "gate",
            Self::Up => "up",
            Self::SiluMul => "silu_mul",
            Self::Down => "down",
            Self::FfnResidual => "ffn_residual",
            Self::OutputNorm => "output_norm",
            Self::Logits => "logits",
            Self::Choice => "choice",
            Self::QueryNorm => "query_norm",
            Self::KeyNorm => "key_norm",
            Self::AttentionOutputBias => "attention_output_bias",
        }
    }
}

impl std::fmt::Display for OpName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token => f.write_str("token"),
            Self::Embedding => f.write_str("embedding"),
            Self::Layer { layer } => write!(f, "layer {layer}"),
            Self::Logits => f.write_str("logits"),
            Self::Choice => f.write_str("choice"),
        }
    }
}
