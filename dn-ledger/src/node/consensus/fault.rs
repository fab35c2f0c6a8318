//! Validators that misbehave, for tests of the others (feature `faults`).

use super::parts::Chunk;
use crate::block::Block;

/// What a node does wrong whenever it is its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Proposes nothing.
    Silent,
    /// Proposes a block with another state than its transactions give.
    WrongState,
    /// Proposes a block from an hour ahead.
    Future,
    /// Keeps the last part of each block to itself.
    Withhold,
    /// Publishes parts that are not the block that they claim to be.
    Garbage,
}

impl Fault {
    /// Spoils a block that was just built.
    pub(crate) fn spoil(self, block: &mut Block) {
        match self {
            Self::WrongState => block.header.state.0[0] ^= 1,
            Self::Future => block.header.time_ms += 3_600_000,
            Self::Silent | Self::Withhold | Self::Garbage => {}
        }
    }

    /// Spoils the parts of a block before they are signed.
    pub(crate) fn spoil_bytes(self, bytes: &mut [u8]) {
        if self == Self::Garbage {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
        }
    }

    /// Whether a part is published.
    pub(crate) fn publishes(self, chunk: &Chunk) -> bool {
        self != Self::Withhold || chunk.index + 1 < chunk.count
    }
}
