//! Transactions: what identities ask of the ledger, canonical and signed.

mod evidence;
mod governance;
mod registry;

use dn_core::encoding::{Canonical, DecodeError, Reader};
use dn_core::keys::SignatureError;
use dn_core::merkle::InclusionProof;
use dn_core::objects::feedback::Feedback;
use dn_core::objects::{
    BatchRoot, JobAcceptance, ModelManifest, Price, Receipt, SessionGrant, Verdict, Voucher,
};
use dn_core::{
    Address, Amount, BatchId, ChannelId, Hash32, ModelId, SecretKey, Signature, Signed, TxId, canonical_enum,
    canonical_struct, keccak256,
};
use serde::{Deserialize, Serialize};

pub use dn_powr::{DomainSplit, FeeMove};
pub use evidence::Evidence;
pub(crate) use governance::Scalar;
pub use governance::{Choice, MAX_TITLE_BYTES, ParamChange, ProposalKind};
pub use registry::{
    Admission, BackingTerms, DomainTerms, Licence, MAX_BOND_TIMES, MAX_LICENCE_BYTES, MAX_PARENTS, NewJob,
    NewVersion, Parent, escrow_id, model_commitment,
};

use crate::beacon::Reveal;
use crate::bytes::Bytes;

/// The most bytes of a canonical signed transaction.
pub const MAX_TX_BYTES: usize = 256 * 1024;

/// How many bytes of a transaction the smallest fee pays for.
pub const FEE_BYTES: usize = 1024;
/// The most bytes of an identity's or a model's name.
pub const MAX_NAME_BYTES: usize = 64;
/// The most bytes of an endpoint.
pub const MAX_ENDPOINT_BYTES: usize = 256;
/// Prefix of what a sender signs; separates transactions from everything else a key signs.
pub const TX_DOMAIN: &[u8] = b"DeepNode tx v1";

/// What an identity does in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Computes answers.
    Worker,
    /// Audits answers and produces blocks.
    Validator,
    /// Publishes models and earns from their use.
    ModelOwner,
    /// Passes calls on to workers and holds the payers' channels.
    Gateway,
}
canonical_enum!(Role { 0 => Worker {}, 1 => Validator {}, 2 => ModelOwner {}, 3 => Gateway {} });

impl Role {
    /// Every role, in the order of their tags.
    pub const ALL: [Self; 4] = [Self::Worker, Self::Validator, Self::ModelOwner, Self::Gateway];

    /// The name used in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Validator => "validator",
            Self::ModelOwner => "model_owner",
            Self::Gateway => "gateway",
        }
    }

    /// Whether at most `max_in_role` can be in it: an epoch's end goes through all of these, and through nobody else.
    pub(crate) const fn is_capped(self) -> bool {
        matches!(self, Self::Worker | Self::Validator)
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Shares of a validator's stake pool ("stDN"): their price in DN rises with rewards and falls with slashes.
///
/// JSON carries them as a decimal string, so no reader rounds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Shares(pub u128);

impl std::fmt::Display for Shares {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Shares {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Shares {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map(Self).map_err(|_| serde::de::Error::custom("expected shares as a decimal string"))
    }
}

impl Canonical for Shares {
    const MIN_LEN: usize = 16;
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u128::decode(r).map(Self)
    }
}

/// Why an accuser says that a receipt is not the model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Ground {
    /// A computed value differs: a tile shows it, and the referee judges it.
    Computation,
    /// The end of the answer, a choice under a grammar, or anything of a model whose computations the referee does not know: no tile
    /// shows it, and the validators' weight decides.
    Rest,
}
canonical_enum!(Ground { 0 => Computation {}, 1 => Rest {} });

