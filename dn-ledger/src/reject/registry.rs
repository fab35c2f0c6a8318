//! Why transactions of domains, model families, backers and jobs are refused.

use dn_core::{Address, Amount, BatchId, ChannelId, Hash32, ModelId, ReceiptId};
use dn_powr::SplitError;
use serde::{Deserialize, Serialize};

use crate::tx::Shares;

/// A field of a receipt that its job decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReceiptField {
    /// Hash of the request.
    Job,
    /// The domain.
    Domain,
    /// The model.
    Model,
    /// Version of the numeric spec.
    NumericSpec,
    /// Prices.
    Price,
    /// Who pays.
    Payer,
    /// The lane, which is 0.
    Lane,
    /// Who computed it.
    Worker,
    /// Who passed it on.
    Gateway,
}

/// What is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// A token of the prompt.
    Prompt,
    /// A generated token.
    Output,
}

impl std::fmt::Display for TokenKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Prompt => "prompt",
            Self::Output => "output",
        })
    }
}

/// Why a transaction of domains, model families, backers or jobs is refused.
///
/// Small on purpose: what the transaction says itself is not always repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "what", rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "each message names its fields")]
pub enum RegistryReject {
    /// A character that no domain's name has.
    #[error("byte {at} of the name is no lower-case letter, digit or hyphen")]
    DomainName { at: u64 },
    /// Another open domain has the name.
    #[error("domain {domain} has the name {name:?}")]
    DomainNameTaken { name: String, domain: u32 },
    /// As many domains as may be open.
    #[error("{limit} domains are open; no more are allowed")]
    DomainsFull { limit: u32 },
    /// Somebody else's domain, or nobody's.
    #[error("domain {domain} belongs to {}", owner.map_or("nobody".into(), |owner| owner.to_string()))]
    NotDomainOwner { domain: u32, owner: Option<Address> },
    /// A domain that its owner closed.
    #[error("domain {domain} was closed at height {height}")]
    DomainClosed { domain: u32, height: u64 },
    /// A domain that does not let everybody publish.
    #[error("domain {domain} takes models of its owner alone")]
    NotAdmitted { domain: u32, owner: Option<Address> },
    /// A domain that still has models.
    #[error("domain {domain} has {models} models that are not retired")]
    DomainInUse { domain: u32, models: u32 },
    /// Shares that do not add up to one.
    #[error("the shares add up to {found} basis points; 10,000 expected")]
    ShareSum { found: u32 },
    /// A share out of its bounds.
    #[error("the share `{share}` is {found} basis points; from {min} to {max} allowed")]
    ShareBounds { share: String, found: u16, min: u16, max: u16 },
    /// More than the epoch's bound of a treasury.
    #[error(
        "{spent} DN of {limit} DN are spent of the treasury of domain {domain} in epoch {epoch}; {amount} DN more"
    )]
    SpendLimit { domain: u32, epoch: u64, limit: Amount, spent: Amount, amount: Amount },
    /// As many versions as a family may have.
    #[error("family {family} has {limit} versions; no more are allowed")]
    FamilyFull { family: ModelId, limit: u32 },
    /// A model that starts no family.
    #[error("model {model} belongs to family {family}")]
    NotFamily { model: ModelId, family: ModelId },
    /// Backing terms for a family that has its own.
    #[error("what backers of family {family} get was fixed when it started")]
    BackingFixed { family: ModelId },
    /// A parent twice, or out of order.
    #[error("parents must be sorted without repeats; {model} is not")]
    ParentsUnsorted { model: ModelId },
    /// A parent that allows no derivatives.
    #[error("the licence of model {model} allows no derivatives")]
    NoDerivatives { model: ModelId },
    /// A commercial model derived from one that allows none.
    #[error("the licence of model {model} allows no commercial derivatives")]
    NotCommercial { model: ModelId },
    /// A parent that is granted less than it demands.
    #[error("model {model} demands {demanded} basis points; {granted} are granted")]
    RoyaltyTooLow { model: ModelId, demanded: u16, granted: u16 },
    /// Parents that are granted too much together, or a licence that demands too much.
    #[error("royalties of {found} basis points; at most {limit}")]
    RoyaltyTooHigh { limit: u16, found: u32 },
    /// Too many generations.
    #[error("{found} generations of ancestors; at most {limit}")]
    LineageDepth { limit: u8, found: u8 },
    /// Too many ancestors to pay.
    #[error("{found} ancestors to pay; at most {limit}")]
    LineagePayees { limit: u32, found: u32 },
    /// A model that gives validators or treasury less than its domain does.
    #[error("the share `{share}` is {found} basis points; its domain gives {minimum}")]
    ShareUnderDomain { share: String, minimum: u16, found: u16 },
    /// A family that shares nothing with backers.
    #[error("family {family} takes no backing")]
    NoBacking { family: ModelId },
    /// A pool that would hold more than its cap.
    #[error("the backers' pool holds {held} DN of {cap} DN; {amount} DN more")]
    BackingFull { cap: Amount, held: Amount, amount: Amount },
    /// An amount worth no share.
    #[error("{amount} DN buys no share of the backers' pool of family {family}")]
    BackingWorthNoShare { family: ModelId, amount: Amount },
    /// More shares than the sender holds, or none.
    #[error("{available} shares of the backers' pool of family {family}; {needed} needed")]
    BackingShares { family: ModelId, available: Shares, needed: Shares },
    /// So little left that a share's price would be coarse.
    #[error("backing worth {rest} DN would be left; at least {minimum} DN or none")]
    BackingRest { family: ModelId, minimum: Amount, rest: Amount },
    /// The same commitment of the same owner.
    #[error("commitment {commitment} stands since height {height}")]
    CommitmentExists { commitment: Hash32, height: u64 },
    /// As many commitments as an owner may have.
    #[error("{limit} commitments of the owner are open; no more are allowed")]
    CommitmentsFull { limit: u32 },
    /// A model that is published without the salt of a commitment.
    #[error(
        "model {model} can be published {blocks} blocks after a commitment to it; no salt of one is given"
    )]
    CommitmentNeeded { model: ModelId, blocks: u64 },
    /// No such commitment by the sender: never made, used, or forgotten.
    #[error("commitment {commitment} of model {model} does not exist")]
    UnknownCommitment { model: ModelId, commitment: Hash32 },
    /// A commitment that is too young.
    #[error("commitment {commitment} can be used from height {from_height} on; the block is at {height}")]
    CommitmentYoung { commitment: Hash32, from_height: u64, height: u64 },
    /// A commitment that is too old.
    #[error("commitment {commitment} expired at height {expires_height}; the block is at {height}")]
    CommitmentExpired { commitment: Hash32, expires_height: u64, height: u64 },
    /// A job that would expire too early or too late.
    #[error("the job expires at height {found}; from {min} to {max} allowed")]
    JobExpiry { min: u64, max: u64, found: u64 },
    /// A bond beyond what is allowed for so much locked.
    #[error("the job asks for a bond of {found} DN; at most {limit} DN")]
    JobBond { limit: Amount, found: Amount },
    /// No such escrow: never locked, claimed, or refunded.
    #[error("escrow {escrow} does not exist")]
    UnknownJob { escrow: ChannelId },
    /// A job whose time is over.
    #[error("escrow {escrow} expired at height {expires_height}; the block is at {height}")]
    JobExpired { escrow: ChannelId, expires_height: u64, height: u64 },
    /// A job at a price for which the worker that it names does not work.
    #[error("{worker} asks for {asked} DN a {token} token of model {model}; the job pays {found} DN")]
    JobUnderOffer { model: ModelId, worker: Address, token: TokenKind, asked: Amount, found: Amount },
    /// A job for somebody else.
    #[error("escrow {escrow} is for {expected}, not {found}")]
    JobWorker { escrow: ChannelId, expected: Address, found: Address },
    /// A receipt that is not this job's.
    #[error("the receipt's {field:?} is not that of escrow {escrow}")]
    JobReceipt { escrow: ChannelId, field: ReceiptField },
    /// A fee beyond what the tokens cost or what is locked.
    #[error("fee of {found} DN; above 0 and at most {limit} DN")]
    JobFee { escrow: ChannelId, limit: Amount, found: Amount },
    /// A batch that is not the batch of exactly this receipt.
    #[error("the batch of this receipt alone is {expected}; {found} was sent")]
    JobBatch { expected: BatchId, found: BatchId },
    /// A job whose result nobody could check.
    #[error(
        "model {model} is not exact: no audit could stand for a job's result; calls through channels are paid one by one"
    )]
    JobInexact { model: ModelId },
    /// An acceptance of another receipt, for another escrow, or by somebody else.
    #[error(
        "the acceptance is of receipt {found}; one of receipt {expected} and its escrow by the payer is expected"
    )]
    JobAcceptance { expected: ReceiptId, found: ReceiptId },
}

impl From<SplitError> for RegistryReject {
    fn from(error: SplitError) -> Self {
        match error {
            SplitError::OutOfBounds { name, found, min, max } => {
                Self::ShareBounds { share: name.to_owned(), found, min, max }
            }
            SplitError::Sum { found } => Self::ShareSum { found },
            _ => Self::ShareSum { found: 0 },
        }
    }
}
