//! How much memory a model and its requests take, told before anything is loaded.

mod system;

use std::num::NonZeroUsize;

use serde::Serialize;

use super::EngineOptions;
use crate::model::ModelFront;
use crate::runtime::scratch_bytes;
use crate::spec::KvLayer;
use crate::spec::attention::KEY_BLOCK;

pub use system::available_memory;

/// What an engine will be asked to do at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Positions of each request, prompt and answer.
    pub context: u32,
    /// Requests at a time.
    pub requests: u32,
    /// Bytes set aside for earlier requests' pages.
    pub prefix_cache_bytes: u64,
}

impl Default for Workload {
    /// One request of 1,024 positions.
    fn default() -> Self {
        Self { context: 1024, requests: 1, prefix_cache_bytes: 0 }
    }
}

/// Memory by what it is for. An upper estimate: parts of it are taken only when they are used.
///
/// # Units
/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryNeed {
    /// Packed weights.
    pub weights_bytes: u64,
    /// Keys and values of one position of one request.
    pub kv_bytes_per_position: u64,
    /// Keys and values of all requests, whole pages.
    pub kv_bytes: u64,
    /// Values on their way through the layers, logits, what sampler and attention work with.
    pub scratch_bytes: u64,
    /// Rotary positions, tokenizer and vocabulary.
    pub tables_bytes: u64,
    /// Pages of earlier requests.
    pub prefix_cache_bytes: u64,
    /// What loading takes beside the weights; free again before the first request.
    pub loading_bytes: u64,
}

/// What a vocabulary entry takes: its text, and its place in the tokenizer's maps, with the merge that makes it.
const TOKEN_BYTES: u64 = 400;

impl MemoryNeed {
    /// Of a model whose header is read.
    pub fn new(front: &ModelFront, options: &EngineOptions, work: &Workload) -> Self {
        let h = front.hyperparameters();
        let threads = options.thread_count() as u64;
        let context = work.context.min(h.context);
        let page = KvLayer::page_bytes(h.kv_heads as usize, h.head_size as usize);
        let pages = u64::from(context).div_ceil(KEY_BLOCK as u64);
        // Rows end in groups of 16, and each has 12 bytes more than in canonical form: a sixteenth for rows of 192 columns.
        let padding = front.weight_bytes() / 16;
        let rope = u64::from(context.max(1024)).next_power_of_two() * u64::from(h.rope_size) * 4;
        Self {
            weights_bytes: front.weight_bytes() + padding,
            kv_bytes_per_position: front.kv_bytes_per_position(),
            kv_bytes: page * u64::from(h.layers) * pages * u64::from(work.requests),
            scratch_bytes: scratch_bytes(h, options.prefill_chunk.get(), context, threads),
            tables_bytes: rope + u64::from(h.vocabulary) * TOKEN_BYTES,
            prefix_cache_bytes: work.prefix_cache_bytes,
            loading_bytes: front.largest_tensor_bytes() * threads.min(2),
        }
    }

    /// While requests run.
    pub const fn total_bytes(&self) -> u64 {
        self.weights_bytes + self.beside_weights_bytes()
    }

    /// While requests run, without the weights.
    pub const fn beside_weights_bytes(&self) -> u64 {
        self.kv_bytes + self.scratch_bytes + self.tables_bytes + self.prefix_cache_bytes
    }

    /// The most at any time.
    pub fn peak_bytes(&self) -> u64 {
        self.total_bytes().max(self.weights_bytes + self.tables_bytes + self.loading_bytes)
    }
}

impl EngineOptions {
    /// Threads that will compute.
    pub fn thread_count(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.threads.map_or_else(cores, NonZeroUsize::get).min(crate::cpu::MAX_THREADS)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::{Engine, EngineError};
    use crate::formats::gguf::TensorType;
    use crate::model::Model;
    use crate::testing::Shape;

    #[test]
    fn a_load_in_one_pass_is_the_load_in_two() {
        let shape = Shape { tied: false, arch: "qwen2", ..Shape::default() };
        let file = shape.file(3);
        let model = Arc::new(Model::from_bytes(file.clone()).unwrap());
        let two = Engine::new(Arc::clone(&model), EngineOptions::default()).unwrap();
        let one = Engine::load_bytes(file.clone(), EngineOptions::default()).unwrap();
        assert_eq!(one.model().id(), model.id());
        assert_eq!(one.logits(&[1, 2, 3]).unwrap(), two.logits(&[1, 2, 3]).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        std::fs::write(&path, &file).unwrap();
        let from_disk = Engine::load(&path, EngineOptions::default()).unwrap();
        assert_eq!(from_disk.model().id(), model.id());
    }

    #[test]
    fn what_is_told_before_is_enough_for_what_is_taken() {
        for kinds in [&[TensorType::Q8_0] as &'static [_], &[TensorType::F32]] {
            let shape = Shape { width: 256, ffn: 512, vocabulary: 4096, kinds, ..Shape::default() };
            let engine = Engine::load_bytes(shape.file(1), EngineOptions::default()).unwrap();
            let front = engine.model().front();
            let work = Workload { context: 128, requests: 1, prefix_cache_bytes: 0 };
            let told = MemoryNeed::new(front, &EngineOptions::default(), &work);
            let packed = engine.weight_bytes();
            assert!(packed <= told.weights_bytes, "{packed} of {}", told.weights_bytes);
            assert!(told.weights_bytes < packed * 11 / 10, "{packed} of {}", told.weights_bytes);
            assert_eq!(told.kv_bytes, engine.decoder.kv_bytes(128));
            assert_eq!(told.kv_bytes, 128 * told.kv_bytes_per_position);
        }
    }

    #[test]
    fn a_model_that_does_not_fit_is_refused_before_it_is_read() {
        let mut file = Shape::default().file(1);
        let options = EngineOptions { memory_limit: Some(10_000), ..EngineOptions::default() };
        let refused = Engine::load_bytes(file.clone(), options).unwrap_err();
        assert!(matches!(refused, EngineError::Memory { limit: 10_000, needed } if needed > 10_000));
        // The weights were not looked at: these would be refused.
        let end = file.len();
        file[end - 4096..].fill(0xff);
        assert!(matches!(Engine::load_bytes(file.clone(), options), Err(EngineError::Memory { .. })));
        assert!(matches!(Engine::load_bytes(file, EngineOptions::default()), Err(EngineError::Model(_))));
    }
}
