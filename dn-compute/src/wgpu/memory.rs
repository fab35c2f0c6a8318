//! What takes how much of the device's memory: the sizes that the other files give their buffers, told before.

use super::attention::{PAD, heads_at_once, room_for, words_of_a_query};
use super::device::{Gpu, SMALLEST};
use super::matrix::Form;
use super::quantise::PIECE;
use crate::spec::attention::KEY_BLOCK;
use crate::spec::{Blocks, DeviceMemory, KvShape, StepSize};

/// The smallest buffer that is not for another use, and what every size is rounded up to.
const ROUND: u64 = 16;
/// Buffers of a layer that hold its kernels' parameters, and at least as many as the rest of a pass has.
const SMALL_BUFFERS: u64 = 64;
/// Positions of a decoder's first rotations.
const FIRST_POSITIONS: usize = 1024;

impl DeviceMemory for Gpu {
    fn name(&self) -> &str {
        &self.summary.name
    }

    fn capacity_bytes(&self) -> Option<u64> {
        let limit = Some(self.most_memory()).filter(|limit| *limit != u64::MAX);
        // The driver, the screen and other programs have their share. What is taken here already is not free any more.
        let (heap, used) = (self.heap(), self.used_bytes());
        let free = heap.and_then(|heap| heap.free).map(|free| free / 10 * 9 + used);
        [limit, heap.map(|heap| heap.bytes / 10 * 9), free].into_iter().flatten().min()
    }

    fn free_bytes(&self) -> Option<u64> {
        let heap = self.heap()?;
        heap.free.filter(|free| free + self.used_bytes() < heap.bytes)
    }

    fn is_hosts(&self) -> bool {
        !matches!(self.summary.kind, super::AdapterKind::Discrete)
    }

    /// Weights of four bits take eight here.
    fn matrix_bytes(&self, rows: usize, cols: usize, blocks: Blocks, _: bool) -> u64 {
        let form = Form::new(blocks, cols);
        let step = form.rows_at_once(self);
        let part = |rows: usize| -> u64 {
            let words = [rows * form.words, rows * form.scale_words(), rows];
            words.into_iter().map(|words| (4 * words as u64).next_multiple_of(ROUND)).sum()
        };
        (rows / step) as u64 * part(step) + if rows.is_multiple_of(step) { 0 } else { part(rows % step) }
    }

    fn kv_bytes(&self, shape: KvShape) -> u64 {
        let room = room_for(shape.capacity);
        let at_once = heads_at_once(self, shape, room);
        let group = |heads: usize| -> u64 {
            let values = 2 * room * shape.head_dim.next_multiple_of(PAD) * heads;
            2 * values as u64 + 8 * (room * heads) as u64
        };
        let rest = shape.heads % at_once;
        (shape.heads / at_once) as u64 * group(at_once) + group(rest)
    }

    fn step_bytes(&self, size: &StepSize) -> u64 {
        let words = layer_words(self, size).into_iter().chain(logits_words(size)).chain([back_words(size)]);
        let passing: u64 = words.map(|words| Gpu::size_of(4 * words as u64)).sum();
        // Rotations stay, and while they grow the old ones are there too.
        let positions = size.context.max(FIRST_POSITIONS).next_power_of_two();
        let rotations = 2 * 4 * (positions * size.head_dim) as u64;
        passing + rotations + SMALL_BUFFERS * SMALLEST * (size.layers as u64 + 1)
    }
}

/// Words of quantised rows: digits, exponents, sums.
fn digits(rows: usize, cols: usize, pad: usize) -> [usize; 3] {
    let words = cols.next_multiple_of(pad) / 4;
    [2 * rows * words, rows, rows * words / 4]
}

/// The buffers of a layer.
fn layer_words(gpu: &Gpu, size: &StepSize) -> Vec<usize> {
    let StepSize { tokens, width, heads, kv_heads, head_dim, ffn_width, .. } = *size;
    let (query, kv) = (heads * head_dim, kv_heads * head_dim);
    let stream = tokens * width;
    // The stream, both norms' outputs, attention's and the feed-forward part's; queries, keys and values, normed and not.
    let mut words = vec![stream; 5];
    words.extend([tokens * query; 3]);
    words.extend([tokens * kv; 4]);
    words.extend([tokens * ffn_width; 2]);
    words.extend([width; 4]);
    words.extend([query.max(kv); 6]);
    words.push(tokens * head_dim);
    for (rows, cols, pad) in [
        (tokens, width, PIECE),
        (tokens, width, PIECE),
        (tokens, query, PIECE),
        (tokens, ffn_width, PIECE),
        (tokens * heads, head_dim, PAD),
        (tokens * kv_heads, head_dim, PAD),
        (tokens * kv_heads, head_dim, PAD),
    ] {
        words.extend(digits(rows, cols, pad));
    }
    // Scores and what workgroups leave, of all sequences together as long as a dispatch takes them.
    let query = words_of_a_query(gpu, size.context.div_ceil(KEY_BLOCK), head_dim);
    let scores = (tokens * heads * query).min(size.sequences.saturating_mul(gpu.most_words));
    words.extend([2 * scores; 2]);
    words.extend(std::iter::repeat_n(SMALLEST as usize / 4, size.sequences));
    words
}

/// What comes back of a pass: streams, keys and values, logits.
fn back_words(size: &StepSize) -> usize {
    let stream = size.tokens * size.width;
    let [digits, exponents, _] = digits(size.tokens * size.kv_heads, size.head_dim, PAD);
    size.layers * (stream + 2 * (digits + exponents)) + stream + size.logits * size.vocabulary + 4
}

/// The buffers of the logits.
fn logits_words(size: &StepSize) -> Vec<usize> {
    let (rows, width) = (size.logits, size.width);
    let mut words = vec![rows * width, rows * size.vocabulary, rows * size.vocabulary + 4];
    words.extend(digits(rows, width, PIECE));
    words
}
