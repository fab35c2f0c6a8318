use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::engine::{Engine, Workload};
use crate::model::Model;
use crate::spec::Blocks;
use crate::testing::Shape;

/// A device of so many bytes on which a value of a matrix takes a byte, a position of a cache ten, and a step a hundred.
struct Simple(Option<u64>);

impl DeviceMemory for Simple {
    fn name(&self) -> &str {
        "simple"
    }
    fn capacity_bytes(&self) -> Option<u64> {
        self.0
    }
    fn free_bytes(&self) -> Option<u64> {
        self.0.filter(|capacity| *capacity < 1000)
    }
    fn is_hosts(&self) -> bool {
        false
    }
    fn matrix_bytes(&self, rows: usize, cols: usize, _: Blocks, _: bool) -> u64 {
        (rows * cols) as u64
    }
    fn kv_bytes(&self, shape: KvShape) -> u64 {
        10 * shape.capacity as u64
    }
    fn step_bytes(&self, _: &StepSize) -> u64 {
        100
    }
}

fn options() -> EngineOptions {
    EngineOptions {
        work: Workload { context: 100, requests: 2, prefix_cache_bytes: 0 },
        ..EngineOptions::default()
    }
}

fn front(tied: bool) -> ModelFront {
    let shape = Shape { layers: 4, tied, ..Shape::default() };
    ModelFront::from_bytes(shape.file(1)).unwrap()
}

fn plan(
    front: &ModelFront,
    options: &EngineOptions,
    capacity: Option<u64>,
) -> Result<MemoryPlan, EngineError> {
    MemoryPlan::new(front, options, Some(&Simple(capacity)))
}

#[test]
fn layers_fill_the_device_and_then_the_ends() {
    for tied in [true, false] {
        let (front, options) = (front(tied), options());
        let whole = plan(&front, &options, None).unwrap();
        assert!(whole.is_whole());
        let all = whole.device.unwrap();
        assert_eq!((all.kv_bytes, all.step_bytes), (4 * 2 * 10 * 100, 100));
        // Of the layers: what is left without the matrices at the ends and their norm.
        let end = 131 * 64;
        let ends = if tied { end + 4 * 64 } else { 2 * end + 4 * 64 };
        let layer = (all.weights_bytes - ends) / 4 + 2000;
        let mut last = 0;
        for layers in 0..=4u64 {
            let fit = plan(&front, &options, Some(100 + layers * layer)).unwrap();
            let expected = Split { layers: layers as u32, ..Split::NONE };
            assert_eq!(fit.split, expected, "{tied} {layers}");
            let device = fit.device.unwrap();
            assert_eq!(device.total_bytes(), if layers == 0 { 0 } else { 100 + layers * layer });
            let short = plan(&front, &options, Some((99 + layers * layer).max(1))).unwrap();
            assert_eq!(u64::from(short.split.layers), layers.saturating_sub(1), "one byte less");
            let host = fit.host.weights_bytes;
            assert!(layers == 0 || host < last, "what the device has, the host has not");
            last = host;
        }
        let with_output = 100 + 4 * layer + end + 4 * 64;
        let fit = plan(&front, &options, Some(with_output)).unwrap().split;
        assert_eq!(fit, Split { layers: 4, embedding: tied, output: true });
        assert!(!plan(&front, &options, Some(with_output - 1)).unwrap().split.output);
        assert!(plan(&front, &options, Some(all.weights_bytes + 8100)).unwrap().is_whole());
    }
}

#[test]
fn more_layers_than_fit_are_refused_before_anything_is_read() {
    let front = front(false);
    let fitting = plan(&front, &options(), None).unwrap().device.unwrap().total_bytes();
    let ask = |layers| EngineOptions { device_layers: Some(layers), ..options() };
    assert_eq!(plan(&front, &ask(2), None).unwrap().split, Split { layers: 2, ..Split::NONE });
    assert!(plan(&front, &ask(99), None).unwrap().is_whole(), "more than there are means all");
    let refused = plan(&front, &ask(4), Some(fitting / 2)).unwrap_err();
    let EngineError::DeviceMemory { layers: 4, needed, limit, fit, .. } = &refused else {
        panic!("{refused}")
    };
    assert!(*needed > *limit && *limit == fitting / 2 && *fit < 4, "{refused}");
    assert_eq!(plan(&front, &ask(*fit), Some(fitting / 2)).unwrap().split.layers, *fit);
}

#[test]
fn what_others_take_is_told() {
    let words = |capacity| plan(&front(false), &options(), Some(capacity)).unwrap().sentences().remove(0);
    assert!(words(900).contains("its driver says that 0 MB of its memory are free"), "{}", words(900));
    assert!(!words(1000).contains("driver says"), "{}", words(1000));
}

#[test]
fn without_a_device_everything_is_the_hosts() {
    let (front, options) = (front(true), options());
    let plan = options.plan(&front).unwrap();
    assert_eq!((plan.split, plan.device.clone()), (Split::NONE, None));
    assert_eq!(plan.host, MemoryNeed::new(&front, &options, &options.work));
    assert_eq!(plan.sentences().len(), 1);
}

