//! Records of domains, model families, backers and jobs.

use dn_core::objects::Price;
use dn_core::{Address, Amount, ChannelId, JobId, ModelId, canonical_struct};
use dn_powr::FeeMove;
use serde::{Deserialize, Serialize};

use crate::lineage::Royalty;
use crate::tx::{BackingTerms, DomainTerms, Licence, Parent};

/// Terms that take effect with an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NextTerms {
    /// The first epoch that they hold in.
    pub from_epoch: u64,
    /// The terms.
    pub terms: DomainTerms,
}
canonical_struct!(NextTerms { from_epoch: u64, terms: DomainTerms });

/// What a domain's owner spent of its treasury in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spending {
    /// The epoch.
    pub epoch: u64,
    /// The most for it, fixed at its first expense.
    pub limit: Amount,
    /// Spent in it.
    pub spent: Amount,
}
canonical_struct!(Spending { epoch: u64, limit: Amount, spent: Amount });

/// A domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Who configures it; nobody for those that governance keeps.
    pub owner: Option<Address>,
    /// Its name.
    pub name: String,
    /// Locked as long as it is open.
    pub deposit: Amount,
    /// When it was created.
    pub created_height: u64,
    /// When it was closed.
    pub closed_height: Option<u64>,
    /// Models in it that are not retired.
    pub models: u32,
    /// Terms in force, unless newer ones are.
    pub terms: DomainTerms,
    /// Terms that replace them.
    pub next: Option<NextTerms>,
    /// What the owner spent of the treasury.
    pub spending: Spending,
}
canonical_struct!(Domain {
    owner: Option<Address>,
    name: String,
    deposit: Amount,
    created_height: u64,
    closed_height: Option<u64>,
    models: u32,
    terms: DomainTerms,
    next: Option<NextTerms>,
    spending: Spending,
});

impl Domain {
    /// A domain as it starts.
    pub fn new(owner: Option<Address>, name: String, deposit: Amount, height: u64) -> Self {
        Self {
            owner,
            name,
            deposit,
            created_height: height,
            closed_height: None,
            models: 0,
            terms: DomainTerms::default(),
            next: None,
            spending: Spending::default(),
        }
    }

    /// The terms in force in an epoch.
    pub fn terms_in(&self, epoch: u64) -> DomainTerms {
        self.next.filter(|next| next.from_epoch <= epoch).map_or(self.terms, |next| next.terms)
    }
}

/// How many domains there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DomainCount {
    /// Domains ever created: the next one's id.
    pub created: u32,
    /// Those that are not closed.
    pub open: u32,
}
canonical_struct!(DomainCount { created: u32, open: u32 });

/// A model family: versions of one model, with one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Who earns and who publishes its versions.
    pub owner: Address,
    /// How many versions were published.
    pub versions: u32,
    /// What its backers get.
    pub backing: Option<BackingTerms>,
}
canonical_struct!(Family { owner: Address, versions: u32, backing: Option<BackingTerms> });

/// What a model was published under; never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelTerms {
    /// Its family, named by its first model.
    pub family: ModelId,
    /// Its place in the family: 0, 1, 2, …
    pub version: u32,
    /// What others may do with it.
    pub licence: Licence,
    /// What it derives from.
    pub parents: Vec<Parent>,
    /// The longest way up to a model without parents.
    pub depth: u8,
    /// What each ancestor gets of the owner's income.
    pub royalties: Vec<Royalty>,
    /// The first four shares of its fees.
    pub fees: Option<FeeMove>,
}
canonical_struct!(ModelTerms {
    family: ModelId,
    version: u32,
    licence: Licence,
    parents: Vec<Parent>,
    depth: u8,
    royalties: Vec<Royalty>,
    fees: Option<FeeMove>,
});

/// DN locked for a long job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobEscrow {
    /// Who pays, and gets back what is not claimed.
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
canonical_struct!(JobEscrow {
    payer: Address,
    worker: Option<Address>,
    gateway: Address,
    model: ModelId,
    job: JobId,
    price: Price,
    amount: Amount,
    expires_height: u64,
    bond: Amount,
});

/// The job that a batch of one receipt claims; kept until its audit is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobClaim {
    /// The escrow.
    pub escrow: ChannelId,
    /// Whether the payer signed that the result is right; without it the receipt is audited for certain.
    pub accepted: bool,
}
canonical_struct!(JobClaim { escrow: ChannelId, accepted: bool });

/// An owner's commitment to a model that it is going to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelCommitment {
    /// When it was made.
    pub height: u64,
    /// Last height at which it can be used.
    pub expires_height: u64,
}
canonical_struct!(ModelCommitment { height: u64, expires_height: u64 });

/// Work of an epoch that earns emission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EpochWork {
    /// Counted work, in verified work units: demand.
    pub counted: u128,
    /// Counted work times the basis points of its fee that paying oneself loses, by the split of each task.
    pub weighted: u128,
}
canonical_struct!(EpochWork { counted: u128, weighted: u128 });
