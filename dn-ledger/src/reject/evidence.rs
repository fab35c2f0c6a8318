//! Why evidence is refused.

use dn_core::Address;
use serde::{Deserialize, Serialize};

/// A rule of evidence that refuses a transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "fault", rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "each message names its fields")]
pub enum EvidenceFault {
    /// The offender reports itself to keep the reporter's part.
    #[error("{validator} cannot report itself")]
    Own { validator: Address },
    /// Messages that an honest validator may sign both.
    #[error(
        "the messages do not conflict: one step of one round of one height, and different content, expected"
    )]
    NoConflict {},
    /// Messages about a height that is not reached.
    #[error("the messages are of height {found}; the block is at {height}")]
    Future { height: u64, found: u64 },
    /// Messages from before the unbonding time: what was at stake may be free.
    #[error("the messages are of epoch {found}; {oldest} is the oldest that is still bonded")]
    TooOld { oldest: u64, found: u64 },
    /// An offence of a validator that was punished, for this height or another one.
    #[error("{validator} was punished already and is out for good: messages of height {height} add nothing")]
    Known { validator: Address, height: u64 },
}
