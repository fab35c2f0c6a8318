//! How an engine computes.

use std::num::NonZeroUsize;

use super::EngineError;
use crate::reference::Reference;
use crate::spec::Backend;

/// Instruction sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Isa {
    /// The best that the machine has.
    #[default]
    Auto,
}

/// Tokens fed at a time, unless told otherwise.
const PREFILL_CHUNK: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// How an engine computes. None of it changes a bit of any result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// Threads; `None` is one per core.
    pub threads: Option<NonZeroUsize>,
    /// Instruction set.
    pub isa: Isa,
    /// Most tokens fed at a time.
    pub prefill_chunk: NonZeroUsize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { threads: None, isa: Isa::default(), prefill_chunk: PREFILL_CHUNK }
    }
}

impl EngineOptions {
    pub(super) fn backend(&self) -> Result<Box<dyn Backend>, EngineError> {
        Ok(Box::new(Reference))
    }
}
