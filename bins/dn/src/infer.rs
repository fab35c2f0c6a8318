//! `dn infer`: a model on this machine.

mod logits;

use std::io::Read;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use dn_compute::{
    ChatMessage, Engine, EngineOptions, GenerateRequest, Generation, MemoryPlan, ModelFront, Role, Timings,
    Workload,
};
use dn_core::objects::sampling::{MAX_GRAMMAR_BYTES, MAX_STOP_BYTES};
use dn_core::objects::{Decoding, FinishReason, Grammar, Sampling};
use dn_core::{Hash32, ModelId};
use serde::Serialize;

use crate::error::CliError;
use crate::home::{self, Config};
use crate::model::ModelArgs;
use crate::out;
use logits::LogitsFile;

/// What `dn infer` takes.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("input").required(true).args(["prompt", "chat", "tokens"]))]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Plain text to continue; `-` reads it from standard input.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// A question, put through the model's chat template; `-` reads it from standard input.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    chat: Option<String>,
    /// Raw token ids, such as `1,2,3`.
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    tokens: Option<Vec<u32>>,
    /// System message for `--chat`.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with_all = ["prompt", "tokens"])]
    system: Option<String>,
    /// Most tokens to generate; 0 only reads the prompt.
    #[arg(long, default_value_t = 128, value_name = "N")]
    max_tokens: u32,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Text that ends the answer; may be given several times.
    #[arg(long, value_name = "TEXT", value_parser = stop_text)]
    stop: Vec<String>,
    /// Write the f32 logits of every computed position, prompt and output, to a safetensors file: tensor
    /// `logits` of shape [positions, vocabulary]. Row i is what token i + 1 was chosen from.
    #[arg(long, value_name = "FILE")]
    logits_out: Option<PathBuf>,
    /// Only say what the model and this request would take of the host's memory and the device's, and which layers go where;
    /// no weight is read.
    #[arg(long)]
    plan: bool,
    /// Print one JSON object instead of the text.
    #[arg(long)]
    json: bool,
}

fn stop_text(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("a text expected: every answer has an empty one from its beginning".to_owned()),
        1..=MAX_STOP_BYTES => Ok(text.to_owned()),
        found => Err(format!("{found} bytes, at most {MAX_STOP_BYTES} allowed")),
    }
}

/// Sampler settings as people write them.
#[derive(Debug, clap::Args)]
pub(crate) struct SamplingArgs {
    /// 0 always takes the best token; at most 2.
    #[arg(long, default_value_t = 0.0, value_name = "T", allow_negative_numbers = true)]
    temperature: f64,
    /// Smallest set of best tokens with at least this probability, over 0 to 1.
    #[arg(long, default_value_t = 1.0, value_name = "P", allow_negative_numbers = true)]
    top_p: f64,
    /// Only the K best tokens; 0 is no limit.
    #[arg(long, default_value_t = 0, value_name = "K")]
    top_k: u32,
    /// Only tokens with at least this fraction of the best one's probability.
    #[arg(long, default_value_t = 0.0, value_name = "P", allow_negative_numbers = true)]
    min_p: f64,
    /// Makes tokens of prompt and answer less likely (over 1) or more (under 1).
    #[arg(long, default_value_t = 1.0, value_name = "R", allow_negative_numbers = true)]
    repetition_penalty: f64,
    /// Taken from the logit of tokens that were generated; -2 to 2.
    #[arg(long, default_value_t = 0.0, value_name = "X", allow_negative_numbers = true)]
    presence_penalty: f64,
    /// Taken from the logit of a token each time that it was generated; -2 to 2.
    #[arg(long, default_value_t = 0.0, value_name = "X", allow_negative_numbers = true)]
    frequency_penalty: f64,
    /// The answer becomes JSON of the schema in this file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["regex", "grammar"])]
    json_schema: Option<PathBuf>,
    /// The answer becomes a text that this expression matches from beginning to end.
    #[arg(long, value_name = "REGEX", conflicts_with = "grammar")]
    regex: Option<String>,
    /// The answer becomes a text of the Lark grammar in this file.
    #[arg(long, value_name = "FILE")]
    grammar: Option<PathBuf>,
    /// Key of the randomness: the same seed gives the same answer on every machine.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
}

impl SamplingArgs {
    /// The canonical settings, in millionths.
    pub(crate) fn canonical(&self) -> Result<Sampling, CliError> {
        if !(0.0..=2.0).contains(&self.temperature) {
            return Err(CliError::argument("--temperature", format!("{} is not in 0..=2", self.temperature)));
        }
        let top_p_micro = micro(self.top_p);
        if !(0.0..=1.0).contains(&self.top_p) || top_p_micro == 0 {
            return Err(CliError::argument("--top-p", format!("{} is not over 0 and up to 1", self.top_p)));
        }
        Ok(Sampling {
            temperature_micro: micro(self.temperature),
            top_k: self.top_k,
            top_p_micro,
            seed: self.seed,
            ..self.penalties()?
        })
    }

