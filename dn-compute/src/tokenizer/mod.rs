//! Text to token ids and back.

mod bpe;
pub(crate) mod definition;
mod error;
#[cfg(test)]
mod hard;
mod json;
pub(crate) mod special;
mod stream;

#[cfg(test)]
pub(crate) mod tests;

use dn_core::Hash32;

pub use error::{TokenizerError, TokenizerFault};
pub use stream::TextStream;

use crate::formats::gguf::Metadata;
use definition::{Definition, TokenKind, TokenizerSource};
use json::Strip;
use special::{Matcher, Part};

/// Most white-space characters in a row. `fancy-regex` keeps a place to come back to for each, a million at most.
const MAX_BLANKS: usize = 500_000;

/// The tokenizer of a model.
///
/// From GGUF: byte-pair vocabularies (`gpt2`, split as `gpt-2`, `llama-bpe`, `qwen2`, `smollm` or `tekken`) and
/// SentencePiece vocabularies (`llama`). From `tokenizer.json`: byte pairs and WordPiece. A file without a tokenizer gives one that encodes nothing and decodes to nothing.
#[derive(Debug)]
pub struct Tokenizer {
    machine: Option<tokenizers::Tokenizer>,
    /// For text behind a control token, where that is encoded in another way than the beginning.
    later: Option<tokenizers::Tokenizer>,
    /// The bytes of all tokens, one after another.
    bytes: Vec<u8>,
    /// Where each token's bytes end.
    ends: Vec<usize>,
    control: Matcher,
    strips: Vec<Strip>,
    user_defined: Matcher,
    /// Whether texts are split by a pattern.
    splits: bool,
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
        Self::from_definition(&Definition::from_metadata(metadata)?)
    }

    /// A tokenizer that encodes nothing and decodes to nothing.
    pub(crate) fn none() -> Self {
        Self::from_definition(&Definition::none()).expect("a definition of nothing is whole")
    }

    /// Builds the tokenizer again from what a package keeps of it.
    pub(crate) fn from_source(source: &TokenizerSource) -> Result<Self, TokenizerError> {
        match source {
            TokenizerSource::None {} => Ok(Self::none()),
            TokenizerSource::Gguf { definition } => {
                definition.check()?;
                Self::from_definition(definition)
            }
            TokenizerSource::Json { start, text } => Self::from_json_with_start(text, *start),
        }
    }

    /// Builds the tokenizer of a checked definition.
    pub(crate) fn from_definition(def: &Definition) -> Result<Self, TokenizerError> {
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(def.tokens.len()));
        for token in 0..def.tokens.len() {
            bytes.extend(bpe::token_bytes(def, token));
            ends.push(bytes.len());
        }
        let of_kind = |kind| {
            let tokens = def.tokens.iter().enumerate();
            tokens.filter(move |(id, _)| def.kind(*id) == kind).map(|(id, t)| (t.as_str(), id as u32))
        };
        let machine = if def.tokens.is_empty() { None } else { Some(bpe::machine(def)?) };
        let missing = match &machine {
            Some(machine) if def.model == "gpt2" => (0..=255u8)
                .filter(|b| machine.token_to_id(bpe::alphabet_char(*b).encode_utf8(&mut [0; 4])).is_none())
                .collect(),
            _ => Vec::new(),
        };
        Ok(Self {
            bytes,
            ends,
            later: None,
            control: Matcher::new(of_kind(TokenKind::Control).filter(|(text, _)| special::is_long(text)))?,
            strips: Vec::new(),
            user_defined: Matcher::new(of_kind(TokenKind::UserDefined))?,
            splits: def.model == "gpt2",
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
    /// [`TokenizerError::Absent`], [`TokenizerError::Byte`], [`TokenizerError::Blanks`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let machine = self.machine.as_ref().ok_or(TokenizerError::Absent)?;
        let mut out = Vec::new();
        self.encode_with(machine, text, &mut out)?;
        Ok(out)
    }

    /// Token ids of plain text between the tokens that `tokenizer.json` puts around a single text (`[CLS]` and `[SEP]` of
    /// an encoder), the text cut so that all are at most `limit`. Without such a rule, as [`encode`](Self::encode), cut.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_marked(&self, text: &str, limit: usize) -> Result<Vec<u32>, TokenizerError> {
        use tokenizers::PostProcessor;
        let machine = self.machine.as_ref().ok_or(TokenizerError::Absent)?;
        self.check_text(text)?;
        let mut encoding = machine.encode(text, false).map_err(TokenizerFault::new)?;
        let Some(processor) = machine.get_post_processor() else {
            return Ok(encoding.get_ids()[..encoding.len().min(limit)].to_vec());
        };
        let room = limit.saturating_sub(processor.added_tokens(false));
        encoding.truncate(room, 0, tokenizers::TruncationDirection::Right);
        let marked = processor.process(encoding, None, true).map_err(TokenizerFault::new)?;
        Ok(marked.get_ids()[..marked.len().min(limit)].to_vec())
    }

    /// Token ids of a template's text: control tokens written out in it are meant.
    ///
    /// `blind` is a character that stands inside text of a user wherever that text would otherwise complete a control
    /// token; it is taken out again.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub(crate) fn encode_template(&self, text: &str, blind: char) -> Result<Vec<u32>, TokenizerError> {
        let first = self.machine.as_ref().ok_or(TokenizerError::Absent)?;
        let later = self.later.as_ref().unwrap_or(first);
        let parts = self.control.split(text);
        let strip = |part: Option<&Part<'_>>, side: fn(&Strip) -> bool| match part {
            Some(Part::Token(id)) => self.strips.iter().any(|s| s.token == *id && side(s)),
            _ => false,
        };
        let mut out = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let part = match part {
                Part::Token(id) => {
                    out.push(*id);
                    continue;
                }
                Part::Text(part) => part.replace(blind, ""),
            };
            let before = index.checked_sub(1).and_then(|i| parts.get(i));
            let mut part = part.as_str();
            if strip(before, |s| s.right) {
                part = part.trim_start();
            }
            if strip(parts.get(index + 1), |s| s.left) {
                part = part.trim_end();
            }
            self.encode_with(if index == 0 { first } else { later }, part, &mut out)?;
        }
        Ok(out)
    }

    /// The control token with this text, if there is one.
    pub fn control_token(&self, text: &str) -> Option<u32> {
        self.control.id(text)
    }

    pub(crate) const fn control(&self) -> &Matcher {
        &self.control
    }

    fn encode_with(
        &self,
        machine: &tokenizers::Tokenizer,
        text: &str,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        for part in self.user_defined.split(text) {
            let part = match part {
                Part::Token(id) => {
                    out.push(id);
                    continue;
                }
                Part::Text(part) => part,
            };
            self.check_text(part)?;
            let encoding = machine.encode_fast(part, false).map_err(TokenizerFault::new)?;
            out.extend_from_slice(encoding.get_ids());
        }
        Ok(())
    }

    /// Refuses bytes without a token, and runs of white space that the splitting patterns do not get through: the crate
    /// takes the rest of such a text for one word and says nothing.
    fn check_text(&self, text: &str) -> Result<(), TokenizerError> {
        if let Some(byte) = text.bytes().find(|b| self.missing.contains(b)) {
            return Err(TokenizerError::Byte { byte });
        }
        if !self.splits {
            return Ok(());
        }
        let mut run = 0;
        for c in text.chars() {
            run = if c.is_whitespace() { run + 1 } else { 0 };
            if run > MAX_BLANKS {
                return Err(TokenizerError::Blanks { limit: MAX_BLANKS });
            }
        }
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
