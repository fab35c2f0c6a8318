//! The researcher's pipe: one question a line, one answer a line, with the very functions that the ledger calls.
//!
//! A question is `{"id": …, "op": …, "in": {…}}`, an answer `{"id": …, "out": {…}}` or `{"id": …, "error": "…"}` with the question's id, which
//! may be any JSON value and is null where the line could not be read. A line that is refused says where and what is allowed, and stops none of
//! the others. Blank lines are passed over; of a key that comes twice in an object the last value counts.
//!
//! A line has at most [`MAX_LINE`] bytes, and the work that it asks for is bounded too: `trust`, `powr`, `split` and `weighted_median` take time
//! in proportion to the line (but for a sorting), `yuma3` at most 2^24 weights, and `eigentrust` at most 2^34 steps from peer to peer, which is
//! half a minute.
//!
//! Keys that an operation does not know are refused; one that is null is as good as absent.
//! Integers are JSON integers or decimal strings (over 2^64 − 1 only strings, since JSON readers round); numbers are JSON numbers or decimal
//! strings; a number from 0 to 1 is rounded up to a multiple of 2^-32, and comes out both as a number, with every digit, and as its bits
//! (`…_q32`). Amounts and scores come out as decimal strings.
//!
//! # `trust`: a record's indicators and weight
//! `role` is `worker`, `validator` or `model`. `epochs` is a list of at most 131,072; an epoch is a list of events, or an object of event and weight. An event is a
//! name (of weight 1), or `{"event": name}` with `work` in operations or `weight` in units of work, rounded up to 2^-16.
//! - worker: `completed`, `failed`, `audit_passed`, `audit_failed`, `proven_fraud`, `online`, `offline`, and `latency` with `own_ms` and
//!   `class_median_ms` (lists only; a class without a median yet, 0, says nothing);
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
//! `fee` in atto, or `fee_dn` in DN; `shares` replaces basis points of the default split by name, and all seven must add up to 10,000.
//! (The bounds within which a model may move its shares are governance's and not checked here.)
//! ```
//! let line = r#"{"id": null, "op": "split", "in": {"fee": "999", "shares": {"worker": 7000, "owner": 1500}}}"#;
//! let answer = dn_sim::eval::answer(line);
//! assert_eq!(answer, r#"{"id":null,"out":{"worker":"705","owner":"149","validators":"79","domain":"39","foundation":"9","burn":"9","reinforcement":"9"}}"#);
//! ```
//!
//! # `yuma3`: Yuma consensus, epoch after epoch
//! In: `stake` \[validator\], or \[epoch\]\[validator\] where it changes, any amounts, used as shares of their sum; `weights_per_epoch`
//! \[epoch\]\[validator\]\[miner\], any amounts: each row counts divided by its sum, a row of zeros gives nothing; and, all optional,
//! `bonds0` \[validator\]\[miner\] in \[0, 1\] (default zeros), `kappa` (default 32767 ÷ 65535), `bond_penalty` (default 1), `liquid_alpha` (default
//! `false`), `alpha_low` (default 45875 ÷ 65535), `alpha_high` (default 58982 ÷ 65535), `alpha_steepness` (default 10), `bond_rate`, what a bond takes in of the new per
//! epoch when liquid alpha is off (default 0.1), `arithmetic`: `f64` (default) or `i32f32`, the chain's, and `bond_storage`: `full` (default) or `u16`, the chain's.
//! The defaults are those of subtensor's runtime. Shares may be written as the chain stores them: above one they are parts of 65,535 and whole, and a
//! steepness above 100 is in hundredths.
//!
//! Out, for every epoch: `dividends` \[epoch\]\[validator\] and `incentive` \[epoch\]\[miner\], which each sum to one or are all zero, `consensus`
//! \[epoch\]\[miner\], and `bonds` \[epoch\]\[validator\]\[miner\] as they are after the epoch. See [`yuma`](crate::baseline::yuma).
//! ```
//! let line = r#"{"id": 4, "op": "yuma3", "in": {"stake": [1, 2], "weights_per_epoch": [[[1, 2, 3], [1, 2]]]}}"#;
//! let answer = dn_sim::eval::answer(line);
//! assert_eq!(answer, r#"{"id":4,"error":"in.weights_per_epoch[0][1]: expected a list of 3, found a list of 2"}"#);
//! ```
//!
//! # `weighted_median`
//! In: `stake` and `values`, one each per voter, and `support`: a share of all stake up to 1, an amount of stake above. Out: `median`. See
//! [`weighted_median`](crate::baseline::median::weighted_median).
//! ```
//! let line = r#"{"id": 5, "op": "weighted_median", "in": {"stake": [49, 1, "50"], "values": [0.5, 0.7, 1], "support": 0.51}}"#;
//! assert_eq!(dn_sim::eval::answer(line), r#"{"id":5,"out":{"median":0.7}}"#);
//! ```
//!
//! # `eigentrust`
//! In: `pretrust` \[peer\], any amounts, `local_trust` \[from\]\[to\] and `alpha`. Out: `trust` \[peer\]. See
//! [`eigentrust`](crate::baseline::eigentrust::eigentrust).

