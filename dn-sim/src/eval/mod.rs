//! The researcher's pipe: one question a line, one answer a line, with the very functions that the ledger calls.
//!
//! A question is `{"id": …, "op": …, "in": {…}}`, an answer `{"id": …, "out": {…}}` or `{"id": …, "error": "…"}` with the question's id, which
//! may be any JSON value and is null where the line could not be read. A line that is refused says where and what is allowed, and stops none of
//! the others. Blank lines are passed over; of a key that comes twice in an object the last value counts.
//!
//! `yuma3`, `weighted_median` and `eigentrust` are described in [`crate::baseline::eval`].
//!
//! Integers are JSON integers or decimal strings (over 2^64 − 1 only strings, since JSON readers round); numbers are JSON numbers or decimal
//! strings; a number from 0 to 1 is rounded down to a multiple of 2^-32, and comes out both as a number, with every digit, and as its bits
//! (`…_q32`). Amounts and scores come out as decimal strings.
//!
//! # `trust`: a record's indicators and weight
//! `role` is `worker`, `validator` or `model`. `epochs` is a list of at most 131,072; an epoch is a list of events, or an object of event and weight. An event is a
//! name (of weight 1), or `{"event": name}` with `work` in operations or `weight` in units of work, rounded up to 2^-16.
//! - worker: `completed`, `failed`, `audit_passed`, `audit_failed`, `proven_fraud`, `online`, `offline`, and `latency` with `own_ms` and
//!   `class_median_ms` (lists only);
//! - validator: `aligned`, `misaligned`, `timely`, `missed`, `canary_passed`, `canary_failed`, `proven_fraud`;
//! - model: `succeeded`, `failed`, `liked`, `disliked`, `audit_passed`, `audit_failed`, `proven_fraud`.
//!
//! `proven_fraud`, `online` and `offline` have no weight; in an object they have a count of at most 100. `class_median_work` (models only) is the median paid work of the
//! model's class, in operations; without it demand does not move. `params` replaces fields of [`dn_trust::Params`] by name, in their own units (integers).
//! ```
//! let line = r#"{"id": 1, "op": "trust", "in": {"role": "worker", "epochs": [["completed", "audit_passed", "online"], {"completed": 0.5}]}}"#;
//! let answer = dn_sim::eval::answer(line);
//! assert!(answer.starts_with(r#"{"id":1,"out":{"start":{"indicators":{"completion":0.025"#));
//! ```
//!
//! # `powr`: from votes and records to pay
//! `pot` is divided (atto). A node has an `id` (string or integer, the order of ties), `work` (operations), either `quality` or `votes`, and either
//! `trust` or `history` (a worker's epochs as above, with `params`). A vote has a `score`, and either a `weight` or a `stake` (atto) and the
//! validator's `trust`. `stake_cap` bounds stakes in votes, `quality_cap` what any quality counts.
//! ```
//! let line = r#"{"id": "x", "op": "powr", "in": {"pot": "100", "nodes": [
//!     {"id": "a", "work": 8, "quality": 0.5, "trust": 0.5},
//!     {"id": "b", "work": 4, "votes": [{"score": 1, "stake": "9", "trust": 0.5}], "trust": 0.25}]}}"#;
//! let answer = dn_sim::eval::answer(line);
//! assert!(answer.contains(r#""score":"2","payout":"67""#) && answer.contains(r#""score":"1","payout":"33""#));
//! ```
//!
//! # `split`: a fee's shares
//! `fee` in atto, or `fee_dn` in DN as a decimal string; `shares` replaces basis points of the default split by name, and all seven must add up to 10,000.
//! (The bounds within which a model may move its shares are governance's and not checked here.)
//! ```
//! let line = r#"{"id": null, "op": "split", "in": {"fee": "999", "shares": {"worker": 7000, "owner": 1500}}}"#;
//! let answer = dn_sim::eval::answer(line);
//! assert_eq!(answer, r#"{"id":null,"out":{"worker":"705","owner":"149","validators":"79","domain":"39","foundation":"9","burn":"9","reinforcement":"9"}}"#);
//! ```

mod history;
mod powr;
mod read;
mod split;
mod trust;

use std::io::{self, BufRead, Read, Write};

use serde_json::{Value, json};

pub use read::{Node, ReadError};

use crate::baseline::eval as baseline;

/// The longest line that is read, in bytes. A document of the smallest objects takes some sixty times as much memory.
pub const MAX_LINE: usize = 32 << 20;

