//! Continuous batching: many answers through the layers together, each with the bits that it has alone.
//!
//! [`Batcher`] is the state machine: requests and a clock go in, events come out, one [`step`](Batcher::step) at a
//! time. [`Runner`] drives one on a thread of its own for callers on other threads.
//!
//! # A step
//! Every sequence that decodes gets its one token. What is left of the step's token budget is shared among the prompts that
//! are still being read, evenly, so that neither a long prompt nor a long queue stops anybody. Sequences join and leave
//! between steps. Memory for keys and values is reserved for a whole answer when it is admitted; requests are
//! admitted in the order in which they came.
//!
//! # Prefix cache
//! Full pages of 64 positions are kept by the tokens before and in them, per [`CacheScope`], least recently used out first. A request
//! without a scope neither reads nor writes the cache. Whoever shares a scope can learn by the time to the first token
//! whether another has sent the same beginning: give each tenant its own.

mod error;
mod options;
mod prefix;
mod runner;
mod sequence;
mod share;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

pub use error::BatchError;
pub use options::{BatchEvent, BatchOptions, BatchRequest, BatchStatus, RequestId};
pub use prefix::CacheScope;
pub use runner::{CancelHandle, Runner, Ticket, Update};

use super::feed::{Aborted, Fed};
use super::{Engine, GenerateError};
use prefix::PrefixCache;
use sequence::{Interrupt, Sequence, Waiting};

/// Serves many requests with one engine, a step at a time.
#[derive(Debug)]
pub struct Batcher {
    engine: Arc<Engine>,
    options: BatchOptions,
    waiting: VecDeque<Waiting>,
    running: Vec<Sequence>,
    cache: PrefixCache,
    /// Bytes of keys and values promised to those that run.
    reserved: u64,
    next: u64,
}

impl Batcher {
    /// A batcher without requests.
    pub fn new(engine: Arc<Engine>, options: BatchOptions) -> Self {
        let page = engine.decoder.kv_bytes(1);
        Self {
            cache: PrefixCache::new(options.prefix_cache_bytes, page),
            engine,
            options,
            waiting: VecDeque::new(),
            running: Vec::new(),
            reserved: 0,
            next: 0,
        }
    }

    /// The engine.
    pub const fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Takes a request; its events come from the next steps.
    ///
    /// # Errors
    /// [`BatchError`]; the request then leaves no trace.
    pub fn submit(&mut self, request: BatchRequest) -> Result<RequestId, BatchError> {
        self.submit_with(request, Arc::default())
    }

    /// As [`submit`](Self::submit), with the flag by which the request is cancelled.
    pub(super) fn submit_with(
        &mut self,
        request: BatchRequest,
        cancel: Arc<AtomicBool>,
    ) -> Result<RequestId, BatchError> {
        if self.waiting.len() >= self.options.queue.get() {
            return Err(BatchError::QueueFull { limit: self.options.queue.get() });
        }
        let waiting = Waiting::new(&self.engine, RequestId(self.next), request, cancel)?;
        let (needed, limit) = (waiting.bytes, self.options.kv_bytes);
        if needed > limit {
            return Err(BatchError::Memory { needed, limit });
        }
        self.next += 1;
        let id = waiting.id;
        self.waiting.push_back(waiting);
        Ok(id)
    }

