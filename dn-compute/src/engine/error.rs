//! Why an engine cannot be made, and why a request cannot be served.

use crate::cpu::CpuError;
use crate::model::ModelError;
use crate::sampling::SamplerError;
use crate::spec::NumericError;

/// Why an engine cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The weights cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The CPU backend cannot start.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// The GPU backend cannot start.
    #[cfg(feature = "wgpu")]
    #[error(transparent)]
    Wgpu(#[from] crate::wgpu::WgpuError),
    /// The CUDA backend cannot start.
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Cuda(#[from] crate::cuda::CudaError),
    /// The program was built without this backend.
    #[error("this program was built without the {backend} backend; build it with the feature `{backend}`")]
    NotBuilt {
        /// The backend.
        backend: super::BackendKind,
    },
    /// The numeric spec does not allow the model's sizes.
    #[error(transparent)]
    Numeric(#[from] NumericError),
    /// More layers are asked of a device than its memory takes.
    #[error(
        "`{device}` has room for {fit} layers, {layers} are asked for: they need up to {needed} bytes, it has {limit}; ask for \
         fewer, or a shorter context"
    )]
    DeviceMemory {
        /// The device.
        device: String,
        /// Layers asked for.
        layers: u32,
        /// Bytes that they need.
        needed: u64,
        /// Bytes that may be taken.
        limit: u64,
        /// Layers that fit.
        fit: u32,
    },
    /// The model and one short request do not fit.
    #[error("the model needs up to {needed} bytes of memory, {limit} are available")]
    Memory {
        /// Bytes with one request of 1,024 positions, while loading or after.
        needed: u64,
        /// Bytes allowed, or left on this machine.
        limit: u64,
    },
}

/// Why a request cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// No prompt.
    #[error("the prompt is empty; at least one token is needed")]
    EmptyPrompt,
    /// Nothing to generate.
    #[error("max_tokens is 0; at least 1 is needed")]
    NoTokens,
    /// A token id that the model does not have.
    #[error("token {token} at position {position} is outside the vocabulary of {vocabulary}")]
    TokenOutOfVocabulary {
        /// Its position in prompt and output, from 0.
        position: usize,
        /// The id.
        token: u32,
        /// Number of token ids.
        vocabulary: u32,
    },
    /// The prompt leaves no room for an answer.
    #[error("the prompt has {prompt} tokens; the context of {context} leaves no room for an answer")]
    ContextExceeded {
        /// Tokens of the prompt.
        prompt: usize,
        /// Most positions.
        context: u32,
    },
    /// The output to be continued is not this model's.
    #[error(
        "the output to be continued is not the model's: token {found} at position {position}, expected {expected}"
    )]
    AlreadyDiverges {
        /// Position in prompt and output, from 0.
        position: usize,
        /// What the sampler chooses.
        expected: u32,
        /// What the output has.
        found: u32,
    },
    /// The output to be continued goes on after its end.
    #[error("the output to be continued should have ended with {length} tokens, but has {found}")]
    AlreadyTooLong {
        /// Tokens up to its end.
        length: usize,
        /// Tokens that it has.
        found: usize,
    },
    /// Cancelled before the first new token.
    #[error("cancelled after {read} of the prompt's {prompt} tokens")]
    Cancelled {
        /// Tokens of the prompt that had been read.
        read: usize,
        /// Tokens of the prompt.
        prompt: usize,
    },
    /// Its time was over before the first new token.
    #[error("the deadline passed after {read} of the prompt's {prompt} tokens")]
    Deadline {
        /// Tokens of the prompt that had been read.
        read: usize,
        /// Tokens of the prompt.
        prompt: usize,
    },
    /// A stop text without a character: every answer has it from the beginning.
    #[error("stop text {index} is empty")]
    EmptyStop {
        /// Its place among the stop texts, from 0.
        index: usize,
    },
    /// The sampler's settings or its grammar cannot be used.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// The computation left the numbers that the spec allows.
    #[error(transparent)]
    Numeric(#[from] NumericError),
}
