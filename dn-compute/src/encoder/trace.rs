//! What a receipt can bind of an embedding.
//!
//! # Meaning
//! The leaf of a position is `BLAKE3("deepnode encoder position v1\0" ‖ position u32 ‖ token u32 ‖ n u32 ‖ h[0] ‖ .. ‖ h[n-1])`: `h[0]` is the
//! BLAKE3 of the normalised sum of the position's embeddings (its row of f32, little-endian), `h[i]` of the row after layer `i - 1`. One more
//! leaf follows the last position's: `BLAKE3("deepnode embedding v1\0" ‖ pooling u8 ‖ n u32 ‖ v[0] i32 ‖ .. ‖ v[n-1] i32)`, integers little-endian. The root is
//! the Keccak Merkle root ([`dn_core::merkle`]) over all leaves. Their number is that of the tokens and one.

use dn_core::Hash32;
use dn_core::merkle::{InclusionProof, MerkleTree};

use crate::spec::pool::Pooling;

/// The leaves of one embedding: one per position, and that of the pooled vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingTrace {
    leaves: Vec<Hash32>,
}

impl EmbeddingTrace {
    /// The leaves; the last is the pooled vector's.
    pub fn leaves(&self) -> &[Hash32] {
        &self.leaves
    }

    /// The commitment.
    pub fn root(&self) -> Hash32 {
        self.tree().root()
    }

    /// The proof of one leaf, or `None` past the last.
    pub fn prove(&self, leaf: u32) -> Option<InclusionProof> {
        self.tree().prove(leaf.into())
    }

    /// The first leaf that differs from what another computed, if one does.
    pub fn first_difference(&self, other: &[Hash32]) -> Option<usize> {
        let common = self.leaves.iter().zip(other).position(|(a, b)| a != b);
        let (ours, theirs) = (self.leaves.len(), other.len());
        common.or_else(|| (ours != theirs).then(|| ours.min(theirs)))
    }

    fn tree(&self) -> MerkleTree {
        MerkleTree::new(self.leaves.iter().map(|leaf| leaf.0))
    }
}

/// The leaf of a pooled vector.
pub fn vector_leaf(pooling: Pooling, vector: &[i32]) -> Hash32 {
    let mut leaf = blake3::Hasher::new();
    leaf.update(b"deepnode embedding v1\0");
    leaf.update(&[match pooling {
        Pooling::Mean => 0,
        Pooling::First => 1,
    }]);
    leaf.update(&(vector.len() as u32).to_le_bytes());
    for v in vector {
        leaf.update(&v.to_le_bytes());
    }
    Hash32(*leaf.finalize().as_bytes())
}

/// Collects the hashes of the positions of some texts while they run through the layers.
#[derive(Debug)]
pub(super) struct Leaves {
    positions: Vec<blake3::Hasher>,
    bytes: Vec<u8>,
}

impl Leaves {
    /// Starts the leaves of positions with these tokens, each of which will get `boundaries` hashes.
    pub(super) fn new(tokens: &[u32], positions: &[u32], boundaries: u32) -> Self {
        let start = |(token, position): (&u32, &u32)| {
            let mut leaf = blake3::Hasher::new();
            leaf.update(b"deepnode encoder position v1\0");
            leaf.update(&position.to_le_bytes());
            leaf.update(&token.to_le_bytes());
            leaf.update(&boundaries.to_le_bytes());
            leaf
        };
        Self { positions: tokens.iter().zip(positions).map(start).collect(), bytes: Vec::new() }
    }

    /// Adds the rows at a layer boundary, one per position.
    pub(super) fn boundary(&mut self, x: &[f32]) {
        let width = x.len() / self.positions.len();
        for (leaf, row) in self.positions.iter_mut().zip(x.chunks_exact(width)) {
            self.bytes.clear();
            self.bytes.extend(row.iter().flat_map(|v| v.to_le_bytes()));
            leaf.update(blake3::hash(&self.bytes).as_bytes());
        }
    }

    /// The trace of the text whose positions are `range`.
    pub(super) fn finish(&self, range: std::ops::Range<usize>, vector: Hash32) -> EmbeddingTrace {
        let positions = self.positions[range].iter().map(|leaf| Hash32(*leaf.finalize().as_bytes()));
        EmbeddingTrace { leaves: positions.chain([vector]).collect() }
    }
}
