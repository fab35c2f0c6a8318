//! `dn verify`: a receipt, checked and replayed, or opened at one value.

mod file;
mod open;

use std::path::PathBuf;
use std::process::ExitCode;

use dn_compute::GenerateRequest;
use dn_core::ReceiptId;
use dn_core::objects::{JobRequest, Receipt};
use dn_sdk::receipt::check_receipt;
use serde::Serialize;

use crate::error::CliError;
use crate::home::{self, Config};
use crate::infer::millis;
use crate::model::{Loaded, ModelArgs};
use crate::out::{self, Align, Table};
use file::ReceiptFile;

/// Longest receipt file: request and output of the longest context, many times over.
const MAX_RECEIPT_BYTES: usize = 64 << 20;

/// What `dn verify` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Receipt with its request and output: as `/v1/receipts/{id}` gives it to whoever paid, or as `dn devnet --demo
    /// --report DIR` writes it.
    receipt: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// Instead of checking every token, show one value of the computation, what it is made of and what binds it to the
    /// receipt, and have the referee of disputes judge it: such as `17:layer0:query:5`. Stages are token, embedding,
    /// layer0 and so on, logits, choice; without an operation the stage's last, without an element the first.
    #[arg(long, value_name = "POSITION:STAGE[:OP[:ELEMENT]]")]
    open: Option<open::PlaceArg>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// One thing that was checked.
#[derive(Debug, Serialize)]
struct Step {
    step: &'static str,
    ok: bool,
    found: String,
}

/// Something that the file says and that cannot be checked here.
#[derive(Debug, Serialize)]
struct Unchecked {
    field: &'static str,
    says: String,
    why: &'static str,
}

#[derive(Debug, Serialize)]
struct Report {
    receipt_id: ReceiptId,
    valid: bool,
    /// First position of prompt and output whose bits differ, where that is what is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    divergence_position: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay_ms: Option<f64>,
    steps: Vec<Step>,
    unchecked: Vec<Unchecked>,
}

/// Runs the command. The exit code is 0 only if everything is as the receipt says.
pub(crate) fn run(args: Args, config: &Config) -> Result<ExitCode, CliError> {
    let text = home::read_text(&args.receipt, MAX_RECEIPT_BYTES)?;
    let file = ReceiptFile::parse(&text)
        .map_err(|error| CliError::Other(format!("{} is not a receipt: {error}", args.receipt.display())))?;
    let (Some(request), Some(output)) = (&file.request, &file.output_tokens) else {
        let reason = "without its request and output a receipt cannot be replayed; fetch it with the API key that paid";
        return Err(CliError::argument("RECEIPT", reason));
    };
    if let Some(place) = args.open {
        if let Some(id) = file.wrong_id() {
            let (path, own) = (args.receipt.display(), file.receipt.body.id());
            return Err(CliError::Other(format!("{path}: it says that it is receipt {id}, and is {own}")));
        }
        check_receipt(&file.receipt, request, output)
            .map_err(|error| CliError::Other(format!("{}: {error}", args.receipt.display())))?;
        let receipt = &file.receipt.body;
        let loaded = load(&args.model, receipt, config)?;
        return open::run(receipt, request, output, &loaded, place, args.json);
    }
    let report = verify(&file, request, output, &args.model, config)?;
    if args.json {
        out::json(&report);
    } else {
        show(&report);
    }
    Ok(if report.valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The receipt's model. With another one nothing about the answer can be said.
fn load(model: &ModelArgs, receipt: &Receipt, config: &Config) -> Result<Loaded, CliError> {
    let loaded = model.load(config)?;
    let id = loaded.engine.model().id();
    if id == receipt.model {
        return Ok(loaded);
    }
    let reason = format!(
        "not checked: {} is {id}; the receipt is for {}, which is to be given",
        loaded.name, receipt.model
    );
    Err(CliError::argument("--model", reason))
}

fn verify(
    file: &ReceiptFile,
    request: &JobRequest,
    output: &[u32],
    model: &ModelArgs,
    config: &Config,
) -> Result<Report, CliError> {
    let receipt = &file.receipt;
    let body = &receipt.body;
    let mut report = Report {
        receipt_id: body.id(),
        valid: false,
        divergence_position: None,
        replay_ms: None,
        steps: Vec::new(),
        unchecked: file.unchecked(),
    };
    let mut step = |step, ok, found: String| {
        report.steps.push(Step { step, ok, found });
        ok
    };
    if let Some(id) = file.id {
        let right = file.wrong_id().is_none();
        let found = if right {
            "the hash of the receipt".to_owned()
        } else {
            format!("{id}, which is another receipt's")
        };
        if !step("id beside the receipt", right, found) {
            return Ok(report);
        }
    }
    let checked = check_receipt(receipt, request, output);
    let found =
        checked.map_or_else(|error| error.to_string(), |()| format!("signed by worker {}", body.worker));
    if !step("signature, request, price, token hashes", checked.is_ok(), found) {
        return Ok(report);
    }
    let loaded = load(model, body, config)?;
    step("model", true, format!("{} is {}", loaded.name, body.model));
    let generate = GenerateRequest {
        prompt: &request.prompt,
        already: &[],
        sampling: request.sampling,
        decoding: &request.decoding,
        max_tokens: request.max_tokens,
        stop: &request.stop,
    };
    let started = std::time::Instant::now();
    let replay = loaded.engine.replay(&generate, output, body.finish)?;
    let elapsed = started.elapsed();
    let tokens_ok = replay.divergence.is_none();
    let found = match &replay.divergence {
        None => format!("{} tokens as the model gives them", output.len()),
        Some(divergence) => {
            format!("first difference at position {}: {}", divergence.position, divergence.kind)
        }
    };
    let tokens_ok = step("every token, by replay", tokens_ok, found);
    let same = replay.trace_root == body.trace_root;
    let found = if same {
        "every activation as the model gives it".to_owned()
    } else {
        format!("{}; the receipt says {}", replay.trace_root, body.trace_root)
    };
    let trace_ok = step("trace root, by replay", same, found);
    report.valid = tokens_ok && trace_ok;
    report.divergence_position = replay.divergence.map(|divergence| divergence.position);
    report.replay_ms = Some(millis(elapsed));
    Ok(report)
}

fn show(report: &Report) {
    let mut table = Table::new(&[("", Align::Left), ("check", Align::Left), ("found", Align::Left)]);
    for step in &report.steps {
        let mark = if step.ok { "ok" } else { "WRONG" };
        table.row([mark.to_owned(), step.step.to_owned(), step.found.clone()]);
    }
    for Unchecked { field, says, why } in &report.unchecked {
        table.row(["-".to_owned(), (*field).to_owned(), format!("{says}: not checked, {why}")]);
    }
    out::line(format_args!("receipt {}\n", report.receipt_id));
    out::text(table.render_body());
    let verdict = if report.valid {
        "This answer is the model's, bit for bit."
    } else {
        "This answer is NOT what the receipt claims."
    };
    out::line(format_args!("\n{verdict}"));
}
