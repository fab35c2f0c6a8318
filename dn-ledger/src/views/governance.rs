//! Views of sessions, proposals and upgrades.

use dn_core::{Address, Amount, ModelId};
use serde::{Deserialize, Serialize};

use crate::state::{ProposalStatus, Tally, Upgrade, VotingRules};
use crate::tx::ProposalKind;

/// Stake that moved to another pool and still answers for the old validator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RedelegationView {
    /// The pool that it left; that validator's slashes still reach it.
    pub from: Address,
    /// The pool that it is in.
    pub to: Address,
    /// What it is worth now.
    pub value: Amount,
    /// First epoch in which it is plain shares; the holder's next withdrawal or unbonding makes it so.
    pub release_epoch: u64,
}

/// `dn_sessions`: what a key may spend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionView {
    /// Whose channels are spent from.
    pub owner: Address,
    /// The key.
    pub session: Address,
    /// The newest grant; earlier ones are void.
    pub serial: u64,
    /// When the owner took it back: last height at which claims are taken.
    pub until_height: Option<u64>,
    /// The most that one call may cost.
    pub per_call: Amount,
    /// The most that may be spent in all.
    pub total: Amount,
    /// What was spent.
    pub spent: Amount,
    /// Models that may be called; none means every model.
    pub models: Vec<ModelId>,
    /// Last millisecond at which it may spend.
    pub expires_ms: u64,
}

/// `dn_proposal`, `dn_proposals`: a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProposalView {
    /// Its number.
    pub id: u64,
    /// Who proposed it.
    pub proposer: Address,
    /// Its title.
    pub title: String,
    /// Its text.
    pub text: String,
    /// What it does.
    pub kind: ProposalKind,
    /// When it was submitted.
    pub submitted_height: u64,
    /// The deposit that it needs to be voted on.
    pub needed: Amount,
    /// Its deposit; none once voting has ended.
    pub deposit: Amount,
    /// Where it stands.
    pub status: ProposalStatus,
    /// What decides the vote, as in force when voting began; none before.
    pub rules: Option<VotingRules>,
    /// The votes: as they stand, or as they stood when voting ended; none before voting.
    pub tally: Option<Tally>,
}

/// `dn_upgrades`: an upgrade that was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UpgradeView {
    /// First height of the new rules.
    pub height: u64,
    /// What it is.
    pub upgrade: Upgrade,
    /// Whether this node's software has it.
    pub supported: bool,
}
