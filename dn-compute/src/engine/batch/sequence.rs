//! One request in a batch, from waiting to its last token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use dn_core::objects::FinishReason;

use super::prefix::{PageKey, PrefixCache};
use super::{BatchEvent, BatchRequest, RequestId};
use crate::engine::answer::{Answer, Followed};
use crate::engine::check;
use crate::engine::feed::Feed;
use crate::engine::{Engine, GenerateError, Generation, Timings};
use crate::runtime::Session;
use crate::sampling::Choice;
use crate::spec::attention::KEY_BLOCK;

/// Why an answer is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interrupt {
    Cancelled,
    Deadline,
}

impl Interrupt {
    pub(super) fn of(cancel: &AtomicBool, deadline: Option<Instant>, now: Instant) -> Option<Self> {
        if cancel.load(Ordering::Relaxed) {
            return Some(Self::Cancelled);
        }
        deadline.is_some_and(|deadline| deadline <= now).then_some(Self::Deadline)
    }

    /// The error of a request that has no token yet.
    pub(super) const fn error(self, read: usize, prompt: usize) -> GenerateError {
        match self {
            Self::Cancelled => GenerateError::Cancelled { read, prompt },
            Self::Deadline => GenerateError::Deadline { read, prompt },
        }
    }
}

/// A checked request without a slot.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) id: RequestId,
    pub(super) request: BatchRequest,
    pub(super) cancel: Arc<AtomicBool>,
    /// What the keys and values of the longest answer take.
    pub(super) bytes: u64,
    answer: Answer,
    finish: Option<FinishReason>,
}

impl Waiting {
    pub(super) fn new(
        engine: &Engine,
        id: RequestId,
        request: BatchRequest,
        cancel: Arc<AtomicBool>,
    ) -> Result<Self, GenerateError> {
        let view = request.generate_request();
        check::tokens(engine.model().front(), &view)?;
        let finish = engine.already_ends(&view)?;
        let answer = Answer::new(engine.model.front(), &view)?;
        let bytes = engine.decoder.kv_bytes(request.prompt.len() + answer.limit());
        Ok(Self { id, request, cancel, bytes, answer, finish })
    }

    /// Gives it a session, with what the cache knows of the prompt.
    pub(super) fn start(
        self,
        engine: &Engine,
        cache: &mut PrefixCache,
        now: Instant,
    ) -> Result<Sequence, GenerateError> {
        let Self { id, request, cancel, bytes, answer, finish } = self;
        let prompt = request.prompt.len();
        let mut session = engine.decoder.session(prompt + answer.limit())?;
        let mut chain = request.scope.map(|scope| (None, PageKey::root(scope)));
        // The prompt's last position is always computed: the first choice needs its logits.
        for tokens in request.prompt[..prompt - 1].chunks_exact(KEY_BLOCK) {
            let Some((_, before)) = chain else { break };
            let key = before.next(tokens);
            let Some(page) = cache.get(key) else { break };
            session.append_page(&page)?;
            chain = Some((Some(key), key));
        }
        let mut known = request.prompt;
        known.extend_from_slice(&request.already);
        let target = known.len() - usize::from(finish.is_some());
        let fed = (target - session.len()) as u32;
        Ok(Sequence {
            id,
            cancel,
            deadline: request.deadline,
            bytes,
            kept: session.len() / KEY_BLOCK,
            session,
            followed: Followed::new(answer),
            finish,
            known,
            prompt,
            chosen: 0,
            chain,
            started: now,
            timings: Timings { prefill_tokens: fed, ..Timings::default() },
        })
    }
}

