//! Bit-exact inference: the same model, tokens and settings give the same bits on every device.
//!
//! # What a caller uses
//! - [`Model::load`] reads a GGUF file, a directory of safetensors or a package ([`model::package`]); [`Model::id`] is its
//!   identity on the network. `hub` (feature `hub`) fetches models.
//! - [`ModelFront`] is the cheap half of it: tokenizer, chat template and sizes, read from the file's header alone. A
//!   gateway needs no more.
//! - [`Engine`] generates ([`Engine::generate`]), proves ([`Engine::replay`]) and computes logits
//!   ([`Engine::logits`]).
//! - `embedded` (feature `embedded-model`) is a small model compiled into the program.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use dn_compute::{ChatMessage, Engine, EngineOptions, GenerateRequest, Model};
//! use dn_core::objects::{Decoding, Sampling};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = Arc::new(Model::load(Path::new("model.gguf"))?);
//! let engine = Engine::new(Arc::clone(&model), EngineOptions::default())?;
//! let prompt = model.front().chat_prompt(&[ChatMessage::user("What is ownership?")])?;
//! let sampling = Sampling::GREEDY;
//! let request = GenerateRequest { prompt: &prompt, already: &[], sampling, decoding: Decoding::plain(), max_tokens: 90, stop: &[] };
//! let mut text = model.front().text_stream(request.stop);
//! let answer = engine.generate(&request, &mut |token| {
//!     let _now_certain = text.push(token);
//!     ControlFlow::Continue(())
//! })?;
//! // Anyone with the model can check it in one pass.
//! let replay = engine.replay(&request, &answer.tokens, answer.finish)?;
//! assert!(replay.divergence.is_none() && replay.trace_root == answer.trace_root);
//! # Ok(())
//! # }
//! ```
//!
//! # How it is built
//! - [`spec`]: what every operation means, and the [`Backend`](spec::Backend) interface;
//! - [`reference`](mod@reference): the scalar meaning, safe and slow;
//! - [`cpu`]: the same bits, fast, on threads and vector instructions;
//! - `wgpu` (feature `wgpu`): the same bits on graphics cards, in integers only;
//! - `cuda` (feature `cuda`): the same bits on NVIDIA's cards, through their driver;
//! - [`conformance`]: the suite that compares any backend with the reference;
//! - [`formats`], [`tokenizer`], [`chat`], [`model`]: from a file to a checked model;
//! - [`runtime`]: the decoder over any backend; [`sampling`] and [`trace`]: what a receipt binds;
//! - [`devices`]: which ways to compute this machine has, and the fastest that is right;
//! - [`engine`]: all of it together; [`encoder`]: embeddings, of models of the BERT family.
#![deny(unsafe_code)]

// By the name that tests outside use, for those that both share.
#[cfg(test)]
extern crate self as dn_compute;

#[cfg(all(any(feature = "cuda", feature = "wgpu"), not(target_arch = "wasm32")))]
mod alike;
#[cfg(all(any(feature = "cuda", feature = "wgpu"), not(target_arch = "wasm32")))]
mod cached;
#[cfg(feature = "engine")]
pub mod chat;
#[cfg(any(feature = "engine", feature = "wgpu"))]
pub mod conformance;
#[cfg(feature = "engine")]
#[allow(unsafe_code)]
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(feature = "engine")]
pub mod devices;
#[cfg(feature = "embedded-model")]
pub mod embedded;
#[cfg(feature = "engine")]
pub mod encoder;
#[cfg(feature = "engine")]
pub mod engine;
#[cfg(feature = "engine")]
pub mod formats;
#[cfg(feature = "engine")]
pub mod grammar;
#[cfg(feature = "hub")]
pub mod hub;
#[cfg(feature = "engine")]
pub mod model;
pub mod reference;
#[cfg(feature = "engine")]
pub mod runtime;
pub mod sampling;
pub mod spec;
pub mod tensors;
#[cfg(all(test, feature = "engine"))]
mod testing;
#[cfg(feature = "engine")]
pub mod tokenizer;
pub mod trace;
#[cfg(all(any(feature = "cuda", feature = "wgpu"), not(target_arch = "wasm32")))]
mod verdict;
pub mod verify;
#[cfg(feature = "wgpu")]
pub mod wgpu;

#[cfg(feature = "engine")]
pub use chat::{ChatError, ChatMessage, ChatTemplate, Role};
#[cfg(feature = "engine")]
pub use cpu::Isa;
#[cfg(feature = "engine")]
pub use engine::{
    BackendChoice, BackendKind, BatchError, BatchEvent, BatchOptions, BatchRequest, BatchStatus, Batcher,
    ByteSize, CacheScope, CancelHandle, ComputeSettings, ComputeSettingsError, DeviceNeed, Divergence,
    DivergenceKind, Engine, EngineError, EngineOptions, GenerateError, GenerateRequest, Generation,
    MemoryNeed, MemoryPlan, Replay, ReplayRequest, RequestId, Runner, Ticket, Timings, Untraced, Update,
    Workload, available_memory,
};
#[cfg(feature = "engine")]
pub use grammar::GrammarError;
#[cfg(feature = "engine")]
pub use model::{Model, ModelError, ModelFront};
#[cfg(feature = "engine")]
pub use tokenizer::{TextStream, Tokenizer, TokenizerError};
#[cfg(all(any(feature = "cuda", feature = "wgpu"), not(target_arch = "wasm32")))]
pub use verdict::Refusal;
