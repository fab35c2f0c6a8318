//! Generation and its proof.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use dn_core::Hash32;
use dn_core::objects::{FinishReason, Sampling};

use crate::model::Model;

/// Instruction sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isa {
    /// Portable.
    Scalar,
}

/// How an engine computes. None of it changes a bit of any result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineOptions {
    /// Threads; `None` is one per core.
    pub threads: Option<NonZeroUsize>,
    /// Instruction set; `None` is the best that the machine has.
    pub isa: Option<Isa>,
}

/// What to generate.
#[derive(Debug, Clone, Copy)]
pub struct GenerateRequest<'a> {
    /// Prompt as token ids; at least one.
    pub prompt: &'a [u32],
    /// Output that exists already, to be continued bit for bit; empty for a new answer.
    pub already: &'a [u32],
    /// Sampler settings.
    pub sampling: Sampling,
    /// Most output tokens, those of `already` counted.
    pub max_tokens: u32,
    /// Texts that end the answer.
    pub stop: &'a [String],
}

/// What was generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// All output tokens, with a stop token where one ended the answer.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: FinishReason,
    /// The trace commitment.
    pub trace_root: Hash32,
    /// How long it took.
    pub timings: Timings,
}

/// How long the parts took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// Tokens that went through in one pass: the prompt and what existed already.
    pub prefill_tokens: u32,
    /// Time of that pass.
    pub prefill: Duration,
    /// Tokens decoded one at a time.
    pub decode_tokens: u32,
    /// Time of the decoding.
    pub decode: Duration,
}

/// The result of replaying an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// The trace commitment that an honest worker has for this prompt and output.
    pub trace_root: Hash32,
    /// The first place where the output is not the model's.
    pub divergence: Option<Divergence>,
    /// How long it took.
    pub timings: Timings,
}

/// Where an output departs from the model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Divergence {
    /// Position in prompt and output, from 0.
    pub position: u32,
    /// What differs.
    pub kind: DivergenceKind,
}

/// How an output departs from the model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DivergenceKind {
    /// The sampler chooses another token.
    Token {
        /// Its choice.
        expected: u32,
        /// The token in the output.
        found: u32,
    },
    /// The answer ends elsewhere or otherwise. `None` stands for "it goes on".
    End {
        /// How it ends there.
        expected: Option<FinishReason>,
        /// How the output ends there.
        found: Option<FinishReason>,
    },
}

/// Runs a model.
#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// Prepares the weights for this machine.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn new(_model: Arc<Model>, _options: EngineOptions) -> Result<Self, EngineError> {
        todo!()
    }
    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        todo!()
    }
    /// Generates, calling `on_token` with each new token; it may break off.
    ///
    /// # Errors
    /// [`GenerateError`].
    pub fn generate(
        &self,
        _request: &GenerateRequest<'_>,
        _on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Generation, GenerateError> {
        todo!()
    }
    /// Recomputes an answer in one pass.
    ///
    /// # Errors
    /// [`GenerateError`] when the request itself cannot be served.
    pub fn replay(
        &self,
        _request: &GenerateRequest<'_>,
        _output: &[u32],
        _finish: FinishReason,
    ) -> Result<Replay, GenerateError> {
        todo!()
    }
    /// Logits of every position, `tokens.len()` rows of the vocabulary's length.
    ///
    /// # Errors
    /// [`GenerateError`].
    pub fn logits(&self, _tokens: &[u32]) -> Result<Vec<f32>, GenerateError> {
        todo!()
    }
}

/// Why an engine cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {}

/// Why a request cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {}
