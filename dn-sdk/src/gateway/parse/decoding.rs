//! Biases, log-probabilities and grammars of a request body.
//!
//! Beside OpenAI's fields those of other servers are taken: `banned_tokens`, and `guided_json`, `guided_regex`, `guided_choice`
//! and `guided_grammar` (Lark) for grammars.

use dn_core::objects::sampling::{MAX_GRAMMAR_BYTES, MAX_LISTED_TOKENS, MAX_TOP_LOGPROBS};
use dn_core::objects::{Decoding, Grammar, TokenBias};
use serde_json::{Value, json};

use super::{Fields, Kind, signed_micro, wrong_type};
use crate::gateway::error::ApiError;

/// The settings, and the field that the grammar came from.
pub(super) fn decoding(kind: Kind, fields: &Fields<'_>) -> Result<(Decoding, &'static str), ApiError> {
    let (grammar, param) = grammar(fields)?;
    let found = grammar.text().len();
    if found > MAX_GRAMMAR_BYTES {
        let expected = format!("a grammar of at most {MAX_GRAMMAR_BYTES} bytes");
        return Err(ApiError::Range { param: param.into(), expected, found: format!("{found} bytes") });
    }
    let decoding =
        Decoding { bias: bias(fields)?, banned: banned(fields)?, grammar, logprobs: logprobs(kind, fields)? };
    Ok((decoding, param))
}

fn too_many(param: &str, found: usize) -> ApiError {
    let expected = format!("at most {MAX_LISTED_TOKENS} tokens");
    ApiError::Range { param: param.into(), expected, found: format!("{found} tokens") }
}

fn bias(fields: &Fields<'_>) -> Result<Vec<TokenBias>, ApiError> {
    let Some(value) = fields.value("logit_bias") else { return Ok(Vec::new()) };
    let map = value.as_object().ok_or_else(|| wrong_type("logit_bias", "an object", value))?;
    if map.len() > MAX_LISTED_TOKENS {
        return Err(too_many("logit_bias", map.len()));
    }
    let mut out = Vec::with_capacity(map.len());
    for (token, value) in map {
        let range = |expected: &str, found: String| {
            let expected = expected.to_owned();
            Err(ApiError::Range { param: "logit_bias".into(), expected, found })
        };
        let Some(id) = token.parse::<u32>().ok().filter(|id| id.to_string() == *token) else {
            let shown: String = token.chars().take(32).collect();
            return range("token ids as keys", format!("`{shown}`"));
        };
        match value.as_f64() {
            None => return Err(wrong_type("logit_bias", "numbers as values", value)),
            Some(bias) if !(-100.0..=100.0).contains(&bias) => {
                return range("numbers from -100 to 100", value.to_string());
            }
            Some(bias) => out.push(TokenBias { token: id, bias_micro: signed_micro(bias) }),
        }
    }
    out.sort_unstable();
    Ok(out)
}

fn banned(fields: &Fields<'_>) -> Result<Vec<u32>, ApiError> {
    let Some(value) = fields.value("banned_tokens") else { return Ok(Vec::new()) };
    let wrong = |value: &Value| wrong_type("banned_tokens", "an array of token ids", value);
    let list = value.as_array().ok_or_else(|| wrong(value))?;
    if list.len() > MAX_LISTED_TOKENS {
        return Err(too_many("banned_tokens", list.len()));
    }
    let id = |item: &Value| item.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| wrong(item));
    let mut tokens = list.iter().map(id).collect::<Result<Vec<_>, _>>()?;
    tokens.sort_unstable();
    tokens.dedup();
    Ok(tokens)
}

/// A chat says whether and how many, a plain completion how many.
fn logprobs(kind: Kind, fields: &Fields<'_>) -> Result<Option<u8>, ApiError> {
    let most = i64::from(MAX_TOP_LOGPROBS);
    let count = |name| {
        let count = fields.integer(name, 0, most)?;
        Ok::<_, ApiError>(count.and_then(|n| u8::try_from(n).ok()))
    };
    if kind == Kind::Text {
        return count("logprobs");
    }
    let (wanted, top) = (fields.bool("logprobs")?.unwrap_or(false), count("top_logprobs")?);
    if !wanted && top.is_some_and(|top| top > 0) {
        let expected = "absent unless `logprobs` is true".to_owned();
        return Err(ApiError::Range { param: "top_logprobs".into(), expected, found: "present".into() });
    }
    Ok(wanted.then(|| top.unwrap_or(0)))
}

