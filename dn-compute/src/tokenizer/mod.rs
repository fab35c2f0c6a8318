//! Text to token ids and back.

mod bpe;
pub(crate) mod definition;
pub(crate) mod special;
mod stream;

#[cfg(test)]
pub(crate) mod tests;

use dn_core::Hash32;

pub use stream::TextStream;

use crate::formats::gguf::{GgufError, Metadata};
use definition::{Definition, TokenKind};
use special::{Matcher, Part};

/// The tokenizer of a model file.
///
/// Byte-pair vocabularies (`gpt2`, split as `gpt-2`, `llama-bpe`, `qwen2` or `smollm`) and SentencePiece vocabularies
/// (`llama`). A file without a tokenizer gives one that encodes nothing and decodes to nothing.
#[derive(Debug)]
pub struct Tokenizer {
    machine: Option<tokenizers::Tokenizer>,
    /// The bytes of all tokens, one after another.
    bytes: Vec<u8>,
    /// Where each token's bytes end.
    ends: Vec<usize>,
    control: Matcher,
    user_defined: Matcher,
    /// For byte pairs: bytes that no token begins with; text with one cannot be encoded.
    missing: Vec<u8>,
    space_prefix: bool,
    add_bos: Option<u32>,
    hash: Hash32,
}

impl Tokenizer {
    /// Builds the tokenizer that a file describes.
    ///
    /// # Errors
    /// [`TokenizerError`].
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let def = Definition::from_metadata(metadata)?;
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(def.tokens.len()));
        for token in 0..def.tokens.len() {
            bytes.extend(bpe::token_bytes(&def, token));
            ends.push(bytes.len());
        }
        let of_kind = |kind| {
            let tokens = def.tokens.iter().enumerate();
            Matcher::new(
                tokens.filter(|(id, _)| def.kind(*id) == kind).map(|(id, t)| (t.as_str(), id as u32)),
            )
        };
        let machine = if def.tokens.is_empty() { None } else { Some(bpe::machine(&def)?) };
        let missing = match &machine {
            Some(machine) if def.model == "gpt2" => (0..=255u8)
                .filter(|b| machine.token_to_id(bpe::alphabet_char(*b).encode_utf8(&mut [0; 4])).is_none())
                .collect(),
            _ => Vec::new(),
        };
        Ok(Self {
            bytes,
            ends,
            control: of_kind(TokenKind::Control).without_single_characters(),
            user_defined: of_kind(TokenKind::UserDefined),
            missing,
            space_prefix: def.space_prefix,
            add_bos: def.add_bos,
            hash: def.hash(),
            machine,
        })
    }

    /// Number of token ids that have a text; 0 for a file without a tokenizer.
    pub fn vocabulary(&self) -> usize {
        self.ends.len()
    }

    /// BLAKE3 of the tokenizer's canonical bytes: vocabulary, kinds, scores, merges and settings.
    pub const fn hash(&self) -> Hash32 {
        self.hash
    }

    /// The token that plain text starts with, where the file wants one.
    pub const fn text_start(&self) -> Option<u32> {
        self.add_bos
    }

    /// Token ids of plain text. Nothing in it is taken for a control token, and none is added.
    ///
    /// # Errors
    /// [`TokenizerError::Absent`], [`TokenizerError::Byte`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let machine = self.machine.as_ref().ok_or(TokenizerError::Absent)?;
        let mut out = Vec::new();
        for part in self.user_defined.split(text) {
            match part {
                Part::Token(id) => out.push(id),
                Part::Text(part) => self.encode_part(machine, part, &mut out)?,
            }
        }
        Ok(out)
    }

    /// Token ids of a template's text: control tokens written out in it are meant.
    ///
    /// `blind` is a character that stands inside text of a user wherever that text would otherwise complete a control
    /// token; it is taken out again.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub(crate) fn encode_template(&self, text: &str, blind: char) -> Result<Vec<u32>, TokenizerError> {
        let mut out = Vec::new();
        for part in self.control.split(text) {
            match part {
                Part::Token(id) => out.push(id),
                Part::Text(part) => out.extend(self.encode(&part.replace(blind, ""))?),
            }
        }
        Ok(out)
    }

    /// The control token with this text, if there is one.
    pub fn control_token(&self, text: &str) -> Option<u32> {
        self.control.at_start(text.as_bytes()).filter(|(len, _)| *len == text.len()).map(|(_, id)| id)
    }

    pub(crate) const fn control(&self) -> &Matcher {
        &self.control
    }

    fn encode_part(
        &self,
        machine: &tokenizers::Tokenizer,
        text: &str,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        if let Some(at) = text.bytes().position(|b| self.missing.contains(&b)) {
            return Err(TokenizerError::Byte { byte: text.as_bytes()[at] });
        }
        let encoding = machine.encode_fast(text, false).map_err(TokenizerFault::new)?;
        out.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    /// The bytes that a token stands for; none for a control token or an id without a text.
    pub fn token_bytes(&self, token: u32) -> &[u8] {
        let token = token as usize;
        let Some(end) = self.ends.get(token) else { return &[] };
        let start = if token == 0 { 0 } else { self.ends[token - 1] };
        &self.bytes[start..*end]
    }

    /// The text of a whole token sequence; bytes that are no UTF-8 come out as U+FFFD.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|t| self.token_bytes(*t)).copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        match text.strip_prefix(' ') {
            Some(rest) if self.space_prefix => rest.to_owned(),
            _ => text.into_owned(),
        }
    }
}

