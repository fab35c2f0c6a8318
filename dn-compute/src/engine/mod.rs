//! Generation and its proof.
//!
//! An answer is a function of model, prompt, sampler settings and limits. [`Engine::generate`] computes it token by
//! token, [`Engine::replay`] all at once; both feed the same decoder, so their bits are equal.

mod answer;
mod ending;
mod error;
mod options;
mod replay;

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dn_core::Hash32;
use dn_core::objects::{Decoding, FinishReason, Sampling, TokenLogprobs};

pub use error::{EngineError, GenerateError};
pub use options::{BackendKind, EngineOptions, ParseBackendError};
pub use replay::{Divergence, DivergenceKind, Replay};

use crate::model::Model;
use crate::runtime::{Decoder, OnLogits, Session};
use crate::sampling::Choice;
use crate::spec::{BackendInfo, NumericError};
use crate::trace::Trace;
use answer::{Answer, Followed};
use ending::Ending;

/// What to generate.
#[derive(Debug, Clone, Copy)]
pub struct GenerateRequest<'a> {
    /// Prompt as token ids; at least one.
    pub prompt: &'a [u32],
    /// Output that exists already, to be continued bit for bit; empty for a new answer.
    pub already: &'a [u32],
    /// Numbers of the sampler.
    pub sampling: Sampling,
    /// Biases, bans, grammar and log-probabilities; [`Decoding::plain`] for none.
    pub decoding: &'a Decoding,
    /// Most output tokens, those of `already` counted.
    pub max_tokens: u32,
    /// Texts that end the answer: it ends with the token that completes the first of them.
    pub stop: &'a [String],
}

/// What was generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// All output tokens, with the stop token where one ended the answer.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: FinishReason,
    /// What the model thought of each output token, where that was asked for.
    pub logprobs: Vec<TokenLogprobs>,
    /// The trace commitment.
    pub trace_root: Hash32,
    /// What the commitment is made of.
    pub trace: Trace,
    /// How long it took.
    pub timings: Timings,
}

/// How long the parts took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// Tokens that went through in one pass: the prompt and what existed already.
    pub prefill_tokens: u32,
    /// Time of that pass, to the first choice of a token.
    pub prefill: Duration,
    /// Tokens fed one at a time.
    pub decode_tokens: u32,
    /// Time of that.
    pub decode: Duration,
}

/// Runs a model. Shared between threads, it serves several requests at once.
#[derive(Debug)]
pub struct Engine {
    model: Arc<Model>,
    decoder: Decoder,
    chunk: usize,
}

