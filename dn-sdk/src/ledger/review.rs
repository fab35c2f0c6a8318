//! Queries about disputes.

use dn_core::{Address, BatchId};
use dn_ledger::views::DisputeView;
use serde_json::json;

use super::pages::Entries;
use super::{LedgerClient, LedgerError};

impl LedgerClient {
    /// The dispute about a receipt, if there is or was one.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn dispute(&self, batch: BatchId, index: u32) -> Result<Option<DisputeView>, LedgerError> {
        self.query("dn_dispute", json!({ "batch": batch, "index": index })).await
    }

    /// Open disputes of one party, or of all; those that end first come first.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn disputes(&self, party: Option<Address>) -> Result<Vec<DisputeView>, LedgerError> {
        let params = party.map_or_else(|| json!({}), |party| json!({ "party": party }));
        self.list("dn_disputes", params, Entries::Large).await
    }
}
