use std::sync::Arc;

use dn_core::objects::{JobRequest, Price, Sampling};
use dn_core::{Address, Amount, ChannelId, Hash32};
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
        decoding: dn_core::objects::Decoding::default(),
        max_tokens,
        stop: vec!["never".to_owned()],
        price: Price { prompt_token: Amount::ZERO, output_token: Amount::ZERO },
        nonce: [9; 16],
        expires_ms: 1 << 40,
    }
}

fn shape(seed: u64) -> Shape {
    let base = Shape { layers: 2, vocabulary: 1500, ffn: 288, ..Shape::default() };
    match seed % 3 {
        0 => Shape { arch: "qwen2", ..base },
        1 => Shape { tied: false, head_size: 24, heads: 4, kv_heads: 1, kinds: &[TensorType::F32], ..base },
        _ => Shape { layers: 1, width: 160, kinds: &[TensorType::Q8_0], ..base },
    }
}

fn scene(seed: u64, prompt: usize, tokens: usize, sampling: Sampling) -> Scene {
    let shape = shape(seed);
    let model = Arc::new(Model::from_bytes(shape.file(seed)).unwrap());
    let decoder = Decoder::new(&model, Box::new(Reference)).unwrap();
    let mut rng = Rng(seed);
    let prompt: Vec<u32> = (0..prompt).map(|_| (rng.next() % shape.vocabulary) as u32).collect();
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
    for seed in 0..3 {
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
    for seed in 0..3 {
        let scene = scene(seed, 70, 3, Sampling::GREEDY);
        let honest = scene.honest(&scene.output);
        let mut rng = Rng(seed);
        for at in [0, 65, 71] {
            for stage in 0..6 {
                for op in 0..20u8 {
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
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// One changed value anywhere is pinned to the operation that it came from.
    #[test]
    fn a_changed_value_is_pinned_to_its_operation(seed: u64, place: usize, element: usize) {
        let scene = scene(seed, 20, 4, Sampling::GREEDY);
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
        let changed = worker.row(position, stage, name).unwrap() != auditor.row(position, stage, name).unwrap();
        prop_assume!(changed);
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
        let scene = scene(seed, 20, 4, Sampling::GREEDY);
        let mut fed = scene.fed(&scene.output);
        let at = at % fed.len();
        prop_assume!(fed[at] != other % 1500);
        fed[at] = other % 1500;
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
        prop_assume!(output[at] != other % 1500);
        output[at] = other % 1500;
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
