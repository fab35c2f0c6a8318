//! The trace commitment: what a receipt binds of the computation.
//!
//! # Meaning
//! A position's leaf is the BLAKE3 of [`Leaf::to_bytes`]: `"deepnode position v2\0" ‖ position u32 ‖ token u32 ‖ layers u32 ‖
//! h[0] ‖ kv[0] ‖ h[1] ‖ .. ‖ kv[layers-1] ‖ h[layers] ‖ g`, integers little-endian. `h[0]` is the BLAKE3 of the embedded token (its
//! row of f32, little-endian), `h[i]` of the residual stream after layer `i - 1`; `kv[i]` is the BLAKE3 of what layer `i` keeps of the
//! position ([`KvLayer::entry`]); `g` is one byte 1 and the BLAKE3 of the logits where the position chooses an output token, or one
//! byte 0 (positions of the prompt but its last). The trace root is the Keccak Merkle root ([`dn_core::merkle`]) over the
//! leaves of all positions that were fed: prompt and output without the last output token.
//!
//! Every hash is a BLAKE3 of plain bytes, which is itself a tree over pieces of 1 KiB: any few values can be opened
//! against it ([`crate::verify`]) though nothing finer than a leaf is ever stored.

use dn_core::Hash32;
use dn_core::merkle::{InclusionProof, MerkleTree};
#[cfg(feature = "engine")]
use rayon::prelude::*;

#[cfg(feature = "engine")]
use crate::spec::KvLayer;

const DOMAIN: &[u8; 21] = b"deepnode position v2\0";

/// What a position's leaf binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The position, from 0.
    pub position: u32,
    /// The token fed there.
    pub token: u32,
    /// `h`: the residual stream before the first layer and after each.
    pub boundaries: Vec<Hash32>,
    /// `kv`: keys and values of each layer.
    pub entries: Vec<Hash32>,
    /// `g`: the logits, where the position chooses an output token.
    pub logits: Option<Hash32>,
}

impl Leaf {
    /// Offset of a layer's entry hash in the bytes.
    pub const fn entry_offset(layer: usize) -> usize {
        DOMAIN.len() + 12 + 32 + 64 * layer
    }

    /// Length of the bytes of a leaf.
    pub const fn bytes(layers: usize, has_logits: bool) -> usize {
        Self::entry_offset(layers) + if has_logits { 33 } else { 1 }
    }

    /// The bytes that are hashed.
    ///
    /// # Shape
    /// One boundary more than entries.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = start(self.position, self.token, self.entries.len() as u32);
        for (i, boundary) in self.boundaries.iter().enumerate() {
            out.extend_from_slice(&boundary.0);
            if let Some(entry) = self.entries.get(i) {
                out.extend_from_slice(&entry.0);
            }
        }
        match self.logits {
            Some(logits) => {
                out.push(1);
                out.extend_from_slice(&logits.0);
            }
            None => out.push(0),
        }
        out
    }

    /// The inverse of [`to_bytes`](Self::to_bytes); `None` for bytes that are no leaf.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(DOMAIN)?;
        let (numbers, rest) = rest.split_at_checked(12)?;
        let number = |i: usize| u32::from_le_bytes([0, 1, 2, 3].map(|b| numbers[4 * i + b]));
        let layers = number(2) as usize;
        let hashes = layers.checked_mul(2)?.checked_add(1)?;
        let (body, tail) = rest.split_at_checked(hashes.checked_mul(32)?)?;
        let mut hashes = body.chunks_exact(32).map(hash);
        let mut leaf = Self {
            position: number(0),
            token: number(1),
            boundaries: Vec::with_capacity(layers + 1),
            entries: Vec::with_capacity(layers),
            logits: None,
        };
        leaf.boundaries.push(hashes.next()?);
        while let Some(entry) = hashes.next() {
            leaf.entries.push(entry);
            leaf.boundaries.push(hashes.next()?);
        }
        leaf.logits = match tail {
            [0] => None,
            [1, logits @ ..] if logits.len() == 32 => Some(hash(logits)),
            _ => return None,
        };
        Some(leaf)
    }

    /// What the Merkle tree has as this leaf's data.
    pub fn hash(&self) -> Hash32 {
        Hash32(*blake3::hash(&self.to_bytes()).as_bytes())
    }
}

fn hash(bytes: &[u8]) -> Hash32 {
    let mut out = [0; 32];
    out.copy_from_slice(bytes);
    Hash32(out)
}

