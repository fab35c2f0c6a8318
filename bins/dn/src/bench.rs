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
use dn_core::objects::{Decoding, Hyperparameters, Sampling};
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
    /// Measure these only.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "FIGURE", conflicts_with = "full")]
    only: Vec<Figure>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Figure {
    /// An answer: reading the prompt, decoding, and resident memory after it.
    Generation,
    /// The answer's replay.
    Replay,
    /// A prompt of 256 tokens.
    #[value(name = "prefill-256")]
    Prefill256,
    /// A prompt of 4,096 tokens.
    #[value(name = "prefill-4096")]
    Prefill4096,
    /// Eight sequences that decode together, and one.
    Batch,
    /// An answer with the trace and without.
    Trace,
    /// Reading memory.
    Read,
}

impl Args {
    fn wants(&self, figure: Figure) -> bool {
        if self.only.is_empty() {
            figure != Figure::Prefill4096 || self.full
        } else {
            // A replay is compared to the answer.
            self.only.contains(&figure) || figure == Figure::Generation && self.only.contains(&Figure::Replay)
        }
    }

    /// The figure, where it is asked for.
    fn when<T>(
        &self,
        figure: Figure,
        measure: impl FnOnce() -> Result<T, CliError>,
    ) -> Result<Option<T>, CliError> {
        self.wants(figure).then(measure).transpose()
    }
}

/// What is asked for; the rest is left out.
#[derive(Debug, Serialize)]
struct Report {
    model_id: ModelId,
    model: String,
    backend: &'static str,
    isa: &'static str,
    threads: usize,
    runs: u32,
    load_ms: f64,
    weights_mb: f64,
    shape: Hyperparameters,
    #[serde(flatten)]
    generation: Option<Generation>,
    #[serde(flatten)]
    replay: Option<Replayed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefill_256_tok_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefill_4096_tok_per_s: Option<f64>,
    #[serde(flatten)]
    batch: Option<Batch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_on_over_off: Option<f64>,
    #[serde(flatten)]
    read: Option<Read>,
}

#[derive(Debug, Serialize)]
struct Generation {
    prompt_tokens: u32,
    output_tokens: u32,
    prefill_tok_per_s: f64,
    decode_tok_per_s: f64,
    generation_ms: f64,
    /// After this request, the first of the process.
    resident_mb: Option<f64>,
    resident_peak_mb: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Replayed {
    replay_ms: f64,
    replay_over_generation: f64,
}

#[derive(Debug, Serialize)]
struct Batch {
    batch_1_tok_per_s: f64,
    batch_8_tok_per_s: f64,
    batch_8_over_1: f64,
}

#[derive(Debug, Serialize)]
struct Read {
    read_gb_per_s: f64,
    read_gb_per_s_one_thread: f64,
}

/// The fastest of several runs, each part for itself.
#[derive(Debug, Clone, Copy)]
struct Best {
    prefill: Duration,
    decode: Duration,
    generation: Duration,
    replay: Option<Duration>,
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
    figures::warm_up(&engine)?;
    let best = args.when(Figure::Generation, || measure(&engine, &args, runs))?;
    let resident = figures::resident_mb();
    let info = engine.info();
    let threads = info.threads.max(1);
    let replayed = best.and_then(|best| {
        let replay = best.replay?;
        Some(Replayed { replay_ms: millis(replay), replay_over_generation: ratio(replay, best.generation) })
    });
    let report = Report {
        model_id: engine.model().id(),
        model: loaded.name,
        backend: info.name,
        isa: info.isa,
        threads,
        runs,
        load_ms: millis(loaded.load),
        weights_mb: figures::mb(engine.weight_bytes() as f64),
        shape: engine.model().front().hyperparameters().clone(),
        generation: best.map(|best| Generation {
            prompt_tokens: best.prefilled,
            output_tokens: best.output,
            prefill_tok_per_s: per_second(best.prefilled, best.prefill),
            decode_tok_per_s: per_second(best.decoded, best.decode),
            generation_ms: millis(best.generation),
            resident_mb: resident.map(|(now, _)| now),
            resident_peak_mb: resident.map(|(_, peak)| peak),
        }),
        replay: replayed,
        prefill_256_tok_per_s: args
            .when(Figure::Prefill256, || figures::prefill(&engine, 256, runs))?
            .flatten(),
        prefill_4096_tok_per_s: args
            .when(Figure::Prefill4096, || figures::prefill(&engine, 4096, 1))?
            .flatten(),
        batch: args.when(Figure::Batch, || batch(&engine, runs))?,
        trace_on_over_off: args.when(Figure::Trace, || {
            figures::trace_ratio(&engine, (args.prompt_tokens, args.output_tokens), runs)
        })?,
        read: args.when(Figure::Read, || {
            Ok(Read { read_gb_per_s: read_bandwidth(threads), read_gb_per_s_one_thread: read_bandwidth(1) })
        })?,
    };
    waiting.finish_and_clear();
    if args.json {
        out::json(&report);
    } else {
        show(&report);
    }
    Ok(ExitCode::SUCCESS)
}

fn batch(engine: &Arc<Engine>, runs: u32) -> Result<Batch, CliError> {
    let (one, eight) = (figures::batch(engine, 1, runs)?, figures::batch(engine, 8, runs)?);
    Ok(Batch {
        batch_1_tok_per_s: one,
        batch_8_tok_per_s: eight,
        batch_8_over_1: if one > 0.0 { (eight / one * 1e2).round() / 1e2 } else { 0.0 },
    })
}

fn ratio(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { (part.as_secs_f64() / whole.as_secs_f64() * 1e4).round() / 1e4 }
}

/// A prompt of ordinary tokens that any vocabulary has; text would tie the figures to a tokenizer.
fn prompt(length: u32, vocabulary: u32) -> Vec<u32> {
    (0..length.max(1)).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) % vocabulary.max(1)).collect()
}

