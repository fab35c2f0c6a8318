//! Bit-exact inference: the same model, tokens and settings give the same bits on every device.
//!
//! # What a caller uses
//! - [`Model::load`] reads a GGUF file; [`Model::id`] is its identity on the network.
//! - [`ModelFront`] is the cheap half of it: tokenizer, chat template and sizes, read from the file's header alone. A
//!   gateway needs no more.
//! - [`Engine`] generates ([`Engine::generate`]), proves ([`Engine::replay`]) and computes logits
//!   ([`Engine::logits`]).
//! - [`embedded`] (feature `embedded-model`) is a small model compiled into the program.

pub mod chat;
#[cfg(feature = "embedded-model")]
pub mod embedded;
pub mod engine;
pub mod model;
pub mod tokenizer;

pub use chat::{ChatError, ChatMessage, ChatTemplate, Role};
pub use engine::{
    Divergence, DivergenceKind, Engine, EngineError, EngineOptions, GenerateError, GenerateRequest,
    Generation, Isa, Replay, Timings,
};
pub use model::{Model, ModelError, ModelFront};
pub use tokenizer::{TextStream, Tokenizer, TokenizerError};
