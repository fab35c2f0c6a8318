//! The sampler of one answer: settings, what it remembers, and where a grammar stands.

use dn_core::objects::{Decoding, Sampling, SettingsError, TokenLogprobs};

use super::penalties::Penalties;
use super::select::{SelectScratch, best, best_fixed, draw_one};
use super::transform::biased;
use super::{fixed, logprobs};
use crate::cpu::sampling::fill;
use crate::grammar::{Constraint, GrammarError};
use crate::model::ModelFront;

/// Room to work in; one for any number of samplers that take turns. It holds no state.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) fixed: Vec<i64>,
    pub(super) select: SelectScratch,
}

/// What a sampler chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The token.
    pub token: u32,
    /// What the model thought of it, where that was asked for.
    pub logprobs: Option<TokenLogprobs>,
}

/// Where an answer stands after a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It goes on.
    Open,
    /// The grammar is complete: nothing may follow.
    Complete,
    /// Nothing can follow though the grammar is not complete: no allowed token is left, or a limit of the grammar's
    /// engine was reached.
    Stuck,
    /// The grammar does not allow this token here; the sampler is of no further use.
    Refused,
}

/// Chooses the tokens of one answer. It owns all that it needs between tokens.
///
/// [`choose`](Self::choose) depends on the logits, the settings, the prompt and the tokens [accepted](Self::accept) so
/// far, and on nothing else.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    /// Token and bias, in millionths.
    bias: Vec<(u32, i32)>,
    banned: Vec<u32>,
    top_logprobs: Option<usize>,
    penalties: Option<Penalties>,
    constraint: Option<Constraint>,
    index: u32,
}

impl Sampler {
    /// The sampler of an answer to `prompt`.
    ///
    /// # Errors
    /// [`SamplerError`].
    pub fn new(
        front: &ModelFront,
        prompt: &[u32],
        sampling: &Sampling,
        decoding: &Decoding,
    ) -> Result<Self, SamplerError> {
        let constraint = match decoding.grammar.is_none() {
            true => None,
            // Bounds first: they hold for the grammar's text too.
            false => {
                decoding.check()?;
                Some(front.constrainer()?.start(&decoding.grammar)?)
            }
        };
        Self::assemble(prompt, sampling, decoding, constraint, front.vocabulary())
    }

    pub(crate) fn assemble(
        prompt: &[u32],
        sampling: &Sampling,
        decoding: &Decoding,
        constraint: Option<Constraint>,
        vocabulary: u32,
    ) -> Result<Self, SamplerError> {
        sampling.check()?;
        decoding.check()?;
        let listed = decoding.bias.iter().map(|b| &b.token).chain(&decoding.banned);
        if let Some(token) = listed.copied().find(|t| *t >= vocabulary) {
            return Err(SamplerError::Token { token, vocabulary });
        }
        let out = Self {
            sampling: *sampling,
            bias: decoding.bias.iter().map(|b| (b.token, b.bias_micro)).collect(),
            banned: decoding.banned.clone(),
            top_logprobs: decoding.logprobs.map(usize::from),
            penalties: Penalties::new(sampling, prompt),
            constraint,
            index: 0,
        };
        let left = match &out.constraint {
            Some(constraint) => constraint.allows_any(&out.banned),
            None => out.banned.len() < vocabulary as usize,
        };
        if left { Ok(out) } else { Err(SamplerError::NothingLeft) }
    }

    /// The same sampler once more; `None` with a grammar, whose state has no copies.
    pub(crate) fn fork(&self) -> Option<Self> {
        if self.constraint.is_some() {
            return None;
        }
        let (bias, banned, penalties) = (self.bias.clone(), self.banned.clone(), self.penalties.clone());
        let Self { sampling, top_logprobs, index, .. } = *self;
        Some(Self { sampling, bias, banned, top_logprobs, penalties, constraint: None, index })
    }

    /// The next token.
    ///
    /// # Panics
    /// When there are fewer logits than token ids.
    pub fn choose(&self, logits: &[f32], scratch: &mut Scratch) -> Choice {
        assert!(!logits.is_empty(), "a vocabulary has at least one token");
        let greedy = self.sampling.temperature_micro == 0;
        let touched = self.penalties.is_some() || !self.bias.is_empty();
        let excluded = self.constraint.is_some() || !self.banned.is_empty();
        if greedy && !touched && !excluded && self.top_logprobs.is_none() {
            return Choice { token: best(logits), logprobs: None };
        }
        fill(logits, &mut scratch.fixed);
        let raw = self.top_logprobs.is_some() && (touched || excluded);
        let raw = if raw { scratch.fixed.clone() } else { Vec::new() };
        self.transform(&mut scratch.fixed);
        let token = if greedy {
            best_fixed(&scratch.fixed, logits)
        } else {
            draw_one(&scratch.fixed, &self.sampling, self.index, &mut scratch.select)
        };
        let of = if raw.is_empty() { &scratch.fixed } else { &raw };
        let logprobs = self.top_logprobs.map(|top| logprobs::from_fixed(logits, of, token, top));
        Choice { token, logprobs }
    }

    /// Steps 2 to 4.
    fn transform(&self, fixed: &mut [i64]) {
        if let Some(penalties) = &self.penalties {
            penalties.apply(fixed);
        }
        for (token, bias_micro) in &self.bias {
            let l = &mut fixed[*token as usize];
            *l = biased(*l, *bias_micro);
        }
        if let Some(constraint) = &self.constraint {
            constraint.exclude(fixed, fixed::EXCLUDED);
        }
        for token in &self.banned {
            fixed[*token as usize] = fixed::EXCLUDED;
        }
    }

    /// Takes the token that was chosen as part of the answer.
    ///
    /// Any other token is the business of no answer: without a grammar it is taken, with one it may be
    /// [refused](Progress::Refused).
    pub fn accept(&mut self, token: u32) -> Progress {
        self.index += 1;
        if let Some(penalties) = &mut self.penalties {
            penalties.push(token);
        }
        let Some(constraint) = &mut self.constraint else { return Progress::Open };
        match constraint.accept(token) {
            Progress::Open if !constraint.allows_any(&self.banned) => Progress::Stuck,
            progress => progress,
        }
    }
}

/// Why a request's settings cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SamplerError {
    /// A setting is out of bounds.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A bias or ban of a token that does not exist.
    #[error("token {token} is biased or banned, but the vocabulary has {vocabulary} tokens")]
    Token {
        /// The token.
        token: u32,
        /// Number of token ids.
        vocabulary: u32,
    },
    /// Nothing may be chosen.
    #[error("no token is left to begin the answer with: bans and grammar exclude all")]
    NothingLeft,
    /// The grammar cannot be used.
    #[error(transparent)]
    Grammar(#[from] GrammarError),
}
