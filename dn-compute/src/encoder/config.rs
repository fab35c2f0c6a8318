//! Sizes and constants of an encoder, from `config.json` or from the metadata of a GGUF file.

use dn_core::objects::{EncoderHyperparameters, Pooling};
use serde_json::Value;

use super::EncoderError;
use crate::formats::gguf::Gguf;
use crate::spec::limits::{MAX_COLS, MAX_CONTEXT, MAX_HEAD_DIM, MAX_ROWS};

/// Most layers: beyond any model, and small enough to list the tensors of.
const MAX_LAYERS: u64 = 1024;

/// Reads `config.json` and, where there is one, the pooling's.
pub(super) fn from_json(
    config: &[u8],
    pooling: Option<&[u8]>,
) -> Result<EncoderHyperparameters, EncoderError> {
    let parse = |file, bytes| {
        serde_json::from_slice::<Value>(bytes).map_err(|source| EncoderError::Json { file, source })
    };
    let config = parse("config.json", config)?;
    let pooling = pooling.map(|bytes| parse("1_Pooling/config.json", bytes)).transpose()?;
    let architecture = config.get("model_type").and_then(Value::as_str).unwrap_or_default();
    if architecture != "bert" {
        return Err(EncoderError::Architecture { found: architecture.to_owned() });
    }
    only(&config, "hidden_act", "`gelu`", |v| v == "gelu", false)?;
    only(&config, "position_embedding_type", "`absolute`", |v| v == "absolute", true)?;
    only(&config, "is_decoder", "false", |v| v == false, true)?;
    only(&config, "add_cross_attention", "false", |v| v == false, true)?;
    let size = |key, most| size(key, most, config.get(key).and_then(Value::as_u64), || found(&config, key));
    let epsilon = config.get("layer_norm_eps").and_then(Value::as_f64).unwrap_or(1e-12);
    checked(EncoderHyperparameters {
        layers: size("num_hidden_layers", MAX_LAYERS)?,
        width: size("hidden_size", MAX_COLS as u64)?,
        heads: size("num_attention_heads", 4096)?,
        ffn_width: size("intermediate_size", MAX_COLS as u64)?,
        vocabulary: size("vocab_size", MAX_ROWS as u64)?,
        context: size("max_position_embeddings", MAX_CONTEXT as u64)?,
        token_types: size("type_vocab_size", MAX_ROWS as u64)?,
        norm_epsilon_bits: (epsilon as f32).to_bits(),
        pooling: pooling.map_or(Ok(Pooling::Mean), |pooling| pooling_of(&pooling))?,
    })
}

/// Reads the metadata of a GGUF file.
pub(super) fn from_gguf(gguf: &Gguf) -> Result<EncoderHyperparameters, EncoderError> {
    let meta = &gguf.metadata;
    let architecture = meta.string("general.architecture")?.unwrap_or_default();
    if architecture != "bert" {
        return Err(EncoderError::Architecture { found: architecture.to_owned() });
    }
    if meta.bool("bert.attention.causal")? == Some(true) {
        return Err(parameter("bert.attention.causal", "false", "true"));
    }
    let pooling = match meta.u32("bert.pooling_type")? {
        None | Some(1) => Pooling::Mean,
        Some(2) => Pooling::First,
        Some(other) => return Err(parameter("bert.pooling_type", "1 (mean) or 2 (first)", other)),
    };
    let size = |key: &'static str, most: u64, default: Option<u64>| {
        let value = meta.u32(key)?.map(u64::from).or(default);
        size(key, most, value, || value.map_or_else(|| "absent".to_owned(), |v| v.to_string()))
    };
    let rows = |name: &str| gguf.tensor(name).and_then(|t| t.shape.get(1).copied());
    let epsilon = meta.f32("bert.attention.layer_norm_epsilon")?.unwrap_or(1e-12);
    checked(EncoderHyperparameters {
        layers: size("bert.block_count", MAX_LAYERS, None)?,
        width: size("bert.embedding_length", MAX_COLS as u64, None)?,
        heads: size("bert.attention.head_count", 4096, None)?,
        ffn_width: size("bert.feed_forward_length", MAX_COLS as u64, None)?,
        vocabulary: size("bert.vocab_size", MAX_ROWS as u64, rows("token_embd.weight"))?,
        context: size("bert.context_length", MAX_CONTEXT as u64, None)?,
        token_types: size("tokenizer.ggml.token_type_count", MAX_ROWS as u64, rows("token_types.weight"))?,
        norm_epsilon_bits: epsilon.to_bits(),
        pooling,
    })
}

