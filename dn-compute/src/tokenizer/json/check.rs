//! What a `tokenizer.json` may be made of.

use serde_json::Value;

use super::Strip;
use crate::tokenizer::TokenizerError;
use crate::tokenizer::special::MAX_TEXT_BYTES;

/// Longest word of WordPiece, in characters: its search is quadratic.
const MAX_WORD: u64 = 1000;
/// Longest text of one token.
const MAX_TOKEN_BYTES: usize = 1024;
/// Longest pattern of a split.
const MAX_PATTERN_BYTES: usize = 4096;
/// Deepest nesting of sequences.
const MAX_DEPTH: u32 = 4;
/// Most parts of one place in the pipeline, and most that all of them together lengthen a text: each may lengthen what
/// the one before it made. Normal forms, letter case and the like have limits of their own.
const MAX_PARTS: usize = 16;
const MAX_GROWTH: usize = 8;
/// Longest text that a normalizer puts in the place of another.
const MAX_CONTENT_BYTES: usize = 64;
/// Longest text of all that normalizers put before texts, which may be of one character.
const MAX_PREPENDED_BYTES: usize = 16;

const MODELS: &str = "BPE and WordPiece";
const NORMALIZERS: &[&str] = &[
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Lowercase",
    "StripAccents",
    "Strip",
    "Prepend",
    "Replace",
    "BertNormalizer",
];
const PRE_TOKENIZERS: &[&str] = &[
    "ByteLevel",
    "Split",
    "Digits",
    "Metaspace",
    "BertPreTokenizer",
    "Whitespace",
    "WhitespaceSplit",
    "Punctuation",
];
const POST_PROCESSORS: &[&str] = &["TemplateProcessing", "BertProcessing", "RobertaProcessing", "ByteLevel"];
const DECODERS: &str =
    "ByteLevel, Metaspace, WordPiece, and a sequence of Replace, ByteFallback, Fuse and Strip";

/// How tokens become bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoding {
    /// GPT-2's alphabet.
    Bytes,
    /// SentencePiece's; a text's first space may be one that encoding put there.
    Pieces { space_prefix: bool },
    /// Words, and parts that continue one behind `##`.
    WordPiece,
}

/// A token that is matched whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) id: u32,
    pub(super) content: String,
    pub(super) special: bool,
    /// Looked for in texts as the normalizer leaves them.
    pub(super) normalized: bool,
    left: bool,
    right: bool,
}

impl Added {
    /// What a control token takes of the text beside it.
    pub(super) fn strip(&self) -> Option<Strip> {
        let strip = Strip { token: self.id, left: self.left, right: self.right };
        (self.special && (self.left || self.right)).then_some(strip)
    }
}

/// What the file says, as far as it is not left to the crate.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) added: Vec<Added>,
    /// Whether texts are split by a pattern.
    pub(super) splits: bool,
    pub(super) decoding: Decoding,
    /// The token that a single text starts with.
    pub(super) start: Option<u32>,
}

/// Refuses what is not on the lists.
pub(super) fn file(file: &Value) -> Result<Checked, TokenizerError> {
    model(&file["model"])?;
    for (field, list, allowed) in [
        ("normalizer", "normalizers", NORMALIZERS),
        ("pre_tokenizer", "pretokenizers", PRE_TOKENIZERS),
        ("post_processor", "processors", POST_PROCESSORS),
    ] {
        let mut found = Vec::new();
        parts(field, &file[field], list, allowed, 0, &mut found)?;
        growth(field, &found)?;
    }
    templates(&file["post_processor"])?;
    let added = match &file["added_tokens"] {
        Value::Null => Vec::new(),
        Value::Array(tokens) => tokens.iter().map(added).collect::<Result<Vec<Added>, _>>()?,
        _ => return Err(TokenizerError::JsonField { field: "added_tokens", expected: "an array" }),
    };
    let found = added.iter().map(|token| token.content.len()).sum();
    if found > MAX_TEXT_BYTES {
        return Err(TokenizerError::AddedSize { found, limit: MAX_TEXT_BYTES });
    }
    let pre_tokenizer = file["pre_tokenizer"].to_string();
    let splits = ["\"Split\"", "\"ByteLevel\""].iter().any(|kind| pre_tokenizer.contains(kind));
    Ok(Checked {
        added,
        splits,
        decoding: decoding(&file["decoder"])?,
        start: start(&file["post_processor"]),
    })
}

