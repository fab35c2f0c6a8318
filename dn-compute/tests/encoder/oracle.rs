//! A BERT in f64, written from the architecture alone: shares nothing with the engine but the reader of safetensors.

use std::collections::HashMap;

use safetensors::{Dtype, SafeTensors};

pub(crate) struct Oracle {
    tensors: HashMap<String, Vec<f32>>,
    width: usize,
    heads: usize,
    layers: usize,
    epsilon: f64,
    mean: bool,
}

impl Oracle {
    pub(crate) fn new(config: &[u8], tensors: &[u8], mean: bool) -> Self {
        let config: serde_json::Value = serde_json::from_slice(config).unwrap();
        let size = |key: &str| config[key].as_u64().unwrap() as usize;
        let file = SafeTensors::deserialize(tensors).unwrap();
        let floats = |name: &str| {
            let tensor = file.tensor(name).unwrap();
            let bytes = tensor.data();
            match tensor.dtype() {
                Dtype::F32 => bytes.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
                Dtype::F16 => {
                    bytes.chunks(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
                }
                _ => Vec::new(),
            }
        };
        Self {
            tensors: file.names().into_iter().map(|name| (name.to_owned(), floats(name))).collect(),
            width: size("hidden_size"),
            heads: size("num_attention_heads"),
            layers: size("num_hidden_layers"),
            epsilon: config["layer_norm_eps"].as_f64().unwrap(),
            mean,
        }
    }

    /// The embedding of a text, of length one.
    pub(crate) fn embed(&self, tokens: &[u32]) -> Vec<f64> {
        let width = self.width;
        let row = |table: &str, row: usize, c: usize| {
            f64::from(self.tensors[&format!("embeddings.{table}_embeddings.weight")][row * width + c])
        };
        let mut x: Vec<f64> = Vec::with_capacity(tokens.len() * width);
        for (position, token) in tokens.iter().enumerate() {
            x.extend((0..width).map(|c| {
                row("word", *token as usize, c) + row("position", position, c) + row("token_type", 0, c)
            }));
        }
        self.norm("embeddings", &mut x);
        for l in 0..self.layers {
            let name = |part: &str| format!("encoder.layer.{l}.{part}");
            let [q, k, v] =
                ["query", "key", "value"].map(|p| self.dense(&name(&format!("attention.self.{p}")), &x));
            let attended = self.attention(&q, &k, &v);
            add(&mut x, &self.dense(&name("attention.output.dense"), &attended));
            self.norm(&name("attention.output"), &mut x);
            let mut inner = self.dense(&name("intermediate.dense"), &x);
            inner.iter_mut().for_each(|v| *v = gelu(*v));
            add(&mut x, &self.dense(&name("output.dense"), &inner));
            self.norm(&name("output"), &mut x);
        }
        let rows = if self.mean { tokens.len() } else { 1 };
        let mut out: Vec<f64> =
            (0..width).map(|c| (0..rows).map(|t| x[t * width + c]).sum::<f64>()).collect();
        let length = dot(&out, &out).sqrt();
        out.iter_mut().for_each(|v| *v /= length);
        out
    }

    fn dense(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (w, bias) = (&self.tensors[&format!("{name}.weight")], &self.tensors[&format!("{name}.bias")]);
        let cols = w.len() / bias.len();
        let rows = x.len() / cols;
        let mut out = vec![0.0; rows * bias.len()];
        let mut row = vec![0f64; cols];
        for (r, (w, b)) in w.chunks_exact(cols).zip(bias).enumerate() {
            row.iter_mut().zip(w).for_each(|(row, w)| *row = f64::from(*w));
            for (t, x) in x.chunks_exact(cols).enumerate() {
                out[t * bias.len() + r] = dot(&row, x) + f64::from(*b);
            }
        }
        out
    }

    fn norm(&self, name: &str, x: &mut [f64]) {
        let weight = &self.tensors[&format!("{name}.LayerNorm.weight")];
        let bias = &self.tensors[&format!("{name}.LayerNorm.bias")];
        let n = self.width as f64;
        for row in x.chunks_exact_mut(self.width) {
            let mean = row.iter().sum::<f64>() / n;
            let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
            let factor = 1.0 / (variance + self.epsilon).sqrt();
            for ((v, w), b) in row.iter_mut().zip(weight).zip(bias) {
                *v = (*v - mean) * factor * f64::from(*w) + f64::from(*b);
            }
        }
    }

    fn attention(&self, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
        let (width, d) = (self.width, self.width / self.heads);
        let tokens = q.len() / width;
        let mut out = vec![0.0; q.len()];
        for h in 0..self.heads {
            let head = |x: &[f64], t: usize| x[t * width + h * d..][..d].to_vec();
            let (keys, values): (Vec<_>, Vec<_>) = (0..tokens).map(|t| (head(k, t), head(v, t))).unzip();
            for t in 0..tokens {
                let query = head(q, t);
                let scores: Vec<f64> = keys.iter().map(|k| dot(&query, k) / (d as f64).sqrt()).collect();
                let top = scores.iter().copied().fold(f64::MIN, f64::max);
                let p: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
                let sum: f64 = p.iter().sum();
                let out = &mut out[t * width + h * d..][..d];
                for (p, v) in p.iter().zip(&values) {
                    out.iter_mut().zip(v).for_each(|(o, v)| *o += p / sum * v);
                }
            }
        }
        out
    }
}

/// Cosine of two vectors.
pub(crate) fn cosine(a: &[f64], b: &[f64]) -> f64 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0f64; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a8.zip(b8) {
        for i in 0..8 {
            lanes[i] += a[i] * b[i];
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// `x * Phi(x)`: the series of the normal distribution near zero, its continued fraction further out.
fn gelu(x: f64) -> f64 {
    let a = x.abs();
    let density = (-a * a / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let tail = if a < 3.0 {
        let (mut term, mut sum, mut n) = (a, a, 1.0);
        while term > 1e-17 {
            term *= a * a / (2.0 * n + 1.0);
            sum += term;
            n += 1.0;
        }
        0.5 - density * sum
    } else {
        density / (1..60).rev().fold(a, |f, n| a + f64::from(n) / f)
    };
    if x > 0.0 { x - x * tail } else { x * tail }
}

#[test]
fn the_oracle_knows_gelu() {
    for (x, y) in
        [(0.0, 0.0), (1.0, 0.841_344_746_068_542_9), (-1.0, -0.158_655_253_931_457_1), (3.5, 3.499_185_798_2)]
    {
        assert!((gelu(x) - y).abs() < 1e-9, "{x}: {} against {y}", gelu(x));
    }
}
