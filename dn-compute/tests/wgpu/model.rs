//! A whole model: the same tokens and the same trace as on the CPU.

use std::ops::ControlFlow;
use std::sync::Arc;

use dn_compute::wgpu::WgpuOptions;
use dn_compute::{BackendKind, ChatMessage, Engine, EngineOptions, GenerateRequest, Model};
use dn_core::objects::{Decoding, Sampling};

use super::device;

#[test]
fn the_embedded_model_answers_as_on_the_cpu() {
    if device(&WgpuOptions::default()).is_none() {
        return;
    }
    let model = Arc::new(Model::from_bytes(dn_compute::embedded::tiny_rust()).unwrap());
    let on = |backend| {
        Engine::new(Arc::clone(&model), EngineOptions { backend, ..EngineOptions::default() }).unwrap()
    };
    let (cpu, gpu) = (on(BackendKind::Cpu), on(BackendKind::Wgpu));
    // More tokens than a block of keys has: some are read in one pass, some one by one.
    let long = "What is ownership? ".repeat(12);
    for (question, max_tokens) in [("What is ownership?", 12), (long.as_str(), 4)] {
        let prompt = model.front().chat_prompt(&[ChatMessage::user(question)]).unwrap();
        let request = GenerateRequest {
            prompt: &prompt,
            already: &[],
            sampling: Sampling { temperature_micro: 700_000, seed: 7, ..Sampling::GREEDY },
            decoding: Decoding::plain(),
            max_tokens,
            stop: &[],
        };
        let expected = cpu.generate(&request, &mut |_| ControlFlow::Continue(())).unwrap();
        let found = gpu.generate(&request, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(found.tokens, expected.tokens);
        assert_eq!(found.trace_root, expected.trace_root);
        let replay = gpu.replay(&request, &expected.tokens, expected.finish).unwrap();
        assert_eq!((replay.divergence, replay.trace_root), (None, expected.trace_root));
    }
}