mod eigentrust;
mod history;
mod median;
mod powr;
mod split;
mod trust;
mod yuma3;

use std::io::{self, BufRead, Read, Write};

use serde::Serialize;
use serde_json::{Value, json};

use crate::baseline::eigentrust::EigenTrustError;
use crate::baseline::median::MedianError;
use crate::baseline::yuma::{MAX_CELLS, YumaError};
use crate::document::{DocumentError, Node};

/// The longest line that is read, in bytes without its end. A document of the smallest lists takes some hundred times as much memory, and an
/// answer may be some forty times as long: together less than 4 GB.
pub const MAX_LINE: usize = 16 << 20;

/// The operations, in the order of the documentation.
const OPS: [(&str, Op); 6] = [
    ("trust", trust::eval),
    ("powr", powr::eval),
    ("split", split::eval),
    ("yuma3", yuma3::eval),
    ("weighted_median", median::eval),
    ("eigentrust", eigentrust::eval),
];

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
    /// A value is refused.
    #[error(transparent)]
    Document(#[from] DocumentError),
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
    /// All weights of all epochs together are too many.
    #[error("{path}: {cells} cells, at most {MAX_CELLS}")]
    Cells {
        /// Where.
        path: String,
        /// How many.
        cells: u128,
    },
    /// Yuma refuses the numbers.
    #[error("{path}: {source}")]
    Yuma {
        /// Where.
        path: String,
        /// Why.
        source: YumaError,
    },
    /// The median refuses the numbers.
    #[error("{path}: {source}")]
    Median {
        /// Where.
        path: String,
        /// Why.
        source: MedianError,
    },
    /// EigenTrust refuses the numbers.
    #[error("{path}: {source}")]
    EigenTrust {
        /// Where.
        path: String,
        /// Why.
        source: EigenTrustError,
    },
}

/// Answers one line.
pub fn answer(line: &str) -> String {
    if line.len() > MAX_LINE {
        return refused(&Value::Null, &EvalError::TooLong { max: MAX_LINE });
    }
    match serde_json::from_str::<Value>(line) {
        Ok(document) => {
            let id = document.get("id").unwrap_or(&Value::Null);
            match evaluate(&Node::root(&document)) {
                Ok(out) => format!("{{\"id\":{id},\"out\":{out}}}"),
                Err(error) => refused(id, &error),
            }
        }
        Err(error) => {
            let what = error.to_string();
            // The place is said apart: the line is always the first.
            let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what).to_owned();
            refused(&Value::Null, &EvalError::Syntax { column: error.column(), what })
        }
    }
}

fn refused(id: &Value, error: &EvalError) -> String {
    // An id is as large as it likes, so it is not copied.
    format!("{{\"id\":{id},\"error\":{}}}", json!(error.to_string()))
}

/// An answer as JSON.
fn written(answer: &impl Serialize) -> String {
    serde_json::to_string(answer).expect("every key is a field's name")
}

fn evaluate(document: &Node<'_>) -> Result<String, EvalError> {
    document.known(&["id", "op", "in"])?;
    let name = document.field("op")?;
    let op = name.text()?;
    let input = document.field("in")?;
    match OPS.iter().find(|(known, _)| *known == op) {
        Some((_, eval)) => eval(&input),
        None => Err(name.refuse(format!("one of {}", OPS.map(|(name, _)| name).join(", "))).into()),
    }
}

/// Answers line after line until the input ends; each answer is flushed before the next line is read, so that two programs can talk.
///
/// # Errors
/// Those of the input and the output; no line is one.
pub fn run(mut input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        // The longest line and its end, of up to two bytes.
        let limit = MAX_LINE as u64 + 2;
        if input.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let ended = line.pop_if(|last| *last == b'\n').is_some();
        if !ended && line.len() > MAX_LINE + 1 {
            skip_line(&mut input)?;
        }
        line.pop_if(|last| *last == b'\r');
        let answer = match std::str::from_utf8(&line) {
            _ if line.len() > MAX_LINE => refused(&Value::Null, &EvalError::TooLong { max: MAX_LINE }),
            Ok(text) if text.trim().is_empty() => continue,
            Ok(text) => answer(text),
            Err(error) => refused(&Value::Null, &EvalError::Encoding { at: error.valid_up_to() }),
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
