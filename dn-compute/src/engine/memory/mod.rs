//! How much memory a model and its requests take, told before anything is loaded.

mod plan;
mod system;

use std::num::NonZeroUsize;

use serde::Serialize;

use super::{BackendKind, EngineOptions};
use crate::model::ModelFront;
use crate::model::layout::TensorSize;
use crate::runtime::{Split, scratch_bytes};
use crate::spec::KvLayer;
use crate::spec::attention::KEY_BLOCK;

pub use plan::{DeviceNeed, MemoryPlan};
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
    /// Of a model whose header is read, as far as the host holds it. Of a device's part see [`MemoryPlan`].
    pub fn new(front: &ModelFront, options: &EngineOptions, work: &Workload) -> Self {
        let split = match options.backend {
            BackendKind::Wgpu | BackendKind::Cuda => Split::whole(front.hyperparameters()),
            BackendKind::Cpu | BackendKind::Reference => Split::NONE,
        };
        Self::beside(front, options, work, split)
    }

    /// As [`new`](Self::new), where a device has a part of the model.
    pub(super) fn beside(front: &ModelFront, options: &EngineOptions, work: &Workload, split: Split) -> Self {
        let h = front.hyperparameters();
        let threads = options.thread_count() as u64;
        let context = work.context.min(h.context);
        let page = KvLayer::page_bytes(h.kv_heads as usize, h.head_size as usize);
        let pages = u64::from(context).div_ceil(KEY_BLOCK as u64);
        let weights: Vec<Weight> =
            front.tensor_sizes().iter().map(|tensor| Weight::new(tensor, options, split)).collect();
        let rope = u64::from(context.max(1024)).next_power_of_two() * u64::from(h.rope_size) * 4;
        Self {
            weights_bytes: weights.iter().map(|weight| weight.held).sum(),
            kv_bytes_per_position: front.kv_bytes_per_position(),
            kv_bytes: page * u64::from(h.layers) * pages * u64::from(work.requests),
            scratch_bytes: scratch_bytes(h, options.prefill_chunk.get(), context, threads),
            tables_bytes: rope + u64::from(h.vocabulary) * TOKEN_BYTES,
            prefix_cache_bytes: work.prefix_cache_bytes,
            loading_bytes: loading_bytes(&weights, options),
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

/// Bytes of a tensor in the backend's form, and those beside that while it is brought into it.
#[derive(Debug, Clone, Copy)]
struct Weight {
    held: u64,
    passing: u64,
}

impl Weight {
    fn new(tensor: &TensorSize, options: &EngineOptions, split: Split) -> Self {
        let held = match (tensor.matrix, options.backend) {
            // Nothing stays on the host, but while it is sent the canonical form and the device's are both there.
            (Some(_), _) if split.has(tensor.slot.place()) => {
                return Self { held: 0, passing: tensor.deriving_bytes + 2 * tensor.canonical_bytes };
            }
            (Some((rows, blocks)), BackendKind::Cpu | BackendKind::Wgpu | BackendKind::Cuda) => {
                crate::cpu::prepared_bytes(options.isa, rows, tensor.cols, blocks, tensor.four_bits)
            }
            // The reference holds the canonical form, and a vector has no other.
            _ => tensor.canonical_bytes,
        };
        // First the canonical form is made, then the backend's of it.
        Self { held, passing: tensor.deriving_bytes.saturating_sub(held).max(tensor.canonical_bytes) }
    }
}

/// What the tensors take that are on their way at the same time: one for each thread, at worst the largest.
fn loading_bytes(weights: &[Weight], options: &EngineOptions) -> u64 {
    let mut passing: Vec<u64> = weights.iter().map(|weight| weight.passing).collect();
    passing.sort_unstable_by(|a, b| b.cmp(a));
    passing.iter().take(options.loading_threads()).sum()
}

impl EngineOptions {
    /// Threads that load: those that will compute, or where that is the caller's alone one for each core.
    fn loading_threads(&self) -> usize {
        match (self.backend, self.thread_count()) {
            (BackendKind::Reference | BackendKind::Wgpu | BackendKind::Cuda, _) | (_, 1) => {
                rayon::current_num_threads()
            }
            (_, threads) => threads,
        }
    }

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
    use crate::model::package::{ConvertSource, convert};
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
        use TensorType::{F16, F32, Q4_0, Q4K, Q5K, Q6K, Q8_0};
        // The second is the usual mixture: the ends of the model in more bits than the rest.
        let mixtures: [&'static [TensorType]; 7] =
            [&[Q4_0], &[Q8_0, Q4_0, Q4_0, Q4_0], &[Q8_0], &[F16], &[F32], &[Q4K, Q6K], &[Q5K]];
        let backends = [BackendKind::Cpu, BackendKind::Reference];
        for (kinds, backend) in mixtures.into_iter().flat_map(|k| backends.map(|b| (k, b))) {
            for tied in [true, false] {
                let shape = Shape {
                    width: 256,
                    heads: 16,
                    ffn: 512,
                    vocabulary: 4096,
                    kinds,
                    tied,
                    ..Shape::default()
                };
                let options = EngineOptions { backend, ..EngineOptions::default() };
                let engine = Engine::load_bytes(shape.file(1), options).unwrap();
                let work = Workload { context: 128, requests: 1, prefix_cache_bytes: 0 };
                let told = MemoryNeed::new(engine.model().front(), &options, &work);
                let held = engine.weight_bytes();
                let case = format!("{kinds:?} {backend}: {held} of {}", told.weights_bytes);
                assert!(held <= told.weights_bytes && told.weights_bytes < held * 101 / 100, "{case}");
                assert_eq!(told.kv_bytes, engine.decoder.kv_bytes(128));
                assert_eq!(told.kv_bytes, 128 * told.kv_bytes_per_position);
            }
        }
    }

    #[test]
    fn weights_of_four_bits_are_not_told_as_eight() {
        let need = |kinds| {
            let shape = Shape { width: 256, ffn: 512, vocabulary: 4096, kinds, ..Shape::default() };
            let front = ModelFront::from_bytes(shape.file(1)).unwrap();
            let options = EngineOptions { isa: crate::Isa::Scalar, ..EngineOptions::default() };
            MemoryNeed::new(&front, &options, &Workload::default())
        };
        let (four, eight) = (need(&[TensorType::Q4_0]), need(&[TensorType::Q8_0]));
        assert!(four.weights_bytes * 10 < eight.weights_bytes * 6, "{four:?} {eight:?}");
        assert!(four.peak_bytes() < eight.peak_bytes());
    }

    #[test]
    fn a_package_needs_what_its_source_needs() {
        let dir = tempfile::tempdir().unwrap();
        for kind in [&[TensorType::Q4_0] as &'static [_], &[TensorType::Q8_0]] {
            let shape = Shape { width: 256, ffn: 512, vocabulary: 4096, kinds: kind, ..Shape::default() };
            let target = dir.path().join("model.dnm");
            convert(ConvertSource::Bytes(shape.file(1).into()), None, &target).unwrap();
            let need = |front: &ModelFront| {
                MemoryNeed::new(front, &EngineOptions::default(), &Workload::default()).weights_bytes
            };
            let engine = Engine::load(&target, EngineOptions::default()).unwrap();
            let told = need(engine.model().front());
            assert_eq!(told, need(&ModelFront::from_bytes(shape.file(1)).unwrap()));
            assert!(engine.weight_bytes() <= told && told < engine.weight_bytes() * 101 / 100);
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
