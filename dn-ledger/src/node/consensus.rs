//! Consensus by Malachite: the one place of the node that knows the engine.
//!
//! ```text
//!            ┌──────────────── thread dn-consensus, own runtime ────────────────┐
//! network ◀──▶ engine (votes, timeouts, log, synchronisation) ◀──AppMsg──▶ Host │──▶ Chain, Store, Pool
//!            └───────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The engine decides block hashes; blocks travel beside it in [`parts`]. [`Host`](host::Host) builds, checks and commits.
//! [`guard`] keeps a validator from signing twice after it lost data, [`undecided`] keeps what was voted for.

mod codec;
mod context;
mod directory;
mod engine;
pub(crate) mod evidence;
#[cfg(feature = "faults")]
mod fault;
mod guard;
mod host;
mod listening;
mod log;
mod outbound;
mod pace;
mod parts;
mod signer;
mod silence;
mod undecided;
#[cfg(any(test, feature = "fuzz"))]
#[cfg_attr(not(feature = "fuzz"), allow(unreachable_pub, reason = "public for the fuzz targets"))]
pub mod untrusted;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dn_core::{BlockHash, SecretKey, keccak256};
use malachite_channel::app::engine::util::events::{Event, RxEvent};
use malachite_channel::{Channels, EngineHandle, NetworkRequest};

use context::Ctx;
pub use directory::{ConsensusFilesError, ConsensusReport, KeyStart};
pub(crate) use directory::{DIR_NAME, RECORD_FILE, inspect};
pub use engine::EngineError;
use engine::{Identity, LOG_FILE, Network};
#[cfg(feature = "faults")]
pub use fault::Fault;
use guard::Guard;
pub use guard::GuardError;
use host::Host;
pub use host::NotExecuted;
use listening::{Listening, NotElected};
use log::Log;
pub use log::{LogDamaged, LogFault};
use outbound::Outbound;
pub(crate) use pace::Pace;
use silence::Silence;
pub use undecided::UndecidedError;

use super::shared::Shared;
use super::store::StoreError;
use crate::chain::{BlockError, caught};

/// How often waiting transactions are passed on.
const PASS_ON: Duration = Duration::from_millis(40);
/// How often the node looks after itself.
const CARE: Duration = Duration::from_secs(1);
/// Heights in a row that a key which may have signed before watches others decide before it signs.
const WATCHED_HEIGHTS: u32 = 2;
/// Longest wait for the engine's parts to end.
const STOP_WAIT: Duration = Duration::from_secs(3);
/// Longest pause between two starts of an engine at a standstill.
const MAX_PATIENCE: Duration = Duration::from_secs(600);

/// What consensus needs.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Of the engine's log and of undecided blocks.
    pub(crate) dir: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) peers: Vec<SocketAddr>,
    pub(crate) closed: bool,
    pub(crate) alone: bool,
    pub(crate) key: Option<SecretKey>,
    /// The operator says that the key never signed for this chain.
    pub(crate) said_new: bool,
    pub(crate) pace: Pace,
    pub(crate) max_block_bytes: usize,
    #[cfg(feature = "faults")]
    pub(crate) fault: Option<Fault>,
}

/// Why consensus ended by itself; the node then answers queries and makes no more blocks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsensusError {
    /// The chain on disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A block of this node's own.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The file of blocks that are not decided.
    #[error(transparent)]
    Undecided(#[from] UndecidedError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine's network, which ends by itself when it cannot listen.
    #[error(
        "the network of consensus, which listens on {listen}, ended again and again; is the address another program's?"
    )]
    Network {
        /// Where it was to listen.
        listen: SocketAddr,
    },
    /// The system gives no thread or no runtime.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A decided block that never came, or was lost.
    #[error(
        "block {block} was decided at height {height}, and this node does not have it. If `consensus/undecided.log` was damaged, and others \
         decide too, move `consensus/engine.wal` away and start again: the block comes from them then, and the key signs once they are heard"
    )]
    Unknown {
        /// The height.
        height: u64,
        /// The block.
        block: BlockHash,
    },
    /// A decided block that this node cannot execute: the rules refuse it here, since this software differs from the others', or they panic with it.
    #[error(
        "block {block} was decided at height {height}, and this node cannot execute it: {source}. It stops, rather than go on with another state \
         than the others'; software that executes the block goes on from the height before"
    )]
    Invalid {
        /// The height.
        height: u64,
        /// The block.
        block: BlockHash,
        /// Why.
        source: NotExecuted,
    },
    /// A certificate of other than signatures.
    #[error("the certificate of height {height} holds what is no signature")]
    Certificate {
        /// The height.
        height: u64,
    },
    /// The record of what the key signed.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The engine's log cannot be read, cut or moved away.
    #[error("{path}: {source}")]
    Log {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A bug: a panic, after which the chain was brought back to its tip.
    #[error(
        "a bug stopped consensus after height {height}: {message}; a node that starts again goes on there"
    )]
    Panicked {
        /// Height of the tip.
        height: u64,
        /// The panic's message, if it has one.
        message: String,
    },
}

