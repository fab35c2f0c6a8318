//! What the referee is given: what a dispute has pinned down, and what is opened to judge it.

use dn_core::merkle::InclusionProof;
use dn_core::objects::{ModelManifest, Receipt};
use dn_core::{Canonical, Hash32, JobId, canonical_enum, canonical_struct};

use super::choice::ChoiceParts;
use super::plan::Stage;
use super::slice::Slice;
use crate::tensors::Tile;

/// Most bytes of claim and opening together.
pub const MAX_BYTES: usize = 64 * 1024;

/// Columns of a row of which one partial sum is stated (few in tests, so that short rows have several ranges).
pub const RANGE: usize = if cfg!(test) { 128 } else { 1024 };

/// What a receipt binds, and the manifest behind its model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The manifest whose hash is the receipt's model.
    pub manifest: ModelManifest,
    /// The trace commitment.
    pub trace_root: Hash32,
    /// Hash of the canonical request.
    pub job: JobId,
    /// Hash of the generated token ids.
    pub output_hash: Hash32,
    /// Prompt tokens.
    pub prompt_tokens: u32,
    /// Generated tokens.
    pub output_tokens: u32,
}
canonical_struct!(Subject {
    manifest: ModelManifest,
    trace_root: Hash32,
    job: JobId,
    output_hash: Hash32,
    prompt_tokens: u32,
    output_tokens: u32,
});

impl Subject {
    /// The subject of a receipt; `None` when the manifest is not that of the receipt's model.
    pub fn new(receipt: &Receipt, manifest: ModelManifest) -> Option<Self> {
        (manifest.id() == receipt.model).then_some(Self {
            manifest,
            trace_root: receipt.trace_root,
            job: receipt.job,
            output_hash: receipt.output_hash,
            prompt_tokens: receipt.prompt_tokens,
            output_tokens: receipt.output_tokens,
        })
    }

    /// Positions that the trace must have: prompt and output without the last output token.
    pub fn positions(&self) -> u64 {
        (u64::from(self.prompt_tokens) + u64::from(self.output_tokens)).saturating_sub(1)
    }

    /// Whether a position chooses an output token.
    pub fn chooses(&self, position: u32) -> bool {
        u64::from(position) + 1 >= u64::from(self.prompt_tokens) && u64::from(position) < self.positions()
    }
}

/// What the worker states about a range of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    /// Bits of the largest magnitude of the range's values.
    pub largest: u32,
    /// The range's share of the exact sum.
    pub sum: i64,
}
canonical_struct!(Sum { largest: u32, sum: i64 });

/// What the worker states about a block of 64 keys, for one element of one head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyBlock {
    /// `I`.
    pub top: i32,
    /// `J`.
    pub top_value: i32,
    /// `D_b`.
    pub denominator: i64,
    /// `N_b` of the element.
    pub numerator: i64,
}
canonical_struct!(KeyBlock { top: i32, top_value: i32, denominator: i64, numerator: i64 });

/// What the worker states about one key, for one element of one head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyTerm {
    /// The score `s`.
    pub score: i32,
    /// The exponent of its value.
    pub exponent: i16,
    /// The element's integer of its value.
    pub value: i16,
}
canonical_struct!(KeyTerm { score: i32, exponent: i16, value: i16 });

/// The parts that the worker states an element to be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "one at a time exists")]
pub enum Parts {
    /// None: it follows from what is opened; of a choice, from the largest logit alone.
    None,
    /// Ranges of [`RANGE`] values of a long row.
    Sums {
        /// All ranges of the row.
        sums: Vec<Sum>,
    },
    /// Blocks of keys, and one block's keys.
    Keys {
        /// All blocks that the position attends to.
        blocks: Vec<KeyBlock>,
        /// Which of them the keys are of.
        block: u32,
        /// All keys of that block that the position attends to.
        keys: Vec<KeyTerm>,
    },
    /// Of a choice.
    Choice {
        /// They.
        choice: ChoiceParts,
    },
}
canonical_enum!(Parts {
    0 => None {},
    1 => Sums { sums: Vec<Sum> },
    2 => Keys { blocks: Vec<KeyBlock>, block: u32, keys: Vec<KeyTerm> },
    3 => Choice { choice: ChoiceParts },
});

/// One element of one operation, as the worker is bound to it: by its receipt, and by what it stated in the dispute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What the receipt binds.
    pub subject: Subject,
    /// The position.
    pub position: u32,
    /// The token that the position's leaf binds.
    pub token: u32,
    /// The part of the position's computation.
    pub stage: Stage,
    /// The operation's place in the stage.
    pub op: u8,
    /// Hashes of the rows that the operation reads, in its order.
    pub inputs: Vec<Hash32>,
    /// The element of the output.
    pub element: u32,
    /// Its bits.
    pub value: u32,
    /// What the worker states it to be made of.
    pub parts: Parts,
}
canonical_struct!(Claim {
    subject: Subject,
    position: u32,
    token: u32,
    stage: Stage,
    op: u8,
    inputs: Vec<Hash32>,
    element: u32,
    value: u32,
    parts: Parts,
});

/// Some weights, opened against the model's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightSlice {
    /// The tile.
    pub tile: Tile,
    /// Its proof to the manifest's `tensors_root`.
    pub proof: InclusionProof,
    /// Bytes of it: all of a matrix's tile, some chunks of a vector.
    pub slice: Slice,
}
canonical_struct!(WeightSlice { tile: Tile, proof: InclusionProof, slice: Slice });

/// What an earlier position (or the same) keeps in a layer's cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastEntry {
    /// The position's leaf.
    pub leaf: Hash32,
    /// Its proof to the trace root.
    pub proof: InclusionProof,
    /// The leaf's bytes that hold the hash of the entry.
    pub body: Slice,
    /// The entry's bytes that hold the head.
    pub entry: Slice,
}
canonical_struct!(PastEntry { leaf: Hash32, proof: InclusionProof, body: Slice, entry: Slice });

/// Bytes of the canonical request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestSlice {
    /// Length of the request.
    pub len: u32,
    /// Some of its bytes.
    pub slice: Slice,
}
canonical_struct!(RequestSlice { len: u32, slice: Slice });

/// What the accuser opens to have a claim judged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Opening {
    /// Which part to recompute: a range, a key, a rival token; 0 where there is one only.
    pub pick: u32,
    /// Slices of rows, in the operation's order.
    pub rows: Vec<Slice>,
    /// The operation's weights.
    pub weights: Option<WeightSlice>,
    /// The entry of one key.
    pub past: Option<PastEntry>,
    /// Settings of the sampler, or prompt tokens.
    pub request: Option<RequestSlice>,
}
canonical_struct!(Opening {
    pick: u32,
    rows: Vec<Slice>,
    weights: Option<WeightSlice>,
    past: Option<PastEntry>,
    request: Option<RequestSlice>,
});

impl Claim {
    /// Bytes of the claim.
    pub fn len_bytes(&self) -> usize {
        self.to_bytes().len()
    }
}
