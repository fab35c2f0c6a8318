//! Generation and its proof.
//!
//! An answer is a function of model, prompt, sampler settings and limits. [`Engine::generate`] computes it token by
//! token, [`Engine::replay`] all at once; both feed the same decoder, so their bits are equal.

mod answer;
mod batch;
mod check;
mod ending;
mod error;
mod feed;
mod load;
mod logits;
mod memory;
mod options;
mod replay;
mod settings;

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dn_core::Hash32;
use dn_core::objects::{Decoding, FinishReason, JobRequest, Sampling, TokenLogprobs};

pub use batch::{
    BatchError, BatchEvent, BatchOptions, BatchRequest, BatchStatus, Batcher, CacheScope, CancelHandle,
    RequestId, Runner, Ticket, Update,
};
pub use error::{EngineError, GenerateError};
pub use memory::{DeviceNeed, MemoryNeed, MemoryPlan, Workload, available_memory};
pub use options::{BackendKind, EngineOptions, ParseBackendError};
pub use replay::{Divergence, DivergenceKind, Replay, ReplayRequest};
pub use settings::{
    BackendChoice, ByteSize, ComputeSettings, ComputeSettingsError, ParseBackendChoiceError,
    ParseByteSizeError,
};

use crate::model::Model;
use crate::runtime::{Backends, Decoder, OnLogits, Place, Session, Split};
use crate::sampling::Choice;
use crate::spec::{Backend, BackendInfo, DeviceFailure, NumericError};
use crate::trace::Trace;
use crate::verify::witness::{Witness, WitnessError};
use answer::{Answer, Followed};
use ending::Ending;
use feed::Feed;

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

/// What was generated without a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untraced {
    /// As [`Generation::tokens`].
    pub tokens: Vec<u32>,
    /// As [`Generation::finish`].
    pub finish: FinishReason,
    /// As [`Generation::logprobs`].
    pub logprobs: Vec<TokenLogprobs>,
    /// As [`Generation::timings`].
    pub timings: Timings,
}

impl Generation {
    /// The same answer broken off after `kept` tokens, as if it had been cancelled there; nothing is computed. As it is when
    /// it has no more tokens than that, or when none would be left.
    pub fn cut(mut self, kept: usize) -> Self {
        if kept > 0 && kept < self.tokens.len() {
            // The last token is not fed, so it has no leaf.
            self.trace.truncate(self.trace.leaves().len() - (self.tokens.len() - kept));
            self.tokens.truncate(kept);
            self.logprobs.truncate(kept);
            self.trace_root = self.trace.root();
            self.finish = FinishReason::Cancelled;
        }
        self
    }
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
    /// The device that was asked for and has nothing of the model.
    unused: Option<DeviceNeed>,
}