/// Opens what this key has signed. `never_signed`: where nothing is known, that is because there was nothing.
pub(crate) fn open_guard(path: &Path, never_signed: bool) -> Result<Arc<Mutex<Guard>>, GuardError> {
    let mut guard = Guard::open(path)?;
    if never_signed {
        guard.begin()?;
    }
    Ok(Arc::new(Mutex::new(guard)))
}

/// Why a run of the engine ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Stopped,
    /// The engine's own parts ended.
    Broken,
    /// No height was decided for too long.
    Standstill,
    /// The key may sign now.
    MaySign,
}

/// Takes part in consensus until the node stops or fails. A panic ends it like any other failure.
pub(crate) fn run(shared: &Arc<Shared>, settings: &Settings, guard: Option<Arc<Mutex<Guard>>>) {
    let run = || Runner::new(shared, settings, guard).and_then(|mut runner| runner.run());
    let ended = caught(run).unwrap_or_else(|message| {
        let height = shared.chain().tip().height;
        Err(ConsensusError::Panicked { height, message })
    });
    if let Err(error) = ended {
        tracing::error!(%error, "consensus has stopped");
        shared.fail(error);
    }
    shared.abandon();
}

struct Runner<'a> {
    shared: &'a Arc<Shared>,
    settings: &'a Settings,
    guard: Option<Arc<Mutex<Guard>>>,
    ctx: Ctx,
    host: Host,
    patience: Duration,
    broken: u32,
    silence: Silence,
    /// While it is not known whether a key that is said to be new is.
    listening: Option<Listening>,
}

impl<'a> Runner<'a> {
    fn new(
        shared: &'a Arc<Shared>,
        settings: &'a Settings,
        guard: Option<Arc<Mutex<Guard>>>,
    ) -> Result<Self, ConsensusError> {
        let ctx = Ctx { chain_id: shared.chain().tip().chain_id };
        let outbound = Outbound::new(shared, settings.alone)?;
        let Settings { dir, pace, max_block_bytes, .. } = settings;
        let host = Host::new(Arc::clone(shared), ctx, *pace, dir, *max_block_bytes, outbound)?;
        #[cfg(feature = "faults")]
        let host = host.misbehaving(settings.fault);
        #[cfg(feature = "faults")]
        Fault::set_trap(settings.fault);
        let unknown = guard.as_ref().is_some_and(|guard| lock(guard).is_empty());
        let listening = (settings.said_new && unknown).then(Listening::default);
        let (patience, broken, silence) = (pace.patience(), 0, Silence::default());
        Ok(Self { shared, settings, guard, ctx, host, patience, broken, silence, listening })
    }

    fn run(&mut self) -> Result<(), ConsensusError> {
        let mut signing = self.may_sign_at_start()?;
        loop {
            let tip = self.host.tip();
            // A runtime of its own: when it is gone, so is every task, timer and socket of the engine.
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name("dn-engine")
                .enable_all()
                .build()?;
            let end = runtime.block_on(self.run_engine(signing));
            runtime.shutdown_timeout(STOP_WAIT);
            let end = end?;
            if self.host.tip() > tip {
                self.patience = self.settings.pace.patience();
                // Who decides alone goes on without a network, and would never hear that there is none.
                if self.silence.was_heard() {
                    self.broken = 0;
                }
            }
            match end {
                End::Stopped => return Ok(()),
                End::MaySign => {
                    tracing::info!(
                        "others are heard, and have moved on or know of no signature of this key: from now on it signs where it is elected"
                    );
                    signing = true;
                }
                End::Standstill => {
                    self.shared.metrics.stalls.inc();
                    self.patience = (2 * self.patience).min(MAX_PATIENCE);
                    signing = signing && self.admit()?;
                }
                End::Broken => {
                    self.broken += 1;
                    if self.broken > 3 && self.silence.is_over() {
                        return Err(ConsensusError::Network { listen: self.settings.listen });
                    }
                    if self.broken > 3 {
                        return Err(EngineError::new("it ended by itself again and again").into());
                    }
                    // Its log may say something else than it derives, such as a vote that was given again: it goes on without it, and the
                    // record stays the floor.
                    self.empty_log()?;
                    signing = signing && self.admit()?;
                }
            }
        }
    }

