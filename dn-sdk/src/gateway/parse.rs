//! OpenAI request bodies: strict about what has a meaning, lenient about what has none here.
//!
//! A field that would change the answer and is not supported is refused by name; it is never silently ignored. Fields
//! without meaning here (`user`, `metadata`, `store`, …) are.

use dn_compute::{ChatMessage, Role};
use dn_core::objects::sampling::{MAX_REPETITION_MICRO, MAX_STOP_BYTES, MIN_REPETITION_MICRO};
use dn_core::objects::{Decoding, Sampling};
use serde_json::{Map, Value};

use super::error::ApiError;

mod decoding;

/// The most stop texts.
const MAX_STOPS: usize = 4;
/// The most bytes of a model's name.
const MAX_MODEL_BYTES: usize = 256;
/// The most messages of a chat.
const MAX_MESSAGES: usize = 4096;
const MICRO: f64 = 1_000_000.0;
/// Output tokens of a plain completion that does not say, as OpenAI documents it.
const DEFAULT_TEXT_TOKENS: u32 = 16;

/// Which of the two call shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Chat,
    Text,
}

/// What is to be continued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Prompt {
    Chat(Vec<ChatMessage>),
    Text(String),
    Tokens(Vec<u32>),
}

/// A call, checked as far as it can be without a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallBody {
    pub(crate) kind: Kind,
    pub(crate) model: String,
    pub(crate) prompt: Prompt,
    /// The seed is 0 where `seeded` is false.
    pub(crate) sampling: Sampling,
    pub(crate) seeded: bool,
    pub(crate) decoding: Decoding,
    /// The field that the grammar came from.
    pub(crate) grammar_param: &'static str,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) stop: Vec<String>,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
}

/// Parses a body.
pub(crate) fn parse(kind: Kind, bytes: &[u8]) -> Result<CallBody, ApiError> {
    let body: Value = serde_json::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or("syntax error").to_owned();
        ApiError::Json { what, line: error.line(), column: error.column() }
    })?;
    let found = type_name(&body);
    let Value::Object(map) = body else {
        return Err(ApiError::Type { param: "body".into(), expected: "an object", found });
    };
    let fields = Fields(&map);
    refuse_unsupported(kind, &fields)?;
    let prompt = match kind {
        Kind::Chat => Prompt::Chat(messages(&fields)?),
        Kind::Text => prompt(&fields)?,
    };
    let (sampling, seeded) = sampling(&fields)?;
    let (stream, include_usage) = streaming(&fields)?;
    let (decoding, grammar_param) = decoding::decoding(kind, &fields)?;
    Ok(CallBody {
        kind,
        model: model(&fields)?,
        prompt,
        sampling,
        seeded,
        decoding,
        grammar_param,
        max_tokens: max_tokens(kind, &fields)?,
        stop: stop(&fields)?,
        stream,
        include_usage,
    })
}

struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// The value of a field; null counts as absent.
    fn value(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn bool(&self, name: &str) -> Result<Option<bool>, ApiError> {
        let wrong = |value| wrong_type(name, "a boolean", value);
        self.value(name).map(|value| value.as_bool().ok_or_else(|| wrong(value))).transpose()
    }

    fn number(&self, name: &str, min: f64, max: f64) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let number = value.as_f64().ok_or_else(|| wrong_type(name, "a number", value))?;
        if (min..=max).contains(&number) {
            return Ok(Some(number));
        }
        let expected = format!("a number from {min} to {max}");
        Err(ApiError::Range { param: name.into(), expected, found: value.to_string() })
    }

    fn integer(&self, name: &str, min: i64, max: i64) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        if !value.is_number() {
            return Err(wrong_type(name, "an integer", value));
        }
        match value.as_i64().filter(|number| (min..=max).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let expected = format!("an integer from {min} to {max}");
                Err(ApiError::Range { param: name.into(), expected, found: value.to_string() })
            }
        }
    }
}

fn wrong_type(param: &str, expected: &'static str, value: &Value) -> ApiError {
    ApiError::Type { param: param.to_owned(), expected, found: type_name(value) }
}

const fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Refuses every field that would change the answer and cannot be honoured.
fn refuse_unsupported(kind: Kind, fields: &Fields<'_>) -> Result<(), ApiError> {
    let is_empty = |value: &Value| match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    };
    let never: &[(&str, &str)] = &[
        ("tools", "this network does not call tools yet"),
        ("functions", "this network does not call functions yet"),
        ("audio", "only text is generated"),
        ("prediction", "predicted outputs are not supported"),
        ("web_search_options", "there is no web search"),
        ("reasoning_effort", "the model has no reasoning effort"),
        ("verbosity", "the model has no verbosity"),
        ("echo", "the prompt is not echoed"),
        ("suffix", "text is only continued, not filled in"),
    ];
    for (name, reason) in never {
        if fields.value(name).is_some_and(|value| !is_empty(value)) {
            return Err(ApiError::Unsupported { param: (*name).to_owned(), reason });
        }
    }
    for name in ["tool_choice", "function_call"] {
        if fields.value(name).is_some_and(|value| !matches!(value.as_str(), Some("none" | "auto"))) {
            let reason = "this network does not call tools yet";
            return Err(ApiError::Unsupported { param: name.into(), reason });
        }
    }
    for name in ["n", "best_of"] {
        if fields.integer(name, 1, 128)?.is_some_and(|n| n != 1) {
            let reason = "one choice per call; send the call again for another";
            return Err(ApiError::Unsupported { param: name.into(), reason });
        }
    }
    let text_only = serde_json::json!(["text"]);
    if kind == Kind::Chat && fields.value("modalities").is_some_and(|found| *found != text_only) {
        let reason = "only `[\"text\"]`";
        return Err(ApiError::Unsupported { param: "modalities".into(), reason });
    }
    Ok(())
}

