//! Populations from snapshots of real networks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dn_core::{Hash32, keccak256};
use serde_json::{Map, Value};

/// Most bytes of a snapshot. A document of the smallest objects takes some hundred times as much memory.
pub const MAX_BYTES: u64 = 16 << 20;

/// A worker of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SnapshotWorker {
    /// Its work in an epoch, in units; the network's mean worker has one.
    pub power: f64,
    /// The quality of its results, 0 to 1.
    pub quality: f64,
}

/// A network as it was: one entry for each worker and validator, in the order of the document.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// The workers.
    pub workers: Vec<SnapshotWorker>,
    /// The validators' stakes, in the network's coin.
    pub validator_stakes: Vec<f64>,
    /// The digest of the document.
    pub digest: Hash32,
}

/// Why a snapshot is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is too long, or no file.
    #[error("{path} must be a file of at most {MAX_BYTES} bytes")]
    Size {
        /// The file.
        path: PathBuf,
    },
    /// The document is not JSON.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The document has another shape.
    #[error("{path}: {expected}")]
    Shape {
        /// Where in the document.
        path: String,
        /// What was expected there.
        expected: &'static str,
    },
    /// An id that came before.
    #[error("{path}: the same as {first}")]
    Duplicate {
        /// Where.
        path: String,
        /// Where it came first.
        first: String,
    },
}

fn shape(path: impl Into<String>, expected: &'static str) -> ImportError {
    ImportError::Shape { path: path.into(), expected }
}

impl Snapshot {
    /// Reads a file; see [`Snapshot::from_json`].
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn read(path: &Path) -> Result<Self, ImportError> {
        let read = |source| ImportError::Read { path: path.to_owned(), source };
        let meta = std::fs::metadata(path).map_err(read)?;
        if !meta.is_file() || meta.len() > MAX_BYTES {
            return Err(ImportError::Size { path: path.to_owned() });
        }
        Self::from_json(&std::fs::read_to_string(path).map_err(read)?)
    }

    /// A snapshot in the shape of a metagraph: either a list of neurons (`[{"stake": 10, "validator_permit": true, "incentive": 0.1}, …]`, also under the
    /// key `neurons`) or an object of columns (`{"stake": […], "validator_permit": […], "incentive": […]}`).
    ///
    /// A neuron with `validator_permit` (or, without that key, with `dividends` over 0) is a validator with its `stake` (also `total_stake`); any other is a
    /// worker with power in proportion to `incentive` and quality `rank` ÷ the greatest rank where ranks are given, else `trust`, else 1.
    ///
    /// # Errors
    /// [`ImportError`] with the path inside the document.
    pub fn from_json(text: &str) -> Result<Self, ImportError> {
        let document: Value = serde_json::from_str(text)?;
        let neurons = Neurons::of(&document)?;
        let digest = Hash32(keccak256(&[b"DeepNode snapshot v1", text.as_bytes()]));
        let mut snapshot = Self { digest, ..Self::default() };
        let mut incentives = Vec::new();
        let mut ids = BTreeMap::new();
        for i in 0..neurons.len() {
            if let Some(id) = neurons.value(i, "uid")
                && let Some(first) = ids.insert(id.to_string(), i)
            {
                return Err(ImportError::Duplicate {
                    path: neurons.path(i, "uid"),
                    first: neurons.path(first, "uid"),
                });
            }
            let number = |names: &[&str]| neurons.number(i, names);
            let permit = match neurons.value(i, "validator_permit") {
                None => number(&["dividends"])?.is_some_and(|d| d > 0.0),
                Some(Value::Bool(permit)) => *permit,
                Some(Value::Number(n)) => n.as_f64() == Some(1.0),
                Some(_) => return Err(shape(neurons.path(i, "validator_permit"), "true or false")),
            };
            if permit {
                let stake = number(&["total_stake", "stake"])?;
                snapshot
                    .validator_stakes
                    .push(stake.ok_or_else(|| shape(neurons.path(i, "stake"), "a number"))?);
            } else {
                incentives.push(number(&["incentive"])?.unwrap_or(0.0));
                let quality = number(&["rank", "trust"])?.unwrap_or(1.0);
                snapshot.workers.push(SnapshotWorker { power: 0.0, quality });
            }
        }
        if snapshot.workers.len() < 2 || snapshot.validator_stakes.len() < 2 {
            return Err(shape("document", "at least two validators and two others"));
        }
        let mean = incentives.iter().sum::<f64>() / incentives.len() as f64;
        let best = snapshot.workers.iter().map(|w| w.quality).fold(0.0, f64::max);
        for (worker, incentive) in snapshot.workers.iter_mut().zip(incentives) {
            worker.power = if mean > 0.0 { incentive / mean } else { 1.0 };
            worker.quality = if best > 0.0 { worker.quality / best } else { 1.0 };
        }
        Ok(snapshot)
    }
}

