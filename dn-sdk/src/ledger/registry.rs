//! Queries of domains, model families, backers and jobs.

use dn_core::objects::Price;
use dn_core::{Address, ChannelId, ModelId, SecretKey};
use dn_ledger::light::Subject;
use dn_ledger::query;
use dn_ledger::tx::Payload;
use dn_ledger::views::{
    BackingsView, DomainView, FamilyView, JobView, ModelCommitmentView, ModelTermsView, ModelTrustView,
    OfferView, PageRequest,
};
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

    /// An owner's commitments to models that it has not published yet, each proven; the list may leave some out.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn model_commitments(&self, owner: Address) -> Result<Vec<ModelCommitmentView>, LedgerError> {
        let proven = self.proven(Subject::ModelCommitments { owner }).await?;
        let page = query::model_commitments(proven.state(), owner, &PageRequest::default());
        Ok(page.expect("the default page").items)
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

    /// A worker's offer of a model, proven; one that was taken back says until when.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn offer(&self, model: ModelId, worker: Address) -> Result<Option<OfferView>, LedgerError> {
        let proven = self.proven(Subject::Offer { model, worker }).await?;
        Ok(query::offer(proven.state(), model, worker))
    }

    /// Offers a model at these prices, unless the ledger has that offer already; says whether it had to.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn ensure_offer(
        &self,
        worker: &SecretKey,
        model: ModelId,
        price: Price,
    ) -> Result<bool, LedgerError> {
        let offer = self.offer(model, worker.address()).await?;
        if offer.is_some_and(|offer| offer.until_height.is_none() && offer.price == price) {
            return Ok(false);
        }
        self.submit(worker, Payload::Offer { model, price }).await?;
        Ok(true)
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
