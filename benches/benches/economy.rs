//! Trust, scores and payouts: one identity at a time, and whole populations. Time per call; a population's is that of all its rows.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use dn_core::Amount;
use dn_powr::population::{Block, Narrowed, Pot, Survey};
use dn_trust::{Params, Unit, Weight, WorkerEpoch, WorkerSums, WorkerTrust};

/// Rows of a population: its columns stay in the second-level cache.
const ROWS: usize = 4_096;

/// A worker's epoch; `n` tells one from the other.
fn epoch(n: u64) -> WorkerEpoch {
    let weight = Weight::ONE.bits() / 2 + n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % Weight::ONE.bits();
    let mut epoch = WorkerEpoch::default();
    epoch.completed(Weight::from_bits(weight - weight / 64));
    epoch.failed(Weight::from_bits(weight / 64));
    epoch.audit_passed(Weight::from_bits(weight));
    epoch.online();
    epoch.latency(Weight::ONE, 900, 1_000);
    epoch
}

fn one_identity(c: &mut Criterion) {
    let params = Params::default();
    let (mut worker, epoch) = (WorkerTrust::newcomer(&params), epoch(1));
    let sums = epoch.sums(&params);
    c.bench_function("worker/sums", |b| b.iter(|| black_box(&epoch).sums(&params)));
    c.bench_function("worker/close", |b| b.iter(|| worker.close_sums(&params, black_box(&sums))));
    c.bench_function("worker/weight", |b| b.iter(|| black_box(&worker).weight(&params)));
    let trust = worker.weight(&params);
    c.bench_function("score", |b| b.iter(|| dn_powr::score(black_box(1 << 40), Unit::ONE, trust)));
}

fn population(c: &mut Criterion) {
    let params = Params::default();
    let sums: Vec<WorkerSums> = (0..ROWS as u64).map(|n| epoch(n).sums(&params)).collect();
    let work: Vec<u64> = (0..ROWS as u64).map(|n| (1 << 40) + n * n).collect();
    let quality = vec![Unit::ONE; ROWS];
    let mut states = vec![WorkerTrust::newcomer(&params); ROWS];
    let (mut idle, mut scores) = (vec![0; ROWS], vec![0; ROWS]);
    let mut points = 0;
    c.bench_function("population/close", |b| {
        b.iter(|| {
            let block = Block {
                states: &mut states,
                idle_epochs: &mut idle,
                sums: &sums,
                work: &work,
                quality: &quality,
                scores: &mut scores,
            };
            points = block.close(&params).expect("equal columns");
        })
    });
    let pot = Pot::new(Amount::from_dn(1_000), points).expect("a sum of scores");
    let mut survey = Survey::default();
    c.bench_function("population/survey", |b| {
        b.iter(|| {
            survey = Survey::default();
            pot.survey(0, &scores, &mut survey)
        })
    });
    let Narrowed::Ready(shares) = pot.narrow(&survey) else { panic!("so few rows need one survey") };
    let mut amounts = vec![Amount::ZERO; ROWS];
    c.bench_function("population/pay", |b| {
        b.iter(|| {
            let mut near = Vec::new();
            shares.pay(0, &scores, &mut amounts, &mut near).expect("equal columns");
            shares.settle(&mut near, &mut amounts)
        })
    });
}

criterion_group!(benches, one_identity, population);
criterion_main!(benches);
