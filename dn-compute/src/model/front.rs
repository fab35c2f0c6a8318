//! The half of a model that text needs.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use dn_core::Hash32;
use dn_core::objects::Hyperparameters;

use super::layout::{self, Entry};
use super::source::{ModelBytes, Source};
use super::{ModelError, canonical_bytes, hyper, packed_bytes};
use crate::chat::{ChatError, ChatMessage, ChatTemplate};
use crate::formats::gguf::{Gguf, Metadata};
use crate::grammar::{Constrainer, GrammarError};
use crate::tokenizer::definition::special;
use crate::tokenizer::{TextStream, Tokenizer, TokenizerError};

/// Control tokens that end an answer in the families that are read here, whatever the file calls its end of text.
const END_TEXTS: [&str; 7] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
];

/// What text needs of a model: tokenizer, chat template, special tokens and sizes. No weights.
#[derive(Debug)]
pub struct ModelFront {
    name: Option<String>,
    architecture: String,
    hyper: Hyperparameters,
    tokenizer: Arc<Tokenizer>,
    chat: Option<ChatTemplate>,
    bos: Option<u32>,
    stop_tokens: Vec<u32>,
    /// Bytes of all tensors in canonical form, and of the largest one with its bytes in the file.
    weight_bytes: u64,
    packed_bytes: u64,
    largest_tensor_bytes: u64,
    /// Made when the first grammar asks for it.
    constrainer: OnceLock<Result<Constrainer, GrammarError>>,
}

