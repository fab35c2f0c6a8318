//! The trace commitment: what a receipt binds of the computation.
//!
//! # Meaning
//! A position's leaf is `BLAKE3("deepnode position v1\0" ‖ position u32 ‖ token u32 ‖ n u32 ‖ h[0] ‖ .. ‖ h[n-1] ‖ g)`: `h[0]` is the
//! BLAKE3 of the embedded token (its row of f32, little-endian), `h[i]` of the residual stream after layer `i - 1`,
//! and `g` one byte 1 and the BLAKE3 of the logits where the position chooses an output token, or one byte 0
//! (positions of the prompt but its last). The trace root is the Keccak Merkle root ([`dn_core::merkle`]) over the leaves of all
//! positions that were fed: prompt and output without the last output token.

use dn_core::Hash32;
use dn_core::merkle::{InclusionProof, MerkleTree};
use rayon::prelude::*;

/// The leaves of a computation, one per position fed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trace {
    leaves: Vec<Hash32>,
}

impl Trace {
    /// The leaves, in the order of positions.
    pub fn leaves(&self) -> &[Hash32] {
        &self.leaves
    }

    /// The commitment.
    pub fn root(&self) -> Hash32 {
        self.tree().root()
    }

    /// The proof of one position's leaf, or `None` when it was not fed.
    pub fn prove(&self, position: u32) -> Option<InclusionProof> {
        self.tree().prove(position.into())
    }

    /// The first position at which two traces differ, if they do.
    pub fn first_difference(&self, other: &[Hash32]) -> Option<u32> {
        let common = self.leaves.iter().zip(other).position(|(a, b)| a != b);
        let at = match common {
            Some(at) => at,
            None if self.leaves.len() == other.len() => return None,
            None => self.leaves.len().min(other.len()),
        };
        u32::try_from(at).ok()
    }

    fn tree(&self) -> MerkleTree {
        MerkleTree::new(self.leaves.iter().map(|leaf| leaf.0))
    }
}

/// Collects the hashes of some consecutive positions while a chunk runs through the layers.
#[derive(Debug)]
pub(crate) struct ChunkTrace {
    leaves: Vec<blake3::Hasher>,
    parallel: bool,
}

impl ChunkTrace {
    /// Starts the leaves of `tokens` at positions from `first`, each of which will get `boundaries` hashes.
    ///
    /// `parallel`: rows may be hashed on the threads of the pool that calls.
    pub(crate) fn new(first: u32, tokens: &[u32], boundaries: u32, parallel: bool) -> Self {
        let start = |(offset, token): (usize, &u32)| {
            let mut leaf = blake3::Hasher::new();
            leaf.update(b"deepnode position v1\0");
            leaf.update(&(first + offset as u32).to_le_bytes());
            leaf.update(&token.to_le_bytes());
            leaf.update(&boundaries.to_le_bytes());
            leaf
        };
        Self { leaves: tokens.iter().enumerate().map(start).collect(), parallel }
    }

    /// Adds the residual stream at a layer boundary, one row per position.
    pub(crate) fn boundary(&mut self, x: &[f32]) {
        let width = x.len() / self.leaves.len();
        self.rows(0, x, width, &[]);
    }

    /// Adds the logits of the positions from `first` in the chunk, one row per position.
    pub(crate) fn logits(&mut self, first: usize, logits: &[f32], vocabulary: usize) {
        self.rows(first, logits, vocabulary, &[1]);
    }

    /// Adds `tag` and the hash of a row to each leaf from `first`.
    fn rows(&mut self, first: usize, x: &[f32], width: usize, tag: &[u8]) {
        let count = x.len() / width;
        let one = |bytes: &mut Vec<u8>, (leaf, row): (&mut blake3::Hasher, &[f32])| {
            bytes.resize(row.len() * 4, 0);
            for (four, x) in bytes.chunks_exact_mut(4).zip(row) {
                four.copy_from_slice(&x.to_le_bytes());
            }
            leaf.update(tag);
            leaf.update(blake3::hash(bytes).as_bytes());
        };
        let leaves = &mut self.leaves[first..first + count];
        if self.parallel && count > 1 {
            let rows = leaves.par_iter_mut().zip(x.par_chunks_exact(width)).with_min_len(8);
            rows.for_each_init(Vec::new, one);
        } else {
            let mut bytes = Vec::new();
            leaves.iter_mut().zip(x.chunks_exact(width)).for_each(|row| one(&mut bytes, row));
        }
    }

    /// Closes the leaves, of which the first `without` positions have no logits.
    pub(crate) fn finish(mut self, without: usize, trace: &mut Trace) {
        for leaf in &mut self.leaves[..without] {
            leaf.update(&[0]);
        }
        trace.leaves.extend(self.leaves.iter().map(|leaf| Hash32(*leaf.finalize().as_bytes())));
    }
}
