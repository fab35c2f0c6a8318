//! What proof costs: the trace while a model runs, and the referee's time for each kind of tile.
//!
//! `DN_BENCH_MODEL` is a GGUF file (the demonstration model), `DN_BENCH_THREADS` the threads (all cores).

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use dn_compute::cpu::{Cpu, Isa};
use dn_compute::runtime::{Decoder, Session};
use dn_compute::verify::{Dispute, Due, Party, Pick, Stage, Witness, referee};
use dn_compute::{Engine, EngineOptions, Model};
use dn_core::objects::{Decoding, JobRequest, Price, Sampling};
use dn_core::{Address, Amount, Canonical, ChannelId};

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

/// Leads a dispute about an honest answer to an operation; the bytes that the referee is given.
fn tile(witness: &Witness<'_>, stage: Stage, op: u8) -> (String, Vec<u8>, Vec<u8>) {
    let mut dispute = Dispute::open(witness.subject()).expect("a known model");
    let position = PROMPT as u32 - 1;
    while !matches!(dispute.due(), Due::Tile) {
        if dispute.turn() == Some(Party::Worker) {
            let answer = witness.answer(&dispute).expect("an answer").expect("the worker's turn");
            dispute.answer(answer).expect("what is bound");
            continue;
        }
        let pick = match dispute.due() {
            Due::Node { level, first, .. } => Pick::Index { index: (position >> level) - *first as u32 },
            Due::Stage => Pick::Stage { stage },
            Due::Op => Pick::Op { op },
            _ => Pick::Index { index: 0 },
        };
        dispute.pick(pick).expect("a place");
    }
    let name = dispute.op_name().map_or("choice", |name| name.name()).to_owned();
    let opening = witness.tile(&dispute).expect("a tile").to_bytes();
    (name, dispute.claim().to_bytes(), opening)
}

fn tiles(c: &mut Criterion) {
    let model = model();
    let options = EngineOptions { threads: Some(threads()), ..EngineOptions::default() };
    let engine = Engine::new(Arc::clone(&model), options).expect("an engine");
    let (request, output) = (request(&model), tokens(&model, 4));
    let witness = engine.witness(&request, &output).expect("numbers in range");
    let layer = Stage::Layer { layer: 0 };
    let ops = witness.hashes(0, layer).expect("rows").len() as u8;
    let mut places: Vec<(Stage, u8)> = (0..ops).map(|op| (layer, op)).collect();
    places.extend([(Stage::Embedding, 0), (Stage::Logits, 0), (Stage::Logits, 1)]);
    for (stage, op) in places {
        let (name, claim, opening) = tile(&witness, stage, op);
        c.bench_function(&format!("referee/{name}, {} bytes", claim.len() + opening.len()), |b| {
            b.iter(|| referee(black_box(&claim), black_box(&opening)).expect("a verdict"));
        });
    }
}

criterion_group!(benches, trace, tiles);
criterion_main!(benches);
