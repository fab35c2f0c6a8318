//! Devices that fail: the request fails with the device's name and what to do, and nothing else does.

use super::*;
use crate::cpu::Cpu;
use crate::engine::BatchRequest;
use crate::runtime::Backends;
use crate::spec::{Backend, DeviceFault};
use crate::testing::device::device;
use crate::wgpu::{Wgpu, WgpuOptions};
use crate::{BatchOptions, Runner, Update};

fn model() -> Arc<Model> {
    Arc::new(Model::from_bytes(Shape { layers: 3, ..Shape::default() }.file(2)).unwrap())
}

fn engine_on(backend: impl Backend + 'static) -> Engine {
    let backend: Arc<dyn Backend> = Arc::new(backend);
    Engine::on(model(), backend, EngineOptions::default()).unwrap()
}

fn opened(limit: Option<u64>) -> Option<Wgpu> {
    device(&WgpuOptions { memory_limit: limit, ..WgpuOptions::default() })
}

/// The fault, of an error that names the device and says what to do.
fn fault(error: &GenerateError, device: &Wgpu) -> DeviceFault {
    let GenerateError::Numeric(NumericError::Device { fault, .. }) = error else { panic!("{error:?}") };
    assert!(error.to_string().contains(&device.adapter().name), "{error}");
    fault.clone()
}

#[test]
fn a_device_lost_between_tokens_fails_its_request_only() {
    let Some(device) = opened(None) else { return };
    let (gpu, cpu) = (engine_on(device.clone()), engine_on(Cpu::detect().unwrap()));
    let prompt = prompt_of(&mut Rng(1), 70, 131);
    let request = request(&prompt, warm(3), 20);
    let expected = cpu.generate(&request, &mut go_on).unwrap();
    let mut tokens = Vec::new();
    let lost = gpu.generate(&request, &mut |token| {
        tokens.push(token);
        if tokens.len() == 5 {
            device.close();
        }
        ControlFlow::Continue(())
    });
    let error = lost.unwrap_err();
    assert_eq!(fault(&error, &device), DeviceFault::Lost);
    assert!(error.to_string().contains("restart"), "{error}");
    assert_eq!(tokens, expected.tokens[..5], "what came before is right");
    // From then on it always fails, and at once; whoever runs it is told.
    assert_eq!(gpu.failure().map(|failure| failure.fault), Some(DeviceFault::Lost));
    assert_eq!(
        (cpu.failure(), gpu.failure().map(|f| f.device)),
        (None, Some(device.adapter().name.as_str().into()))
    );
    assert_eq!(fault(&gpu.generate(&request, &mut go_on).unwrap_err(), &device), DeviceFault::Lost);
    // The CPU goes on, and the device opened anew gives the same bits.
    assert_eq!(cpu.generate(&request, &mut go_on).unwrap().trace_root, expected.trace_root);
    let again = engine_on(opened(None).expect("it was there before"));
    assert_eq!(again.failure(), None);
    let answer = again.generate(&request, &mut go_on).unwrap();
    assert_eq!((answer.tokens, answer.trace_root), (expected.tokens, expected.trace_root));
}

#[test]
fn a_device_lost_in_a_batch_ends_each_of_its_requests_and_the_runner_lives() {
    let Some(device) = opened(None) else { return };
    let runner = Runner::start(Arc::new(engine_on(device.clone())), BatchOptions::default()).unwrap();
    let prompts: Vec<Vec<u32>> = (0..3).map(|i| prompt_of(&mut Rng(i), 20, 131)).collect();
    let submit =
        |prompt: &Vec<u32>| runner.submit(BatchRequest::new(&request(prompt, Sampling::GREEDY, 60))).unwrap();
    let tickets: Vec<_> = prompts.iter().map(submit).collect();
    assert!(matches!(tickets[0].wait(), Update::Token(_)));
    device.close();
    for ticket in tickets {
        let end = loop {
            match ticket.wait() {
                Update::Token(_) => {}
                end => break end,
            }
        };
        let Update::Failed(BatchError::Request(error)) = end else { panic!("{end:?}") };
        assert_eq!(fault(&error, &device), DeviceFault::Lost);
    }
    let Update::Failed(BatchError::Request(error)) = submit(&prompts[0]).wait() else { panic!() };
    assert_eq!(fault(&error, &device), DeviceFault::Lost);
}

