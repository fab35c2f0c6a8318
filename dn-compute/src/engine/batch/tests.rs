use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::time::Duration;

use dn_core::objects::{Decoding, FinishReason, Grammar, Sampling};
use proptest::prelude::*;

use super::*;
use crate::cpu::Isa;
use crate::engine::{EngineOptions, GenerateRequest, Generation, ReplayRequest, Timings};
use crate::formats::gguf::TensorType;
use crate::model::Model;
use crate::spec::attention::KEY_BLOCK;
use crate::testing::{Rng, Shape, byte_vocabulary};

/// Long enough for several pages, narrow enough to be quick.
fn shape() -> Shape {
    Shape { context: 400, width: 32, head_size: 8, ffn: 32, kinds: &[TensorType::Q8_0], ..Shape::default() }
}

/// A file of this shape, with a token for each byte.
fn file_with_tokenizer(shape: &Shape, seed: u64) -> Vec<u8> {
    let mut w = shape.metadata();
    byte_vocabulary(&mut w, shape.vocabulary);
    shape.tensors(&mut w, seed);
    w.finish()
}

fn engine(file: &[u8], isa: Isa, threads: usize, chunk: usize) -> Arc<Engine> {
    let options = EngineOptions {
        isa,
        threads: NonZeroUsize::new(threads),
        prefill_chunk: NonZeroUsize::new(chunk).unwrap(),
        ..EngineOptions::default()
    };
    Arc::new(Engine::new(Arc::new(Model::from_bytes(file.to_vec()).unwrap()), options).unwrap())
}

fn options(slots: usize, step_tokens: usize) -> BatchOptions {
    BatchOptions {
        slots: NonZeroUsize::new(slots).unwrap(),
        step_tokens: NonZeroUsize::new(step_tokens).unwrap(),
        ..BatchOptions::default()
    }
}

fn warm(seed: u64) -> Sampling {
    let (temperature_micro, top_p_micro) = (1_100_000, 980_000);
    let presence = if seed.is_multiple_of(2) { 300_000 } else { 0 };
    Sampling { temperature_micro, top_k: 50, top_p_micro, presence_micro: presence, seed, ..Sampling::GREEDY }
}

/// Tokens that some other request is likely to begin with, too.
fn prompt(rng: &mut Rng, len: usize) -> Vec<u32> {
    let mut shared = Rng(rng.next() % 2);
    let own = (rng.next() % 4) as usize * len / 4;
    (0..len).map(|i| (if i < own { shared.next() } else { rng.next() } % shape().vocabulary) as u32).collect()
}

fn request(prompt: Vec<u32>, sampling: Sampling, max_tokens: u32) -> BatchRequest {
    let view = GenerateRequest {
        prompt: &prompt,
        already: &[],
        sampling,
        decoding: Decoding::plain(),
        max_tokens,
        stop: &[],
    };
    BatchRequest::new(&view)
}

fn alone(engine: &Engine, request: &BatchRequest) -> Result<Generation, GenerateError> {
    engine.generate(&request.generate_request(), &mut |_| ControlFlow::Continue(()))
}

/// What must be equal: all but the time it took.
fn essence(generation: &Generation) -> Generation {
    Generation { timings: Timings::default(), ..generation.clone() }
}

/// Runs to the end; every request's answer, and its tokens as they came.
type Ends = HashMap<RequestId, (Result<Generation, GenerateError>, Vec<u32>)>;

fn collect(events: Vec<BatchEvent>, tokens: &mut HashMap<RequestId, Vec<u32>>, ends: &mut Ends) {
    for event in events {
        let (id, end) = match event {
            BatchEvent::Token { id, choice } => {
                assert!(!ends.contains_key(&id), "a token after the end");
                tokens.entry(id).or_default().push(choice.token);
                continue;
            }
            BatchEvent::Done { id, generation } => (id, Ok(*generation)),
            BatchEvent::Failed { id, error } => (id, Err(error)),
        };
        let streamed = tokens.remove(&id).unwrap_or_default();
        assert!(ends.insert(id, (end, streamed)).is_none(), "two ends");
    }
}

