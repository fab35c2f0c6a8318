//! What travels beside votes: blocks in signed parts of bounded size, and transactions that wait for a block.
//!
//! A block is its proposer's choice for a round, but whoever has it may pass it on in a later round; so every part is signed by
//! its publisher, who must be a validator of the height. Parts are put together by publisher, round and block: nobody can spoil what
//! another one publishes. What a publisher can make others keep is bounded.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use dn_core::{Canonical, SecretKey, keccak256};
use malachite_types::Round;

use super::context::{BlockId, Ctx, Height, Id, Sig};
use crate::block::{Block, tx_root};

/// The most bytes of a block in one part.
pub(crate) const MAX_PART_BYTES: usize = 64 * 1024;
/// How many heights ahead of the tip parts are kept.
const MAX_HEIGHTS_AHEAD: u64 = 4;
/// The most blocks that one publisher may have in pieces at once.
const MAX_OPEN_PER_PUBLISHER: usize = 2;

/// What one message of the proposal channel carries.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) enum Part {
    /// A piece of a block.
    Chunk(Box<Chunk>),
    /// Canonical signed transactions: the engine's network has no channel of its own for them.
    Txs(Vec<Vec<u8>>),
}

impl malachite_types::ProposalPart<Ctx> for Part {
    fn is_first(&self) -> bool {
        matches!(self, Self::Chunk(chunk) if chunk.index == 0)
    }

    fn is_last(&self) -> bool {
        matches!(self, Self::Chunk(chunk) if chunk.is_last())
    }
}

/// Where and by whom a block is proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub(crate) struct Place {
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) valid_round: Round,
    /// Whose turn the round is.
    pub(crate) proposer: Id,
    pub(crate) block: BlockId,
}

/// A piece of a block.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Chunk {
    pub(crate) place: Place,
    pub(crate) index: u32,
    pub(crate) count: u32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) publisher: Id,
    pub(crate) signature: Sig,
}

impl Chunk {
    /// Whether no piece follows. A peer may name any number, the greatest too.
    fn is_last(&self) -> bool {
        self.index.checked_add(1) == Some(self.count)
    }

    fn digest(&self, chain_id: u64) -> [u8; 32] {
        let head = (chain_id, &self.place, self.index, self.count);
        let head = borsh::to_vec(&head).expect("memory takes every byte");
        keccak256(&[b"DeepNode block part v1", &head, &keccak256(&[&self.bytes])])
    }
}

/// Cuts a block's bytes into signed parts.
pub(crate) fn cut(chain_id: u64, place: Place, bytes: &[u8], key: &SecretKey) -> Vec<Chunk> {
    let pieces: Vec<_> = bytes.chunks(MAX_PART_BYTES).collect();
    let count = u32::try_from(pieces.len()).expect("a block is far smaller than 2^48 bytes");
    let sign = |(index, piece): (u32, &&[u8])| {
        let (bytes, publisher) = (piece.to_vec(), key.address().into());
        let mut chunk = Chunk { place, index, count, bytes, publisher, signature: Sig([0; 65]) };
        chunk.signature = key.sign(&chunk.digest(chain_id)).into();
        chunk
    };
    (0u32..).zip(&pieces).map(sign).collect()
}

/// A block as it was proposed, not validated yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) place: Place,
    pub(crate) publisher: Id,
    pub(crate) block: Block,
}

impl Received {
    /// Decodes a block that claims to be at this place. Bytes that are not this block say nothing about it.
    pub(crate) fn decode(place: Place, publisher: Id, bytes: &[u8]) -> Option<Self> {
        let block = Block::from_bytes(bytes).ok()?;
        let complete = BlockId::from(block.header.hash()) == place.block
            && block.header.height == place.height.0
            && tx_root(&block.txs) == block.header.tx_root
            && block.parent_certificate.hash() == block.header.parent_certificate;
        complete.then_some(Self { place, publisher, block })
    }
}

