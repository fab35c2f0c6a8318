//! Grammars: which tokens may come next so that an answer becomes JSON, matches an expression, or is a sentence of a
//! context-free grammar.
//!
//! The allowed tokens are part of the sampler, so every replica has to find the same ones. They are what `llguidance`
//! [`ENGINE_VERSION`] allows over the bytes of the model's tokens, within the limits of [`limits`]. The crates that decide it
//! are pinned to exact versions, a test holds the masks of many grammars, and another version that allows other tokens
//! is another numeric spec.
//!
//! # Meaning
//! - A token stands for its [bytes](crate::Tokenizer::token_bytes). Control tokens, tokens without bytes, tokens with a byte
//!   `0xff` (no UTF-8 has one) and tokens of more than [`limits::TOKEN_BYTES`] bytes are never allowed.
//! - A token is allowed where the text so far and its bytes begin some text of the grammar.
//! - Stop tokens are allowed exactly where the text so far is complete.
//! - Where the text is complete and nothing can follow, the answer ends there, without a stop token.
//! - JSON: keys come in the schema's order; between tokens of JSON up to [`limits::JSON_BLANKS`] blanks may stand.

#[cfg(not(feature = "grammar"))]
mod absent;
#[cfg(feature = "grammar")]
mod check;
#[cfg(feature = "grammar")]
mod guidance;

#[cfg(all(test, feature = "grammar"))]
mod tests;

#[cfg(not(feature = "grammar"))]
pub(crate) use absent::{Constrainer, Constraint};
#[cfg(feature = "grammar")]
pub(crate) use guidance::{Constrainer, Constraint};

/// The engine whose masks numeric spec V1 means.
pub const ENGINE_VERSION: &str = "1.9.1";

/// Limits that are part of numeric spec V1: where one is reached decides where an answer ends.
pub mod limits {
    /// Bytes of the longest token that can be allowed.
    pub const TOKEN_BYTES: usize = 512;
    /// Bytes of all tokens together.
    pub const VOCABULARY_BYTES: usize = 1 << 22;
    /// How deep brackets may be nested in an expression or grammar, and values in a schema.
    pub const NESTING: usize = 64;
    /// Blanks between two tokens of JSON.
    pub const JSON_BLANKS: usize = 16;
    /// Largest number of repetitions (`{1000}`, `minItems`, `maxLength`, …) that a grammar may write down.
    pub const REPETITIONS: u64 = 10_000;
    /// Signs `?`, `*` and `{` of an expression or grammar, and properties of a schema: the work before the first token
    /// grows with their square.
    pub const OPTIONS: usize = 512;
    /// Signs `|` of an expression or grammar.
    pub const ALTERNATIVES: usize = 2048;
    /// Symbols of the compiled grammar.
    pub const SYMBOLS: usize = 100_000;
    /// Work on the expressions of a grammar before the first token.
    pub const COMPILE_FUEL: u64 = 1_000_000;
    /// Work on expressions for one token.
    pub const STEP_FUEL: u64 = 200_000;
    /// Parser items for one token.
    pub const STEP_ITEMS: usize = 50_000;
    /// Parser items for one byte.
    pub const ROW_ITEMS: usize = 2_000;
    /// States of the expressions' automaton over one answer.
    pub const STATES: usize = 100_000;
}

/// Why a grammar cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// The program was built without grammars.
    #[error("this program was built without the feature `grammar`")]
    NotBuilt,
    /// The model has no text.
    #[error("the model file holds no tokenizer: a grammar cannot be applied")]
    NoTokenizer,
    /// The tokens are too long together.
    #[error("the tokens have {found} bytes together, at most {limit} allowed for grammars")]
    Vocabulary {
        /// The most allowed.
        limit: usize,
        /// Their bytes.
        found: usize,
    },
    /// Brackets are nested too deep.
    #[error("the grammar is nested {found} deep, at most {limit} allowed")]
    Nesting {
        /// The most allowed.
        limit: usize,
        /// How deep it is.
        found: usize,
    },
    /// There is too much of something.
    #[error("the grammar has {found} {what}, at most {limit} allowed")]
    Size {
        /// What there is too much of.
        what: &'static str,
        /// The most allowed.
        limit: usize,
        /// How many there are.
        found: usize,
    },
    /// A number of repetitions is too large.
    #[error("the grammar repeats {found} times, at most {limit} allowed")]
    Repetitions {
        /// The most allowed.
        limit: u64,
        /// The number; the largest of its type where it does not fit.
        found: u64,
    },
    /// The schema is not JSON.
    #[error("the schema is not JSON: line {line}, column {column}")]
    SchemaSyntax {
        /// Line of the error.
        line: usize,
        /// Column of the error.
        column: usize,
    },
    /// The engine refuses the grammar.
    #[error(transparent)]
    Refused(#[from] GrammarFault),
    /// No answer can be an answer.
    #[error("no text of this model's tokens satisfies the grammar")]
    Unsatisfiable,
}

/// What the engine says about a grammar that it refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the grammar is refused: {0}")]
pub struct GrammarFault(String);