fn start(position: u32, token: u32, layers: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(Leaf::bytes(layers as usize, true));
    bytes.extend_from_slice(DOMAIN);
    for number in [position, token, layers] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// The leaves of a computation, one per position fed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trace {
    leaves: Vec<Hash32>,
    /// What the leaves are hashes of, where that is kept.
    bodies: Option<Vec<Box<[u8]>>>,
}

impl Trace {
    /// An empty trace that keeps what its leaves are hashes of: some 64 bytes per layer and position.
    pub const fn detailed() -> Self {
        Self { leaves: Vec::new(), bodies: Some(Vec::new()) }
    }

    /// The leaves, in the order of positions.
    pub fn leaves(&self) -> &[Hash32] {
        &self.leaves
    }

    /// What the leaf of a position binds; `None` when it was not fed or the trace is not a detailed one.
    pub fn leaf(&self, position: u32) -> Option<Leaf> {
        Leaf::from_bytes(self.bodies.as_ref()?.get(position as usize)?)
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

    /// The Merkle tree over the leaves.
    pub fn tree(&self) -> MerkleTree {
        MerkleTree::new(self.leaves.iter().map(|leaf| leaf.0))
    }

    /// Forgets the positions from `len` on.
    #[cfg(feature = "engine")]
    pub(crate) fn truncate(&mut self, len: usize) {
        self.leaves.truncate(len);
        if let Some(bodies) = &mut self.bodies {
            bodies.truncate(len);
        }
    }

    #[cfg(feature = "engine")]
    pub(crate) fn push(&mut self, body: Vec<u8>) {
        self.leaves.push(Hash32(*blake3::hash(&body).as_bytes()));
        if let Some(bodies) = &mut self.bodies {
            bodies.push(body.into_boxed_slice());
        }
    }
}

/// Collects the leaves of some consecutive positions while a chunk runs through the layers.
#[cfg(feature = "engine")]
#[derive(Debug)]
pub(crate) struct ChunkTrace {
    leaves: Vec<Vec<u8>>,
    parallel: bool,
}

#[cfg(feature = "engine")]
impl ChunkTrace {
    /// Starts the leaves of `tokens` at positions from `first` in a model of `layers`.
    ///
    /// `parallel`: rows may be hashed on the threads of the pool that calls.
    pub(crate) fn new(first: u32, tokens: &[u32], layers: u32, parallel: bool) -> Self {
        let leaf = |(offset, token): (usize, &u32)| start(first + offset as u32, *token, layers);
        Self { leaves: tokens.iter().enumerate().map(leaf).collect(), parallel }
    }

    /// Adds the residual stream at a layer boundary, one row per position.
    pub(crate) fn boundary(&mut self, x: &[f32]) {
        let width = x.len() / self.leaves.len();
        self.rows(0, x, width, &[]);
    }

    /// Adds what a layer keeps of the positions, the first of which is `first`.
    pub(crate) fn entries(&mut self, kv: &KvLayer, first: usize) {
        let one = |bytes: &mut Vec<u8>, (at, leaf): (usize, &mut Vec<u8>)| {
            bytes.clear();
            kv.entry(first + at, bytes);
            leaf.extend_from_slice(blake3::hash(bytes).as_bytes());
        };
        if self.parallel && self.leaves.len() > 1 {
            let leaves = self.leaves.par_iter_mut().enumerate().with_min_len(16);
            leaves.for_each_init(Vec::new, one);
        } else {
            let mut bytes = Vec::new();
            self.leaves.iter_mut().enumerate().for_each(|leaf| one(&mut bytes, leaf));
        }
    }

    /// Adds the logits of the positions from `first` in the chunk, one row per position.
    pub(crate) fn logits(&mut self, first: usize, logits: &[f32], vocabulary: usize) {
        self.rows(first, logits, vocabulary, &[1]);
    }

    /// Adds `tag` and the hash of a row to each leaf from `first`.
    fn rows(&mut self, first: usize, x: &[f32], width: usize, tag: &[u8]) {
        let count = x.len() / width;
        let one = |bytes: &mut Vec<u8>, (leaf, row): (&mut Vec<u8>, &[f32])| {
            bytes.resize(row.len() * 4, 0);
            for (four, x) in bytes.chunks_exact_mut(4).zip(row) {
                four.copy_from_slice(&x.to_le_bytes());
            }
            leaf.extend_from_slice(tag);
            leaf.extend_from_slice(blake3::hash(bytes).as_bytes());
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
            leaf.push(0);
        }
        self.leaves.into_iter().for_each(|leaf| trace.push(leaf));
    }
}
