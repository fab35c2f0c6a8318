//! What an encoder (a model that makes embeddings) is, bit for bit.

use serde::{Deserialize, Serialize};

use crate::encoding::Canonical;
use crate::hash::{Hash32, ModelId, keccak256};
use crate::{canonical_enum, canonical_struct};

/// Begins what an encoder's identity hashes, so that no manifest of a decoder has the same.
const DOMAIN: &[u8] = b"deepnode encoder manifest v1\0";

/// How one vector comes of the many that an encoder's last layer gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean of all positions.
    Mean,
    /// The first position (BERT's `[CLS]`).
    First,
}
canonical_enum!(Pooling { 0 => Mean {}, 1 => First {} });

/// The sizes and constants of an encoder of the BERT family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EncoderHyperparameters {
    /// Layers.
    pub layers: u32,
    /// Width of the residual stream, and length of an embedding.
    pub width: u32,
    /// Attention heads; divides `width`.
    pub heads: u32,
    /// Width of the feed-forward layer.
    pub ffn_width: u32,
    /// Number of token ids.
    pub vocabulary: u32,
    /// Most positions.
    pub context: u32,
    /// Number of token types; texts are of type 0.
    pub token_types: u32,
    /// Bits of the f32 layer norm epsilon.
    pub norm_epsilon_bits: u32,
    /// How the last layer becomes one vector.
    pub pooling: Pooling,
}
canonical_struct!(EncoderHyperparameters {
    layers: u32,
    width: u32,
    heads: u32,
    ffn_width: u32,
    vocabulary: u32,
    context: u32,
    token_types: u32,
    norm_epsilon_bits: u32,
    pooling: Pooling,
});

/// Everything that decides an encoder's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EncoderManifest {
    /// Version of the numeric spec (1 = `NumericSpec::V1`).
    pub numeric_spec: u16,
    /// Architecture as GGUF names it: `bert`.
    pub architecture: String,
    /// Sizes and constants.
    pub hyperparameters: EncoderHyperparameters,
    /// Keccak Merkle root over the quantised tensors.
    pub tensors_root: Hash32,
    /// BLAKE3 of the tokenizer's canonical bytes.
    pub tokenizer_hash: Hash32,
}
canonical_struct!(EncoderManifest {
    numeric_spec: u16,
    architecture: String,
    hyperparameters: EncoderHyperparameters,
    tensors_root: Hash32,
    tokenizer_hash: Hash32,
});

impl EncoderManifest {
    /// The encoder's identity.
    pub fn id(&self) -> ModelId {
        ModelId(keccak256(&[DOMAIN, &self.to_bytes()]))
    }

    /// Operations (multiplications and additions of the linear layers) for one token.
    pub fn ops_per_token(&self) -> u64 {
        let h = &self.hyperparameters;
        let (width, ffn) = (u64::from(h.width), u64::from(h.ffn_width));
        let weights = width.saturating_mul(width).saturating_mul(4);
        let weights = weights.saturating_add(width.saturating_mul(ffn).saturating_mul(2));
        weights.saturating_mul(u64::from(h.layers)).saturating_mul(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minilm() -> EncoderManifest {
        EncoderManifest {
            numeric_spec: 1,
            architecture: "bert".to_owned(),
            hyperparameters: EncoderHyperparameters {
                layers: 6,
                width: 384,
                heads: 12,
                ffn_width: 1536,
                vocabulary: 30_522,
                context: 512,
                token_types: 2,
                norm_epsilon_bits: 1e-12f32.to_bits(),
                pooling: Pooling::Mean,
            },
            tensors_root: Hash32([7; 32]),
            tokenizer_hash: Hash32([9; 32]),
        }
    }

    #[test]
    fn the_encoding_is_golden() {
        let manifest = minilm();
        let bytes = manifest.to_bytes();
        assert_eq!(EncoderManifest::from_bytes(&bytes).as_ref(), Ok(&manifest));
        assert_eq!(
            Hash32(keccak256(&[&bytes])).to_string(),
            "0x168e98b4bfca28e6e40d7517bf8c7b28b7afd5c7c34408ad5e09e695c975a305"
        );
        assert_eq!(
            manifest.id().to_string(),
            "0x09a81f435a366f2ca7e02ea86e43abb696ac3efd6310c9804861c8df794378c1"
        );
        assert_ne!(manifest.id().0, keccak256(&[&bytes]));
        assert_eq!(manifest.ops_per_token(), 6 * 2 * (4 * 384 * 384 + 2 * 384 * 1536));
    }

    #[test]
    fn every_field_is_part_of_the_identity() {
        let id = minilm().id();
        let change = |f: fn(&mut EncoderManifest)| {
            let mut manifest = minilm();
            f(&mut manifest);
            assert_ne!(manifest.id(), id);
        };
        change(|m| m.numeric_spec += 1);
        change(|m| m.architecture.push('2'));
        change(|m| m.hyperparameters.layers += 1);
        change(|m| m.hyperparameters.width += 1);
        change(|m| m.hyperparameters.heads += 1);
        change(|m| m.hyperparameters.ffn_width += 1);
        change(|m| m.hyperparameters.vocabulary += 1);
        change(|m| m.hyperparameters.context += 1);
        change(|m| m.hyperparameters.token_types += 1);
        change(|m| m.hyperparameters.norm_epsilon_bits += 1);
        change(|m| m.hyperparameters.pooling = Pooling::First);
        change(|m| m.tensors_root.0[3] ^= 1);
        change(|m| m.tokenizer_hash.0[3] ^= 1);
    }
}