/// What one request gives on some engine.
fn answer(engine: &Engine) -> (Vec<u32>, dn_core::Hash32) {
    let request = crate::GenerateRequest {
        prompt: &[1, 5, 3, 77, 12],
        already: &[],
        sampling: dn_core::objects::Sampling::GREEDY,
        decoding: dn_core::objects::Decoding::plain(),
        max_tokens: 6,
        stop: &[],
    };
    let answer = engine.generate(&request, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    let replay = engine.replay(&request, &answer.tokens, answer.finish).unwrap();
    assert_eq!((replay.divergence, replay.trace_root), (None, answer.trace_root));
    (answer.tokens, answer.trace_root)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// However a model is shared out between two backends, tokens and trace are the same.
    #[test]
    fn every_split_gives_the_same_bits(layers in 0u32..6, embedding: bool, output: bool, tied: bool, seed in 0u64..4) {
        let shape = Shape { layers: 5, tied, arch: "qwen2", ..Shape::default() };
        let model = Arc::new(Model::from_bytes(shape.file(seed)).unwrap());
        let cpu = || -> Arc<dyn crate::spec::Backend> { Arc::new(crate::cpu::Cpu::detect().unwrap()) };
        let whole = Engine::on(Arc::clone(&model), cpu(), EngineOptions::default()).unwrap();
        let split = Split { layers, embedding, output };
        let backends = crate::runtime::Backends::split(Arc::new(crate::reference::Reference), cpu(), split);
        let shared = Engine::on(model, backends, EngineOptions::default()).unwrap();
        prop_assert_eq!(answer(&shared), answer(&whole));
    }
}

#[cfg(feature = "wgpu")]
mod on_a_device {
    use super::*;
    use crate::cpu::Cpu;
    use crate::engine::BackendKind;
    use crate::runtime::Backends;
    use crate::spec::Backend;
    use crate::testing::device::device;
    use crate::wgpu::WgpuOptions;

    fn cpu() -> Arc<dyn Backend> {
        Arc::new(Cpu::detect().unwrap())
    }

    fn shape(tied: bool) -> Shape {
        Shape { layers: 3, tied, arch: "qwen2", ..Shape::default() }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn every_split_gives_the_same_bits(layers in 0u32..4, embedding: bool, output: bool, tied: bool) {
            let Some(device) = device(&WgpuOptions::default()) else { return Ok(()) };
            let model = Arc::new(Model::from_bytes(shape(tied).file(3)).unwrap());
            let whole = Engine::on(Arc::clone(&model), cpu(), EngineOptions::default()).unwrap();
            let split = Split { layers, embedding, output };
            let backends = Backends::split(Arc::new(device), cpu(), split);
            let shared = Engine::on(model, backends, EngineOptions::default()).unwrap();
            prop_assert_eq!(answer(&shared), answer(&whole));
        }
    }

    /// What the plan tells of a device is enough for what it then takes, weights exactly.
    #[test]
    fn what_is_told_before_is_enough_for_what_is_taken() {
        let Some(opened) = device(&WgpuOptions::default()) else { return };
        for (tied, kinds) in
            [(true, Shape::default().kinds), (false, &[crate::formats::gguf::TensorType::Q4K][..])]
        {
            let shape = Shape { width: 256, heads: 16, ffn: 512, vocabulary: 1000, kinds, ..shape(tied) };
            let model = Arc::new(Model::from_bytes(shape.file(3)).unwrap());
            let options = EngineOptions {
                work: Workload { context: 11, ..Workload::default() },
                prefill_chunk: std::num::NonZeroUsize::new(5).unwrap(),
                ..EngineOptions::default()
            };
            let told = options.plan_on(model.front(), &opened).unwrap().device.unwrap();
            // A device with exactly the memory that is told is enough; so each layer's share is.
            let limit = WgpuOptions { memory_limit: Some(told.total_bytes()), ..WgpuOptions::default() };
            let device = device(&limit).unwrap();
            let plan = options.plan_on(model.front(), &device).unwrap();
            assert!(plan.is_whole(), "{plan:?}");
            let shared: Arc<dyn Backend> = Arc::new(device.clone());
            let engine = Engine::on(Arc::clone(&model), shared, options).unwrap();
            let held = device.memory_bytes();
            assert!(held <= told.weights_bytes, "{held} of {told:?}");
            assert!(told.weights_bytes < held * 102 / 100 + 20_000, "{held} of {told:?}");
            answer(&engine);
        }
    }

    #[test]
    fn layers_that_do_not_fit_are_the_cpus() {
        if device(&WgpuOptions::default()).is_none() {
            return;
        }
        let file = shape(false).file(3);
        let load = |device_memory| {
            let options =
                EngineOptions { backend: BackendKind::Wgpu, device_memory, ..EngineOptions::default() };
            Engine::load_bytes(file.clone(), options).unwrap()
        };
        let whole = load(None);
        assert_eq!(whole.shared(), None);
        let options = EngineOptions { backend: BackendKind::Wgpu, ..EngineOptions::default() };
        let all = options.plan(whole.model().front()).unwrap().device.unwrap();
        let some = load(Some(all.total_bytes() - all.weights_bytes / 2 - all.kv_bytes / 2));
        let split = some.shared().expect("it does not fit whole");
        assert!((1..3).contains(&split.layers), "{split:?}");
        let none = load(Some(1000));
        assert_eq!((none.shared(), none.info().name), (None, "cpu"));
        // That nothing of the device is used is told.
        assert_eq!((whole.unused_device(), some.unused_device()), (None, None));
        let name = none.unused_device().expect("it was asked for");
        let told = none.memory(&options).sentences();
        assert!(
            told[0].contains(name) && told[0].contains("0 of 3 layers") && told[0].contains("the CPU"),
            "{told:?}"
        );
        assert_eq!(answer(&some), answer(&whole));
        assert_eq!(answer(&none), answer(&whole));
    }
}