    /// Leaves of the engine's log its head.
    fn empty_log(&self) -> Result<(), ConsensusError> {
        let (path, Some(key)) = (self.settings.dir.join(LOG_FILE), &self.settings.key) else { return Ok(()) };
        let io = |source| ConsensusError::Log { path: path.clone(), source };
        match Log::read(&path, self.ctx.chain_id, key.address()).map_err(io)? {
            Log::Whole { .. } => log::cut(&path, log::HEAD_BYTES as u64).map_err(io),
            // What is damaged is set aside when it is read next.
            Log::Missing | Log::Damaged { .. } => Ok(()),
        }
    }

    fn identity(&self, signing: bool) -> Identity {
        match (&self.settings.key, &self.guard) {
            (Some(key), Some(guard)) if signing => {
                Identity::Signing { key: key.clone(), guard: Arc::clone(guard) }
            }
            (Some(key), _) => Identity::Following { seed: keccak256(&[b"follows", &key.to_bytes()[..]]) },
            (None, _) => Identity::Following { seed: self.settings.follower_seed() },
        }
    }

    /// Whether the record of what was signed and what is on disk fit together. What the engine could not read of its log is
    /// gone afterwards.
    fn admit(&self) -> Result<bool, ConsensusError> {
        let (Some(guard), Some(key)) = (&self.guard, &self.settings.key) else { return Ok(false) };
        let path = self.settings.dir.join(LOG_FILE);
        let io = |source| ConsensusError::Log { path: path.clone(), source };
        let log = Log::read(&path, self.ctx.chain_id, key.address()).map_err(io)?;
        let tip = self.host.tip();
        let mut guard = lock(guard);
        let mut admitted = guard.admit(tip, &log);
        match log {
            Log::Damaged { at, reason } => {
                let damaged = log::set_aside(&path, at, reason, tip + 1).map_err(io)?;
                tracing::error!(%damaged, "the engine's log");
            }
            Log::Whole { end, .. } => log::cut(&path, end).map_err(io)?,
            Log::Missing => log::remove(&path).map_err(io)?,
        }
        if !admitted && self.settings.alone && guard.height() > tip + 1 {
            return Err(EngineError::new(format!(
                "the chain in this directory ends at height {tip}, and this key signed height {}: the directory is an older copy. Restore the \
                 newer one; to decide those heights anew, remove the record of signatures",
                guard.height()
            ))
            .into());
        }
        // Held to a block that its engine does not know, it would wait for others to move on, and there are none.
        if self.settings.alone && (!admitted || guard.is_held(tip + 1)) {
            tracing::warn!(
                height = tip + 1,
                "what this key signed for a height that is not decided is forgotten: nobody else decides, so nobody saw it"
            );
            guard.forget(tip)?;
            admitted = true;
        }
        Ok(admitted)
    }

    fn may_sign_at_start(&self) -> Result<bool, ConsensusError> {
        let (Some(guard), Some(own)) = (&self.guard, self.shared.own_key) else { return Ok(false) };
        let unknown = lock(guard).is_empty();
        let admitted = !unknown && self.admit()?;
        if let Some(not_elected) = NotElected::look(own, &self.shared.chain()) {
            tracing::warn!("{not_elected}");
        } else if self.listening.is_some() {
            tracing::info!(
                "this key is said to be new: it signs once others are heard that know of no signature of it"
            );
        } else if !admitted {
            tracing::warn!(
                unknown,
                "this key may have signed what this directory does not know: it signs nothing until \
                 others have decided {WATCHED_HEIGHTS} heights in a row"
            );
        }
        Ok(admitted)
    }

    async fn run_engine(&mut self, signing: bool) -> Result<End, ConsensusError> {
        let Settings { dir, listen, peers, closed, max_block_bytes, .. } = self.settings;
        let network = Network {
            listen: *listen,
            peers: peers.clone(),
            closed: *closed,
            #[cfg(feature = "faults")]
            fault: self.settings.fault,
        };
        let identity = self.identity(signing);
        let key = if signing { self.settings.key.clone() } else { None };
        self.host.restarted(key);
        let (mut channels, handle) =
            engine::start(self.ctx, dir, &network, &identity, *max_block_bytes).await?;
        let end = self.drive(&mut channels, &handle, signing).await;
        // Its children end with it.
        handle.actor.stop(None);
        if tokio::time::timeout(STOP_WAIT, handle.handle).await.is_err() {
            tracing::warn!("the engine does not end by itself");
        }
        end
    }

