//! The workers that dialled in: their connections, slots and leases.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use dn_core::encoding::Canonical;
use dn_core::objects::Price;
use dn_core::{Address, ModelId};
use rand_core::{OsRng, RngCore};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

use super::router::{Candidate, choose};
use super::shared::Shared;
use super::{WorkerStatus, countersign};
use crate::wire::{self, Abilities, Input, RefuseReason, ToGateway, ToWorker, VERSION};

/// How often a worker is pinged.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one message may take to be written to a worker that does not read.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
const OUTGOING: usize = 256;
/// The most slots that a worker is believed to have.
const MAX_SLOTS: u16 = 256;
/// Weight of the newest measurement in the moving average of the latency.
const NEWEST: f64 = 0.2;

/// What routing knows of a worker.
#[derive(Debug, Clone, Copy)]
struct Standing {
    trust: f64,
    latency_ms: Option<f64>,
    failures: u32,
}

/// A connected worker.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) worker: Address,
    slots: usize,
    models: Vec<ModelId>,
    /// The least it works for.
    price: Price,
    out: mpsc::Sender<ToWorker>,
    leases: Mutex<HashMap<u64, mpsc::UnboundedSender<Input>>>,
    next_lease: AtomicU64,
    busy: AtomicUsize,
    draining: AtomicBool,
    closed: AtomicBool,
    /// A batch is being checked; one at a time, for each costs look-ups in store and ledger.
    countersigning: AtomicBool,
    closing: Notify,
    standing: Mutex<Standing>,
    warm: Mutex<Vec<ModelId>>,
}

/// All connected workers.
#[derive(Debug, Default)]
pub(crate) struct Workers(Mutex<HashMap<Address, Arc<Session>>>);

/// A reserved slot; free again when dropped.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Session>);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.0
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Session {
    /// A new lease: its number and what will be heard of it.
    pub(crate) fn lease(&self) -> (u64, mpsc::UnboundedReceiver<Input>) {
        let number = self.next_lease.fetch_add(1, Ordering::Relaxed);
        let (inputs, incoming) = mpsc::unbounded_channel();
        let mut leases = locked(&self.leases);
        // Under the same lock as the end of the connection, so that no lease is left without an end.
        if self.closed.load(Ordering::Acquire) {
            let _ = inputs.send(Input::Disconnected);
        } else {
            leases.insert(number, inputs);
        }
        (number, incoming)
    }

    pub(crate) fn end_lease(&self, number: u64) {
        locked(&self.leases).remove(&number);
    }

    /// Sends, unless the connection is gone.
    pub(crate) async fn send(&self, message: ToWorker) {
        let _ = self.out.send(message).await;
    }

    /// A job went well: time to its first token, and the model is warm now.
    pub(crate) fn succeeded(&self, model: ModelId, first_token_ms: Option<f64>) {
        let mut standing = locked(&self.standing);
        standing.failures = 0;
        if let Some(new) = first_token_ms {
            let old = standing.latency_ms.unwrap_or(new);
            standing.latency_ms = Some(old + (new - old) * NEWEST);
        }
        let mut warm = locked(&self.warm);
        if !warm.contains(&model) {
            warm.push(model);
        }
    }

    /// A job went wrong by the worker's fault.
    pub(crate) fn failed(&self) {
        let mut standing = locked(&self.standing);
        standing.failures = standing.failures.saturating_add(1);
    }

    pub(crate) fn set_trust(&self, trust: f64) {
        locked(&self.standing).trust = trust;
    }

    fn candidate(&self, model: ModelId) -> Candidate {
        let standing = *locked(&self.standing);
        let open = !self.draining.load(Ordering::Relaxed) && !self.closed.load(Ordering::Relaxed);
        let free = if open { self.slots.saturating_sub(self.busy.load(Ordering::Acquire)) } else { 0 };
        Candidate {
            trust: standing.trust,
            latency_ms: standing.latency_ms,
            free,
            slots: self.slots,
            warm: locked(&self.warm).contains(&model),
            failures: standing.failures,
        }
    }

    fn status(&self) -> WorkerStatus {
        WorkerStatus {
            address: self.worker,
            slots: self.slots,
            busy: self.busy.load(Ordering::Acquire),
            draining: self.draining.load(Ordering::Relaxed),
        }
    }

    /// Ends all leases; no new ones begin.
    fn close(&self) {
        let mut leases = locked(&self.leases);
        self.closed.store(true, Ordering::Release);
        for (_, inputs) in leases.drain() {
            let _ = inputs.send(Input::Disconnected);
        }
        self.closing.notify_one();
    }

    /// Passes what the worker said about a lease on to its call. Leases that are over are nobody's business any more.
    fn deliver(&self, lease: u64, message: ToGateway) {
        if let Some(inputs) = locked(&self.leases).get(&lease) {
            let _ = inputs.send(Input::Message(Box::new(message)));
        }
    }
}

