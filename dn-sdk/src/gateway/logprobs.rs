//! Log-probabilities in the shapes of the OpenAI API.

use dn_compute::{ModelFront, Tokenizer};
use dn_core::objects::{TokenLogprob, TokenLogprobs};
use serde_json::{Map, Value, json};

use super::parse::Kind;
use super::render::Shown;

/// The shape of a call's kind. The token that ends an answer has no text and is left out.
pub(crate) fn shape(kind: Kind, front: &ModelFront, shown: Shown<'_>) -> Value {
    let ends = |one: &&TokenLogprobs| front.stop_tokens().binary_search(&one.chosen.token).is_err();
    let entries: Vec<&TokenLogprobs> = shown.logprobs.iter().filter(ends).collect();
    match kind {
        Kind::Chat => chat(front.tokenizer(), &entries),
        Kind::Text => text(front.tokenizer(), &entries, shown.offset),
    }
}

fn chat(tokenizer: &Tokenizer, entries: &[&TokenLogprobs]) -> Value {
    let one = |one: &TokenLogprob| {
        let bytes = tokenizer.token_bytes(one.token);
        json!({ "token": name(tokenizer, one.token), "logprob": number(one), "bytes": bytes })
    };
    let entry = |entry: &&TokenLogprobs| {
        let mut out = one(&entry.chosen);
        out["top_logprobs"] = entry.top.iter().map(one).collect();
        out
    };
    json!({ "content": entries.iter().map(entry).collect::<Vec<_>>(), "refusal": null })
}

fn text(tokenizer: &Tokenizer, entries: &[&TokenLogprobs], mut offset: usize) -> Value {
    let (mut tokens, mut numbers, mut tops, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for entry in entries {
        let text = name(tokenizer, entry.chosen.token);
        offsets.push(offset);
        offset += text.chars().count();
        tokens.push(text);
        numbers.push(number(&entry.chosen));
        let mut top = Map::new();
        // Different tokens can have one name; the likelier one counts.
        for one in entry.top.iter().chain([&entry.chosen]) {
            top.entry(name(tokenizer, one.token)).or_insert_with(|| json!(number(one)));
        }
        tops.push(Value::Object(top));
    }
    json!({ "tokens": tokens, "token_logprobs": numbers, "top_logprobs": tops, "text_offset": offsets })
}

/// A token's text; bytes that are no UTF-8 by themselves come out as U+FFFD, and are told apart by `bytes`.
fn name(tokenizer: &Tokenizer, token: u32) -> String {
    String::from_utf8_lossy(tokenizer.token_bytes(token)).into_owned()
}

/// Exact: below 2^53 times a power of two.
#[allow(clippy::cast_precision_loss)]
fn number(one: &TokenLogprob) -> f64 {
    one.logprob_q24 as f64 / f64::from(1 << 24)
}
