//! Computations that leave the numbers that the spec allows: no worker can have gone on, so one that did is led to the operation
//! that has no result.

use super::*;
use crate::spec::{Backend, BackendInfo, KvLayer, Mask, Matrix, NumericError, QuantMatrix, RopeTable};

/// The reference, but what has no result gives zeros: what a worker might do that goes on regardless.
#[derive(Debug)]
struct Careless;

/// Zeros where the numbers were left.
fn careless(done: Result<(), NumericError>, out: &mut [f32]) -> Result<(), NumericError> {
    match done {
        Err(NumericError::Overflow { .. } | NumericError::Range { .. } | NumericError::NonFinite { .. }) => {
            out.fill(0.0);
            Ok(())
        }
        done => done,
    }
}

impl Backend for Careless {
    fn info(&self) -> BackendInfo {
        Reference.info()
    }
    fn prepare(&self, matrix: QuantMatrix) -> Result<Matrix, NumericError> {
        Reference.prepare(matrix)
    }
    fn linear(
        &self,
        weights: &[&Matrix],
        x: &[f32],
        tokens: usize,
        out: &mut [&mut [f32]],
    ) -> Result<(), NumericError> {
        for (weight, out) in weights.iter().zip(out) {
            careless(Reference.linear(&[weight], x, tokens, &mut [&mut **out]), out)?;
        }
        Ok(())
    }
    fn embed(&self, table: &Matrix, tokens: &[u32], out: &mut [f32]) -> Result<(), NumericError> {
        Reference.embed(table, tokens, out)
    }
    fn rms_norm(&self, weight: &[f32], eps: f32, x: &[f32], out: &mut [f32]) -> Result<(), NumericError> {
        careless(Reference.rms_norm(weight, eps, x, out), out)
    }
    fn rope(&self, table: &RopeTable, positions: &[u32], x: &mut [f32]) -> Result<(), NumericError> {
        careless(Reference.rope(table, positions, x), x)
    }
    fn kv_append(&self, kv: &mut KvLayer, k: &[f32], v: &[f32]) -> Result<(), NumericError> {
        match Reference.kv_append(kv, k, v) {
            Err(NumericError::Range { .. }) => {
                Reference.kv_append(kv, &vec![0.0; k.len()], &vec![0.0; v.len()])
            }
            done => done,
        }
    }
    fn attention(
        &self,
        kv: &KvLayer,
        mask: Mask,
        heads: usize,
        first: usize,
        q: &[f32],
        out: &mut [f32],
    ) -> Result<(), NumericError> {
        careless(Reference.attention(kv, mask, heads, first, q, out), out)
    }
    fn silu_mul(&self, gate: &mut [f32], up: &[f32]) -> Result<(), NumericError> {
        careless(Reference.silu_mul(gate, up), gate)
    }
    fn layer_norm(
        &self,
        weight: &[f32],
        bias: &[f32],
        eps: f32,
        x: &[f32],
        out: &mut [f32],
    ) -> Result<(), NumericError> {
        Reference.layer_norm(weight, bias, eps, x, out)
    }
    fn gelu(&self, x: &mut [f32]) -> Result<(), NumericError> {
        Reference.gelu(x)
    }
    fn add(&self, x: &mut [f32], y: &[f32]) -> Result<(), NumericError> {
        careless(Reference.add(x, y), x)
    }
}

/// Tensors of a layer and the powers of two that they are multiplied with; which operation then has no result, and which of
/// its errors that is.
type Case = (&'static [(&'static str, i32)], Stage, OpName);

const LAYER: Stage = Stage::Layer { layer: 1 };

const CASES: [Case; 10] = [
    (&[("blk.1.attn_norm.weight", 127), ("output_norm.weight", 1)], LAYER, OpName::AttentionNorm),
    (&[("blk.1.attn_norm.weight", 110)], LAYER, OpName::Query),
    (&[("blk.1.attn_norm.weight", 60), ("blk.1.attn_q.weight", 80)], LAYER, OpName::Query),
    (&[("blk.1.attn_norm.weight", 60), ("blk.1.attn_q.weight", 50)], LAYER, OpName::Attention),
    (&[("blk.1.attn_norm.weight", 60), ("blk.1.attn_k.weight", 50)], LAYER, OpName::CacheEntry),
    (&[("blk.1.attn_norm.weight", 60), ("blk.1.attn_v.weight", 50)], LAYER, OpName::CacheEntry),
    (&[("blk.1.attn_output.weight", 70)], LAYER, OpName::FfnNorm),
    (&[("blk.1.ffn_gate.weight", 80), ("blk.1.ffn_up.weight", 80)], LAYER, OpName::SiluMul),
    (&[("blk.1.ffn_gate.weight", 55), ("blk.1.ffn_up.weight", 55)], LAYER, OpName::Down),
    (&[("output_norm.weight", 110)], Stage::Logits, OpName::Logits),
];

