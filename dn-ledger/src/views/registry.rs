//! Views of domains, model families, backers and jobs.

use dn_core::objects::Price;
use dn_core::{Address, Amount, ChannelId, Hash32, JobId, ModelId};
use dn_powr::{DomainSplit, FeeMove, FeeSplit};
use serde::{Deserialize, Serialize};

use crate::lineage::Royalty;
use crate::state::NextTerms;
use crate::tx::{BackingTerms, DomainTerms, Licence, Parent, Shares};

/// `dn_domain`, `dn_domains`: a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DomainView {
    /// The domain.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Who configures it, if anybody.
    pub owner: Option<Address>,
    /// Locked as long as it is open.
    pub deposit: Amount,
    /// What its treasury holds.
    pub treasury: Amount,
    /// What the owner may still spend of it in this epoch.
    pub spendable: Amount,
    /// Models in it that are not retired.
    pub models: u32,
    /// When it was created.
    pub created_height: u64,
    /// When it was closed.
    pub closed_height: Option<u64>,
    /// Its terms in force.
    pub terms: DomainTerms,
    /// Terms of a later epoch.
    pub next: Option<NextTerms>,
    /// How fees of its tasks are split now.
    pub fees: FeeSplit,
    /// How its emission is split now.
    pub emission: DomainSplit,
}

/// `dn_modelTerms`: what a model was published under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelTermsView {
    /// The model.
    pub model: ModelId,
    /// Its family, named by its first model.
    pub family: ModelId,
    /// Its place in the family.
    pub version: u32,
    /// What others may do with it.
    pub licence: Licence,
    /// What it derives from.
    pub parents: Vec<Parent>,
    /// What each ancestor gets of the owner's income.
    pub royalties: Vec<Royalty>,
    /// Its own first four shares of fees, if it has any.
    pub fees: Option<FeeMove>,
}

/// `dn_family`: versions of one model, and its backers' pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FamilyView {
    /// The family: its first model.
    pub id: ModelId,
    /// Its owner.
    pub owner: Address,
    /// Its versions, in order.
    pub versions: Vec<ModelId>,
    /// What its backers get, if it takes backing.
    pub backing: Option<BackingTerms>,
    /// What the backers' pool holds.
    pub backed: Amount,
    /// Shares of the pool.
    pub shares: Shares,
}

/// `dn_backing`: what an account put behind a model family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BackingView {
    /// The family.
    pub family: ModelId,
    /// Shares held.
    pub shares: Shares,
    /// What they are worth now.
    pub value: Amount,
}

/// Backing that waits for its release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BackingRelease {
    /// Whose pool it left.
    pub family: ModelId,
    /// How much.
    pub amount: Amount,
    /// First epoch in which it can be withdrawn.
    pub release_epoch: u64,
}

/// `dn_backing`: all backing of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BackingsView {
    /// The account.
    pub address: Address,
    /// Shares of pools.
    pub backing: Vec<BackingView>,
    /// On its way back.
    pub releases: Vec<BackingRelease>,
}

/// `dn_offer`, `dn_modelWorkers`: a worker's offer of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OfferView {
    /// The model.
    pub model: ModelId,
    /// The worker.
    pub worker: Address,
    /// The least prices per token that it works for.
    pub price: Price,
    /// When it was made.
    pub since_height: u64,
    /// Last height at which batches are taken, if it was taken back.
    pub until_height: Option<u64>,
}

/// `dn_job`, `dn_jobs`: DN locked for a job that is neither claimed nor returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobView {
    /// The escrow.
    pub escrow: ChannelId,
    /// Who pays.
    pub payer: Address,
    /// Who is to do it, or anybody that offers the model.
    pub worker: Option<Address>,
    /// Who passes it on.
    pub gateway: Address,
    /// The model.
    pub model: ModelId,
    /// Hash of the canonical request.
    pub job: JobId,
    /// Prices agreed.
    pub price: Price,
    /// How much is locked.
    pub amount: Amount,
    /// Last height at which it can be claimed.
    pub expires_height: u64,
    /// What the worker puts up when it claims.
    pub bond: Amount,
}

/// DN locked by a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DomainBalance {
    /// The domain.
    pub domain: u32,
    /// How much.
    pub amount: Amount,
}

/// `dn_modelCommitments`: an owner's commitment to a model that is not published yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelCommitmentView {
    /// The commitment.
    pub commitment: Hash32,
    /// The block that took it.
    pub height: u64,
    /// The last block that takes a publication by it.
    pub expires_height: u64,
}

/// DN in a family's backers' pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FamilyBalance {
    /// The family.
    pub family: ModelId,
    /// How much.
    pub amount: Amount,
}

/// Backing on its way back to an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReleaseBalance {
    /// Whose.
    pub address: Address,
    /// The family.
    pub family: ModelId,
    /// When it is free.
    pub release_epoch: u64,
    /// How much.
    pub amount: Amount,
}
