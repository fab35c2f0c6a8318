//! A forward pass in f64 that shares nothing with the engine but the reader of the file.

use std::collections::HashMap;

use dn_compute::formats::gguf::{Gguf, TensorInfo, TensorType};

/// Weights by their names in a GGUF file; a matrix with its columns.
pub(super) type Weights = HashMap<String, (usize, Vec<f32>)>;

pub(super) struct Oracle {
    pub(super) weights: Weights,
    /// What becomes of the inputs of linear layers whose rows have this many columns.
    pub(super) activations: fn(&[f64]) -> Vec<f64>,
}

/// The tiny model's sizes.
const WIDTH: usize = 256;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
pub(super) const HEAD: usize = 64;

/// The weights of a file of F32 and Q8_0.
pub(super) fn file_weights(file: &[u8]) -> Weights {
    let gguf = Gguf::parse(file).unwrap();
    let values = |t: &TensorInfo| -> Vec<f32> {
        let bytes = &file[t.start as usize..(t.start + t.size) as usize];
        match t.kind {
            TensorType::F32 => {
                bytes.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
            TensorType::Q8_0 => bytes
                .chunks(34)
                .flat_map(|b| {
                    let scale = half_to_f32(u16::from_le_bytes([b[0], b[1]]));
                    b[2..].iter().map(move |q| scale * f32::from(*q as i8)).collect::<Vec<_>>()
                })
                .collect(),
            other => panic!("{other}"),
        }
    };
    gguf.tensors().iter().map(|t| (t.name.clone(), (t.shape[0] as usize, values(t)))).collect()
}

impl Oracle {
    /// `x * w^T`, sums in f64.
    fn linear(&self, name: &str, x: &[f64], cols: usize) -> Vec<f64> {
        let w = &self.weights[name].1;
        let row = |x: &[f64]| {
            let x = (self.activations)(x);
            w.chunks(cols).map(|w| dot(w, &x)).collect::<Vec<_>>()
        };
        x.chunks(cols).flat_map(row).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let w = &self.weights[name].1;
        let row = |x: &[f64]| {
            let mean = x.iter().map(|v| v * v).sum::<f64>() / WIDTH as f64;
            let factor = 1.0 / (mean + 1e-5f32 as f64).sqrt();
            x.iter().zip(w).map(|(v, w)| v * factor * f64::from(*w)).collect::<Vec<_>>()
        };
        x.chunks(WIDTH).flat_map(row).collect()
    }

    pub(super) fn logits(&self, tokens: &[u32]) -> Vec<f64> {
        let table = &self.weights["token_embd.weight"].1;
        let row =
            |t: &u32| table[*t as usize * WIDTH..][..WIDTH].iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let mut x: Vec<f64> = tokens.iter().flat_map(row).collect();
        for l in 0..5 {
            let name = |part: &str| format!("blk.{l}.{part}.weight");
            let h = self.norm(&name("attn_norm"), &x);
            let mut q = self.linear(&name("attn_q"), &h, WIDTH);
            let mut k = self.linear(&name("attn_k"), &h, WIDTH);
            let v = self.linear(&name("attn_v"), &h, WIDTH);
            rotate(&mut q, HEADS);
            rotate(&mut k, KV_HEADS);
            let a = attention(&q, &k, &v, tokens.len());
            let out = self.linear(&name("attn_output"), &a, WIDTH);
            x.iter_mut().zip(out).for_each(|(x, y)| *x += y);
            let h = self.norm(&name("ffn_norm"), &x);
            let gate = self.linear(&name("ffn_gate"), &h, WIDTH);
            let up = self.linear(&name("ffn_up"), &h, WIDTH);
            let h: Vec<f64> = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            let out = self.linear(&name("ffn_down"), &h, 640);
            x.iter_mut().zip(out).for_each(|(x, y)| *x += y);
        }
        self.linear("token_embd.weight", &self.norm("output_norm.weight", &x), WIDTH)
    }
}

pub(super) fn half_to_f32(bits: u16) -> f32 {
    half::f16::from_bits(bits).to_f32()
}

pub(super) fn as_they_are(row: &[f64]) -> Vec<f64> {
    row.to_vec()
}

/// Blocks of 32 signed bytes under an f16 scale: what integer paths of GGUF runtimes make of a row that meets Q8_0 or Q4_0.
pub(super) fn as_q8_0(row: &[f64]) -> Vec<f64> {
    rounded(row, 32, |scale| half::f16::from_f64(scale).to_f64())
}

/// Blocks of 256 signed bytes under an f32 scale, for K-quants; rows of other lengths meet Q8_0.
pub(super) fn as_q8_k(row: &[f64]) -> Vec<f64> {
    if row.len().is_multiple_of(256) {
        rounded(row, 256, |scale| f64::from(scale as f32))
    } else {
        as_q8_0(row)
    }
}

fn rounded(row: &[f64], block: usize, stored: fn(f64) -> f64) -> Vec<f64> {
    let round = |block: &[f64]| -> Vec<f64> {
        let scale = block.iter().fold(0f64, |a, v| a.max(v.abs())) / 127.0;
        block.iter().map(|v| if scale == 0.0 { 0.0 } else { (v / scale).round() * stored(scale) }).collect()
    };
    row.chunks(block).flat_map(round).collect()
}

fn dot(w: &[f32], x: &[f64]) -> f64 {
    let mut lanes = [0f64; 8];
    for (w, x) in w.chunks_exact(8).zip(x.chunks_exact(8)) {
        for i in 0..8 {
            lanes[i] += f64::from(w[i]) * x[i];
        }
    }
    lanes.iter().sum()
}

fn rotate(x: &mut [f64], heads: usize) {
    for (position, row) in x.chunks_mut(heads * HEAD).enumerate() {
        for head in row.chunks_mut(HEAD) {
            for (i, pair) in head.chunks_mut(2).enumerate() {
                let angle = position as f64 * 10_000f64.powf(-(2.0 * i as f64) / HEAD as f64);
                let (a, b) = (pair[0], pair[1]);
                pair[0] = a * angle.cos() - b * angle.sin();
                pair[1] = a * angle.sin() + b * angle.cos();
            }
        }
    }
}

fn attention(q: &[f64], k: &[f64], v: &[f64], tokens: usize) -> Vec<f64> {
    let mut out = vec![0.0; tokens * HEADS * HEAD];
    let row = |x: &[f64], t: usize, heads: usize, h: usize| x[(t * heads + h) * HEAD..][..HEAD].to_vec();
    for t in 0..tokens {
        for h in 0..HEADS {
            let query = row(q, t, HEADS, h);
            let kv = h / (HEADS / KV_HEADS);
            let score = |s: usize| {
                let key = row(k, s, KV_HEADS, kv);
                query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>() / (HEAD as f64).sqrt()
            };
            let p = softmax(&(0..=t).map(score).collect::<Vec<_>>());
            let o = &mut out[(t * HEADS + h) * HEAD..][..HEAD];
            for (s, p) in p.iter().enumerate() {
                let value = row(v, s, KV_HEADS, kv);
                o.iter_mut().zip(value).for_each(|(o, v)| *o += p * v);
            }
        }
    }
    out
}

pub(super) fn softmax(x: &[f64]) -> Vec<f64> {
    let max = x.iter().fold(f64::MIN, |a, v| a.max(*v));
    let e: Vec<f64> = x.iter().map(|v| (v - max).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|v| v / sum).collect()
}
