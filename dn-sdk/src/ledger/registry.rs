//! Queries of domains, model families, backers and jobs.

use dn_core::{Address, ChannelId, ModelId};
use dn_ledger::light::Subject;
use dn_ledger::query;
use dn_ledger::views::{BackingsView, DomainView, FamilyView, JobView, ModelTermsView, ModelTrustView};
use serde_json::json;

use super::pages::Entries;
use super::{LedgerClient, LedgerError};

impl LedgerClient {
    /// A domain, proven.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn domain(&self, id: u32) -> Result<Option<DomainView>, LedgerError> {
        let proven = self.proven(Subject::Domain { id }).await?;
        Ok(query::domain(proven.state(), id, proven.epoch()))
    }

    /// All domains.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn domains(&self) -> Result<Vec<DomainView>, LedgerError> {
        self.list("dn_domains", json!({}), Entries::Small).await
    }

    /// What a model was published under, proven.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn model_terms(&self, id: ModelId) -> Result<Option<ModelTermsView>, LedgerError> {
        let proven = self.proven(Subject::ModelTerms { id }).await?;
        Ok(query::model_terms(proven.state(), id))
    }

    /// A model family, named by its first model, proven with all its versions.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn family(&self, id: ModelId) -> Result<Option<FamilyView>, LedgerError> {
        let proven = self.proven(Subject::Family { id }).await?;
        Ok(query::family(proven.state(), id))
    }

    /// How far a model is trusted, proven; none for one that never worked.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn model_trust(&self, id: ModelId) -> Result<Option<ModelTrustView>, LedgerError> {
        let proven = self.proven(Subject::ModelTrust { id }).await?;
        Ok(query::model_trust(proven.state(), id))
    }

    /// What an account put behind models, each entry proven; the lists may leave some out.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn backing(&self, address: Address) -> Result<BackingsView, LedgerError> {
        let proven = self.proven(Subject::Backing { address }).await?;
        Ok(query::backing(proven.state(), address))
    }

    /// A job that is neither claimed nor returned, proven.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn job(&self, id: ChannelId) -> Result<Option<JobView>, LedgerError> {
        let proven = self.proven(Subject::Job { id }).await?;
        Ok(query::job(proven.state(), id))
    }

    /// All such jobs, or those that a worker may take.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn jobs(&self, worker: Option<Address>) -> Result<Vec<JobView>, LedgerError> {
        self.list("dn_jobs", json!({ "worker": worker }), Entries::Small).await
    }
}