fn model(fields: &Fields<'_>) -> Result<String, ApiError> {
    let value = fields.value("model").ok_or_else(|| ApiError::Missing { param: "model".into() })?;
    let name = value.as_str().ok_or_else(|| wrong_type("model", "a string", value))?;
    if name.is_empty() || name.len() > MAX_MODEL_BYTES {
        let expected = format!("1 to {MAX_MODEL_BYTES} bytes");
        return Err(ApiError::Range {
            param: "model".into(),
            expected,
            found: format!("{} bytes", name.len()),
        });
    }
    Ok(name.to_owned())
}

fn messages(fields: &Fields<'_>) -> Result<Vec<ChatMessage>, ApiError> {
    let value = fields.value("messages").ok_or_else(|| ApiError::Missing { param: "messages".into() })?;
    let list = value.as_array().ok_or_else(|| wrong_type("messages", "an array", value))?;
    if list.is_empty() || list.len() > MAX_MESSAGES {
        let expected = format!("1 to {MAX_MESSAGES} messages");
        let found = format!("{} messages", list.len());
        return Err(ApiError::Range { param: "messages".into(), expected, found });
    }
    list.iter().enumerate().map(|(at, message)| chat_message(at, message)).collect()
}

fn chat_message(at: usize, message: &Value) -> Result<ChatMessage, ApiError> {
    let param = format!("messages[{at}]");
    let map = message.as_object().ok_or_else(|| wrong_type(&param, "an object", message))?;
    let fields = Fields(map);
    for name in ["tool_calls", "function_call", "tool_call_id", "audio"] {
        if fields.value(name).is_some_and(|value| value.as_array().is_none_or(|list| !list.is_empty())) {
            let reason = "this network does not call tools yet";
            return Err(ApiError::Unsupported { param: format!("{param}.{name}"), reason });
        }
    }
    let role_param = format!("{param}.role");
    let role = fields.value("role").ok_or_else(|| ApiError::Missing { param: role_param.clone() })?;
    let role = match role.as_str().ok_or_else(|| wrong_type(&role_param, "a string", role))? {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => {
            let reason = "this network does not call tools yet";
            return Err(ApiError::Unsupported { param: role_param, reason });
        }
        other => {
            let expected = "`system`, `developer`, `user` or `assistant`".to_owned();
            let found = format!("`{}`", other.chars().take(64).collect::<String>());
            return Err(ApiError::Range { param: role_param, expected, found });
        }
    };
    Ok(ChatMessage { role, content: content(&format!("{param}.content"), &fields)? })
}

fn content(param: &str, fields: &Fields<'_>) -> Result<String, ApiError> {
    let value = fields.value("content").ok_or_else(|| ApiError::Missing { param: param.to_owned() })?;
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let texts =
                parts.iter().enumerate().map(|(at, part)| content_part(&format!("{param}[{at}]"), part));
            texts.collect()
        }
        _ => Err(wrong_type(param, "a string or an array of text parts", value)),
    }
}

fn content_part<'a>(param: &str, part: &'a Value) -> Result<&'a str, ApiError> {
    let map = part.as_object().ok_or_else(|| wrong_type(param, "an object", part))?;
    if map.get("type").and_then(Value::as_str) != Some("text") {
        return Err(ApiError::Unsupported {
            param: format!("{param}.type"),
            reason: "only parts of type `text`",
        });
    }
    let param = format!("{param}.text");
    let text = map.get("text").ok_or_else(|| ApiError::Missing { param: param.clone() })?;
    text.as_str().ok_or_else(|| wrong_type(&param, "a string", text))
}

fn prompt(fields: &Fields<'_>) -> Result<Prompt, ApiError> {
    let value = fields.value("prompt").ok_or_else(|| ApiError::Missing { param: "prompt".into() })?;
    let expected = "a string or an array of token ids";
    match value {
        Value::String(text) => Ok(Prompt::Text(text.clone())),
        Value::Array(items) => match items.as_slice() {
            [] => Err(ApiError::Range {
                param: "prompt".into(),
                expected: "at least one token".into(),
                found: "an empty array".into(),
            }),
            [Value::String(text)] => Ok(Prompt::Text(text.clone())),
            [Value::Array(tokens)] => token_ids(tokens),
            [Value::String(_) | Value::Array(_), ..] => {
                let reason = "one prompt per call";
                Err(ApiError::Unsupported { param: "prompt".into(), reason })
            }
            tokens => token_ids(tokens),
        },
        _ => Err(wrong_type("prompt", expected, value)),
    }
}

