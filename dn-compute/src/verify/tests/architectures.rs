//! Every architecture, every operation: what a worker falsifies is pinned to where it did so.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use dn_core::objects::{Hyperparameters, RopeScaling};

use super::*;
use crate::spec::{Backend, RopeTable};
use crate::tensors::Slot;
use crate::testing::Stretch;
use crate::verify::Subject;
use crate::verify::plan::Geometry;

/// A kind of model.
pub(super) struct Variant {
    name: &'static str,
    shape: Shape,
    /// What no GGUF file can say.
    change: fn(&mut Hyperparameters),
}

impl Variant {
    fn model(&self, change: impl Fn(&str, &mut [f32])) -> Model {
        let mut w = self.shape.metadata();
        self.shape.tensors_with(&mut w, 11, change);
        Model::from_bytes_as(w.finish(), self.change).unwrap()
    }

    pub(super) fn scene(&self, prompt: usize) -> Scene {
        scene_of(self.model(|_, _| {}), 3, prompt, 3, Sampling::GREEDY)
    }
}

pub(super) fn variants() -> Vec<Variant> {
    const PLAIN: &[TensorType] = &[TensorType::F32];
    let small = Shape {
        width: 32,
        heads: 2,
        kv_heads: 1,
        head_size: 16,
        ffn: 48,
        vocabulary: 300,
        kinds: PLAIN,
        ..Shape::default()
    };
    let one = |name, shape| Variant { name, shape, change: |_| {} };
    let with = |name, change| Variant { name, shape: small.clone(), change };
    vec![
        one(
            "llama",
            Shape { tied: false, kinds: &[TensorType::Q8_0, TensorType::F32], ffn: 64, ..small.clone() },
        ),
        one("mistral", Shape { window: Some(4), heads: 4, head_size: 8, kv_heads: 2, ..small.clone() }),
        one("llama with biases", Shape { biases: true, output_bias: true, ffn: 160, ..small.clone() }),
        one("qwen2", Shape { arch: "qwen2", kv_heads: 2, ..small.clone() }),
        one("qwen3", Shape { arch: "qwen3", head_size: 24, tied: false, ..small.clone() }),
        one(
            "qwen3 with all",
            Shape {
                arch: "qwen3",
                biases: true,
                output_bias: true,
                window: Some(5),
                stretch: Stretch::Factors,
                layers: 1,
                ..small.clone()
            },
        ),
        one("long heads", Shape { arch: "qwen3", head_size: 160, kv_heads: 2, layers: 1, ..small.clone() }),
        one("linear", Shape { stretch: Stretch::Linear, layers: 1, ..small.clone() }),
        one("yarn", Shape { stretch: Stretch::Yarn, rope_size: Some(12), layers: 1, ..small.clone() }),
        one("factors", Shape { stretch: Stretch::Factors, rope_size: Some(8), layers: 1, ..small.clone() }),
        with("llama 3", |h| {
            let [factor_bits, low_bits, high_bits] = [8f32, 1.0, 4.0].map(f32::to_bits);
            h.rope_scaling = RopeScaling::Llama3 { factor_bits, low_bits, high_bits, original_context: 16 };
        }),
    ]
}

/// Plays a dispute in which the worker must lose, and where the referee says it is wrong.
fn pinned(worker: &Witness<'_>, auditor: &Witness<'_>, case: &str) -> (u32, Stage, OpName) {
    let dispute = Dispute::open(Subject { manifest: auditor.subject().manifest, ..worker.subject() });
    let (outcome, dispute) = play(worker, auditor, dispute.unwrap(), &mut as_is);
    let Outcome::Fraud { verdict: verdict @ Verdict::Fraud { position, stage, .. } } = outcome else {
        panic!("{case}: {outcome:?} at {}, {:?}", dispute.claim().stage, dispute.op_name());
    };
    (position, stage, verdict.op_name(dispute.claim()).unwrap())
}

#[test]
fn the_plan_is_what_the_decoder_does_in_every_architecture() {
    let mut seen = BTreeSet::from([OpName::Token, OpName::Choice]);
    for variant in variants() {
        let scene = variant.scene(9);
        let honest = scene.honest(&scene.output);
        let fed = scene.fed(&scene.output);
        let no = |_: u32, _: Stage, _: OpName, _: &mut [f32]| {};
        let by_op = Witness::cheating(&scene.model, &scene.decoder, &scene.request, &scene.output, &fed, &no);
        assert_eq!(honest.root(), by_op.unwrap().root(), "{}", variant.name);
        let geometry = Geometry::new(scene.model.manifest()).unwrap();
        for (position, stage, name) in places(&scene) {
            seen.insert(name);
            let op = geometry.ops(stage).into_iter().find(|op| op.name == name).unwrap();
            let row = honest.row(position, stage, name).unwrap();
            assert_eq!(row.len(), op.bytes(), "{}: {stage} {name}", variant.name);
        }
    }
    assert_eq!(seen, BTreeSet::from(OpName::ALL), "every operation is tested here");
}

