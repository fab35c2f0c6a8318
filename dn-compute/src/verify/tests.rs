#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as expected")]

mod choice;
mod settings;

use std::sync::Arc;

use dn_core::objects::{Decoding, JobRequest, Price, Sampling};
use dn_core::{Address, Amount, Canonical, ChannelId, Hash32};
use proptest::prelude::*;

use super::dispute::{Answer, Dispute, Due, Outcome, Party, Pick};
use super::plan::{OpName, Stage};
use super::referee::{Verdict, Wrong};
use super::witness::Witness;
use crate::formats::gguf::TensorType;
use crate::model::Model;
use crate::reference::Reference;
use crate::runtime::Decoder;
use crate::testing::{Rng, Shape};

mod architectures;
mod bounds;
mod lies;
mod range;
mod records;

/// A model, a request and the honest answer.
struct Scene {
    model: Arc<Model>,
    decoder: Decoder,
    request: JobRequest,
    output: Vec<u32>,
}

fn request(model: &Model, prompt: Vec<u32>, sampling: Sampling, max_tokens: u32) -> JobRequest {
    JobRequest {
        chain_id: 7,
        payer: Address([1; 20]),
        gateway: Address([2; 20]),
        channel: ChannelId([3; 32]),
        lane: 4,
        domain: 0,
        model: model.id(),
        numeric_spec: 1,
        prompt,
        sampling,
        decoding: Decoding::default(),
        max_tokens,
        stop: vec!["never".to_owned()],
        price: Price { prompt_token: Amount::ZERO, output_token: Amount::ZERO },
        nonce: [9; 16],
        expires_ms: 1 << 40,
    }
}

fn shape(seed: u64) -> Shape {
    let base = Shape { layers: 2, vocabulary: 600, ffn: 288, ..Shape::default() };
    match seed % 4 {
        0 => Shape { arch: "qwen2", ..base },
        1 => Shape { tied: false, head_size: 24, heads: 4, kv_heads: 1, kinds: &[TensorType::F32], ..base },
        2 => Shape { layers: 1, width: 160, kinds: &[TensorType::Q8_0], ..base },
        _ => {
            let kinds = &[TensorType::Q4K, TensorType::Q6K, TensorType::Q5K, TensorType::Q4_0];
            Shape { layers: 1, width: 256, head_size: 64, ffn: 256, vocabulary: 300, kinds, ..base }
        }
    }
}

fn scene(seed: u64, prompt: usize, tokens: usize, sampling: Sampling) -> Scene {
    let model = Model::from_bytes(shape(seed).file(seed)).unwrap();
    scene_of(model, seed, prompt, tokens, sampling)
}

fn scene_of(model: Model, seed: u64, prompt: usize, tokens: usize, sampling: Sampling) -> Scene {
    let model = Arc::new(model);
    let decoder = Decoder::new(&model, Box::new(Reference)).unwrap();
    let mut rng = Rng(seed);
    let vocabulary = u64::from(model.front().vocabulary());
    let prompt: Vec<u32> = (0..prompt).map(|_| (rng.next() % vocabulary) as u32).collect();
    let request = request(&model, prompt, sampling, tokens as u32);
    let mut session = decoder.session(request.prompt.len() + tokens).unwrap();
    let mut output = Vec::new();
    let mut next = request.prompt.clone();
    while output.len() < tokens {
        let index = output.len() as u32;
        let from = session.len() + next.len() - 1;
        decoder
            .feed(&mut session, &next, from, &mut |_, logits| {
                output.push(crate::sampling::sample(logits, &sampling, index));
            })
            .unwrap();
        next = output[output.len() - 1..].to_vec();
    }
    Scene { model, decoder, request, output }
}

impl Scene {
    fn honest<'a>(&'a self, output: &'a [u32]) -> Witness<'a> {
        Witness::replay(&self.model, &self.decoder, &self.request, output, 7).unwrap()
    }

    fn fed(&self, output: &[u32]) -> Vec<u32> {
        [&self.request.prompt, &output[..output.len() - 1]].concat()
    }
}

