//! The weights of a decoder's layer.

use super::backend::Matrix;
use super::resident::Vector;

/// The weights of one layer.
#[derive(Debug)]
pub struct LayerWeights {
    /// Before attention.
    pub attention_norm: Vector,
    /// To queries.
    pub query: Matrix,
    /// To keys.
    pub key: Matrix,
    /// To values.
    pub value: Matrix,
    /// Of query, key and value, where the architecture has them.
    pub biases: Option<[Vector; 3]>,
    /// Of query and key heads, where the architecture has them.
    pub head_norms: Option<[Vector; 2]>,
    /// After attention.
    pub attention_output: Matrix,
    /// Of the attention's output, where the architecture has one.
    pub output_bias: Option<Vector>,
    /// Before the feed-forward part.
    pub ffn_norm: Vector,
    /// Through which `silu` goes.
    pub gate: Matrix,
    /// What `silu(gate)` multiplies.
    pub up: Matrix,
    /// Back to the width of the residual stream.
    pub down: Matrix,
}
