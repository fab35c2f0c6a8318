#[cfg(feature = "wgpu")]
mod failures;

use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::*;
use crate::cpu::Isa;
use crate::formats::gguf::TensorType;
use crate::sampling::sample;
use crate::testing::{Rng, Shape, Stretch};

fn engine_with(file: Vec<u8>, options: EngineOptions) -> Engine {
    Engine::new(Arc::new(Model::from_bytes(file).unwrap()), options).unwrap()
}

fn threads(n: usize) -> EngineOptions {
    EngineOptions { threads: NonZeroUsize::new(n), ..EngineOptions::default() }
}

fn go_on(_: u32) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn warm(seed: u64) -> Sampling {
    let (temperature_micro, top_p_micro) = (1_200_000, 950_000);
    Sampling { temperature_micro, top_k: 40, top_p_micro, min_p_micro: 10_000, seed, ..Sampling::GREEDY }
}

fn prompt_of(rng: &mut Rng, len: usize, vocabulary: u64) -> Vec<u32> {
    (0..len).map(|_| (rng.next() % vocabulary) as u32).collect()
}

fn request(prompt: &[u32], sampling: Sampling, max_tokens: u32) -> GenerateRequest<'_> {
    GenerateRequest { prompt, already: &[], sampling, decoding: Decoding::plain(), max_tokens, stop: &[] }
}

/// Shapes of every supported form; a third of them with weights of four to six bits, whose rows are whole blocks of 256.
fn shapes() -> impl Strategy<Value = Shape> {
    const NARROW: &[&[TensorType]] = &[
        &[TensorType::Q4_0],
        &[TensorType::Q4K, TensorType::Q6K],
        &[TensorType::Q5K, TensorType::Q4K, TensorType::Q8_0],
    ];
    let narrow =
        (1u64..3, 0..NARROW.len(), 5u64..200, any::<bool>()).prop_map(|(layers, kinds, vocabulary, tied)| {
            let (width, heads, kv_heads, head_size, ffn, kinds) = (256, 8, 2, 32, 256, NARROW[kinds]);
            Shape {
                layers,
                width,
                heads,
                kv_heads,
                head_size,
                ffn,
                vocabulary,
                tied,
                kinds,
                ..Shape::default()
            }
        });
    let stretches = [Stretch::None, Stretch::Linear, Stretch::Yarn, Stretch::Factors];
    let ways = (0usize..4, prop_oneof![2 => Just(None), 1 => (1u32..60).prop_map(Some)], 0..stretches.len());
    (prop_oneof![2 => small_shapes(), 1 => narrow], ways).prop_map(move |(shape, (arch, window, stretch))| {
        let arch = ["llama", "qwen2", "qwen3", "llama"][arch];
        Shape { arch, window, stretch: stretches[stretch], ..shape }
    })
}

