//! The CPU backend at the shapes of Qwen2-0.5B (24 layers, without the vocabulary), beside the memory's read bandwidth in
//! the same run: decoding one token must read every weight once, so bytes per second of the two compare directly. Many tokens at once
//! are bound by products: a weight and a token are one, and `product_limit` says how many a second the processor makes of them.
//!
//! `DN_BENCH_ISA` (auto), `DN_BENCH_THREADS` (all cores) and `DN_BENCH_FORMAT` (q8_0, or q4_0, q4_k, q6_k, row) choose what is
//! timed. Needs 1.3 GB of memory.

#[cfg(target_arch = "x86_64")]
#[path = "linear/limit.rs"]
mod limit;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dn_compute::cpu::{Cpu, Isa};
use dn_compute::spec::matrix::QuantParts;
use dn_compute::spec::{Backend, BlockLength, Blocks, KvShape, Mask, Matrix, QuantMatrix};
use rayon::prelude::*;

const HIDDEN: usize = 896;
const KV: usize = 128;
const FEED_FORWARD: usize = 4864;
const LAYERS: usize = 24;

struct Layer {
    qkv: [Matrix; 3],
    output: Matrix,
    gate_up: [Matrix; 2],
    down: Matrix,
}

fn threads() -> usize {
    let all = || std::thread::available_parallelism().map_or(1, usize::from);
    std::env::var("DN_BENCH_THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or_else(all)
}

fn backend() -> Cpu {
    let isa: Isa = std::env::var("DN_BENCH_ISA").ok().map_or(Isa::Auto, |isa| isa.parse().expect("an isa"));
    Cpu::new(isa, threads()).expect("an instruction set of this machine")
}

/// Smallest value, number of values, blocks.
fn format() -> (i32, u64, Blocks) {
    let plain = Blocks::plain;
    match std::env::var("DN_BENCH_FORMAT").as_deref() {
        Err(_) | Ok("q8_0") => (-127, 255, plain(BlockLength::B32)),
        Ok("q4_0") => (-8, 16, plain(BlockLength::B32)),
        Ok("q4_k") => (0, 16, Blocks::with_minima(BlockLength::B32)),
        Ok("q6_k") => (-32, 64, plain(BlockLength::B16)),
        Ok("row") => (-127, 255, plain(BlockLength::Row)),
        Ok(other) => panic!("no format `{other}`"),
    }
}

fn matrix(cpu: &Cpu, rows: usize, cols: usize) -> Matrix {
    let mut state = rows as u64 * 31 + cols as u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state >> 33
    };
    let (least, values, blocks) = format();
    let count = rows * blocks.count(cols);
    let q = (0..rows * cols).map(|_| (least + (next() % values) as i32) as i8).collect();
    let m = (0..count).map(|_| next() as u16 | 0x8000).collect();
    let n = (0..if blocks.minima { count } else { 0 }).map(|_| (next() % 30_000) as i16).collect();
    let parts = QuantParts { rows, cols, blocks, q, m, n, er: vec![-30; rows] };
    cpu.prepare(QuantMatrix::from_blocks(parts).expect("canonical")).expect("valid")
}

fn layers(cpu: &Cpu) -> Vec<Layer> {
    (0..LAYERS)
        .map(|_| Layer {
            qkv: [HIDDEN, KV, KV].map(|rows| matrix(cpu, rows, HIDDEN)),
            output: matrix(cpu, HIDDEN, HIDDEN),
            gate_up: [FEED_FORWARD; 2].map(|rows| matrix(cpu, rows, HIDDEN)),
            down: matrix(cpu, HIDDEN, FEED_FORWARD),
        })
        .collect()
}

fn bytes(layers: &[Layer]) -> u64 {
    let of = |m: &Matrix| m.memory_bytes();
    let one = |l: &Layer| {
        l.qkv.iter().map(of).sum::<usize>()
            + l.gate_up.iter().map(of).sum::<usize>()
            + of(&l.output)
            + of(&l.down)
    };
    layers.iter().map(one).sum::<usize>() as u64
}

/// The linear layers of one pass of `tokens` tokens.
fn pass(cpu: &Cpu, layers: &[Layer], x: &[f32], out: &mut [Vec<f32>; 3], tokens: usize) {
    let (narrow, wide) = (&x[..tokens * HIDDEN], &x[..tokens * FEED_FORWARD]);
    let [a, b, c] = out;
    for layer in layers {
        let [q, k, v] = &layer.qkv;
        let mut outs = [&mut a[..tokens * HIDDEN], &mut b[..tokens * KV], &mut c[..tokens * KV]];
        cpu.linear(&[q, k, v], narrow, tokens, &mut outs).expect("valid");
        cpu.linear(&[&layer.output], narrow, tokens, &mut [&mut a[..tokens * HIDDEN]]).expect("valid");
        let [gate, up] = &layer.gate_up;
        let mut outs = [&mut a[..tokens * FEED_FORWARD], &mut b[..tokens * FEED_FORWARD]];
        cpu.linear(&[gate, up], narrow, tokens, &mut outs).expect("valid");
        cpu.linear(&[&layer.down], wide, tokens, &mut [&mut a[..tokens * HIDDEN]]).expect("valid");
    }
}

