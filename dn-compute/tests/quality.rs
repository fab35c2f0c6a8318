//! How near the engine is to real numbers: the demonstration model against a plain forward pass in f64.
//!
//! The oracle shares nothing with the engine but the reader of the file. It also runs with activations rounded to Q8_0
//! blocks, as the usual integer path of GGUF runtimes does; the engine must not be worse than that.
#![cfg(feature = "embedded-model")]

use std::collections::HashMap;
use std::sync::Arc;

use dn_compute::formats::gguf::{Gguf, GgufWriter, TensorInfo, TensorType};
use dn_compute::spec::{BlockLength, QuantMatrix};
use dn_compute::{Engine, EngineOptions, Model, embedded};

#[path = "../src/testing/blocks.rs"]
mod blocks;

/// Prose that the model has not seen, about things that it has not seen.
const CARD: &str = include_str!("../../tools/train-tiny/MODEL_CARD.md");

/// Tokens of a window, and windows.
const WINDOW: usize = 256;
const WINDOWS: usize = 4;

/// Weights by their names in a GGUF file; a matrix with its columns.
type Weights = HashMap<String, (usize, Vec<f32>)>;

struct Oracle {
    weights: Weights,
    /// What becomes of the inputs of linear layers whose rows have this many columns.
    activations: fn(&[f64]) -> Vec<f64>,
}

/// The tiny model's sizes.
const WIDTH: usize = 256;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD: usize = 64;

