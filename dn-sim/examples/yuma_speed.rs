//! How long an epoch of Yuma takes: `cargo run --release -p dn-sim --example yuma_speed -- [validators] [miners] [non-zero in a hundred] [threads]`.
//!
//! Every epoch brings other weights; making the matrices is not timed. See `docs/perf/sim-yuma.md`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Instant;

use dn_sim::baseline::yuma::{Matrix, Number, Params, Version, Yuma};
use fixed::types::I32F32;
use rand_core::{RngCore, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

const EPOCHS: usize = 60;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let mut next = |default| arguments.next().unwrap_or(Ok(default));
    let size = Size { validators: next(64)?, miners: next(4096)?, filled: next(100)?, threads: next(1)? };
    for version in [Version::One, Version::Three] {
        time::<f32>("f32", version, size)?;
        time::<f64>("f64", version, size)?;
        time::<I32F32>("i32f32", version, size)?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Size {
    validators: usize,
    miners: usize,
    /// Cells in a hundred that are not zero.
    filled: usize,
    threads: usize,
}

fn time<N: Number>(name: &str, version: Version, size: Size) -> Result<(), Box<dyn Error>> {
    let Size { validators, miners, filled, threads } = size;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
    let mut uniform = || (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    let stake: Vec<f64> = (0..validators).map(|_| uniform()).collect();
    let liquid_alpha = version == Version::Three;
    let params = Params {
        version,
        kappa: 0.5,
        bond_penalty: 0.5,
        liquid_alpha,
        alpha_low: 0.1,
        alpha_high: 0.3,
        ..Params::default()
    };
    let mut yuma = Yuma::<N>::new(params)?.with_threads(threads);
    let mut times_ms = Vec::new();
    for _ in 0..EPOCHS {
        let mut cell = || if uniform() * 100.0 < filled as f64 { uniform() } else { 0.0 };
        let rows: Vec<Vec<f64>> = (0..validators).map(|_| (0..miners).map(|_| cell()).collect()).collect();
        let weights = Matrix::from_rows(&rows)?;
        let start = Instant::now();
        let epoch = yuma.step(&stake, &weights)?;
        times_ms.push(start.elapsed().as_secs_f64() * 1e3);
        std::hint::black_box(epoch);
    }
    times_ms.sort_by(f64::total_cmp);
    println!(
        "{version:?} {name}, {validators} x {miners}, {filled} % filled, {threads} threads: median {:.2} ms, best {:.2} ms",
        times_ms[EPOCHS / 2],
        times_ms[0]
    );
    Ok(())
}
