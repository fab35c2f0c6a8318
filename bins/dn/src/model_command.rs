//! `dn model`: convert, inspect and verify model packages.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use dn_compute::Model;
use dn_compute::model::package::{ConvertSource, convert, partial_path};
use dn_compute::spec::{BlockLength, Blocks};
use serde_json::json;

use crate::error::CliError;
use crate::home::Config;
use crate::model;
use crate::out;
use crate::out::{Align, Table};
use crate::unfinished::Unfinished;

/// Exit code of `dn model verify` for a model that promises nothing and is compared with nothing.
const NOTHING_TO_COMPARE: u8 = 3;

/// What to do with a model.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Write a model as a package: one file with its manifest, tokenizer, chat template and exact weights.
    Convert(Convert),
    /// Say what a model is: identity, sizes, tokens, tensors.
    Inspect(Inspect),
    /// Read every weight of a model and compare it with what its package promises.
    ///
    /// A package promises a hash for each tile of its weights; a GGUF file or safetensors promise nothing, so they can only be
    /// compared with an identity from elsewhere (--id). Exit code: 0 where all is as promised, 1 where something is not or the
    /// model cannot be read, 2 where it is another model than --id says, 3 where there is nothing to compare with.
    #[command(verbatim_doc_comment)]
    Verify(Verify),
}

