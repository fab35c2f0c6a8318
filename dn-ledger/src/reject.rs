//! Why the ledger refuses a transaction: one typed reason for each rule.

mod evidence;
mod governance;
mod registry;
mod session;
mod staking;

use dn_core::{Address, Amount, AmountError, BatchId, ChannelId, Hash32, ModelId, ReceiptId, VerifyError};
use serde::{Deserialize, Serialize};

pub use evidence::EvidenceFault;
pub use governance::GovernanceFault;
pub use registry::{ReceiptField, RegistryReject, TokenKind};
pub use session::SessionFault;
pub use staking::StakingFault;

use crate::referee::{MoveFault, Side};
use crate::state::{BatchStatus, IdentityStatus};
use crate::tx::{Role, Shares};

/// An object whose signature, chain or expiry the ledger checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SignedObject {
    /// The transaction itself.
    Transaction,
    /// A payer's voucher.
    Voucher,
    /// A batch root, signed by its gateway.
    BatchRoot,
    /// A worker's receipt.
    Receipt,
    /// A payer's acceptance of a job's receipt.
    JobAcceptance,
    /// An owner's session grant.
    SessionGrant,
    /// A validator's vote or proposal in consensus.
    ConsensusMessage,
    /// A payer's feedback.
    Feedback,
}

impl std::fmt::Display for SignedObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Transaction => "transaction",
            Self::Voucher => "voucher",
            Self::BatchRoot => "batch root",
            Self::Receipt => "receipt",
            Self::JobAcceptance => "job acceptance",
            Self::SessionGrant => "session grant",
            Self::ConsensusMessage => "consensus message",
            Self::Feedback => "feedback",
        })
    }
}

/// A text or list whose size the ledger bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// Name of an identity or model.
    Name,
    /// Endpoint of an identity.
    Endpoint,
    /// Architecture in a manifest.
    Architecture,
    /// Stop tokens in a manifest.
    StopTokens,
    /// Lines of a batch.
    Lines,
    /// Receipts of a batch.
    Receipts,
    /// Lanes of a channel.
    Lanes,
    /// Bytes of a transaction.
    Transaction,
    /// A licence's id.
    Licence,
    /// Parents of a model.
    Parents,
    /// Models of a session grant.
    Models,
    /// Title of a proposal.
    Title,
    /// Text of a proposal.
    Text,
    /// Changes of a proposal.
    Changes,
    /// Tag of feedback.
    Tag,
}

