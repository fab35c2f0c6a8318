//! The worker's connections: dial, greet, take leases, and dial again when a connection is lost.

mod ending;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use dn_core::objects::{BatchRoot, JobRequest};
use dn_core::{Address, Amount, ModelId, ReceiptId, SecretKey};
use dn_ledger::tx::Role;
use dn_ledger::views::ModelView;
use futures_util::StreamExt;
use rand_core::{OsRng, RngCore};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::error::ConnectionError;
use super::job::{Job, Signal};
use super::socket::{Socket, dial, greet, send, socket_url};
use super::store::WorkerStore;
use super::{Executor, Worker, WorkerConfig, WorkerError, WorkerFailure, WorkerStatus, batch, defence};
use crate::clock::now_ms;
use crate::ledger::LedgerClient;
use crate::wire::{self, FailReason, MAX_BATCH_RECEIPTS, ToGateway, ToWorker};

const COUNTERSIGN_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// Messages that may wait to be sent on one connection.
const OUTGOING: usize = 1024;
/// Batches that a worker may have open, beside those of when it last looked, when a call's own is posted.
const BATCHES_TO_COME: u64 = 4;

/// A gateway that this worker is connected to.
#[derive(Debug, Clone)]
struct Link {
    gateway: Address,
    out: mpsc::Sender<ToGateway>,
}

/// What all tasks of a worker share.
pub(crate) struct Shared {
    config: WorkerConfig,
    chain_id: u64,
    store: WorkerStore,
    models: RwLock<HashMap<ModelId, ModelView>>,
    slots: Arc<Semaphore>,
    links: Mutex<Vec<Link>>,
    countersign: Mutex<Option<oneshot::Sender<ToWorker>>>,
    /// Receipts that must not go into a batch yet: the gateway still delivers their answers.
    unsettled: Mutex<HashMap<ReceiptId, Instant>>,
    settle: Notify,
    draining: AtomicBool,
    broken: watch::Sender<Option<WorkerFailure>>,
    done: AtomicU64,
    batches: AtomicU64,
    batch_limit: AtomicUsize,
    /// When each gateway last signed a batch that costs more than it brings.
    small_batches: Mutex<HashMap<Address, Instant>>,
    /// The highest fee that the collateral stands for; none where any is paid.
    max_fee: Mutex<Option<Amount>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.config.fmt(f)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn address(&self) -> Address {
        self.config.key.address()
    }
    pub(super) const fn key(&self) -> &SecretKey {
        &self.config.key
    }
    pub(super) fn executor(&self) -> &dyn Executor {
        self.config.executor.as_ref()
    }
    pub(super) const fn store(&self) -> &WorkerStore {
        &self.store
    }
    pub(super) const fn config(&self) -> &WorkerConfig {
        &self.config
    }
    pub(super) const fn chain_id(&self) -> u64 {
        self.chain_id
    }
    pub(super) const fn ledger(&self) -> &LedgerClient {
        &self.config.ledger
    }
    pub(super) fn receipt_validity_ms(&self) -> u64 {
        u64::try_from(self.config.receipt_validity.as_millis()).unwrap_or(u64::MAX)
    }
    pub(super) fn job_done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
    pub(super) fn batch_done(&self) {
        self.batches.fetch_add(1, Ordering::Relaxed);
    }
    /// The most receipts of a batch: the configuration's, the protocol's, and what the ledger last allowed.
    pub(super) fn batch_limit(&self) -> usize {
        let most = self.config.max_batch_receipts.min(MAX_BATCH_RECEIPTS);
        self.batch_limit.load(Ordering::Relaxed).clamp(1, most.max(1))
    }
    pub(super) fn set_batch_limit(&self, receipts: usize) {
        self.batch_limit.store(receipts, Ordering::Relaxed);
    }
    /// Whether a batch may be posted that costs more than it brings: one now and then, so that whoever has few calls is paid and known, and nobody
    /// makes the worker poor with many small ones.
    pub(super) fn may_post_small(&self, gateway: Address) -> bool {
        let interval = self.config.small_batch_interval;
        locked(&self.small_batches).get(&gateway).is_none_or(|last| last.elapsed() >= interval)
    }
    pub(super) fn small_batch_done(&self, gateway: Address) {
        locked(&self.small_batches).insert(gateway, Instant::now());
    }
    pub(super) fn settle_now(&self) {
        self.settle.notify_one();
    }
    pub(super) async fn settle_requested(&self) {
        self.settle.notified().await;
    }

    /// Keeps a receipt out of batches until it is released, or for so long.
    pub(super) fn hold_back(&self, receipt: ReceiptId, wait: Duration) {
        locked(&self.unsettled).insert(receipt, Instant::now() + wait);
    }

    /// The receipt may go into a batch now.
    pub(super) fn release(&self, receipt: ReceiptId) {
        locked(&self.unsettled).remove(&receipt);
    }

    /// True while a receipt must not go into a batch.
    pub(super) fn is_held_back(&self, receipt: ReceiptId) -> bool {
        let mut unsettled = locked(&self.unsettled);
        let until = unsettled.get(&receipt).copied();
        if until.is_some_and(|until| until <= Instant::now()) {
            unsettled.remove(&receipt);
            return false;
        }
        until.is_some()
    }

