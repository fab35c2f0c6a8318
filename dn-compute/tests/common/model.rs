//! A whole model on a device: the same tokens and the same trace as on the CPU. Shared by the tests of the devices' backends.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as expected")]

use std::ops::ControlFlow;
use std::sync::Arc;

use dn_compute::{ChatMessage, Engine, EngineError, EngineOptions, GenerateRequest, Model};
use dn_core::objects::{Decoding, Sampling};

/// Two answers of the embedded model with at most so many tokens, and their replays.
pub(crate) fn answers_as_on_the_cpu(
    device: impl FnOnce(Arc<Model>) -> Result<Engine, EngineError>,
    max_tokens: [u32; 2],
) {
    let model = Arc::new(Model::from_bytes(dn_compute::embedded::tiny_rust()).unwrap());
    let cpu = Engine::new(Arc::clone(&model), EngineOptions::default()).unwrap();
    let device = device(Arc::clone(&model)).unwrap();
    // More tokens than a block of keys has: some are read in one pass, some one by one.
    let long = "What is ownership? ".repeat(12);
    for (question, max_tokens) in ["What is ownership?", &long].into_iter().zip(max_tokens) {
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
        let found = device.generate(&request, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!((&found.tokens, found.trace_root), (&expected.tokens, expected.trace_root));
        let replay = device.replay(&request, &expected.tokens, expected.finish).unwrap();
        assert_eq!((replay.divergence, replay.trace_root), (None, expected.trace_root));
    }
}