/// Reads a buffer as the kernels read weights: each thread in several streams, since one does not use the bandwidth.
fn read_bandwidth(c: &mut Criterion) {
    const STREAMS: usize = 8;
    let buffer = vec![1u64; 48 << 20];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads()).build().expect("threads");
    let mut group = c.benchmark_group("read_bandwidth");
    group.throughput(Throughput::Bytes(buffer.len() as u64 * 8)).sample_size(10);
    let sum = |part: &[u64]| {
        let streams: Vec<&[u64]> = part.chunks_exact(part.len() / STREAMS).collect();
        let mut sums = [[0u64; 8]; STREAMS];
        for at in (0..streams[0].len()).step_by(8) {
            for (sum, stream) in sums.iter_mut().zip(&streams) {
                sum.iter_mut().zip(&stream[at..at + 8]).for_each(|(sum, v)| *sum = sum.wrapping_add(*v));
            }
        }
        sums.iter().flatten().sum::<u64>()
    };
    for streams in ["one_stream", "eight_streams"] {
        group.bench_function(BenchmarkId::new(streams, format!("{}_threads", threads())), |b| {
            b.iter(|| {
                let all = || match streams {
                    "one_stream" => {
                        buffer.par_chunks(1 << 16).map(|part| part.iter().sum::<u64>()).sum::<u64>()
                    }
                    _ => buffer.par_chunks(4 << 20).map(sum).sum::<u64>(),
                };
                black_box(pool.install(all))
            });
        });
    }
    group.finish();
}

/// Products a second of all threads, if nothing else had to be done.
#[cfg(target_arch = "x86_64")]
fn product_limit(c: &mut Criterion) {
    const THOUSANDS: u64 = 2_000;
    let Some(products) = limit::best() else { return };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads()).build().expect("threads");
    let mut group = c.benchmark_group("product_limit");
    group.throughput(Throughput::Elements(products.in_a_thousand * THOUSANDS * threads() as u64));
    group
        .sample_size(10)
        .bench_function(BenchmarkId::new(products.name, format!("{}_threads", threads())), |b| {
            b.iter(|| pool.broadcast(|_| (products.run)(THOUSANDS)))
        });
    group.finish();
}

/// Not measured on other processors.
#[cfg(not(target_arch = "x86_64"))]
fn product_limit(_: &mut Criterion) {}

fn linear(c: &mut Criterion) {
    let cpu = backend();
    let layers = layers(&cpu);
    let x: Vec<f32> = (0..256 * FEED_FORWARD).map(|i| (i % 1013) as f32 * 0.01 - 5.0).collect();
    let mut out = [(); 3].map(|()| vec![0f32; 256 * FEED_FORWARD]);
    let mut group = c.benchmark_group(format!("linear/{}", cpu.info()));
    group.sample_size(10).measurement_time(Duration::from_secs(4));
    group.throughput(Throughput::Bytes(bytes(&layers)));
    group.bench_function("decode", |b| {
        b.iter(|| cpu.enter(&mut || pass(&cpu, &layers, &x, &mut out, 1)));
    });
    for tokens in [2, 4, 8, 16, 64, 256] {
        group.throughput(Throughput::Elements(tokens as u64));
        group.bench_function(BenchmarkId::new("tokens", tokens), |b| {
            b.iter(|| cpu.enter(&mut || pass(&cpu, &layers, &x, &mut out, tokens)));
        });
    }
    group.finish();
}

fn attention(c: &mut Criterion) {
    let cpu = backend();
    let (heads, d, keys) = (14, 64, 1024);
    let shape = KvShape { heads: 2, head_dim: d, capacity: keys };
    let value = |i: usize| (i * 7919 % 2003) as f32 * 1e-3 - 1.0;
    let rows: Vec<f32> = (0..keys * 2 * d).map(value).collect();
    let q: Vec<f32> = (0..64 * heads * d).map(value).collect();
    let mut kv = cpu.kv_layer(shape).expect("valid");
    cpu.kv_append(&mut kv, &rows, &rows).expect("room");
    let mut out = vec![0f32; q.len()];
    let mut group = c.benchmark_group(format!("attention_1024_keys/{}", cpu.info()));
    group.sample_size(20);
    for tokens in [1, 64] {
        let len = tokens * heads * d;
        group.throughput(Throughput::Elements(tokens as u64));
        group.bench_function(BenchmarkId::new("queries", tokens), |b| {
            b.iter(|| {
                cpu.attention(&kv, Mask::Causal, heads, keys - tokens, &q[..len], &mut out[..len])
                    .expect("valid");
            });
        });
    }
    group.finish();
}

fn glue(c: &mut Criterion) {
    let cpu = backend();
    let values: Vec<f32> = (0..64 * FEED_FORWARD).map(|i| (i % 1013) as f32 * 0.01 - 5.0).collect();
    let mut out = values.clone();
    let mut group = c.benchmark_group(format!("glue/{}", cpu.info()));
    group.throughput(Throughput::Elements(values.len() as u64)).sample_size(20);
    group.bench_function("silu_mul", |b| {
        b.iter(|| {
            out.copy_from_slice(&values);
            cpu.silu_mul(&mut out, &values).expect("finite");
        });
    });
    group.bench_function("rms_norm", |b| {
        b.iter(|| cpu.rms_norm(&values[..FEED_FORWARD], 1e-6, &values, &mut out).expect("valid"));
    });
    group.finish();
}

criterion_group!(benches, read_bandwidth, product_limit, linear, attention, glue);
criterion_main!(benches);