impl ModelFront {
    /// Reads the header of a GGUF file.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        Self::from_header(&Source::open(path)?.header()?).map(|(front, _)| front)
    }

    /// Reads the header of a GGUF file in memory.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn from_bytes(bytes: impl Into<ModelBytes>) -> Result<Self, ModelError> {
        Self::from_header(&Source::Memory(bytes.into()).header()?).map(|(front, _)| front)
    }

    /// The front and the tensors of the model, all checked but for their values.
    pub(super) fn from_header(gguf: &Gguf) -> Result<(Self, Vec<Entry>), ModelError> {
        let (architecture, hyper) = hyper::read(gguf)?;
        let entries = layout::entries(gguf, &architecture, &hyper)?;
        let meta = &gguf.metadata;
        let tokenizer = Tokenizer::from_metadata(meta)?;
        if tokenizer.vocabulary() > hyper.vocabulary as usize {
            return Err(ModelError::Vocabulary { tokens: tokenizer.vocabulary(), rows: hyper.vocabulary });
        }
        let vocabulary = hyper.vocabulary as usize;
        let bos = special(meta, "bos", vocabulary)?;
        let eos = special(meta, "eos", vocabulary)?;
        let front = Self {
            name: meta.string("general.name")?.map(str::to_owned),
            chat: chat_template(meta, bos, eos)?,
            stop_tokens: stop_tokens(meta, &tokenizer, eos, vocabulary)?,
            tokenizer: Arc::new(tokenizer),
            architecture,
            hyper,
            bos,
            packed_bytes: entries.iter().map(packed_bytes).sum(),
            weight_bytes: entries.iter().map(canonical_bytes).sum(),
            largest_tensor_bytes: entries.iter().map(|e| canonical_bytes(e) + e.info.size).max().unwrap_or(0),
            constrainer: OnceLock::new(),
        };
        Ok((front, entries))
    }

    /// The name that the file gives, if any.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The architecture as GGUF names it.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Sizes and constants.
    pub const fn hyperparameters(&self) -> &Hyperparameters {
        &self.hyper
    }

    /// Most positions.
    pub const fn context(&self) -> u32 {
        self.hyper.context
    }

    /// Number of token ids.
    pub const fn vocabulary(&self) -> u32 {
        self.hyper.vocabulary
    }

    /// Bytes that the weights take in canonical form. A backend's own form takes about as much.
    ///
    /// # Units
    /// Bytes.
    pub const fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Bytes that the weights take in a backend's form at most: whole groups of rows and blocks, and a scale for each row.
    pub(crate) const fn packed_bytes(&self) -> u64 {
        self.packed_bytes
    }

    /// Bytes of the largest tensor while it is loaded: as in the file, and in canonical form.
    ///
    /// # Units
    /// Bytes.
    pub const fn largest_tensor_bytes(&self) -> u64 {
        self.largest_tensor_bytes
    }

    /// Bytes that keys and values take for one position of one request.
    ///
    /// # Units
    /// Bytes.
    pub fn kv_bytes_per_position(&self) -> u64 {
        let h = &self.hyper;
        // Two vectors of 16-bit integers, each under one exponent.
        u64::from(h.layers) * u64::from(h.kv_heads) * (u64::from(h.head_size) * 4 + 8)
    }

    /// The token that starts a text, if the file names one.
    pub const fn bos_token(&self) -> Option<u32> {
        self.bos
    }

    /// Tokens that end generation, ascending.
    pub fn stop_tokens(&self) -> &[u32] {
        &self.stop_tokens
    }

    /// The tokenizer.
    pub const fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// The chat template, if the file has one.
    pub const fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat.as_ref()
    }

    /// BLAKE3 of the chat template's bytes; zero when the file has none.
    pub(super) fn chat_template_hash(&self) -> Hash32 {
        self.chat.as_ref().map_or(Hash32::ZERO, ChatTemplate::hash)
    }

    /// What turns grammars into allowed tokens.
    pub(crate) fn constrainer(&self) -> Result<&Constrainer, GrammarError> {
        let make = || Constrainer::new(&self.tokenizer, self.hyper.vocabulary, &self.stop_tokens);
        self.constrainer.get_or_init(make).as_ref().map_err(Clone::clone)
    }

    /// The prompt for a chat, up to where the model answers.
    ///
    /// The template writes the token that starts a text itself, or wants none; nothing is added.
    ///
    /// # Errors
    /// [`ChatError`].
    pub fn chat_prompt(&self, messages: &[ChatMessage]) -> Result<Vec<u32>, ChatError> {
        self.chat.as_ref().ok_or(ChatError::Missing)?.prompt(messages, &self.tokenizer)
    }

    /// The prompt for plain text, with the token that starts a text where the model wants it.
    ///
    /// # Errors
    /// [`TokenizerError`].
    pub fn text_prompt(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut tokens: Vec<u32> = self.tokenizer.text_start().into_iter().collect();
        tokens.extend(self.tokenizer.encode(text)?);
        Ok(tokens)
    }

    /// A decoder for one generated answer that ends before the first of these texts.
    pub fn text_stream(&self, stop: &[String]) -> TextStream {
        TextStream::new(Arc::clone(&self.tokenizer), stop)
    }
}

fn chat_template(
    meta: &Metadata,
    bos: Option<u32>,
    eos: Option<u32>,
) -> Result<Option<ChatTemplate>, ModelError> {
    let Some(source) = meta.string("tokenizer.chat_template")? else { return Ok(None) };
    let tokens = meta.strings("tokenizer.ggml.tokens")?.unwrap_or_default();
    let text = |id: Option<u32>| id.and_then(|id| tokens.get(id as usize)).map_or("", String::as_str);
    Ok(Some(ChatTemplate::new(source, text(bos), text(eos))?))
}

fn stop_tokens(
    meta: &Metadata,
    tokenizer: &Tokenizer,
    eos: Option<u32>,
    vocabulary: usize,
) -> Result<Vec<u32>, ModelError> {
    let mut tokens: Vec<u32> = eos.into_iter().collect();
    tokens.extend(special(meta, "eot", vocabulary)?);
    tokens.extend(special(meta, "eom", vocabulary)?);
    tokens.extend(END_TEXTS.iter().filter_map(|text| tokenizer.control_token(text)));
    tokens.sort_unstable();
    tokens.dedup();
    Ok(tokens)
}