fn run(batcher: &mut Batcher) -> Ends {
    let (mut tokens, mut ends) = (HashMap::new(), HashMap::new());
    for _ in 0..10_000 {
        if batcher.is_idle() {
            return ends;
        }
        collect(batcher.step(Instant::now()), &mut tokens, &mut ends);
    }
    panic!("10,000 steps and no end");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// The law of continuous batching: whatever runs beside it, in whatever pieces, an answer is the one it has alone.
    #[test]
    fn neighbours_change_no_bit(
        seed: u64, slots in 1usize..7, step_tokens in 1usize..40, chunk in 1usize..100, threads in 1usize..4,
        scalar: bool, pages in 0u64..12, count in 1usize..12, qwen: bool,
    ) {
        let shape = Shape { arch: if qwen { "qwen2" } else { "llama" }, vocabulary: 270, ..shape() };
        let file = file_with_tokenizer(&shape, seed % 4);
        let lone = engine(&file, Isa::Auto, 1, 256);
        let isa = if scalar { Isa::Scalar } else { Isa::Auto };
        let engine = engine(&file, isa, threads, chunk);
        let page = engine.decoder.kv_bytes(1) + 32 * KEY_BLOCK as u64;
        let options = BatchOptions { prefix_cache_bytes: pages * page, ..options(slots, step_tokens) };
        let mut batcher = Batcher::new(engine, options);
        let mut rng = Rng(seed);
        let scopes = [None, Some(CacheScope::PUBLIC), Some(CacheScope::new(b"tenant"))];
        let (mut asked, mut cancelled) = (HashMap::new(), Vec::new());
        let (mut tokens, mut ends) = (HashMap::new(), HashMap::new());
        while asked.len() < count || !batcher.is_idle() {
            if asked.len() < count && rng.next().is_multiple_of(3) {
                let len = 1 + (rng.next() % 200) as usize;
                let sampling = if rng.next().is_multiple_of(3) { Sampling::GREEDY } else { warm(rng.next()) };
                let mut new = request(prompt(&mut rng, len), sampling, 1 + (rng.next() % 70) as u32);
                new.decoding.logprobs = [None, Some(2)][(rng.next() % 2) as usize];
                new.decoding.grammar = match rng.next() % 6 {
                    0 => Grammar::JsonObject,
                    1 => Grammar::Regex { pattern: "(ab|[c-z0-9 ]){3,50}".to_owned() },
                    _ => Grammar::None,
                };
                if rng.next().is_multiple_of(4) {
                    new.stop = vec!["q".to_owned(), "7 ".to_owned()];
                }
                new.scope = scopes[(rng.next() % 3) as usize];
                if rng.next().is_multiple_of(3) {
                    // Half of it exists already, or all of it.
                    let mut whole = alone(&lone, &new).unwrap().tokens;
                    whole.truncate((rng.next() as usize) % (whole.len() + 1));
                    new.already = whole;
                }
                let id = batcher.submit(new.clone()).unwrap();
                asked.insert(id, new);
                if rng.next().is_multiple_of(4) {
                    cancelled.push((id, rng.next() % 30));
                }
            }
            cancelled.retain_mut(|(id, after)| {
                *after = after.saturating_sub(1);
                if *after == 0 { batcher.cancel(*id); }
                *after > 0
            });
            collect(batcher.step(Instant::now()), &mut tokens, &mut ends);
            prop_assert!(batcher.status().prefix_cache_bytes <= pages * page);
        }
        prop_assert_eq!(batcher.status().kv_reserved_bytes, 0, "nothing is left behind");
        prop_assert!(tokens.is_empty());
        for (id, request) in &asked {
            let (end, streamed) = &ends[id];
            let whole = alone(&lone, request).unwrap();
            match end {
                Ok(done) => {
                    let same = whole.clone().cut(done.tokens.len());
                    prop_assert_eq!(essence(done), essence(&same));
                    prop_assert_eq!(&streamed[..], &done.tokens[request.already.len()..]);
                }
                Err(error) => {
                    let cancelled = matches!(error, GenerateError::Cancelled { .. });
                    prop_assert!(cancelled && streamed.is_empty(), "{}", error);
                }
            }
        }
    }

    /// Many receipts in one pass give what each gives alone, also with outputs that nobody computed.
    #[test]
    fn replays_together_are_replays_alone(seed: u64, chunk in 1usize..200, count in 1usize..9) {
        let file = shape().file(seed % 4);
        let (lone, many) = (engine(&file, Isa::Auto, 1, 64), engine(&file, Isa::Auto, 2, chunk));
        let mut rng = Rng(seed);
        let answers: Vec<_> = (0..count)
            .map(|_| {
                let len = 1 + (rng.next() % 90) as usize;
                let request = request(prompt(&mut rng, len), warm(rng.next()), 1 + (rng.next() % 40) as u32);
                let done = alone(&lone, &request).unwrap();
                let mut output = done.tokens;
                match rng.next() % 4 {
                    0 => output.push(3),
                    1 => output[0] = (rng.next() % 140) as u32,
                    2 => output.truncate(output.len() / 2),
                    _ => {}
                }
                (request, output, done.finish)
            })
            .collect();
        let asked: Vec<_> = answers
            .iter()
            .map(|(r, output, finish)| ReplayRequest { request: r.generate_request(), output, finish: *finish })
            .collect();
        for (together, asked) in many.replay_many(&asked).into_iter().zip(&asked) {
            let (together, alone) =
                (together.unwrap(), lone.replay(&asked.request, asked.output, asked.finish).unwrap());
            prop_assert_eq!(&together.trace, &alone.trace);
            prop_assert_eq!(together.divergence, alone.divergence);
        }
    }
}