/// The neurons, whichever way they are written.
enum Neurons<'a> {
    Rows(Vec<&'a Map<String, Value>>),
    Columns(Vec<(&'static str, &'a [Value])>),
}

impl<'a> Neurons<'a> {
    fn of(document: &'a Value) -> Result<Self, ImportError> {
        let list = document.get("neurons").unwrap_or(document);
        if let Value::Array(items) = list {
            let object = |(i, item): (usize, &'a Value)| {
                item.as_object().ok_or_else(|| shape(format!("[{i}]"), "an object"))
            };
            return items.iter().enumerate().map(object).collect::<Result<_, _>>().map(Self::Rows);
        }
        let Value::Object(known) = list else {
            return Err(shape("document", "a list of neurons or an object of columns"));
        };
        let mut columns: Vec<(_, &[Value])> = Vec::new();
        for key in
            ["uid", "stake", "total_stake", "validator_permit", "dividends", "incentive", "rank", "trust"]
        {
            let Some(column) = known.get(key) else { continue };
            let column = column.as_array().ok_or_else(|| shape(key, "a list"))?;
            if columns.first().is_some_and(|(_, first)| first.len() != column.len()) {
                return Err(shape(key, "a list as long as the other columns"));
            }
            columns.push((key, column));
        }
        Ok(Self::Columns(columns))
    }

    fn len(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.len(),
            Self::Columns(columns) => columns.first().map_or(0, |(_, column)| column.len()),
        }
    }

    /// Where a value is.
    fn path(&self, at: usize, name: &str) -> String {
        match self {
            Self::Rows(_) => format!("[{at}].{name}"),
            Self::Columns(_) => format!("{name}[{at}]"),
        }
    }

    fn value(&self, at: usize, name: &str) -> Option<&'a Value> {
        match self {
            Self::Rows(rows) => rows[at].get(name),
            Self::Columns(columns) => {
                columns.iter().find(|(key, _)| *key == name).map(|(_, column)| &column[at])
            }
        }
    }

    /// The number under the first of these names that is there.
    fn number(&self, at: usize, names: &[&str]) -> Result<Option<f64>, ImportError> {
        let found = names.iter().find_map(|name| self.value(at, name).map(|value| (name, value)));
        let Some((name, value)) = found else { return Ok(None) };
        let number = match value {
            Value::String(text) => text.parse().ok(),
            other => other.as_f64(),
        };
        match number {
            Some(n) if (0.0..=1e18).contains(&n) => Ok(Some(n)),
            _ => Err(shape(self.path(at, name), "a number from 0 to 10^18")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_columns_say_the_same() {
        let rows = r#"{"neurons": [
            {"uid": 0, "stake": "1000.5", "validator_permit": true, "incentive": 0},
            {"uid": 1, "stake": 500, "validator_permit": true, "incentive": 0},
            {"uid": 2, "stake": 1, "validator_permit": false, "incentive": 0.75, "rank": 0.5},
            {"uid": 3, "stake": 1, "validator_permit": false, "incentive": 0.25, "rank": 0.25}]}"#;
        let columns = r#"{"stake": [1000.5, 500, 1, 1], "validator_permit": [true, 1, 0, false],
            "incentive": [0, 0, 0.75, 0.25], "rank": [0, 0, 0.5, 0.25]}"#;
        let snapshot = Snapshot::from_json(rows).expect("rows");
        let other = Snapshot::from_json(columns).expect("columns");
        assert_ne!(snapshot.digest, other.digest);
        assert_eq!(snapshot, Snapshot { digest: snapshot.digest, ..other });
        assert_eq!(snapshot.validator_stakes, [1000.5, 500.0]);
        assert_eq!(snapshot.workers[0], SnapshotWorker { power: 1.5, quality: 1.0 });
        assert_eq!(snapshot.workers[1], SnapshotWorker { power: 0.5, quality: 0.5 });
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &str| Snapshot::from_json(text).expect_err("refused").to_string();
        assert!(error("{").starts_with("not JSON"));
        assert_eq!(error("3"), "document: a list of neurons or an object of columns");
        assert_eq!(error("[3]"), "[0]: an object");
        assert_eq!(error("[]"), "document: at least two validators and two others");
        assert_eq!(
            error(r#"[{"validator_permit": true, "stake": -1}]"#),
            "[0].stake: a number from 0 to 10^18"
        );
        assert_eq!(
            error(r#"{"stake": [1], "incentive": [1, 2]}"#),
            "incentive: a list as long as the other columns"
        );
        assert_eq!(
            error(r#"{"stake": [1, -1], "validator_permit": [1, 1]}"#),
            "stake[1]: a number from 0 to 10^18"
        );
        assert_eq!(
            error(r#"[{"uid": 1, "incentive": 1}, {"uid": 2, "incentive": 1}, {"uid": 1, "incentive": 1}]"#),
            "[2].uid: the same as [0].uid"
        );
    }
}
