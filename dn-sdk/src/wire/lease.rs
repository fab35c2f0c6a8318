//! The gateway's side of one lease, as a pure state machine: time and messages go in, what to do comes out.
//!
//! A worker may lie, stall, repeat or cut; every deviation ends the lease with a [`Violation`], and the call goes on
//! elsewhere from the last good token.

use dn_core::objects::{FinishReason, JobRequest, Receipt, TokenLogprob, TokenLogprobs};
use dn_core::{Address, Hash32, Signed};

use super::{FailReason, ToGateway, ToWorker, running_hash};
use crate::receipt::{ReceiptError, check_receipt};

/// Deadlines of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseLimits {
    /// From the offer to accept or busy, in milliseconds.
    pub accept_ms: u64,
    /// From the acceptance to the first token, in milliseconds: a long prompt takes its time.
    pub first_token_ms: u64,
    /// Between tokens, and from the last one to the receipt, in milliseconds.
    pub stall_ms: u64,
    /// The least time that a receipt must stay valid, in milliseconds.
    pub receipt_validity_ms: u64,
}

impl Default for LeaseLimits {
    fn default() -> Self {
        Self { accept_ms: 3_000, first_token_ms: 120_000, stall_ms: 30_000, receipt_validity_ms: 3_600_000 }
    }
}

/// What happens to a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The worker says something about this lease.
    Message(Box<ToGateway>),
    /// Time passes.
    Tick,
    /// The client went away; so many output tokens had reached it.
    Cancel {
        /// Output tokens delivered.
        delivered: u32,
    },
    /// Everything reached the client: the receipt counts.
    Delivered,
    /// The worker's connection is gone.
    Disconnected,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Tell the worker.
    Send(Box<ToWorker>),
    /// The worker has begun.
    Accepted,
    /// Pass these on with the tokens of the next effect, one for each.
    Logprobs(Vec<TokenLogprobs>),
    /// Pass these tokens on.
    Tokens(Vec<u32>),
    /// The worker is done and its receipt is good; say [`Input::Delivered`] once all tokens reached the client, or
    /// [`Input::Cancel`] if they cannot.
    Complete,
    /// The lease is over.
    End(LeaseEnd),
}

/// How a lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseEnd {
    /// With a receipt that was checked against request and tokens.
    Done(Box<Signed<Receipt>>),
    /// The client went away before anything was delivered: nothing is charged.
    Dropped,
    /// The worker had no slot.
    Busy,
    /// The worker gave up.
    Failed(FailReason),
    /// The worker's connection is gone.
    Disconnected,
    /// A deadline passed.
    Stalled {
        /// What was due.
        waiting_for: &'static str,
    },
    /// The worker broke the protocol.
    Violation(Violation),
}

/// How a worker broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Not the time for this message.
    #[error("unexpected message")]
    Unexpected,
    /// A chunk is missing or came twice.
    #[error("chunk {found}; {expected} expected")]
    Sequence {
        /// The next number.
        expected: u32,
        /// The chunk's.
        found: u32,
    },
    /// The running hash differs.
    #[error("running hash differs at chunk {sequence}")]
    Hash {
        /// The chunk.
        sequence: u32,
    },
    /// A chunk without tokens.
    #[error("empty chunk {sequence}")]
    Empty {
        /// The chunk.
        sequence: u32,
    },
    /// More tokens than were asked for.
    #[error("{found} output tokens; at most {limit} asked for")]
    TooManyTokens {
        /// Tokens with this chunk.
        found: usize,
        /// `max_tokens`.
        limit: u32,
    },
    /// A token that the model does not have.
    #[error("token {found} does not exist; the vocabulary has {vocabulary}")]
    Token {
        /// The token.
        found: u32,
        /// Number of token ids.
        vocabulary: u32,
    },
    /// Log-probabilities that are not those of the chunk's tokens, or not as many as were asked for.
    #[error("chunk {sequence} has other log-probabilities than were asked for")]
    Logprobs {
        /// The chunk.
        sequence: u32,
    },
    /// The receipt is not for what was asked and sent.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// The receipt expires too soon to be settled.
    #[error("receipt expires at {expires_ms} ms, too soon to settle")]
    ReceiptExpiry {
        /// Its expiry, Unix milliseconds.
        expires_ms: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Offered,
    Running,
    Complete,
    Cancelling { keep: u32 },
    Over,
}

