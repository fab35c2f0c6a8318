//! What the transactions of domains, models, backers and jobs carry.

use dn_core::objects::{ModelManifest, Price};
use dn_core::{
    Address, Amount, ChannelId, Hash32, JobId, ModelId, canonical_enum, canonical_struct, keccak256,
};
use dn_powr::{DomainSplit, FeeMove};
use serde::{Deserialize, Serialize};

/// The most bytes of a licence's id.
pub const MAX_LICENCE_BYTES: usize = 64;
/// The most parents of a model.
pub const MAX_PARENTS: usize = 4;

/// Who may publish models into a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// Every model owner.
    #[default]
    Open,
    /// The domain's owner alone.
    Owner,
}
canonical_enum!(Admission { 0 => Open {}, 1 => Owner {} });

/// What a domain's owner decides. What is none is the chain's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DomainTerms {
    /// How the domain's emission is split.
    pub emission: Option<DomainSplit>,
    /// The first four shares of the fees of its tasks.
    pub fees: Option<FeeMove>,
    /// Who may publish models into it; those that are in it stay.
    #[serde(default)]
    pub admission: Admission,
}
canonical_struct!(DomainTerms {
    emission: Option<DomainSplit>,
    fees: Option<FeeMove>,
    admission: Admission,
});

/// What a model's owner lets others do with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// An identifier such as SPDX's, at most [`MAX_LICENCE_BYTES`].
    pub id: String,
    /// Whether others may publish models that derive from it.
    pub derivatives: bool,
    /// Whether models that derive from it may be marked commercial.
    pub commercial: bool,
    /// What a derived model must grant, in basis points of its owner's income.
    pub royalty_bps: u16,
}
canonical_struct!(Licence { id: String, derivatives: bool, commercial: bool, royalty_bps: u16 });

impl Default for Licence {
    /// Nothing granted: no derivatives; the owner's own use is commercial.
    fn default() -> Self {
        Self {
            id: "LicenseRef-All-Rights-Reserved".into(),
            derivatives: false,
            commercial: true,
            royalty_bps: 0,
        }
    }
}

/// A model that another derives from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Parent {
    /// The model.
    pub model: ModelId,
    /// What it is granted, in basis points of the derived model's owner's income.
    pub share_bps: u16,
}
canonical_struct!(Parent { model: ModelId, share_bps: u16 });

/// What a model family offers its backers; fixed when the family starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BackingTerms {
    /// The backers' part of the owner's income, in basis points.
    pub share_bps: u16,
    /// The pool takes deposits up to this amount: what bounds how far those who come later dilute those before.
    pub cap: Amount,
}
canonical_struct!(BackingTerms { share_bps: u16, cap: Amount });

/// A model with its terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewVersion {
    /// The family that it is the next version of, named by its first model; none starts a family.
    pub family: Option<ModelId>,
    /// Everything that decides its output; its hash is the model's id.
    pub manifest: ModelManifest,
    /// A name to show, at most [`MAX_NAME_BYTES`](super::MAX_NAME_BYTES).
    pub name: String,
    /// Prices per token.
    pub price: Price,
    /// The domain its work counts for.
    pub domain: u32,
    /// What others may do with it.
    pub licence: Licence,
    /// What it derives from: at most [`MAX_PARENTS`] models that are published already.
    pub parents: Vec<Parent>,
    /// The first four shares of its fees; none leaves them to its domain.
    pub fees: Option<FeeMove>,
    /// What backers of the family get; only when it starts one.
    pub backing: Option<BackingTerms>,
    /// The salt of its [`model_commitment`], on a chain that asks for one.
    pub salt: Option<Hash32>,
}
canonical_struct!(NewVersion {
    family: Option<ModelId>,
    manifest: ModelManifest,
    name: String,
    price: Price,
    domain: u32,
    licence: Licence,
    parents: Vec<Parent>,
    fees: Option<FeeMove>,
    backing: Option<BackingTerms>,
    salt: Option<Hash32>,
});

/// What an owner commits to some blocks before it publishes a model, so that nobody who reads the manifest then publishes it first. Who copies the
/// commitment has one of another owner.
pub fn model_commitment(model: ModelId, owner: Address, salt: &Hash32) -> Hash32 {
    Hash32(keccak256(&[b"DeepNode model commitment v1", &model.0, &owner.0, &salt.0]))
}

/// The largest bond of a job, in what is locked for it. A bond of 12.35 fees stands for a fee alone by the default parameters, of 100 down to a least audit
/// rate of 65 basis points; more would only lock up what nothing needs.
pub const MAX_BOND_TIMES: u128 = 100;

/// A long job and the DN that are locked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewJob {
    /// Who is to do it; none lets any worker that offers the model.
    pub worker: Option<Address>,
    /// Who passes it on, countersigns the receipt and hands it to auditors.
    pub gateway: Address,
    /// The model.
    pub model: ModelId,
    /// Hash of the canonical request.
    pub job: JobId,
    /// Prices agreed.
    pub price: Price,
    /// How much is locked: the most it can cost.
    pub amount: Amount,
    /// Last height at which it can be claimed; then what is locked goes back by itself.
    pub expires_height: u64,
    /// What the worker puts up when it claims, and loses by a proven fraud; at most [`MAX_BOND_TIMES`] times `amount`, zero asks for none.
    pub bond: Amount,
}
canonical_struct!(NewJob {
    worker: Option<Address>,
    gateway: Address,
    model: ModelId,
    job: JobId,
    price: Price,
    amount: Amount,
    expires_height: u64,
    bond: Amount,
});

/// The id of the escrow that `payer` locks with the transaction of this nonce. Receipts of the job name it as their channel.
pub fn escrow_id(payer: Address, gateway: Address, nonce: u64) -> ChannelId {
    ChannelId(keccak256(&[b"DeepNode job v1", &payer.0, &gateway.0, &nonce.to_le_bytes()]))
}