#[test]
fn a_wrong_value_is_pinned_in_every_operation_of_every_architecture() {
    let mut rng = Rng(1);
    for variant in variants() {
        let scene = variant.scene(6);
        let auditor = scene.honest(&scene.output);
        let fed = scene.fed(&scene.output);
        // The last position is the only one that has all stages and many keys.
        let last = fed.len() as u32 - 1;
        for (position, stage, name) in places(&scene).into_iter().filter(|(p, _, _)| *p == last) {
            let element = rng.next() as usize;
            let cheat = |p: u32, s: Stage, n: OpName, x: &mut [f32]| {
                if (p, s, n) == (position, stage, name) {
                    flip(x, element);
                }
            };
            let (model, output) = (&scene.model, &scene.output);
            let worker = Witness::cheating(model, &scene.decoder, &scene.request, output, &fed, &cheat);
            let case = format!("{}, {stage}, {name}, {element}", variant.name);
            let found = pinned(&worker.unwrap(), &auditor, &case);
            assert_eq!(found, (position, stage, name), "{case}");
        }
    }
}

/// The operation that reads a tensor, and the layer.
fn reader(slot: Slot) -> (OpName, Option<u32>) {
    match slot {
        Slot::Embedding => (OpName::Embedding, None),
        // The first of both.
        Slot::RopeFactors => (OpName::QueryRope, Some(0)),
        Slot::AttentionNorm(l) => (OpName::AttentionNorm, Some(l)),
        Slot::Query(l) => (OpName::Query, Some(l)),
        Slot::Key(l) => (OpName::Key, Some(l)),
        Slot::Value(l) => (OpName::Value, Some(l)),
        Slot::QueryBias(l) => (OpName::QueryBias, Some(l)),
        Slot::KeyBias(l) => (OpName::KeyBias, Some(l)),
        Slot::ValueBias(l) => (OpName::ValueBias, Some(l)),
        Slot::QueryNorm(l) => (OpName::QueryNorm, Some(l)),
        Slot::KeyNorm(l) => (OpName::KeyNorm, Some(l)),
        Slot::AttentionOutput(l) => (OpName::AttentionOutput, Some(l)),
        Slot::OutputBias(l) => (OpName::AttentionOutputBias, Some(l)),
        Slot::FfnNorm(l) => (OpName::FfnNorm, Some(l)),
        Slot::Gate(l) => (OpName::Gate, Some(l)),
        Slot::Up(l) => (OpName::Up, Some(l)),
        Slot::Down(l) => (OpName::Down, Some(l)),
        Slot::OutputNorm => (OpName::OutputNorm, None),
        Slot::Output => (OpName::Logits, None),
    }
}

#[test]
fn one_other_weight_in_any_tensor_is_pinned_to_the_operation_that_reads_it() {
    let mut rng = Rng(2);
    for variant in variants() {
        let scene = variant.scene(6);
        let auditor = scene.honest(&scene.output);
        for slot in Slot::all(scene.model.front().hyperparameters()) {
            let (cols, _) = slot.shape(scene.model.front().hyperparameters());
            let (mut at, name) = (rng.next() as usize, slot.gguf_name());
            match slot {
                // A token that is fed; the fastest pair.
                Slot::Embedding => at = (scene.request.prompt[2] * cols) as usize + at % cols as usize,
                Slot::RopeFactors => at = 0,
                _ => {}
            }
            let model = variant.model(|tensor, values| {
                if tensor == name {
                    let at = at % values.len();
                    values[at] += 0.5;
                }
            });
            let decoder = Decoder::new(&model, Box::new(Reference)).unwrap();
            let worker = Witness::replay(&model, &decoder, &scene.request, &scene.output, 7).unwrap();
            let case = format!("{}: {name}[{at}]", variant.name);
            let (_, stage, op) = pinned(&worker, &auditor, &case);
            let layer = match stage {
                Stage::Layer { layer } => Some(layer),
                _ => None,
            };
            assert_eq!((op, layer), reader(slot), "{case}");
        }
    }
}