/// What a transaction does. The README of this crate lists each one's rules.
#[allow(
    clippy::large_enum_variant,
    reason = "the largest holds a receipt; transactions are bounded by bytes, not by this"
)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Payload {
    /// Moves DN to another account.
    Transfer {
        /// Who receives.
        to: Address,
        /// How much.
        amount: Amount,
    },
    /// Takes up a role, or adds collateral to a suspended one.
    Register {
        /// The role.
        role: Role,
        /// Bond that can be slashed.
        collateral: Amount,
        /// A name to show, at most [`MAX_NAME_BYTES`].
        name: String,
        /// Where the identity is reached, such as a gateway's URL; may be empty. At most [`MAX_ENDPOINT_BYTES`].
        endpoint: String,
    },
    /// Leaves a role; the collateral is free after the unbonding time.
    Retire {
        /// The role.
        role: Role,
    },
    /// Puts stake into a validator's pool and receives shares of it.
    Stake {
        /// The pool's validator.
        validator: Address,
        /// How much.
        amount: Amount,
    },
    /// Gives shares back; what they are worth is free after the unbonding time and can be slashed until then.
    Unbond {
        /// The pool's validator.
        validator: Address,
        /// How many shares.
        shares: Shares,
    },
    /// Pays out unbonded stake and retired collateral whose time is over.
    Withdraw {},
    /// Publishes a model.
    PublishModel {
        /// Everything that decides its output; its hash is the model's id.
        manifest: ModelManifest,
        /// A name to show, at most [`MAX_NAME_BYTES`].
        name: String,
        /// Prices per token.
        price: Price,
        /// The domain its work counts for.
        domain: u32,
        /// The salt of its [`model_commitment`], on a chain that asks for one.
        salt: Option<Hash32>,
    },
    /// Changes the prices of an own model.
    SetModelPrice {
        /// The model.
        model: ModelId,
        /// The new prices.
        price: Price,
    },
    /// Withdraws an own model: no new offers, and no batches after the grace time.
    RetireModel {
        /// The model.
        model: ModelId,
    },
    /// Announces that the sender, a worker, hosts a model, and the least it works for; sent again, it changes that.
    Offer {
        /// The model.
        model: ModelId,
        /// The least prices per token.
        price: Price,
    },
    /// Withdraws an offer.
    Unoffer {
        /// The model.
        model: ModelId,
    },
    /// Locks DN for calls through one gateway. The channel's id is [`channel_id`] of sender, payee and nonce.
    OpenChannel {
        /// The gateway.
        payee: Address,
        /// How much is locked.
        deposit: Amount,
        /// Who, besides the payer, may sign vouchers: the payer, or a spending key.
        spender: Address,
    },
    /// Adds DN to an own channel.
    TopUpChannel {
        /// The channel.
        channel: ChannelId,
        /// How much.
        amount: Amount,
    },
    /// Starts to close a channel: claims are still taken until the delay is over.
    CloseChannel {
        /// The channel.
        channel: ChannelId,
    },
    /// Ends a channel whose delay is over; what is left returns to the payer.
    FinishChannel {
        /// The channel.
        channel: ChannelId,
    },
    /// Commits to receipts and claims their fees into escrow until the audit window closes.
    PostBatch {
        /// The commitment, countersigned by the gateway.
        batch: Signed<BatchRoot>,
        /// One voucher for each lane that the batch claims from, sorted by (channel, lane).
        vouchers: Vec<Signed<Voucher>>,
    },
    /// Commits to a verdict without showing it.
    AuditCommit {
        /// The batch.
        batch: BatchId,
        /// The receipt's place in it.
        index: u32,
        /// [`Verdict::commitment`].
        commitment: Hash32,
    },
    /// Shows the verdict that was committed to.
    AuditReveal {
        /// The verdict.
        verdict: Verdict,
        /// The salt of the commitment.
        salt: Hash32,
    },
    /// Creates a domain, which the sender owns.
    CreateDomain {
        /// Its name: lower-case letters, digits and hyphens, at most [`MAX_NAME_BYTES`]; no other open domain has it.
        name: String,
        /// How it splits emission and fees.
        terms: DomainTerms,
    },
    /// Changes how an own domain splits emission and fees, from the next epoch on.
    ConfigureDomain {
        /// The domain.
        domain: u32,
        /// All of its terms from then on.
        terms: DomainTerms,
    },
    /// Gives an own domain to somebody else.
    TransferDomain {
        /// The domain.
        domain: u32,
        /// Its new owner.
        to: Address,
    },
    /// Pays out of the treasury of an own domain, within the epoch's bound.
    SpendTreasury {
        /// The domain.
        domain: u32,
        /// Who receives.
        to: Address,
        /// How much.
        amount: Amount,
    },
    /// Closes an own domain without models: the deposit returns, what is left in the treasury goes to the community pool.
    CloseDomain {
        /// The domain.
        domain: u32,
    },
    /// Publishes a model with terms: the first of a family, or its next version.
    PublishVersion {
        /// The model and its terms.
        version: NewVersion,
    },
    /// Gives an own model family, all its versions with it, to another model owner.
    TransferModel {
        /// The family, named by its first model.
        family: ModelId,
        /// Its new owner.
        to: Address,
    },
    /// Puts DN behind a model family, for shares of what its backers earn.
    BackModel {
        /// The family, named by its first model.
        family: ModelId,
        /// How much.
        amount: Amount,
    },
    /// Takes backing out; what it is worth now is free after the unbacking time.
    Unback {
        /// The family, named by its first model.
        family: ModelId,
        /// How many shares.
        shares: Shares,
    },
    /// Commits to a model that the sender is going to publish.
    CommitModel {
        /// [`model_commitment`] of the model, the sender and a salt that nobody knows.
        commitment: Hash32,
    },
    /// Locks DN for a long job. The escrow's id is [`escrow_id`] of sender, gateway and nonce.
    LockJob {
        /// The job.
        job: NewJob,
    },
    /// Claims a job's fee with its receipt, as a batch of one.
    ClaimJob {
        /// The commitment to this one receipt, countersigned by the gateway.
        batch: Signed<BatchRoot>,
        /// The receipt; its channel is the escrow.
        receipt: Box<Signed<Receipt>>,
        /// The payer's word that the result is right; without it the receipt is audited for certain.
        acceptance: Option<Signed<JobAcceptance>>,
    },
    /// Changes what an own identity shows, or adds to its collateral.
    UpdateIdentity {
        /// The role.
        role: Role,
        /// A new name.
        name: Option<String>,
        /// A new endpoint.
        endpoint: Option<String>,
        /// What is added to the bond.
        add_collateral: Amount,
    },
    /// Sets the sender's commission: a lower one at once, a higher one after a delay.
    SetCommission {
        /// Basis points of the pool's reward.
        rate: u16,
    },
    /// Moves stake to another pool without waiting; the old one's slashes reach it for the unbonding time.
    Redelegate {
        /// The pool that it leaves.
        from: Address,
        /// The pool that it enters.
        to: Address,
        /// How many shares of the old pool.
        shares: Shares,
    },
    /// Shows that a validator signed two conflicting messages.
    SubmitEvidence {
        /// The validator.
        validator: Address,
        /// The messages.
        evidence: Evidence,
    },
    /// Registers a session. Anybody may bring the owner's grant.
    GrantSession {
        /// The grant, signed by the owner.
        grant: Signed<SessionGrant>,
    },
    /// Takes the sender's grants to a session key back, whether registered or not.
    RevokeSession {
        /// The session key.
        session: Address,
        /// Grants up to this serial are void.
        serial: u64,
    },
    /// Makes a proposal.
    Propose {
        /// A title, at most [`MAX_TITLE_BYTES`].
        title: String,
        /// What to say about it.
        text: String,
        /// What it does.
        kind: ProposalKind,
        /// The proposer's deposit.
        deposit: Amount,
    },
    /// Adds to a proposal's deposit.
    Deposit {
        /// The proposal.
        proposal: u64,
        /// How much.
        amount: Amount,
    },
    /// Votes with a pool's stake: its validator with all that nobody overrides, a delegator with its own shares.
    Vote {
        /// The proposal.
        proposal: u64,
        /// The pool.
        pool: Address,
        /// The vote; it can be changed until voting ends.
        choice: Choice,
    },
    /// Opens the dispute that the sender's accusation called.
    DisputeOpen {
        /// The batch.
        batch: BatchId,
        /// The receipt's place in it.
        index: u32,
        /// The receipt.
        receipt: Signed<Receipt>,
        /// Its place in the batch's root.
        proof: InclusionProof,
        /// Why it is wrong.
        ground: Ground,
    },
    /// The accuser points to what differs; at the end, to the tile.
    DisputePick {
        /// The batch.
        batch: BatchId,
        /// The receipt's place in it.
        index: u32,
        /// Moves before this one.
        step: u32,
        /// The move, in the referee's encoding.
        bytes: Bytes,
    },
    /// The worker opens what its receipt commits to.
    DisputeAnswer {
        /// The batch.
        batch: BatchId,
        /// The receipt's place in it.
        index: u32,
        /// Moves before this one.
        step: u32,
        /// The move, in the referee's encoding.
        bytes: Bytes,
    },
    /// The setter of a quality round commits to what is known about its task.
    QualitySeal {
        /// The round.
        round: Hash32,
        /// [`dn_powr::Seal::commitment`].
        commitment: Hash32,
    },
    /// A member of a round's committee commits to a score.
    QualityCommit {
        /// The round.
        round: Hash32,
        /// [`dn_powr::Reveal::commitment`].
        commitment: Hash32,
    },
    /// A member shows its score.
    QualityReveal {
        /// What was committed to.
        reveal: dn_powr::Reveal,
    },
    /// The setter opens the seal.
    QualityUnseal {
        /// What was committed to.
        seal: dn_powr::Seal,
        /// The setter's VRF at the round, which decides whether it had to be a canary.
        draw: Reveal,
    },
    /// A payer's word about an answer that it paid for.
    Feedback {
        /// What it says, signed by the payer or its channel's spender.
        feedback: Signed<Feedback>,
        /// The receipt of the answer.
        receipt: Signed<Receipt>,
        /// Its place in the settled batch.
        proof: InclusionProof,
    },
}
canonical_enum!(Payload {
    0 => Transfer { to: Address, amount: Amount },
    1 => Register { role: Role, collateral: Amount, name: String, endpoint: String },
    2 => Retire { role: Role },
    3 => Stake { validator: Address, amount: Amount },
    4 => Unbond { validator: Address, shares: Shares },
    5 => Withdraw {},
    6 => PublishModel {
        manifest: ModelManifest,
        name: String,
        price: Price,
        domain: u32,
        salt: Option<Hash32>,
    },
    7 => SetModelPrice { model: ModelId, price: Price },
    8 => RetireModel { model: ModelId },
    9 => Offer { model: ModelId, price: Price },
    10 => Unoffer { model: ModelId },
    11 => OpenChannel { payee: Address, deposit: Amount, spender: Address },
    12 => TopUpChannel { channel: ChannelId, amount: Amount },
    13 => CloseChannel { channel: ChannelId },
    14 => FinishChannel { channel: ChannelId },
    15 => PostBatch { batch: Signed<BatchRoot>, vouchers: Vec<Signed<Voucher>> },
    16 => AuditCommit { batch: BatchId, index: u32, commitment: Hash32 },
    17 => AuditReveal { verdict: Verdict, salt: Hash32 },
    40 => CreateDomain { name: String, terms: DomainTerms },
    41 => ConfigureDomain { domain: u32, terms: DomainTerms },
    42 => TransferDomain { domain: u32, to: Address },
    43 => SpendTreasury { domain: u32, to: Address, amount: Amount },
    44 => CloseDomain { domain: u32 },
    45 => PublishVersion { version: NewVersion },
    46 => TransferModel { family: ModelId, to: Address },
    47 => BackModel { family: ModelId, amount: Amount },
    48 => Unback { family: ModelId, shares: Shares },
    49 => LockJob { job: NewJob },
    50 => ClaimJob {
        batch: Signed<BatchRoot>,
        receipt: Box<Signed<Receipt>>,
        acceptance: Option<Signed<JobAcceptance>>,
    },
    51 => CommitModel { commitment: Hash32 },
    18 => UpdateIdentity {
        role: Role,
        name: Option<String>,
        endpoint: Option<String>,
        add_collateral: Amount,
    },
    19 => SetCommission { rate: u16 },
    20 => Redelegate { from: Address, to: Address, shares: Shares },
    21 => SubmitEvidence { validator: Address, evidence: Evidence },
    22 => GrantSession { grant: Signed<SessionGrant> },
    23 => RevokeSession { session: Address, serial: u64 },
    24 => Propose { title: String, text: String, kind: ProposalKind, deposit: Amount },
    25 => Deposit { proposal: u64, amount: Amount },
    26 => Vote { proposal: u64, pool: Address, choice: Choice },
    70 => DisputeOpen { batch: BatchId, index: u32, receipt: Signed<Receipt>, proof: InclusionProof, ground: Ground },
    71 => DisputePick { batch: BatchId, index: u32, step: u32, bytes: Bytes },
    72 => DisputeAnswer { batch: BatchId, index: u32, step: u32, bytes: Bytes },
    73 => QualitySeal { round: Hash32, commitment: Hash32 },
    74 => QualityCommit { round: Hash32, commitment: Hash32 },
    75 => QualityReveal { reveal: dn_powr::Reveal },
    76 => QualityUnseal { seal: dn_powr::Seal, draw: Reveal },
    77 => Feedback { feedback: Signed<Feedback>, receipt: Signed<Receipt>, proof: InclusionProof },
});

