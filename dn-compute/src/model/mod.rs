//! Models: what a file holds, checked and quantised.

use std::path::Path;
use std::sync::Arc;

use dn_core::ModelId;
use dn_core::objects::ModelManifest;

use crate::chat::{ChatError, ChatMessage};
use crate::tokenizer::{TextStream, Tokenizer, TokenizerError};

/// What text needs of a model: tokenizer, chat template, special tokens and sizes. No weights.
#[derive(Debug)]
pub struct ModelFront {}

impl ModelFront {
    /// Reads the header of a GGUF file.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn load(_path: &Path) -> Result<Self, ModelError> {
        todo!()
    }
    /// Reads the header of a GGUF file in memory.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn from_bytes(_bytes: &[u8]) -> Result<Self, ModelError> {
        todo!()
    }
    /// The name that the file gives, if any.
    pub fn name(&self) -> Option<&str> {
        todo!()
    }
    /// The architecture as GGUF names it.
    pub fn architecture(&self) -> &str {
        todo!()
    }
    /// Most positions.
    pub fn context(&self) -> u32 {
        todo!()
    }
    /// Number of token ids.
    pub fn vocabulary(&self) -> u32 {
        todo!()
    }
    /// Tokens that end generation, ascending.
    pub fn stop_tokens(&self) -> &[u32] {
        todo!()
    }
    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        todo!()
    }
    /// The prompt for a chat, up to where the model answers.
    ///
    /// # Errors
    /// [`ChatError`].
    pub fn chat_prompt(&self, _messages: &[ChatMessage]) -> Result<Vec<u32>, ChatError> {
        todo!()
    }
    /// The prompt for plain text, with the token that starts a text where the model wants it.
    ///
    /// # Errors
    /// [`TokenizerError`].
    pub fn text_prompt(&self, _text: &str) -> Result<Vec<u32>, TokenizerError> {
        todo!()
    }
    /// A decoder for one generated answer.
    pub fn text_stream(self: &Arc<Self>, _stop: &[String]) -> TextStream {
        todo!()
    }
}

/// A model ready for an engine: its front and its quantised weights.
#[derive(Debug)]
pub struct Model {}

impl Model {
    /// Loads a GGUF file.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn load(_path: &Path) -> Result<Self, ModelError> {
        todo!()
    }
    /// Loads a GGUF file in memory.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn from_bytes(_bytes: &[u8]) -> Result<Self, ModelError> {
        todo!()
    }
    /// The cheap half.
    pub fn front(&self) -> &Arc<ModelFront> {
        todo!()
    }
    /// What the model is, bit for bit.
    pub fn manifest(&self) -> &ModelManifest {
        todo!()
    }
    /// The model's identity.
    pub fn id(&self) -> ModelId {
        todo!()
    }
    /// The same architecture with weights rounded to fewer bits: cheaper, worse, and another [`Model::id`].
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn coarsened(&self, _bits: u32) -> Result<Self, ModelError> {
        todo!()
    }
}

/// Why a file is not a model that runs here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {}
