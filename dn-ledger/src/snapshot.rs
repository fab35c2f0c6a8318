//! A state in pieces, each of which is proven on its own, for nodes that join without replaying the chain.
//!
//! The authenticated tree is cut into subtrees of at most about a mebibyte. The [`Manifest`] lists their roots, from left to right; together
//! they give the state root of a header. A [`Chunk`] is one subtree's entries; they give its root. So a liar is found out at the
//! manifest or at the first wrong chunk, chunks may come in any order from anybody, and a restore can go on where it stopped.

use dn_core::{Canonical, Hash32, canonical_struct};

use crate::light::LightBlock;
use crate::state::{CorruptState, LeafHash, State, Tree, bit, branch_hash, check_entry, subtree_hash};

/// Bytes of entries at which a subtree is taken apart.
pub const CHUNK_BYTES: usize = 1024 * 1024 - 4096;
/// The most bytes of a chunk: one single record may be larger than [`CHUNK_BYTES`].
pub const MAX_CHUNK_BYTES: usize = 8 * 1024 * 1024;
/// The most bytes of a manifest.
pub const MAX_MANIFEST_BYTES: usize = 16 * 1024 * 1024;
const MAX_DEPTH: u16 = 256;

/// A subtree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Branches above it.
    pub depth: u16,
    /// Its root.
    pub hash: Hash32,
}
canonical_struct!(Piece { depth: u16, hash: Hash32 });

/// What a snapshot consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The block after which the state is as the snapshot has it.
    pub block: LightBlock,
    /// The subtrees, from left to right.
    pub pieces: Vec<Piece>,
}
canonical_struct!(Manifest { block: LightBlock, pieces: Vec<Piece> });

/// The entries of one subtree, in the order of their keys' hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Keys and values.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
}
canonical_struct!(Chunk { entries: Vec<(Vec<u8>, Vec<u8>)> });

/// Why a snapshot is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Subtrees that do not cover the tree, each part once.
    #[error("snapshot: piece {index} at depth {depth} does not continue the tree")]
    Shape {
        /// Its place; one past the last if pieces are missing.
        index: usize,
        /// Its depth.
        depth: u16,
    },
    /// Subtrees of another state.
    #[error("snapshot: the pieces give state root {found}; header {height} says {expected}")]
    Root {
        /// The header.
        height: u64,
        /// What it says.
        expected: Hash32,
        /// What the pieces give.
        found: Hash32,
    },
    /// No such chunk.
    #[error("snapshot: chunk {index} of {count}")]
    Index {
        /// What was asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// Entries out of order, or outside of the subtree.
    #[error("snapshot: chunk {index}: entry {entry} is out of place")]
    Order {
        /// The chunk.
        index: usize,
        /// The entry.
        entry: usize,
    },
    /// Entries of another state.
    #[error("snapshot: chunk {index} hashes to {found}; {expected} expected")]
    Chunk {
        /// The chunk.
        index: usize,
        /// What the manifest says.
        expected: Hash32,
        /// What came.
        found: Hash32,
    },
    /// An entry that no table can read, though it is proven.
    #[error("snapshot: chunk {index}: {source}")]
    Corrupt {
        /// The chunk.
        index: usize,
        /// Why.
        source: CorruptState,
    },
}

