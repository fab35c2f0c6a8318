//! Encoders: from texts to embeddings, exactly.
//!
//! BERT and its kin (MiniLM, BGE, E5 and the like): word, position and type embeddings, layers that normalise after each block,
//! attention that sees the whole text, mean or first-position pooling, length one. `docs/numerics.md` has the order of
//! operations. Length one is given to every embedding, also where a model's `modules.json` has no `Normalize`: its vectors then
//! have the direction of the original's, not the length.
//!
//! An embedding is a function of model and tokens alone. Texts may share a pass; there is no padding, and no text's bits
//! depend on another's. Its canonical form are integers of `2^-24` ([`Embedding::vector`]); the f32 form is exactly those. A
//! trace commits to the whole computation ([`trace`]), so a receipt can cover it, and anyone with the model can compute it
//! again and compare.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use dn_compute::EngineOptions;
//! use dn_compute::encoder::{Encoder, EncoderModel};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = EncoderModel::load(Path::new("all-MiniLM-L6-v2"))?;
//! let encoder = Encoder::new(model, EngineOptions::default())?;
//! let tokens = encoder.tokens("What is ownership?")?;
//! let embedding = &encoder.embed(&[&tokens])?[0];
//! assert_eq!(embedding.to_f32().len(), 384);
//! // Anyone with the model can check what another computed.
//! let check = encoder.check(&tokens, &embedding.vector, embedding.trace.root())?;
//! assert!(check.holds());
//! # Ok(())
//! # }
//! ```

mod config;
mod error;
mod forward;
mod layout;
mod load;
mod modules;
pub mod trace;
mod weights;

use dn_core::Hash32;

pub use crate::spec::pool::{ONE, Pooling};
pub use error::{EmbedError, EncoderError};
pub use load::{EncoderFiles, EncoderFront, EncoderModel};
pub use trace::EmbeddingTrace;

use crate::engine::EngineOptions;
use crate::spec::{Backend, BackendInfo};
use weights::Weights;

/// Texts share a pass up to this many tokens: enough to keep the linear layers busy, little memory.
const PASS_TOKENS: usize = 1024;

/// One text's embedding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedding {
    /// The pooled vector of length one.
    ///
    /// # Units
    /// `2^-24`: [`ONE`] stands for 1.
    pub vector: Vec<i32>,
    /// What the computation commits to.
    pub trace: EmbeddingTrace,
}

impl Embedding {
    /// The vector as numbers, exactly.
    pub fn to_f32(&self) -> Vec<f32> {
        // No element is above 2^24 in magnitude, so both steps are exact.
        self.vector.iter().map(|v| *v as f32 / ONE as f32).collect()
    }

    /// The canonical bytes: each integer in 4 bytes, little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.vector.iter().flat_map(|v| v.to_le_bytes()).collect()
    }
}

/// What came of computing an embedding again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// The vector is the model's.
    pub vector: bool,
    /// The trace commitment is that of an honest computation.
    pub trace: bool,
}

impl Check {
    /// Whether everything claimed is so.
    pub const fn holds(self) -> bool {
        self.vector && self.trace
    }
}

/// Runs an encoder. Shared between threads, it serves several callers at once.
#[derive(Debug)]
pub struct Encoder {
    front: EncoderFront,
    backend: Box<dyn Backend>,
    weights: Weights,
}

impl Encoder {
    /// Prepares the weights for this machine. Of the options only those of the backend count.
    ///
    /// # Errors
    /// [`EncoderError`].
    pub fn new(model: EncoderModel, options: EngineOptions) -> Result<Self, EncoderError> {
        let backend = options.backend()?;
        let EncoderModel { front, tensors } = model;
        let weights = Weights::prepare(tensors, front.hyperparameters().layers, backend.as_ref())?;
        Ok(Self { front, backend, weights })
    }

    /// Manifest, identity and tokenizer.
    pub const fn front(&self) -> &EncoderFront {
        &self.front
    }