#[test]
fn a_wrong_token_is_pinned_in_every_architecture() {
    for variant in variants() {
        let scene = variant.scene(6);
        let auditor = scene.honest(&scene.output);
        for at in [0, 3, 7] {
            let mut fed = scene.fed(&scene.output);
            fed[at] = (fed[at] + 1) % 300;
            let no = |_: u32, _: Stage, _: OpName, _: &mut [f32]| {};
            let (model, output) = (&scene.model, &scene.output);
            let worker = Witness::cheating(model, &scene.decoder, &scene.request, output, &fed, &no);
            let found = pinned(&worker.unwrap(), &auditor, variant.name);
            assert_eq!(found, (at as u32, Stage::Token, OpName::Token), "{}", variant.name);
        }
    }
}

/// The worker turns a query or a key as if it stood one position further on.
#[test]
fn a_wrong_position_is_pinned_in_every_architecture() {
    for variant in variants() {
        let scene = variant.scene(6);
        let auditor = scene.honest(&scene.output);
        let fed = scene.fed(&scene.output);
        let geometry = Geometry::new(scene.model.manifest()).unwrap();
        let factors = geometry.rope_factors().map(|slot| match scene.model.tensor(slot).unwrap() {
            crate::model::Tensor::Vector(values) => values,
            crate::model::Tensor::Matrix(_) => panic!("factors are a vector"),
        });
        let table = RopeTable::new(geometry.rope(factors), 16).unwrap();
        let stage = Stage::Layer { layer: 0 };
        for (name, sources) in [
            (OpName::QueryRope, [OpName::QueryNorm, OpName::QueryBias, OpName::Query]),
            (OpName::KeyRope, [OpName::KeyNorm, OpName::KeyBias, OpName::Key]),
        ] {
            let before: RefCell<BTreeMap<OpName, Vec<f32>>> = RefCell::default();
            let cheat = |p: u32, s: Stage, n: OpName, x: &mut [f32]| {
                if (p, s) != (5, stage) {
                    return;
                }
                if n == name {
                    let before = before.borrow();
                    x.copy_from_slice(sources.iter().find_map(|n| before.get(n)).unwrap());
                    Reference.rope(&table, &[p + 1], x).unwrap();
                }
                before.borrow_mut().insert(n, x.to_vec());
            };
            let (model, output) = (&scene.model, &scene.output);
            let worker = Witness::cheating(model, &scene.decoder, &scene.request, output, &fed, &cheat);
            let found = pinned(&worker.unwrap(), &auditor, variant.name);
            assert_eq!(found, (5, stage, name), "{}", variant.name);
        }
    }
}

/// The worker commits to the right entry and attends to another afterwards: the attention that reads it is wrong, and the
/// referee names the key.
#[test]
fn an_entry_remembered_wrongly_is_pinned_to_the_attention_that_reads_it() {
    for variant in variants() {
        let scene = variant.scene(6);
        let auditor = scene.honest(&scene.output);
        let stage = Stage::Layer { layer: 0 };
        let mut session = scene.decoder.session(16).unwrap();
        session.detail();
        for (position, token) in scene.fed(&scene.output).into_iter().enumerate() {
            let with_logits = position + 1 >= scene.request.prompt.len();
            let mut other = session.prefix(position);
            let mut forge = |_: u32, s: Stage, n: OpName, x: &mut [f32]| {
                if (s, n) == (stage, OpName::CacheEntry) {
                    x.iter_mut().for_each(|x| *x = -*x);
                }
            };
            scene.decoder.open_position(&mut other, token, with_logits, &mut forge).unwrap();
            let mut no = |_: u32, _: Stage, _: OpName, _: &mut [f32]| {};
            scene.decoder.open_position(&mut session, token, with_logits, &mut no).unwrap();
            if position == 4 {
                session.remember_as(&other);
            }
        }
        let (model, output) = (&scene.model, &scene.output);
        let worker = Witness::with_session(model, &scene.decoder, &scene.request, output, session).unwrap();
        let dispute = Dispute::open(worker.subject()).unwrap();
        let (outcome, dispute) = play(&worker, &auditor, dispute, &mut as_is);
        let Outcome::Fraud { verdict: verdict @ Verdict::Fraud { position, wrong, .. } } = outcome else {
            panic!("{}: {outcome:?}", variant.name);
        };
        assert_eq!((position, wrong), (5, Wrong::Part { index: 4 }), "{}", variant.name);
        assert_eq!(verdict.op_name(dispute.claim()), Some(OpName::Attention), "{}", variant.name);
    }
}
