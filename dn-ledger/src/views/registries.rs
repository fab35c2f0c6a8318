//! Identity, reputation and validation in the shape of ERC-8004 ("Trustless Agents", the draft of October 2025): its field names, this ledger's facts.
//!
//! An agent is an identity in a role; `agentId` is its address as a decimal number, which every 256-bit reader takes.

use dn_core::{Address, BatchId, Hash32, ModelId};
use dn_trust::Trust;
use serde::{Deserialize, Serialize};

use super::{Cursor, IndicatorView};
use crate::tx::Role;
use crate::validators::ValidatorSet;

/// `dn_agent`: the identity registry's entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AgentView {
    /// The identity's number.
    pub agent_id: String,
    /// Its name here.
    pub agent_domain: String,
    /// Where it is reached.
    #[serde(rename = "agentURI")]
    pub agent_uri: String,
    /// Its address.
    pub agent_address: Address,
    /// Its roles.
    pub roles: Vec<Role>,
}

/// `dn_agentReputation`: the reputation registry's summary and newest feedback of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ReputationView {
    /// The identity's number.
    pub agent_id: String,
    /// How much feedback there is.
    pub count: u64,
    /// The mean score, rounded down; 0 without feedback.
    pub average_score: u8,
    /// The newest, newest first.
    pub feedback: Vec<FeedbackView>,
    /// What to ask for older ones; none when there are none.
    pub next: Option<Cursor>,
}

/// One payer's feedback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct FeedbackView {
    /// Who paid.
    pub client_address: Address,
    /// What authorises the feedback: the paid receipt, as batch and place.
    pub feedback_auth: FeedbackAuthView,
    /// From 0 to 100.
    pub score: u8,
    /// The payer's word for what was scored.
    pub tag1: String,
    /// The model.
    pub tag2: ModelId,
    /// Hash of a longer text; zero where there is none.
    pub feedback_hash: Hash32,
    /// Feedback stands.
    pub is_revoked: bool,
}

/// The receipt that authorises feedback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct FeedbackAuthView {
    /// Its batch.
    pub batch: BatchId,
    /// Its place there.
    pub index: u32,
    /// Who signed: the payer or its spender.
    pub signer: Address,
}

/// `dn_agentValidations`: the validation registry's summary and newest entries of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ValidationsView {
    /// The identity's number.
    pub agent_id: String,
    /// Entries with a response among those listed.
    pub count: u64,
    /// Their mean response, rounded down; 0 without any.
    pub avg_response: u8,
    /// The newest batches' audits.
    pub validations: Vec<ValidationView>,
    /// What to ask for those of older batches; none when there are none.
    pub next: Option<Cursor>,
}

/// One receipt's audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ValidationView {
    /// Keccak-256 of batch and place: what was to be validated.
    pub request_hash: Hash32,
    /// Who validates.
    pub validator_address: Address,
    /// Whose work it is.
    pub agent_id: String,
    /// 100: every bit right; 0: fraud; absent while it is open or decided nothing.
    pub response: Option<u8>,
    /// `exact-replay`.
    pub tag: String,
    /// The batch.
    pub batch: BatchId,
    /// The receipt's place in it.
    pub index: u32,
}

/// `dn_modelTrust`: how far a model is trusted, and what its payers say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelTrustView {
    /// The model.
    pub model: ModelId,
    /// The first epoch that is not in trust and indicators: the one after the last in which the model worked or was heard of. Epochs without either make the record
    /// weaker when the next one with some is closed.
    pub from_epoch: u64,
    /// The weight.
    pub trust: Trust,
    /// The indicators by name.
    pub indicators: Vec<IndicatorView>,
    /// Feedback on it.
    pub feedback_count: u64,
    /// Its mean score, rounded down.
    pub feedback_average: Option<u8>,
}

/// `dn_qualityRounds`: an open quality round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QualityRoundView {
    /// The round.
    pub round: Hash32,
    /// The domain.
    pub domain: u32,
    /// Whose models.
    pub owner: Address,
    /// Who sets the task.
    pub setter: Address,
    /// Who scores.
    pub committee: Vec<Address>,
    /// Whether it is sealed.
    pub sealed: bool,
    /// Last height to seal at.
    pub seal_until: u64,
    /// Last height to commit at.
    pub commit_until: u64,
    /// Last height to reveal at.
    pub reveal_until: u64,
    /// Last height to open the seal at.
    pub open_until: u64,
}

/// `dn_beacon`: the randomness of the tip, and what turns are drawn from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BeaconView {
    /// The tip.
    pub height: u64,
    /// Its randomness.
    pub beacon: Hash32,
    /// What the next block's turns are drawn from.
    pub turn_seed: Hash32,
    /// Who was elected and does not decide yet.
    pub election: Option<ElectionView>,
}

/// A set that was elected and waits for the seed of its turns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ElectionView {
    /// The last block of the set before; its beacon is the seed.
    pub last_height: u64,
    /// Who decides from the next block on; empty if nobody could be elected, and the set before goes on.
    pub set: ValidatorSet,
}