    /// Gateways that are connected now.
    pub(super) fn gateways(&self) -> Vec<Address> {
        locked(&self.links).iter().map(|link| link.gateway).collect()
    }

    pub(super) fn status(&self) -> WorkerStatus {
        WorkerStatus {
            gateways: locked(&self.links).len(),
            jobs: usize::from(self.config.slots) - self.slots.available_permits(),
            done: self.done.load(Ordering::Relaxed),
            pending_receipts: self.store.pending_count().unwrap_or(0),
            batches: self.batches.load(Ordering::Relaxed),
        }
    }

    /// Asks a gateway to sign a batch; `None` when it is not connected or does not answer.
    pub(super) async fn ask_countersign(
        &self,
        batch: BatchRoot,
        receipts: Vec<ReceiptId>,
    ) -> Option<ToWorker> {
        let gateway = batch.gateway;
        let link = locked(&self.links).iter().find(|link| link.gateway == gateway).cloned()?;
        let (answer, waiting) = oneshot::channel();
        *locked(&self.countersign) = Some(answer);
        // A gateway that reads nothing has its queue full.
        let asked = async {
            link.out.send(ToGateway::Countersign { batch, receipts }).await.ok()?;
            waiting.await.ok()
        };
        timeout(COUNTERSIGN_TIMEOUT, asked).await.ok()?
    }

    /// Looks the executor's models up on the ledger and offers those that are not offered yet.
    pub(super) async fn refresh_models(&self) -> Result<(), crate::ledger::LedgerError> {
        for id in self.executor().models() {
            let Some(model) = self.ledger().model(id).await? else {
                tracing::warn!(model = %id, "the model is not published on the ledger; no jobs for it");
                continue;
            };
            match self.ledger().ensure_offer(self.key(), id, self.config.min_price).await {
                Ok(true) => tracing::info!(model = %model.name, "offered"),
                Ok(false) => {}
                Err(error) => tracing::warn!(model = %model.name, %error, "cannot offer the model"),
            }
            self.models.write().unwrap_or_else(PoisonError::into_inner).insert(id, model);
        }
        Ok(())
    }

    /// Looks up the highest fee that the worker's collateral stands for.
    pub(super) async fn refresh_bond(&self) -> Result<(), crate::ledger::LedgerError> {
        let params = self.ledger().params().await?;
        let identity = self.ledger().identity(self.address(), Role::Worker).await?;
        let most = identity.and_then(|identity| {
            // The receipt's own batch comes after those that are open by then.
            let open = identity.open_batches.saturating_add(BATCHES_TO_COME);
            params.max_mean_fee(identity.collateral, Amount::ZERO, open)
        });
        *locked(&self.max_fee) = most;
        Ok(())
    }

    fn check_terms(&self, gateway: Address, request: &JobRequest) -> Result<(), FailReason> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let model = models.get(&request.model).ok_or(FailReason::UnknownModel)?;
        let fits = request.chain_id == self.chain_id
            && request.gateway == gateway
            && request.domain == model.domain
            && request.numeric_spec == model.manifest.numeric_spec
            && request.price.covers(self.config.min_price);
        let longest = u64::from(request.max_tokens);
        let fee = request.price.fee(request.prompt.len() as u64, longest).map_err(|_| FailReason::Terms)?;
        if !fits || locked(&self.max_fee).is_some_and(|most| fee > most) {
            return Err(FailReason::Terms);
        }
        if now_ms() > request.expires_ms { Err(FailReason::Expired) } else { Ok(()) }
    }
}

/// Opens the store and starts one task for each gateway and one for the batches.
pub(super) async fn start(config: WorkerConfig) -> Result<Worker, WorkerError> {
    if config.slots == 0 {
        return Err(WorkerError::NoSlot);
    }
    if config.executor.models().is_empty() {
        return Err(WorkerError::NoModel);
    }
    let urls = config.gateways.iter().map(|url| socket_url(url)).collect::<Result<Vec<_>, _>>()?;
    let chain_id = config.ledger.chain_id().await?;
    let store = WorkerStore::open(&config.data_dir, chain_id, config.key.address())?;
    let shared = Arc::new(Shared {
        chain_id,
        store,
        models: RwLock::default(),
        slots: Arc::new(Semaphore::new(config.slots.into())),
        links: Mutex::default(),
        countersign: Mutex::default(),
        unsettled: Mutex::default(),
        settle: Notify::new(),
        draining: AtomicBool::new(false),
        broken: watch::Sender::new(None),
        done: AtomicU64::new(0),
        batches: AtomicU64::new(0),
        batch_limit: AtomicUsize::new(usize::MAX),
        small_batches: Mutex::default(),
        max_fee: Mutex::default(),
        config,
    });
    shared.refresh_models().await?;
    shared.refresh_bond().await?;
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for url in urls {
        tasks.spawn(keep_connected(shared.clone(), url, stopped.clone()));
    }
    tasks.spawn(defence::run(shared.clone(), stopped.clone()));
    tasks.spawn(batch::run(shared.clone(), stopped));
    Ok(Worker { shared, tasks, stop })
}

