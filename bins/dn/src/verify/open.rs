//! `dn verify --open`: one value of the computation, what it is made of, and what binds it.

use std::process::ExitCode;
use std::str::FromStr;

use dn_compute::verify::witness::WitnessError;
use dn_compute::verify::{InputRow, OpName, OpenedValue, Place, Stage, Verdict, Witness};
use dn_core::objects::{JobRequest, Receipt, Sampling};
use dn_core::{Canonical, Hash32, ReceiptId};
use serde::Serialize;

use crate::error::CliError;
use crate::model::Loaded;
use crate::out::{self, Align, Table};

/// Values of a row that are shown to a person.
const SHOWN: usize = 6;

/// `POSITION:STAGE[:OP[:ELEMENT]]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlaceArg {
    position: u32,
    stage: Stage,
    /// Without it the last one of the stage.
    op: Option<OpName>,
    element: u32,
}

impl FromStr for PlaceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let position = parts.next().unwrap_or_default();
        let position =
            position.parse().map_err(|_| format!("`{position}` is no position: a number expected"))?;
        let stage = parts.next().ok_or("a stage expected after the position, such as 17:layer0")?;
        let stage = match (stage, stage.strip_prefix("layer").map(str::parse)) {
            ("token", _) => Stage::Token,
            ("embedding", _) => Stage::Embedding,
            ("logits", _) => Stage::Logits,
            ("choice", _) => Stage::Choice,
            (_, Some(Ok(layer))) => Stage::Layer { layer },
            _ => {
                return Err(format!(
                    "`{stage}` is no stage: token, embedding, layer0, layer1, …, logits or choice expected"
                ));
            }
        };
        let op = parts.next().map(|op| {
            let known = OpName::ALL.into_iter().find(|known| known.name() == op);
            known.ok_or_else(|| format!("`{op}` is no operation: one of {} expected", names(OpName::ALL)))
        });
        let element = parts.next().map_or(Ok(0), |element| {
            element.parse().map_err(|_| format!("`{element}` is no element: a number expected"))
        })?;
        match parts.next() {
            Some(more) => Err(format!("`{more}` follows the element: nothing expected")),
            None => Ok(Self { position, stage, op: op.transpose()?, element }),
        }
    }
}

fn names(ops: impl IntoIterator<Item = OpName>) -> String {
    ops.into_iter().map(OpName::name).collect::<Vec<_>>().join(", ")
}

/// A row that is read.
#[derive(Debug, Serialize)]
struct Input {
    row: &'static str,
    hash: Hash32,
    first: usize,
    values: Vec<f32>,
}

/// Weights that are read, and what binds them to the model.
#[derive(Debug, Serialize)]
struct Weights {
    tensor: String,
    first_row: u32,
    rows: u32,
    columns: u32,
    hash: Hash32,
    path: Vec<Hash32>,
}

/// What a choice reads beside the logits.
#[derive(Debug, Serialize)]
struct Choice {
    /// The logit of the token.
    logit: serde_json::Value,
    /// Tokens of prompt and output before it, which penalties count.
    tokens_before: u32,
    sampling: Sampling,
    biases: usize,
    banned: usize,
}

#[derive(Debug, Serialize)]
struct Report {
    receipt_id: ReceiptId,
    position: u32,
    token: u32,
    stage: String,
    operation: &'static str,
    element: u32,
    bits: String,
    value: serde_json::Value,
    inputs: Vec<Input>,
    /// The positions whose cache entries are read: from, to.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<[u32; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<Weights>,
    /// What a choice reads of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    choice: Option<Choice>,
    leaf: Hash32,
    path: Vec<Hash32>,
    trace_root: Hash32,
    /// Whether the receipt's trace root binds the value.
    in_receipt: bool,
    claim_bytes: usize,
    opening_bytes: usize,
    /// What the referee says.
    judged: String,
    valid: bool,
}