/// Arguments of `dn model convert`.
#[derive(Debug, clap::Args)]
pub(crate) struct Convert {
    /// GGUF file, package, directory of safetensors, or `org/name[@revision][:file]` on the Hugging Face hub; without it the
    /// small demonstration model inside this program.
    source: Option<PathBuf>,
    /// The package to write, or a directory for it.
    #[arg(short, long, value_name = "FILE|DIR")]
    output: PathBuf,
    /// Weights that share a mantissa: 32, 128 or row. Without it as the source has them, floats in blocks of 32.
    #[arg(long, value_name = "BLOCK", value_parser = block)]
    block: Option<BlockLength>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `dn model inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// As for `convert`.
    source: Option<PathBuf>,
    /// List the tensors too.
    #[arg(long)]
    tensors: bool,
    #[command(flatten)]
    compute: model::ComputeArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `dn model verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// As for `convert`.
    source: Option<PathBuf>,
    /// The identity that the model must have.
    #[arg(long, value_name = "MODEL_ID")]
    id: Option<dn_core::ModelId>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn block(text: &str) -> Result<BlockLength, String> {
    match text.parse() {
        Ok(BlockLength::B16) | Err(_) => Err("32, 128 or row expected".to_owned()),
        Ok(length) => Ok(length),
    }
}

/// Runs a command.
pub(crate) fn run(command: Command, config: &Config) -> Result<ExitCode, CliError> {
    match command {
        Command::Convert(args) => convert_model(args, config),
        Command::Inspect(args) => inspect(&args, config),
        Command::Verify(args) => verify(&args, config),
    }
}

fn convert_model(args: Convert, config: &Config) -> Result<ExitCode, CliError> {
    let source = args.source.as_ref().or(config.model.as_ref());
    let (name, path) = model::find(source)?;
    let target = target(&args.output, &name);
    if path.as_ref().is_some_and(|path| same_file(path, &target)) {
        return Err(CliError::argument(
            "--output",
            "a file other than the source expected: it would be overwritten",
        ));
    }
    let from = match &path {
        Some(path) => ConvertSource::Path(path),
        None => ConvertSource::Bytes(dn_compute::embedded::tiny_rust().into()),
    };
    let bar = out::spinner("converting");
    let started = Instant::now();
    let unfinished = Unfinished::new(partial_path(&target));
    let written = convert(from, args.block, &target);
    drop(unfinished);
    bar.finish_and_clear();
    let written = written.map_err(|source| CliError::Model { name, source })?;
    let seconds = started.elapsed().as_secs_f64();
    let bytes = std::fs::metadata(&target).map_err(CliError::file("read", &target))?.len();
    if args.json {
        out::json(&json!({
            "model_id": written.id(), "path": target, "package_bytes": bytes, "convert_s": seconds,
        }));
    } else {
        out::line(format_args!("{}  {} ({bytes} bytes)", written.id(), target.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether two paths lead to one file that exists.
fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The file to write: in a directory, named after the source.
fn target(output: &Path, source: &str) -> PathBuf {
    if !output.is_dir() {
        return output.to_owned();
    }
    let name = source.rsplit(['/', ':']).find(|part| !part.is_empty()).unwrap_or("model");
    let name = name.strip_suffix(".gguf").or(name.strip_suffix(".safetensors")).unwrap_or(name);
    output.join(format!("{}.dnm", name.strip_suffix(".dnm").unwrap_or(name)))
}

fn form(blocks: Option<Blocks>) -> String {
    match blocks {
        None => "vector".to_owned(),
        Some(Blocks { length, minima: false }) => format!("blocks of {length}"),
        Some(Blocks { length, minima: true }) => format!("blocks of {length} with minima"),
    }
}

fn inspect(args: &Inspect, config: &Config) -> Result<ExitCode, CliError> {
    let (name, model) = model::load(args.source.as_ref().or(config.model.as_ref()))?;
    let memory = args.compute.options(config)?.plan(model.front())?;
    if args.json {
        let tensors: Vec<_> = model
            .tensors()
            .map(|(name, rows, cols, blocks)| json!({"name": name, "rows": rows, "cols": cols, "form": form(blocks)}))
            .collect();
        let tensors = if args.tensors { json!(tensors) } else { json!(tensors.len()) };
        out::json(&json!({
            "name": model.front().name(), "source": name, "model_id": model.id(), "manifest": model.manifest(),
            "weight_bytes": model.weight_bytes(), "kv_bytes_per_position": model.kv_bytes_per_position(),
            "tiles": model.tiles().count(), "tensors": tensors, "memory": memory,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    let (front, manifest) = (model.front(), model.manifest());
    let h = &manifest.hyperparameters;
    let mut table = Table::new(&[("", Align::Left), ("", Align::Left)]);
    let mut row = |key: &str, value: String| {
        table.row([key.to_owned(), value]);
    };
    row("model", format!("{} ({name})", front.name().unwrap_or("without a name")));
    row("identity", model.id().to_string());
    row("architecture", manifest.architecture.clone());
    row("layers", h.layers.to_string());
    row("width", format!("{}, feed-forward {}", h.width, h.ffn_width));
    row("heads", format!("{} of {} elements, {} for keys and values", h.heads, h.head_size, h.kv_heads));
    row("vocabulary", h.vocabulary.to_string());
    row(
        "context",
        h.window.map_or_else(|| h.context.to_string(), |w| format!("{}, of which {w} are seen", h.context)),
    );
    row("tensors root", manifest.tensors_root.to_string());
    row("tiles", model.tiles().count().to_string());
    row("weights", format!("{} bytes", model.weight_bytes()));
    for line in memory.sentences() {
        let (place, rest) = line.split_once(": ").unwrap_or(("memory", &line));
        row(&format!("memory: {place}"), rest.to_owned());
    }
    row("stop tokens", format!("{:?}", manifest.stop_tokens));
    row("chat template", if front.chat_template().is_some() { "yes" } else { "none" }.to_owned());
    out::text(table.render_body());
    if args.tensors {
        list(&model);
    }
    Ok(ExitCode::SUCCESS)
}

fn list(model: &Model) {
    let mut table = Table::new(&[
        ("tensor", Align::Left),
        ("rows", Align::Right),
        ("columns", Align::Right),
        ("form", Align::Left),
    ]);
    for (name, rows, cols, blocks) in model.tensors() {
        let rows = rows.map_or_else(String::new, |n| n.to_string());
        table.row([name.to_owned(), rows, cols.to_string(), form(blocks)]);
    }
    out::text(format_args!("\n{}", table.render()));
}

fn verify(args: &Verify, config: &Config) -> Result<ExitCode, CliError> {
    let (name, model) = model::load(args.source.as_ref().or(config.model.as_ref()))?;
    let (id, tiles) = (model.id(), model.tiles().count());
    let expected = args.id.filter(|expected| *expected != id);
    // A package that is read at all has kept its promises.
    let compared = model.has_promise() || args.id.is_some();
    if args.json {
        let verified = compared.then_some(expected.is_none());
        out::json(&json!({"model_id": id, "expected": args.id, "tiles": tiles, "verified": verified}));
    } else if !compared {
        out::line(format_args!(
            "{id}  {name}: {tiles} tiles read, and nothing to compare them with\n\n\
             Only packages hold the hashes of their weights. --id MODEL_ID compares the identity with one that you know,\n\
             such as the ledger's (`dn query models`); `dn model convert` makes a package, which shows later changes."
        ));
    } else if expected.is_none() {
        out::line(format_args!("{id}  {name}: all {tiles} tiles are right"));
    }
    match expected {
        None if !compared => Ok(ExitCode::from(NOTHING_TO_COMPARE)),
        None => Ok(ExitCode::SUCCESS),
        Some(_) if args.json => Ok(ExitCode::FAILURE),
        Some(expected) => Err(CliError::argument("--id", format!("{name} is {id}, not {expected}"))),
    }
}