    fn penalties(&self) -> Result<Sampling, CliError> {
        let range =
            |name: &'static str, value: f64, least: f64, most: f64| match (least..=most).contains(&value) {
                true => Ok(value),
                false => Err(CliError::argument(name, format!("{value} is not in {least}..={most}"))),
            };
        let signed = |value: f64| (value * 1e6).round() as i32;
        Ok(Sampling {
            min_p_micro: micro(range("--min-p", self.min_p, 0.0, 1.0)?),
            repetition_micro: micro(range("--repetition-penalty", self.repetition_penalty, 0.01, 100.0)?),
            presence_micro: signed(range("--presence-penalty", self.presence_penalty, -2.0, 2.0)?),
            frequency_micro: signed(range("--frequency-penalty", self.frequency_penalty, -2.0, 2.0)?),
            ..Sampling::GREEDY
        })
    }

    /// The grammar, if one is given.
    pub(crate) fn decoding(&self) -> Result<Decoding, CliError> {
        let grammar = if let Some(path) = &self.json_schema {
            let schema = home::read_text(path, MAX_GRAMMAR_BYTES)?;
            Grammar::JsonSchema { schema }
        } else if let Some(path) = &self.grammar {
            let grammar = home::read_text(path, MAX_GRAMMAR_BYTES)?;
            Grammar::Lark { grammar }
        } else if let Some(pattern) = &self.regex {
            Grammar::Regex { pattern: pattern.clone() }
        } else {
            Grammar::None
        };
        Ok(Decoding { grammar, ..Decoding::default() })
    }
}

/// The nearest millionth of a number that was checked to be small and not negative.
fn micro(value: f64) -> u32 {
    (value * 1e6).round() as u32
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    model_id: ModelId,
    model: &'a str,
    prompt_tokens: &'a [u32],
    tokens: &'a [u32],
    text: &'a str,
    finish_reason: FinishReason,
    trace_root: Hash32,
    sampling: Sampling,
    backend: &'static str,
    isa: &'static str,
    threads: usize,
    memory: MemoryPlan,
    timings: TimingsReport,
}

/// Timings with their units in the keys.
#[derive(Debug, Serialize)]
pub(crate) struct TimingsReport {
    load_ms: f64,
    prefill_tokens: u32,
    prefill_ms: f64,
    prefill_tok_per_s: f64,
    decode_tokens: u32,
    decode_ms: f64,
    decode_tok_per_s: f64,
}

impl TimingsReport {
    pub(crate) fn new(load: std::time::Duration, timings: &Timings) -> Self {
        Self {
            load_ms: millis(load),
            prefill_tokens: timings.prefill_tokens,
            prefill_ms: millis(timings.prefill),
            prefill_tok_per_s: per_second(timings.prefill_tokens, timings.prefill),
            decode_tokens: timings.decode_tokens,
            decode_ms: millis(timings.decode),
            decode_tok_per_s: per_second(timings.decode_tokens, timings.decode),
        }
    }
}

