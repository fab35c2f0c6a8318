//! What the plan tells of a card is enough, a limit holds, and a card that fails half-way fails one request.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;

use dn_core::Hash32;
use dn_core::objects::{Decoding, Sampling};

use super::*;
use crate::cpu::Cpu;
use crate::cuda::emulation::{Emulation, emulated};
use crate::formats::gguf::TensorType;
use crate::runtime::{Backends, Decoder, Split};
use crate::spec::{Backend, DeviceFault, NumericError};
use crate::testing::Shape;
use crate::{
    Engine, EngineError, EngineOptions, GenerateError, GenerateRequest, MemoryPlan, Model, Workload,
};

fn card() -> Option<Arc<Cuda>> {
    emulated(Emulation::default()).map(Arc::new)
}

fn cpu() -> Arc<dyn Backend> {
    Arc::new(Cpu::new(crate::Isa::Auto, 1).unwrap())
}

fn model(shape: &Shape) -> Arc<Model> {
    Arc::new(Model::from_bytes(shape.file(3)).unwrap())
}

fn shape() -> Shape {
    Shape { layers: 3, tied: false, arch: "qwen2", ..Shape::default() }
}

/// Small steps, as the emulated card is slow.
fn options() -> EngineOptions {
    EngineOptions {
        work: Workload { context: 40, ..Workload::default() },
        prefill_chunk: NonZeroUsize::new(9).unwrap(),
        ..EngineOptions::default()
    }
}

fn plan(model: &Model, options: &EngineOptions, card: &Cuda) -> Result<MemoryPlan, EngineError> {
    MemoryPlan::new(model.front(), options, card.device_memory())
}

fn tokens(count: u32) -> Vec<u32> {
    (0..count).map(|i| (i * 37 + 5) % 131).collect()
}

fn answer(engine: &Engine, prompt: &[u32]) -> Result<(Vec<u32>, Hash32), GenerateError> {
    let request = GenerateRequest {
        prompt,
        already: &[],
        sampling: Sampling::GREEDY,
        decoding: Decoding::plain(),
        max_tokens: 6,
        stop: &[],
    };
    let answer = engine.generate(&request, &mut |_| ControlFlow::Continue(()))?;
    Ok((answer.tokens, answer.trace_root))
}

fn engine(model: &Arc<Model>, backends: impl Into<Backends>) -> Result<Engine, EngineError> {
    Engine::on(Arc::clone(model), backends, options())
}

fn is_full(error: &NumericError) -> bool {
    let named = matches!(error, NumericError::Device { device, .. } if &**device == "emulated card");
    let text = error.to_string();
    named
        && text.contains("emulated card")
        && text.contains("fewer layers")
        && is(error, DeviceFault::OutOfMemory)
}

fn is(error: &NumericError, expected: DeviceFault) -> bool {
    matches!(error, NumericError::Device { fault, .. } if *fault == expected)
}

#[test]
fn what_is_told_before_is_enough_for_what_is_taken() {
    for (tied, kinds) in
        [(true, Shape::default().kinds), (false, &[TensorType::Q4K][..]), (false, &[TensorType::Q4_0][..])]
    {
        let Some(card) = card() else { return };
        let shape = Shape { width: 256, heads: 16, ffn: 512, vocabulary: 1000, tied, kinds, ..shape() };
        let model = model(&shape);
        let told = plan(&model, &options(), &card).unwrap().device.unwrap();
        assert_eq!((told.capacity_bytes, told.is_hosts), (None, false), "nobody has said how much there is");
        // A card with exactly the memory that is told takes it whole; with a byte less it does not.
        card.device.limit(told.total_bytes());
        let whole = plan(&model, &options(), &card).unwrap();
        assert!(whole.is_whole() && whole.device.unwrap().capacity_bytes == Some(told.total_bytes()));
        card.device.limit(told.total_bytes() - 1);
        assert!(!plan(&model, &options(), &card).unwrap().is_whole());
        card.device.limit(told.total_bytes());
        let shared: Arc<dyn Backend> = card.clone();
        let engine = engine(&model, shared).unwrap();
        let held = card.memory_bytes();
        assert!(held <= told.weights_bytes, "{held} of {told:?}");
        assert!(told.weights_bytes < held * 102 / 100 + 20_000, "{held} of {told:?}");
        let prompt: Vec<u32> = tokens(30);
        answer(&engine, &prompt).unwrap();
        assert!(card.memory_bytes() <= told.total_bytes());
        drop(engine);
        card.device.limit(u64::MAX);
        assert_eq!(card.memory_bytes(), 0, "what was taken is given back");
    }
}