#[test]
fn a_cut_answer_is_the_one_that_was_broken_off() {
    let engine = engine(&shape().file(1), Isa::Auto, 1, 64);
    let asked = request(vec![4, 5, 6], warm(3), 12);
    let whole = alone(&engine, &asked).unwrap();
    for kept in 1..12 {
        let mut left = kept;
        let broken = engine.generate(&asked.generate_request(), &mut |_| {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(essence(&whole.clone().cut(kept)), essence(&broken.unwrap()));
    }
    for kept in [0, 12, 13] {
        assert_eq!(whole.clone().cut(kept), whole);
    }
}

#[test]
fn a_common_beginning_is_computed_once_and_only_inside_a_scope() {
    let engine = engine(&shape().file(2), Isa::Auto, 1, 64);
    let mut batcher = Batcher::new(Arc::clone(&engine), options(4, 32));
    let long: Vec<u32> = (0..KEY_BLOCK as u32 * 2 + 10).map(|i| i % 131).collect();
    let scoped = |scope| BatchRequest { scope, ..request(long.clone(), warm(1), 3) };
    let mine = Some(CacheScope::new(b"me"));
    let fed = |batcher: &mut Batcher, request: BatchRequest| {
        batcher.submit(request).unwrap();
        let (end, _) = run(batcher).into_values().next().unwrap();
        end.unwrap().timings.prefill_tokens as usize
    };
    assert_eq!(fed(&mut batcher, scoped(mine)), long.len());
    assert_eq!(fed(&mut batcher, scoped(mine)), 10, "two pages are known");
    assert_eq!(batcher.status().prefix_pages_found, 2);
    assert_eq!(fed(&mut batcher, scoped(None)), long.len());
    assert_eq!(fed(&mut batcher, scoped(Some(CacheScope::new(b"you")))), long.len());
    assert_eq!(fed(&mut batcher, scoped(Some(CacheScope::PUBLIC))), long.len());
    // The last position is always computed: a prompt of whole pages leaves its last page out.
    let whole = BatchRequest { prompt: long[..2 * KEY_BLOCK].to_vec(), ..scoped(mine) };
    assert_eq!(fed(&mut batcher, whole), KEY_BLOCK);
    // What an answer said is a part of the next prompt: there it has no logits in its leaves.
    let first = BatchRequest { max_tokens: 80, ..scoped(mine) };
    let said = alone(&engine, &first).unwrap().tokens;
    assert_eq!(fed(&mut batcher, first), 10);
    let second = BatchRequest { prompt: [long.clone(), said].concat(), ..scoped(mine) };
    let expected = alone(&engine, &second).unwrap();
    batcher.submit(second).unwrap();
    let (end, _) = run(&mut batcher).into_values().next().unwrap();
    let end = end.unwrap();
    assert_eq!(end.timings.prefill_tokens as usize, (long.len() + 80) - 3 * KEY_BLOCK);
    assert_eq!(essence(&end), essence(&expected));
}

#[test]
fn memory_is_bounded_and_the_queue_too() {
    let engine = engine(&shape().file(2), Isa::Auto, 1, 64);
    let page = engine.decoder.kv_bytes(1);
    let options = BatchOptions { kv_bytes: 3 * page, queue: NonZeroUsize::new(5).unwrap(), ..options(8, 16) };
    let mut batcher = Batcher::new(engine, options);
    let of_pages = |pages: u32| request(vec![1, 2], warm(1), KEY_BLOCK as u32 * pages - 2);
    let refused = batcher.submit(of_pages(4)).unwrap_err();
    assert_eq!(refused, BatchError::Memory { needed: 4 * page, limit: 3 * page });
    for _ in 0..5 {
        batcher.submit(of_pages(1)).unwrap();
    }
    assert_eq!(batcher.submit(of_pages(1)).unwrap_err(), BatchError::QueueFull { limit: 5 });
    batcher.step(Instant::now());
    let status = batcher.status();
    assert_eq!((status.running, status.waiting, status.kv_reserved_bytes), (3, 2, 3 * page));
    // A large one is not overtaken: it waits until all of its memory is free.
    let large = batcher.submit(of_pages(3)).unwrap();
    let small = batcher.submit(of_pages(1)).unwrap();
    let (mut tokens, mut ends) = (HashMap::new(), HashMap::new());
    while !ends.contains_key(&large) {
        assert!(!ends.contains_key(&small));
        collect(batcher.step(Instant::now()), &mut tokens, &mut ends);
        assert!(batcher.status().kv_bytes <= batcher.status().kv_reserved_bytes);
    }
    assert_eq!(run(&mut batcher).len(), 1);
}

#[test]
fn requests_that_cannot_be_served_are_refused() {
    let engine = engine(&shape().file(2), Isa::Auto, 1, 64);
    let mut batcher = Batcher::new(Arc::clone(&engine), options(2, 16));
    let refused = batcher.submit(request(Vec::new(), warm(1), 3)).unwrap_err();
    assert_eq!(refused, BatchError::Request(GenerateError::EmptyPrompt));
    let long = BatchRequest { already: vec![0; 9], ..request(vec![1], Sampling::GREEDY, 4) };
    let error = GenerateError::AlreadyTooLong { length: 4, found: 9 };
    assert_eq!(batcher.submit(long).unwrap_err(), BatchError::Request(error));
    assert!(batcher.is_idle());
    let good = request(vec![1, 2], warm(9), 8);
    let mut wrong = good.clone();
    wrong.already = alone(&engine, &good).unwrap().tokens[..5].to_vec();
    wrong.already[3] ^= 1;
    let expected = alone(&engine, &wrong).unwrap_err();
    assert!(matches!(expected, GenerateError::AlreadyDiverges { position: 5, .. }));
    batcher.submit(wrong).unwrap();
    let (end, streamed) = run(&mut batcher).into_values().next().unwrap();
    assert_eq!((end.unwrap_err(), streamed.len()), (expected, 0));
}

/// Embedding rows of tokens from 120 on overflow on their way: whoever says one fails, and nobody else.
#[test]
fn a_neighbour_that_overflows_fails_alone() {
    let shape = Shape { kinds: &[TensorType::F32], tied: false, ..shape() };
    let mut w = shape.metadata();
    shape.tensors_with(&mut w, 5, |name, values| {
        if name == "token_embd.weight" {
            values[120 * 32..].fill(1e30);
        }
    });
    let file = w.finish();
    let engine = engine(&file, Isa::Auto, 2, 8);
    let mut batcher = Batcher::new(Arc::clone(&engine), options(6, 8));
    let prompts: Vec<Vec<u32>> =
        (0..6).map(|i| if i % 2 == 0 { vec![1, 2, i, 3] } else { vec![7, 125, i] }).collect();
    let ids: Vec<_> =
        prompts.iter().map(|p| batcher.submit(request(p.clone(), Sampling::GREEDY, 4)).unwrap()).collect();
    let ends = run(&mut batcher);
    let mut failed = 0;
    for (id, prompt) in ids.iter().zip(&prompts) {
        match (&ends[id].0, alone(&engine, &request(prompt.clone(), Sampling::GREEDY, 4))) {
            (Ok(a), Ok(b)) => assert_eq!(essence(a), essence(&b)),
            (Err(a), Err(b)) => {
                // Which row of a batch is at fault is told by its place in the step.
                assert_eq!(std::mem::discriminant(a), std::mem::discriminant(&b));
                failed += 1;
            }
            (a, b) => panic!("{a:?} in the batch, {b:?} alone"),
        }
    }
    assert!((3..6).contains(&failed), "{failed} failed");
}

#[test]
fn deadlines_and_cancellation_leave_nothing() {
    let engine = engine(&shape().file(2), Isa::Auto, 1, 16);
    let mut batcher = Batcher::new(Arc::clone(&engine), options(2, 16));
    let start = Instant::now();
    let late = BatchRequest { deadline: Some(start), ..request(vec![1], warm(1), 5) };
    let late = batcher.submit(late).unwrap();
    let reading = batcher.submit(request(vec![3; 200], warm(1), 50)).unwrap();
    let waits = batcher.submit(request(vec![3; 200], warm(1), 50)).unwrap();
    let soon = start + Duration::from_secs(100);
    let decodes = BatchRequest { deadline: Some(soon), ..request(vec![2], warm(4), 300) };
    let decodes = batcher.submit(decodes).unwrap();
    let (mut tokens, mut ends) = (HashMap::new(), HashMap::new());
    collect(batcher.step(start), &mut tokens, &mut ends);
    assert_eq!(ends[&late].0, Err(GenerateError::Deadline { read: 0, prompt: 1 }));
    assert!(batcher.cancel(reading) && batcher.cancel(waits));
    collect(batcher.step(start), &mut tokens, &mut ends);
    assert_eq!(ends[&reading].0, Err(GenerateError::Cancelled { read: 8, prompt: 200 }));
    assert_eq!(ends[&waits].0.as_ref().unwrap_err(), &GenerateError::Cancelled { read: 8, prompt: 200 });
    for _ in 0..5 {
        collect(batcher.step(start), &mut tokens, &mut ends);
    }
    collect(batcher.step(soon), &mut tokens, &mut ends);
    let cut = ends[&decodes].0.as_ref().unwrap();
    let whole = alone(&engine, &request(vec![2], warm(4), 300)).unwrap();
    assert_eq!((cut.finish, cut.tokens.len()), (FinishReason::Cancelled, 6));
    assert_eq!(essence(cut), essence(&whole.cut(6)));
    assert!(batcher.is_idle() && !batcher.cancel(decodes));
    assert_eq!(batcher.status(), BatchStatus::default());
}

#[test]
fn a_runner_serves_many_threads_and_stops() {
    let engine = engine(&shape().file(3), Isa::Auto, 2, 32);
    let runner = Runner::start(Arc::clone(&engine), options(3, 16)).unwrap();
    std::thread::scope(|scope| {
        for seed in 0..8u64 {
            let (runner, engine) = (&runner, &engine);
            scope.spawn(move || {
                let asked = request(prompt(&mut Rng(seed), 10 + 9 * seed as usize), warm(seed), 20);
                let ticket = runner.submit(asked.clone()).unwrap();
                let mut tokens = Vec::new();
                let done = loop {
                    match ticket.wait() {
                        Update::Token(choice) => tokens.push(choice.token),
                        Update::Done(done) => break done,
                        Update::Failed(error) => panic!("{error}"),
                    }
                };
                assert_eq!(tokens, done.tokens);
                assert_eq!(essence(&done), essence(&alone(engine, &asked).unwrap()));
            });
        }
    });
    // One that is let go of does not hold a slot.
    drop(runner.submit(request(vec![1; 300], warm(1), 99)).unwrap());
    let ticket = runner.submit(request(vec![1; 300], warm(1), 99)).unwrap();
    ticket.cancel();
    let last = loop {
        match ticket.wait() {
            Update::Token(_) => {}
            last => break last,
        }
    };
    match last {
        Update::Done(done) => assert_eq!(done.finish, FinishReason::Cancelled),
        Update::Failed(error) => {
            assert!(matches!(error, BatchError::Request(GenerateError::Cancelled { .. })), "{error}");
        }
        Update::Token(_) => unreachable!("not the last"),
    }
    let refused = runner.submit(request(Vec::new(), warm(1), 1)).unwrap().wait();
    assert_eq!(refused, Update::Failed(BatchError::Request(GenerateError::EmptyPrompt)));
    let left = runner.submit(request(vec![1; 300], warm(1), 99)).unwrap();
    drop(runner);
    let end = loop {
        match left.wait() {
            Update::Token(_) => {}
            end => break end,
        }
    };
    assert_eq!(end, Update::Failed(BatchError::Stopped));
}
