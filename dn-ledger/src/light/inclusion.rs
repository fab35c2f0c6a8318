//! That a transaction stands in a block.

use dn_core::Canonical;
use dn_core::merkle::InclusionProof;
use serde::{Deserialize, Serialize};

use super::block::LightBlock;
use super::client::LightError;
use crate::tx::SignedTx;

/// The block that holds a transaction, and the way from the transaction to the header's root. A transaction in a block was applied:
/// a block with one that the rules refuse is no block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct InclusionView {
    /// The block's header with what proves it.
    pub block: LightBlock,
    /// From the transaction's place in the block to its header's `tx_root`.
    pub proof: InclusionProof,
}

impl InclusionView {
    /// Checks that the header commits to the transaction. Whether the header is the chain's is for a
    /// [`LightClient`](super::LightClient) to say.
    ///
    /// # Errors
    /// [`LightError::Transaction`].
    pub fn verify(&self, tx: &SignedTx) -> Result<(), LightError> {
        let height = self.block.header.height;
        let verified = self.proof.verify(self.block.header.tx_root, &tx.to_bytes());
        verified.map_err(|source| LightError::Transaction { tx: tx.id(), height, source })
    }
}