impl Workers {
    /// Reserves a slot of a worker that hosts the model, works for the price and is not excluded.
    pub(crate) fn reserve(&self, model: ModelId, price: Price, excluded: &[Address]) -> Option<Slot> {
        // Choosing and reserving happen under one lock, so a slot is never given twice.
        let sessions = locked(&self.0);
        let hosts: Vec<_> = sessions
            .values()
            .filter(|session| session.models.contains(&model) && price.covers(session.price))
            .filter(|session| !excluded.contains(&session.worker))
            .collect();
        let candidates: Vec<_> = hosts.iter().map(|session| session.candidate(model)).collect();
        let session = hosts[choose(&candidates, (uniform(), uniform()))?].clone();
        session.busy.fetch_add(1, Ordering::AcqRel);
        Some(Slot(session))
    }

    /// Whether workers host the model, none of them for the price.
    pub(crate) fn priced_out(&self, model: ModelId, price: Price) -> bool {
        let sessions = locked(&self.0);
        let mut hosts = sessions.values().filter(|session| session.models.contains(&model)).peekable();
        hosts.peek().is_some() && hosts.all(|session| !price.covers(session.price))
    }

    pub(crate) fn sessions(&self) -> Vec<Arc<Session>> {
        locked(&self.0).values().cloned().collect()
    }

    pub(crate) fn status(&self) -> Vec<WorkerStatus> {
        let mut all: Vec<_> = locked(&self.0).values().map(|session| session.status()).collect();
        all.sort_by_key(|status| status.address);
        all
    }

    /// Free slots and all slots.
    pub(crate) fn slots(&self) -> (usize, usize) {
        let all = self.status();
        let slots: usize = all.iter().map(|status| status.slots).sum();
        let busy: usize = all.iter().map(|status| status.busy).sum();
        (slots.saturating_sub(busy), slots)
    }

    /// Closes the connection of a worker that may not act any more.
    pub(crate) fn expel(&self, worker: Address) {
        if let Some(session) = locked(&self.0).remove(&worker) {
            session.close();
        }
    }

    fn add(&self, session: Arc<Session>, limit: usize) -> bool {
        let mut sessions = locked(&self.0);
        if sessions.len() >= limit && !sessions.contains_key(&session.worker) {
            return false;
        }
        // The newest connection of a worker counts: an old one may be a dead socket.
        if let Some(old) = sessions.insert(session.worker, session) {
            old.close();
        }
        true
    }

    fn remove(&self, session: &Arc<Session>) {
        let mut sessions = locked(&self.0);
        if sessions.get(&session.worker).is_some_and(|current| Arc::ptr_eq(current, session)) {
            sessions.remove(&session.worker);
        }
        drop(sessions);
        session.close();
    }
}

