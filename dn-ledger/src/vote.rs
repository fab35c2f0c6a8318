//! What validators sign in consensus: votes and proposals. Certificates are made of them, and so is evidence.

use dn_core::{BlockHash, Canonical, canonical_enum, canonical_struct, keccak256};
use serde::{Deserialize, Serialize};

/// The step of a round that a vote belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum VoteKind {
    /// The block is valid.
    Prevote,
    /// A quorum found it valid.
    Precommit,
}
canonical_enum!(VoteKind { 0 => Prevote {}, 1 => Precommit {} });

/// A validator's vote. An honest one signs at most one for each kind, height and round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// The chain.
    pub chain_id: u64,
    /// The height.
    pub height: u64,
    /// The round.
    pub round: u32,
    /// The step.
    pub kind: VoteKind,
    /// The block; none is a vote for no block in this round.
    pub block: Option<BlockHash>,
}
canonical_struct!(Vote { chain_id: u64, height: u64, round: u32, kind: VoteKind, block: Option<BlockHash> });

impl Vote {
    /// What its validator signs: `keccak("DeepNode vote v1" ‖ canonical Vote)`.
    pub fn digest(&self) -> [u8; 32] {
        keccak256(&[b"DeepNode vote v1", &self.to_bytes()])
    }
}

/// A proposer's choice. An honest one signs at most one for each height and round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RoundProposal {
    /// The chain.
    pub chain_id: u64,
    /// The height.
    pub height: u64,
    /// The round.
    pub round: u32,
    /// The block.
    pub block: BlockHash,
    /// The earlier round in which a quorum found the block valid, if it is proposed again.
    pub valid_round: Option<u32>,
}
canonical_struct!(RoundProposal {
    chain_id: u64,
    height: u64,
    round: u32,
    block: BlockHash,
    valid_round: Option<u32>
});

impl RoundProposal {
    /// What the proposer signs: `keccak("DeepNode proposal v1" ‖ canonical RoundProposal)`.
    pub fn digest(&self) -> [u8; 32] {
        keccak256(&[b"DeepNode proposal v1", &self.to_bytes()])
    }
}