impl Manifest {
    /// Checks that the pieces make up the state of the block's header. The header itself is verified by a light client.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn verify(&self) -> Result<(), SnapshotError> {
        let mut at = 0;
        let found = fold(&self.pieces, &mut at, 0)?;
        if let Some(piece) = self.pieces.get(at) {
            return Err(SnapshotError::Shape { index: at, depth: piece.depth });
        }
        let (expected, height) = (self.block.header.state, self.block.header.height);
        if found == expected { Ok(()) } else { Err(SnapshotError::Root { height, expected, found }) }
    }

    /// Checks a chunk of a verified manifest.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn verify_chunk(&self, index: usize, chunk: &Chunk) -> Result<(), SnapshotError> {
        let count = self.pieces.len();
        let piece = self.pieces.get(index).ok_or(SnapshotError::Index { index, count })?;
        let leaves: Vec<_> = chunk.entries.iter().map(|(key, value)| LeafHash::of(key, value)).collect();
        let same = |a: &LeafHash, b: &LeafHash| {
            (0..usize::from(piece.depth)).all(|at| bit(&a.key, at) == bit(&b.key, at))
        };
        let misplaced = |pair: &[LeafHash]| pair[0].key >= pair[1].key || !same(&pair[0], &pair[1]);
        if let Some(at) = leaves.windows(2).position(misplaced) {
            return Err(SnapshotError::Order { index, entry: at + 1 });
        }
        let (expected, found) = (piece.hash, subtree_hash(&leaves, piece.depth));
        if expected != found {
            return Err(SnapshotError::Chunk { index, expected, found });
        }
        for (key, value) in &chunk.entries {
            check_entry(key, value).map_err(|source| SnapshotError::Corrupt { index, source })?;
        }
        Ok(())
    }
}

fn fold(pieces: &[Piece], at: &mut usize, depth: u16) -> Result<Hash32, SnapshotError> {
    let index = *at;
    match pieces.get(index) {
        Some(piece) if piece.depth == depth => {
            *at += 1;
            Ok(piece.hash)
        }
        Some(piece) if piece.depth > depth && piece.depth <= MAX_DEPTH => {
            let left = fold(pieces, at, depth + 1)?;
            Ok(branch_hash(left, fold(pieces, at, depth + 1)?))
        }
        other => Err(SnapshotError::Shape { index, depth: other.map_or(depth, |piece| piece.depth) }),
    }
}

/// A state that is ready to be written out.
#[derive(Debug)]
pub struct Export {
    /// What it consists of.
    pub manifest: Manifest,
    entries: Vec<(Hash32, Vec<u8>, Vec<u8>)>,
    ranges: Vec<std::ops::Range<usize>>,
}

impl Export {
    /// Cuts up the entries of the state with this tree, which is the one after the block.
    pub fn new(
        block: LightBlock,
        tree: &Tree,
        entries: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
    ) -> Self {
        Self::with_limit(block, tree, entries, CHUNK_BYTES)
    }

    /// The same, taking subtrees apart that hold more than `limit` bytes.
    pub fn with_limit(
        block: LightBlock,
        tree: &Tree,
        entries: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
        limit: usize,
    ) -> Self {
        let hashed =
            entries.into_iter().map(|(key, value)| (Hash32(dn_core::keccak256(&[&key])), key, value));
        let mut entries: Vec<_> = hashed.collect();
        entries.sort_unstable_by_key(|(hash, ..)| *hash);
        let keys: Vec<_> = entries.iter().map(|(hash, ..)| *hash).collect();
        let mut ends = vec![0usize];
        for (_, key, value) in &entries {
            // Two counts of four bytes stand before key and value.
            ends.push(ends.last().map_or(0, |end| end + 8 + key.len() + value.len()));
        }
        let cuts = tree.cut(&keys, &|range| ends[range.end] - ends[range.start] > limit);
        let pieces = cuts.iter().map(|cut| Piece { depth: cut.depth, hash: cut.hash }).collect();
        let ranges = cuts.into_iter().map(|cut| cut.keys).collect();
        Self { manifest: Manifest { block, pieces }, entries, ranges }
    }

    /// Cuts up a whole state, which has no pending changes.
    pub fn of_state(block: LightBlock, state: &State) -> Self {
        let entries = state.entries().map(|(key, value)| (key.to_vec(), value.to_vec()));
        Self::new(block, state.sealed(), entries)
    }

    /// The canonical bytes of each chunk, in order.
    pub fn chunks(&self) -> impl Iterator<Item = Vec<u8>> {
        self.ranges.iter().map(|range| {
            let entries = self.entries[range.clone()].iter();
            let entries = entries.map(|(_, key, value)| (key.clone(), value.clone())).collect();
            Chunk { entries }.to_bytes()
        })
    }
}
