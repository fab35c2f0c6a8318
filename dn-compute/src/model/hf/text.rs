//! Tokenizer, chat template and special tokens from the files beside the weights.

use std::path::Path;

use serde_json::Value;

use super::{MAX_SIDE_BYTES, MAX_TOKENIZER_BYTES, json, side_file};
use crate::model::ModelError;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::definition::TokenizerSource;

/// What text needs.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) tokenizer: Tokenizer,
    /// What the tokenizer is built from.
    pub(super) source: TokenizerSource,
    pub(super) template: Option<String>,
    pub(super) bos: Option<u32>,
    /// Tokens that end an answer, as the files name them.
    pub(super) stops: Vec<u32>,
    pub(super) bos_text: String,
    pub(super) eos_text: String,
}

impl Text {
    pub(super) fn read(directory: &Path, config: &Value) -> Result<Self, ModelError> {
        let file = |name: &str| json::<Value>(&directory.join(name), MAX_SIDE_BYTES);
        let settings = file("tokenizer_config.json")?.unwrap_or_default();
        let generation = file("generation_config.json")?.unwrap_or_default();
        let tokenizer_json = side_file(&directory.join("tokenizer.json"), MAX_TOKENIZER_BYTES)?;
        if tokenizer_json.is_none() && directory.join("tokenizer.model").is_file() {
            return Err(ModelError::Feature {
                feature: "a SentencePiece model without tokenizer.json",
                key: "tokenizer.model".to_owned(),
            });
        }
        let (bos_text, eos_text) = (token_text(&settings["bos_token"]), token_text(&settings["eos_token"]));
        let Some(json) = tokenizer_json else {
            let (tokenizer, source) = (Tokenizer::none(), TokenizerSource::None {});
            let (bos, stops) = (ids(&config["bos_token_id"]).first().copied(), stops(config, &generation));
            let template = None;
            return Ok(Self { tokenizer, source, template, bos, stops, bos_text, eos_text });
        };
        // Looked up in a tokenizer without a start, then built with it.
        let plain = Tokenizer::from_json(&json)?;
        let bos = ids(&config["bos_token_id"]).first().copied().or_else(|| plain.control_token(&bos_text));
        let start = bos.filter(|_| settings["add_bos_token"] == true);
        let tokenizer = match start {
            Some(_) => Tokenizer::from_json_with_start(&json, start)?,
            None => plain,
        };
        let mut stops = stops(config, &generation);
        stops.extend(tokenizer.control_token(&eos_text));
        let template = template(directory, &settings)?;
        let source = TokenizerSource::Json { start, text: json };
        Ok(Self { tokenizer, source, template, bos, stops, bos_text, eos_text })
    }
}

/// A token's text: itself, or an object with its content.
fn token_text(value: &Value) -> String {
    value.as_str().or(value["content"].as_str()).unwrap_or_default().to_owned()
}

/// One id or several.
fn ids(value: &Value) -> Vec<u32> {
    let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    match value {
        Value::Array(values) => values.iter().filter_map(id).collect(),
        value => id(value).into_iter().collect(),
    }
}

fn stops(config: &Value, generation: &Value) -> Vec<u32> {
    let mut out = ids(&config["eos_token_id"]);
    out.extend(ids(&generation["eos_token_id"]));
    out
}

/// The chat template: a file of its own, or in the tokenizer's settings, by itself or under the name `default`.
fn template(directory: &Path, settings: &Value) -> Result<Option<String>, ModelError> {
    let path = directory.join("chat_template.jinja");
    if let Some(bytes) = side_file(&path, MAX_SIDE_BYTES)? {
        let text = String::from_utf8(bytes);
        let path = || path.display().to_string();
        return text.map(Some).map_err(|_| ModelError::Utf8 { path: path() });
    }
    let wrong = |found: &Value| ModelError::Parameter {
        key: "chat_template".to_owned(),
        expected: "a text, or a list of objects with the texts `name` and `template`",
        found: kind(found).to_owned(),
    };
    let template = match &settings["chat_template"] {
        Value::Null => None,
        Value::String(text) => Some(text.as_str()),
        Value::Array(named) => {
            if let Some(bad) = named.iter().find(|t| !(t["name"].is_string() && t["template"].is_string())) {
                return Err(wrong(bad));
            }
            let default = named.iter().find(|t| t["name"] == "default");
            default.and_then(|t| t["template"].as_str())
        }
        other => return Err(wrong(other)),
    };
    Ok(template.map(str::to_owned))
}

/// What a value of JSON is.
const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
