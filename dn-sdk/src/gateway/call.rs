//! One call: reserve a slot, hold the money, lease, stream, go on elsewhere when a worker fails, settle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dn_core::objects::{JobRequest, Receipt, TokenLogprobs};
use dn_core::{Address, Amount, ChannelId, Hash32, SecretKey, Signed};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::error::ApiError;
use super::metrics::approximate_dn;
use super::money::{Hold, HoldRequest, SessionHold};
use super::render::Outcome;
use super::session::SessionRefusal;
use super::shared::{Served, Shared, off_thread};
use super::store::{IdempotencyRecord, ReceiptRecord, Settlement};
use super::workers::Slot;
use crate::clock::now_ms;
use crate::wire::{Effect, FailReason, Input, Lease, LeaseEnd, ToWorker};

/// How long a voucher that the gateway signs for an API key can be claimed.
const VOUCHER_VALIDITY_MS: u64 = 90 * 24 * 3_600_000;

/// Who pays, and how vouchers come about.
#[derive(Debug, Clone)]
pub(crate) struct Payer {
    pub(crate) address: Address,
    pub(crate) channel: ChannelId,
    pub(crate) lane: u32,
    /// Signs for the caller; `None` when the caller sends vouchers.
    pub(crate) spending_key: Option<SecretKey>,
    /// The session key that signs the vouchers, if it is one.
    pub(crate) session: Option<Address>,
    /// Whose `Idempotency-Key`s these are.
    pub(crate) scope: Hash32,
}

/// A call that is ready to run.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) request: JobRequest,
    pub(crate) model: Arc<Served>,
    pub(crate) payer: Payer,
    /// Hash of the `Idempotency-Key` and of the body.
    pub(crate) idempotency: Option<(Hash32, Hash32)>,
}

/// What the caller sees of it.
#[derive(Debug)]
pub(crate) enum CallEvent {
    /// New tokens, and a log-probability for each where the caller asked for them.
    Tokens {
        tokens: Vec<u32>,
        logprobs: Vec<TokenLogprobs>,
    },
    Done(Box<Outcome>),
    Failed(ApiError),
}

/// The caller's end: events, and how many tokens of them were taken over.
#[derive(Debug)]
pub(crate) struct CallStream {
    events: mpsc::Receiver<CallEvent>,
    delivered: Arc<AtomicU32>,
    streamed: bool,
}

impl CallStream {
    /// The next event; when the answer is streamed, tokens count as delivered once they are returned here.
    pub(crate) async fn next(&mut self) -> Option<CallEvent> {
        let event = self.events.recv().await?;
        if let CallEvent::Tokens { tokens, .. } = &event
            && self.streamed
        {
            let count = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
            self.delivered.fetch_add(count, Ordering::AcqRel);
        }
        Some(event)
    }
}

/// Starts a call. Dropping the stream cancels it: what was delivered until then is charged, which is nothing when the
/// answer is not `streamed` but sent as a whole.
pub(crate) fn start(shared: Arc<Shared>, call: Call, streamed: bool) -> CallStream {
    let (events, receiver) = mpsc::channel(1);
    let delivered = Arc::new(AtomicU32::new(0));
    let stream = CallStream { events: receiver, delivered: delivered.clone(), streamed };
    tokio::spawn(async move {
        shared.calls.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        let (tokens, logprobs) = (Vec::new(), Vec::new());
        let mut driver = Driver { shared, call, events, delivered, started, tokens, logprobs, sent: 0 };
        match driver.run().await {
            Ok(Some(outcome)) => {
                let _ = driver.events.send(CallEvent::Done(Box::new(outcome))).await;
            }
            Ok(None) => {}
            Err(error) => {
                let _ = driver.events.send(CallEvent::Failed(error)).await;
            }
        }
        driver.shared.calls.fetch_sub(1, Ordering::Relaxed);
    });
    stream
}

struct Driver {
    shared: Arc<Shared>,
    call: Call,
    events: mpsc::Sender<CallEvent>,
    delivered: Arc<AtomicU32>,
    started: Instant,
    /// All output so far, over all workers.
    tokens: Vec<u32>,
    /// One for each of them where the caller asked for it, else none.
    logprobs: Vec<TokenLogprobs>,
    /// How many of them were handed to the caller's channel.
    sent: usize,
}

