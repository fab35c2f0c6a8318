//! Verified work units: the operations that a receipt's tokens cost.

use dn_core::canonical_struct;
use dn_core::objects::ModelManifest;

/// Why work cannot be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkError {
    /// The product does not fit 128 bits.
    #[error("{prefill_tokens} prompt and {decode_tokens} output tokens cost more work than 128 bits hold")]
    Overflow {
        /// Prompt tokens.
        prefill_tokens: u64,
        /// Output tokens.
        decode_tokens: u64,
    },
}

/// What a token of a model costs, as its manifest says.
///
/// # Units
/// Operations (a multiplication and an addition are two).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WorkCost {
    /// Operations for each prompt token.
    pub prefill_ops_per_token: u64,
    /// Operations for each output token.
    pub decode_ops_per_token: u64,
}
canonical_struct!(WorkCost { prefill_ops_per_token: u64, decode_ops_per_token: u64 });

impl WorkCost {
    /// The costs that a model's manifest implies.
    pub fn of(manifest: &ModelManifest) -> Self {
        Self {
            prefill_ops_per_token: manifest.prefill_ops_per_token(),
            decode_ops_per_token: manifest.decode_ops_per_token(),
        }
    }

    /// Verified work units of a receipt. They count once the receipt is audited or its audit window is over.
    ///
    /// # Units
    /// One verified work unit (VWU) is one operation.
    ///
    /// # Errors
    /// [`WorkError::Overflow`].
    pub fn vwu(&self, prefill_tokens: u64, decode_tokens: u64) -> Result<u128, WorkError> {
        let product = |ops: u64, tokens: u64| u128::from(ops) * u128::from(tokens);
        product(self.prefill_ops_per_token, prefill_tokens)
            .checked_add(product(self.decode_ops_per_token, decode_tokens))
            .ok_or(WorkError::Overflow { prefill_tokens, decode_tokens })
    }
}

#[cfg(test)]
mod tests {
    use dn_core::Hash32;
    use dn_core::objects::{Hyperparameters, RopePairing};

    use super::*;

    /// Attention (2·2 + 1·2)·2·4 = 48 and feed-forward 4·8·3 = 96 weights in each of 2 layers, two operations each: 576; the output
    /// matrix 4·10·2 = 80 more.
    #[test]
    fn costs_of_a_manifest_by_hand() {
        let manifest = ModelManifest {
            numeric_spec: 1,
            block: 32,
            architecture: "llama".into(),
            hyperparameters: Hyperparameters {
                layers: 2,
                width: 4,
                heads: 2,
                kv_heads: 1,
                head_size: 2,
                ffn_width: 8,
                vocabulary: 10,
                context: 16,
                rope_theta_bits: 0x461c_4000,
                rope_size: 2,
                rope_pairing: RopePairing::Interleaved,
                rope_scaling: dn_core::objects::RopeScaling::None {},
                norm_epsilon_bits: 0x3727_c5ac,
                head_norms: false,
                attention_bias: false,
                output_bias: false,
                window: None,
                tied_embeddings: true,
            },
            tensors_root: Hash32::ZERO,
            tokenizer_hash: Hash32::ZERO,
            chat_template_hash: Hash32::ZERO,
            bos_token: None,
            stop_tokens: Vec::new(),
        };
        let cost = WorkCost::of(&manifest);
        assert_eq!(cost, WorkCost { prefill_ops_per_token: 576, decode_ops_per_token: 656 });
    }

    #[test]
    fn work_by_hand() {
        let cost = WorkCost { prefill_ops_per_token: 2_000, decode_ops_per_token: 2_500 };
        assert_eq!(cost.vwu(10, 4), Ok(30_000));
        assert_eq!(cost.vwu(0, 0), Ok(0));
        let most = WorkCost { prefill_ops_per_token: u64::MAX, decode_ops_per_token: u64::MAX };
        assert!(most.vwu(u64::MAX, 0).is_ok());
        assert_eq!(
            most.vwu(u64::MAX, u64::MAX),
            Err(WorkError::Overflow { prefill_tokens: u64::MAX, decode_tokens: u64::MAX })
        );
    }
}