    /// What computes: name, instruction set, threads.
    pub fn info(&self) -> BackendInfo {
        self.backend.info()
    }

    /// Length of an embedding.
    pub const fn dimensions(&self) -> usize {
        self.front.hyperparameters().width as usize
    }

    /// Token ids of a text, with the model's tokens around them. A text that is too long is not cut: see
    /// [`tokens_cut`](Self::tokens_cut).
    ///
    /// # Errors
    /// [`EmbedError::Tokenizer`], [`EmbedError::TooLong`].
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>, EmbedError> {
        let tokens = self.front.tokenizer().encode_marked(text, usize::MAX)?;
        let context = self.front.hyperparameters().context;
        if tokens.len() > context as usize {
            return Err(EmbedError::TooLong { text: 0, tokens: tokens.len(), context });
        }
        Ok(tokens)
    }

    /// Token ids of a text, of whose end as much is left out as does not fit the model.
    ///
    /// # Errors
    /// [`EmbedError::Tokenizer`].
    pub fn tokens_cut(&self, text: &str) -> Result<Vec<u32>, EmbedError> {
        Ok(self.front.tokenizer().encode_marked(text, self.front.hyperparameters().context as usize)?)
    }

    /// Embeds texts given as token ids; the results come in the texts' order.
    ///
    /// # Errors
    /// [`EmbedError`], naming the first text at fault.
    pub fn embed(&self, texts: &[&[u32]]) -> Result<Vec<Embedding>, EmbedError> {
        texts.iter().enumerate().try_for_each(|(index, text)| self.check_text(index, text))?;
        let mut out = Vec::with_capacity(texts.len());
        while out.len() < texts.len() {
            let mut tokens = 0;
            let more = texts[out.len()..].iter().take_while(|text| {
                tokens += text.len();
                tokens <= PASS_TOKENS
            });
            // A text longer than a pass has one of its own.
            let count = more.count().max(1);
            let first = out.len();
            out.extend(self.pass(first, &texts[first..first + count])?);
        }
        Ok(out)
    }

    /// Computes a text's embedding again and compares it with what another claims.
    ///
    /// # Errors
    /// [`EmbedError`] when the text itself cannot be embedded.
    pub fn check(&self, tokens: &[u32], vector: &[i32], trace_root: Hash32) -> Result<Check, EmbedError> {
        let ours = &self.embed(&[tokens])?[0];
        Ok(Check { vector: ours.vector == vector, trace: ours.trace.root() == trace_root })
    }

    /// One pass; where it fails, text by text, so that the one at fault is named and no other suffers.
    fn pass(&self, first: usize, texts: &[&[u32]]) -> Result<Vec<Embedding>, EmbedError> {
        let run = |texts: &[&[u32]]| {
            let mut result = Ok(Vec::new());
            self.backend.enter(&mut || result = self.forward(texts));
            result
        };
        run(texts).or_else(|source| {
            if texts.len() == 1 {
                return Err(EmbedError::Numeric { text: first, source });
            }
            let mut out = Vec::with_capacity(texts.len());
            for (index, text) in texts.iter().enumerate() {
                let text = run(&[text]);
                out.extend(text.map_err(|source| EmbedError::Numeric { text: first + index, source })?);
            }
            Ok(out)
        })
    }

    fn check_text(&self, text: usize, tokens: &[u32]) -> Result<(), EmbedError> {
        let hyper = self.front.hyperparameters();
        let (context, vocabulary) = (hyper.context, hyper.vocabulary);
        if tokens.is_empty() {
            return Err(EmbedError::Empty { text });
        }
        if tokens.len() > context as usize {
            return Err(EmbedError::TooLong { text, tokens: tokens.len(), context });
        }
        match tokens.iter().position(|t| *t >= vocabulary) {
            Some(position) => {
                let token = tokens[position];
                Err(EmbedError::TokenOutOfVocabulary { text, position, token, vocabulary })
            }
            None => Ok(()),
        }
    }
}
