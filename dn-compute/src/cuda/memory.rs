//! What takes how much of the device's memory: the sizes that the other files ask for, told before.

use super::Cuda;
use super::attention::{PAD, page_bytes};
use super::device::Device;
use super::matrix::above_words;
use super::quantise::CHUNK;
use crate::spec::attention::KEY_BLOCK;
use crate::spec::{Blocks, DeviceMemory, KvShape, StepSize};

/// Vectors of words that a sequence's attention has beside its scores: tables of pages, a second one while it grows.
const TABLES: usize = 2;

impl DeviceMemory for Cuda {
    fn name(&self) -> &str {
        &self.summary.name
    }

    fn capacity_bytes(&self) -> Option<u64> {
        let limit = Some(self.device.limit_bytes()).filter(|limit| *limit != u64::MAX);
        let free = self.device.driver().free_bytes();
        // The driver takes whole pages, and graphs their share. What is taken here already is not free any more.
        let free = free.map(|free| free / 10 * 9 + self.device.used_bytes());
        [limit, free].into_iter().flatten().min()
    }

    fn free_bytes(&self) -> Option<u64> {
        let free = self.device.driver().free_bytes()?;
        Some(free).filter(|free| free + self.device.used_bytes() < self.summary.memory_bytes)
    }

    fn is_hosts(&self) -> bool {
        self.summary.is_integrated
    }

    fn matrix_bytes(&self, rows: usize, cols: usize, blocks: Blocks, four_bits: bool) -> u64 {
        let (count, values) = (blocks.count(cols), rows * cols.next_multiple_of(CHUNK));
        let minima = if blocks.minima { Device::size_for_good(2 * rows * count) } else { 0 };
        let (values, above) = match four_bits {
            true => (values / 2, Device::size_for_good(4 * rows * above_words(count))),
            false => (values, 0),
        };
        let held = [values, 2 * rows * count, 4 * rows].map(Device::size_for_good);
        (held.into_iter().sum::<usize>() + minima + above) as u64
    }

    fn kv_bytes(&self, shape: KvShape) -> u64 {
        let pages = shape.capacity.div_ceil(KEY_BLOCK);
        let page = self.device.size_of(page_bytes(shape));
        (pages * page + TABLES * self.device.size_of(8 * pages)) as u64
    }

    fn step_bytes(&self, size: &StepSize) -> u64 {
        let words = layer_words(&self.device, size).into_iter().chain(ends_words(size));
        words.map(|words| self.device.size_of(4 * words) as u64).sum()
    }
}

/// Words of quantised rows: high and low digits, exponents, sums.
fn digits(rows: usize, cols: usize, pad: usize) -> [usize; 4] {
    let words = cols.next_multiple_of(pad) / 4;
    [rows * words, rows * words, rows, rows * words / 4]
}

/// The memory of a layer's call.
fn layer_words(device: &Device, size: &StepSize) -> Vec<usize> {
    let StepSize { tokens, width, heads, kv_heads, head_dim, ffn_width, .. } = *size;
    let (query, kv, stream) = (heads * head_dim, kv_heads * head_dim, tokens * width);
    // The word of faults; the stream, both norms' outputs, attention's and the feed-forward part's.
    let mut words = vec![4];
    words.extend([stream; 5]);
    // Queries, keys and values, normed and not, and what attention gives.
    words.extend([tokens * query; 3]);
    words.extend([tokens * kv; 4]);
    words.extend([tokens * ffn_width; 2]);
    // Norms, biases and rotations are sent with every layer.
    words.extend([width; 3]);
    words.extend([query, kv, kv, head_dim, head_dim, tokens * head_dim]);
    for (rows, cols, pad) in [
        (tokens, width, CHUNK),
        (tokens, width, CHUNK),
        (tokens, query, CHUNK),
        (tokens, ffn_width, CHUNK),
        (tokens * heads, head_dim, PAD),
    ] {
        words.extend(digits(rows, cols, pad));
    }
    // Pieces of several sequences are rounded up one by one, at most to twice their sum.
    let pieces = size.sequences.clamp(1, 2);
    // New keys and values, and those of a prefix that others computed.
    for positions in [tokens, pieces * size.sequences.saturating_mul(size.context)] {
        let (values, exponents) = ((positions * kv).div_ceil(2), positions * kv_heads);
        words.extend([values, values, exponents, exponents]);
    }
    // Scores and sums: of a sequence as long as a launch takes them.
    let blocks = size.context.div_ceil(KEY_BLOCK);
    let most = size.sequences.saturating_mul(device.most_words);
    let rows = pieces * tokens * heads;
    let scores = rows.saturating_mul(blocks * KEY_BLOCK).min(pieces.saturating_mul(most));
    words.extend([scores, 2 * (scores / KEY_BLOCK + 1)]);
    words.extend([2 * rows, 2 * rows * head_dim, 2 * rows]);
    words.extend(std::iter::repeat_n(2 * blocks, size.sequences));
    words
}

/// The memory of the calls at the decoder's ends.
fn ends_words(size: &StepSize) -> Vec<usize> {
    let StepSize { tokens, width, logits: rows, vocabulary, .. } = *size;
    let mut words = vec![tokens, tokens * width, rows * width, width, rows * width, rows * width];
    words.extend(digits(rows, width, CHUNK));
    words.push(rows * vocabulary);
    words
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests;
