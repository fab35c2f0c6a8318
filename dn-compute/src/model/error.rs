//! Why a file is not a model that runs here.

use std::io;

use crate::chat::ChatError;
use dn_core::Hash32;

use crate::formats::gguf::GgufError;
use crate::formats::safetensors::SafetensorsError;
use crate::spec::{MatrixError, NumericError};
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
    /// A file is expected, and the path leads to a directory, a pipe or a device.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// The path.
        path: String,
    },
    /// The file is no proper GGUF.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The file is no proper safetensors.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// A file beside the weights is no JSON of the expected form.
    #[error("{path}: {source}")]
    Json {
        /// The path.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A file that should be text is not.
    #[error("{path} is not UTF-8")]
    Utf8 {
        /// The path.
        path: String,
    },
    /// A file beside the weights is too long.
    #[error("{path} has {found} bytes, at most {limit} allowed")]
    FileSize {
        /// The path.
        path: String,
        /// Its bytes.
        found: u64,
        /// The most allowed.
        limit: u64,
    },
    /// A directory in which no file, or none alone, could be the model.
    #[error(
        "{path} holds {found} model files (.gguf, .safetensors, .dnm), expected one, or model.safetensors or its index"
    )]
    Directory {
        /// The path.
        path: String,
        /// Such files.
        found: usize,
    },
    /// A file whose first bytes are of no format that is read here.
    #[error("{path} is no model file; supported are GGUF, safetensors and model packages")]
    Format {
        /// The path.
        path: String,
    },
    /// A tensor that is in two files, or in another one than the index says.
    #[error("tensor `{name}` in {path} is also elsewhere, or the index has it elsewhere")]
    Shard {
        /// Its name.
        name: String,
        /// The file.
        path: String,
    },
    /// A type of elements that weights do not have here.
    #[error("tensor `{name}` has elements of type {found}; supported are F32, F16 and BF16")]
    Dtype {
        /// Its name.
        name: String,
        /// The type.
        found: &'static str,
    },
    /// A package that is not one.
    #[error("the model package is damaged: {what}")]
    Package {
        /// What is wrong.
        what: &'static str,
    },
    /// A package's weights are not those that its manifest commits to.
    #[error(
        "tensor `{name}`, rows {first_row} to {last_row}: the tile's hash is {found}, the package has {expected}"
    )]
    Tile {
        /// The tensor's name.
        name: String,
        /// The tile's first row.
        first_row: u32,
        /// Its last row.
        last_row: u32,
        /// The hash in the package.
        expected: Hash32,
        /// The hash of the bytes.
        found: Hash32,
    },
    /// A part of a package is not the one that its manifest commits to.
    #[error("the package's {what} has the hash {found}, its manifest says {expected}")]
    Part {
        /// Which part.
        what: &'static str,
        /// The hash in the manifest.
        expected: Hash32,
        /// The hash of the part.
        found: Hash32,
    },
    /// A package cannot be written.
    #[error("cannot write the model package {path}: {source}")]
    Write {
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The numeric spec does not allow the positions' scaling.
    #[error("rope scaling: {0}")]
    Rope(#[source] NumericError),
    /// The tokenizer cannot be built.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template is not usable.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// An architecture that does not run here.
    #[error(
        "architecture `{found}` is not supported; supported are llama, mistral (llama in GGUF), qwen2 and qwen3"
    )]
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