/// Why a transaction is refused. A refused transaction changes nothing, its sender's nonce included.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "each message names its fields")]
pub enum Reject {
    /// An object for another chain.
    #[error("{object} is for chain {found}; this is chain {expected}")]
    ChainId { object: SignedObject, expected: u64, found: u64 },
    /// A signature that is not the expected signer's.
    #[error("{object} is not signed by {expected}")]
    Signature { object: SignedObject, expected: Address },
    /// A signed object whose time is over.
    #[error("{object} expired at {expires_ms} ms; the block is at {now_ms} ms")]
    ObjectExpired { object: SignedObject, expires_ms: u64, now_ms: u64 },
    /// A transaction whose last height has passed.
    #[error("expired at height {expires_height}; the block is at height {height}")]
    Expired { expires_height: u64, height: u64 },
    /// A transaction that would stay valid too long.
    #[error("expires at height {expires_height}; at most {latest} is allowed now")]
    ExpiryTooFar { expires_height: u64, latest: u64 },
    /// Not the sender's next nonce.
    #[error("nonce {found}; {expected} is next")]
    Nonce { expected: u64, found: u64 },
    /// The fee is under the chain's minimum.
    #[error("fee of {found} DN; at least {minimum} DN needed")]
    FeeTooLow { minimum: Amount, found: Amount },
    /// An account cannot pay.
    #[error("{account} has {available} DN; {needed} DN needed")]
    Insufficient { account: Address, available: Amount, needed: Amount },
    /// Nodes say this, not the rules: executing the transaction panics, so no block is proposed with it.
    #[error("executing it runs into a bug of the node's software; it is dropped")]
    Bug {},
    /// An amount that cannot exist.
    #[error("an amount is beyond the supply")]
    Overflow {},
    /// An amount under a minimum.
    #[error("{found} DN; at least {minimum} DN needed")]
    AmountTooSmall { minimum: Amount, found: Amount },
    /// A text or list outside its bounds.
    #[error("{field:?} of {found}; between {min} and {max} expected")]
    Size { field: Field, min: u64, max: u64, found: u64 },
    /// A text with control characters.
    #[error("{field:?} holds a control character at byte {at}")]
    ControlCharacter { field: Field, at: u64 },
    /// An identity that never registered.
    #[error("{address} is not registered as {role}")]
    UnknownIdentity { address: Address, role: Role },
    /// An identity that may not act in its role now.
    #[error("{address} as {role} is {status:?}")]
    NotActive { address: Address, role: Role, status: IdentityStatus },
    /// A second registration.
    #[error("{address} is already registered as {role}")]
    AlreadyRegistered { address: Address, role: Role },
    /// Collateral under the role's minimum.
    #[error("collateral of {found} DN; a {role} needs at least {minimum} DN")]
    CollateralTooLow { role: Role, minimum: Amount, found: Amount },
    /// As many are in a role as may be.
    #[error("{limit} are in the role {role}; nobody else is taken until one leaves")]
    RoleFull { role: Role, limit: u32 },
    /// Something is still open that the identity answers for.
    #[error("{address} as {role} still has {open} open batches")]
    OpenBatches { address: Address, role: Role, open: u64 },
    /// A stake pool whose whole stake was slashed, or an amount worth no share.
    #[error("{amount} DN buys no share of the pool of {validator}")]
    WorthNoShare { validator: Address, amount: Amount },
    /// More shares than the sender holds.
    #[error("{available} shares of the pool of {validator}; {needed} needed")]
    SharesInsufficient { validator: Address, available: Shares, needed: Shares },
    /// Nothing is due to be paid out.
    #[error("nothing can be withdrawn now; {}", next_release(*next_release_epoch))]
    NothingToWithdraw { next_release_epoch: Option<u64> },
    /// A transaction that would change nothing.
    #[error("nothing would change")]
    NothingToChange {},
    /// A rule of stake pools.
    #[error(transparent)]
    Staking(#[from] StakingFault),
    /// A rule of evidence.
    #[error(transparent)]
    Evidence(#[from] EvidenceFault),
    /// A rule of sessions.
    #[error(transparent)]
    Session(#[from] SessionFault),
    /// A rule of governance.
    #[error(transparent)]
    Governance(#[from] GovernanceFault),
    /// A manifest that no engine can run.
    #[error("manifest: {what:?}")]
    Manifest { what: ManifestFault },
    /// A domain that does not exist.
    #[error("domain {found}; there are {domains}")]
    UnknownDomain { domains: u32, found: u32 },
    /// A price over the chain's bound.
    #[error("price of {found} DN per token; at most {maximum} DN")]
    PriceTooHigh { maximum: Amount, found: Amount },
    /// A model that was published before.
    #[error("model {model} is already published by {owner}")]
    ModelExists { model: ModelId, owner: Address },
    /// A model that was never published.
    #[error("model {model} is not published")]
    UnknownModel { model: ModelId },
    /// A model that its owner withdrew.
    #[error("model {model} was retired at height {height}")]
    ModelRetired { model: ModelId, height: u64 },
    /// Somebody else's model.
    #[error("model {model} belongs to {owner}")]
    NotOwner { model: ModelId, owner: Address },
    /// A second offer of a model at the same prices.
    #[error("{worker} already offers model {model} at these prices")]
    AlreadyOffered { model: ModelId, worker: Address },
    /// A model that the worker does not host.
    #[error("{worker} does not offer model {model}")]
    NotOffered { model: ModelId, worker: Address },
    /// A channel that does not exist.
    #[error("channel {channel} does not exist")]
    UnknownChannel { channel: ChannelId },
    /// Neither payer nor payee, where one is needed.
    #[error("channel {channel} is between {payer} and {payee}")]
    NotParty { channel: ChannelId, payer: Address, payee: Address },
    /// A channel that is closing.
    #[error("channel {channel} is closing and can be finished from height {finish_height}")]
    ChannelClosing { channel: ChannelId, finish_height: u64 },
    /// A channel that nobody closed.
    #[error("channel {channel} is not closing")]
    ChannelNotClosing { channel: ChannelId },
    /// The closing delay is not over.
    #[error("channel {channel} can be finished from height {finish_height}; the block is at {height}")]
    ChannelDelay { channel: ChannelId, finish_height: u64, height: u64 },
    /// A batch posted by somebody else than its worker.
    #[error("the batch is by {worker}; the sender is {sender}")]
    BatchWorker { worker: Address, sender: Address },
    /// Not the worker's next batch.
    #[error("batch number {found}; {expected} is next")]
    BatchSequence { expected: u64, found: u64 },
    /// Lines out of order or repeated.
    #[error("line {line} is not after line {} by (channel, lane, model, domain)", line.saturating_sub(1))]
    LinesUnsorted { line: u32 },
    /// A line without receipts or fees.
    #[error("line {line} has no receipts or no fees")]
    LineEmpty { line: u32 },
    /// More tokens than the line's receipts can have: prompt and output of each fit the model's context.
    #[error("line {line} counts {found} tokens; its receipts have room for {limit}")]
    LineTokens { line: u32, limit: u64, found: u64 },
    /// Fees that the worker's collateral and its bond on the job do not stand for, beside its `open` batches: `limit` is the highest for so many
    /// receipts.
    #[error(
        "{receipts} receipts of worker {worker} cost {found}; its collateral of {collateral} and bond of {bond} stand for {limit}, with {open} batches open"
    )]
    FeesOverBond {
        worker: Address,
        receipts: u32,
        collateral: Amount,
        bond: Amount,
        open: u64,
        limit: Amount,
        found: Amount,
    },
    /// Receipts of the lines do not add up to the batch's count.
    #[error("lines hold {found} receipts; the batch says {expected}")]
    BatchCount { expected: u32, found: u64 },
    /// A line's channel pays another gateway.
    #[error("line {line}: channel {channel} pays {payee}, not gateway {gateway}")]
    LineGateway { line: u32, channel: ChannelId, payee: Address, gateway: Address },
    /// A batch with receipts of an exact model and of one that is not: the one is audited, the other cannot be.
    #[error("line {line}: exact models and others do not go into one batch; exact is {exact} of model {model}, {} before", !exact)]
    LineExactness { line: u32, model: ModelId, exact: bool },
    /// A line's domain is not its model's.
    #[error("line {line}: domain {found}; model {model} counts for domain {expected}")]
    LineDomain { line: u32, model: ModelId, expected: u32, found: u32 },
    /// A lane without voucher.
    #[error("no voucher for lane {lane} of channel {channel}")]
    VoucherMissing { channel: ChannelId, lane: u32 },
    /// A voucher for a lane that the batch does not claim from, or out of order.
    #[error("unexpected voucher for lane {lane} of channel {channel}")]
    VoucherUnexpected { channel: ChannelId, lane: u32 },
    /// A voucher by a key that may not spend from the channel.
    #[error("voucher for channel {channel} signed by {signer}, who is neither its payer nor its spender")]
    VoucherSigner { channel: ChannelId, signer: Address },
    /// A voucher that does not cover the claim.
    #[error(
        "lane {lane} of channel {channel}: {claimed} DN claimed and {fees} DN new; the voucher allows {max_claimable} DN"
    )]
    VoucherTooLow { channel: ChannelId, lane: u32, claimed: Amount, fees: Amount, max_claimable: Amount },
    /// A channel that cannot cover the claim.
    #[error("channel {channel} holds {available} DN; {fees} DN claimed")]
    ChannelExhausted { channel: ChannelId, available: Amount, fees: Amount },
    /// A batch that does not exist.
    #[error("batch {batch} does not exist")]
    UnknownBatch { batch: BatchId },
    /// An audit that is not the sender's.
    #[error("{auditor} has no open audit of receipt {index} of batch {batch}")]
    NotAssigned { batch: BatchId, index: u32, auditor: Address },
    /// A second commitment.
    #[error("the verdict on receipt {index} of batch {batch} is already committed")]
    AlreadyCommitted { batch: BatchId, index: u32 },
    /// A reveal before any commitment.
    #[error("no verdict on receipt {index} of batch {batch} is committed")]
    NotCommitted { batch: BatchId, index: u32 },
    /// A second reveal.
    #[error("the verdict on receipt {index} of batch {batch} is already revealed")]
    AlreadyRevealed { batch: BatchId, index: u32 },
    /// A deadline has passed.
    #[error("too late: the deadline was height {deadline}; the block is at {height}")]
    TooLate { deadline: u64, height: u64 },
    /// A reveal while others may still commit.
    #[error("too early: others may commit until height {commit_deadline}; the block is at {height}")]
    RevealTooEarly { commit_deadline: u64, height: u64 },
    /// A verdict and salt that were not committed to.
    #[error("verdict and salt hash to {found}; {expected} was committed")]
    Commitment { expected: Hash32, found: Hash32 },
    /// A verdict in another auditor's name.
    #[error("the verdict is by {auditor}; the sender is {sender}")]
    VerdictAuditor { auditor: Address, sender: Address },
    /// What only domains, model families, backers and jobs refuse.
    #[error(transparent)]
    Registry(#[from] RegistryReject),
    /// A receipt with the proof of another place.
    #[error("the proof is of receipt {found_index} of {found_count}; receipt {index} of {count} expected")]
    ProofPlace { index: u64, count: u64, found_index: u64, found_count: u64 },
    /// A receipt that is not in its batch.
    #[error("the proof does not lead to the batch's root {root}")]
    Proof { root: Hash32 },
    /// A receipt by another worker than the batch.
    #[error("the receipt is by {found}; the batch is by {expected}")]
    ReceiptWorker { expected: Address, found: Address },
    /// A dispute that nobody called, or that is over.
    #[error("no dispute about receipt {index} of batch {batch} is open")]
    UnknownDispute { batch: BatchId, index: u32 },
    /// Somebody else's move.
    #[error("receipt {index} of batch {batch}: {expected} moves here, not {found}")]
    DisputeParty { batch: BatchId, index: u32, expected: Address, found: Address },
    /// A second opening.
    #[error("the dispute about receipt {index} of batch {batch} is already opened")]
    DisputeOpened { batch: BatchId, index: u32 },
    /// A move before the opening.
    #[error("the dispute about receipt {index} of batch {batch} is not opened yet")]
    DisputeNotOpened { batch: BatchId, index: u32 },
    /// A move out of turn.
    #[error("receipt {index} of batch {batch}: move {step} of the {turn} is due; {found} came")]
    DisputeTurn { batch: BatchId, index: u32, turn: Side, step: u32, found: u32 },
    /// A move that the referee refuses.
    #[error("receipt {index} of batch {batch}, move {step}: {fault}")]
    DisputeMove { batch: BatchId, index: u32, step: u32, fault: MoveFault },
    /// A model whose computations no tile judges.
    #[error("the referee does not know how model {model} computes: no tile of it can be judged")]
    DisputeUnjudged { model: ModelId },
    /// The block has taken all moves of disputes that it may.
    #[error("block {height} has its {limit} moves of disputes")]
    DisputesBusy { limit: u32, height: u64 },
    /// The block has asked for all votes that it may.
    #[error("block {height} asks for {held} votes on receipts; with {votes} more it would be over {limit}")]
    VotesBusy { limit: u32, height: u64, held: u32, votes: u32 },
    /// The block has taken all batches that it may, by the audits that they may bring.
    #[error("block {height} has batches of {held} audits; with {load} more it would be over {limit}")]
    AuditsBusy { limit: u32, height: u64, held: u32, load: u32 },
    /// A quality round that is not open.
    #[error("no quality round {round} is open")]
    UnknownRound { round: Hash32 },
    /// Something that only the round's setter may do.
    #[error("the setter of round {round} is {setter}; the sender is {sender}")]
    QualitySetter { round: Hash32, setter: Address, sender: Address },
    /// A message that the round refuses.
    #[error("round {round}: {fault}")]
    QualityFault { round: Hash32, fault: RoundFault },
    /// A proof that is not of the setter's VRF at the round.
    #[error("the proof is not of the VRF of the setter of round {round}")]
    QualityDraw { round: Hash32 },
    /// A canary where none was drawn, or none where one was.
    #[error("round {round} {}", if *drawn { "has to be a canary" } else { "must not be a canary" })]
    QualityCanary { round: Hash32, drawn: bool },
    /// Feedback beyond the scale.
    #[error("a score of {found}; at most {maximum}")]
    Score { maximum: u8, found: u8 },
    /// Feedback on a receipt whose batch is not settled.
    #[error("batch {batch} is {status:?}; feedback is taken on settled ones")]
    BatchUnsettled { batch: BatchId, status: BatchStatus },
    /// Feedback on another receipt than the one that stands there.
    #[error("feedback on receipt {found}; {expected} stands at this place")]
    FeedbackReceipt { expected: ReceiptId, found: ReceiptId },
    /// A second feedback on a receipt.
    #[error("there is feedback on receipt {index} of batch {batch} already")]
    FeedbackGiven { batch: BatchId, index: u32 },
    /// A receipt that belongs to no line of its batch: nobody paid for it.
    #[error("receipt {index} of batch {batch} belongs to none of its lines")]
    FeedbackLine { batch: BatchId, index: u32 },
    /// Feedback by somebody else than who paid.
    #[error("feedback signed by {signer}; {payer} paid, and neither it nor its spender did")]
    FeedbackSigner { payer: Address, signer: Address },
    /// Feedback on own work.
    #[error("{payer} paid for its own work or model")]
    FeedbackSelf { payer: Address },
}

/// Why a quality round refuses a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RoundFault {
    /// Its setter has not sealed it.
    #[error("its task is not sealed")]
    NotSealed,
    /// The sender is not in its committee.
    #[error("the sender is not in its committee")]
    NotAMember,
    /// A deadline has passed.
    #[error("the deadline has passed")]
    Late,
    /// The phase before is not over.
    #[error("the phase before is not over")]
    Early,
    /// It was done before.
    #[error("the sender did that already")]
    Twice,
    /// A reveal without a commitment.
    #[error("the sender has not committed")]
    NotCommitted,
    /// Something for another round.
    #[error("it is for another round")]
    WrongRound,
    /// What was shown was not committed to.
    #[error("it is not what was committed to")]
    Mismatch,
    /// The committee itself does not fit.
    #[error("its committee or its deadlines do not fit")]
    Committee,
}