/// Milliseconds, to the microsecond.
pub(crate) fn millis(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// A rate with three decimals; 0 where nothing was done.
pub(crate) fn per_second(count: u32, time: std::time::Duration) -> f64 {
    if count == 0 || time.is_zero() {
        return 0.0;
    }
    (f64::from(count) / time.as_secs_f64() * 1e3).round() / 1e3
}

/// Runs the command.
pub(crate) fn run(args: Args, config: &Config) -> Result<ExitCode, CliError> {
    let sampling = args.sampling.canonical()?;
    let decoding = args.sampling.decoding()?;
    let text = args.prompt.as_deref().or(args.chat.as_deref()).map(text_or_stdin).transpose()?;
    if args.plan {
        return plan(&args, text.as_deref().unwrap_or_default(), config);
    }
    // A file that cannot be written is told before the work, not after it; so is whatever else can be known.
    let logits_out = args.logits_out.as_deref().map(LogitsFile::create).transpose()?;
    let request = |prompt, max_tokens| GenerateRequest {
        prompt,
        already: &[],
        sampling,
        decoding: &decoding,
        max_tokens,
        stop: &args.stop,
    };
    let prompt: OnceLock<Vec<u32>> = OnceLock::new();
    let waiting = out::spinner("loading the model");
    let loaded = args.model.load_checked(config, &|front| {
        let tokens = prompt_tokens(&args, text.as_deref().unwrap_or_default(), front)?;
        let tokens = prompt.get_or_init(|| tokens);
        Ok(request(tokens, args.max_tokens.max(1)).check(front)?)
    });
    waiting.finish_and_clear();
    let loaded = loaded?;
    let prompt = prompt.get().map(Vec::as_slice).unwrap_or_default();
    let engine = &loaded.engine;
    let request = request(prompt, args.max_tokens);
    let (generation, text) = generate(engine, &request, !args.json)?;
    let info = engine.info();
    let positions = (prompt.len() as u32).saturating_add(args.max_tokens);
    let work = Workload { context: positions, ..loaded.options.work };
    let memory = engine.memory(&EngineOptions { work, ..loaded.options });
    let timings = TimingsReport::new(loaded.load, &generation.timings);
    if !args.json {
        out::line("");
    }
    if let Some(file) = logits_out {
        file.write(engine, prompt, &generation.tokens)?;
    }
    if args.json {
        out::json(&Report {
            model_id: engine.model().id(),
            model: &loaded.name,
            prompt_tokens: prompt,
            tokens: &generation.tokens,
            text: &text,
            finish_reason: generation.finish,
            trace_root: generation.trace_root,
            sampling,
            backend: info.name,
            isa: info.isa,
            threads: info.threads,
            memory,
            timings,
        });
    } else {
        out::note(format_args!(
            "\n{} tokens · prefill {:.0} tok/s · decode {:.1} tok/s · {info}\n\
             {}\nmodel {}\ntrace {}",
            generation.tokens.len(),
            timings.prefill_tok_per_s,
            timings.decode_tok_per_s,
            memory.sentences().join("\n"),
            engine.model().id(),
            generation.trace_root,
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what would be taken where.
fn plan(args: &Args, text: &str, config: &Config) -> Result<ExitCode, CliError> {
    let (_, front, mut options) = args.model.front(config)?;
    let prompt = prompt_tokens(args, text, &front)?;
    if args.model.compute.context.is_none() {
        options.work.context = (prompt.len() as u32).saturating_add(args.max_tokens);
    }
    let plan = options.plan(&front)?;
    if args.json {
        out::json(&plan);
    } else {
        plan.sentences().iter().for_each(out::line);
    }
    Ok(ExitCode::SUCCESS)
}

/// The prompt that the arguments and their text make for a model.
fn prompt_tokens(args: &Args, text: &str, front: &ModelFront) -> Result<Vec<u32>, CliError> {
    if let Some(tokens) = &args.tokens {
        return Ok(tokens.clone());
    }
    if args.prompt.is_some() {
        return Ok(front.text_prompt(text)?);
    }
    let system = args.system.iter().map(|text| ChatMessage { role: Role::System, content: text.clone() });
    let user = ChatMessage { role: Role::User, content: text.to_owned() };
    let messages: Vec<ChatMessage> = system.chain([user]).collect();
    Ok(front.chat_prompt(&messages)?)
}

fn text_or_stdin(text: &str) -> Result<String, CliError> {
    if text != "-" {
        return Ok(text.to_owned());
    }
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).map_err(CliError::file("read", "standard input"))?;
    Ok(input)
}

/// Generates; shows the text as it comes if asked to.
fn generate(
    engine: &Engine,
    request: &GenerateRequest<'_>,
    show: bool,
) -> Result<(Generation, String), CliError> {
    let mut stream = engine.model().front().text_stream(request.stop);
    let mut text = String::new();
    let mut add = |piece: String| {
        if show && !piece.is_empty() {
            out::text(&piece);
        }
        text.push_str(&piece);
    };
    let generation = if request.max_tokens == 0 {
        prompt_only(engine, request)?
    } else {
        engine.generate(request, &mut |token| {
            add(stream.push(token));
            ControlFlow::Continue(())
        })?
    };
    add(stream.finish());
    Ok((generation, text))
}

/// Puts the prompt through the model and generates nothing: an answer that was cancelled before its first token.
fn prompt_only(engine: &Engine, request: &GenerateRequest<'_>) -> Result<Generation, CliError> {
    let one = GenerateRequest { max_tokens: 1, ..*request };
    let replay = engine.replay(&one, &[], FinishReason::Cancelled)?;
    Ok(Generation {
        tokens: Vec::new(),
        finish: FinishReason::Length,
        logprobs: Vec::new(),
        trace_root: replay.trace_root,
        trace: replay.trace,
        timings: replay.timings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(temperature: f64, top_p: f64) -> SamplingArgs {
        SamplingArgs {
            temperature,
            top_p,
            top_k: 3,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            json_schema: None,
            regex: None,
            grammar: None,
            seed: 9,
        }
    }

    #[test]
    fn sampling_becomes_millionths_or_is_refused() {
        let sampling = args(0.7, 0.95).canonical().unwrap();
        assert_eq!((sampling.temperature_micro, sampling.top_p_micro), (700_000, 950_000));
        assert_eq!((sampling.top_k, sampling.seed), (3, 9));
        for (temperature, top_p) in [(-0.1, 1.0), (2.1, 1.0), (f64::NAN, 1.0), (0.0, 0.0), (0.0, 1.1)] {
            assert!(args(temperature, top_p).canonical().is_err(), "{temperature} {top_p}");
        }
    }
}