impl Driver {
    /// Tries worker after worker; `None` when the caller went away before anything was delivered.
    async fn run(&mut self) -> Result<Option<Outcome>, ApiError> {
        let (mut excluded, mut hold): (Vec<Address>, Option<Hold>) = (Vec::new(), None);
        let mut tried = 0;
        while tried < self.shared.limits().max_attempts {
            let request = &self.call.request;
            let slot = self.shared.workers.reserve(request.model, request.price, &excluded);
            let Some(slot) = slot else { break };
            if hold.is_none() {
                hold = Some(self.hold().await?);
            }
            let worker = slot.session().worker;
            excluded.push(worker);
            let (lease, end) = self.lease(&slot).await;
            self.shared.metrics.lease_ended(end_name(&end));
            match end {
                LeaseEnd::Done(receipt) => {
                    let Some(hold) = hold.take() else { return Err(ApiError::Internal) };
                    let outcome = self.settle(*receipt, hold).await?;
                    slot.session()
                        .send(ToWorker::Settled { lease, receipt: outcome.receipt.body.id() })
                        .await;
                    return Ok(Some(outcome));
                }
                LeaseEnd::Dropped => return Ok(None),
                // Another gateway took the slot: nobody's fault.
                LeaseEnd::Busy => continue,
                LeaseEnd::Failed(FailReason::Diverges { position }) => {
                    tracing::warn!(%worker, position, "a worker says that another one's output is not the model's");
                    return Err(ApiError::WorkersFailed);
                }
                other => {
                    tracing::warn!(%worker, how = ?other, tokens = self.tokens.len(), "lease failed");
                    slot.session().failed();
                }
            }
            tried += 1;
            if self.events.is_closed() {
                return Ok(None);
            }
            if !self.tokens.is_empty() {
                self.shared.metrics.resumed();
            }
        }
        if tried > 0 {
            return Err(ApiError::WorkersFailed);
        }
        let (request, model) = (&self.call.request, self.call.model.view.name.clone());
        let priced_out = self.shared.workers.priced_out(request.model, request.price);
        Err(if priced_out { ApiError::PricedOut { model } } else { ApiError::NoWorker { model } })
    }

    /// Holds the most that the call can cost.
    async fn hold(&self) -> Result<Hold, ApiError> {
        let amount = self.call.request.max_fee().map_err(|_| ApiError::Internal)?;
        let Payer { channel, lane, .. } = self.call.payer;
        let cached = self.shared.config().refresh_interval;
        match self.hold_with(amount, cached).await {
            // The channel may have been topped up, the session granted anew, since they were last looked at.
            Err(ApiError::Balance { .. } | ApiError::Session { .. }) => {
                self.hold_with(amount, Duration::ZERO).await
            }
            other => other,
        }
        .inspect_err(|error| tracing::debug!(%channel, lane, %error, "call not held"))
    }

    async fn hold_with(&self, amount: Amount, max_age: Duration) -> Result<Hold, ApiError> {
        let Payer { channel, lane, ref spending_key, .. } = self.call.payer;
        let view = self.shared.channel(channel, max_age).await.map_err(|_| ApiError::LedgerDown)?;
        let Some(view) = view else {
            return Err(ApiError::Balance { channel, available: Amount::ZERO, needed: amount });
        };
        if view.finish_height.is_some() {
            return Err(ApiError::Closing { channel });
        }
        let session = match self.call.payer.session {
            Some(session) => Some(self.session_hold(session, amount, max_age).await?),
            None => None,
        };
        self.shared.money.hold(HoldRequest {
            channel,
            lane,
            amount,
            deposit: view.deposit,
            by_voucher: spending_key.is_none(),
            max_calls: self.shared.limits().max_calls_per_channel,
            session,
        })
    }

    /// What a session may spend, if it may make this call.
    async fn session_hold(
        &self,
        session: Address,
        amount: Amount,
        max_age: Duration,
    ) -> Result<SessionHold, ApiError> {
        let refused = |reason| ApiError::Session { session, reason };
        let known = self.shared.session(self.call.payer.address, session, max_age).await;
        let known = known.map_err(|_| ApiError::LedgerDown)?.ok_or(refused(SessionRefusal::Revoked))?;
        known.check_open(now_ms(), self.shared.limits().voucher_validity).map_err(refused)?;
        known.check_call(self.call.request.model, amount).map_err(refused)?;
        Ok(SessionHold { session, left: known.left(), claimed: known.claimed })
    }

    /// Runs the job on one worker, from the last token on.
    async fn lease(&mut self, slot: &Slot) -> (u64, LeaseEnd) {
        let session = slot.session().clone();
        let (number, mut inputs) = session.lease();
        let began = Instant::now();
        let (lease, offer) = Lease::offer(
            number,
            session.worker,
            self.call.request.clone(),
            self.tokens.clone(),
            self.call.model.front.vocabulary(),
            self.shared.config().lease_limits,
            now_ms(),
        );
        let mut running =
            Running { lease, effects: vec![offer], complete: false, cancelled: false, first_token: None };
        let end = loop {
            if let Some(end) = self.apply(&session, &mut running).await {
                break end;
            }
            self.wait(&mut running, &mut inputs).await;
        };
        session.end_lease(number);
        if let LeaseEnd::Done(_) = &end {
            let first_token = running.first_token.map(|at| (at - began).as_secs_f64() * 1000.0);
            session.succeeded(self.call.request.model, first_token);
        }
        (number, end)
    }

