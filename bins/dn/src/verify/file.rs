//! The file of a receipt: all of it is either checked, or said not to be.

use dn_core::objects::{JobRequest, Receipt};
use dn_core::{BatchId, ReceiptId, Signed};
use serde::Deserialize;
use serde_json::Value;

use super::Unchecked;

/// What the gateway calls such an object.
const OBJECT: &str = "dn.receipt";

/// A receipt as a gateway gives it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReceiptFile {
    object: Option<String>,
    pub(super) id: Option<ReceiptId>,
    pub(super) receipt: Signed<Receipt>,
    pub(super) request: Option<JobRequest>,
    pub(super) output_tokens: Option<Vec<u32>>,
    batch: Option<Batch>,
}

/// Where a receipt is said to be settled.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    id: BatchId,
    sequence: u64,
}

/// Why a text is no receipt file.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("it says that it is `{found}`, `{OBJECT}` expected")]
    Object { found: String },
    #[error("unknown field `{field}`: nothing would check it")]
    Field { field: String },
}

impl ReceiptFile {
    /// Reads a file in which every field means something.
    pub(super) fn parse(text: &str) -> Result<Self, FileError> {
        let raw: Value = serde_json::from_str(text)?;
        // From the text, for line and column of what is wrong.
        let file: Self = serde_json::from_str(text)?;
        if let Some(found) = file.object.as_ref().filter(|object| *object != OBJECT) {
            return Err(FileError::Object { found: found.chars().take(80).collect() });
        }
        let inside = |name: &str, part: Result<Value, serde_json::Error>| {
            Ok::<_, FileError>(stranger(&raw[name], &part?).map(|field| format!("{name}.{field}")))
        };
        let found = match inside("receipt", serde_json::to_value(&file.receipt))? {
            None => inside("request", serde_json::to_value(&file.request))?,
            found => found,
        };
        found.map_or(Ok(file), |field| Err(FileError::Field { field }))
    }

    /// The id that the file gives, where it is not the receipt's.
    pub(super) fn wrong_id(&self) -> Option<ReceiptId> {
        self.id.filter(|id| *id != self.receipt.body.id())
    }

    /// What is not bound by the receipt.
    pub(super) fn unchecked(&self) -> Vec<Unchecked> {
        let batch = self.batch.as_ref().map(|Batch { id, sequence }| Unchecked {
            field: "batch",
            says: format!("{id}, sequence {sequence}"),
            why: "only the ledger knows which batch holds a receipt",
        });
        batch.into_iter().collect()
    }
}

/// The first field of `raw` that was not understood: it is not in `known`, which is made of what was.
fn stranger(raw: &Value, known: &Value) -> Option<String> {
    match (raw, known) {
        (Value::Object(raw), Value::Object(known)) => {
            raw.iter().find_map(|(name, value)| match known.get(name) {
                Some(known) => stranger(value, known).map(|inner| format!("{name}.{inner}")),
                None => (!value.is_null()).then(|| name.clone()),
            })
        }
        (Value::Array(raw), Value::Array(known)) => {
            raw.iter().zip(known).find_map(|(raw, known)| stranger(raw, known))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_that_is_not_understood_is_found_wherever_it_is() {
        let known = json!({"a": {"b": [{"c": 1}]}, "d": null});
        for (raw, expected) in [
            (json!({"a": {"b": [{"c": 2}]}}), None),
            (json!({"x": 1}), Some("x")),
            (json!({"a": {"x": 1}}), Some("a.x")),
            (json!({"a": {"b": [{"c": 1, "x": 0}]}}), Some("a.b.x")),
            (json!({"x": null}), None),
        ] {
            assert_eq!(stranger(&raw, &known).as_deref(), expected, "{raw}");
        }
    }

    #[test]
    fn other_objects_and_fields_are_refused() {
        for text in ["{}", "[]", "x", r#"{"object": "dn.receipt", "surprise": 1}"#] {
            assert!(matches!(ReceiptFile::parse(text), Err(FileError::Json(_))), "{text}");
        }
    }
}
