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
    /// Adds the leaves of positions that come next.
    pub(crate) fn extend(&mut self, leaves: impl IntoIterator<Item = Hash32>) {
        self.leaves.extend(leaves);
    }

    /// The trace of the first `positions` only.
    pub(crate) fn truncate(&mut self, positions: usize) {
        self.leaves.truncate(positions);
    }

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

/// Both forms of a position's leaf: which one a request's trace holds depends on where its prompt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Without logits: a position inside a prompt.
    pub(crate) plain: Hash32,
    /// What this request's trace holds.
    pub(crate) own: Hash32,
}

/// Collects the hashes of some positions while a step runs through the layers.
#[derive(Debug)]
pub(crate) struct StepTrace {
    leaves: Vec<blake3::Hasher>,
    logits: Vec<Option<blake3::Hash>>,
    parallel: bool,
}

/// Bytes hashed at a time: many enough for the hash's vector code, few enough for the first-level cache.
const PIECE: usize = 16 * 1024;

impl StepTrace {
    /// Starts the leaves of rows with these positions and tokens, each of which will get `boundaries` hashes.
    ///
    /// `parallel`: rows may be hashed on the threads of the pool that calls.
    pub(crate) fn new(positions: &[u32], tokens: &[u32], boundaries: u32, parallel: bool) -> Self {
        let start = |(position, token): (&u32, &u32)| {
            let mut leaf = blake3::Hasher::new();
            leaf.update(b"deepnode position v1\0");
            leaf.update(&position.to_le_bytes());
            leaf.update(&token.to_le_bytes());
            leaf.update(&boundaries.to_le_bytes());
            leaf
        };
        let leaves = positions.iter().zip(tokens).map(start).collect();
        Self { leaves, logits: vec![None; positions.len()], parallel }
    }

    /// Adds the residual stream at a layer boundary, one row per position.
    pub(crate) fn boundary(&mut self, x: &[f32]) {
        let width = x.len() / self.leaves.len();
        let one = |(leaf, row): (&mut blake3::Hasher, &[f32])| {
            leaf.update(hash_row(row).as_bytes());
        };
        if self.parallel && self.leaves.len() > 1 {
            self.leaves.par_iter_mut().zip(x.par_chunks_exact(width)).with_min_len(8).for_each(one);
        } else {
            self.leaves.iter_mut().zip(x.chunks_exact(width)).for_each(one);
        }
    }

    /// Adds the logits of these rows.
    pub(crate) fn logits(&mut self, rows: &[usize], logits: &[f32], vocabulary: usize) {
        let hashes: Vec<blake3::Hash> = if self.parallel && rows.len() > 1 {
            logits.par_chunks_exact(vocabulary).map(hash_row).collect()
        } else {
            logits.chunks_exact(vocabulary).map(hash_row).collect()
        };
        for (row, hash) in rows.iter().zip(hashes) {
            self.logits[*row] = Some(hash);
        }
    }

    /// Closes the leaves.
    pub(crate) fn finish(self) -> Vec<Leaf> {
        let close = |(mut leaf, logits): (blake3::Hasher, Option<blake3::Hash>)| {
            let plain = Hash32(*leaf.clone().update(&[0]).finalize().as_bytes());
            let own = logits.map(|hash| {
                leaf.update(&[1]).update(hash.as_bytes());
                Hash32(*leaf.finalize().as_bytes())
            });
            Leaf { plain, own: own.unwrap_or(plain) }
        };
        self.leaves.into_iter().zip(self.logits).map(close).collect()
    }
}

/// The BLAKE3 of a row of f32, little-endian.
fn hash_row(row: &[f32]) -> blake3::Hash {
    let mut bytes = [0u8; PIECE];
    let mut hasher = blake3::Hasher::new();
    for piece in row.chunks(PIECE / 4) {
        for (four, x) in bytes.chunks_exact_mut(4).zip(piece) {
            four.copy_from_slice(&x.to_le_bytes());
        }
        hasher.update(&bytes[..4 * piece.len()]);
    }
    hasher.finalize()
}