impl Engine {
    /// Prepares the weights for this machine.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn new(model: Arc<Model>, options: EngineOptions) -> Result<Self, EngineError> {
        let first: Arc<dyn Backend> = options.backend()?.into();
        let plan = options.plan_on(model.front(), first.as_ref())?;
        let backends = options.backends(&plan, first)?;
        Ok(Self { unused: plan.unused(), ..Self::on(model, backends, options)? })
    }

    /// Prepares the weights for backends of the caller's: of the options only the size of a step counts.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn on(
        model: Arc<Model>,
        backends: impl Into<Backends>,
        options: EngineOptions,
    ) -> Result<Self, EngineError> {
        let decoder = Decoder::on(&model, backends)?;
        Ok(Self { model, decoder, chunk: options.prefill_chunk.get(), unused: None })
    }

    /// The model.
    pub const fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// What computes: name, instruction set, threads.
    pub fn info(&self) -> BackendInfo {
        self.decoder.info()
    }

    /// Why every request fails from now on, once a device is gone. A new engine opens it anew; where that does not help, a new
    /// process may.
    pub fn failure(&self) -> Option<DeviceFailure> {
        self.decoder.backends().failure()
    }

    /// What the model takes where, for the workload of the options: a plan as before loading, of how it is in fact.
    pub fn memory(&self, options: &EngineOptions) -> MemoryPlan {
        let (front, backends) = (self.model.front(), self.decoder.backends());
        let device = backends.at(Place::Layer(0)).device_memory();
        let split = if device.is_some() { backends.share(front.hyperparameters()) } else { Split::NONE };
        let plan = MemoryPlan::of_split(front, options, device, split);
        MemoryPlan { device: plan.device.or_else(|| self.unused.clone()), ..plan }
    }

    /// The device that was asked for, if the plan left it nothing: the CPU then computes everything.
    pub fn unused_device(&self) -> Option<&str> {
        self.unused.as_ref().map(|device| device.name.as_str())
    }

    /// Where parts of the model are shared between a device and the CPU: how.
    pub fn shared(&self) -> Option<Split> {
        self.decoder.backends().shared()
    }

    /// Bytes that the weights take.
    ///
    /// # Units
    /// Bytes.
    pub fn weight_bytes(&self) -> u64 {
        self.decoder.weight_bytes()
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
        let (Untraced { tokens, finish, logprobs, timings }, session) = self.run(request, true, on_choice)?;
        let trace = session.into_trace();
        Ok(Generation { tokens, finish, logprobs, trace_root: trace.root(), trace, timings })
    }

    /// Generates without a trace: for measuring what the trace costs. The result has no commitment, so nothing can be
    /// claimed with it.
    ///
    /// # Errors
    /// [`GenerateError`].
    pub fn generate_untraced(
        &self,
        request: &GenerateRequest<'_>,
        on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Untraced, GenerateError> {
        self.run(request, false, &mut |choice| on_token(choice.token)).map(|(answer, _)| answer)
    }

    fn run(
        &self,
        request: &GenerateRequest<'_>,
        traced: bool,
        on_choice: &mut dyn FnMut(&Choice) -> ControlFlow<()>,
    ) -> Result<(Untraced, Session), GenerateError> {
        let started = Instant::now();
        check::tokens(self.model.front(), request)?;
        let mut finish = self.already_ends(request)?;
        let answer = Answer::new(self.model.front(), request)?;
        let mut tokens = request.already.to_vec();
        let positions = request.prompt.len() + answer.limit();
        let mut session = match traced {
            true => self.decoder.session(positions)?,
            false => self.decoder.untraced_session(positions)?,
        };
        // The last token of an answer that has ended is not fed.
        let fed = tokens.len() - usize::from(finish.is_some());
        let known = [request.prompt, &tokens[..fed]].concat();
        let mut followed = Followed::new(answer);
        self.follow(&mut session, &known, request, &mut followed)?;
        for (index, (choice, found)) in followed.choices.iter().zip(&tokens).enumerate() {
            if choice.token != *found {
                let (position, expected, found) = (request.prompt.len() + index, choice.token, *found);
                return Err(GenerateError::AlreadyDiverges { position, expected, found });
            }
        }
        let mut timings = Timings { prefill_tokens: known.len() as u32, ..Timings::default() };
        timings.prefill = started.elapsed();
        let finish = loop {
            if let Some(reason) = finish {
                break reason;
            }
            finish = followed.accept();
            let choice = followed.choices.last().expect("a token was chosen after the last one fed");
            let token = choice.token;
            tokens.push(token);
            let flow = on_choice(choice);
            if finish.is_none() {
                if flow.is_break() {
                    break FinishReason::Cancelled;
                }
                self.follow(
                    &mut session,
                    &[token],
                    &GenerateRequest { already: &tokens, ..*request },
                    &mut followed,
                )?;
                timings.decode_tokens += 1;
            }
        };
        timings.decode = started.elapsed() - timings.prefill;
        let logprobs = followed.into_logprobs();
        Ok((Untraced { tokens, finish, logprobs, timings }, session))
    }

    /// Logits of every position, `tokens.len()` rows of the vocabulary's length.
    ///
    /// # Errors
    /// [`GenerateError`].
    pub fn logits(&self, tokens: &[u32]) -> Result<Vec<f32>, GenerateError> {
        let mut out = Vec::new();
        self.each_logits(tokens, &mut |row| {
            out.extend_from_slice(row);
            ControlFlow::Continue(())
        })?;
        Ok(out)
    }

    /// Computes a request and an answer to it in one pass, so that it can be opened at any place: to dispute somebody
    /// else's receipt for them, or to defend one's own.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn witness<'a>(
        &'a self,
        request: &'a JobRequest,
        output: &'a [u32],
    ) -> Result<Witness<'a>, WitnessError> {
        Witness::replay(&self.model, &self.decoder, request, output, self.chunk.max(1))
    }

    /// Feeds tokens that come next, and asks the sampler after the prompt and after each further token. The output known
    /// is `request.already`.
    fn follow(
        &self,
        session: &mut Session,
        tokens: &[u32],
        request: &GenerateRequest<'_>,
        followed: &mut Followed,
    ) -> Result<(), NumericError> {
        let (from, output) = (request.prompt.len() - 1, request.already);
        tokens.chunks(self.chunk).try_for_each(|tokens| {
            let feed = Feed { session: &mut *session, tokens, from, output, followed: &mut *followed };
            let Ok(mut fed) = self.feed_many(&mut [feed], &|| false) else {
                unreachable!("nobody gave it up")
            };
            fed.pop().unwrap_or(Ok(()))
        })
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
}