/// A transaction before its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tx {
    /// The chain it is for.
    pub chain_id: u64,
    /// Who asks and pays the fee.
    pub sender: Address,
    /// Exactly the sender's account nonce: 0, 1, 2, …
    pub nonce: u64,
    /// Last height whose block may include it.
    pub expires_height: u64,
    /// Paid to the validators; at least the chain's `min_tx_fee` for each KiB that the transaction has begun, without its signature.
    pub fee: Amount,
    /// What it does.
    pub payload: Payload,
}
canonical_struct!(Tx {
    chain_id: u64,
    sender: Address,
    nonce: u64,
    expires_height: u64,
    fee: Amount,
    payload: Payload,
});

impl Tx {
    /// The digest that the sender signs: `keccak("DeepNode tx v1" ‖ canonical Tx)`.
    pub fn digest(&self) -> [u8; 32] {
        keccak256(&[TX_DOMAIN, &self.to_bytes()])
    }

    /// The smallest fee that this transaction may pay: the chain's `min_tx_fee` for each KiB that it has begun, without its signature. What it
    /// writes may stay for long, in every replica, and is about as large as what it says.
    ///
    /// # Example
    /// ```
    /// # use dn_core::{Address, Amount, Canonical};
    /// # use dn_ledger::{Payload, Tx};
    /// let (sender, fee) = (Address([1; 20]), Amount::ZERO);
    /// let tx = Tx { chain_id: 1, sender, nonce: 0, expires_height: 9, fee, payload: Payload::Withdraw {} };
    /// assert!(tx.to_bytes().len() < 1024);
    /// assert_eq!(tx.least_fee(Amount::from_atto(7)), Amount::from_atto(7));
    /// ```
    pub fn least_fee(&self, min_tx_fee: Amount) -> Amount {
        let begun = self.to_bytes().len().div_ceil(FEE_BYTES);
        Amount::from_atto(min_tx_fee.atto().saturating_mul(begun as u128))
    }

