//! A decoder's layer as one call: for backends that would rather not send every operation's values to and fro.

use super::attention::KvLayer;
use super::backend::Matrix;
use super::mask::Mask;
use super::rope::RopeTable;

/// The weights of one layer.
#[derive(Debug)]
pub struct LayerWeights {
    /// Before attention.
    pub attention_norm: Vec<f32>,
    /// To queries.
    pub query: Matrix,
    /// To keys.
    pub key: Matrix,
    /// To values.
    pub value: Matrix,
    /// Of query, key and value, where the architecture has them.
    pub biases: Option<[Vec<f32>; 3]>,
    /// Of query and key heads, where the architecture has them.
    pub head_norms: Option<[Vec<f32>; 2]>,
    /// After attention.
    pub attention_output: Matrix,
    /// Of the attention's output, where the architecture has one.
    pub output_bias: Option<Vec<f32>>,
    /// Before the feed-forward part.
    pub ffn_norm: Vec<f32>,
    /// Through which `silu` goes.
    pub gate: Matrix,
    /// What `silu(gate)` multiplies.
    pub up: Matrix,
    /// Back to the width of the residual stream.
    pub down: Matrix,
}

/// A layer over the rows of some sequences, one after another.
#[derive(Debug)]
pub struct LayerCall<'a> {
    /// The weights.
    pub weights: &'a LayerWeights,
    /// Of both norms, and those of heads.
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

/// A sequence's share of the rows.
#[derive(Debug)]
pub struct LayerPart<'a> {
    /// Its cache, to which the layer appends.
    pub kv: &'a mut KvLayer,
    /// Its rows.
    pub rows: usize,
}