/// A uniform number in 0..1.
#[allow(clippy::cast_precision_loss)]
fn uniform() -> f64 {
    (OsRng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

async fn write(socket: &mut WebSocket, message: &ToWorker) -> bool {
    let sending = socket.send(Message::Binary(message.to_bytes().into()));
    matches!(timeout(SEND_TIMEOUT, sending).await, Ok(Ok(())))
}

/// Serves one worker's connection to its end.
pub(crate) async fn serve(shared: Arc<Shared>, mut socket: WebSocket) {
    let (session, outgoing) = match greet(&shared, &mut socket).await {
        Ok(greeted) => greeted,
        Err(reason) => {
            tracing::info!(?reason, "worker refused");
            write(&mut socket, &ToWorker::Refused { reason }).await;
            return;
        }
    };
    tracing::info!(worker = %session.worker, slots = session.slots, "worker connected");
    exchange(&shared, &session, socket, outgoing).await;
    shared.workers.remove(&session);
    tracing::info!(worker = %session.worker, "worker disconnected");
}

/// The next binary message; `None` when the connection ends or the message is not one.
async fn next_message(socket: &mut WebSocket) -> Option<ToGateway> {
    loop {
        match socket.recv().await? {
            Ok(Message::Binary(bytes)) => return wire::decode(&bytes).ok(),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

async fn greet(
    shared: &Arc<Shared>,
    socket: &mut WebSocket,
) -> Result<(Arc<Session>, mpsc::Receiver<ToWorker>), RefuseReason> {
    let (chain_id, gateway) = (shared.chain_id, shared.address());
    let mut challenge = [0; 32];
    OsRng.fill_bytes(&mut challenge);
    write(socket, &ToWorker::Challenge { version: VERSION, chain_id, gateway, nonce: challenge }).await;
    let hello = timeout(HELLO_TIMEOUT, next_message(socket)).await.ok().flatten();
    let hello = hello.ok_or(RefuseReason::Signature)?;
    let verified = wire::verify_hello(chain_id, gateway, &challenge, &hello);
    let (worker, Abilities { slots, models, price }) = verified.map_err(|error| match error {
        wire::HelloError::Version { .. } => RefuseReason::Version,
        _ => RefuseReason::Signature,
    })?;
    let ToGateway::Hello { nonce, .. } = hello else { return Err(RefuseReason::Signature) };
    let trust = match shared.worker_trust(worker).await {
        Ok(Some(trust)) => trust,
        Ok(None) => return Err(RefuseReason::NotRegistered),
        Err(_) => return Err(RefuseReason::LedgerDown),
    };
    let models: Vec<_> = models.into_iter().filter(|model| shared.serves(*model)).collect();
    if models.is_empty() || slots == 0 {
        return Err(RefuseReason::NoModel);
    }
    let (out, outgoing) = mpsc::channel(OUTGOING);
    let session = Arc::new(Session {
        worker,
        slots: slots.min(MAX_SLOTS).into(),
        models,
        price,
        out,
        leases: Mutex::default(),
        next_lease: AtomicU64::new(1),
        busy: AtomicUsize::new(0),
        draining: AtomicBool::new(false),
        closed: AtomicBool::new(false),
        countersigning: AtomicBool::new(false),
        closing: Notify::new(),
        standing: Mutex::new(Standing { trust, latency_ms: None, failures: 0 }),
        warm: Mutex::default(),
    });
    let signature = shared.key().sign(&wire::welcome_digest(chain_id, worker, &challenge, &nonce));
    let heartbeat_ms = u32::try_from(HEARTBEAT.as_millis()).unwrap_or(5_000);
    if !shared.workers.add(session.clone(), shared.limits().max_workers) {
        return Err(RefuseReason::Full);
    }
    if write(socket, &ToWorker::Welcome { heartbeat_ms, signature }).await {
        Ok((session, outgoing))
    } else {
        shared.workers.remove(&session);
        Err(RefuseReason::Full)
    }
}

async fn exchange(
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    mut socket: WebSocket,
    mut outgoing: mpsc::Receiver<ToWorker>,
) {
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    let mut last_heard = Instant::now();
    let mut nonce = 0;
    loop {
        tokio::select! {
            Some(message) = outgoing.recv() => {
                if !write(&mut socket, &message).await {
                    return;
                }
            }
            message = next_message(&mut socket) => {
                let Some(message) = message else { return };
                last_heard = Instant::now();
                if !handle(shared, session, message) {
                    return;
                }
            }
            () = session.closing.notified() => return,
            () = shared.stop_requested() => return,
            _ = heartbeat.tick() => {
                let silent = last_heard.elapsed() > HEARTBEAT * 3;
                nonce += 1;
                if silent || !write(&mut socket, &ToWorker::Ping { nonce }).await {
                    return;
                }
            }
        }
    }
}

/// One message of a greeted worker; false when the connection has to end.
fn handle(shared: &Arc<Shared>, session: &Arc<Session>, message: ToGateway) -> bool {
    if let Some(lease) = message.lease() {
        session.deliver(lease, message);
        return true;
    }
    match message {
        ToGateway::Countersign { batch, receipts } => {
            if session.countersigning.swap(true, Ordering::AcqRel) {
                return true;
            }
            let (shared, session) = (shared.clone(), session.clone());
            tokio::spawn(async move {
                let answer = countersign::countersign(&shared, session.worker, batch, receipts).await;
                session.countersigning.store(false, Ordering::Release);
                session.send(answer).await;
            });
            true
        }
        ToGateway::Drain {} => {
            session.draining.store(true, Ordering::Relaxed);
            true
        }
        ToGateway::Pong { .. } => true,
        // A second hello, or a message about a lease, which was handled above.
        _ => false,
    }
}