    /// Cancels a request; its last event comes from the next step. Says whether it was still there.
    pub fn cancel(&mut self, id: RequestId) -> bool {
        let waiting = self.waiting.iter().map(|w| (w.id, &w.cancel));
        let mut all = waiting.chain(self.running.iter().map(|s| (s.id, &s.cancel)));
        match all.find(|(found, _)| *found == id) {
            Some((_, cancel)) => {
                cancel.store(true, Ordering::Relaxed);
                true
            }
            None => false,
        }
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Counts and memory.
    pub fn status(&self) -> BatchStatus {
        BatchStatus {
            waiting: self.waiting.len(),
            running: self.running.len(),
            kv_bytes: self.running.iter().map(|s| s.session.memory_bytes() as u64).sum(),
            kv_reserved_bytes: self.reserved,
            prefix_cache_bytes: self.cache.bytes(),
            prefix_pages_found: self.cache.found(),
        }
    }

    /// One pass of tokens through the layers, and what came of it. `now` is what deadlines are compared with.
    pub fn step(&mut self, now: Instant) -> Vec<BatchEvent> {
        let mut events = Vec::new();
        self.sweep(now, &mut events);
        self.admit(now, &mut events);
        let shares = self.shares();
        if let Ok(results) = self.feed(&shares) {
            self.take(&shares, results, &mut events);
        }
        events
    }

    /// Lets go of what was cancelled or is too late.
    fn sweep(&mut self, now: Instant, events: &mut Vec<BatchEvent>) {
        self.waiting.retain(|w| match Interrupt::of(&w.cancel, w.request.deadline, now) {
            Some(interrupt) => {
                let error = interrupt.error(0, w.request.prompt.len());
                events.push(BatchEvent::Failed { id: w.id, error });
                false
            }
            None => true,
        });
        for index in (0..self.running.len()).rev() {
            let sequence = &self.running[index];
            if let Some(interrupt) = Interrupt::of(&sequence.cancel, sequence.deadline, now) {
                let sequence = self.remove(index);
                events.push(sequence.interrupted(interrupt));
            }
        }
    }

    /// Lets requests in while there is a slot, and memory for the whole of their answer.
    fn admit(&mut self, now: Instant, events: &mut Vec<BatchEvent>) {
        while self.running.len() < self.options.slots.get() {
            let fits = |w: &Waiting| w.bytes <= self.options.kv_bytes - self.reserved;
            if !self.waiting.front().is_some_and(fits) {
                return;
            }
            let Some(waiting) = self.waiting.pop_front() else { return };
            let (id, bytes) = (waiting.id, waiting.bytes);
            match waiting.start(&self.engine, &mut self.cache, now) {
                Ok(sequence) => {
                    self.reserved += bytes;
                    self.running.push(sequence);
                }
                Err(error) => events.push(BatchEvent::Failed { id, error }),
            }
        }
    }

    /// How many tokens each running sequence is fed.
    fn shares(&self) -> Vec<usize> {
        let decoding = self.running.iter().filter(|s| s.is_decoding()).count();
        let reading = self.running.len() - decoding;
        let budget = if decoding == 0 {
            self.engine.chunk
        } else {
            self.options.step_tokens.get().saturating_sub(decoding)
        };
        let wanted: Vec<usize> =
            self.running.iter().map(|s| if s.is_decoding() { 0 } else { s.pending().len() }).collect();
        let mut shares = share::fair_shares(&wanted, budget.max(reading));
        for (share, sequence) in shares.iter_mut().zip(&self.running) {
            if sequence.is_decoding() {
                *share = 1;
            }
        }
        shares
    }

    fn feed(&mut self, shares: &[usize]) -> Result<Vec<Fed>, Aborted> {
        let cancels: Vec<Arc<AtomicBool>> = self.running.iter().map(|s| Arc::clone(&s.cancel)).collect();
        // Others' work is not thrown away: only when nobody wants the step it is given up.
        let abort = || cancels.iter().all(|cancel| cancel.load(Ordering::Relaxed));
        let mut feeds: Vec<_> = self.running.iter_mut().zip(shares).map(|(s, n)| s.feed(*n)).collect();
        if feeds.is_empty() {
            return Ok(Vec::new());
        }
        self.engine.feed_many(&mut feeds, &abort)
    }

    /// Gives each sequence its new tokens; those that have ended leave.
    fn take(&mut self, shares: &[usize], results: Vec<Fed>, events: &mut Vec<BatchEvent>) {
        let mut ended = Vec::new();
        for (index, ((sequence, result), share)) in
            self.running.iter_mut().zip(results).zip(shares).enumerate()
        {
            let id = sequence.id;
            let mut new = |choice| events.push(BatchEvent::Token { id, choice });
            match result.map_err(GenerateError::from).and_then(|()| sequence.take(*share, &mut new)) {
                Ok(()) => sequence.keep_pages(&mut self.cache),
                Err(error) => {
                    ended.push((index, Some(error)));
                    continue;
                }
            }
            if sequence.is_done() {
                ended.push((index, None));
            }
        }
        for (index, error) in ended.into_iter().rev() {
            let sequence = self.remove(index);
            events.push(match error {
                Some(error) => BatchEvent::Failed { id: sequence.id, error },
                None => sequence.done(),
            });
        }
    }

    fn remove(&mut self, index: usize) -> Sequence {
        let sequence = self.running.remove(index);
        self.reserved -= sequence.bytes;
        sequence
    }
}