/// One job on one worker.
#[derive(Debug, Clone)]
pub struct Lease {
    number: u64,
    worker: Address,
    request: JobRequest,
    vocabulary: u32,
    limits: LeaseLimits,
    phase: Phase,
    tokens: Vec<u32>,
    already: usize,
    sequence: u32,
    hash: Hash32,
    deadline_ms: u64,
    receipt: Option<Box<Signed<Receipt>>>,
}

impl Lease {
    /// Offers a job, of which `already` exists, to a worker; the first effect is the message to send.
    pub fn offer(
        number: u64,
        worker: Address,
        request: JobRequest,
        already: Vec<u32>,
        vocabulary: u32,
        limits: LeaseLimits,
        now_ms: u64,
    ) -> (Self, Effect) {
        let offer = ToWorker::Offer { lease: number, request: request.clone(), already: already.clone() };
        let lease = Self {
            number,
            worker,
            request,
            vocabulary,
            limits,
            phase: Phase::Offered,
            already: already.len(),
            tokens: already,
            sequence: 0,
            hash: Hash32::ZERO,
            deadline_ms: now_ms.saturating_add(limits.accept_ms),
            receipt: None,
        };
        (lease, Effect::Send(Box::new(offer)))
    }

    /// When [`Input::Tick`] is due, Unix milliseconds.
    pub const fn deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    /// All output tokens so far, those that existed before included.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// True once an [`Effect::End`] was given out; everything after it is ignored.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// One step.
    pub fn step(&mut self, now_ms: u64, input: Input, effects: &mut Vec<Effect>) {
        if self.is_over() {
            return;
        }
        match input {
            Input::Message(message) => {
                if let Err(violation) = self.message(now_ms, *message, effects) {
                    self.end(LeaseEnd::Violation(violation), effects);
                }
            }
            Input::Tick if now_ms >= self.deadline_ms => {
                let waiting_for = match self.phase {
                    Phase::Offered => "acceptance",
                    Phase::Cancelling { .. } => "a receipt after the cancellation",
                    _ if self.sequence == 0 => "the first token",
                    _ => "the next token or the receipt",
                };
                self.send(ToWorker::Cancel { lease: self.number, keep: 0 }, effects);
                self.end(LeaseEnd::Stalled { waiting_for }, effects);
            }
            Input::Tick => {}
            Input::Cancel { delivered } => self.cancel(now_ms, delivered, effects),
            Input::Delivered => {
                if let Some(receipt) = self.receipt.take() {
                    self.end(LeaseEnd::Done(receipt), effects);
                }
            }
            // A complete lease needs its worker no more.
            Input::Disconnected if self.phase == Phase::Complete => {}
            Input::Disconnected => self.end(LeaseEnd::Disconnected, effects),
        }
    }