/// Why a part is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PartError {
    #[error("height {found}; {first} to {last} expected")]
    Height { first: u64, last: u64, found: u64 },
    #[error("part {index} of {count}, {bytes} bytes; at most {limit} parts of {MAX_PART_BYTES}")]
    Shape { index: u32, count: u32, bytes: usize, limit: u32 },
    #[error("not signed by its publisher")]
    Signature,
    #[error("the parts are not the block that they claim to be")]
    Content,
}

#[derive(Debug)]
struct Open {
    pieces: BTreeMap<u32, Vec<u8>>,
    count: u32,
    arrival: u64,
}

/// Blocks in pieces.
#[derive(Debug)]
pub(crate) struct Assembly {
    chain_id: u64,
    max_block_bytes: usize,
    open: BTreeMap<(Id, Place), Open>,
    arrivals: u64,
}

impl Assembly {
    /// An empty one for blocks of at most this many bytes.
    pub(crate) fn new(chain_id: u64, max_block_bytes: usize) -> Self {
        Self { chain_id, max_block_bytes, open: BTreeMap::new(), arrivals: 0 }
    }

    /// Takes in a part; the block, once it is complete. `tip` is the height that is decided.
    pub(crate) fn add(
        &mut self,
        chunk: Chunk,
        tip: u64,
        is_validator: impl Fn(Id) -> bool,
    ) -> Result<Option<Received>, PartError> {
        self.check_shape(&chunk, tip)?;
        let (key, count) = ((chunk.publisher, chunk.place), chunk.count);
        let known = self.open.get(&key).is_some_and(|open| open.pieces.contains_key(&chunk.index));
        if known {
            return Ok(None);
        }
        let signed = is_validator(chunk.publisher)
            && chunk.signature.verifies(&chunk.digest(self.chain_id), chunk.publisher);
        if !signed {
            return Err(PartError::Signature);
        }
        if !self.open.contains_key(&key) {
            self.make_room(chunk.publisher);
        }
        self.arrivals += 1;
        let fresh = Open { pieces: BTreeMap::new(), count, arrival: self.arrivals };
        let open = self.open.entry(key).or_insert(fresh);
        if open.count != count {
            return Err(PartError::Content);
        }
        open.pieces.insert(chunk.index, chunk.bytes);
        if open.pieces.len() < count as usize {
            return Ok(None);
        }
        let open = self.open.remove(&key).expect("it was just filled");
        let bytes: Vec<u8> = open.pieces.into_values().flatten().collect();
        Received::decode(chunk.place, chunk.publisher, &bytes).map(Some).ok_or(PartError::Content)
    }

    /// Forgets what is decided.
    pub(crate) fn prune(&mut self, tip: u64) {
        self.open.retain(|(_, place), _| place.height.0 > tip);
    }

    fn check_shape(&self, chunk: &Chunk, tip: u64) -> Result<(), PartError> {
        let (first, last, found) = (tip + 1, tip + MAX_HEIGHTS_AHEAD, chunk.place.height.0);
        if !(first..=last).contains(&found) {
            return Err(PartError::Height { first, last, found });
        }
        let limit = u32::try_from(self.max_block_bytes.div_ceil(MAX_PART_BYTES)).unwrap_or(u32::MAX);
        let (index, count, bytes) = (chunk.index, chunk.count, chunk.bytes.len());
        let full = chunk.is_last() || bytes == MAX_PART_BYTES;
        if count > limit || index >= count || bytes > MAX_PART_BYTES || !full {
            return Err(PartError::Shape { index, count, bytes, limit });
        }
        Ok(())
    }

    /// A publisher's oldest block in pieces makes room for its newest: an honest one publishes one at a time.
    fn make_room(&mut self, publisher: Id) {
        let own = self.open.iter().filter(|((who, _), _)| *who == publisher);
        let mut own: Vec<_> = own.map(|(key, open)| (open.arrival, *key)).collect();
        if own.len() >= MAX_OPEN_PER_PUBLISHER {
            own.sort_unstable();
            self.open.remove(&own[0].1);
        }
    }
}

#[cfg(test)]
mod tests;