#[test]
fn layers_that_do_not_fit_are_the_cpus() {
    let Some(card) = card() else { return };
    let model = model(&shape());
    let prompt = tokens(12);
    let expected = answer(&engine(&model, cpu()).unwrap(), &prompt).unwrap();
    let all = plan(&model, &options(), &card).unwrap().device.unwrap();
    let limit = all.total_bytes() - all.weights_bytes / 2 - all.kv_bytes / 2;
    card.device.limit(limit);
    let split = plan(&model, &options(), &card).unwrap().split;
    assert!((1..3).contains(&split.layers) && !split.output, "{split:?}");
    let engine = engine(&model, Backends::split(card.clone(), cpu(), split)).unwrap();
    assert_eq!(answer(&engine, &prompt).unwrap(), expected);
    assert!(card.memory_bytes() <= limit);
    // As many as are asked for, or a refusal that names the card.
    let ask = |layers| EngineOptions { device_layers: Some(layers), ..options() };
    let one = plan(&model, &ask(1), &card).unwrap().split;
    assert_eq!(one, Split { layers: 1, ..Split::NONE });
    let refused = plan(&model, &ask(3), &card).unwrap_err();
    assert!(
        matches!(&refused, EngineError::DeviceMemory { device, layers: 3, .. } if device == "emulated card")
    );
    card.device.limit(1000);
    assert_eq!(plan(&model, &options(), &card).unwrap().split, Split::NONE);
}

/// What other programs have taken is not there; what is taken here already is counted to what there is.
#[test]
fn what_is_free_is_told() {
    let Some(card) = emulated(Emulation { memory: 10 << 20, ..Emulation::default() }) else { return };
    let before = card.capacity_bytes().unwrap();
    assert_eq!(before, (10 << 20) / 10 * 9);
    let held = card.device.hold(crate::spec::Op::Linear, 1 << 20).unwrap();
    let after = card.capacity_bytes().unwrap();
    assert!(after >= before && after < before + (1 << 20), "{before} {after}");
    card.device.limit(5000);
    assert_eq!(card.capacity_bytes(), Some(5000));
    drop(held);
}

#[test]
fn a_model_larger_than_the_card_is_refused_while_it_is_loaded() {
    let Some(card) = card() else { return };
    card.device.limit(20_000);
    let shared: Arc<dyn Backend> = card.clone();
    let refused = engine(&model(&shape()), shared).unwrap_err();
    assert!(matches!(&refused, EngineError::Numeric(error) if is_full(error)), "{refused:?}");
    // What was sent before the refusal is given back, and the card still works.
    card.device.limit(20_000);
    assert_eq!(card.memory_bytes(), 0);
    let mut x = [1.0, 2.0];
    card.add(&mut x, &[0.5, 0.25]).unwrap();
    assert_eq!(x, [1.5, 2.25]);
}

