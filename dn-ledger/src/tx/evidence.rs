//! Evidence of equivocation: two conflicting messages with one validator's signatures.

use dn_core::{Signature, canonical_enum};
use serde::{Deserialize, Serialize};

use crate::vote::{RoundProposal, Vote};

/// Two messages that no honest validator signs both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "conflict", rename_all = "snake_case")]
pub enum Evidence {
    /// Two votes of one kind in one round.
    Votes {
        /// One vote.
        first: Vote,
        /// Its signature.
        first_signature: Signature,
        /// Another.
        second: Vote,
        /// Its signature.
        second_signature: Signature,
    },
    /// Two proposals in one round.
    Proposals {
        /// One proposal.
        first: RoundProposal,
        /// Its signature.
        first_signature: Signature,
        /// Another.
        second: RoundProposal,
        /// Its signature.
        second_signature: Signature,
    },
}
canonical_enum!(Evidence {
    0 => Votes { first: Vote, first_signature: Signature, second: Vote, second_signature: Signature },
    1 => Proposals {
        first: RoundProposal,
        first_signature: Signature,
        second: RoundProposal,
        second_signature: Signature,
    },
});

impl Evidence {
    /// The chain and height of the first message.
    pub const fn place(&self) -> (u64, u64) {
        match self {
            Self::Votes { first, .. } => (first.chain_id, first.height),
            Self::Proposals { first, .. } => (first.chain_id, first.height),
        }
    }

    /// Whether the messages differ though they belong to one step of one round.
    pub fn conflicts(&self) -> bool {
        match self {
            Self::Votes { first: a, second: b, .. } => {
                (a.chain_id, a.height, a.round, a.kind) == (b.chain_id, b.height, b.round, b.kind)
                    && a.block != b.block
            }
            Self::Proposals { first: a, second: b, .. } => {
                (a.chain_id, a.height, a.round) == (b.chain_id, b.height, b.round) && a != b
            }
        }
    }

    /// What was signed, each with its signature.
    pub fn signed(&self) -> [([u8; 32], &Signature); 2] {
        match self {
            Self::Votes { first, first_signature, second, second_signature } => {
                [(first.digest(), first_signature), (second.digest(), second_signature)]
            }
            Self::Proposals { first, first_signature, second, second_signature } => {
                [(first.digest(), first_signature), (second.digest(), second_signature)]
            }
        }
    }
}
