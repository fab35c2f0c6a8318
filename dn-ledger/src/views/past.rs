//! What a node no longer has.

use serde::{Deserialize, Serialize};

/// A height was asked for that the node holds no block and no events of any more: the `data` of the error that it answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("block {height} is pruned; the first held is {first_block}")]
pub struct Pruned {
    /// The height that was asked for.
    pub height: u64,
    /// The first height whose block and events the node holds.
    pub first_block: u64,
}