/// Why text cannot be encoded or a tokenizer cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file holds no tokenizer.
    #[error("the model file holds no tokenizer; give token ids instead of text")]
    Absent,
    /// A byte that no token can stand for.
    #[error("no token stands for the byte 0x{byte:02x}")]
    Byte {
        /// The byte.
        byte: u8,
    },
    /// The metadata has a problem.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A kind of tokenizer that is not built here.
    #[error("`tokenizer.ggml.model` is `{found}`; supported are gpt2 and llama")]
    Model {
        /// The kind.
        found: String,
    },
    /// A way of splitting that is not known.
    #[error("`tokenizer.ggml.pre` is `{found}`; supported are gpt-2, llama-bpe, qwen2 and smollm")]
    Pre {
        /// The name.
        found: String,
    },
    /// No tokens.
    #[error("`tokenizer.ggml.tokens` is empty")]
    Empty,
    /// A token that is too long.
    #[error("token {token} has {found} bytes, at most {limit} allowed")]
    TokenLength {
        /// The token.
        token: usize,
        /// Its bytes.
        found: usize,
        /// The most allowed.
        limit: usize,
    },
    /// An array that does not have one element per token.
    #[error("`{key}` has {found} elements, expected one for each of {expected} tokens")]
    Length {
        /// The key.
        key: &'static str,
        /// Tokens.
        expected: usize,
        /// Elements.
        found: usize,
    },
    /// A kind of token that GGUF does not have.
    #[error("token {token} is of type {found}, expected 1 to 6")]
    Kind {
        /// The token.
        token: usize,
        /// Its type.
        found: u32,
    },
    /// A score that is not a number.
    #[error("the score of token {token} is not a finite number")]
    Score {
        /// The token.
        token: usize,
    },
    /// A special token that does not exist.
    #[error("`{key}` is {found}, but there are {vocabulary} tokens")]
    SpecialToken {
        /// The key.
        key: String,
        /// The id.
        found: u32,
        /// Number of tokens.
        vocabulary: usize,
    },
    /// A merge that is not two tokens.
    #[error("`tokenizer.ggml.merges`[{index}] is not two parts with a space between them")]
    Merge {
        /// Its index.
        index: usize,
    },
    /// Neither byte tokens nor an unknown token.
    #[error(
        "the vocabulary has neither 256 byte tokens nor an unknown token: not every text could be encoded"
    )]
    NoFallback,
    /// The merging machine refused.
    #[error(transparent)]
    Machine(#[from] TokenizerFault),
}

/// An error of the `tokenizers` crate.
#[derive(Debug, thiserror::Error)]
#[error("the tokenizer refused: {0}")]
pub struct TokenizerFault(#[source] tokenizers::Error);

impl TokenizerFault {
    fn new(error: tokenizers::Error) -> Self {
        Self(error)
    }
}
