//! Attention at the shape of Qwen2-0.5B (14 heads of 64 over 2 key-value heads), beside two ceilings measured in the same run: how
//! fast this machine multiplies 16-bit integers in registers, and how fast it reads memory.
//!
//! A score and a weighted sum take 64 products of two 16-bit integers each, per query head and key. `DN_BENCH_ISA` (auto)
//! and `DN_BENCH_THREADS` (all cores) choose what is timed.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dn_compute::cpu::{Cpu, Isa};
use dn_compute::spec::{Backend, KvLayer, KvShape, Mask};
use rayon::prelude::*;

const HEADS: usize = 14;
const KV_HEADS: usize = 2;
const D: usize = 64;

fn threads() -> usize {
    let all = || std::thread::available_parallelism().map_or(1, usize::from);
    std::env::var("DN_BENCH_THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or_else(all)
}

fn backend() -> Cpu {
    let isa: Isa = std::env::var("DN_BENCH_ISA").ok().map_or(Isa::Auto, |isa| isa.parse().expect("an isa"));
    Cpu::new(isa, threads()).expect("an instruction set of this machine")
}

fn values(len: usize) -> Vec<f32> {
    let mut state = len as u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next() + next() + next()).collect()
}

fn cache(cpu: &Cpu, keys: usize) -> KvLayer {
    let shape = KvShape { heads: KV_HEADS, head_dim: D, capacity: keys };
    let mut kv = cpu.kv_layer(shape).expect("valid");
    cpu.kv_append(&mut kv, &values(keys * KV_HEADS * D), &values(keys * KV_HEADS * D + 1)[1..])
        .expect("room");
    kv
}

/// Multiplications of 16-bit integers, added up in 32 bits, as the compiler vectorises them for this build.
#[inline(never)]
fn products(a: &[i16], b: &[i16]) -> i32 {
    a.iter().zip(b).fold(0i32, |sum, (a, b)| sum.wrapping_add(i32::from(*a) * i32::from(*b)))
}

fn ceilings(c: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads()).build().expect("threads");
    let mut group = c.benchmark_group(format!("ceiling_{}_threads", threads()));
    group.sample_size(10).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(300));
    let (a, b) = (vec![3i16; 4096], vec![5i16; 4096]);
    let rounds = 1024;
    group.throughput(Throughput::Elements((rounds * 4096 * threads()) as u64));
    group.bench_function("products_16_bit_target_baseline", |bench| {
        bench.iter(|| {
            let one =
                |_| (0..rounds).map(|_| products(black_box(&a), black_box(&b))).fold(0, i32::wrapping_add);
            black_box(
                pool.install(|| (0..threads()).into_par_iter().map(one).reduce(|| 0, i32::wrapping_add)),
            )
        });
    });
    let buffer = vec![1u64; 32 << 20];
    group.throughput(Throughput::Bytes(buffer.len() as u64 * 8));
    group.bench_function("read", |bench| {
        bench.iter(|| {
            let sum = || buffer.par_chunks(1 << 16).map(|part| part.iter().sum::<u64>()).sum::<u64>();
            black_box(pool.install(sum))
        });
    });
    group.finish();
}

/// A prompt in chunks of 512, one layer: 24 of them are the model's.
fn prefill(c: &mut Criterion) {
    let cpu = backend();
    let mut group = c.benchmark_group(format!("prefill_one_layer/{}", cpu.info()));
    group.sample_size(10).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(300));
    for tokens in [512, 4096] {
        let kv = cache(&cpu, tokens);
        let q = values(tokens * HEADS * D);
        let mut out = vec![0f32; q.len()];
        // Products of scores and of weighted sums.
        group.throughput(Throughput::Elements((HEADS * tokens * (tokens + 1) / 2 * D * 2) as u64));
        for (name, mask) in [("causal", Mask::Causal), ("window_1024", Mask::Window { positions: 1024 })] {
            group.bench_function(BenchmarkId::new(name, tokens), |b| {
                b.iter(|| cpu.attention(&kv, mask, HEADS, 0, &q, &mut out).expect("valid"));
            });
        }
    }
    group.finish();
}

/// One query of each head, one layer; throughput is bytes of keys and values read.
fn decode(c: &mut Criterion) {
    let cpu = backend();
    let mut group = c.benchmark_group(format!("decode_one_layer/{}", cpu.info()));
    group.sample_size(20).measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(300));
    for keys in [1024, 4096, 8192] {
        let kv = cache(&cpu, keys);
        let q = values(HEADS * D);
        let mut out = vec![0f32; q.len()];
        group.throughput(Throughput::Bytes(kv.memory_bytes() as u64));
        group.bench_function(BenchmarkId::new("keys", keys), |b| {
            b.iter(|| {
                cpu.enter(&mut || {
                    cpu.attention(&kv, Mask::Causal, HEADS, keys - 1, &q, &mut out).expect("valid");
                });
            });
        });
    }
    group.finish();
}

/// Glue at 512 tokens: nanoseconds per element follow from the throughput.
fn glue(c: &mut Criterion) {
    let cpu = backend();
    let (width, wide) = (512 * 896, 512 * 4864);
    let mut group = c.benchmark_group(format!("glue_512_tokens/{}", cpu.info()));
    group.sample_size(20).measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(300));
    let (x, y) = (values(wide), values(wide));
    let mut out = x.clone();
    group.throughput(Throughput::Elements(width as u64));
    group.bench_function("rms_norm", |b| {
        b.iter(|| cpu.rms_norm(&y[..896], 1e-6, &x[..width], &mut out[..width]).expect("valid"));
    });
    group.bench_function("add", |b| b.iter(|| cpu.add(&mut out[..width], &y[..width]).expect("finite")));
    let spec = dn_compute::spec::RopeSpec {
        head_dim: D,
        rotary_dim: D,
        theta: 1e6,
        pairing: dn_compute::spec::Pairing::HalfSplit,
        scaling: dn_compute::spec::RopeScaling::None,
    };
    let table = dn_compute::spec::RopeTable::new(spec, 512).expect("valid");
    let positions: Vec<u32> = (0..512).collect();
    group.bench_function("rope", |b| {
        b.iter(|| cpu.rope(&table, &positions, &mut out[..width]).expect("valid"));
    });
    let shape = KvShape { heads: KV_HEADS, head_dim: D, capacity: 512 };
    group.throughput(Throughput::Elements((512 * KV_HEADS * D * 2) as u64));
    group.bench_function("kv_append", |b| {
        b.iter(|| {
            let mut kv = cpu.kv_layer(shape).expect("valid");
            cpu.kv_append(&mut kv, &x[..512 * KV_HEADS * D], &y[..512 * KV_HEADS * D]).expect("room");
            black_box(kv.len())
        });
    });
    group.throughput(Throughput::Elements(wide as u64));
    group.bench_function("silu_mul", |b| {
        b.iter(|| {
            out.copy_from_slice(&x);
            cpu.silu_mul(&mut out, &y).expect("finite");
        });
    });
    group.finish();
}

criterion_group!(benches, ceilings, prefill, decode, glue);
criterion_main!(benches);