fn grammar(fields: &Fields<'_>) -> Result<(Grammar, &'static str), ApiError> {
    let text = |param: &'static str| {
        let Some(value) = fields.value(param) else { return Ok(None) };
        value.as_str().map(|text| Some(text.to_owned())).ok_or_else(|| wrong_type(param, "a string", value))
    };
    let candidates = [
        (response_format(fields)?, "response_format"),
        (guided_json(fields)?, "guided_json"),
        (text("guided_regex")?.map(|pattern| Grammar::Regex { pattern }), "guided_regex"),
        (guided_choice(fields)?, "guided_choice"),
        (text("guided_grammar")?.map(|grammar| Grammar::Lark { grammar }), "guided_grammar"),
    ];
    let mut given = candidates.into_iter().filter_map(|(grammar, param)| grammar.map(|g| (g, param)));
    let first = given.next().unwrap_or((Grammar::None, "response_format"));
    match given.next() {
        None => Ok(first),
        Some((_, param)) => {
            let expected = format!("absent beside `{}`", first.1);
            Err(ApiError::Range { param: param.into(), expected, found: "present".into() })
        }
    }
}

fn response_format(fields: &Fields<'_>) -> Result<Option<Grammar>, ApiError> {
    let param = "response_format";
    let Some(value) = fields.value(param) else { return Ok(None) };
    let map = value.as_object().ok_or_else(|| wrong_type(param, "an object", value))?;
    let kind_param = "response_format.type";
    let kind = map.get("type").ok_or_else(|| ApiError::Missing { param: kind_param.into() })?;
    match kind.as_str().ok_or_else(|| wrong_type(kind_param, "a string", kind))? {
        "text" => Ok(None),
        "json_object" => Ok(Some(Grammar::JsonObject)),
        "json_schema" => {
            let param = "response_format.json_schema";
            let inner = map.get("json_schema").ok_or_else(|| ApiError::Missing { param: param.into() })?;
            let inner = inner.as_object().ok_or_else(|| wrong_type(param, "an object", inner))?;
            let param = "response_format.json_schema.schema";
            let schema = inner.get("schema").ok_or_else(|| ApiError::Missing { param: param.into() })?;
            Ok(Some(json_schema(param, schema)?))
        }
        other => {
            let expected = "`text`, `json_object` or `json_schema`".to_owned();
            let found = format!("`{}`", other.chars().take(64).collect::<String>());
            Err(ApiError::Range { param: kind_param.into(), expected, found })
        }
    }
}

fn json_schema(param: &str, schema: &Value) -> Result<Grammar, ApiError> {
    if !schema.is_object() {
        return Err(wrong_type(param, "an object", schema));
    }
    Ok(Grammar::JsonSchema { schema: schema.to_string() })
}

/// A schema, as JSON or as text.
fn guided_json(fields: &Fields<'_>) -> Result<Option<Grammar>, ApiError> {
    match fields.value("guided_json") {
        None => Ok(None),
        Some(Value::String(schema)) => Ok(Some(Grammar::JsonSchema { schema: schema.clone() })),
        Some(schema) => json_schema("guided_json", schema).map(Some),
    }
}

/// One of some texts: a Lark grammar of strings, which are written as JSON writes them.
fn guided_choice(fields: &Fields<'_>) -> Result<Option<Grammar>, ApiError> {
    let Some(value) = fields.value("guided_choice") else { return Ok(None) };
    let texts = value.as_array().filter(|list| !list.is_empty() && list.iter().all(Value::is_string));
    let texts = texts.ok_or_else(|| wrong_type("guided_choice", "a non-empty array of strings", value))?;
    let texts: Vec<String> = texts.iter().map(|text| json!(text).to_string()).collect();
    Ok(Some(Grammar::Lark { grammar: format!("start: {}", texts.join(" | ")) }))
}
