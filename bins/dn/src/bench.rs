//! `dn bench infer`: how fast this machine computes, and how cheap the proof is.

mod figures;
pub(crate) mod ledger;

use std::hint::black_box;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use dn_compute::{Engine, GenerateRequest};
use dn_core::ModelId;
use dn_core::objects::{Decoding, Sampling};
use serde::Serialize;

use crate::error::CliError;
use crate::home::Config;
use crate::infer::{millis, per_second};
use crate::model::ModelArgs;
use crate::out;

/// What `dn bench infer` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Prompt tokens of each run.
    #[arg(long, default_value_t = 128, value_name = "N")]
    prompt_tokens: u32,
    /// Tokens generated in each run.
    #[arg(long, default_value_t = 128, value_name = "N")]
    output_tokens: u32,
    /// Runs; the fastest counts.
    #[arg(long, default_value_t = 3, value_name = "N")]
    runs: u32,
    /// Also a prompt of 4,096 tokens, which takes a while.
    #[arg(long)]
    full: bool,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    model_id: ModelId,
    model: String,
    backend: &'static str,
    isa: &'static str,
    threads: usize,
    runs: u32,
    prompt_tokens: u32,
    output_tokens: u32,
    load_ms: f64,
    prefill_tok_per_s: f64,
    decode_tok_per_s: f64,
    generation_ms: f64,
    replay_ms: f64,
    replay_over_generation: f64,
    prefill_256_tok_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefill_4096_tok_per_s: Option<f64>,
    batch_1_tok_per_s: f64,
    batch_8_tok_per_s: f64,
    batch_8_over_1: f64,
    trace_on_over_off: f64,
    weights_mb: f64,
    /// After one request of `prompt_tokens` and `output_tokens`.
    resident_mb: Option<f64>,
    resident_peak_mb: Option<f64>,
    read_gb_per_s: f64,
    read_gb_per_s_one_thread: f64,
}

/// The fastest of several runs, each part for itself.
#[derive(Debug, Clone, Copy)]
struct Best {
    prefill: Duration,
    decode: Duration,
    generation: Duration,
    replay: Duration,
    decoded: u32,
    prefilled: u32,
    output: u32,
}

/// Runs the command.
pub(crate) fn run(args: Args, config: &Config) -> Result<ExitCode, CliError> {
    let runs = args.runs.max(1);
    let waiting = out::spinner("measuring");
    let loaded = args.model.load_checked(config, &|front| {
        // Before a prompt of that length is made.
        match (args.prompt_tokens, front.context()) {
            (prompt, context) if prompt < context => Ok(()),
            (prompt, context) => {
                Err(dn_compute::GenerateError::ContextExceeded { prompt: prompt as usize, context }.into())
            }
        }
    })?;
    let engine = Arc::new(loaded.engine);
    let best = measure(&engine, args.prompt_tokens, args.output_tokens, runs)?;
    let resident = figures::resident_mb();
    let (one, eight) = (figures::batch(&engine, 1, runs)?, figures::batch(&engine, 8, runs)?);
    let info = engine.info();
    let threads = info.threads.max(1);
    let report = Report {
        model_id: engine.model().id(),
        model: loaded.name,
        backend: info.name,
        isa: info.isa,
        threads,
        runs,
        prompt_tokens: best.prefilled,
        output_tokens: best.output,
        load_ms: millis(loaded.load),
        prefill_tok_per_s: per_second(best.prefilled, best.prefill),
        decode_tok_per_s: per_second(best.decoded, best.decode),
        generation_ms: millis(best.generation),
        replay_ms: millis(best.replay),
        replay_over_generation: ratio(best.replay, best.generation),
        prefill_256_tok_per_s: figures::prefill(&engine, 256, runs)?,
        prefill_4096_tok_per_s: if args.full { figures::prefill(&engine, 4096, 1)? } else { None },
        batch_1_tok_per_s: one,
        batch_8_tok_per_s: eight,
        batch_8_over_1: if one > 0.0 { (eight / one * 1e2).round() / 1e2 } else { 0.0 },
        trace_on_over_off: figures::trace_ratio(&engine, (args.prompt_tokens, args.output_tokens), runs)?,
        weights_mb: figures::mb(engine.weight_bytes() as f64),
        resident_mb: resident.map(|(now, _)| now),
        resident_peak_mb: resident.map(|(_, peak)| peak),
        read_gb_per_s: read_bandwidth(threads),
        read_gb_per_s_one_thread: read_bandwidth(1),
    };
    waiting.finish_and_clear();
    if args.json {
        out::json(&report);
    } else {
        show(&report);
    }
    Ok(ExitCode::SUCCESS)
}

fn ratio(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { (part.as_secs_f64() / whole.as_secs_f64() * 1e4).round() / 1e4 }
}

/// A prompt of ordinary tokens that any vocabulary has; text would tie the figures to a tokenizer.
fn prompt(length: u32, vocabulary: u32) -> Vec<u32> {
    (0..length.max(1)).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) % vocabulary.max(1)).collect()
}