fn kind(part: &Value) -> &str {
    part["type"].as_str().unwrap_or("none")
}

fn component(field: &'static str, found: &str, supported: impl Into<String>) -> TokenizerError {
    TokenizerError::Component { field, found: found.to_owned(), supported: supported.into() }
}

fn model(model: &Value) -> Result<(), TokenizerError> {
    let plain = |field: &'static str, value: &Value| match value {
        Value::Null => Ok(()),
        Value::String(text) if text.is_empty() => Ok(()),
        _ => Err(TokenizerError::JsonField { field, expected: "nothing" }),
    };
    match kind(model) {
        "BPE" => {
            // Chance has no place here.
            if model["dropout"].as_f64().is_some_and(|p| p != 0.0) {
                return Err(TokenizerError::JsonField { field: "model.dropout", expected: "nothing" });
            }
            plain("model.continuing_subword_prefix", &model["continuing_subword_prefix"])?;
            plain("model.end_of_word_suffix", &model["end_of_word_suffix"])?;
        }
        "WordPiece" => {
            if model["max_input_chars_per_word"].as_u64().is_some_and(|n| n > MAX_WORD) {
                let (field, expected) = ("model.max_input_chars_per_word", "at most 1000");
                return Err(TokenizerError::JsonField { field, expected });
            }
        }
        other => return Err(component("model", other, MODELS)),
    }
    let Value::Object(vocabulary) = &model["vocab"] else {
        return Err(TokenizerError::JsonField { field: "model.vocab", expected: "an object" });
    };
    for (text, id) in vocabulary {
        let token = usize::try_from(id.as_u64().unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        if text.len() > MAX_TOKEN_BYTES {
            return Err(TokenizerError::TokenLength { token, found: text.len(), limit: MAX_TOKEN_BYTES });
        }
    }
    Ok(())
}

/// A part, or a sequence of parts under the name `list`; those that are no sequence are added to `found`.
fn parts<'a>(
    field: &'static str,
    part: &'a Value,
    list: &str,
    allowed: &[&str],
    depth: u32,
    found: &mut Vec<&'a Value>,
) -> Result<(), TokenizerError> {
    if part.is_null() {
        return Ok(());
    }
    match kind(part) {
        "Sequence" if depth < MAX_DEPTH => {
            let Value::Array(inner) = &part[list] else {
                return Err(TokenizerError::JsonField { field, expected: "a sequence with its parts" });
            };
            inner.iter().try_for_each(|part| parts(field, part, list, allowed, depth + 1, found))
        }
        known if allowed.contains(&known) => {
            if found.len() == MAX_PARTS {
                return Err(TokenizerError::Parts { field, limit: MAX_PARTS });
            }
            found.push(part);
            pattern(field, part)
        }
        other => Err(component(field, other, format!("Sequence, {}", allowed.join(", ")))),
    }
}

/// Refuses parts that together make a text too long.
fn growth(field: &'static str, parts: &[&Value]) -> Result<(), TokenizerError> {
    let (mut product, mut prepended) = (1usize, 0);
    for part in parts {
        let bytes = |name: &str| part[name].as_str().map_or(0, str::len);
        product = product.saturating_mul(match kind(part) {
            "Replace" => {
                if bytes("content") > MAX_CONTENT_BYTES {
                    let expected = "replacements of at most 64 bytes";
                    return Err(TokenizerError::JsonField { field, expected });
                }
                match part["pattern"]["String"].as_str() {
                    Some(pattern) if !pattern.is_empty() => bytes("content").div_ceil(pattern.len()).max(1),
                    // An expression may match nothing, at every place.
                    _ => bytes("content") + 1,
                }
            }
            "Prepend" => {
                prepended += bytes("prepend");
                1
            }
            // A byte becomes a character of two bytes, and a word may get a space.
            "ByteLevel" if field == "pre_tokenizer" => 3,
            // A space becomes this, and a word may get one.
            "Metaspace" => bytes("replacement") + 1,
            _ => 1,
        });
        if product > MAX_GROWTH {
            return Err(TokenizerError::Growth { field, found: product, limit: MAX_GROWTH });
        }
        if prepended > MAX_PREPENDED_BYTES {
            let expected = "at most 16 bytes that are put before a text";
            return Err(TokenizerError::JsonField { field, expected });
        }
    }
    Ok(())
}