fn token_ids(items: &[Value]) -> Result<Prompt, ApiError> {
    let tokens = items.iter().enumerate().map(|(at, item)| {
        let id = item.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| wrong_type(&format!("prompt[{at}]"), "a token id", item))
    });
    Ok(Prompt::Tokens(tokens.collect::<Result<_, _>>()?))
}

/// A fraction in millionths; the bounds were checked.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn micro(number: f64) -> u32 {
    (number * MICRO).round() as u32
}

/// The same with a sign.
#[allow(clippy::cast_possible_truncation)]
fn signed_micro(number: f64) -> i32 {
    (number * MICRO).round() as i32
}

fn sampling(fields: &Fields<'_>) -> Result<(Sampling, bool), ApiError> {
    let temperature = fields.number("temperature", 0.0, 2.0)?.unwrap_or(1.0);
    let top_p = fields.number("top_p", 0.0, 1.0)?.unwrap_or(1.0);
    let min_p = fields.number("min_p", 0.0, 1.0)?.unwrap_or(0.0);
    let top_k = fields.integer("top_k", 0, i64::from(u32::MAX))?.unwrap_or(0);
    let presence = fields.number("presence_penalty", -2.0, 2.0)?.unwrap_or(0.0);
    let frequency = fields.number("frequency_penalty", -2.0, 2.0)?.unwrap_or(0.0);
    let (least, most) = (f64::from(MIN_REPETITION_MICRO) / MICRO, f64::from(MAX_REPETITION_MICRO) / MICRO);
    let repetition = fields.number("repetition_penalty", least, most)?.unwrap_or(1.0);
    let window = fields.integer("penalty_window", 0, i64::from(u32::MAX))?.unwrap_or(0);
    let seed = fields.integer("seed", i64::MIN, i64::MAX)?;
    let sampling = Sampling {
        temperature_micro: micro(temperature),
        top_k: u32::try_from(top_k).unwrap_or(0),
        // The best token always stays.
        top_p_micro: micro(top_p).max(1),
        min_p_micro: micro(min_p),
        repetition_micro: micro(repetition),
        presence_micro: signed_micro(presence),
        frequency_micro: signed_micro(frequency),
        penalty_window: u32::try_from(window).unwrap_or(0),
        seed: seed.unwrap_or(0).cast_unsigned(),
    };
    Ok((sampling, seed.is_some()))
}

fn max_tokens(kind: Kind, fields: &Fields<'_>) -> Result<Option<u32>, ApiError> {
    let bound = i64::from(u32::MAX);
    let newer = fields.integer("max_completion_tokens", 1, bound)?;
    let older = fields.integer("max_tokens", 1, bound)?;
    if let (Some(newer), Some(older)) = (newer, older)
        && newer != older
    {
        let expected = format!("the same as `max_completion_tokens` ({newer}), or absent");
        return Err(ApiError::Range { param: "max_tokens".into(), expected, found: older.to_string() });
    }
    let given = newer.or(older).and_then(|tokens| u32::try_from(tokens).ok());
    Ok(given.or((kind == Kind::Text).then_some(DEFAULT_TEXT_TOKENS)))
}

fn stop(fields: &Fields<'_>) -> Result<Vec<String>, ApiError> {
    let stops = match fields.value("stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) => {
            let texts = items.iter().enumerate().map(|(at, item)| {
                let wrong = || wrong_type(&format!("stop[{at}]"), "a string", item);
                item.as_str().map(str::to_owned).ok_or_else(wrong)
            });
            texts.collect::<Result<Vec<_>, _>>()?
        }
        Some(other) => return Err(wrong_type("stop", "a string or an array of strings", other)),
    };
    let bad = stops.len() > MAX_STOPS || stops.iter().any(|s| s.is_empty() || s.len() > MAX_STOP_BYTES);
    if bad {
        let expected = format!("at most {MAX_STOPS} texts of 1 to {MAX_STOP_BYTES} bytes");
        let longest = stops.iter().map(String::len).max().unwrap_or(0);
        let found = format!("{} texts, the longest of {longest} bytes", stops.len());
        return Err(ApiError::Range { param: "stop".into(), expected, found });
    }
    Ok(stops)
}

fn streaming(fields: &Fields<'_>) -> Result<(bool, bool), ApiError> {
    let stream = fields.bool("stream")?.unwrap_or(false);
    let Some(options) = fields.value("stream_options") else { return Ok((stream, false)) };
    let map = options.as_object().ok_or_else(|| wrong_type("stream_options", "an object", options))?;
    if !stream {
        let (expected, found) = ("absent unless `stream` is true".to_owned(), "present".to_owned());
        return Err(ApiError::Range { param: "stream_options".into(), expected, found });
    }
    let usage = match map.get("include_usage") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(usage)) => *usage,
        Some(other) => return Err(wrong_type("stream_options.include_usage", "a boolean", other)),
    };
    Ok((stream, usage))
}

#[cfg(test)]
mod tests;