/// Both sides move until it ends; the worker's answers may be replaced, and `None` is silence.
fn play(
    worker: &Witness<'_>,
    auditor: &Witness<'_>,
    mut dispute: Dispute,
    replace: &mut dyn FnMut(&Dispute, Answer) -> Option<Answer>,
) -> (Outcome, Dispute) {
    while dispute.outcome().is_none() {
        match dispute.turn() {
            Some(Party::Worker) => {
                let answer = worker.answer(&dispute).ok().flatten();
                let answer = answer.and_then(|answer| replace(&dispute, answer));
                if answer.is_none_or(|answer| dispute.answer(answer).is_err()) {
                    dispute.silence();
                }
            }
            _ => {
                let pick = auditor.pick(&dispute).unwrap().expect("the accuser's turn");
                dispute.pick(pick).unwrap();
            }
        }
    }
    (dispute.outcome().unwrap(), dispute)
}

fn as_is(_: &Dispute, answer: Answer) -> Option<Answer> {
    Some(answer)
}

/// Every place where a row of values comes to be.
fn places(scene: &Scene) -> Vec<(u32, Stage, OpName)> {
    let geometry = super::plan::Geometry::new(scene.model.manifest()).unwrap();
    let positions = scene.fed(&scene.output).len() as u32;
    let mut out = Vec::new();
    for p in 0..positions {
        let mut stages = vec![Stage::Embedding];
        stages.extend((0..geometry.h.layers).map(|layer| Stage::Layer { layer }));
        if p as usize + 1 >= scene.request.prompt.len() {
            stages.push(Stage::Logits);
        }
        for stage in stages {
            out.extend(geometry.ops(stage).iter().map(|op| (p, stage, op.name)));
        }
    }
    out
}

#[test]
fn the_plan_is_what_the_decoder_does() {
    for seed in 0..4 {
        let scene = scene(seed, 11, 5, Sampling::GREEDY);
        let honest = scene.honest(&scene.output);
        let fed = scene.fed(&scene.output);
        let no = |_: u32, _: Stage, _: OpName, _: &mut [f32]| {};
        let by_op = Witness::cheating(&scene.model, &scene.decoder, &scene.request, &scene.output, &fed, &no)
            .unwrap();
        assert_eq!(honest.root(), by_op.root());
        for (position, stage, name) in places(&scene) {
            let row = honest.row(position, stage, name).unwrap();
            let geometry = super::plan::Geometry::new(scene.model.manifest()).unwrap();
            let ops = geometry.ops(stage);
            let op = ops.iter().find(|op| op.name == name).unwrap();
            assert_eq!(row.len(), op.bytes(), "{stage} {name}");
        }
    }
}

/// An auditor that disputes an honest receipt, whatever place it points to, loses.
#[test]
fn an_honest_worker_is_not_convicted_at_any_place() {
    for seed in 0..4 {
        let scene = scene(seed, 70, 3, Sampling::GREEDY);
        let honest = scene.honest(&scene.output);
        let mut rng = Rng(seed);
        for at in [0, 71] {
            for stage in 0..6 {
                let ops = if (2..5).contains(&stage) { 20u8 } else { 1 };
                for op in 0..ops {
                    let mut dispute = Dispute::open(honest.subject()).unwrap();
                    while dispute.outcome().is_none() {
                        let pick = match dispute.due() {
                            Due::Node { level, first, .. } => {
                                Pick::Index { index: (at >> level) - *first as u32 }
                            }
                            Due::Stage => Pick::Stage {
                                stage: match stage {
                                    0 => Stage::Token,
                                    1 => Stage::Embedding,
                                    2 => Stage::Layer { layer: 0 },
                                    3 => Stage::Layer { layer: 1 },
                                    4 => Stage::Logits,
                                    _ => Stage::Choice,
                                },
                            },
                            Due::Op => Pick::Op { op },
                            Due::Group { groups } => {
                                Pick::Index { index: (rng.next() % groups.len() as u64) as u32 }
                            }
                            Due::Element { slice } => {
                                Pick::Index { index: (rng.next() % (slice.bytes.len() as u64 / 4)) as u32 }
                            }
                            Due::Block { blocks } => {
                                Pick::Index { index: (rng.next() % blocks.len() as u64) as u32 }
                            }
                            Due::Settings => honest.pick(&dispute).unwrap().unwrap(),
                            Due::Tile => Pick::Tile { opening: honest.tile(&dispute).unwrap() },
                            _ => {
                                let answer = honest.answer(&dispute).unwrap().unwrap();
                                dispute.answer(answer).unwrap();
                                continue;
                            }
                        };
                        if dispute.pick(pick).is_err() {
                            dispute.silence();
                        }
                    }
                    assert_eq!(dispute.outcome().unwrap().loser(), Party::Accuser);
                }
            }
        }
    }
}