fn pattern(field: &'static str, part: &Value) -> Result<(), TokenizerError> {
    let text = part["pattern"]["Regex"].as_str().or(part["pattern"]["String"].as_str());
    match text {
        Some(text) if text.len() > MAX_PATTERN_BYTES => {
            Err(TokenizerError::JsonField { field, expected: "patterns of at most 4096 bytes" })
        }
        Some("") => Err(TokenizerError::JsonField { field, expected: "patterns that match something" }),
        _ => Ok(()),
    }
}

fn added(token: &Value) -> Result<Added, TokenizerError> {
    let flag = |name: &str| token[name].as_bool().unwrap_or(false);
    let id = token["id"].as_u64().and_then(|id| u32::try_from(id).ok());
    let (Some(id), Some(content)) = (id, token["content"].as_str()) else {
        let expected = "tokens with an id and a content";
        return Err(TokenizerError::JsonField { field: "added_tokens", expected });
    };
    if content.is_empty() || content.len() > MAX_TOKEN_BYTES {
        let (token, found) = (id as usize, content.len());
        return Err(TokenizerError::TokenLength { token, found, limit: MAX_TOKEN_BYTES });
    }
    if flag("special") && flag("single_word") {
        let expected = "no control token that is a single word only";
        return Err(TokenizerError::JsonField { field: "added_tokens", expected });
    }
    let (content, special) = (content.to_owned(), flag("special"));
    let normalized = token["normalized"].as_bool().unwrap_or(!special);
    Ok(Added { id, content, special, normalized, left: flag("lstrip"), right: flag("rstrip") })
}

fn decoding(decoder: &Value) -> Result<Decoding, TokenizerError> {
    match kind(decoder) {
        "ByteLevel" => Ok(Decoding::Bytes),
        "WordPiece" => Ok(Decoding::WordPiece),
        "Metaspace" => {
            let never = decoder["prepend_scheme"] == "never" || decoder["add_prefix_space"] == false;
            Ok(Decoding::Pieces { space_prefix: !never })
        }
        "Sequence" => {
            let steps = decoder["decoders"].as_array().map_or(&[][..], Vec::as_slice);
            let known = ["Replace", "ByteFallback", "Fuse", "Strip"];
            if let Some(other) = steps.iter().map(kind).find(|k| !known.contains(k)) {
                return Err(component("decoder", other, DECODERS));
            }
            let strips = |s: &&Value| kind(s) == "Strip" && s["start"].as_u64().is_some_and(|n| n > 0);
            Ok(Decoding::Pieces { space_prefix: steps.iter().any(|s| strips(&s)) })
        }
        other => Err(component("decoder", other, DECODERS)),
    }
}

/// Refuses templates that name what is not there: the crate looks it up without asking.
fn templates(processor: &Value) -> Result<(), TokenizerError> {
    if kind(processor) == "Sequence" {
        return processor["processors"].as_array().into_iter().flatten().try_for_each(templates);
    }
    if kind(processor) != "TemplateProcessing" {
        return Ok(());
    }
    for (field, name, texts) in
        [("post_processor.single", "single", &["A"][..]), ("post_processor.pair", "pair", &["A", "B"][..])]
    {
        let known = |piece: &Value| match (&piece["SpecialToken"]["id"], &piece["Sequence"]["id"]) {
            (Value::String(id), _) => processor["special_tokens"].get(id).is_some(),
            (_, Value::String(text)) => texts.contains(&text.as_str()),
            _ => false,
        };
        if !processor[name].as_array().is_some_and(|pieces| pieces.iter().all(known)) {
            let expected = "pieces whose special tokens are listed and whose texts are there";
            return Err(TokenizerError::JsonField { field, expected });
        }
    }
    Ok(())
}

/// The special token before a single text, where the post-processor puts one.
fn start(processor: &Value) -> Option<u32> {
    match kind(processor) {
        "Sequence" => processor["processors"].as_array()?.iter().find_map(start),
        "TemplateProcessing" => {
            let name = processor["single"].get(0)?["SpecialToken"]["id"].as_str()?;
            let ids = processor["special_tokens"][name]["ids"].as_array()?;
            u32::try_from(ids.first()?.as_u64()?).ok()
        }
        "BertProcessing" | "RobertaProcessing" => u32::try_from(processor["cls"][1].as_u64()?).ok(),
        _ => None,
    }
}