#[test]
fn a_model_larger_than_the_device_is_refused_while_it_is_loaded() {
    let Some(device) = opened(Some(20_000)) else { return };
    let shared: Arc<dyn Backend> = Arc::new(device.clone());
    let refused = Engine::on(model(), shared, EngineOptions::default()).unwrap_err();
    let EngineError::Numeric(NumericError::Device { fault, .. }) = &refused else { panic!("{refused:?}") };
    assert_eq!(*fault, DeviceFault::OutOfMemory);
    let text = refused.to_string();
    assert!(text.contains(&device.adapter().name) && text.contains("fewer layers"), "{text}");
    assert!(device.memory_bytes() <= 20_000);
    // What was sent before the refusal is given back, and the device still works.
    let mut x = [1.0, 2.0];
    device.add(&mut x, &[0.5, 0.25]).unwrap();
    assert_eq!(x, [1.5, 2.25]);
}

#[test]
fn a_request_too_long_for_the_device_fails_and_a_short_one_after_it_does_not() {
    let Some(measured) = opened(None) else { return };
    let weights = {
        let _engine = engine_on(measured.clone());
        measured.memory_bytes()
    };
    assert!(measured.memory_bytes() < weights / 10, "what the engine held is given back");
    let Some(device) = opened(Some(weights + 300_000)) else { return };
    let (gpu, cpu) = (engine_on(device.clone()), engine_on(Cpu::detect().unwrap()));
    let prompt = prompt_of(&mut Rng(4), 100, 131);
    let (long, short) = (request(&prompt, warm(1), 9), request(&prompt[..3], warm(1), 9));
    assert_eq!(fault(&gpu.generate(&long, &mut go_on).unwrap_err(), &device), DeviceFault::OutOfMemory);
    assert_eq!(gpu.failure(), None);
    let (found, expected) =
        (gpu.generate(&short, &mut go_on).unwrap(), cpu.generate(&short, &mut go_on).unwrap());
    assert_eq!((found.tokens, found.trace_root), (expected.tokens, expected.trace_root));
}

/// Limits far below the model's matrices and calls: all of it goes in many parts.
#[test]
fn a_device_of_small_buffers_gives_the_same_bits() {
    let options = WgpuOptions {
        max_binding_bytes: Some(1 << 12),
        max_dispatch_words: Some(1 << 11),
        ..WgpuOptions::default()
    };
    let Some(device) = device(&options) else { return };
    let (gpu, cpu) = (engine_on(device), engine_on(Cpu::detect().unwrap()));
    let prompt = prompt_of(&mut Rng(5), 80, 131);
    let request = request(&prompt, warm(8), 5);
    let (found, expected) =
        (gpu.generate(&request, &mut go_on).unwrap(), cpu.generate(&request, &mut go_on).unwrap());
    assert_eq!((found.tokens, found.trace_root), (expected.tokens, expected.trace_root));
}

/// A device that has half of the layers: its loss is the request's failure, too.
#[test]
fn a_lost_device_fails_requests_that_it_shares() {
    let Some(device) = opened(None) else { return };
    let cpu: Arc<dyn Backend> = Arc::new(Cpu::detect().unwrap());
    let split = Split { layers: 2, embedding: false, output: false };
    let backends = Backends::split(Arc::new(device.clone()), cpu, split);
    let engine = Engine::on(model(), backends, EngineOptions::default()).unwrap();
    let request = request(&[1, 2, 3], Sampling::GREEDY, 8);
    engine.generate(&request, &mut go_on).unwrap();
    device.close();
    assert_eq!(fault(&engine.generate(&request, &mut go_on).unwrap_err(), &device), DeviceFault::Lost);
    assert_eq!(engine.failure().map(|failure| failure.fault), Some(DeviceFault::Lost));
}