/// A model some of whose tensors are multiplied.
fn grown(seed: u64, tensors: &[(&str, i32)]) -> Model {
    let shape = Shape { kinds: &[TensorType::F32], tied: false, vocabulary: 131, ..Shape::default() };
    let file = shape.file_with(seed, |name, values| {
        for (_, power) in tensors.iter().filter(|(tensor, _)| *tensor == name) {
            // In two steps: a power of two over f32's range is no f32.
            values.iter_mut().for_each(|v| *v *= 2f32.powi(power / 2) * 2f32.powi(power - power / 2));
        }
    });
    Model::from_bytes(file).unwrap()
}

/// Who went on and who could not, and the place to which they are led.
fn led(model: &Model, request: &JobRequest, output: &[u32]) -> (Outcome, Option<OpName>) {
    let (careless, honest) =
        (Decoder::new(model, Box::new(Careless)).unwrap(), Decoder::new(model, Box::new(Reference)).unwrap());
    let fed = [&request.prompt, &output[..output.len() - 1]].concat();
    let worker = Witness::cheating(model, &careless, request, output, &fed, &|_, _, _, _| {}).unwrap();
    // However the accuser cuts the tokens into chunks.
    let ends: Vec<_> = [1, 4, 100]
        .into_iter()
        .map(|chunk| {
            let accuser = Witness::replay(model, &honest, request, output, chunk).unwrap();
            let (outcome, dispute) =
                play(&worker, &accuser, Dispute::open(worker.subject()).unwrap(), &mut as_is);
            (outcome, dispute.op_name())
        })
        .collect();
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
    ends[0]
}

#[test]
fn who_goes_on_without_a_result_is_led_to_the_operation_that_has_none() {
    for (tensors, stage, name) in CASES {
        let model = grown(5, tensors);
        let request = request(&model, vec![3, 1, 4, 1, 5], Sampling::GREEDY, 3);
        let (outcome, op) = led(&model, &request, &[0, 0, 0]);
        assert_eq!(op, Some(name), "{tensors:?}: {outcome:?}");
        match outcome {
            Outcome::Fraud { verdict: Verdict::Fraud { position, stage: found, .. } } => {
                let first = if stage == Stage::Logits { 4 } else { 0 };
                assert_eq!((position, found), (first, stage), "{tensors:?}");
            }
            // There are no terms that it could state.
            Outcome::WorkerSilent => assert_eq!(name, OpName::Attention, "{tensors:?}"),
            other => panic!("{tensors:?}: {other:?}"),
        }
    }
}

#[test]
fn the_first_position_without_a_result_is_found() {
    let shape = Shape { kinds: &[TensorType::F32], vocabulary: 131, ..Shape::default() };
    let file = shape.file_with(6, |name, values| {
        if name == "token_embd.weight" {
            // The row of token 7.
            values[7 * 64..8 * 64].iter_mut().for_each(|v| *v *= 2f32.powi(80));
        }
    });
    let model = Model::from_bytes(file).unwrap();
    for at in [0, 3, 6, 8] {
        // Positions 0 to 4 are the prompt's; greedy answers of zeros are wrong, so the prompt decides alone before it.
        let mut all = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3];
        all[at] = 7;
        let request = request(&model, all.to_vec(), Sampling::GREEDY, 1);
        let (outcome, op) = led(&model, &request, &[0]);
        let Outcome::Fraud { verdict: Verdict::Fraud { position, stage, .. } } = outcome else {
            panic!("{at}: {outcome:?}");
        };
        assert_eq!(
            (position, stage, op),
            (at as u32, Stage::Layer { layer: 0 }, Some(OpName::AttentionNorm))
        );
    }
}