/// The operations, in the order of the documentation.
const OPS: [(&str, Op); 3] = [("trust", trust::eval), ("powr", powr::eval), ("split", split::eval)];

/// What comes out is JSON text.
type Op = fn(&Node<'_>) -> Result<String, EvalError>;

/// Why a line has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The line is longer than [`MAX_LINE`].
    #[error("the line is too long: at most {max} bytes are read")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// The line is not text.
    #[error("the line is not UTF-8 from byte {at} on")]
    Encoding {
        /// The first byte that is not.
        at: usize,
    },
    /// The line is not JSON.
    #[error("not JSON at column {column}: {what}")]
    Syntax {
        /// The column, from 1.
        column: usize,
        /// What the reader of JSON says.
        what: String,
    },
    /// A published policy has no result.
    #[error(transparent)]
    Baseline(#[from] baseline::EvalError),
    /// A value is refused.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Parameters of trust out of bounds.
    #[error("{path}: {source}")]
    Params {
        /// Where.
        path: String,
        /// Which, and the bounds.
        source: dn_trust::ParamError,
    },
    /// Votes that agree on nothing.
    #[error("{path}: {source}")]
    Votes {
        /// Where.
        path: String,
        /// Why.
        source: dn_powr::QualityError,
    },
    /// A population whose scores cannot be added.
    #[error("{path}: {source}")]
    Payout {
        /// Where.
        path: String,
        /// Why.
        source: dn_powr::PayoutError,
    },
    /// Shares that are not a split.
    #[error("{path}: {source}")]
    Split {
        /// Where.
        path: String,
        /// Why.
        source: dn_powr::SplitError,
    },
    /// A text that is no amount.
    #[error("{path}: {source}")]
    Amount {
        /// Where.
        path: String,
        /// Why.
        source: dn_core::amount::ParseAmountError,
    },
}

/// Answers one line.
pub fn answer(line: &str) -> String {
    if line.len() > MAX_LINE {
        return refused(Value::Null, &EvalError::TooLong { max: MAX_LINE });
    }
    match serde_json::from_str::<Value>(line) {
        Ok(document) => {
            let id = document.get("id").cloned().unwrap_or(Value::Null);
            match evaluate(&Node::root(&document)) {
                Ok(out) => format!("{{\"id\":{id},\"out\":{out}}}"),
                Err(error) => refused(id, &error),
            }
        }
        Err(error) => {
            let what = error.to_string();
            // The place is said apart: the line is always the first.
            let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what).to_owned();
            refused(Value::Null, &EvalError::Syntax { column: error.column(), what })
        }
    }
}

fn refused(id: Value, error: &EvalError) -> String {
    json!({"id": id, "error": error.to_string()}).to_string()
}

fn evaluate(document: &Node<'_>) -> Result<String, EvalError> {
    document.known(&["id", "op", "in"])?;
    let name = document.field("op")?;
    let op = name.text()?;
    let input = document.field("in")?;
    if let Some((_, eval)) = OPS.iter().find(|(known, _)| *known == op) {
        return eval(&input);
    }
    if let Some(result) = baseline::eval(op, input.value()) {
        return Ok(result?.to_string());
    }
    let known: Vec<_> = OPS.iter().map(|(name, _)| *name).chain(baseline::OPERATIONS).collect();
    Err(name.refuse(format!("one of {}", known.join(", "))).into())
}

/// Answers line after line until the input ends; each answer is flushed before the next line is read, so that two programs can talk.
///
/// # Errors
/// Those of the input and the output; no line is one.
pub fn run(mut input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        // One byte more than a line may have, and its end.
        let limit = MAX_LINE as u64 + 1;
        if input.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let answer = if line.len() > MAX_LINE && line.last() != Some(&b'\n') {
            skip_line(&mut input)?;
            refused(Value::Null, &EvalError::TooLong { max: MAX_LINE })
        } else {
            match std::str::from_utf8(&line) {
                Ok(text) if text.trim().is_empty() => continue,
                Ok(text) => answer(text.trim_end_matches(['\n', '\r'])),
                Err(error) => refused(Value::Null, &EvalError::Encoding { at: error.valid_up_to() }),
            }
        };
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
}

/// Passes over the rest of a line without keeping it.
fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let (used, done) = match input.fill_buf() {
            Ok([]) => return Ok(()),
            Ok(buffer) => match buffer.iter().position(|b| *b == b'\n') {
                Some(end) => (end + 1, true),
                None => (buffer.len(), false),
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        input.consume(used);
        if done {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