fn measure(engine: &Engine, args: &Args, runs: u32) -> Result<Best, CliError> {
    let front = engine.model().front();
    let prompt = prompt(args.prompt_tokens, front.vocabulary());
    let request = GenerateRequest {
        prompt: &prompt,
        already: &[],
        // Random sampling seldom meets a stop token early, as a greedy walk over a nonsense prompt may.
        decoding: Decoding::plain(),
        sampling: Sampling { temperature_micro: 1_000_000, ..Sampling::GREEDY },
        max_tokens: args.output_tokens.max(1),
        stop: &[],
    };
    let mut best: Option<Best> = None;
    for seed in 0..runs {
        let request =
            GenerateRequest { sampling: Sampling { seed: seed.into(), ..request.sampling }, ..request };
        let started = Instant::now();
        let generation = engine.generate(&request, &mut |_| ControlFlow::Continue(()))?;
        let elapsed = started.elapsed();
        let replay = args.when(Figure::Replay, || {
            let started = Instant::now();
            let replay = engine.replay(&request, &generation.tokens, generation.finish)?;
            let elapsed = started.elapsed();
            if replay.trace_root != generation.trace_root || replay.divergence.is_some() {
                let what = "the replay of an honest answer differs: please report this";
                return Err(CliError::Other(what.into()));
            }
            Ok(elapsed)
        })?;
        let run = Best {
            prefill: generation.timings.prefill,
            decode: generation.timings.decode,
            generation: elapsed,
            replay,
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
    if let Some(of) = &report.generation {
        add("prompt", of.prompt_tokens.to_string(), "tokens");
        add("answer", of.output_tokens.to_string(), "tokens");
        add("prefill", format!("{:.0}", of.prefill_tok_per_s), "tokens/s");
        add("decode", format!("{:.1}", of.decode_tok_per_s), "tokens/s");
        add("generation", format!("{:.1}", of.generation_ms), "ms");
        add("resident", of.resident_mb.map_or("-".to_owned(), |mb| format!("{mb:.1}")), "MB");
    }
    if let Some(of) = &report.replay {
        add("replay", format!("{:.1}", of.replay_ms), "ms");
        add("replay over generation", format!("{:.4}", of.replay_over_generation), "");
    }
    if let Some(rate) = report.prefill_256_tok_per_s {
        add("prefill of 256 tokens", format!("{rate:.0}"), "tokens/s");
    }
    if let Some(rate) = report.prefill_4096_tok_per_s {
        add("prefill of 4096 tokens", format!("{rate:.0}"), "tokens/s");
    }
    if let Some(of) = &report.batch {
        add("batch of 8 decodes", format!("{:.1}", of.batch_8_tok_per_s), "tokens/s");
        add("batch of 8 over one", format!("{:.2}", of.batch_8_over_1), "");
    }
    if let Some(ratio) = report.trace_on_over_off {
        add("trace on over off", format!("{ratio:.4}"), "");
    }
    add("loading", format!("{:.0}", report.load_ms), "ms");
    add("weights", format!("{:.1}", report.weights_mb), "MB");
    if let Some(of) = &report.read {
        add("memory read", format!("{:.2}", of.read_gb_per_s), "GB/s");
        add("memory read, one thread", format!("{:.2}", of.read_gb_per_s_one_thread), "GB/s");
    }
    out::line(format_args!(
        "{} · {} {}, {} threads · best of {}\n",
        report.model, report.backend, report.isa, report.threads, report.runs
    ));
    out::text(table.render());
}
