//! A whole layer in one submission does what the operations do one by one.

use dn_compute::reference::Reference;
use dn_compute::spec::{
    Backend, KvLayer, KvShape, LayerCall, LayerPart, LayerWeights, Mask, Matrix, NumericError, Pairing,
    QuantMatrix, RopeScaling, RopeSpec, RopeTable,
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

fn weights(backend: &dyn Backend, extras: bool) -> LayerWeights {
    let mut numbers = Numbers(5);
    let (row, kv_row) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
    let mut matrix = |rows, cols| -> Matrix {
        let w = numbers.next(rows * cols);
        let matrix = QuantMatrix::from_f32(rows, cols, &w).expect("finite weights of a valid shape");
        backend.prepare(matrix).expect("room on the device")
    };
    let [query, key, value] = [row, kv_row, kv_row].map(|rows| matrix(rows, WIDTH));
    let attention_output = matrix(WIDTH, row);
    let (gate, up, down) = (matrix(FFN, WIDTH), matrix(FFN, WIDTH), matrix(WIDTH, FFN));
    let mut vector = |len| numbers.next(len);
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

/// The operations one by one, as the decoder calls them.
fn step_by_step(
    b: &dyn Backend,
    call: &LayerCall<'_>,
    parts: &mut [LayerPart<'_>],
    x: &mut [f32],
) -> Result<(), NumericError> {
    let (w, eps, tokens) = (call.weights, call.eps, call.positions.len());
    let (row, kv_row) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
    let (mut h, mut a) = (vec![0.0; x.len()], vec![0.0; tokens * row]);
    let (mut q, mut k, mut v) = (a.clone(), vec![0.0; tokens * kv_row], vec![0.0; tokens * kv_row]);
    b.rms_norm(&w.attention_norm, eps, x, &mut h)?;
    b.linear(&[&w.query, &w.key, &w.value], &h, tokens, &mut [&mut q, &mut k, &mut v])?;
    if let Some(biases) = &w.biases {
        for (x, bias) in [&mut q, &mut k, &mut v].into_iter().zip(biases) {
            b.add(x, bias)?;
        }
    }
    if let Some(norms) = &w.head_norms {
        for (x, norm) in [&mut q, &mut k].into_iter().zip(norms) {
            let before = x.clone();
            b.rms_norm(norm, eps, &before, x)?;
        }
    }
    b.rope(call.rope, call.positions, &mut q)?;
    b.rope(call.rope, call.positions, &mut k)?;
    let mut at = 0;
    for part in parts {
        let (own, own_kv) = (at * row..(at + part.rows) * row, at * kv_row..(at + part.rows) * kv_row);
        let first = part.kv.len();
        b.kv_append(part.kv, &k[own_kv.clone()], &v[own_kv])?;
        b.attention(part.kv, call.mask, HEADS, first, &q[own.clone()], &mut a[own])?;
        at += part.rows;
    }
    b.linear(&[&w.attention_output], &a, tokens, &mut [&mut h])?;
    if let Some(bias) = &w.output_bias {
        b.add(&mut h, bias)?;
    }
    b.add(x, &h)?;
    let (mut gate, mut up) = (vec![0.0; tokens * FFN], vec![0.0; tokens * FFN]);
    b.rms_norm(&w.ffn_norm, eps, x, &mut h)?;
    b.linear(&[&w.gate, &w.up], &h, tokens, &mut [&mut gate, &mut up])?;
    b.silu_mul(&mut gate, &up)?;
    b.linear(&[&w.down], &gate, tokens, &mut [&mut h])?;
    b.add(x, &h)
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

#[test]
fn a_layer_is_its_operations() {
    let Some(device) = device(&WgpuOptions::default()) else { return };
    let rope = rope();
    for (extras, mask) in [(false, Mask::Causal), (true, Mask::Window { positions: 30 })] {
        let (ours, theirs) = (weights(&device, extras), weights(&Reference, extras));
        let new = || [KvLayer::new(SHAPE).unwrap(), KvLayer::new(SHAPE).unwrap()];
        let (mut own_kv, mut their_kv) = (new(), new());
        let mut numbers = Numbers(9);
        // Two sequences: prompts in two pieces, the second beyond a block and beyond the room of the first mirror, then a token each.
        for rows in [[3, 40], [70, 5], [1, 1], [60, 1]] {
            let first = [own_kv[0].len(), own_kv[1].len()];
            let positions: Vec<u32> =
                first.iter().zip(rows).flat_map(|(first, rows)| (*first as u32..).take(rows)).collect();
            let mut own_x = numbers.next(positions.len() * WIDTH);
            let mut their_x = own_x.clone();
            let call = |weights| LayerCall {
                weights,
                eps: 1e-5,
                heads: HEADS,
                mask,
                rope: &rope,
                positions: &positions,
            };
            let (own_call, their_call) = (call(&ours), call(&theirs));
            let mut parts: Vec<LayerPart<'_>> =
                own_kv.iter_mut().zip(rows).map(|(kv, rows)| LayerPart { kv, rows }).collect();
            assert_eq!(device.layer(&own_call, &mut parts, &mut own_x), Ok(true), "{rows:?} is done");
            let mut parts: Vec<LayerPart<'_>> =
                their_kv.iter_mut().zip(rows).map(|(kv, rows)| LayerPart { kv, rows }).collect();
            step_by_step(&Reference, &their_call, &mut parts, &mut their_x).unwrap();
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&own_x), bits(&their_x), "{rows:?}");
            for (own, their) in own_kv.iter_mut().zip(&mut their_kv) {
                assert_eq!(entries(own), entries(their));
            }
            // What is cut off is sent anew.
            own_kv[1].truncate(38);
            their_kv[1].truncate(38);
        }
    }
}

#[test]
fn a_layer_that_must_refuse_changes_nothing() {
    let Some(device) = device(&WgpuOptions::default()) else { return };
    let (rope, weights) = (rope(), weights(&device, true));
    let positions: Vec<u32> = (0..5).collect();
    let call = LayerCall {
        weights: &weights,
        eps: 1e-5,
        heads: HEADS,
        mask: Mask::Causal,
        rope: &rope,
        positions: &positions,
    };
    let mut kv = KvLayer::new(SHAPE).unwrap();
    for bad in [f32::NAN, f32::INFINITY, 2e30] {
        let mut x = Numbers(3).next(5 * WIDTH);
        x[100] = bad;
        let before: Vec<u32> = x.iter().map(|x| x.to_bits()).collect();
        let mut parts = [LayerPart { kv: &mut kv, rows: 5 }];
        assert_eq!(device.layer(&call, &mut parts, &mut x), Ok(false));
        assert_eq!(x.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), before);
        assert_eq!(kv.len(), 0);
    }
}
