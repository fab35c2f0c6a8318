//! Queries of domains, model families, backers and jobs.

use dn_core::{Address, ChannelId, ModelId};
use dn_ledger::views::{BackingsView, DomainView, FamilyView, JobView, ModelTermsView};
use serde_json::json;

use super::{LedgerClient, LedgerError};

impl LedgerClient {
    /// A domain.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn domain(&self, id: u32) -> Result<Option<DomainView>, LedgerError> {
        self.query("dn_domain", json!({ "id": id })).await
    }

    /// All domains.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn domains(&self) -> Result<Vec<DomainView>, LedgerError> {
        self.query("dn_domains", json!({})).await
    }

    /// What a model was published under.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn model_terms(&self, id: ModelId) -> Result<Option<ModelTermsView>, LedgerError> {
        self.query("dn_modelTerms", json!({ "id": id })).await
    }

    /// A model family, named by its first model.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn family(&self, id: ModelId) -> Result<Option<FamilyView>, LedgerError> {
        self.query("dn_family", json!({ "id": id })).await
    }

    /// What an account put behind models.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn backing(&self, address: Address) -> Result<BackingsView, LedgerError> {
        self.query("dn_backing", json!({ "address": address })).await
    }

    /// A job that is neither claimed nor returned.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn job(&self, id: ChannelId) -> Result<Option<JobView>, LedgerError> {
        self.query("dn_job", json!({ "id": id })).await
    }

    /// All such jobs, or those that a worker may take.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn jobs(&self, worker: Option<Address>) -> Result<Vec<JobView>, LedgerError> {
        self.query("dn_jobs", json!({ "worker": worker })).await
    }
}
