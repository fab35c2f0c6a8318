//! The memory of a device that a backend computes on, so that a model's layers can be shared out before it is loaded.

use super::attention::KvShape;
use super::matrix::Blocks;

/// Sizes of a decoder's step, as far as memory depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepSize {
    /// Layers.
    pub layers: usize,
    /// Rows that go through a layer together.
    pub tokens: usize,
    /// Rows of logits computed together.
    pub logits: usize,
    /// Sequences that share the rows.
    pub sequences: usize,
    /// Most positions of a sequence.
    pub context: usize,
    /// Elements of the residual stream.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Elements of the feed-forward part.
    pub ffn_width: usize,
    /// Rows of the output's matrix.
    pub vocabulary: usize,
}

/// How much memory a device has, and what takes how much of it: upper estimates, asked before anything is there.
pub trait DeviceMemory {
    /// The device's name.
    fn name(&self) -> &str;

    /// Bytes that may be taken; `None` where the driver does not tell and nobody has set a limit.
    fn capacity_bytes(&self) -> Option<u64>;

    /// Bytes that its driver says are free now, where that is less than there are; `None` where it is not, or nobody tells.
    fn free_bytes(&self) -> Option<u64> {
        None
    }

    /// Whether it is the host's memory, so that what the device takes is missing there.
    fn is_hosts(&self) -> bool;

    /// Bytes of a prepared matrix; `four_bits` says whether these hold its values.
    fn matrix_bytes(&self, rows: usize, cols: usize, blocks: Blocks, four_bits: bool) -> u64;

    /// Bytes that one layer of one sequence keeps on the device.
    fn kv_bytes(&self, shape: KvShape) -> u64;

    /// Bytes of what passes through in a step.
    fn step_bytes(&self, size: &StepSize) -> u64;
}
