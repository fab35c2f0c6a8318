//! Layers, and a decoder's ends, in one submission do what the operations do one by one.

use dn_compute::conformance::one_by_one;
use dn_compute::reference::Reference;
use dn_compute::spec::{
    Backend, KvLayer, KvShape, LayerWeights, Mask, Matrix, Pairing, PassCall, PassOutput, PassPart,
    PassValues, QuantMatrix, RopeScaling, RopeSpec, RopeTable, Vector,
};
use dn_compute::wgpu::WgpuOptions;

use super::device;

const WIDTH: usize = 48;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 24;
const FFN: usize = 80;
const SHAPE: KvShape = KvShape { heads: KV_HEADS, head_dim: HEAD_DIM, capacity: 200 };

/// Numbers between -1 and 1, the same everywhere.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, len: usize) -> Vec<f32> {
        let mut one = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..len).map(|_| one()).collect()
    }
}

const VOCABULARY: usize = 77;
const LAYERS: usize = 3;

fn matrix(backend: &dyn Backend, numbers: &mut Numbers, rows: usize, cols: usize) -> Matrix {
    let w = numbers.next(rows * cols);
    let matrix = QuantMatrix::from_f32(rows, cols, &w).expect("finite weights of a valid shape");
    backend.prepare(matrix).expect("room on the device")
}

/// A decoder without its forward pass.
struct Model {
    embedding: Matrix,
    layers: Vec<LayerWeights>,
    norm: Vector,
    output: Matrix,
}

fn model(backend: &dyn Backend, extras: bool) -> Model {
    let mut numbers = Numbers(7);
    Model {
        embedding: matrix(backend, &mut numbers, VOCABULARY, WIDTH),
        layers: (0..LAYERS as u64).map(|seed| weights(backend, extras, seed)).collect(),
        norm: numbers.next(WIDTH).into(),
        output: matrix(backend, &mut numbers, VOCABULARY, WIDTH),
    }
}

fn weights(backend: &dyn Backend, extras: bool, seed: u64) -> LayerWeights {
    let mut numbers = Numbers(seed);
    let (row, kv_row) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
    let mut matrix = |rows, cols| matrix(backend, &mut numbers, rows, cols);
    let [query, key, value] = [row, kv_row, kv_row].map(|rows| matrix(rows, WIDTH));
    let attention_output = matrix(WIDTH, row);
    let (gate, up, down) = (matrix(FFN, WIDTH), matrix(FFN, WIDTH), matrix(WIDTH, FFN));
    let mut vector = |len| Vector::from(numbers.next(len));
    LayerWeights {
        attention_norm: vector(WIDTH),
        query,
        key,
        value,
        biases: extras.then(|| [row, kv_row, kv_row].map(&mut vector)),
        head_norms: extras.then(|| [HEAD_DIM, HEAD_DIM].map(&mut vector)),
        attention_output,
        output_bias: extras.then(|| vector(WIDTH)),
        ffn_norm: vector(WIDTH),
        gate,
        up,
        down,
    }
}

/// A sequence's caches, one for each layer.
type Caches = Vec<KvLayer>;

fn caches() -> Caches {
    (0..LAYERS).map(|_| KvLayer::new(SHAPE).expect("a valid shape")).collect()
}

fn entries(kv: &KvLayer) -> Vec<u8> {
    let mut out = Vec::new();
    (0..kv.len()).for_each(|position| kv.entry(position, &mut out));
    out
}

fn rope() -> RopeTable {
    let spec = RopeSpec {
        head_dim: HEAD_DIM,
        rotary_dim: HEAD_DIM,
        theta: 10_000.0,
        pairing: Pairing::HalfSplit,
        scaling: RopeScaling::None,
    };
    RopeTable::new(spec, 200).expect("a valid table")
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// What is asked of a pass: begin with tokens, end with logits, tell the streams between the layers.
#[derive(Debug, Clone, Copy)]
struct Asked {
    embedding: bool,
    logits: bool,
    traced: bool,
}

/// A step, to be done on some backend.
struct Step<'a> {
    asked: Asked,
    mask: Mask,
    rope: &'a RopeTable,
    positions: &'a [u32],
    tokens: &'a [u32],
    picked: &'a [usize],
}