async fn keep_connected(shared: Arc<Shared>, url: String, mut stopped: watch::Receiver<bool>) {
    let mut backoff = FIRST_BACKOFF;
    loop {
        let began = Instant::now();
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            ended = session(&shared, &url) => match ended {
                Ok(()) => tracing::info!(url, "connection closed"),
                Err(error) => tracing::warn!(url, %error, "connection ended; trying again"),
            },
        }
        if began.elapsed() > LONGEST_BACKOFF {
            backoff = FIRST_BACKOFF;
        }
        // Half to all of the backoff, so that a gateway's restart is not met by all workers at once.
        let half = u64::try_from(backoff.as_millis() / 2).unwrap_or(u64::MAX).max(1);
        let wait = Duration::from_millis(half + OsRng.next_u64() % half);
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(wait) => {}
        }
        backoff = (backoff * 2).min(LONGEST_BACKOFF);
    }
}

async fn session(shared: &Arc<Shared>, url: &str) -> Result<(), ConnectionError> {
    let mut socket = dial(url).await?;
    let (gateway, heartbeat) = greet(shared, &mut socket).await?;
    tracing::info!(url, %gateway, "connected");
    let (out, outgoing) = mpsc::channel(OUTGOING);
    locked(&shared.links).push(Link { gateway, out: out.clone() });
    let ended = serve(shared, gateway, heartbeat, socket, &out, outgoing).await;
    locked(&shared.links).retain(|link| !link.out.same_channel(&out));
    ended
}

async fn serve(
    shared: &Arc<Shared>,
    gateway: Address,
    heartbeat: Duration,
    mut socket: Socket,
    out: &mpsc::Sender<ToGateway>,
    mut outgoing: mpsc::Receiver<ToGateway>,
) -> Result<(), ConnectionError> {
    // Dropping the signals tells all jobs of this connection to stop.
    let mut jobs: HashMap<u64, watch::Sender<Signal>> = HashMap::new();
    let mut last_heard = tokio::time::Instant::now();
    loop {
        tokio::select! {
            // The loop holds a sender itself, so there is always a next message to wait for.
            Some(message) = outgoing.recv() => send(&mut socket, &message).await?,
            incoming = socket.next() => {
                last_heard = tokio::time::Instant::now();
                match incoming {
                    None | Some(Ok(Message::Close(_))) => return Ok(()),
                    Some(Err(error)) => return Err(ConnectionError::Lost(Box::new(error))),
                    Some(Ok(Message::Binary(bytes))) => {
                        let message = wire::decode(&bytes)?;
                        if let Some(answer) = handle(shared, gateway, message, out, &mut jobs) {
                            send(&mut socket, &answer).await?;
                        }
                    }
                    Some(Ok(_)) => {}
                }
            }
            () = tokio::time::sleep_until(last_heard + heartbeat * 4) => {
                let seconds = (heartbeat * 4).as_secs();
                return Err(ConnectionError::Timeout { what: "a heartbeat", seconds });
            }
        }
    }
}

fn handle(
    shared: &Arc<Shared>,
    gateway: Address,
    message: ToWorker,
    out: &mpsc::Sender<ToGateway>,
    jobs: &mut HashMap<u64, watch::Sender<Signal>>,
) -> Option<ToGateway> {
    match message {
        ToWorker::Offer { lease, request, already } => {
            jobs.retain(|_, signal| !signal.is_closed());
            if let Err(reason) = shared.check_terms(gateway, &request) {
                return Some(ToGateway::Failed { lease, reason });
            }
            let slot = shared.slots.clone().try_acquire_owned().ok();
            let slot =
                slot.filter(|_| !shared.draining.load(Ordering::Relaxed) && !jobs.contains_key(&lease));
            let Some(slot) = slot else { return Some(ToGateway::Busy { lease }) };
            let (signal, watching) = watch::channel(Signal::Run);
            jobs.insert(lease, signal);
            let (shared, out) = (shared.clone(), out.clone());
            let job = Job { shared, lease, request, already, out, signal: watching };
            tokio::spawn(job.run(slot));
            Some(ToGateway::Accept { lease })
        }
        ToWorker::Cancel { lease, keep } => {
            if let Some(signal) = jobs.get(&lease) {
                signal.send_if_modified(|state| {
                    let first = *state == Signal::Run;
                    if first {
                        *state = Signal::Cancel { keep };
                    }
                    first
                });
            }
            None
        }
        ToWorker::Settled { lease, .. } => {
            if let Some(signal) = jobs.remove(&lease) {
                let _ = signal.send(Signal::Settled);
            }
            None
        }
        ToWorker::Countersigned { .. } | ToWorker::CountersignRefused { .. } => {
            if let Some(waiting) = locked(&shared.countersign).take() {
                let _ = waiting.send(message);
            }
            None
        }
        ToWorker::Ping { nonce } => Some(ToGateway::Pong { nonce }),
        ToWorker::Challenge { .. } | ToWorker::Welcome { .. } | ToWorker::Refused { .. } => None,
    }
}