/// Opens the value. The exit code is 0 only if the receipt binds it and the referee finds it right.
pub(super) fn run(
    receipt: &Receipt,
    request: &JobRequest,
    output: &[u32],
    loaded: &Loaded,
    place: PlaceArg,
    as_json: bool,
) -> Result<ExitCode, CliError> {
    let fail = |error: WitnessError| CliError::argument("--open", error.to_string());
    let witness = loaded.engine.witness(request, output).map_err(fail)?;
    let opened = witness.open(&full(place, &witness)).map_err(|error| match error {
        WitnessError::Operation { stage, .. } => {
            let there = names(witness.operations(stage).into_iter().map(|(name, _)| name));
            CliError::argument("--open", format!("{error}; it has {there}"))
        }
        error => fail(error),
    })?;
    let report = report((receipt, request, output), loaded, &witness, &opened);
    if as_json {
        out::json(&report);
    } else {
        show(&report);
    }
    Ok(if report.valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn full(place: PlaceArg, witness: &Witness<'_>) -> Place {
    let PlaceArg { position, stage, op, element } = place;
    let last = || witness.operations(stage).last().map_or(OpName::Token, |(name, _)| *name);
    Place { position, stage, op: op.unwrap_or_else(last), element }
}

fn report(
    (receipt, request, output): (&Receipt, &JobRequest, &[u32]),
    loaded: &Loaded,
    witness: &Witness<'_>,
    opened: &OpenedValue,
) -> Report {
    let (place, claim) = (&opened.place, &opened.claim);
    let (bits, value) = match place.op {
        OpName::Choice => {
            let index = (place.position + 1).saturating_sub(receipt.prompt_tokens) as usize;
            let token = output.get(index).copied().unwrap_or_default();
            (token, token.into())
        }
        OpName::Token => (claim.value, claim.value.into()),
        OpName::CacheEntry => (claim.value, (claim.value as u16 as i16).into()),
        _ => (claim.value, shortest(f32::from_bits(claim.value)).into()),
    };
    let (in_receipt, right) =
        (witness.root() == receipt.trace_root, opened.verdict == Ok(Verdict::Consistent));
    let tensor =
        |index: u32| loaded.engine.model().tensors().nth(index as usize).map(|tensor| tensor.0.to_owned());
    Report {
        receipt_id: receipt.id(),
        position: place.position,
        token: claim.token,
        stage: place.stage.to_string(),
        operation: place.op.name(),
        element: place.element,
        bits: format!("0x{bits:08x}"),
        value,
        inputs: opened.inputs.iter().map(|row| input(place.stage, row)).collect(),
        keys: opened.keys.as_ref().map(|keys| [keys.start, keys.end - 1]),
        weights: opened.opening.weights.as_ref().map(|weights| Weights {
            tensor: tensor(weights.tile.tensor).unwrap_or_default(),
            first_row: weights.tile.first_row,
            rows: weights.tile.rows,
            columns: weights.tile.cols,
            hash: weights.tile.hash,
            path: weights.proof.path.clone(),
        }),
        choice: (place.op == OpName::Choice).then(|| choice(request, bits, opened)),
        leaf: opened.leaf.hash(),
        path: opened.proof.path.clone(),
        trace_root: witness.root(),
        in_receipt,
        claim_bytes: claim.len_bytes(),
        opening_bytes: opened.opening.to_bytes().len(),
        judged: match &opened.verdict {
            Ok(Verdict::Consistent) => "consistent".to_owned(),
            Ok(Verdict::Fraud { .. }) => "fraud".to_owned(),
            Err(error) => error.to_string(),
        },
        valid: in_receipt && right,
    }
}

fn choice(request: &JobRequest, token: u32, opened: &OpenedValue) -> Choice {
    let logit = opened.inputs.first().and_then(|logits| logits.values.get(token as usize));
    Choice {
        logit: logit.map_or(serde_json::Value::Null, |logit| shortest(*logit).into()),
        tokens_before: opened.place.position + 1,
        sampling: request.sampling,
        biases: request.decoding.bias.len(),
        banned: request.decoding.banned.len(),
    }
}

/// A number that is printed with as few digits as the f32 needs.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn input(stage: Stage, row: &InputRow) -> Input {
    let below = match stage {
        Stage::Choice => "logits",
        Stage::Layer { layer: 0 } => "embedding",
        _ => "ffn_residual of the layer below",
    };
    let name = row.from.map_or(below, OpName::name);
    Input { row: name, hash: row.hash, first: row.first, values: row.values.clone() }
}

/// A choice's settings in words.
fn told(choice: &Choice) -> String {
    let Sampling { temperature_micro, top_k, top_p_micro, min_p_micro, seed, .. } = choice.sampling;
    let of = |micro: u32| f64::from(micro) / 1e6;
    let how = match temperature_micro {
        0 => "the largest logit".to_owned(),
        _ => format!(
            "temperature {}, top-k {top_k}, top-p {}, min-p {}, seed {seed}",
            of(temperature_micro),
            of(top_p_micro),
            of(min_p_micro)
        ),
    };
    let Choice { logit, tokens_before, biases, banned, .. } = choice;
    format!("{how}; the token's logit {logit}; {tokens_before} tokens before, {biases} biases, {banned} bans")
}

fn show(report: &Report) {
    let mut table = Table::new(&[("", Align::Left), ("", Align::Left)]);
    let Report { position, token, stage, operation, element, .. } = report;
    table.row(["value".to_owned(), format!("{} ({})", report.value, report.bits)]);
    for input in &report.inputs {
        let some: Vec<String> = input.values.iter().take(SHOWN).map(f32::to_string).collect();
        let more = if input.values.len() > SHOWN { ", …" } else { "" };
        let (from, count) = (input.first, input.values.len());
        let text = format!("{count} values from {from}: {}{more}", some.join(", "));
        table.row([format!("reads {}", input.row), text]);
        table.row([String::new(), format!("of the row {}", input.hash)]);
    }
    if let Some([first, last]) = report.keys {
        table.row(["reads cache".to_owned(), format!("entries of the positions {first} to {last}")]);
    }
    if let Some(weights) = &report.weights {
        let Weights { tensor, first_row, rows, columns, hash, path } = weights;
        let text = match rows {
            0 => format!("{tensor}, {columns} values"),
            _ => format!("{tensor}, {columns} columns, rows {first_row} to {}", first_row + rows - 1),
        };
        table.row(["reads weights".to_owned(), text]);
        table.row([String::new(), format!("{hash}, {} nodes below the model's root", path.len())]);
    }
    if let Some(choice) = &report.choice {
        table.row(["reads request".to_owned(), told(choice)]);
    }
    table.row(["leaf".to_owned(), report.leaf.to_string()]);
    for (i, node) in report.path.iter().enumerate() {
        table.row([if i == 0 { "path".to_owned() } else { String::new() }, node.to_string()]);
    }
    let whose = if report.in_receipt { "as in the receipt" } else { "NOT the receipt's" };
    table.row(["trace root".to_owned(), format!("{}, {whose}", report.trace_root)]);
    let size = report.claim_bytes + report.opening_bytes;
    table.row(["referee".to_owned(), format!("{}, from {size} bytes", report.judged)]);
    out::line(format_args!("position {position} (token {token}), {stage}, {operation}, element {element}\n"));
    out::text(table.render_body());
    if !report.in_receipt {
        out::line(
            "\nThe receipt binds other values: this is what the model gives, not what the worker computed.",
        );
    }
}
