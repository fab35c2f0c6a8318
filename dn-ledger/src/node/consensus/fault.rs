//! Validators that misbehave, for tests of the others (feature `faults`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use malachite_channel::app::types::SignedConsensusMsg;
use malachite_channel::app::types::codec::{Codec, HasEncodedLen};
use malachite_channel::app::types::streaming::StreamMessage;
use malachite_consensus::LivenessMsg;
use malachite_sync::{Request, Response, Status};
use malachite_types::{SignedVote, ValidatorProof};

use super::codec::Wire;
use super::context::Ctx;
use super::parts::{Chunk, Part};
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
    /// Publishes in place of each vote one that it signed a few heights before.
    StaleVotes,
    /// Its rules have a bug: they panic with a transfer to [`Fault::TRAP`].
    Panics,
}

impl Fault {
    /// Where transfers go with which [`Panics`](Self::Panics) panics.
    pub const TRAP: dn_core::Address = crate::chain::fault::TRAP;

    /// Has the rules panic on this thread, if that is the fault.
    pub(crate) fn set_trap(fault: Option<Self>) {
        use crate::chain::fault::{Trap, set};
        set(if fault == Some(Self::Panics) { Trap::InTx } else { Trap::Off });
    }

    /// Spoils a block that was just built.
    pub(crate) fn spoil(self, block: &mut Block) {
        match self {
            Self::WrongState => block.header.state.0[0] ^= 1,
            Self::Future => block.header.time_ms += 3_600_000,
            Self::Silent | Self::Withhold | Self::Garbage | Self::StaleVotes | Self::Panics => {}
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

/// Votes that stale ones lag behind: four heights of one round.
const LAG: usize = 8;

/// What a misbehaving node puts on the wire.
#[derive(Debug, Clone)]
pub(crate) struct Spoiled {
    fault: Option<Fault>,
    signed: Arc<Mutex<VecDeque<SignedVote<Ctx>>>>,
}

impl Spoiled {
    pub(crate) fn new(fault: Option<Fault>) -> Self {
        Self { fault, signed: Arc::default() }
    }

    fn vote(&self, vote: &SignedVote<Ctx>) -> SignedVote<Ctx> {
        let mut signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        signed.push_back(vote.clone());
        if signed.len() > LAG {
            signed.pop_front();
        }
        let stale = self.fault == Some(Fault::StaleVotes);
        signed.front().filter(|_| stale).unwrap_or(vote).clone()
    }
}

impl Codec<SignedConsensusMsg<Ctx>> for Spoiled {
    type Error = std::io::Error;

    fn decode(&self, bytes: Bytes) -> Result<SignedConsensusMsg<Ctx>, Self::Error> {
        Wire.decode(bytes)
    }

    fn encode(&self, message: &SignedConsensusMsg<Ctx>) -> Result<Bytes, Self::Error> {
        match message {
            SignedConsensusMsg::Vote(vote) => Wire.encode(&SignedConsensusMsg::Vote(self.vote(vote))),
            other => Wire.encode(other),
        }
    }
}

impl Codec<LivenessMsg<Ctx>> for Spoiled {
    type Error = std::io::Error;

    fn decode(&self, bytes: Bytes) -> Result<LivenessMsg<Ctx>, Self::Error> {
        Wire.decode(bytes)
    }

    fn encode(&self, message: &LivenessMsg<Ctx>) -> Result<Bytes, Self::Error> {
        match message {
            LivenessMsg::Vote(vote) => Wire.encode(&LivenessMsg::Vote(self.vote(vote))),
            other => Wire.encode(other),
        }
    }
}

macro_rules! unspoiled {
    ($($message:ty),* $(,)?) => {
        $(impl Codec<$message> for Spoiled {
            type Error = std::io::Error;

            fn decode(&self, bytes: Bytes) -> Result<$message, Self::Error> {
                Wire.decode(bytes)
            }

            fn encode(&self, message: &$message) -> Result<Bytes, Self::Error> {
                Wire.encode(message)
            }
        })*
    };
}
unspoiled!(Part, StreamMessage<Part>, ValidatorProof<Ctx>, Status<Ctx>, Request<Ctx>, Response<Ctx>,);

impl HasEncodedLen<Response<Ctx>> for Spoiled {
    fn encoded_len(&self, message: &Response<Ctx>) -> Result<usize, Self::Error> {
        Wire.encoded_len(message)
    }
}