impl<'a> Step<'a> {
    fn call(&self, model: &'a Model) -> PassCall<'a> {
        let Model { embedding, layers, norm, output } = model;
        let asked = self.asked;
        PassCall {
            embedding: asked.embedding.then_some((embedding, self.tokens)),
            layers,
            output: asked.logits.then_some(PassOutput { norm, matrix: output, rows: self.picked }),
            eps: 1e-5,
            heads: HEADS,
            mask: self.mask,
            rope: self.rope,
            positions: self.positions,
        }
    }
}

#[test]
fn a_pass_is_its_operations() {
    let Some(device) = device(&WgpuOptions::default()) else { return };
    let rope = rope();
    let all = [false, true];
    let asked = all
        .iter()
        .flat_map(|e| all.map(|l| (*e, l)))
        .flat_map(|(embedding, logits)| all.map(|traced| Asked { embedding, logits, traced }));
    let mut asked = asked.cycle();
    for (extras, mask) in [(false, Mask::Causal), (true, Mask::Window { positions: 30 })] {
        let (ours, theirs) = (model(&device, extras), model(&Reference, extras));
        let (mut own_kv, mut their_kv) = ([caches(), caches()], [caches(), caches()]);
        let mut numbers = Numbers(9);
        // Two sequences: prompts in two pieces, the second beyond a block and beyond the room of the first mirror, then a token each.
        for rows in [[3, 40], [70, 5], [1, 1], [60, 1]] {
            let asked = asked.next().expect("it goes round");
            let first = [own_kv[0][0].len(), own_kv[1][0].len()];
            let positions: Vec<u32> =
                first.iter().zip(rows).flat_map(|(first, rows)| (*first as u32..).take(rows)).collect();
            let tokens: Vec<u32> = positions.iter().map(|p| p * 31 % VOCABULARY as u32).collect();
            let picked = [rows[0] - 1, rows[0] + rows[1] - 1];
            let step =
                Step { asked, mask, rope: &rope, positions: &positions, tokens: &tokens, picked: &picked };
            let (own_call, their_call) = (step.call(&ours), step.call(&theirs));
            let mut own_x = numbers.next(positions.len() * WIDTH);
            let mut their_x = own_x.clone();
            let logits = if asked.logits { 2 * VOCABULARY } else { 0 };
            let (mut own_logits, mut their_logits) = (vec![0.0; logits], vec![0.0; logits]);
            let streams = LAYERS + usize::from(asked.embedding);
            let mut boundaries = vec![0.0; streams * own_x.len()];
            let mut values = PassValues {
                stream: &mut own_x,
                boundaries: asked.traced.then_some(&mut boundaries[..]),
                logits: &mut own_logits,
            };
            let mut parts: Vec<PassPart<'_>> =
                own_kv.iter_mut().zip(rows).map(|(kv, rows)| PassPart { kv, rows }).collect();
            let before = device.traffic().submissions;
            assert_eq!(device.pass(&own_call, &mut parts, &mut values), Ok(true), "{rows:?} {asked:?}");
            assert_eq!(device.traffic().submissions, before + 1);
            let mut parts: Vec<PassPart<'_>> =
                their_kv.iter_mut().zip(rows).map(|(kv, rows)| PassPart { kv, rows }).collect();
            let mut expected = vec![0.0; streams * own_x.len()];
            let mut values = PassValues {
                stream: &mut their_x,
                boundaries: Some(&mut expected),
                logits: &mut their_logits,
            };
            one_by_one(&Reference, &their_call, &mut parts, &mut values).unwrap();
            if asked.traced {
                assert_eq!(bits(&boundaries), bits(&expected), "{rows:?} {asked:?}");
            }
            if !asked.logits {
                assert_eq!(bits(&own_x), bits(&their_x), "{rows:?} {asked:?}");
            }
            assert_eq!(bits(&own_logits), bits(&their_logits), "{rows:?} {asked:?}");
            for (own, their) in own_kv.iter().flatten().zip(their_kv.iter().flatten()) {
                assert_eq!(entries(own), entries(their));
            }
            // What is cut off is sent anew.
            own_kv[1].iter_mut().chain(&mut their_kv[1]).for_each(|kv| kv.truncate(38));
        }
    }
}

#[test]
fn a_pass_that_must_refuse_changes_nothing() {
    let Some(device) = device(&WgpuOptions::default()) else { return };
    let (rope, model) = (rope(), model(&device, true));
    let positions: Vec<u32> = (0..5).collect();
    let call = PassCall {
        embedding: None,
        layers: &model.layers,
        output: None,
        eps: 1e-5,
        heads: HEADS,
        mask: Mask::Causal,
        rope: &rope,
        positions: &positions,
    };
    let mut kv = caches();
    for bad in [f32::NAN, f32::INFINITY, 2e30] {
        let mut x = Numbers(3).next(5 * WIDTH);
        x[100] = bad;
        let before = bits(&x);
        let mut parts = [PassPart { kv: &mut kv, rows: 5 }];
        let mut values = PassValues { stream: &mut x, boundaries: None, logits: &mut [] };
        assert_eq!(device.pass(&call, &mut parts, &mut values), Ok(false));
        assert_eq!(bits(&x), before);
        assert!(kv.iter().all(KvLayer::is_empty));
    }
}

/// What goes over the bus for a token, to the byte: a change here is a change of speed on a real card.
#[test]
fn a_token_is_one_submission_and_few_bytes() {
    let Some(device) = device(&WgpuOptions::default()) else { return };
    let (rope, model) = (rope(), model(&device, false));
    let mut kv = caches();
    for position in 0..3u32 {
        let (positions, tokens) = ([position], [position * 3]);
        let call = PassCall {
            embedding: Some((&model.embedding, &tokens)),
            layers: &model.layers,
            output: Some(PassOutput { norm: &model.norm, matrix: &model.output, rows: &[0] }),
            eps: 1e-5,
            heads: HEADS,
            mask: Mask::Causal,
            rope: &rope,
            positions: &positions,
        };
        let (mut x, mut logits) = (vec![0.0; WIDTH], vec![0.0; VOCABULARY]);
        let mut parts = [PassPart { kv: &mut kv, rows: 1 }];
        let mut values = PassValues { stream: &mut x, boundaries: None, logits: &mut logits };
        let before = device.traffic();
        assert_eq!(device.pass(&call, &mut parts, &mut values), Ok(true));
        let after = device.traffic();
        assert_eq!(after.submissions - before.submissions, 1);
        // The fault's word and its padding, keys and values of each layer with their exponents, logits.
        let padded = HEAD_DIM.next_multiple_of(16);
        let kv_bytes = 2 * KV_HEADS * (2 * padded + 4);
        let down = 16 + LAYERS * kv_bytes + 4 * VOCABULARY;
        assert_eq!(after.from_device_bytes - before.from_device_bytes, down as u64);
        // The token, its position, and the kernels' parameters; norms and rotations went with the first token.
        let up = after.to_device_bytes - before.to_device_bytes;
        let parameters = LAYERS * PARAMETERS_OF_A_LAYER + PARAMETERS_OF_THE_ENDS;
        let once = 4 * (WIDTH * (2 * LAYERS + 1) + 200 * HEAD_DIM);
        let expected = 8 + parameters + if position == 0 { once } else { 0 };
        assert_eq!(up, expected as u64, "position {position}");
    }
}

/// Bytes of the parameters of a layer's kernels: two norms, four quantisations of rows and three of heads, seven products, two
/// rotations, attention, two sums and a SiLU.
const PARAMETERS_OF_A_LAYER: usize = 2 * 16 + 7 * 16 + 7 * 32 + 2 * 32 + 64 + 2 * 16 + 16;
/// Of the embedding, a norm, a quantisation and a product.
const PARAMETERS_OF_THE_ENDS: usize = 32 + 16 + 16 + 32;
