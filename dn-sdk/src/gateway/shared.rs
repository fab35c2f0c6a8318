//! What all tasks of a gateway share, and what it knows of the ledger.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use dn_compute::ModelFront;
use dn_core::hexadecimal::to_digits;
use dn_core::{Address, ChannelId, Hash32, ModelId, SecretKey};
use dn_ledger::state::IdentityStatus;
use dn_ledger::tx::Role;
use dn_ledger::views::{ChannelView, ModelView};
use rand_core::{OsRng, RngCore};
use tokio::sync::{Semaphore, watch};

use super::error::{ApiError, GatewayError};
use super::metrics::{Metrics, Now, approximate_dn};
use super::money::Money;
use super::server::stop_requested;
use super::session::KnownSession;
use super::store::{GatewayStore, LaneState, NewKey, key_hash};
use super::workers::Workers;
use super::{GatewayConfig, GatewayLimits, GatewayStatus};
use crate::clock::now_ms;
use crate::ledger::{LedgerClient, LedgerError};

const MAX_LABEL_BYTES: usize = 64;
/// The ledger counts as unreachable when it has not answered for so long.
const LEDGER_SILENCE: Duration = Duration::from_secs(15);
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// Channels, and sessions, whose state is kept at hand.
const MAX_CHANNELS: usize = 4096;

/// A model that is served and published.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) front: Arc<ModelFront>,
    pub(crate) view: ModelView,
}

/// Calls with an `Idempotency-Key` that run now: hash of key and caller → hash of the body.
pub(crate) type Running = Mutex<HashMap<Hash32, Hash32>>;

#[derive(Debug)]
pub(crate) struct Shared {
    config: GatewayConfig,
    pub(crate) chain_id: u64,
    pub(crate) store: GatewayStore,
    pub(crate) money: Money,
    pub(crate) workers: Workers,
    pub(crate) metrics: Metrics,
    pub(crate) running: Running,
    pub(crate) admission: Arc<Semaphore>,
    pub(crate) calls: AtomicUsize,
    stopped: watch::Receiver<bool>,
    pub(crate) max_lanes: u32,
    models: RwLock<Vec<Arc<Served>>>,
    channels: Mutex<HashMap<ChannelId, (Instant, ChannelView)>>,
    /// By owner and session key.
    sessions: Mutex<HashMap<(Address, Address), KnownSession>>,
    auditors: Mutex<HashMap<Address, Instant>>,
    ledger_heard: Mutex<Option<Instant>>,
}

impl Shared {
    /// Opens the store and looks around on the ledger.
    pub(crate) async fn open(
        config: GatewayConfig,
        stopped: watch::Receiver<bool>,
    ) -> Result<Self, GatewayError> {
        let chain_id = config.ledger.chain_id().await?;
        let max_lanes = config.ledger.params().await?.max_lanes;
        let store = GatewayStore::open(&config.data_dir, chain_id, config.key.address())?;
        let money = Money::load(&store.lanes()?);
        let admission = Arc::new(Semaphore::new(config.limits.max_calls));
        let shared = Self {
            chain_id,
            store,
            money,
            workers: Workers::default(),
            metrics: Metrics::new(),
            running: Running::default(),
            admission,
            calls: AtomicUsize::new(0),
            stopped,
            max_lanes,
            models: RwLock::default(),
            channels: Mutex::default(),
            sessions: Mutex::default(),
            auditors: Mutex::default(),
            ledger_heard: Mutex::default(),
            config,
        };
        shared.refresh().await?;
        Ok(shared)
    }

    pub(crate) fn address(&self) -> Address {
        self.config.key.address()
    }
    pub(crate) const fn key(&self) -> &SecretKey {
        &self.config.key
    }
    pub(crate) const fn ledger(&self) -> &LedgerClient {
        &self.config.ledger
    }
    pub(crate) const fn limits(&self) -> &GatewayLimits {
        &self.config.limits
    }
    pub(crate) const fn config(&self) -> &GatewayConfig {
        &self.config
    }