impl From<dn_powr::RoundError> for RoundFault {
    fn from(error: dn_powr::RoundError) -> Self {
        use dn_powr::RoundError;
        match error {
            RoundError::NotAMember { .. } => Self::NotAMember,
            RoundError::Late { .. } => Self::Late,
            RoundError::Early { .. } => Self::Early,
            RoundError::Twice { .. } => Self::Twice,
            RoundError::NotCommitted { .. } => Self::NotCommitted,
            RoundError::WrongRound { .. } => Self::WrongRound,
            RoundError::Mismatch { .. } => Self::Mismatch,
            _ => Self::Committee,
        }
    }
}

/// What is wrong with a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ManifestFault {
    /// A size that must not be 0 is 0.
    ZeroSize,
    /// A size beyond 2^24, or a vocabulary or context beyond 2^31.
    HugeSize,
    /// Key and value heads do not divide the heads.
    Heads,
    /// Stop tokens are not ascending or outside the vocabulary.
    StopTokens,
    /// A numeric spec that does not exist yet.
    NumericSpec,
}

/// When a withdrawal can be tried again, in words.
fn next_release(epoch: Option<u64>) -> String {
    epoch.map_or_else(
        || "nothing is unbonding".to_owned(),
        |epoch| format!("the next release is epoch {epoch}"),
    )
}

impl Reject {
    /// The reason for an object that failed [`dn_core::Signed::verify`].
    pub fn of_object(object: SignedObject, expected: Address, error: VerifyError) -> Self {
        match error {
            VerifyError::ChainId { expected, found } => Self::ChainId { object, expected, found },
            VerifyError::Expired { expires_ms, now_ms } => Self::ObjectExpired { object, expires_ms, now_ms },
            _ => Self::Signature { object, expected },
        }
    }

    /// Whether only the block refuses it, which has had enough of its kind: the next one may take it.
    pub const fn is_for_this_block(&self) -> bool {
        matches!(self, Self::AuditsBusy { .. } | Self::DisputesBusy { .. } | Self::VotesBusy { .. })
    }
}

impl From<AmountError> for Reject {
    /// Amounts of one ledger cannot exceed its supply, so whatever overflows was never there.
    fn from(_: AmountError) -> Self {
        Self::Overflow {}
    }
}
