//! What proof costs: the trace while a model runs, and the referee's time for each kind of tile, of a model and at every limit.
//!
//! `DN_BENCH_MODEL` is a GGUF file (the demonstration model), `DN_BENCH_THREADS` the threads (all cores).

#[path = "../../dn-compute/src/verify/tests/bounds/largest.rs"]
mod largest;

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use dn_compute::cpu::{Cpu, Isa};
use dn_compute::runtime::{Decoder, Session};
use dn_compute::tensors::Tile;
use dn_compute::trace::Leaf;
use dn_compute::verify::claim::{
    KeyBlock, KeyTerm, Parts, PastEntry, RANGE, RequestSlice, Subject, Sum, WeightSlice,
};
use dn_compute::verify::slice::Slice;
use dn_compute::verify::{Claim, Opening, Place, Stage, Verdict, referee};
use dn_compute::{Engine, EngineOptions, Model};
use dn_core::merkle::{InclusionProof, fold, leaf_hash, root_hash};
use dn_core::objects::{
    Decoding, Hyperparameters, JobRequest, ModelManifest, Price, RopePairing, RopeScaling, Sampling,
};
use dn_core::{Address, Amount, Canonical, ChannelId, Hash32, JobId};

const PROMPT: usize = 200;

fn model() -> Arc<Model> {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../dn-compute/models/tiny-rust-q8_0.gguf");
    let path = std::env::var_os("DN_BENCH_MODEL").map_or_else(|| PathBuf::from(own), PathBuf::from);
    Arc::new(Model::load(&path).expect("a model"))
}

fn threads() -> NonZeroUsize {
    let given = std::env::var("DN_BENCH_THREADS").ok().and_then(|n| n.parse().ok());
    given.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
}

fn tokens(model: &Model, count: usize) -> Vec<u32> {
    (0..count as u32).map(|i| i * 7919 % model.front().vocabulary()).collect()
}

/// Traced and untraced take turns, so that both see the same machine.
fn trace(c: &mut Criterion) {
    let model = model();
    let cpu = Cpu::new(Isa::Auto, threads().get()).expect("an instruction set of this machine");
    let decoder = Decoder::new(&model, Box::new(cpu)).expect("weights");
    let prompt = tokens(&model, PROMPT);
    let session = |traced: bool| {
        let new = if traced { decoder.session(2 * PROMPT) } else { decoder.untraced_session(2 * PROMPT) };
        new.expect("a session")
    };
    let feed = |session: &mut Session, tokens: &[u32], logits_from: usize| {
        decoder.feed(session, tokens, logits_from, &mut |_, logits| {
            black_box(logits[0]);
        })
    };
    let mut prefilled = [session(true), session(false)];
    for session in &mut prefilled {
        feed(session, &prompt, PROMPT).expect("numbers in range");
    }
    for (traced, prefilled) in [true, false].into_iter().zip(&prefilled) {
        let name = if traced { "traced" } else { "untraced" };
        c.bench_function(&format!("prefill/{name}"), |b| {
            b.iter(|| feed(&mut session(traced), &prompt, PROMPT).expect("numbers in range"));
        });
        c.bench_function(&format!("decode/{name}"), |b| {
            b.iter_batched(
                || prefilled.clone(),
                |mut session| feed(&mut session, &prompt[..1], 0).expect("numbers in range"),
                criterion::BatchSize::SmallInput,
            );
        });
    }
}

fn request(model: &Model) -> JobRequest {
    JobRequest {
        chain_id: 1,
        payer: Address([1; 20]),
        gateway: Address([2; 20]),
        channel: ChannelId([3; 32]),
        lane: 0,
        domain: 0,
        model: model.id(),
        numeric_spec: 1,
        prompt: tokens(model, PROMPT),
        sampling: Sampling::GREEDY,
        decoding: Decoding::default(),
        max_tokens: 4,
        stop: Vec::new(),
        price: Price { prompt_token: Amount::ZERO, output_token: Amount::ZERO },
        nonce: [0; 16],
        expires_ms: 0,
    }
}

/// The referee's time for each operation of the model, at the last position of the prompt.
fn tiles(c: &mut Criterion) {
    let model = model();
    let options = EngineOptions { threads: Some(threads()), ..EngineOptions::default() };
    let engine = Engine::new(Arc::clone(&model), options).expect("an engine");
    let (request, output) = (request(&model), tokens(&model, 4));
    let witness = engine.witness(&request, &output).expect("numbers in range");
    let position = PROMPT as u32 - 1;
    for stage in [Stage::Embedding, Stage::Layer { layer: 0 }, Stage::Logits] {
        for (op, _) in witness.operations(stage) {
            let place = Place { position, stage, op, element: 0 };
            let opened = witness.open(&place).expect("a place");
            measure(c, "referee", op.name(), &opened.claim, &opened.opening);
        }
    }
}

/// Its time for the largest claims and openings that exist.
fn largest_tiles(c: &mut Criterion) {
    for case in largest::cases() {
        measure(c, "largest", case.name, &case.claim, &case.opening);
    }
}

fn measure(c: &mut Criterion, group: &str, name: &str, claim: &Claim, opening: &Opening) {
    let (claim, opening) = (claim.to_bytes(), opening.to_bytes());
    assert_eq!(referee(&claim, &opening), Ok(Verdict::Consistent), "{name}");
    c.bench_function(&format!("{group}/{name}, {} bytes", claim.len() + opening.len()), |b| {
        b.iter(|| referee(black_box(&claim), black_box(&opening)).expect("a verdict"));
    });
}

criterion_group!(benches, trace, tiles, largest_tiles);
criterion_main!(benches);