    /// Carries effects out; returns how the lease ended, once it did.
    async fn apply(&mut self, session: &super::workers::Session, running: &mut Running) -> Option<LeaseEnd> {
        for effect in std::mem::take(&mut running.effects) {
            match effect {
                Effect::Send(message) => session.send(*message).await,
                Effect::Accepted => {}
                Effect::Logprobs(logprobs) => self.logprobs.extend(logprobs),
                Effect::Tokens(tokens) => {
                    if self.tokens.is_empty() {
                        self.shared.metrics.first_token(self.started.elapsed());
                    }
                    running.first_token.get_or_insert_with(Instant::now);
                    self.tokens.extend_from_slice(&tokens);
                }
                Effect::Complete => running.complete = true,
                Effect::End(end) => return Some(end),
            }
        }
        None
    }

    /// Waits for whatever comes first and steps the lease.
    async fn wait(&mut self, running: &mut Running, inputs: &mut mpsc::UnboundedReceiver<Input>) {
        let limits = self.shared.limits();
        let call_deadline = self.started + limits.call_timeout;
        let delivery = if running.cancelled { Duration::MAX } else { limits.delivery_timeout };
        let open = !running.cancelled;
        let deliver = open && (self.sent < self.tokens.len() || running.complete);
        let due = Duration::from_millis(running.lease.deadline_ms().saturating_sub(now_ms()).min(3_600_000));
        let gone = Input::Cancel { delivered: self.delivered.load(Ordering::Acquire) };
        let input = tokio::select! {
            input = inputs.recv() => input.unwrap_or(Input::Disconnected),
            permit = self.events.reserve(), if deliver => match permit {
                Err(_) => gone,
                Ok(permit) if self.sent < self.tokens.len() => {
                    let tokens = self.tokens[self.sent..].to_vec();
                    let logprobs = self.logprobs.get(self.sent..).unwrap_or_default().to_vec();
                    permit.send(CallEvent::Tokens { tokens, logprobs });
                    self.sent = self.tokens.len();
                    return;
                }
                // Room in the channel after the last tokens: they were taken.
                Ok(_) => Input::Delivered,
            },
            () = self.events.closed(), if open => gone,
            () = tokio::time::sleep(delivery), if deliver => gone,
            () = tokio::time::sleep_until(call_deadline), if open => gone,
            () = tokio::time::sleep(due) => Input::Tick,
        };
        if let Input::Cancel { delivered } = &input {
            // Read again: the caller may have taken more just before it left.
            let delivered = (*delivered).max(self.delivered.load(Ordering::Acquire));
            running.cancelled = true;
            return running.step(Input::Cancel { delivered });
        }
        running.step(input);
    }

    /// Charges: receipt, voucher and idempotency record become durable in one step.
    async fn settle(&self, receipt: Signed<Receipt>, hold: Hold) -> Result<Outcome, ApiError> {
        let body = &receipt.body;
        let output = self.tokens[..body.output_tokens as usize].to_vec();
        let request = self.call.request.clone();
        let logprobs = self.logprobs.iter().take(output.len()).cloned().collect();
        let record =
            ReceiptRecord { receipt: receipt.clone(), request, output, logprobs, assignments: Vec::new() };
        let settled_ms = now_ms();
        let idempotency = self.call.idempotency.map(|(key, body_hash)| {
            (key, IdempotencyRecord { body: body_hash, receipt: body.id(), settled_ms })
        });
        let spending_key = self.call.payer.spending_key.clone();
        let (shared, kept) = (self.shared.clone(), record);
        let (state, record) = off_thread(move || {
            let state = shared.store.settle(&Settlement {
                record: &kept,
                spending_key: spending_key.as_ref(),
                voucher_expires_ms: settled_ms + VOUCHER_VALIDITY_MS,
                idempotency,
            });
            (state, kept)
        })
        .await?;
        let state = state.map_err(|error| {
            tracing::error!(%error, "call cannot be settled");
            ApiError::Internal
        })?;
        hold.charge(&state);
        let took = self.started.elapsed();
        let fee = approximate_dn(body.fee);
        self.shared.metrics.charged(body.prompt_tokens, body.output_tokens, fee, took);
        Ok(Outcome { request: record.request, receipt, tokens: record.output })
    }
}

struct Running {
    lease: Lease,
    effects: Vec<Effect>,
    complete: bool,
    cancelled: bool,
    first_token: Option<Instant>,
}

impl Running {
    fn step(&mut self, input: Input) {
        self.lease.step(now_ms(), input, &mut self.effects);
    }
}

const fn end_name(end: &LeaseEnd) -> &'static str {
    match end {
        LeaseEnd::Done(_) => "done",
        LeaseEnd::Dropped => "dropped",
        LeaseEnd::Busy => "busy",
        LeaseEnd::Failed(_) => "failed",
        LeaseEnd::Disconnected => "disconnected",
        LeaseEnd::Stalled { .. } => "stalled",
        LeaseEnd::Violation(_) => "violation",
    }
}
