//! Consecutive parts of a decoder as one call: for backends that keep the values between them where they compute.

use super::attention::KvLayer;
use super::backend::Matrix;
use super::layer::LayerWeights;
use super::mask::Mask;
use super::resident::Vector;
use super::rope::RopeTable;

/// What a pass goes through.
#[derive(Debug)]
pub struct PassCall<'a> {
    /// The table and the tokens that the pass begins with; `None` for one that begins with a residual stream.
    pub embedding: Option<(&'a Matrix, &'a [u32])>,
    /// The layers, one after another.
    pub layers: &'a [LayerWeights],
    /// What it ends with; `None` for one that ends with the residual stream.
    pub output: Option<PassOutput<'a>>,
    /// Of all norms.
    pub eps: f32,
    /// Query heads.
    pub heads: usize,
    /// Which keys a query sees.
    pub mask: Mask,
    /// Rotations.
    pub rope: &'a RopeTable,
    /// The position of each row.
    pub positions: &'a [u32],
}

/// The end of a decoder.
#[derive(Debug)]
pub struct PassOutput<'a> {
    /// Before the logits.
    pub norm: &'a Vector,
    /// To logits.
    pub matrix: &'a Matrix,
    /// The rows that get logits, ascending.
    pub rows: &'a [usize],
}

/// A sequence's share of the rows.
#[derive(Debug)]
pub struct PassPart<'a> {
    /// Its caches, one for each layer of the pass.
    pub kv: &'a mut [KvLayer],
    /// Its rows.
    pub rows: usize,
}

/// What comes of a pass.
#[derive(Debug)]
pub struct PassValues<'a> {
    /// The residual stream: what the pass begins with, unless it begins with tokens, and what it ends with, unless it ends with
    /// logits.
    pub stream: &'a mut [f32],
    /// The stream after the embedding, if the pass has one, and after each layer: for a trace. `None` where nobody asks.
    pub boundaries: Option<&'a mut [f32]>,
    /// Of the output's rows.
    pub logits: &'a mut [f32],
}
