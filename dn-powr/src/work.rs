//! Verified work units: the operations that a receipt's tokens cost.

use dn_core::canonical_struct;

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
#[serde(deny_unknown_fields)]
pub struct WorkCost {
    /// Operations for each prompt token.
    pub prefill_ops_per_token: u64,
    /// Operations for each output token.
    pub decode_ops_per_token: u64,
}
canonical_struct!(WorkCost { prefill_ops_per_token: u64, decode_ops_per_token: u64 });

impl WorkCost {
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
    use super::*;

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
