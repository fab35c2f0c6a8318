//! `dn embed`: texts to embeddings on this machine.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use dn_compute::encoder::{EmbedError, Embedding, Encoder, EncoderError, EncoderModel};
use dn_core::{Hash32, ModelId};
use serde::Serialize;

use crate::error::CliError;
use crate::home::Config;
use crate::infer::{millis, per_second};
use crate::model::ComputeArgs;
use crate::out;

/// What `dn embed` takes.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("input").required(true).args(["texts", "tokens"]),
    override_usage = "dn embed [OPTIONS] <MODEL> <TEXT>...\n       dn embed [OPTIONS] <MODEL> --tokens <IDS>"
)]
pub(crate) struct Args {
    /// Directory with config.json, tokenizer.json and model.safetensors, or GGUF file, of the BERT family.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Texts, each of which gets an embedding; `-` stands for the lines of standard input.
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// Raw token ids of one text, such as `101,7592,102`.
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    tokens: Option<Vec<u32>>,
    /// Leave out the end of a text that is too long for the model, instead of refusing it.
    #[arg(long)]
    cut: bool,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    model_id: ModelId,
    model: &'a str,
    dimensions: usize,
    embeddings: Vec<EmbeddingReport<'a>>,
    backend: &'static str,
    isa: &'static str,
    threads: usize,
    load_ms: f64,
    embed_ms: f64,
    embed_tok_per_s: f64,
}

#[derive(Debug, Serialize)]
struct EmbeddingReport<'a> {
    tokens: &'a [u32],
    /// The canonical integers, in units of `2^-24`.
    integers: &'a [i32],
    /// The same as numbers.
    embedding: Vec<f32>,
    trace_root: Hash32,
}

/// Runs the command.
pub(crate) fn run(args: Args, config: &Config) -> Result<ExitCode, CliError> {
    let started = Instant::now();
    let waiting = out::spinner("loading the encoder");
    let name = args.model.display().to_string();
    let encoder = load(&args, config)?;
    waiting.finish_and_clear();
    let load = started.elapsed();
    let texts = texts(&args)?;
    let tokens = match &args.tokens {
        Some(tokens) => vec![tokens.clone()],
        None => texts.iter().map(|text| tokens(&encoder, text, args.cut)).collect::<Result<_, _>>()?,
    };
    let started = Instant::now();
    let embeddings = encoder.embed(&tokens.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
    let (took, count) = (started.elapsed(), tokens.iter().map(Vec::len).sum::<usize>());
    let (info, rate) = (encoder.info(), per_second(u32::try_from(count).unwrap_or(u32::MAX), took));
    if args.json {
        out::json(&Report {
            model_id: encoder.front().id(),
            model: &name,
            dimensions: encoder.dimensions(),
            embeddings: tokens.iter().zip(&embeddings).map(report).collect(),
            backend: info.name,
            isa: info.isa,
            threads: info.threads,
            load_ms: millis(load),
            embed_ms: millis(took),
            embed_tok_per_s: rate,
        });
        return Ok(ExitCode::SUCCESS);
    }
    for (embedding, tokens) in embeddings.iter().zip(&tokens) {
        let numbers: Vec<String> = embedding.to_f32().iter().take(6).map(|v| format!("{v:.5}")).collect();
        let (numbers, root) = (numbers.join(" "), embedding.trace.root());
        out::line(format_args!("{numbers} … · {} tokens · trace {root}", tokens.len()));
    }
    out::note(format_args!("\n{count} tokens · {rate:.0} tok/s · {info}\nmodel {}", encoder.front().id()));
    Ok(ExitCode::SUCCESS)
}

fn load(args: &Args, config: &Config) -> Result<Encoder, CliError> {
    let refuse = |source: EncoderError| match source {
        EncoderError::Read { path, source } => CliError::File { action: "read", path: path.into(), source },
        source => CliError::Encoder { name: args.model.display().to_string(), source: Box::new(source) },
    };
    let model = EncoderModel::load(&args.model).map_err(refuse)?;
    Encoder::new(model, args.compute.options(config)?).map_err(refuse)
}

/// The texts of the command line, with the lines of standard input in the place of `-`.
fn texts(args: &Args) -> Result<Vec<String>, CliError> {
    let mut texts = Vec::new();
    for text in &args.texts {
        if text != "-" {
            texts.push(text.clone());
            continue;
        }
        let mut input = String::new();
        std::io::stdin().read_to_string(&mut input).map_err(CliError::file("read", "standard input"))?;
        texts.extend(input.lines().map(str::to_owned));
    }
    Ok(texts)
}

fn tokens(encoder: &Encoder, text: &str, cut: bool) -> Result<Vec<u32>, CliError> {
    let tokens = if cut { encoder.tokens_cut(text) } else { encoder.tokens(text) };
    tokens.map_err(|error| match error {
        EmbedError::TooLong { tokens, context, .. } => {
            let start: String = text.chars().take(40).collect();
            CliError::Other(format!(
                "the text `{start}…` has {tokens} tokens, the model takes at most {context}; --cut leaves out the rest"
            ))
        }
        other => other.into(),
    })
}

fn report<'a>((tokens, embedding): (&'a Vec<u32>, &'a Embedding)) -> EmbeddingReport<'a> {
    EmbeddingReport {
        tokens,
        integers: &embedding.vector,
        embedding: embedding.to_f32(),
        trace_root: embedding.trace.root(),
    }
}
