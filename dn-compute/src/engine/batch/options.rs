//! What a batch is asked for, and what it answers.

use std::num::NonZeroUsize;
use std::time::Instant;

use dn_core::objects::{Decoding, Sampling};

use super::CacheScope;
use crate::engine::{GenerateError, GenerateRequest, Generation};
use crate::sampling::Choice;

/// How requests share an engine. None of it changes a bit of any answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOptions {
    /// Most sequences in a step.
    pub slots: NonZeroUsize,
    /// Most requests that wait for a slot.
    pub queue: NonZeroUsize,
    /// Most tokens of a step while some sequence decodes: the fewer, the steadier the others' tokens come while
    /// a long prompt is read. At least one for each sequence is always fed. When nobody decodes, a step takes
    /// [`EngineOptions::prefill_chunk`](crate::EngineOptions::prefill_chunk) tokens.
    pub step_tokens: NonZeroUsize,
    /// Most bytes for keys and values of the requests that run; further ones wait.
    pub kv_bytes: u64,
    /// Most bytes for pages of earlier requests; 0 keeps none.
    pub prefix_cache_bytes: u64,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            slots: NonZeroUsize::new(8).expect("not zero"),
            queue: NonZeroUsize::new(64).expect("not zero"),
            step_tokens: NonZeroUsize::new(64).expect("not zero"),
            kv_bytes: u64::MAX,
            prefix_cache_bytes: 256 << 20,
        }
    }
}

/// A request that a batch owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRequest {
    /// As [`GenerateRequest::prompt`].
    pub prompt: Vec<u32>,
    /// As [`GenerateRequest::already`].
    pub already: Vec<u32>,
    /// As [`GenerateRequest::sampling`].
    pub sampling: Sampling,
    /// As [`GenerateRequest::decoding`].
    pub decoding: Decoding,
    /// As [`GenerateRequest::max_tokens`].
    pub max_tokens: u32,
    /// As [`GenerateRequest::stop`].
    pub stop: Vec<String>,
    /// With whom pages of a common beginning are shared; `None` shares with nobody.
    pub scope: Option<CacheScope>,
    /// When the answer is cut off.
    pub deadline: Option<Instant>,
}

impl BatchRequest {
    /// A request that shares nothing and has no deadline.
    pub fn new(request: &GenerateRequest<'_>) -> Self {
        Self {
            prompt: request.prompt.to_vec(),
            already: request.already.to_vec(),
            sampling: request.sampling,
            decoding: request.decoding.clone(),
            max_tokens: request.max_tokens,
            stop: request.stop.to_vec(),
            scope: None,
            deadline: None,
        }
    }

    /// The engine's view of it.
    pub fn generate_request(&self) -> GenerateRequest<'_> {
        GenerateRequest {
            prompt: &self.prompt,
            already: &self.already,
            sampling: self.sampling,
            decoding: &self.decoding,
            max_tokens: self.max_tokens,
            stop: &self.stop,
        }
    }
}

/// A request of one batcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(super) u64);

/// What a step gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchEvent {
    /// A new token of an answer.
    Token {
        /// Whose.
        id: RequestId,
        /// The token, and what the model thought of it.
        choice: Choice,
    },
    /// An answer has ended; the last event of its request. [`FinishReason::Cancelled`](dn_core::objects::FinishReason) after a
    /// cancellation or a deadline.
    Done {
        /// Whose.
        id: RequestId,
        /// All of it.
        generation: Box<Generation>,
    },
    /// No answer; the last event of its request.
    Failed {
        /// Whose.
        id: RequestId,
        /// Why.
        error: GenerateError,
    },
}

/// Counts and memory of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchStatus {
    /// Requests that wait.
    pub waiting: usize,
    /// Sequences that run.
    pub running: usize,
    /// Bytes that their keys and values take.
    pub kv_bytes: u64,
    /// Bytes that they may take.
    pub kv_reserved_bytes: u64,
    /// Bytes of the prefix cache.
    pub prefix_cache_bytes: u64,
    /// Pages taken from the prefix cache so far.
    pub prefix_pages_found: u64,
}