fn small_shapes() -> impl Strategy<Value = Shape> {
    const ALL: &[TensorType] = &[TensorType::Q8_0, TensorType::F16, TensorType::F32, TensorType::Bf16];
    let kinds = prop_oneof![
        Just(ALL),
        Just(&[TensorType::Q8_0] as &'static [_]),
        Just(&[TensorType::F32] as &'static [_]),
    ];
    let heads = prop_oneof![Just((1, 1)), Just((4, 2)), Just((6, 2)), Just((3, 3)), Just((8, 1))];
    let sizes = (1u64..4, heads, prop_oneof![Just(8u64), Just(16), Just(32)], 1u64..4, 5u64..200);
    (sizes, any::<bool>(), kinds).prop_map(|((layers, heads, head_size, wide, vocabulary), tied, kinds)| {
        // Q8_0 needs rows of whole blocks; the attention output's rows are the heads together.
        let (heads, kv_heads) = heads;
        let whole = (heads * head_size).is_multiple_of(32);
        Shape {
            layers,
            width: 32 * wide,
            heads,
            kv_heads,
            head_size,
            ffn: 32 * (4 - wide),
            vocabulary,
            tied,
            kinds: if whole { kinds } else { &[TensorType::F16, TensorType::F32] },
            ..Shape::default()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The law of the project: how tokens are fed, cut, split over threads or instruction sets changes no bit.
    #[test]
    fn decode_equals_prefill_on_every_path(
        shape in shapes(), seed: u64, len in 1usize..70, chunk in 1usize..80, sampled: bool,
    ) {
        let file = shape.file(seed);
        let mut rng = Rng(seed ^ 1);
        let prompt = prompt_of(&mut rng, len, shape.vocabulary);
        let sampling = if sampled { warm(seed) } else { Sampling::GREEDY };
        let request = request(&prompt, sampling, 12);
        let one = engine_with(file.clone(), threads(1));
        let done = one.generate(&request, &mut go_on).unwrap();
        prop_assert_eq!(done.tokens.len(), 12);
        prop_assert_eq!(done.trace.leaves().len(), len + 11);
        let chunks = EngineOptions { prefill_chunk: NonZeroUsize::new(chunk).unwrap(), ..threads(3) };
        let mut others = vec![
            engine_with(file.clone(), chunks),
            engine_with(file.clone(), EngineOptions { backend: BackendKind::Reference, ..threads(1) }),
        ];
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            others.push(engine_with(file.clone(), EngineOptions { isa, ..threads(2) }));
        }
        for other in &others {
            let replay = other.replay(&request, &done.tokens, done.finish).unwrap();
            prop_assert_eq!(replay.divergence, None);
            prop_assert_eq!(&replay.trace, &done.trace);
            prop_assert_eq!(replay.trace_root, done.trace_root);
            let again = other.generate(&request, &mut go_on).unwrap();
            prop_assert_eq!(&again.tokens, &done.tokens);
            prop_assert_eq!(again.trace_root, done.trace_root);
        }
    }

    #[test]
    fn a_continued_answer_is_the_uninterrupted_one(seed: u64, len in 1usize..40, cut in 0usize..20) {
        let shape = Shape::default();
        let engine = engine_with(shape.file(seed), threads(1));
        let prompt = prompt_of(&mut Rng(seed), len, shape.vocabulary);
        let whole = request(&prompt, warm(seed), 20);
        let done = engine.generate(&whole, &mut go_on).unwrap();
        let mut seen = Vec::new();
        let rest = GenerateRequest { already: &done.tokens[..cut], ..whole };
        let resumed = engine.generate(&rest, &mut |t| { seen.push(t); ControlFlow::Continue(()) }).unwrap();
        prop_assert_eq!(&resumed.tokens, &done.tokens);
        prop_assert_eq!(&resumed.trace, &done.trace);
        prop_assert_eq!(&seen[..], &done.tokens[cut..]);
        // An answer that is complete already is recognised.
        let rest = GenerateRequest { already: &done.tokens, ..whole };
        let complete = engine.generate(&rest, &mut |_| panic!("nothing is new")).unwrap();
        prop_assert_eq!(&complete.tokens, &done.tokens);
        prop_assert_eq!(complete.trace_root, done.trace_root);
        prop_assert_eq!(complete.finish, done.finish);
    }

    #[test]
    fn replay_names_the_first_altered_token(seed: u64, at in 0usize..15, by in 1u32..130) {
        let shape = Shape::default();
        let engine = engine_with(shape.file(seed), threads(1));
        let prompt = prompt_of(&mut Rng(seed), 9, shape.vocabulary);
        let request = request(&prompt, warm(seed), 15);
        let done = engine.generate(&request, &mut go_on).unwrap();
        let mut altered = done.tokens.clone();
        altered[at] = (altered[at] + by) % shape.vocabulary as u32;
        let replay = engine.replay(&request, &altered, done.finish).unwrap();
        let kind = DivergenceKind::Token { expected: done.tokens[at], found: altered[at] };
        prop_assert_eq!(replay.divergence, Some(Divergence { position: 9 + at as u32, kind }));
        // The altered token is in the leaf of its own position, if it was fed at all.
        let fed = at + 1 < altered.len();
        let differs = replay.trace.first_difference(done.trace.leaves());
        prop_assert_eq!(differs, fed.then_some(9 + at as u32));
    }
}

#[test]
fn replay_catches_weights_seed_and_settings() {
    let shape = Shape { kinds: &[TensorType::Q8_0], vocabulary: 97, ..Shape::default() };
    let honest = engine_with(shape.file(3), threads(1));
    let cheap = Engine::new(Arc::new(honest.model().coarsened(4).unwrap()), threads(1)).unwrap();
    assert_ne!(cheap.model().id(), honest.model().id());
    let prompt = prompt_of(&mut Rng(5), 12, 97);
    let asked = request(&prompt, warm(5), 24);
    let cheat = cheap.generate(&asked, &mut go_on).unwrap();
    let replay = honest.replay(&asked, &cheat.tokens, cheat.finish).unwrap();
    assert_ne!(replay.trace_root, cheat.trace_root);
    assert_eq!(replay.trace.first_difference(cheat.trace.leaves()), Some(0), "every activation differs");
    let fine = honest.generate(&asked, &mut go_on).unwrap();
    for sampling in [warm(6), Sampling { temperature_micro: 3_000_000, ..warm(5) }, Sampling::GREEDY] {
        let other = honest.generate(&GenerateRequest { sampling, ..asked }, &mut go_on).unwrap();
        let at = other.tokens.iter().zip(&fine.tokens).position(|(a, b)| a != b).expect("24 draws differ");
        let found = honest.replay(&asked, &other.tokens, other.finish).unwrap().divergence.expect("found");
        assert_eq!(found.position as usize, 12 + at);
    }
}

#[test]
fn replay_checks_the_end() {
    let shape = Shape::default();
    let engine = engine_with(shape.file(8), threads(1));
    let prompt = [1, 2, 3];
    let asked = request(&prompt, warm(1), 6);
    let done = engine.generate(&asked, &mut go_on).unwrap();
    assert_eq!(done.finish, FinishReason::Length);
    let replay = |tokens: &[u32], finish| engine.replay(&asked, tokens, finish).unwrap().divergence;
    let end = |position, expected, found| {
        Some(Divergence { position, kind: DivergenceKind::End { expected, found } })
    };
    let (length, stop, cancelled) = (FinishReason::Length, FinishReason::Stop, FinishReason::Cancelled);
    assert_eq!(replay(&done.tokens, length), None);
    assert_eq!(replay(&done.tokens, stop), end(9, Some(length), Some(stop)));
    assert_eq!(replay(&done.tokens, cancelled), end(9, Some(length), Some(cancelled)));
    assert_eq!(replay(&done.tokens[..4], length), end(7, None, Some(length)));
    assert_eq!(replay(&done.tokens[..4], cancelled), None);
    assert_eq!(replay(&[], cancelled), end(3, None, Some(cancelled)));
    let longer = [done.tokens.as_slice(), &[0, 1, 2]].concat();
    assert_eq!(replay(&longer, length), end(9, Some(length), None));
    let mut alien = done.tokens.clone();
    alien[2] = u32::MAX;
    let kind = DivergenceKind::Token { expected: done.tokens[2], found: u32::MAX };
    assert_eq!(replay(&alien, length), Some(Divergence { position: 5, kind }));
    let flood = vec![0; 100_000];
    assert!(replay(&flood, length).is_some());
}

#[test]
fn callers_may_break_off_and_context_ends_answers() {
    let shape = Shape { context: 20, ..Shape::default() };
    let engine = engine_with(shape.file(2), threads(1));
    let prompt = [4; 12];
    let asked = request(&prompt, warm(2), 100);
    let mut left = 3;
    let broken = engine.generate(&asked, &mut |_| {
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let broken = broken.unwrap();
    assert_eq!((broken.tokens.len(), broken.finish), (3, FinishReason::Cancelled));
    assert_eq!(engine.replay(&asked, &broken.tokens, broken.finish).unwrap().trace_root, broken.trace_root);
    let full = engine.generate(&asked, &mut go_on).unwrap();
    assert_eq!((full.tokens.len(), full.finish), (8, FinishReason::Length));
    assert_eq!(full.tokens[..3], broken.tokens[..]);
    // The sampler's first choice is a stop token: the shortest answer.
    let last = engine.generate(&request(&prompt, warm(2), 1), &mut go_on).unwrap();
    assert_eq!(last.trace.leaves().len(), 12);
}

#[test]
fn requests_that_cannot_be_served_say_why() {
    let shape = Shape { context: 20, ..Shape::default() };
    let engine = engine_with(shape.file(2), threads(1));
    let fails = |r: &GenerateRequest<'_>| engine.generate(r, &mut go_on).unwrap_err();
    let greedy = |prompt| request(prompt, Sampling::GREEDY, 4);
    assert_eq!(fails(&greedy(&[])), GenerateError::EmptyPrompt);
    assert_eq!(fails(&request(&[1], Sampling::GREEDY, 0)), GenerateError::NoTokens);
    let vocabulary = 131;
    let alien = GenerateError::TokenOutOfVocabulary { position: 1, token: 131, vocabulary };
    assert_eq!(fails(&greedy(&[0, 131, 2])), alien);
    assert_eq!(engine.logits(&[0, 131, 2]), Err(alien));
    assert_eq!(fails(&greedy(&[0; 20])), GenerateError::ContextExceeded { prompt: 20, context: 20 });
    assert_eq!(engine.logits(&[]), Err(GenerateError::EmptyPrompt));
    assert_eq!(engine.logits(&[0; 21]), Err(GenerateError::ContextExceeded { prompt: 21, context: 20 }));
    assert!(engine.replay(&greedy(&[]), &[1], FinishReason::Stop).is_err());
    let good = engine.generate(&greedy(&[5, 6]), &mut go_on).unwrap().tokens;
    let wrong = [good[0], (good[1] + 1) % 131];
    let diverges = GenerateError::AlreadyDiverges { position: 3, expected: good[1], found: wrong[1] };
    assert_eq!(fails(&GenerateRequest { already: &wrong, ..greedy(&[5, 6]) }), diverges);
    let long = [0; 6];
    let too_long = GenerateError::AlreadyTooLong { length: 4, found: 6 };
    assert_eq!(fails(&GenerateRequest { already: &long, ..greedy(&[5, 6]) }), too_long);
}

#[test]
fn logits_are_those_that_generation_saw() {
    let shape = Shape { tied: false, ..Shape::default() };
    let engine = engine_with(shape.file(4), threads(2));
    let prompt = [3, 1, 4, 1, 5];
    let done = engine.generate(&request(&prompt, Sampling::GREEDY, 5), &mut go_on).unwrap();
    let all = [&prompt, &done.tokens[..4]].concat();
    let logits = engine.logits(&all).unwrap();
    assert_eq!(logits.len(), 9 * 131);
    let rows = logits.chunks_exact(131).skip(4);
    let best: Vec<u32> = rows.map(|row| sample(row, &Sampling::GREEDY, 0)).collect();
    assert_eq!(best, done.tokens);
}

#[test]
fn several_requests_at_once_do_not_meet() {
    let shape = Shape::default();
    let engine = engine_with(shape.file(11), threads(2));
    let answer = |seed: u64| {
        let prompt = prompt_of(&mut Rng(seed), 5 + seed as usize, shape.vocabulary);
        engine.generate(&request(&prompt, warm(seed), 16), &mut go_on).unwrap()
    };
    let alone: Vec<Generation> = (0..6).map(answer).collect();
    let together: Vec<Generation> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..6).map(|seed| scope.spawn(move || answer(seed))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (a, b) in alone.iter().zip(&together) {
        assert_eq!((&a.tokens, a.trace_root), (&b.tokens, b.trace_root));
    }
}

#[test]
fn an_empty_stop_text_is_refused() {
    let engine = engine_with(Shape::default().file(4), threads(1));
    let stop = ["x".to_owned(), String::new()];
    let asked = GenerateRequest { stop: &stop, ..request(&[5, 6], Sampling::GREEDY, 4) };
    assert_eq!(engine.generate(&asked, &mut go_on).unwrap_err(), GenerateError::EmptyStop { index: 1 });
    assert_eq!(asked.check(engine.model().front()), Err(GenerateError::EmptyStop { index: 1 }));
}

#[test]
fn a_request_is_checked_before_any_weight_is_read() {
    #[derive(Debug)]
    enum Refused {
        Request(GenerateError),
        Engine(EngineError),
    }
    impl From<EngineError> for Refused {
        fn from(error: EngineError) -> Self {
            Self::Engine(error)
        }
    }
    let mut file = Shape::default().file(1);
    let end = file.len();
    // These weights would be refused.
    file[end - 4096..].fill(0xff);
    let load = |prompt: &[u32]| {
        let asked = request(prompt, Sampling::GREEDY, 4);
        Engine::load_bytes_checked(file.clone(), threads(2), &|front| {
            asked.check(front).map_err(Refused::Request)
        })
    };
    for (prompt, expected) in [
        (&[5, 131][..], GenerateError::TokenOutOfVocabulary { position: 1, token: 131, vocabulary: 131 }),
        (&[], GenerateError::EmptyPrompt),
        (&[0; 128], GenerateError::ContextExceeded { prompt: 128, context: 128 }),
    ] {
        assert!(matches!(load(prompt), Err(Refused::Request(found)) if found == expected), "{expected}");
    }
    assert!(matches!(load(&[5]), Err(Refused::Engine(EngineError::Model(_)))));
}

#[test]
fn a_divergence_is_told_in_words() {
    let token = DivergenceKind::Token { expected: 3, found: 9 };
    assert_eq!(token.to_string(), "the model chooses token 3, the answer has 9");
    let end = DivergenceKind::End { expected: None, found: Some(FinishReason::Stop) };
    assert_eq!(end.to_string(), "the model's answer goes on, this one ends by a stop token or stop text");
}
