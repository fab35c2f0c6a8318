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
#[cfg(feature = "engine")]
use std::ops::Range;

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

    /// Adds the leaves of positions that come next.
    #[cfg(feature = "engine")]
    pub(crate) fn extend(&mut self, leaves: impl IntoIterator<Item = Hash32>) {
        self.leaves.extend(leaves);
    }

    /// Adds positions that come next, with what their leaves are hashes of.
    #[cfg(feature = "engine")]
    pub(crate) fn extend_with(&mut self, leaves: impl IntoIterator<Item = (Hash32, Box<[u8]>)>) {
        for (leaf, body) in leaves {
            self.leaves.push(leaf);
            if let Some(bodies) = &mut self.bodies {
                bodies.push(body);
            }
        }
    }

    /// The trace of the first `positions` only.
    #[cfg(feature = "engine")]
    pub(crate) fn truncate(&mut self, positions: usize) {
        self.leaves.truncate(positions);
        if let Some(bodies) = &mut self.bodies {
            bodies.truncate(positions);
        }
    }
}

/// Both forms of a position's leaf: which one a request's trace holds depends on where its prompt ends.
#[cfg(feature = "engine")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeafForms {
    /// Without logits: a position inside a prompt.
    pub(crate) plain: Hash32,
    /// What this request's trace holds.
    pub(crate) own: Hash32,
    /// What that is the hash of.
    pub(crate) body: Box<[u8]>,
}

/// Collects the hashes of some positions while a step runs through the layers.
#[cfg(feature = "engine")]
#[derive(Debug)]
pub(crate) struct StepTrace {
    leaves: Vec<Vec<u8>>,
    logits: Vec<Option<blake3::Hash>>,
    parallel: bool,
}

/// Bytes hashed at a time: many enough for the hash's vector code, few enough for the first-level cache.
#[cfg(feature = "engine")]
const PIECE: usize = 16 * 1024;

#[cfg(feature = "engine")]
impl StepTrace {
    /// Starts the leaves of rows with these positions and tokens in a model of `layers`.
    ///
    /// `parallel`: rows may be hashed on the threads of the pool that calls.
    pub(crate) fn new(positions: &[u32], tokens: &[u32], layers: u32, parallel: bool) -> Self {
        let leaf = |(position, token): (&u32, &u32)| start(*position, *token, layers);
        let leaves = positions.iter().zip(tokens).map(leaf).collect();
        Self { leaves, logits: vec![None; positions.len()], parallel }
    }

    /// Adds the residual stream at a layer boundary, one row per position.
    pub(crate) fn boundary(&mut self, x: &[f32]) {
        let width = x.len() / self.leaves.len();
        let one = |(leaf, row): (&mut Vec<u8>, &[f32])| leaf.extend_from_slice(hash_row(row).as_bytes());
        if self.parallel && self.leaves.len() > 1 {
            self.leaves.par_iter_mut().zip(x.par_chunks_exact(width)).with_min_len(8).for_each(one);
        } else {
            self.leaves.iter_mut().zip(x.chunks_exact(width)).for_each(one);
        }
    }

    /// Adds what a layer keeps of the positions from `first` of a sequence, whose rows these are.
    pub(crate) fn entries(&mut self, rows: Range<usize>, kv: &KvLayer, first: usize) {
        let one = |bytes: &mut Vec<u8>, (at, leaf): (usize, &mut Vec<u8>)| {
            bytes.clear();
            kv.entry(first + at, bytes);
            leaf.extend_from_slice(blake3::hash(bytes).as_bytes());
        };
        let leaves = &mut self.leaves[rows];
        if self.parallel && leaves.len() > 1 {
            leaves.par_iter_mut().enumerate().with_min_len(16).for_each_init(Vec::new, one);
        } else {
            let mut bytes = Vec::new();
            leaves.iter_mut().enumerate().for_each(|leaf| one(&mut bytes, leaf));
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
    pub(crate) fn finish(self) -> Vec<LeafForms> {
        let close = |(mut body, logits): (Vec<u8>, Option<blake3::Hash>)| {
            let end = body.len();
            body.push(0);
            let plain = Hash32(*blake3::hash(&body).as_bytes());
            let own = logits.map_or(plain, |logits| {
                body[end] = 1;
                body.extend_from_slice(logits.as_bytes());
                Hash32(*blake3::hash(&body).as_bytes())
            });
            LeafForms { plain, own, body: body.into_boxed_slice() }
        };
        self.leaves.into_iter().zip(self.logits).map(close).collect()
    }
}

/// The BLAKE3 of a row of f32, little-endian.
#[cfg(feature = "engine")]
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