fn flip(x: &mut [f32], at: usize) {
    let at = at % x.len();
    x[at] = f32::from_bits(x[at].to_bits() ^ 0x0040_0000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// One changed value anywhere is pinned to the operation that it came from.
    #[test]
    fn a_changed_value_is_pinned_to_its_operation(seed: u64, place: usize, element: usize) {
        let scene = scene(seed, 12, 3, Sampling::GREEDY);
        let places = places(&scene);
        let (position, stage, name) = places[place % places.len()];
        let cheat = |p: u32, s: Stage, n: OpName, x: &mut [f32]| {
            if (p, s, n) == (position, stage, name) {
                flip(x, element);
            }
        };
        let fed = scene.fed(&scene.output);
        let worker =
            Witness::cheating(&scene.model, &scene.decoder, &scene.request, &scene.output, &fed, &cheat).unwrap();
        let auditor = scene.honest(&scene.output);
        // The only key's share is all of it, whatever the query: at position 0 a wrong query changes nothing that is bound.
        prop_assume!(worker.root() != auditor.root());
        let (outcome, dispute) =
            play(&worker, &auditor, Dispute::open(worker.subject()).unwrap(), &mut as_is);
        let Outcome::Fraud { verdict: verdict @ Verdict::Fraud { position: p, stage: s, .. } } = outcome else {
            return Err(TestCaseError::fail(format!("{outcome:?} at {position} {stage} {name}")));
        };
        prop_assert_eq!((p, s, verdict.op_name(dispute.claim())), (position, stage, Some(name)));
    }

    /// A token that is not the request's, or not the output's.
    #[test]
    fn a_wrong_token_is_pinned(seed: u64, at: usize, other: u32) {
        let scene = scene(seed, 12, 3, Sampling::GREEDY);
        let mut fed = scene.fed(&scene.output);
        let at = at % fed.len();
        prop_assume!(fed[at] != other % 300);
        fed[at] = other % 300;
        let no = |_: u32, _: Stage, _: OpName, _: &mut [f32]| {};
        let worker =
            Witness::cheating(&scene.model, &scene.decoder, &scene.request, &scene.output, &fed, &no).unwrap();
        let auditor = scene.honest(&scene.output);
        let (outcome, _) = play(&worker, &auditor, Dispute::open(worker.subject()).unwrap(), &mut as_is);
        let (position, stage) = (at as u32, Stage::Token);
        let expected = Verdict::Fraud { position, stage, op: 0, element: 0, wrong: Wrong::Value };
        prop_assert_eq!(outcome, Outcome::Fraud { verdict: expected });
    }

    /// An output token that the sampler does not choose.
    #[test]
    fn a_wrong_choice_is_pinned(seed: u64, at: usize, other: u32) {
        let scene = scene(seed, 9, 6, Sampling::GREEDY);
        let mut output = scene.output.clone();
        let at = at % output.len();
        prop_assume!(output[at] != other % 300);
        output[at] = other % 300;
        let worker = scene.honest(&output);
        let (outcome, _) = play(&worker, &worker, Dispute::open(worker.subject()).unwrap(), &mut as_is);
        let (position, stage) = (8 + at as u32, Stage::Choice);
        let expected = Verdict::Fraud { position, stage, op: 0, element: 0, wrong: Wrong::Value };
        prop_assert_eq!(outcome, Outcome::Fraud { verdict: expected });
    }
}

#[test]
fn silence_loses() {
    let scene = scene(0, 9, 3, Sampling::GREEDY);
    let honest = scene.honest(&scene.output);
    let mut dispute = Dispute::open(honest.subject()).unwrap();
    assert_eq!(dispute.turn(), Some(Party::Worker));
    let mut other = dispute.clone();
    other.silence();
    assert_eq!(other.outcome(), Some(Outcome::WorkerSilent));
    dispute.answer(honest.answer(&dispute).unwrap().unwrap()).unwrap();
    assert_eq!(dispute.turn(), Some(Party::Accuser));
    dispute.silence();
    assert_eq!(dispute.outcome().map(Outcome::loser), Some(Party::Accuser));
    let before = format!("{dispute:?}");
    dispute.silence();
    assert!(dispute.pick(Pick::Index { index: 0 }).is_err());
    assert!(dispute.answer(Answer::Nodes { nodes: vec![Hash32::ZERO] }).is_err());
    assert_eq!(format!("{dispute:?}"), before);
}

/// A worker whose leaf is wrong may state right rows for everything inside: then the last operation is wrong.
#[test]
fn a_worker_cannot_hide_behind_right_rows() {
    let scene = scene(0, 9, 3, Sampling::GREEDY);
    let stage = Stage::Layer { layer: 1 };
    let cheat = |p: u32, s: Stage, n: OpName, x: &mut [f32]| {
        if (p, s, n) == (4, stage, OpName::Query) {
            flip(x, 7);
        }
    };
    let fed = scene.fed(&scene.output);
    let worker =
        Witness::cheating(&scene.model, &scene.decoder, &scene.request, &scene.output, &fed, &cheat).unwrap();
    let honest = scene.honest(&scene.output);
    let mut hide = |dispute: &Dispute, answer: Answer| match answer {
        Answer::Rows { .. } => honest.answer(dispute).unwrap(),
        other => Some(other),
    };
    let (outcome, dispute) = play(&worker, &honest, Dispute::open(worker.subject()).unwrap(), &mut hide);
    let Outcome::Fraud { verdict } = outcome else { panic!("{outcome:?}") };
    assert_eq!(verdict.op_name(dispute.claim()), Some(OpName::FfnResidual));
    // Rows without preimages cannot be opened.
    let mut invent = |_: &Dispute, answer: Answer| match answer {
        Answer::Rows { hashes } => Some(Answer::Rows { hashes: vec![Hash32([5; 32]); hashes.len()] }),
        other => Some(other),
    };
    let (outcome, _) = play(&worker, &honest, Dispute::open(worker.subject()).unwrap(), &mut invent);
    assert_eq!(outcome, Outcome::WorkerSilent);
}

/// A worker may state parts that do make its wrong value: then one of the parts is wrong.
#[test]
fn a_worker_cannot_hide_in_the_parts() {
    for name in [OpName::Down, OpName::FfnNorm, OpName::Attention] {
        // 288 columns are three ranges of the tests' 128; a norm of 160 is two.
        let scene = scene(if name == OpName::FfnNorm { 2 } else { 0 }, 70, 3, Sampling::GREEDY);
        let cheat = |p: u32, s: Stage, n: OpName, x: &mut [f32]| {
            if (p, s, n) == (66, Stage::Layer { layer: 0 }, name) {
                flip(x, 7);
            }
        };
        let fed = scene.fed(&scene.output);
        let worker =
            Witness::cheating(&scene.model, &scene.decoder, &scene.request, &scene.output, &fed, &cheat)
                .unwrap();
        let honest = scene.honest(&scene.output);
        for change in 0..3 {
            let mut parts = |_: &Dispute, answer: Answer| {
                Some(match answer {
                    Answer::Sums { mut sums } => {
                        match change {
                            0 => sums[1].sum += 1 << 20,
                            1 => sums[1].largest += 1 << 23,
                            _ => sums[0].largest = 0,
                        }
                        Answer::Sums { sums }
                    }
                    Answer::Blocks { mut blocks } => {
                        match change {
                            0 => blocks[1].numerator += 999,
                            1 => blocks[0].top += 1,
                            _ => blocks[0].denominator += 1,
                        }
                        Answer::Blocks { blocks }
                    }
                    Answer::Keys { mut keys } => {
                        keys[0].score ^= 1 << change;
                        Answer::Keys { keys }
                    }
                    other => other,
                })
            };
            let dispute = Dispute::open(worker.subject()).unwrap();
            let (outcome, dispute) = play(&worker, &honest, dispute, &mut parts);
            let Outcome::Fraud { verdict } = outcome else { panic!("{outcome:?} at {name}") };
            assert_eq!(verdict.op_name(dispute.claim()), Some(name));
        }
    }
}

/// Stated parts that make the claimed value, but are not those of the rows: the picked part is wrong.
#[test]
fn a_wrong_part_is_found_even_where_the_parts_make_the_value() {
    let scene = scene(0, 9, 3, Sampling::GREEDY);
    let honest = scene.honest(&scene.output);
    let shift = |_: &Dispute, answer: Answer| match answer {
        Answer::Sums { mut sums } => {
            // The total stays, so the value stays.
            sums[0].sum += 12_345;
            sums[1].sum -= 12_345;
            Some(Answer::Sums { sums })
        }
        other => Some(other),
    };
    let mut dispute = Dispute::open(honest.subject()).unwrap();
    while dispute.outcome().is_none() {
        let pick = match dispute.due() {
            Due::Stage => Pick::Stage { stage: Stage::Layer { layer: 0 } },
            Due::Op => {
                let down = dispute.rows().position(|(name, _)| name == OpName::Down).unwrap();
                Pick::Op { op: down as u8 }
            }
            _ if dispute.turn() == Some(Party::Worker) => {
                let answer = honest.answer(&dispute).unwrap().unwrap();
                dispute.answer(shift(&dispute, answer).unwrap()).unwrap();
                continue;
            }
            _ => honest.pick(&dispute).unwrap().unwrap(),
        };
        dispute.pick(pick).unwrap();
    }
    let Some(Outcome::Fraud { verdict: Verdict::Fraud { wrong, .. } }) = dispute.outcome() else {
        panic!("{:?}", dispute.outcome());
    };
    assert_eq!(wrong, Wrong::Part { index: 0 });
}

#[test]
fn encodings_are_pinned() {
    let hash = |byte: u8| Hash32([byte; 32]);
    let leaf = crate::trace::Leaf {
        position: 5,
        token: 7,
        boundaries: vec![hash(1), hash(2), hash(3)],
        entries: vec![hash(4), hash(5)],
        logits: Some(hash(6)),
    };
    assert_eq!(leaf.hash().to_string(), "0x0f1951f8cbbdf2ea0051378f8b5ba500d1cebee05c279948acd44e88b30341fc");
    let plain = crate::trace::Leaf { logits: None, ..leaf.clone() };
    assert_eq!(
        plain.hash().to_string(),
        "0xa0d57a5526ec8f7407d7ad237be2579edcc1b3d00850ae5258e54ae2734c5b42"
    );
    for leaf in [leaf, plain] {
        let bytes = leaf.to_bytes();
        assert_eq!(crate::trace::Leaf::from_bytes(&bytes).as_ref(), Some(&leaf));
        for end in 0..bytes.len() {
            assert_eq!(crate::trace::Leaf::from_bytes(&bytes[..end]), None);
        }
    }
    let (position, stage, op, element) = (1, Stage::Layer { layer: 2 }, 3, 4);
    let verdict = Verdict::Fraud { position, stage, op, element, wrong: Wrong::Part { index: 5 } };
    let bytes = [1, 1, 0, 0, 0, 2, 2, 0, 0, 0, 3, 4, 0, 0, 0, 2, 5, 0, 0, 0];
    assert_eq!(verdict.to_bytes(), bytes);
    assert_eq!(Verdict::from_bytes(&bytes), Ok(verdict));
    let slice = super::slice::Slice { first: 1, bytes: vec![1, 2], siblings: vec![hash(7)] };
    let opening = super::Opening { pick: 3, rows: vec![slice], ..super::Opening::default() };
    let mut bytes = vec![3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 2, 1, 0, 0, 0];
    bytes.extend([7; 32]);
    bytes.extend([0, 0, 0]);
    assert_eq!(opening.to_bytes(), bytes);
}

/// Claims and openings of the largest shapes fit, and what does not is refused before it is read.
#[test]
fn the_referee_reads_64_kib_at_most() {
    use super::claim::{KeyBlock, KeyTerm, MAX_BYTES, Parts};
    let error = super::referee(&[0; MAX_BYTES], &[0]).unwrap_err();
    assert!(matches!(error, super::RefereeError::TooLarge { limit: MAX_BYTES, .. }));
    let scene = scene(0, 9, 3, Sampling::GREEDY);
    let honest = scene.honest(&scene.output);
    let blocks = crate::spec::limits::MAX_CONTEXT / crate::spec::attention::KEY_BLOCK;
    let block = KeyBlock { top: 0, top_value: 0, denominator: 1, numerator: 0 };
    let keys = vec![KeyTerm { score: 0, exponent: 0, value: 0 }; 64];
    let mut dispute = Dispute::open(honest.subject()).unwrap();
    dispute.answer(honest.answer(&dispute).unwrap().unwrap()).unwrap();
    let claim = super::Claim {
        parts: Parts::Keys { blocks: vec![block; blocks], block: 0, keys },
        ..dispute.claim().clone()
    };
    // Beside it: a query head, a leaf's chunk with the way to the root of 131,072 positions, and an entry of two chunks.
    let opening = 2 * 1024 + (1024 + 8 * 32) + 17 * 32 + (3 * 1024 + 8 * 32) + 200;
    assert!(claim.len_bytes() + opening <= MAX_BYTES, "{} bytes", claim.len_bytes());
    // A linear layer's: the largest row as a tile of its own, one range of activations, all ranges' sums.
    let row = crate::spec::Blocks::with_minima(crate::spec::BlockLength::B16).row_bytes(32_768);
    assert!(row + 2 + 4 * 1024 + 32 * 12 + 40 * 32 + 2048 <= MAX_BYTES);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Damaged claims and openings give an error or a verdict, and never convict through a damaged opening.
    #[test]
    fn damage_is_an_error_or_harmless(position in 0u32..10, op in 0u8..18, at: usize, bit in 0u8..8, of_claim: bool) {
        let scene = scene(2, 9, 2, Sampling::GREEDY);
        let honest = scene.honest(&scene.output);
        let mut dispute = Dispute::open(honest.subject()).unwrap();
        while !matches!(dispute.due(), Due::Tile | Due::Nothing(_)) {
            let pick = match dispute.due() {
                Due::Node { level, first, .. } => Pick::Index { index: (position >> level) - *first as u32 },
                Due::Stage => Pick::Stage { stage: Stage::Layer { layer: 0 } },
                Due::Op => Pick::Op { op: op % dispute.rows().count() as u8 },
                _ if dispute.turn() == Some(Party::Worker) => {
                    dispute.answer(honest.answer(&dispute).unwrap().unwrap()).unwrap();
                    continue;
                }
                _ => honest.pick(&dispute).unwrap().unwrap(),
            };
            dispute.pick(pick).unwrap();
        }
        let mut claim = dispute.claim().to_bytes();
        let mut opening = honest.tile(&dispute).unwrap().to_bytes();
        prop_assert_eq!(super::referee(&claim, &opening), Ok(Verdict::Consistent));
        let bytes = if of_claim { &mut claim } else { &mut opening };
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let result = super::referee(&claim, &opening);
        if !of_claim {
            prop_assert!(!matches!(result, Ok(Verdict::Fraud { .. })), "{result:?}");
        }
    }
}
