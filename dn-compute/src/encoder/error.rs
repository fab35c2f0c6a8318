//! Why an encoder cannot be loaded, and why a text cannot be embedded.

use std::io;

use crate::engine::EngineError;
use crate::formats::gguf::GgufError;
use crate::formats::safetensors::SafetensorsError;
use crate::model::ModelError;
use crate::spec::{MatrixError, NumericError};
use crate::tokenizer::TokenizerError;

/// Why files are not an encoder that runs here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncoderError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file is of a kind or a length that is not read.
    #[error(transparent)]
    File(ModelError),
    /// A file is no proper JSON.
    #[error("{file}: {source}")]
    Json {
        /// The file's name.
        file: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// The tensors' file is no proper safetensors file.
    #[error("model.safetensors: {0}")]
    SafeTensors(#[from] SafetensorsError),
    /// The file is no proper GGUF.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The tokenizer cannot be built.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// An architecture that is no encoder that runs here.
    #[error("architecture `{found}` is no encoder that is supported; supported is bert")]
    Architecture {
        /// The architecture.
        found: String,
    },
    /// A hyper-parameter that is missing, makes no sense or does not run here.
    #[error("`{key}` is {found}, expected {expected}")]
    Parameter {
        /// The key.
        key: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// What the file says.
        found: String,
    },
    /// A tensor that the architecture needs is missing.
    #[error("tensor `{name}` is missing")]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// A tensor that the architecture does not have.
    #[error("tensor `{name}` has no place in the architecture `bert`")]
    UnexpectedTensor {
        /// Its name.
        name: String,
    },
    /// A tensor of another shape.
    #[error("tensor `{name}` has the shape {found:?}, expected {expected:?}")]
    TensorShape {
        /// Its name.
        name: String,
        /// What the hyper-parameters ask for, rows first.
        expected: Vec<u64>,
        /// What the file has.
        found: Vec<u64>,
    },
    /// A tensor of a type that is not read here.
    #[error("tensor `{name}` is of type {found}, expected F32, F16 or BF16")]
    TensorType {
        /// Its name.
        name: String,
        /// The type.
        found: String,
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
    /// The backend cannot start.
    #[error(transparent)]
    Backend(#[from] EngineError),
    /// The numeric spec does not allow the model's sizes.
    #[error(transparent)]
    Numeric(#[from] NumericError),
}

impl From<ModelError> for EncoderError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Read { path, source } => Self::Read { path, source },
            ModelError::Gguf(error) => Self::Gguf(error),
            ModelError::Safetensors(error) => Self::SafeTensors(error),
            other => Self::File(other),
        }
    }
}

/// Why texts cannot be embedded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// A text without tokens.
    #[error("text {text} has no tokens; at least one is needed")]
    Empty {
        /// Its index in the call.
        text: usize,
    },
    /// A text with more tokens than the model has positions.
    #[error("text {text} has {tokens} tokens, the model takes at most {context}")]
    TooLong {
        /// Its index in the call.
        text: usize,
        /// Its tokens.
        tokens: usize,
        /// Most positions.
        context: u32,
    },
    /// A token id that the model does not have.
    #[error("token {token} at position {position} of text {text} is outside the vocabulary of {vocabulary}")]
    TokenOutOfVocabulary {
        /// The text's index in the call.
        text: usize,
        /// The token's position in the text.
        position: usize,
        /// The id.
        token: u32,
        /// Number of token ids.
        vocabulary: u32,
    },
    /// The text has no token ids.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The computation left the numbers that the spec allows.
    #[error("text {text}: {source}")]
    Numeric {
        /// The text's index in the call.
        text: usize,
        /// Why.
        source: NumericError,
    },
}