    /// Signs the transaction. The ledger will compare the key's address with `sender`.
    pub fn sign(self, key: &SecretKey) -> SignedTx {
        let signature = key.sign(&self.digest());
        SignedTx { tx: self, signature }
    }
}

/// A transaction with its sender's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SignedTx {
    /// The transaction.
    pub tx: Tx,
    /// The sender's signature over [`Tx::digest`].
    pub signature: Signature,
}
canonical_struct!(SignedTx { tx: Tx, signature: Signature });

impl SignedTx {
    /// The transaction's identity: Keccak-256 of its canonical bytes.
    pub fn id(&self) -> TxId {
        TxId(self.keccak())
    }

    /// Checks that the sender signed it.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify_signature(&self) -> Result<(), SignatureError> {
        self.signature.verify(&self.tx.digest(), self.tx.sender)
    }

    /// Decodes a signed transaction of bounded size.
    ///
    /// # Errors
    /// [`DecodeError`]; more than [`MAX_TX_BYTES`] are refused before anything is read.
    pub fn from_untrusted(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_TX_BYTES {
            return Err(DecodeError::Count { at: 0, found: bytes.len(), limit: MAX_TX_BYTES });
        }
        Self::from_bytes(bytes)
    }
}

/// The id of the channel that `payer` opens to `payee` with the transaction of this nonce.
pub fn channel_id(payer: Address, payee: Address, nonce: u64) -> ChannelId {
    ChannelId(keccak256(&[&payer.0, &payee.0, &nonce.to_le_bytes()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SignedTx {
        let key = SecretKey::from_bytes(&[7; 32]).unwrap();
        let payload = Payload::Transfer { to: Address([9; 20]), amount: Amount::from_dn(5) };
        let tx = Tx {
            chain_id: 31,
            sender: key.address(),
            nonce: 3,
            expires_height: 90,
            fee: Amount::from_atto(1),
            payload,
        };
        tx.sign(&key)
    }

    #[test]
    fn a_signed_transaction_round_trips_and_verifies() {
        let tx = sample();
        assert_eq!(SignedTx::from_untrusted(&tx.to_bytes()), Ok(tx.clone()));
        assert_eq!(tx.verify_signature(), Ok(()));
        let json = serde_json::to_string(&tx).unwrap();
        assert_eq!(serde_json::from_str::<SignedTx>(&json).unwrap(), tx);
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let bytes = sample().to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let accepted = SignedTx::from_untrusted(&flipped).is_ok_and(|tx| tx.verify_signature().is_ok());
            assert!(!accepted, "bit {bit}");
        }
    }

    #[test]
    fn oversized_bytes_are_refused_unread() {
        let found = MAX_TX_BYTES + 1;
        assert_eq!(
            SignedTx::from_untrusted(&vec![0; found]),
            Err(DecodeError::Count { at: 0, found, limit: MAX_TX_BYTES })
        );
    }
}