/// The weights of a file of F32 and Q8_0.
fn file_weights(file: &[u8]) -> Weights {
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

    fn logits(&self, tokens: &[u32]) -> Vec<f64> {
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

fn half_to_f32(bits: u16) -> f32 {
    half::f16::from_bits(bits).to_f32()
}

fn as_they_are(row: &[f64]) -> Vec<f64> {
    row.to_vec()
}

/// Blocks of 32 signed bytes under an f16 scale: what integer paths of GGUF runtimes make of a row that meets Q8_0 or Q4_0.
fn as_q8_0(row: &[f64]) -> Vec<f64> {
    rounded(row, 32, |scale| half::f16::from_f64(scale).to_f64())
}

/// Blocks of 256 signed bytes under an f32 scale, for K-quants; rows of other lengths meet Q8_0.
fn as_q8_k(row: &[f64]) -> Vec<f64> {
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
    let oracle = |activations| Oracle { weights: file_weights(file), activations };
    let (exact, usual) = (oracle(as_they_are), oracle(as_q8_0));
    let tokens = model.front().text_prompt(CARD).unwrap();
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

/// What a format makes of a model's matrices.
#[derive(Clone, Copy)]
enum Format {
    /// Eight bits, quantised from floats when the model is loaded.
    Block(BlockLength),
    /// A file of these blocks.
    File(TensorType),
}

impl Format {
    fn name(self) -> String {
        match self {
            Self::Block(length) => format!("block {length}"),
            Self::File(kind) => kind.to_string(),
        }
    }

    /// The type that rows of some length can have: K-quants need whole blocks of 256.
    fn kind(self, cols: usize) -> Option<TensorType> {
        match self {
            Self::File(kind) if !(cols as u64).is_multiple_of(kind.block().0) => Some(TensorType::Q8_0),
            Self::File(kind) => Some(kind),
            Self::Block(_) => None,
        }
    }

    fn matrix(self, cols: usize, values: &[f32]) -> QuantMatrix {
        let rows = values.len() / cols;
        let matrix = match (self, self.kind(cols)) {
            (Self::Block(length), _) => QuantMatrix::from_f32_blocks(rows, cols, length, values),
            (_, Some(TensorType::Q8_0)) => QuantMatrix::from_q8_0(rows, cols, &blocks::q8_0(values)),
            (_, Some(TensorType::Q4_0)) => QuantMatrix::from_q4_0(rows, cols, &blocks::q4_0(values)),
            (_, Some(TensorType::Q4K)) => QuantMatrix::from_q4_k(rows, cols, &blocks::q4_k(values)),
            (_, Some(TensorType::Q5K)) => QuantMatrix::from_q5_k(rows, cols, &blocks::q5_k(values)),
            (_, Some(TensorType::Q6K)) => QuantMatrix::from_q6_k(rows, cols, &blocks::q6_k(values)),
            (_, other) => panic!("{other:?}"),
        };
        matrix.unwrap()
    }

    /// The model with its matrices in this format, as real numbers.
    fn weights(self, exact: &Weights) -> Weights {
        let of = |(name, (cols, values)): (&String, &(usize, Vec<f32>))| {
            if values.len() == *cols {
                return (name.clone(), (*cols, values.clone())); // a vector
            }
            let m = self.matrix(*cols, values);
            let value = |i: usize| m.value(i / cols, i % cols) as f32;
            (name.clone(), (*cols, (0..values.len()).map(value).collect()))
        };
        exact.iter().map(of).collect()
    }

    /// A file with the matrices in this format and everything else as the embedded model has it.
    fn file(self, exact: &Weights) -> Option<Vec<u8>> {
        let gguf = Gguf::parse(embedded::tiny_rust()).unwrap();
        let mut w = GgufWriter::new();
        for (key, value) in gguf.metadata.iter() {
            w.key(key, value.clone());
        }
        for t in gguf.tensors() {
            let (cols, values) = &exact[&t.name];
            let kind = if values.len() == *cols { TensorType::F32 } else { self.kind(*cols)? };
            let bytes = match kind {
                TensorType::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                TensorType::Q8_0 => blocks::q8_0(values),
                TensorType::Q4_0 => blocks::q4_0(values),
                TensorType::Q4K => blocks::q4_k(values),
                TensorType::Q5K => blocks::q5_k(values),
                TensorType::Q6K => blocks::q6_k(values),
                other => panic!("{other}"),
            };
            w.tensor(&t.name, &t.shape, kind, bytes);
        }
        Some(w.finish())
    }
}

/// The weights of a Hugging Face Llama of f16 tensors, under the names and the row order of a GGUF file.
fn safetensors_weights(path: &str) -> Weights {
    let file = std::fs::read(path).unwrap();
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let tensors: HashMap<String, serde_json::Value> = serde_json::from_slice(&file[8..8 + header]).unwrap();
    let mut out = Weights::new();
    for (name, t) in tensors.iter().filter(|(name, _)| *name != "__metadata__") {
        assert_eq!(t["dtype"], "F16", "{name}");
        let number = |v: &serde_json::Value| v.as_u64().unwrap() as usize;
        let range = 8 + header + number(&t["data_offsets"][0])..8 + header + number(&t["data_offsets"][1]);
        let values: Vec<f32> =
            file[range].chunks(2).map(|b| half_to_f32(u16::from_le_bytes([b[0], b[1]]))).collect();
        let cols = t["shape"].as_array().unwrap().last().map(number).unwrap();
        let mut renamed = name.replace("model.layers.", "blk.").replace("self_attn.", "attn_");
        for (from, to) in [
            ("model.embed_tokens", "token_embd"),
            ("model.norm", "output_norm"),
            ("input_layernorm", "attn_norm"),
            ("post_attention_layernorm", "ffn_norm"),
            ("attn_o_proj", "attn_output"),
            ("mlp.", "ffn_"),
            ("_proj", ""),
        ] {
            renamed = renamed.replace(from, to);
        }
        let rotated = renamed.contains("attn_q") || renamed.contains("attn_k");
        out.insert(renamed, (cols, if rotated { interleave(&values, cols) } else { values }));
    }
    out
}

/// Rows of each head from halves to pairs.
fn interleave(values: &[f32], cols: usize) -> Vec<f32> {
    let row = |head: &[f32], i: usize| head[(i % 2 * HEAD / 2 + i / 2) * cols..][..cols].to_vec();
    values
        .chunks(HEAD * cols)
        .flat_map(|head| (0..HEAD).flat_map(|i| row(head, i)).collect::<Vec<_>>())
        .collect()
}

/// Mean over all windows of what two sets of logits have in common.
fn agreement(tokens: &[u32], truth: &[Vec<f64>], found: &[Vec<f64>]) -> Agreement {
    let mut sum = Agreement::default();
    for ((window, truth), found) in tokens.chunks_exact(WINDOW).zip(truth).zip(found) {
        let vocabulary = truth.len() / WINDOW;
        for t in 0..WINDOW - 1 {
            let row = t * vocabulary..(t + 1) * vocabulary;
            sum.add(&truth[row.clone()], &found[row], window[t + 1] as usize);
        }
    }
    sum.mean()
}

/// A report, not a test: takes a minute with `--release`.
///
/// `DN_FLOAT_WEIGHTS` names the safetensors file that the embedded model was made from; without it, its Q8_0 weights are
/// taken for the exact ones.
#[test]
#[ignore = "a report of a minute: cargo test --release -p dn-compute --features embedded-model --test quality -- --ignored --nocapture"]
fn what_each_format_costs() {
    let exact_weights = match std::env::var("DN_FLOAT_WEIGHTS") {
        Ok(path) => safetensors_weights(&path),
        Err(_) => file_weights(embedded::tiny_rust()),
    };
    let model = Model::from_bytes(embedded::tiny_rust()).unwrap();
    let tokens = model.front().text_prompt(CARD).unwrap();
    let tokens = &tokens[..WINDOW * WINDOWS];
    let run = |weights: &Weights, activations| -> Vec<Vec<f64>> {
        let oracle = Oracle { weights: weights.clone(), activations };
        tokens.chunks_exact(WINDOW).map(|window| oracle.logits(window)).collect()
    };
    let show = |name: &str, a: Agreement| {
        println!(
            "{name:<44} {:9.2e} {:9.2e} {:7.2} % {:+9.5}",
            a.mean_kl,
            a.max_kl,
            100.0 * a.top_1,
            a.log_likelihood
        );
    };
    println!("{:<44} mean KL   max KL    top-1     log-likelihood", "");
    let truth = run(&exact_weights, as_they_are);
    let lengths = BlockLength::ALL.map(Format::Block);
    let files = [TensorType::Q8_0, TensorType::Q6K, TensorType::Q5K, TensorType::Q4K, TensorType::Q4_0];
    for format in lengths.into_iter().chain(files.map(Format::File)) {
        let weights = format.weights(&exact_weights);
        let quantised = run(&weights, as_they_are);
        show(&format!("{}: weights against floats", format.name()), agreement(tokens, &truth, &quantised));
        let Some(file) = format.file(&exact_weights) else { continue };
        let engine =
            Engine::new(Arc::new(Model::from_bytes(file).unwrap()), EngineOptions::default()).unwrap();
        let found: Vec<Vec<f64>> = tokens
            .chunks_exact(WINDOW)
            .map(|window| engine.logits(window).unwrap().into_iter().map(f64::from).collect())
            .collect();
        let k = !matches!(format, Format::File(TensorType::Q8_0 | TensorType::Q4_0));
        let usual = run(&weights, if k { as_q8_k } else { as_q8_0 });
        show(
            &format!("{}: engine against its weights", format.name()),
            agreement(tokens, &quantised, &found),
        );
        show(
            &format!("{}: usual path against its weights", format.name()),
            agreement(tokens, &quantised, &usual),
        );
        show(&format!("{}: engine against floats", format.name()), agreement(tokens, &truth, &found));
        show(&format!("{}: usual path against floats", format.name()), agreement(tokens, &truth, &usual));
    }
}
