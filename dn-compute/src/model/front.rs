//! The half of a model that text needs.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use dn_core::Hash32;
use dn_core::objects::Hyperparameters;

use super::layout::TensorSize;
use super::source::ModelBytes;
use super::{ModelError, open};
use crate::chat::{ChatError, ChatMessage, ChatTemplate};
use crate::grammar::{Constrainer, GrammarError};
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
    sizes: Vec<TensorSize>,
    /// Made when the first grammar asks for it.
    constrainer: OnceLock<Result<Constrainer, GrammarError>>,
}

/// A chat template and the texts of the tokens that start and end texts.
#[derive(Debug, Clone)]
pub(super) struct Chat {
    pub(super) source: String,
    pub(super) bos: String,
    pub(super) eos: String,
}

/// What a front is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) name: Option<String>,
    pub(super) architecture: String,
    pub(super) hyper: Hyperparameters,
    pub(super) tokenizer: Tokenizer,
    pub(super) chat: Option<Chat>,
    pub(super) bos: Option<u32>,
    /// Tokens that end an answer; those of well-known texts are added.
    pub(super) stops: Vec<u32>,
    pub(super) sizes: Vec<TensorSize>,
}

impl ModelFront {
    /// Reads everything of a model but its weights.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        Ok(open::path(path)?.front)
    }

    /// Reads everything but the weights of a GGUF file or a package in memory.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn from_bytes(bytes: impl Into<ModelBytes>) -> Result<Self, ModelError> {
        Ok(open::bytes(bytes.into())?.front)
    }

    /// Puts a front together from what a file says.
    pub(super) fn new(parts: Parts) -> Result<Self, ModelError> {
        let Parts { name, architecture, hyper, tokenizer, chat, bos, stops, sizes } = parts;
        let vocabulary = hyper.vocabulary as usize;
        if tokenizer.vocabulary() > vocabulary {
            return Err(ModelError::Vocabulary { tokens: tokenizer.vocabulary(), rows: hyper.vocabulary });
        }
        let mut stop_tokens = stops;
        if let Some(found) = bos.iter().chain(&stop_tokens).find(|id| **id as usize >= vocabulary) {
            let (key, found) = ("a special token".to_owned(), *found);
            return Err(TokenizerError::SpecialToken { key, found, vocabulary }.into());
        }
        stop_tokens.extend(END_TEXTS.iter().filter_map(|text| tokenizer.control_token(text)));
        stop_tokens.sort_unstable();
        stop_tokens.dedup();
        let chat = chat.map(|c| ChatTemplate::new(&c.source, &c.bos, &c.eos)).transpose()?;
        let (tokenizer, constrainer) = (Arc::new(tokenizer), OnceLock::new());
        Ok(Self { name, architecture, hyper, tokenizer, chat, bos, stop_tokens, sizes, constrainer })
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

    /// The sizes and constants, to be changed to what no file of a test can say.
    #[cfg(test)]
    pub(super) const fn hyperparameters_mut(&mut self) -> &mut Hyperparameters {
        &mut self.hyper
    }

    /// Most positions.
    pub const fn context(&self) -> u32 {
        self.hyper.context
    }

    /// Number of token ids.
    pub const fn vocabulary(&self) -> u32 {
        self.hyper.vocabulary
    }

    /// Bytes that the weights take in canonical form. What a backend holds is told by
    /// [`MemoryNeed`](crate::MemoryNeed): weights of four bits take about half as much there.
    ///
    /// # Units
    /// Bytes.
    pub fn weight_bytes(&self) -> u64 {
        self.sizes.iter().map(|tensor| tensor.canonical_bytes).sum()
    }

    /// What each tensor takes, in canonical order.
    pub(crate) fn tensor_sizes(&self) -> &[TensorSize] {
        &self.sizes
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