fn measure(engine: &Engine, prompt_tokens: u32, output_tokens: u32, runs: u32) -> Result<Best, CliError> {
    let front = engine.model().front();
    let prompt = prompt(prompt_tokens, front.vocabulary());
    let request = GenerateRequest {
        prompt: &prompt,
        already: &[],
        // Random sampling seldom meets a stop token early, as a greedy walk over a nonsense prompt may.
        decoding: Decoding::plain(),
        sampling: Sampling { temperature_micro: 1_000_000, ..Sampling::GREEDY },
        max_tokens: output_tokens.max(1),
        stop: &[],
    };
    let mut best: Option<Best> = None;
    for seed in 0..runs {
        let request =
            GenerateRequest { sampling: Sampling { seed: seed.into(), ..request.sampling }, ..request };
        let started = Instant::now();
        let generation = engine.generate(&request, &mut |_| ControlFlow::Continue(()))?;
        let elapsed = started.elapsed();
        let started = Instant::now();
        let replay = engine.replay(&request, &generation.tokens, generation.finish)?;
        let replay_time = started.elapsed();
        if replay.trace_root != generation.trace_root || replay.divergence.is_some() {
            return Err(CliError::Other("the replay of an honest answer differs: please report this".into()));
        }
        let run = Best {
            prefill: generation.timings.prefill,
            decode: generation.timings.decode,
            generation: elapsed,
            replay: replay_time,
            decoded: generation.timings.decode_tokens,
            prefilled: generation.timings.prefill_tokens,
            output: generation.tokens.len() as u32,
        };
        // Runs may end at different lengths: the one with the best rate per generated token counts.
        let better =
            |old: &Best| per_second(run.output, run.generation) > per_second(old.output, old.generation);
        if best.as_ref().is_none_or(better) {
            best = Some(run);
        }
    }
    best.ok_or_else(|| CliError::argument("--runs", "at least 1 expected"))
}

/// Gigabytes (10^9) per second that these threads read from memory, all caches being too small to help.
pub(crate) fn read_bandwidth(threads: usize) -> f64 {
    const BYTES: usize = 256 << 20;
    let data = vec![1u64; BYTES / 8];
    let chunk = data.len().div_ceil(threads.max(1));
    let mut best = Duration::MAX;
    for _ in 0..4 {
        let started = Instant::now();
        thread::scope(|scope| {
            for part in data.chunks(chunk) {
                scope.spawn(move || black_box(sum(part)));
            }
        });
        best = best.min(started.elapsed());
    }
    (BYTES as f64 / 1e9 / best.as_secs_f64() * 1e2).round() / 1e2
}

/// A sum in eight independent lanes, so that memory and not the adder's latency is measured.
fn sum(part: &[u64]) -> u64 {
    let mut lanes = [0u64; 8];
    let chunks = part.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*value);
        }
    }
    lanes.iter().chain(rest).fold(0, |sum, value| sum.wrapping_add(*value))
}

fn show(report: &Report) {
    use out::Align::{Left, Right};
    let mut table = out::Table::new(&[("measured", Left), ("value", Right), ("unit", Left)]);
    let mut add = |name: &str, value: String, unit: &str| {
        table.row([name.to_owned(), value, unit.to_owned()]);
    };
    add("prefill", format!("{:.0}", report.prefill_tok_per_s), "tokens/s");
    add("decode", format!("{:.1}", report.decode_tok_per_s), "tokens/s");
    add("generation", format!("{:.1}", report.generation_ms), "ms");
    add("replay", format!("{:.1}", report.replay_ms), "ms");
    add("replay over generation", format!("{:.4}", report.replay_over_generation), "");
    let or_none = |rate: Option<f64>| rate.map_or("-".to_owned(), |rate| format!("{rate:.0}"));
    add("prefill of 256 tokens", or_none(report.prefill_256_tok_per_s), "tokens/s");
    if report.prefill_4096_tok_per_s.is_some() {
        add("prefill of 4096 tokens", or_none(report.prefill_4096_tok_per_s), "tokens/s");
    }
    add("batch of 8 decodes", format!("{:.1}", report.batch_8_tok_per_s), "tokens/s");
    add("batch of 8 over one", format!("{:.2}", report.batch_8_over_1), "");
    add("trace on over off", format!("{:.4}", report.trace_on_over_off), "");
    add("loading", format!("{:.0}", report.load_ms), "ms");
    add("weights", format!("{:.1}", report.weights_mb), "MB");
    add("resident", report.resident_mb.map_or("-".to_owned(), |mb| format!("{mb:.1}")), "MB");
    add("memory read", format!("{:.2}", report.read_gb_per_s), "GB/s");
    add("memory read, one thread", format!("{:.2}", report.read_gb_per_s_one_thread), "GB/s");
    out::line(format_args!(
        "{} · {} prompt and {} output tokens · {} {}, {} threads · best of {}\n",
        report.model,
        report.prompt_tokens,
        report.output_tokens,
        report.backend,
        report.isa,
        report.threads,
        report.runs
    ));
    out::text(table.render());
}
