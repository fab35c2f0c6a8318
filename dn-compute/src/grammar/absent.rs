//! What stands in for grammars where the feature is off: a refusal.

use dn_core::objects::Grammar;

use super::GrammarError;
use crate::sampling::Progress;
use crate::tokenizer::Tokenizer;

/// Refuses every grammar.
#[derive(Debug)]
pub(crate) struct Constrainer {}

/// There is none.
#[derive(Debug)]
pub(crate) enum Constraint {}

impl Constrainer {
    pub(crate) fn new(_: &Tokenizer, _: u32, _: &[u32]) -> Result<Self, GrammarError> {
        Err(GrammarError::NotBuilt)
    }

    pub(crate) fn start(&self, _: &Grammar) -> Result<Constraint, GrammarError> {
        Err(GrammarError::NotBuilt)
    }
}

impl Constraint {
    pub(crate) fn allows_any(&self, _: &[u32]) -> bool {
        match *self {}
    }

    pub(crate) fn exclude(&self, _: &mut [i64], _: i64) {
        match *self {}
    }

    pub(crate) fn accept(&mut self, _: u32) -> Progress {
        match *self {}
    }
}