    fn message(
        &mut self,
        now_ms: u64,
        message: ToGateway,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Violation> {
        match (message, self.phase) {
            (ToGateway::Accept { .. }, Phase::Offered) => {
                self.phase = Phase::Running;
                self.deadline_ms = now_ms.saturating_add(self.limits.first_token_ms);
                effects.push(Effect::Accepted);
            }
            (ToGateway::Busy { .. }, Phase::Offered) => self.end(LeaseEnd::Busy, effects),
            (ToGateway::Failed { reason, .. }, _) => self.end(LeaseEnd::Failed(reason), effects),
            (ToGateway::Chunk { sequence, tokens, logprobs, hash, .. }, Phase::Running) => {
                self.chunk(sequence, &tokens, hash)?;
                self.check_logprobs(sequence, &tokens, &logprobs)?;
                if !logprobs.is_empty() {
                    effects.push(Effect::Logprobs(logprobs));
                }
                self.deadline_ms = now_ms.saturating_add(self.limits.stall_ms);
                effects.push(Effect::Tokens(tokens));
            }
            // Under way when the cancellation was sent.
            (ToGateway::Chunk { .. }, Phase::Cancelling { .. }) => {}
            (ToGateway::Done { receipt, .. }, Phase::Running) => {
                self.check(now_ms, &receipt, self.tokens.len(), false)?;
                self.receipt = Some(Box::new(receipt));
                self.phase = Phase::Complete;
                self.deadline_ms = u64::MAX;
                effects.push(Effect::Complete);
            }
            (ToGateway::Done { receipt, .. }, Phase::Cancelling { keep }) => {
                // A receipt for more was under way; one for just this much is as good.
                let cancelled = receipt.body.finish == FinishReason::Cancelled;
                if cancelled || receipt.body.output_tokens == keep {
                    self.check(now_ms, &receipt, keep as usize, cancelled)?;
                    self.end(LeaseEnd::Done(Box::new(receipt)), effects);
                }
            }
            _ => return Err(Violation::Unexpected),
        }
        Ok(())
    }

    fn chunk(&mut self, sequence: u32, tokens: &[u32], hash: Hash32) -> Result<(), Violation> {
        if sequence != self.sequence {
            return Err(Violation::Sequence { expected: self.sequence, found: sequence });
        }
        if tokens.is_empty() {
            return Err(Violation::Empty { sequence });
        }
        let found = self.tokens.len() + tokens.len();
        if found > self.request.max_tokens as usize {
            return Err(Violation::TooManyTokens { found, limit: self.request.max_tokens });
        }
        if let Some(&found) = tokens.iter().find(|token| **token >= self.vocabulary) {
            return Err(Violation::Token { found, vocabulary: self.vocabulary });
        }
        let expected = running_hash(self.hash, sequence, tokens);
        if hash != expected {
            return Err(Violation::Hash { sequence });
        }
        self.hash = expected;
        self.sequence += 1;
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }

    /// One for each token where they were asked for, each of it, with as many alternatives as were asked for.
    fn check_logprobs(
        &self,
        sequence: u32,
        tokens: &[u32],
        logprobs: &[TokenLogprobs],
    ) -> Result<(), Violation> {
        let fits = match self.request.decoding.logprobs {
            None => logprobs.is_empty(),
            Some(top) => {
                let top = u32::from(top).min(self.vocabulary) as usize;
                let exists = |one: &TokenLogprob| one.token < self.vocabulary;
                let of = |(shown, token): (&TokenLogprobs, &u32)| {
                    shown.chosen.token == *token && shown.top.len() == top && shown.top.iter().all(exists)
                };
                logprobs.len() == tokens.len() && logprobs.iter().zip(tokens).all(of)
            }
        };
        if fits { Ok(()) } else { Err(Violation::Logprobs { sequence }) }
    }

    fn check(
        &self,
        now_ms: u64,
        receipt: &Signed<Receipt>,
        kept: usize,
        cancelled: bool,
    ) -> Result<(), Violation> {
        let body = &receipt.body;
        if body.worker != self.worker {
            return Err(ReceiptError::Worker { expected: self.worker, found: body.worker }.into());
        }
        if (body.finish == FinishReason::Cancelled) != cancelled {
            return Err(ReceiptError::Finish { found: body.finish }.into());
        }
        check_receipt(receipt, &self.request, &self.tokens[..kept])?;
        if body.expires_ms < now_ms.saturating_add(self.limits.receipt_validity_ms) {
            return Err(Violation::ReceiptExpiry { expires_ms: body.expires_ms });
        }
        Ok(())
    }

    fn cancel(&mut self, now_ms: u64, delivered: u32, effects: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Cancelling { .. }) {
            return;
        }
        let tokens = u32::try_from(self.tokens.len()).unwrap_or(u32::MAX);
        let keep = delivered.min(tokens);
        if let Some(receipt) = self.receipt.take_if(|_| keep == tokens) {
            return self.end(LeaseEnd::Done(receipt), effects);
        }
        self.send(ToWorker::Cancel { lease: self.number, keep }, effects);
        if keep == 0 {
            return self.end(LeaseEnd::Dropped, effects);
        }
        self.phase = Phase::Cancelling { keep };
        self.deadline_ms = now_ms.saturating_add(self.limits.stall_ms);
    }

    fn send(&self, message: ToWorker, effects: &mut Vec<Effect>) {
        effects.push(Effect::Send(Box::new(message)));
    }

    fn end(&mut self, end: LeaseEnd, effects: &mut Vec<Effect>) {
        self.phase = Phase::Over;
        effects.push(Effect::End(end));
    }

    /// How many of the tokens this worker added.
    pub fn added(&self) -> usize {
        self.tokens.len() - self.already
    }
}