/// A request that runs.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) id: RequestId,
    pub(super) cancel: Arc<AtomicBool>,
    pub(super) deadline: Option<Instant>,
    pub(super) bytes: u64,
    pub(super) session: Session,
    followed: Followed,
    finish: Option<FinishReason>,
    /// Prompt and output; the output's last token is not fed before it is known that the answer goes on.
    known: Vec<u32>,
    /// Length of the prompt.
    prompt: usize,
    /// Output tokens that the sampler has chosen, or confirmed.
    chosen: usize,
    /// The last page kept and the key that the next one continues; `None` where nothing is shared.
    chain: Option<(Option<PageKey>, PageKey)>,
    /// Pages in the cache.
    kept: usize,
    started: Instant,
    timings: Timings,
}

impl Sequence {
    /// What is known and not fed yet.
    pub(super) fn pending(&self) -> &[u32] {
        let target = self.known.len() - usize::from(self.finish.is_some());
        &self.known[self.session.len()..target]
    }

    /// Whether the next step is for one more token.
    pub(super) fn is_decoding(&self) -> bool {
        self.chosen > 0 && self.chosen == self.known.len() - self.prompt
    }

    /// Whether the answer has ended and every token of it is the sampler's.
    pub(super) fn is_done(&self) -> bool {
        self.finish.is_some() && self.is_decoding()
    }

    /// The next `tokens` of what is pending.
    pub(super) fn feed(&mut self, tokens: usize) -> Feed<'_> {
        let first = self.session.len();
        Feed {
            session: &mut self.session,
            tokens: &self.known[first..first + tokens],
            from: self.prompt - 1,
            output: &self.known[self.prompt..],
            followed: &mut self.followed,
        }
    }

    /// Takes what was chosen after `fed` tokens; `new` gets the tokens that are new.
    pub(super) fn take(&mut self, fed: usize, new: &mut dyn FnMut(Choice)) -> Result<(), GenerateError> {
        if self.is_decoding() {
            self.timings.decode_tokens += fed as u32;
        }
        while let Some(choice) = self.followed.choices.get(self.chosen) {
            match self.known.get(self.prompt + self.chosen) {
                Some(found) if *found == choice.token => {}
                Some(found) => {
                    let (position, expected, found) = (self.prompt + self.chosen, choice.token, *found);
                    return Err(GenerateError::AlreadyDiverges { position, expected, found });
                }
                None => {
                    self.known.push(choice.token);
                    new(choice.clone());
                    self.finish = self.followed.accept();
                }
            }
            self.chosen += 1;
        }
        if self.timings.prefill.is_zero() && self.is_decoding() {
            self.timings.prefill = self.started.elapsed();
        }
        Ok(())
    }

    /// Puts full pages into the cache.
    pub(super) fn keep_pages(&mut self, cache: &mut PrefixCache) {
        while let Some((parent, before)) = self.chain
            && (self.kept + 1) * KEY_BLOCK <= self.session.len()
        {
            let key = before.next(&self.known[self.kept * KEY_BLOCK..(self.kept + 1) * KEY_BLOCK]);
            let kept = cache.put(parent, key, || self.session.page(self.kept));
            self.chain = kept.then_some((Some(key), key));
            self.kept += 1;
        }
    }

    /// The event of an answer that was cut off: what there is of it, or an error when there is no token to keep.
    pub(super) fn interrupted(mut self, interrupt: Interrupt) -> BatchEvent {
        if !self.is_decoding() {
            let read = self.session.len().min(self.prompt);
            return BatchEvent::Failed { id: self.id, error: interrupt.error(read, self.prompt) };
        }
        self.finish = Some(FinishReason::Cancelled);
        self.done()
    }

    /// The event of an answer that has ended.
    pub(super) fn done(self) -> BatchEvent {
        let mut timings = self.timings;
        timings.decode = self.started.elapsed().saturating_sub(timings.prefill);
        let trace = self.session.into_trace();
        let generation = Generation {
            tokens: self.known[self.prompt..].to_vec(),
            finish: self.finish.unwrap_or(FinishReason::Cancelled),
            logprobs: self.followed.into_logprobs(),
            trace_root: trace.root(),
            trace,
            timings,
        };
        BatchEvent::Done { id: self.id, generation: Box::new(generation) }
    }
}