/// A `tokenizer.json` with the vocabulary of a GGUF file, whose word beginnings carry `▁` where the original marks the rest
/// of a word with `##`.
///
/// The file does not say whether texts are lower-cased. They are, unless a word of letters and digits would be changed by that: no
/// text would ever have it. Special tokens do not count, nor do others with signs, such as the `<S>` of uncased vocabularies.
pub(super) fn tokenizer_of(gguf: &Gguf) -> Result<Vec<u8>, EncoderError> {
    let meta = &gguf.metadata;
    let model = meta.string("tokenizer.ggml.model")?.unwrap_or_default();
    if model != "bert" {
        return Err(parameter("tokenizer.ggml.model", "bert", model));
    }
    let tokens: &[String] =
        meta.need("tokenizer.ggml.tokens", "strings", meta.strings("tokenizer.ggml.tokens")?)?;
    let special = |key: &'static str, alternative: &str| -> Result<(u32, &str), EncoderError> {
        let id = meta.u32(key)?.or(meta.u32(alternative)?);
        let id = meta.need(key, "an integer", id)?;
        let text = tokens.get(id as usize).ok_or_else(|| parameter(key, "the id of a token", id))?;
        Ok((id, text))
    };
    let (cls, cls_text) = special("tokenizer.ggml.cls_token_id", "tokenizer.ggml.bos_token_id")?;
    let (sep, sep_text) = special("tokenizer.ggml.seperator_token_id", "tokenizer.ggml.eos_token_id")?;
    let (unk, unk_text) = special("tokenizer.ggml.unknown_token_id", "tokenizer.ggml.unknown_token_id")?;
    let piece = |text: &str| match text.strip_prefix('\u{2581}') {
        Some(word) => word.to_owned(),
        None if bracketed(text) => text.to_owned(),
        None => format!("##{text}"),
    };
    let vocabulary: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, text)| (piece(text), id.into())).collect();
    if vocabulary.len() != tokens.len() {
        return Err(parameter("tokenizer.ggml.tokens", "texts that all differ", "one text twice"));
    }
    let added = |id: u32, content: &str| {
        serde_json::json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false})
    };
    let mark = |id: u32, text: &str| serde_json::json!({"id": text, "ids": [id], "tokens": [text]});
    let place = |text: &str| serde_json::json!({"SpecialToken": {"id": text, "type_id": 0}});
    let mut marks = serde_json::Map::new();
    marks.insert(cls_text.to_owned(), mark(cls, cls_text));
    marks.insert(sep_text.to_owned(), mark(sep, sep_text));
    let single =
        [place(cls_text), serde_json::json!({"Sequence": {"id": "A", "type_id": 0}}), place(sep_text)];
    let mut specials = vec![(cls, cls_text), (sep, sep_text), (unk, unk_text)];
    specials.sort_unstable();
    specials.dedup();
    let words = tokens.iter().filter(|text| specials.iter().all(|(_, special)| special != text));
    let words = words.map(|text| text.strip_prefix('\u{2581}').unwrap_or(text));
    let words = words.filter(|word| word.chars().all(char::is_alphanumeric));
    let lowercase = !words.flat_map(|text| text.chars()).any(|c| c.to_lowercase().ne([c]));
    let file = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": specials.iter().map(|(id, text)| added(*id, text)).collect::<Vec<_>>(),
        // Accents go where capitals go.
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": lowercase},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": marks},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": unk_text, "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary},
    });
    Ok(file.to_string().into_bytes())
}