    /// True when no new calls are taken.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopped.borrow()
    }
    /// Resolves when the gateway has to stop.
    pub(crate) async fn stop_requested(&self) {
        stop_requested(&mut self.stopped.clone()).await;
    }

    /// Looks prices, trust and standing up on the ledger.
    async fn refresh(&self) -> Result<(), LedgerError> {
        let published = self.ledger().models().await?;
        *self.ledger_heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let served = published.into_iter().filter(|view| view.retired_height.is_none()).filter_map(|view| {
            let ours = self.config.models.iter().find(|model| model.id == view.id)?;
            Some(Arc::new(Served { front: ours.front.clone(), view }))
        });
        *self.models.write().unwrap_or_else(PoisonError::into_inner) = served.collect();
        for session in self.workers.sessions() {
            match self.worker_trust(session.worker).await? {
                Some(trust) => session.set_trust(trust),
                None => {
                    tracing::warn!(worker = %session.worker, "worker is no longer active on the ledger");
                    self.workers.expel(session.worker);
                }
            }
        }
        Ok(())
    }

    /// Refreshes until told to stop.
    pub(crate) async fn keep_fresh(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut pruned = Instant::now();
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(self.config.refresh_interval) => {}
            }
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "ledger");
            }
            if pruned.elapsed() > PRUNE_EVERY {
                pruned = Instant::now();
                let window = u64::try_from(self.limits().idempotency_window.as_millis()).unwrap_or(u64::MAX);
                let shared = self.clone();
                let before = now_ms().saturating_sub(window);
                let _ = tokio::task::spawn_blocking(move || shared.store.prune_idempotency(before)).await;
            }
        }
    }

    pub(crate) fn ledger_reachable(&self) -> bool {
        let heard = *self.ledger_heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.is_some_and(|heard| heard.elapsed() < LEDGER_SILENCE)
    }

    /// Trust of an active worker, 0 to 1; `None` when it is not one.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) async fn worker_trust(&self, worker: Address) -> Result<Option<f64>, LedgerError> {
        let identity = self.ledger().identity(worker, Role::Worker).await?;
        let active = identity.filter(|identity| identity.status == IdentityStatus::Active);
        let share = |identity: dn_ledger::views::IdentityView| {
            identity.trust.map_or(0.0, |trust| trust.value().bits() as f64 / (1u64 << 32) as f64)
        };
        Ok(active.map(share))
    }

    /// True for an active validator; looked up at most once a minute for each.
    pub(crate) async fn is_auditor(&self, address: Address) -> Result<bool, LedgerError> {
        let seen = self.auditors.lock().unwrap_or_else(PoisonError::into_inner).get(&address).copied();
        if seen.is_some_and(|seen| seen.elapsed() < Duration::from_secs(60)) {
            return Ok(true);
        }
        let identity = self.ledger().identity(address, Role::Validator).await?;
        let active = identity.is_some_and(|identity| identity.status == IdentityStatus::Active);
        if active {
            let mut auditors = self.auditors.lock().unwrap_or_else(PoisonError::into_inner);
            auditors.retain(|_, seen| seen.elapsed() < Duration::from_secs(60));
            auditors.insert(address, Instant::now());
        }
        Ok(active)
    }

    /// The models that can be called.
    pub(crate) fn models(&self) -> Vec<Arc<Served>> {
        self.models.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn serves(&self, model: ModelId) -> bool {
        self.config.models.iter().any(|served| served.id == model)
    }

    /// A model by its name or its `0x…` id. Of several with one name the first published counts.
    pub(crate) fn model(&self, name: &str) -> Option<Arc<Served>> {
        let models = self.models();
        if let Ok(id) = name.parse::<ModelId>() {
            return models.into_iter().find(|model| model.view.id == id);
        }
        let named = models.into_iter().filter(|model| model.view.name == name);
        named.min_by_key(|model| (model.view.published_height, model.view.id))
    }

    /// A channel as the ledger has it, at most `max_age` old.
    pub(crate) async fn channel(
        &self,
        id: ChannelId,
        max_age: Duration,
    ) -> Result<Option<ChannelView>, LedgerError> {
        let cached = |channels: &HashMap<ChannelId, (Instant, ChannelView)>| {
            channels.get(&id).filter(|(at, _)| at.elapsed() <= max_age).map(|(_, view)| view.clone())
        };
        if let Some(view) = cached(&self.channels.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(Some(view));
        }
        let view = self.ledger().channel(id).await?;
        if let Some(view) = &view {
            self.money.set_claimed(view);
        }
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if channels.len() >= MAX_CHANNELS {
            channels.retain(|_, (at, _)| at.elapsed() <= Duration::from_secs(60));
        }
        match &view {
            Some(view) => channels.insert(id, (Instant::now(), view.clone())),
            None => channels.remove(&id),
        };
        Ok(view)
    }

    /// A session as the ledger has it, at most `max_age` old.
    pub(crate) async fn session(
        &self,
        owner: Address,
        session: Address,
        max_age: Duration,
    ) -> Result<Option<KnownSession>, LedgerError> {
        let id = (owner, session);
        let sessions = || self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sessions().get(&id).filter(|known| known.read.elapsed() <= max_age) {
            return Ok(Some(known.clone()));
        }
        // Before the session is read: what is claimed after counts in it, and must not be taken off twice.
        let claimed = self.money.claimed_of(session);
        let view = self.ledger().session(owner, session).await?;
        let known = view.map(|view| KnownSession { read: Instant::now(), view, claimed });
        let mut sessions = sessions();
        if sessions.len() >= MAX_CHANNELS {
            sessions.retain(|_, known| known.read.elapsed() <= Duration::from_secs(60));
        }
        match &known {
            Some(known) => sessions.insert(id, known.clone()),
            None => sessions.remove(&id),
        };
        Ok(known)
    }

    pub(crate) async fn add_key(
        self: &Arc<Self>,
        channel: ChannelId,
        spending_key: &SecretKey,
        label: &str,
    ) -> Result<String, GatewayError> {
        if label.len() > MAX_LABEL_BYTES || label.chars().any(char::is_control) {
            return Err(GatewayError::Label);
        }
        let view = self.channel(channel, Duration::ZERO).await?;
        let view = view.ok_or(GatewayError::UnknownChannel { channel })?;
        let (payee, gateway) = (view.payee, self.address());
        if payee != gateway {
            return Err(GatewayError::OtherPayee { channel, payee, gateway });
        }
        let (payer, spender, found) = (view.payer, view.spender, spending_key.address());
        if found != payer && found != spender {
            return Err(GatewayError::Spender { channel, payer, spender, found });
        }
        let mut secret = [0; 24];
        OsRng.fill_bytes(&mut secret);
        let key = format!("dn-{}", to_digits(&secret));
        let hash = key_hash(&key);
        let (spending_key, label) = (spending_key.clone(), label.to_owned());
        let new = NewKey { payer, channel, spending_key, label, created_ms: now_ms() };
        let (shared, limit) = (self.clone(), self.max_lanes);
        // Lanes that the ledger knows and the store does not are those of a store that was lost: a voucher on one of
        // them would start below what is claimed.
        let claimed: Vec<u32> = view.lanes.iter().map(|lane| lane.lane).collect();
        let adding = tokio::task::spawn_blocking(move || shared.store.add_key(hash, &new, limit, &claimed));
        let added = adding.await.map_err(|_| GatewayError::Interrupted)??;
        added.map(|_| key).ok_or(GatewayError::NoLane { channel, limit })
    }

    pub(crate) async fn knows_key(self: &Arc<Self>, key: &str) -> Result<bool, GatewayError> {
        let (shared, hash) = (self.clone(), key_hash(key));
        let looking = tokio::task::spawn_blocking(move || shared.store.key(hash));
        Ok(looking.await.map_err(|_| GatewayError::Interrupted)??.is_some())
    }

    pub(crate) fn lanes(&self, channel: ChannelId) -> Result<Vec<LaneState>, GatewayError> {
        let lanes = self.store.lanes()?;
        Ok(lanes.into_iter().filter(|lane| lane.channel == channel).collect())
    }

    pub(crate) fn status(&self) -> GatewayStatus {
        GatewayStatus {
            workers: self.workers.status(),
            calls: self.calls.load(Ordering::Relaxed),
            ledger_reachable: self.ledger_reachable(),
        }
    }

    pub(crate) fn metrics_text(&self) -> String {
        let (slots_free, _) = self.workers.slots();
        self.metrics.text(Now {
            workers: self.workers.status().len(),
            slots_free,
            calls: self.calls.load(Ordering::Relaxed),
            held_dn: approximate_dn(self.money.held()),
        })
    }
}

/// Runs store work off the async threads.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ApiError::Internal)
}
