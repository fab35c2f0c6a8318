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
mod engine;
pub(crate) mod evidence;
#[cfg(feature = "faults")]
mod fault;
mod guard;
mod host;
mod outbound;
mod parts;
mod signer;
mod undecided;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dn_core::{BlockHash, SecretKey, keccak256};
use malachite_channel::{Channels, EngineHandle, NetworkRequest};

use context::Ctx;
use engine::{EngineError, Identity, LOG_FILE, Network};
#[cfg(feature = "faults")]
pub use fault::Fault;
use guard::Guard;
pub use guard::GuardError;
use host::Host;
use outbound::Outbound;
pub use undecided::UndecidedError;

use super::shared::Shared;
use super::store::StoreError;
use crate::chain::BlockError;

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

/// How fast consensus goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Between blocks without transactions; with transactions a quarter.
    pub(crate) interval: Duration,
    /// For a proposal, after it is due.
    pub(crate) propose: Duration,
    /// For votes once a quorum has voted, though not for one block.
    pub(crate) vote: Duration,
    /// How far a proposed block may be ahead of this node's clock.
    pub(crate) clock_ahead_ms: u64,
}

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
    pub(crate) pace: Pace,
    pub(crate) max_block_bytes: usize,
    #[cfg(feature = "faults")]
    pub(crate) fault: Option<Fault>,
}

/// Why consensus ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ConsensusError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Block(#[from] BlockError),
    #[error(transparent)]
    Undecided(#[from] UndecidedError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("block {block} was decided at height {height}, and this node does not have it")]
    Unknown { height: u64, block: BlockHash },
    #[error("block {block} was decided at height {height}, and the rules of this node refuse it")]
    Invalid { height: u64, block: BlockHash },
    #[error("the certificate of height {height} holds what is no signature")]
    Certificate { height: u64 },
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

/// Takes part in consensus until the node stops or fails.
pub(crate) fn run(shared: &Arc<Shared>, settings: &Settings, guard: Option<Arc<Mutex<Guard>>>) {
    let ended = Runner::new(shared, settings, guard).and_then(|mut runner| runner.run());
    if let Err(error) = ended {
        tracing::error!(%error, "consensus has stopped");
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
        Ok(Self { shared, settings, guard, ctx, host, patience: first_patience(pace), broken: 0 })
    }

    fn run(&mut self) -> Result<(), ConsensusError> {
        let mut signing = self.may_sign_at_start();
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
                (self.patience, self.broken) = (first_patience(&self.settings.pace), 0);
            }
            match end {
                End::Stopped => return Ok(()),
                End::MaySign => {
                    tracing::info!("others decided while this key watched: from now on it signs");
                    signing = true;
                }
                End::Standstill => {
                    self.shared.metrics.stalls.inc();
                    self.patience = (2 * self.patience).min(MAX_PATIENCE);
                    signing = signing && self.admit();
                }
                End::Broken => {
                    self.broken += 1;
                    if self.broken > 3 {
                        return Err(EngineError::new("it ended by itself again and again").into());
                    }
                    // Its log may be damaged, and is then shorter than what was signed.
                    signing = signing && (self.past_all_signed() || self.settings.alone && self.admit());
                }
            }
        }
    }

    /// Whether everything that the key signed is decided.
    fn past_all_signed(&self) -> bool {
        let Some(guard) = &self.guard else { return false };
        let signed = guard.lock().unwrap_or_else(PoisonError::into_inner).height();
        self.host.tip() >= signed
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

    /// Whether the record of what was signed and what is on disk fit together.
    fn admit(&self) -> bool {
        let Some(guard) = &self.guard else { return false };
        let mut guard = guard.lock().unwrap_or_else(PoisonError::into_inner);
        guard.admit(self.host.tip(), guard::log_height(&self.settings.dir.join(LOG_FILE)))
    }

    fn may_sign_at_start(&self) -> bool {
        let Some(guard) = &self.guard else { return false };
        let unknown = guard.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        let admitted = !unknown && self.admit();
        if !admitted {
            tracing::warn!(
                unknown,
                "this key may have signed what this directory does not know: it signs nothing until \
                 others have decided {WATCHED_HEIGHTS} heights in a row"
            );
        }
        admitted
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
        loop {
            if self.shared.pool().stopped {
                return Ok(End::Stopped);
            }
            let due = self.host.due();
            tokio::select! {
                message = channels.consensus.recv() => match message {
                    Some(message) => self.host.handle(message, channels).await?,
                    None => return Ok(End::Broken),
                },
                () = sleep_until(due) => self.host.start_held(),
                // A transaction may bring a block forward.
                () = self.shared.wake.notified() => {}
                _ = pass_on.tick(), if !self.settings.alone => self.host.pass_on(channels).await,
                _ = care.tick() => {
                    if let Some(end) = self.care(channels, handle, signing).await {
                        return Ok(end);
                    }
                }
            }
        }
    }

    /// Counts peers, and looks whether the engine has to be started anew.
    async fn care(&mut self, channels: &Channels<Ctx>, handle: &EngineHandle, signing: bool) -> Option<End> {
        if handle.handle.is_finished() {
            tracing::error!("the engine has ended by itself");
            return Some(End::Broken);
        }
        if !self.settings.alone {
            let dump = NetworkRequest::dump_state(&channels.net_requests);
            if let Ok(Ok(Some(dump))) = tokio::time::timeout(CARE, dump).await {
                self.shared.metrics.peers.set(i64::try_from(dump.peers.len()).unwrap_or(i64::MAX));
            }
        }
        if let (true, Some(key)) = (signing, &self.settings.key) {
            evidence::file(self.shared, key);
        }
        let watched = self.host.live() >= WATCHED_HEIGHTS && self.settings.key.is_some();
        if !signing && watched && self.admit() {
            return Some(End::MaySign);
        }
        let standstill = self.host.standstill();
        if standstill < self.patience {
            return None;
        }
        let (height, seconds) = (self.host.tip() + 1, standstill.as_secs());
        tracing::error!(height, seconds, "no block is decided; the engine is started again");
        Some(End::Standstill)
    }
}

impl Settings {
    /// Distinguishes nodes without a key from each other.
    fn follower_seed(&self) -> [u8; 32] {
        let (dir, listen) = (self.dir.to_string_lossy().into_owned(), self.listen.to_string());
        keccak256(&[b"follower", dir.as_bytes(), b"\0", listen.as_bytes()])
    }
}

fn first_patience(pace: &Pace) -> Duration {
    Duration::from_secs(30).max(4 * (pace.interval + pace.propose + 2 * pace.vote))
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
