//! Why text cannot be encoded or a tokenizer cannot be built.

use crate::formats::gguf::GgufError;

/// Why text cannot be encoded or a tokenizer cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file holds no tokenizer.
    #[error("the model file holds no tokenizer; give token ids instead of text")]
    Absent,
    /// A byte that no token can stand for.
    #[error("no token stands for the byte 0x{byte:02x}")]
    Byte {
        /// The byte.
        byte: u8,
    },
    /// More white space in a row than can be split.
    #[error("the text has more than {limit} white-space characters in a row")]
    Blanks {
        /// The most allowed.
        limit: usize,
    },
    /// The metadata has a problem.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A kind of tokenizer that is not built here.
    #[error("`tokenizer.ggml.model` is `{found}`; supported are gpt2 and llama")]
    Model {
        /// The kind.
        found: String,
    },
    /// A way of splitting that is not known.
    #[error(
        "`tokenizer.ggml.pre` is `{found}`; supported are gpt-2, llama-bpe, qwen2, smollm and tekken, or none, or default"
    )]
    Pre {
        /// The name.
        found: String,
    },
    /// No tokens.
    #[error("`tokenizer.ggml.tokens` is empty")]
    Empty,
    /// A token that is too long.
    #[error("token {token} has {found} bytes, at most {limit} allowed")]
    TokenLength {
        /// The token.
        token: usize,
        /// Its bytes.
        found: usize,
        /// The most allowed.
        limit: usize,
    },
    /// An array that does not have one element per token.
    #[error("`{key}` has {found} elements, expected one for each of {expected} tokens")]
    Length {
        /// The key.
        key: &'static str,
        /// Tokens.
        expected: usize,
        /// Elements.
        found: usize,
    },
    /// A kind of token that GGUF does not have.
    #[error("token {token} is of type {found}, expected 1 to 6")]
    Kind {
        /// The token.
        token: usize,
        /// Its type.
        found: u32,
    },
    /// A score that is not a number.
    #[error("the score of token {token} is not a finite number")]
    Score {
        /// The token.
        token: usize,
    },
    /// A special token that does not exist.
    #[error("`{key}` is {found}, but there are {vocabulary} tokens")]
    SpecialToken {
        /// The key.
        key: String,
        /// The id.
        found: u32,
        /// Number of tokens.
        vocabulary: usize,
    },
    /// A merge that is not two tokens.
    #[error("`tokenizer.ggml.merges`[{index}] is not two parts with a space between them")]
    Merge {
        /// Its index.
        index: usize,
    },
    /// Neither byte tokens nor an unknown token.
    #[error(
        "the vocabulary has neither 256 byte tokens nor an unknown token: not every text could be encoded"
    )]
    NoFallback,
    /// More text in tokens that are matched whole than is searched for.
    #[error("tokens that are matched whole have {found} bytes or more together, at most {limit} allowed")]
    WholeTokens {
        /// Bytes up to the first token that is too much.
        found: usize,
        /// The most allowed.
        limit: usize,
    },
    /// Pieces that can be put together in too many ways.
    #[error(
        "the merges that follow from the tokens up to {token} take {found} bytes, at most {limit} allowed"
    )]
    Merges {
        /// The token whose merges are too much.
        token: usize,
        /// Bytes up to it.
        found: usize,
        /// The most allowed.
        limit: usize,
    },
    /// `tokenizer.json` is too long.
    #[error("tokenizer.json has {found} bytes, at most {limit} allowed")]
    JsonSize {
        /// Its bytes.
        found: usize,
        /// The most allowed.
        limit: usize,
    },
    /// `tokenizer.json` is no JSON.
    #[error("tokenizer.json: {0}")]
    Json(#[source] serde_json::Error),
    /// A field of `tokenizer.json` that holds something else.
    #[error("tokenizer.json: `{field}`: expected {expected}")]
    JsonField {
        /// The field.
        field: &'static str,
        /// What it may hold.
        expected: &'static str,
    },
    /// A part of the pipeline that is not run here.
    #[error("tokenizer.json: `{field}` is of type {found}; supported are {supported}")]
    Component {
        /// The place in the pipeline.
        field: &'static str,
        /// The type.
        found: String,
        /// The types that are.
        supported: String,
    },
    /// An added token whose id is another one in the vocabulary.
    #[error("tokenizer.json: the added token `{text}` is said to be {expected}, but is {found:?}")]
    AddedId {
        /// Its text.
        text: String,
        /// Its id in `added_tokens`.
        expected: u32,
        /// The id that the vocabulary gives it.
        found: Option<u32>,
    },
    /// A token id beyond any vocabulary.
    #[error("tokenizer.json: a token has the id {found}, ids below {limit} expected")]
    JsonId {
        /// The id.
        found: u32,
        /// The limit.
        limit: usize,
    },
    /// A token id far beyond the number of tokens.
    #[error("tokenizer.json: a token has the id {found}, ids below {limit} expected of {tokens} tokens")]
    JsonSparse {
        /// The id.
        found: u32,
        /// Number of tokens.
        tokens: usize,
        /// The limit.
        limit: usize,
    },
    /// Added tokens that are too long together.
    #[error("tokenizer.json: the added tokens have {found} bytes together, at most {limit} allowed")]
    AddedSize {
        /// Their bytes.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// More parts of a pipeline than are run.
    #[error("tokenizer.json: `{field}` has more than {limit} parts")]
    Parts {
        /// The place in the pipeline.
        field: &'static str,
        /// The most allowed.
        limit: usize,
    },
    /// Parts of a pipeline that make a text too long.
    #[error(
        "tokenizer.json: `{field}` can make a text {found} times as long or more, at most {limit} allowed"
    )]
    Growth {
        /// The place in the pipeline.
        field: &'static str,
        /// How many times.
        found: usize,
        /// The most allowed.
        limit: usize,
    },
    /// Two texts of one id.
    #[error("tokenizer.json: two tokens have the id {id}")]
    JsonTwice {
        /// The id.
        id: u32,
    },
    /// The merging machine refused.
    #[error(transparent)]
    Machine(#[from] TokenizerFault),
}

/// An error of the `tokenizers` crate.
#[derive(Debug, thiserror::Error)]
#[error("the tokenizer refused: {0}")]
pub struct TokenizerFault(#[source] tokenizers::Error);

impl TokenizerFault {
    pub(super) fn new(error: tokenizers::Error) -> Self {
        Self(error)
    }
}