/// Whether a token looks like `[MASK]`.
fn bracketed(text: &str) -> bool {
    text.starts_with('[') && text.ends_with(']') && text.len() > 2
}

/// Refuses a `tokenizer.json` whose parts of words are not marked as they are taken apart here.
pub(super) fn check_tokenizer(json: &[u8]) -> Result<(), EncoderError> {
    #[derive(serde::Deserialize)]
    struct File {
        model: Model,
    }
    #[derive(serde::Deserialize)]
    struct Model {
        #[serde(rename = "type")]
        kind: Option<String>,
        continuing_subword_prefix: Option<String>,
    }
    let file = serde_json::from_slice::<File>(json);
    let Model { kind, continuing_subword_prefix: prefix } =
        file.map_err(|source| EncoderError::Json { file: "tokenizer.json", source })?.model;
    match prefix {
        Some(prefix) if kind.as_deref() == Some("WordPiece") && prefix != "##" => {
            let found: String = prefix.chars().take(60).collect();
            Err(parameter("continuing_subword_prefix", "`##`", format!("`{found}`")))
        }
        _ => Ok(()),
    }
}

fn checked(h: EncoderHyperparameters) -> Result<EncoderHyperparameters, EncoderError> {
    if !h.width.is_multiple_of(h.heads) {
        return Err(parameter("attention heads", "a divisor of the width", h.heads));
    }
    let head = h.width / h.heads;
    if head as usize > MAX_HEAD_DIM || !head.is_multiple_of(2) {
        return Err(parameter("elements of a head", "even, 2 to 256", head));
    }
    let epsilon = f32::from_bits(h.norm_epsilon_bits);
    if !(f32::MIN_POSITIVE..=1.0).contains(&epsilon) {
        return Err(parameter("epsilon of the layer norm", "above 0 and at most 1", epsilon));
    }
    Ok(h)
}

fn pooling_of(config: &Value) -> Result<Pooling, EncoderError> {
    let modes = config.as_object().into_iter().flatten();
    let on: Vec<&str> = modes
        .filter(|(key, value)| key.starts_with("pooling_mode_") && **value == true)
        .map(|(key, _)| key.as_str())
        .collect();
    match on[..] {
        ["pooling_mode_mean_tokens"] => Ok(Pooling::Mean),
        ["pooling_mode_cls_token"] => Ok(Pooling::First),
        _ => Err(parameter("pooling_mode", "one of mean_tokens and cls_token", on.join(", "))),
    }
}

/// A whole number from 1 to `most`.
fn size(
    key: &'static str,
    most: u64,
    value: Option<u64>,
    found: impl Fn() -> String,
) -> Result<u32, EncoderError> {
    let fits = value.filter(|v| (1..=most).contains(v)).and_then(|v| u32::try_from(v).ok());
    fits.ok_or_else(|| {
        parameter(key, "a whole number above 0 within the limits of the numeric spec", found())
    })
}

fn only(
    config: &Value,
    key: &'static str,
    expected: &'static str,
    is: impl Fn(&Value) -> bool,
    optional: bool,
) -> Result<(), EncoderError> {
    match config.get(key) {
        None if optional => Ok(()),
        Some(value) if is(value) => Ok(()),
        _ => Err(parameter(key, expected, found(config, key))),
    }
}

/// What a JSON file says, cut short.
fn found(config: &Value, key: &str) -> String {
    config.get(key).map_or_else(|| "absent".to_owned(), |v| v.to_string().chars().take(60).collect())
}

pub(super) fn parameter(key: &'static str, expected: &'static str, found: impl ToString) -> EncoderError {
    EncoderError::Parameter { key, expected, found: found.to_string() }
}