impl Engine {
    /// Prepares the weights for this machine.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn new(model: Arc<Model>, options: EngineOptions) -> Result<Self, EngineError> {
        let decoder = Decoder::new(&model, options.backend()?)?;
        Ok(Self { model, decoder, chunk: options.prefill_chunk.get() })
    }

    /// The model.
    pub const fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// What computes: name, instruction set, threads.
    pub fn info(&self) -> BackendInfo {
        self.decoder.info()
    }

    /// Generates, calling `on_token` with each new token; it may break off.
    ///
    /// With [`GenerateRequest::already`], what exists is checked against the model and continued; `on_token` sees the new
    /// tokens only, and the result is the same as that of one uninterrupted call.
    ///
    /// # Errors
    /// [`GenerateError`].
    pub fn generate(
        &self,
        request: &GenerateRequest<'_>,
        on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Generation, GenerateError> {
        self.generate_choices(request, &mut |choice| on_token(choice.token))
    }

    /// [`generate`](Self::generate) for a caller who wants the log-probabilities as they come.
    ///
    /// # Errors
    /// [`GenerateError`].
    pub fn generate_choices(
        &self,
        request: &GenerateRequest<'_>,
        on_choice: &mut dyn FnMut(&Choice) -> ControlFlow<()>,
    ) -> Result<Generation, GenerateError> {
        let started = Instant::now();
        self.check(request)?;
        let mut finish = self.already_ends(request)?;
        let answer = Answer::new(self.model.front(), request)?;
        let mut tokens = request.already.to_vec();
        let mut session = self.decoder.session(request.prompt.len() + answer.limit())?;
        // The last token of an answer that has ended is not fed.
        let fed = tokens.len() - usize::from(finish.is_some());
        let known = [request.prompt, &tokens[..fed]].concat();
        let mut followed = Followed::new(answer, request.already);
        self.follow(&mut session, &known, request.prompt.len(), &mut followed)?;
        let (mut answer, mut scratch, choices) = followed.into_answer();
        for (index, (choice, found)) in choices.iter().zip(&tokens).enumerate() {
            if choice.token != *found {
                let (position, expected, found) = (request.prompt.len() + index, choice.token, *found);
                return Err(GenerateError::AlreadyDiverges { position, expected, found });
            }
        }
        let mut timings = Timings { prefill_tokens: known.len() as u32, ..Timings::default() };
        timings.prefill = started.elapsed();
        let mut logprobs: Vec<TokenLogprobs> =
            choices[..tokens.len()].iter().filter_map(|choice| choice.logprobs.clone()).collect();
        let mut next = choices.into_iter().next_back();
        let finish = loop {
            if let Some(reason) = finish {
                break reason;
            }
            let choice = next.take().expect("a token was chosen after the last one fed");
            tokens.push(choice.token);
            finish = answer.push(choice.token);
            let flow = on_choice(&choice);
            logprobs.extend(choice.logprobs);
            if finish.is_none() {
                if flow.is_break() {
                    break FinishReason::Cancelled;
                }
                self.feed(&mut session, &[choice.token], 0, &mut |_, logits| {
                    next = Some(answer.choose(logits, &mut scratch));
                })?;
                timings.decode_tokens += 1;
            }
        };
        timings.decode = started.elapsed() - timings.prefill;
        let trace = session.trace().clone();
        Ok(Generation { tokens, finish, logprobs, trace_root: trace.root(), trace, timings })
    }

    /// Logits of every position, `tokens.len()` rows of the vocabulary's length.
    ///
    /// # Errors
    /// [`GenerateError`].
    pub fn logits(&self, tokens: &[u32]) -> Result<Vec<f32>, GenerateError> {
        if tokens.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        let front = self.model.front();
        if tokens.len() > front.context() as usize {
            return Err(GenerateError::ContextExceeded { prompt: tokens.len(), context: front.context() });
        }
        self.check_vocabulary(tokens, 0)?;
        let mut session = self.decoder.session(tokens.len())?;
        let mut out = Vec::new();
        self.feed_chunks(&mut session, tokens, 0, &mut |_, logits| out.extend_from_slice(logits))?;
        Ok(out)
    }

    /// Feeds `known`, prompt and output, and asks the sampler after the prompt and after each further token.
    fn follow(
        &self,
        session: &mut Session,
        known: &[u32],
        prompt: usize,
        followed: &mut Followed<'_, '_>,
    ) -> Result<(), NumericError> {
        self.feed_chunks(session, known, prompt - 1, &mut |_, logits| followed.step(logits))
    }

    /// Whether what exists has ended with its last token.
    fn already_ends(&self, request: &GenerateRequest<'_>) -> Result<Option<FinishReason>, GenerateError> {
        if request.already.is_empty() {
            return Ok(None);
        }
        let mut answer = Answer::new(self.model.front(), request)?;
        for (index, token) in request.already.iter().enumerate() {
            if let Some(reason) = answer.push(*token) {
                let (length, found) = (index + 1, request.already.len());
                if length < found {
                    return Err(GenerateError::AlreadyTooLong { length, found });
                }
                return Ok(Some(reason));
            }
        }
        Ok(None)
    }

    fn feed_chunks(
        &self,
        session: &mut Session,
        tokens: &[u32],
        logits_from: usize,
        on_logits: &mut OnLogits<'_>,
    ) -> Result<(), NumericError> {
        tokens.chunks(self.chunk).try_for_each(|chunk| self.feed(session, chunk, logits_from, on_logits))
    }

    fn feed(
        &self,
        session: &mut Session,
        tokens: &[u32],
        logits_from: usize,
        on_logits: &mut OnLogits<'_>,
    ) -> Result<(), NumericError> {
        let mut result = Ok(());
        self.decoder.enter(&mut || result = self.decoder.feed(session, tokens, logits_from, on_logits));
        result
    }

    fn check(&self, request: &GenerateRequest<'_>) -> Result<(), GenerateError> {
        let context = self.model.front().context();
        let prompt = request.prompt.len();
        if prompt == 0 {
            return Err(GenerateError::EmptyPrompt);
        }
        if request.max_tokens == 0 {
            return Err(GenerateError::NoTokens);
        }
        if prompt >= context as usize {
            return Err(GenerateError::ContextExceeded { prompt, context });
        }
        self.check_vocabulary(request.prompt, 0)?;
        self.check_vocabulary(request.already, prompt)
    }

    fn check_vocabulary(&self, tokens: &[u32], first: usize) -> Result<(), GenerateError> {
        let vocabulary = self.model.front().vocabulary();
        match tokens.iter().position(|t| *t >= vocabulary) {
            Some(at) => {
                let (position, token) = (first + at, tokens[at]);
                Err(GenerateError::TokenOutOfVocabulary { position, token, vocabulary })
            }
            None => Ok(()),
        }
    }
}
