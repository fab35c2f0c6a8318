//! Why a node does not let a transaction wait for a block.

use dn_core::{Address, Amount};
use serde::{Deserialize, Serialize};

/// Why a node does not let a transaction wait for a block, though no rule of the chain refuses it: the `data` of the error that it
/// answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "each message names its fields")]
pub enum PoolRefusal {
    /// Another transaction of the sender waits with this nonce, and this one does not pay enough more.
    #[error(
        "another transaction of the sender waits with nonce {nonce}; a fee of {minimum} DN replaces it, not {found} DN"
    )]
    Underpriced { nonce: u64, minimum: Amount, found: Amount },
    /// The nonce is too far ahead of the account's.
    #[error("nonce {found}; {expected} is next, and at most {limit} transactions may wait from there on")]
    TooFarAhead { expected: u64, limit: u64, found: u64 },
    /// Too many wait behind a gap in the sender's nonces.
    #[error("nonce {found}; {missing} is missing, and at most {limit} transactions may wait behind a gap")]
    Gapped { missing: u64, limit: u64, found: u64 },
    /// The sender cannot pay the fees of all that it has waiting.
    #[error("the sender's waiting transactions have fees of {needed} DN; it holds {available} DN")]
    Unfunded { available: Amount, needed: Amount },
    /// Another one's report of the same validator waits, which only its reward would pay as well.
    #[error("a report of {validator} waits already, and nobody is punished twice")]
    Reported { validator: Address },
}
