//! Single figures of `dn bench infer`: long prompts, batches, what the trace costs, memory.

use std::fs;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dn_compute::{BatchEvent, BatchOptions, BatchRequest, Batcher, Engine, GenerateRequest};
use dn_core::objects::{Decoding, FinishReason, Sampling};

use super::prompt;
use crate::error::CliError;
use crate::infer::per_second;

/// Tokens of the prompts of a batch.
const BATCH_PROMPT: u32 = 32;
/// Tokens that each sequence of a batch generates.
const BATCH_OUTPUT: u32 = 33;

fn request<'a>(prompt: &'a [u32], seed: u64, max_tokens: u32) -> GenerateRequest<'a> {
    let sampling = Sampling { temperature_micro: 1_000_000, seed, ..Sampling::GREEDY };
    GenerateRequest { prompt, already: &[], sampling, decoding: Decoding::plain(), max_tokens, stop: &[] }
}

/// A short pass, so that no figure pays for a first use of memory and threads.
pub(super) fn warm_up(engine: &Engine) -> Result<(), CliError> {
    prefill(engine, BATCH_PROMPT, 1).map(drop)
}

/// Tokens per second of one pass over a prompt, the best of some runs; `None` where the context is shorter.
pub(super) fn prefill(engine: &Engine, tokens: u32, runs: u32) -> Result<Option<f64>, CliError> {
    let front = engine.model().front();
    if tokens >= front.context() {
        return Ok(None);
    }
    let prompt = prompt(tokens, front.vocabulary());
    let mut best = Duration::MAX;
    for _ in 0..runs {
        let started = Instant::now();
        engine.replay(&request(&prompt, 0, 1), &[], FinishReason::Cancelled)?;
        best = best.min(started.elapsed());
    }
    Ok(Some(per_second(tokens, best)))
}

/// Tokens per second of all sequences together while each of them decodes, the best of some runs.
pub(super) fn batch(engine: &Arc<Engine>, sequences: usize, runs: u32) -> Result<f64, CliError> {
    let front = engine.model().front();
    let length = BATCH_PROMPT.min(front.context() / 2).max(1);
    let mut best = 0f64;
    for run in 0..runs {
        let slots = NonZeroUsize::new(sequences).unwrap_or(NonZeroUsize::MIN);
        let options = BatchOptions { slots, prefix_cache_bytes: 0, ..BatchOptions::default() };
        let mut batcher = Batcher::new(Arc::clone(engine), options);
        for seed in 0..sequences as u32 {
            let mut prompt = prompt(length, front.vocabulary());
            prompt[0] = (prompt[0] + seed) % front.vocabulary();
            let seed = u64::from(run * 1000 + seed);
            let asked = BatchRequest::new(&request(&prompt, seed, BATCH_OUTPUT));
            batcher.submit(asked).map_err(|error| CliError::Other(error.to_string()))?;
        }
        let (mut tokens, mut time) = (0u32, Duration::ZERO);
        while !batcher.is_idle() {
            let started = Instant::now();
            let events = batcher.step(started);
            let elapsed = started.elapsed();
            let new = events.iter().filter(|e| matches!(e, BatchEvent::Token { .. })).count();
            let ended = events.len() > new;
            // The steps in which everybody decodes, from the second on, to the first end.
            if new == sequences && !ended && tokens > 0 {
                time += elapsed;
            }
            if new == sequences && !ended {
                tokens += new as u32;
            }
        }
        best = best.max(per_second(tokens.saturating_sub(sequences as u32), time));
    }
    Ok(best)
}

/// Time with the trace over time without it, each the best of some runs that take turns.
pub(super) fn trace_ratio(engine: &Engine, tokens: (u32, u32), runs: u32) -> Result<f64, CliError> {
    let prompt = prompt(tokens.0, engine.model().front().vocabulary());
    let request = request(&prompt, 1, tokens.1.max(1));
    let mut go_on = |_: u32| ControlFlow::Continue(());
    let (mut on, mut off) = (Duration::MAX, Duration::MAX);
    for _ in 0..runs {
        let started = Instant::now();
        engine.generate_untraced(&request, &mut go_on)?;
        off = off.min(started.elapsed());
        let started = Instant::now();
        engine.generate(&request, &mut go_on)?;
        on = on.min(started.elapsed());
    }
    Ok(super::ratio(on, off))
}

/// Resident memory of this process in megabytes (10^6): now, and at most so far. `None` where the system does not say.
pub(super) fn resident_mb() -> Option<(f64, f64)> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = |name: &str| {
        let text = status.lines().find_map(|line| line.strip_prefix(name))?;
        text.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()
    };
    Some((mb(line("VmRSS:")? * 1024.0), mb(line("VmHWM:")? * 1024.0)))
}

/// Megabytes with one decimal.
pub(super) fn mb(bytes: f64) -> f64 {
    (bytes / 1e5).round() / 10.0
}