#[test]
fn a_request_too_long_for_the_card_fails_and_others_do_not() {
    let Some(card) = card() else { return };
    let model = model(&shape());
    let shared: Arc<dyn Backend> = card.clone();
    let engine = engine(&model, shared).unwrap();
    let (long, short) = (tokens(120), tokens(3));
    let expected = answer(&engine, &short).unwrap();
    card.device.limit(0);
    card.device.limit(card.memory_bytes() + 50_000);
    let error = answer(&engine, &long).unwrap_err();
    assert!(matches!(&error, GenerateError::Numeric(error) if is_full(error)), "{error:?}");
    assert_eq!(answer(&engine, &short).unwrap(), expected);
}

/// Memory is used up in a later layer, in the middle of a pass: earlier layers' caches forget what the pass appended, and the same
/// tokens give the same bits once there is memory.
#[test]
fn a_pass_that_fails_in_a_later_layer_leaves_the_caches_as_they_were() {
    let Some(card) = card() else { return };
    let shape = Shape { layers: 4, ..shape() };
    let model = model(&shape);
    let logits = |decoder: &Decoder, session: &mut _, tokens: &[u32]| {
        let mut out = Vec::new();
        decoder.feed(session, tokens, 0, &mut |_, logits| out.extend_from_slice(logits)).map(|()| out)
    };
    let (first, second) = (tokens(60), tokens(10));
    let on_cpu = Decoder::on(&model, Backends::from(cpu())).unwrap();
    let mut session = on_cpu.session(100).unwrap();
    let expected = [&first, &second].map(|tokens| logits(&on_cpu, &mut session, tokens).unwrap());
    let root = session.trace().root();
    let shared: Arc<dyn Backend> = card.clone();
    let decoder = Decoder::on(&model, Backends::from(shared)).unwrap();
    let ask = |room: Option<u64>| {
        card.device.limit(u64::MAX);
        let mut session = decoder.session(100).unwrap();
        assert_eq!(logits(&decoder, &mut session, &first).unwrap(), expected[0]);
        card.device.limit(0);
        let before = card.memory_bytes();
        card.device.limit(room.map_or(u64::MAX, |room| before + room));
        let found = logits(&decoder, &mut session, &second);
        (found, session, card.memory_bytes() - before)
    };
    // The second pass needs a page more in each layer; with room for fewer it fails in one after another, the last one first.
    let (found, _, mut room) = ask(None);
    assert_eq!(found.unwrap(), expected[1]);
    let page = card.kv_bytes(KvShape { heads: 2, head_dim: 16, capacity: 64 });
    let mut failed = 0;
    while failed < 6 {
        room = room.checked_sub(page / 2).expect("it fails before there is no room at all");
        let (found, mut session, _) = ask(Some(room));
        match found {
            Ok(found) => assert_eq!(found, expected[1]),
            Err(error) => {
                assert!(is_full(&error), "{error:?}");
                failed += 1;
                assert_eq!((session.len(), session.trace().leaves().len()), (60, 60));
                card.device.limit(u64::MAX);
                let again = logits(&decoder, &mut session, &second).unwrap();
                assert_eq!(again, expected[1], "after {room} bytes of room");
                assert_eq!(session.trace().root(), root);
            }
        }
    }
}

/// A card that is lost in the middle of a pass, at any launch of it, leaves sessions as they were.
#[test]
fn a_card_lost_in_a_pass_leaves_the_session() {
    let model = model(&Shape { layers: 2, ..shape() });
    let (mut lost_after, mut failures) = (0, 0);
    loop {
        let Some(card) = emulated(Emulation { lost_after, ..Emulation::default() }) else { return };
        let decoder = Decoder::on(&model, Backends::from(Arc::new(card) as Arc<dyn Backend>)).unwrap();
        let mut session = decoder.session(20).unwrap();
        match decoder.feed(&mut session, &tokens(3), 0, &mut |_, _| {}) {
            Ok(()) => break,
            Err(error) => assert!(is(&error, DeviceFault::Lost), "{error:?}"),
        }
        assert!(session.is_empty() && session.trace().leaves().is_empty());
        failures += 1;
        lost_after += 1;
    }
    assert!(failures > 30, "{failures}");
}
