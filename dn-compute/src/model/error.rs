//! Why a file is not a model that runs here.

use std::io;

use crate::chat::ChatError;
use crate::formats::gguf::GgufError;
use crate::spec::MatrixError;
use crate::tokenizer::TokenizerError;

/// Why a file is not a model that runs here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file cannot be read.
    #[error("cannot read the model file {path}: {source}")]
    Read {
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The file is no proper GGUF.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The tokenizer cannot be built.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template is not usable.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// An architecture that does not run here.
    #[error("architecture `{found}` is not supported; supported are llama (also Mistral's files) and qwen2")]
    Architecture {
        /// The architecture.
        found: String,
    },
    /// A hyper-parameter that makes no sense or does not run here.
    #[error("`{key}` is {found}, expected {expected}")]
    Parameter {
        /// The key.
        key: String,
        /// What is allowed.
        expected: &'static str,
        /// What the file says.
        found: String,
    },
    /// A feature of the file that would change results and is not implemented.
    #[error("the file uses {feature} (`{key}`), which is not supported")]
    Feature {
        /// The feature.
        feature: &'static str,
        /// The key or tensor that asks for it.
        key: String,
    },
    /// A tensor that the architecture needs is missing.
    #[error("tensor `{name}` is missing")]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// A tensor that the architecture does not have.
    #[error("tensor `{name}` has no place in the architecture `{architecture}`")]
    UnexpectedTensor {
        /// Its name.
        name: String,
        /// The architecture.
        architecture: String,
    },
    /// A tensor of another shape.
    #[error("tensor `{name}` has the shape {found:?}, expected {expected:?}")]
    TensorShape {
        /// Its name.
        name: String,
        /// What the hyper-parameters ask for, the fastest size first.
        expected: Vec<u64>,
        /// What the file has.
        found: Vec<u64>,
    },
    /// The tensor's values cannot be used.
    #[error("tensor `{name}`: {source}")]
    Matrix {
        /// Its name.
        name: String,
        /// Why.
        source: MatrixError,
    },
    /// A vector with a value that is not a number.
    #[error("tensor `{name}`: element {index} is not a finite number")]
    NonFinite {
        /// Its name.
        name: String,
        /// The element.
        index: usize,
    },
    /// More tokens have texts than the embedding has rows.
    #[error("the tokenizer has {tokens} tokens, but the embedding has {rows} rows")]
    Vocabulary {
        /// Tokens.
        tokens: usize,
        /// Rows.
        rows: u32,
    },
    /// The file has changed since it was loaded.
    #[error("tensor `{name}` has changed in the file since the model was loaded")]
    Changed {
        /// Its name.
        name: String,
    },
    /// A number of bits to coarsen to that makes no sense.
    #[error("weights cannot be coarsened to {found} bits, expected 2 to 7")]
    Bits {
        /// The number.
        found: u32,
    },
}
