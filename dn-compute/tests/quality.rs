//! How near the engine is to real numbers: the demonstration model against a plain forward pass in f64.
//!
//! The oracle shares nothing with the engine but the reader of the file. It also runs with activations rounded to Q8_0
//! blocks, as the usual integer path of GGUF runtimes does; the engine must not be worse than that.
#![cfg(feature = "embedded-model")]

use std::sync::Arc;

use dn_compute::formats::gguf::{Gguf, TensorType};
use dn_compute::{Engine, EngineOptions, Model, embedded};

/// Tokens of a window, and windows.
const WINDOW: usize = 256;
const WINDOWS: usize = 4;

struct Oracle<'a> {
    file: &'a [u8],
    gguf: Gguf,
    round_activations: bool,
}

/// The tiny model's sizes.
const WIDTH: usize = 256;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD: usize = 64;

impl Oracle<'_> {
    fn tensor(&self, name: &str) -> Vec<f32> {
        let t = self.gguf.tensor(name).unwrap();
        let bytes = &self.file[t.start as usize..(t.start + t.size) as usize];
        match t.kind {
            TensorType::F32 => bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
            TensorType::Q8_0 => bytes
                .chunks(34)
                .flat_map(|b| {
                    let scale = half_to_f32(u16::from_le_bytes([b[0], b[1]]));
                    b[2..].iter().map(move |q| scale * f32::from(*q as i8)).collect::<Vec<_>>()
                })
                .collect(),
            other => panic!("{other}"),
        }
    }

    /// `x * w^T`, sums in f64.
    fn linear(&self, name: &str, x: &[f64], cols: usize) -> Vec<f64> {
        let w = self.tensor(name);
        let x: Vec<f64> =
            if self.round_activations { x.chunks(32).flat_map(q8_0).collect() } else { x.to_vec() };
        let rows = x.chunks(cols);
        rows.flat_map(|x| w.chunks(cols).map(|w| dot(w, x)).collect::<Vec<_>>()).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let w = self.tensor(name);
        let row = |x: &[f64]| {
            let mean = x.iter().map(|v| v * v).sum::<f64>() / WIDTH as f64;
            let factor = 1.0 / (mean + 1e-5f32 as f64).sqrt();
            x.iter().zip(&w).map(|(v, w)| v * factor * f64::from(*w)).collect::<Vec<_>>()
        };
        x.chunks(WIDTH).flat_map(row).collect()
    }

    fn logits(&self, tokens: &[u32]) -> Vec<f64> {
        let table = self.tensor("token_embd.weight");
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

fn half_to_f32(bits: u16) -> f32 {
    half::f16::from_bits(bits).to_f32()
}

fn q8_0(block: &[f64]) -> Vec<f64> {
    let scale = block.iter().fold(0f64, |a, v| a.max(v.abs())) / 127.0;
    let stored = half::f16::from_f64(scale).to_f64();
    block.iter().map(|v| if scale == 0.0 { 0.0 } else { (v / scale).round() * stored }).collect()
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

fn softmax(x: &[f64]) -> Vec<f64> {
    let max = x.iter().fold(f64::MIN, |a, v| a.max(*v));
    let e: Vec<f64> = x.iter().map(|v| (v - max).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|v| v / sum).collect()
}

fn best(x: &[f64]) -> usize {
    (0..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best })
}

/// What two sets of logits over the same text have in common.
#[derive(Debug, Default)]
struct Agreement {
    positions: usize,
    mean_kl: f64,
    max_kl: f64,
    top_1: f64,
    /// Mean log-probability of the text's next tokens, ours less the oracle's.
    log_likelihood: f64,
}

impl Agreement {
    fn add(&mut self, exact: &[f64], ours: &[f64], next: usize) {
        let (p, q) = (softmax(exact), softmax(ours));
        let kl: f64 = p.iter().zip(&q).map(|(p, q)| if *p > 0.0 { p * (p / q).ln() } else { 0.0 }).sum();
        self.positions += 1;
        self.mean_kl += kl;
        self.max_kl = self.max_kl.max(kl);
        self.top_1 += f64::from(u8::from(best(exact) == best(ours)));
        self.log_likelihood += q[next].ln() - p[next].ln();
    }

    fn mean(mut self) -> Self {
        let n = self.positions as f64;
        self.mean_kl /= n;
        self.top_1 /= n;
        self.log_likelihood /= n;
        self
    }
}

#[test]
fn the_engine_is_nearer_to_real_numbers_than_the_usual_integer_path() {
    let model = Arc::new(Model::from_bytes(embedded::tiny_rust()).unwrap());
    let engine = Engine::new(Arc::clone(&model), EngineOptions::default()).unwrap();
    let file = embedded::tiny_rust();
    let oracle = |round_activations| Oracle { file, gguf: Gguf::parse(file).unwrap(), round_activations };
    let (exact, usual) = (oracle(false), oracle(true));
    // Prose that the model has not seen, about things that it has not seen.
    let card = include_str!("../../tools/train-tiny/MODEL_CARD.md");
    let tokens = model.front().text_prompt(card).unwrap();
    let (mut ours, mut theirs, mut perplexity) = (Agreement::default(), Agreement::default(), 0.0);
    for window in tokens.chunks_exact(WINDOW).take(WINDOWS) {
        let truth = exact.logits(window);
        let rounded = usual.logits(window);
        let found: Vec<f64> = engine.logits(window).unwrap().into_iter().map(f64::from).collect();
        let vocabulary = truth.len() / WINDOW;
        for t in 0..WINDOW - 1 {
            let row = |x: &[f64]| x[t * vocabulary..][..vocabulary].to_vec();
            let next = window[t + 1] as usize;
            perplexity -= softmax(&row(&truth))[next].ln();
            ours.add(&row(&truth), &row(&found), next);
            theirs.add(&row(&truth), &row(&rounded), next);
        }
    }
    let (ours, theirs) = (ours.mean(), theirs.mean());
    println!("log-perplexity {:.4}\nengine {ours:?}\nusual  {theirs:?}", perplexity / ours.positions as f64);
    assert_eq!(ours.positions, WINDOWS * (WINDOW - 1));
    assert!(ours.mean_kl < 1e-5 && ours.top_1 > 0.995, "{ours:?}");
    assert!(ours.mean_kl < theirs.mean_kl, "{ours:?} {theirs:?}");
}