    async fn drive(
        &mut self,
        channels: &mut Channels<Ctx>,
        handle: &EngineHandle,
        signing: bool,
    ) -> Result<End, ConsensusError> {
        let mut care = tokio::time::interval(CARE);
        let mut pass_on = tokio::time::interval(PASS_ON);
        pass_on.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.silence = Silence::default();
        // Its log is read at the start of the first height, and at no other time.
        let (mut events, tip) = (Some(channels.events.subscribe()), self.host.tip());
        loop {
            if self.shared.pool().stopped {
                return Ok(End::Stopped);
            }
            let due = self.host.due();
            if self.host.tip() > tip {
                events = None;
            }
            tokio::select! {
                message = channels.consensus.recv() => match message {
                    Some(message) => self.host.handle(message, channels).await?,
                    None => return Ok(End::Broken),
                },
                unreadable = unreadable_log(&mut events) => {
                    tracing::error!(path = %self.settings.dir.join(LOG_FILE).display(), %unreadable, "the engine stands still: its log cannot be replayed");
                    return Ok(End::Broken);
                }
                () = sleep_until(due) => self.host.start_held(),
                // A transaction may bring a block forward.
                () = self.shared.wake.notified() => {}
                _ = pass_on.tick(), if !self.settings.alone => self.host.pass_on(channels).await,
                _ = care.tick() => {
                    if let Some(end) = self.care(channels, handle, signing).await? {
                        return Ok(end);
                    }
                }
            }
        }
    }

    /// Counts peers, and looks whether the engine has to be started anew.
    async fn care(
        &mut self,
        channels: &Channels<Ctx>,
        handle: &EngineHandle,
        signing: bool,
    ) -> Result<Option<End>, ConsensusError> {
        if handle.handle.is_finished() {
            tracing::error!("the engine has ended by itself");
            return Ok(Some(End::Broken));
        }
        let dump = NetworkRequest::dump_state(&channels.net_requests);
        let mut peers = 0;
        if let Some(dump) = self.silence.note(tokio::time::timeout(CARE, dump).await) {
            peers = dump.peers.len();
            self.shared.metrics.peers.set(i64::try_from(peers).unwrap_or(i64::MAX));
        }
        if self.silence.is_over() {
            tracing::error!(listen = %self.settings.listen, "the engine's network has ended");
            return Ok(Some(End::Broken));
        }
        if let (true, Some(key)) = (signing, &self.settings.key) {
            evidence::file(self.shared, key);
        }
        let watched = self.host.live() >= WATCHED_HEIGHTS && self.settings.key.is_some();
        if !signing && (self.is_new(peers)? || watched) && self.admit()? {
            return Ok(Some(End::MaySign));
        }
        let standstill = self.host.standstill();
        if standstill < self.patience {
            return Ok(None);
        }
        let (height, seconds) = (self.host.tip() + 1, standstill.as_secs());
        tracing::error!(height, seconds, "no block is decided; the engine is started again");
        Ok(Some(End::Standstill))
    }

    /// Whether a key that is said to be new is taken for that.
    fn is_new(&mut self, peers: usize) -> Result<bool, ConsensusError> {
        let (Some(listening), Some(guard)) = (&mut self.listening, &self.guard) else { return Ok(false) };
        let own = self.shared.own_key.unwrap_or_default();
        let set = self.shared.chain().validators();
        // Who decides alone needs nobody to sign.
        let heard = peers > 0 || set.is_quorum(set.power(own).into());
        let new = listening.look(self.host.tip(), self.host.signed(), heard);
        match new {
            Ok(false) => return Ok(false),
            Ok(true) => lock(guard).begin()?,
            Err(error) => tracing::error!(%error, "this key watches others"),
        }
        self.listening = None;
        Ok(new.is_ok())
    }
}

fn lock(guard: &Mutex<Guard>) -> MutexGuard<'_, Guard> {
    guard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Settings {
    /// Distinguishes nodes without a key from each other.
    fn follower_seed(&self) -> [u8; 32] {
        let (dir, listen) = (self.dir.to_string_lossy().into_owned(), self.listen.to_string());
        keccak256(&[b"follower", dir.as_bytes(), b"\0", listen.as_bytes()])
    }
}

/// What the engine says of a log that it cannot replay; it then stands still for good. Never returns otherwise.
async fn unreadable_log(events: &mut Option<RxEvent<Ctx>>) -> String {
    use tokio::sync::broadcast::error::RecvError;
    while let Some(receiver) = events {
        match receiver.recv().await {
            Ok(event @ (Event::WalReplayError(_) | Event::WalResetError(_) | Event::WalCorrupted(_))) => {
                return event.to_string();
            }
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => *events = None,
        }
    }
    std::future::pending().await
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
