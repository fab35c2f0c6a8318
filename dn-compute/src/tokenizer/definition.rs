//! What a file says about its tokenizer, checked, in one canonical form.

use dn_core::{Canonical, Hash32, blake3_256, canonical_enum, canonical_struct};

use super::TokenizerError;
use crate::formats::gguf::Metadata;

/// Longest token, in bytes.
const MAX_TOKEN_BYTES: usize = 1024;

/// Tokens of Llama 3 and of Qwen without those for control.
const LLAMA3_TOKENS: usize = 128_000;
const QWEN_TOKENS: usize = 151_643;

/// What a token is for, as GGUF numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Normal,
    Unknown,
    /// Steers the model: never made from a user's text.
    Control,
    /// Matched whole before the text is split.
    UserDefined,
    Unused,
    /// One byte, `<0x0A>`.
    Byte,
}

impl TokenKind {
    const fn from_id(id: u32) -> Option<Self> {
        Some(match id {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

/// Everything that decides how text becomes tokens and tokens text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    /// `gpt2`, `llama` or `none`.
    pub(crate) model: String,
    /// How text is split before byte pairs are merged; empty for `llama`.
    pub(crate) pre: String,
    pub(crate) tokens: Vec<String>,
    /// [`TokenKind`] as GGUF numbers it.
    pub(crate) kinds: Vec<u8>,
    /// Bits of the f32 scores; empty for `gpt2`.
    pub(crate) score_bits: Vec<u32>,
    /// Pairs, best first, each `left right`; empty for `llama`.
    pub(crate) merges: Vec<String>,
    /// Text after a control token gets a space before it (`llama`).
    pub(crate) space_prefix: bool,
    /// Token that starts a text, where texts are to have one.
    pub(crate) add_bos: Option<u32>,
}
canonical_struct!(Definition {
    model: String,
    pre: String,
    tokens: Vec<String>,
    kinds: Vec<u8>,
    score_bits: Vec<u32>,
    merges: Vec<String>,
    space_prefix: bool,
    add_bos: Option<u32>,
});

/// What a tokenizer is built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenizerSource {
    /// Nothing: the model has none.
    None {},
    /// The metadata of a GGUF file.
    Gguf { definition: Definition },
    /// A `tokenizer.json`, and the token that starts a text where the file itself names none.
    Json { start: Option<u32>, text: Vec<u8> },
}
canonical_enum!(TokenizerSource {
    0 => None {},
    1 => Gguf { definition: Definition },
    2 => Json { start: Option<u32>, text: Vec<u8> },
});

impl Definition {
    /// Reads the keys `tokenizer.ggml.*`.
    pub(crate) fn from_metadata(meta: &Metadata) -> Result<Self, TokenizerError> {
        let model = meta.string("tokenizer.ggml.model")?.unwrap_or("none");
        let (named, needs_scores) = match model {
            "gpt2" => (canonical_pre(meta.string("tokenizer.ggml.pre")?)?, false),
            "llama" => (Some(""), true),
            "none" | "no_vocab" => return Ok(Self::none()),
            other => return Err(TokenizerError::Model { found: other.to_owned() }),
        };
        let tokens = meta.strings("tokenizer.ggml.tokens")?;
        let tokens = meta.need("tokenizer.ggml.tokens", "an array of strings", tokens)?;
        check_tokens(tokens)?;
        let pre = named.unwrap_or_else(|| deduced_pre(tokens));
        let kinds = match meta.u32s("tokenizer.ggml.token_type")? {
            Some(kinds) => kinds,
            None => vec![1; tokens.len()],
        };
        check_kinds(tokens.len(), &kinds)?;
        let (mut score_bits, mut merges) = (Vec::new(), Vec::new());
        if needs_scores {
            let scores = meta.f32s("tokenizer.ggml.scores")?;
            let scores = meta.need("tokenizer.ggml.scores", "an array of f32", scores)?;
            score_bits = scores.iter().map(|s| s.to_bits()).collect();
        } else {
            let found = meta.strings("tokenizer.ggml.merges")?;
            merges = meta.need("tokenizer.ggml.merges", "an array of strings", found)?.to_vec();
        }
        let bos = special(meta, "bos", tokens.len())?;
        let add_bos = meta.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(needs_scores);
        let out = Self {
            model: model.to_owned(),
            pre: pre.to_owned(),
            tokens: tokens.to_vec(),
            kinds: kinds.iter().map(|k| *k as u8).collect(),
            score_bits,
            merges,
            space_prefix: needs_scores && meta.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true),
            add_bos: bos.filter(|_| add_bos),
        };
        out.check()?;
        Ok(out)
    }

    /// Whether the parts fit together, wherever they come from.
    pub(crate) fn check(&self) -> Result<(), TokenizerError> {
        let pre = match self.model.as_str() {
            "gpt2" => canonical_pre(Some(&self.pre))?.unwrap_or("gpt-2"),
            "llama" => "",
            "none" if *self == Self::none() => return Ok(()),
            other => return Err(TokenizerError::Model { found: other.to_owned() }),
        };
        if pre != self.pre {
            return Err(TokenizerError::Pre { found: self.pre.clone() });
        }
        check_tokens(&self.tokens)?;
        let kinds: Vec<u32> = self.kinds.iter().map(|k| u32::from(*k)).collect();
        check_kinds(self.tokens.len(), &kinds)?;
        if self.model == "llama" {
            check_len("tokenizer.ggml.scores", self.tokens.len(), self.score_bits.len())?;
            let finite = |bits: &u32| f32::from_bits(*bits).is_finite();
            if let Some(token) = self.score_bits.iter().position(|s| !finite(s)) {
                return Err(TokenizerError::Score { token });
            }
        }
        match self.add_bos {
            Some(found) if found as usize >= self.tokens.len() => {
                let key = "tokenizer.ggml.bos_token_id".to_owned();
                Err(TokenizerError::SpecialToken { key, found, vocabulary: self.tokens.len() })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn none() -> Self {
        Self {
            model: "none".to_owned(),
            pre: String::new(),
            tokens: Vec::new(),
            kinds: Vec::new(),
            score_bits: Vec::new(),
            merges: Vec::new(),
            space_prefix: false,
            add_bos: None,
        }
    }

    pub(crate) fn kind(&self, token: usize) -> TokenKind {
        TokenKind::from_id(self.kinds[token].into()).expect("checked when read")
    }

    /// BLAKE3 of the canonical bytes.
    pub(crate) fn hash(&self) -> Hash32 {
        Hash32(blake3_256(&[b"deepnode tokenizer v1\0", &self.to_bytes()]))
    }
}

/// The id of a special token such as `bos`, if the file names one.
pub(crate) fn special(meta: &Metadata, name: &str, vocabulary: usize) -> Result<Option<u32>, TokenizerError> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    match meta.u32(&key)? {
        Some(id) if id as usize >= vocabulary => {
            Err(TokenizerError::SpecialToken { key, found: id, vocabulary })
        }
        id => Ok(id),
    }
}

/// The canonical name of a way of splitting; nothing where a file names none.
fn canonical_pre(found: Option<&str>) -> Result<Option<&'static str>, TokenizerError> {
    match found {
        None | Some("default") => Ok(None),
        Some("gpt-2" | "gpt2") => Ok(Some("gpt-2")),
        Some("llama-bpe" | "llama3" | "llama-v3") => Ok(Some("llama-bpe")),
        Some("qwen2") => Ok(Some("qwen2")),
        Some("smollm") => Ok(Some("smollm")),
        Some("tekken") => Ok(Some("tekken")),
        Some(other) => Err(TokenizerError::Pre { found: other.to_owned() }),
    }
}

/// How a file splits text that does not say so, as those from before the key existed: Llama 3 and Qwen are known by the
/// size of their vocabularies and some of their tokens, all others split as GPT-2 does.
fn deduced_pre(tokens: &[String]) -> &'static str {
    let holds = |text: &str| tokens.iter().any(|token| token == text);
    if tokens.len() >= LLAMA3_TOKENS && holds("<|begin_of_text|>") {
        "llama-bpe"
    } else if tokens.len() >= QWEN_TOKENS && holds("<|im_start|>") && holds("<|endoftext|>") {
        "qwen2"
    } else {
        "gpt-2"
    }
}

fn check_tokens(tokens: &[String]) -> Result<(), TokenizerError> {
    if tokens.is_empty() {
        return Err(TokenizerError::Empty);
    }
    match tokens.iter().position(|t| t.len() > MAX_TOKEN_BYTES) {
        Some(token) => {
            let found = tokens[token].len();
            Err(TokenizerError::TokenLength { token, found, limit: MAX_TOKEN_BYTES })
        }
        None => Ok(()),
    }
}

fn check_kinds(tokens: usize, kinds: &[u32]) -> Result<(), TokenizerError> {
    check_len("tokenizer.ggml.token_type", tokens, kinds.len())?;
    match kinds.iter().position(|k| TokenKind::from_id(*k).is_none()) {
        Some(token) => Err(TokenizerError::Kind { token, found: kinds[token] }),
        None => Ok(()),
    }
}

fn check_len(key: &'static str, expected: usize, found: usize) -> Result<(), TokenizerError> {
    if expected == found { Ok(()) } else { Err(TokenizerError::Length { key, expected, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::gguf::{Gguf, GgufWriter};

    #[test]
    fn a_file_that_does_not_name_its_splitting_is_known_by_its_vocabulary() {
        let pre = |named: Option<&str>, count: usize, control: &[&str]| {
            let mut tokens: Vec<String> = (control.len()..count).map(|n| format!("t{n}")).collect();
            tokens.extend(control.iter().map(|text| (*text).to_owned()));
            let mut w = GgufWriter::new();
            w.string("tokenizer.ggml.model", "gpt2").strings("tokenizer.ggml.tokens", tokens);
            w.strings("tokenizer.ggml.merges", vec![]);
            if let Some(named) = named {
                w.string("tokenizer.ggml.pre", named);
            }
            let file = w.finish();
            let def = Definition::from_metadata(&Gguf::parse(&file).unwrap().metadata).unwrap();
            assert!(def.check().is_ok());
            def.pre
        };
        let (llama, qwen) = (&["<|begin_of_text|>"][..], &["<|im_start|>", "<|endoftext|>"][..]);
        for named in [None, Some("default")] {
            assert_eq!(pre(named, LLAMA3_TOKENS, llama), "llama-bpe");
            assert_eq!(pre(named, LLAMA3_TOKENS - 1, llama), "gpt-2");
            assert_eq!(pre(named, QWEN_TOKENS, qwen), "qwen2");
            assert_eq!(pre(named, QWEN_TOKENS - 1, qwen), "gpt-2");
            assert_eq!(pre(named, QWEN_TOKENS, &qwen[1..]), "gpt-2");
        }
        assert_eq!(pre(Some("gpt-2"), LLAMA3_TOKENS, llama), "gpt-2");
        assert_eq!(pre(Some("smollm"), QWEN_TOKENS, qwen), "smollm");
    }
}
