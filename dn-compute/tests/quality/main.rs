//! How near the engine is to real numbers: the demonstration model against a plain forward pass in f64.
//!
//! The oracle shares nothing with the engine but the reader of the file. It also runs with activations rounded to Q8_0
//! blocks, as the usual integer path of GGUF runtimes does; the engine must not be worse than that.
#![cfg(feature = "embedded-model")]
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod formats;
mod oracle;

#[path = "../../src/testing/blocks.rs"]
mod blocks;

use std::sync::Arc;

use dn_compute::formats::gguf::TensorType;
use dn_compute::spec::BlockLength;
use dn_compute::{Engine, EngineOptions, Model, embedded};

use formats::{Format, safetensors_weights};
use oracle::{Oracle, Weights, as_q8_0, as_q8_k, as_they_are, file_weights, softmax};

/// Prose that the model has not seen, about things that it has not seen.
const CARD: &str = include_str!("../../../tools/train-tiny/MODEL_CARD.md");

/// Tokens of a window, and windows.
const WINDOW: usize = 256;
const WINDOWS: usize = 4;

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

/// A report, not a test: takes two minutes with `--release`.
///
/// `DN_FLOAT_WEIGHTS` names the safetensors file that the embedded model was made from; without it, its Q8_0 weights are
/// taken for the exact ones.
#[test]
#[ignore = "a report of two minutes: cargo test --release -p dn-compute --features embedded-model --test quality -- --ignored --nocapture"]
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
