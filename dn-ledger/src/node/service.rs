//! Starting and stopping a node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use dn_core::{Address, SecretKey};
use tokio::net::TcpListener;
use tokio::sync::watch;

#[cfg(feature = "faults")]
use super::consensus::Fault;
use super::consensus::{self, ConsensusError, GuardError, Pace, Settings};
use super::history::{self, History};
use super::ports;
use super::rpc;
use super::server::ServiceLimits;
use super::shared::Shared;
use super::store::{Store, StoreError};
use crate::chain::BlockError;
use crate::genesis::{Genesis, GenesisError};
use crate::referee::RefereeHandle;
use crate::validators::ValidatorSet;

/// Longest wait for requests in progress when a node shuts down.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(3);
/// What a block has beside its transactions: the header, and a certificate of at most a thousand signatures.
const BLOCK_OVERHEAD_BYTES: usize = 128 * 1024;
/// How often it is looked whether blocks are still produced.
const PRODUCTION_CHECK: Duration = Duration::from_millis(500);

/// How a node reaches the others of its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Where it listens for them.
    pub listen: SocketAddr,
    /// Where the others listen.
    pub peers: Vec<SocketAddr>,
    /// Whether only `peers` may connect.
    pub closed: bool,
}

/// What a node needs.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Where the chain is kept; made if it does not exist.
    pub data_dir: PathBuf,
    /// The chain's genesis.
    pub genesis: Genesis,
    /// Where JSON-RPC listens; port 0 takes a free one.
    pub rpc_listen: SocketAddr,
    /// The validator's key: it proposes and signs blocks whenever it is in the validator set. Without one the node follows.
    pub key: Option<SecretKey>,
    /// Time between blocks without transactions; with transactions a quarter of it.
    pub block_interval_ms: u64,
    /// Who judges disputes; needed where the chain's parameters name a referee.
    pub referee: Option<RefereeHandle>,
    /// What is kept of the past.
    pub history: History,
    /// The others; without, this node alone has to be a quorum.
    pub network: Option<NetworkConfig>,
    /// Longest wait for a proposal after its block is due, before the next validator has its turn.
    pub propose_timeout_ms: u64,
    /// Longest wait for more votes once a quorum has voted, though not for the same.
    pub vote_timeout_ms: u64,
    /// How far ahead of this node's clock the time of a proposed block may be.
    pub max_clock_ahead_ms: u64,
    /// How far behind it the time of a new proposed block may be, beside the time that a proposal may take.
    pub max_clock_behind_ms: u64,
    /// The operator's word that the key has never signed for this chain. Without it, a key whose record of signatures is missing first watches
    /// others decide. It counts for a directory without blocks only: where there are some, a missing record was lost. The node takes it for
    /// true once it has heard others and no block that they know carries the key's signature.
    pub first_start: bool,
    /// The operator's word that a key whose record of signatures is missing signed nothing for this height or a later one. It counts only
    /// while this is the next height, and then at once.
    pub unsigned_from: Option<u64>,
    /// Where it is recorded what the key signed [default: in `data_dir`]. Kept apart, it also protects from an old copy of `data_dir`.
    pub sign_guard: Option<PathBuf>,
    /// What clients may take of the service.
    pub limits: ServiceLimits,
    /// What the node does wrong.
    #[cfg(feature = "faults")]
    pub fault: Option<Fault>,
}

impl NodeConfig {
    /// A node with the only key of its chain.
    pub fn alone(
        data_dir: PathBuf,
        genesis: Genesis,
        rpc_listen: SocketAddr,
        key: SecretKey,
        block_interval_ms: u64,
    ) -> Self {
        Self { key: Some(key), ..Self::following(data_dir, genesis, rpc_listen, block_interval_ms) }
    }

    /// A node without a key; it needs others to follow.
    pub fn following(
        data_dir: PathBuf,
        genesis: Genesis,
        rpc_listen: SocketAddr,
        block_interval_ms: u64,
    ) -> Self {
        Self {
            data_dir,
            genesis,
            rpc_listen,
            key: None,
            block_interval_ms,
            referee: None,
            history: History::default(),
            network: None,
            propose_timeout_ms: 1_000,
            vote_timeout_ms: 500,
            max_clock_ahead_ms: 5_000,
            max_clock_behind_ms: 5_000,
            first_start: false,
            unsigned_from: None,
            sign_guard: None,
            limits: ServiceLimits::default(),
            #[cfg(feature = "faults")]
            fault: None,
        }
    }

    fn pace(&self) -> Pace {
        Pace {
            interval: Duration::from_millis(self.block_interval_ms),
            least: Duration::from_millis(self.genesis.params.min_block_ms),
            propose: Duration::from_millis(self.propose_timeout_ms),
            vote: Duration::from_millis(self.vote_timeout_ms),
            clock_ahead_ms: self.max_clock_ahead_ms,
            clock_behind_ms: self.max_clock_behind_ms,
        }
    }
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The chain on disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The chain's disputes are judged by a referee that is not here.
    #[error("disputes of this chain are judged by rules {expected}; the referee here has {found:?}")]
    Referee {
        /// The rules that the parameters name.
        expected: u32,
        /// Those of the referee here, if there is one.
        found: Option<u32>,
    },
    /// The configured genesis.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The key is of no validator that decides blocks alone.
    #[error("{address} does not hold a quorum of this chain's validator set")]
    NotValidator {
        /// The key's address.
        address: Address,
    },
    /// A time that is none.
    #[error("{name} is {found} ms; between 1 and 3,600,000 expected")]
    Interval {
        /// The setting.
        name: &'static str,
        /// What was configured.
        found: u64,
    },
    /// What the key signed is not known.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The directory of consensus cannot be made.
    #[error("{path}: {source}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The address is taken, or not this machine's.
    #[error("JSON-RPC cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The address for other nodes is taken, or not this machine's.
    #[error("consensus cannot listen for other nodes on {address}: {source}")]
    ListenPeers {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The system gives no thread.
    #[error("no thread for consensus: {0}")]
    Thread(std::io::Error),
}

/// A running node. Dropping it stops it without waiting; [`shutdown`](Self::shutdown) waits.
#[derive(Debug)]
pub struct Node {
    shared: Arc<Shared>,
    rpc_addr: SocketAddr,
    stop: watch::Sender<bool>,
    server: Option<tokio::task::JoinHandle<()>>,
    consensus: Option<JoinHandle<()>>,
    upkeep: Option<tokio::task::JoinHandle<()>>,
}

impl Node {
    /// Opens or starts the chain, then produces blocks and serves JSON-RPC. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`NodeError`]; nothing runs then.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        config.genesis.validate()?;
        let pace = config.pace();
        check_times(&config)?;
        let NodeConfig {
            data_dir,
            genesis,
            rpc_listen,
            key,
            network,
            first_start,
            unsigned_from,
            sign_guard,
            referee,
            history,
            limits,
            ..
        } = config;
        let (hash, dir) = (genesis.hash(), data_dir.join(consensus::DIR_NAME));
        let opened = tokio::task::spawn_blocking(move || Store::open(&data_dir, &genesis)).await;
        let (store, mut chain) = opened.expect("opening a store does not panic and is not cancelled")?;
        if let Some(referee) = referee {
            chain = chain.with_referee(referee);
        }
        if let Err(BlockError::Referee { expected, found, .. }) = chain.check_referee() {
            return Err(NodeError::Referee { expected, found });
        }
        let own_key = key.as_ref().map(SecretKey::address);
        let set = chain.validators();
        let power = own_key.map_or(0, |own| set.power(own));
        if network.is_none() && !set.is_quorum(power.into()) {
            return Err(NodeError::NotValidator { address: own_key.unwrap_or_default() });
        }
        std::fs::create_dir_all(&dir).map_err(|source| NodeError::Io { path: dir.clone(), source })?;
        let guard_file = sign_guard.unwrap_or_else(|| dir.join(consensus::RECORD_FILE));
        let (next, word) =
            (chain.tip().height + 1, Word { alone: network.is_none(), first_start, unsigned_from });
        let never_signed = word.is_unsigned(next);
        let said_new = word.is_new(next);
        if (first_start || unsigned_from.is_some()) && !never_signed && !said_new {
            tracing::info!(
                next,
                ?word,
                "the word on what this key signed is not about the next height, and counts for nothing"
            );
        }
        let guard = key.as_ref().map(|_| consensus::open_guard(&guard_file, never_signed)).transpose()?;
        let listen = |source| NodeError::Listen { address: rpc_listen, source };
        let listener = TcpListener::bind(rpc_listen).await.map_err(listen)?;
        let rpc_addr = listener.local_addr().map_err(listen)?;
        let alone = network.is_none();
        // The engine listens in any case; alone it does so where nobody else is.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let network = network.unwrap_or(NetworkConfig { listen: nowhere, peers: Vec::new(), closed: true });
        let NetworkConfig { listen, peers, closed } = network;
        // The engine says nowhere that it cannot listen. Should somebody take the address in between, its network ends, which consensus notices.
        ports::check_free(listen).map_err(|source| NodeError::ListenPeers { address: listen, source })?;
        let max_block_bytes = chain.next().params.max_block_bytes as usize + BLOCK_OVERHEAD_BYTES;
        let settings = Settings {
            dir,
            listen,
            peers,
            closed,
            alone,
            key,
            said_new,
            pace,
            max_block_bytes,
            #[cfg(feature = "faults")]
            fault: config.fault,
        };
        let shared = Arc::new(Shared::new(chain, store, hash, own_key, !alone));
        let consensus = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("dn-consensus".into())
                .spawn(move || consensus::run(&shared, &settings, guard))
                .map_err(NodeError::Thread)?
        };
        let (stop, stopped) = watch::channel(false);
        let dir = shared.store.dir().to_owned();
        let upkeep = tokio::spawn(history::keep(Arc::clone(&shared), dir, history, stopped.clone()));
        let server = tokio::spawn(rpc::serve(listener, Arc::clone(&shared), limits, stopped));
        tracing::info!(%rpc_addr, height = shared.chain().tip().height, "ledger node started");
        let (server, consensus, upkeep) = (Some(server), Some(consensus), Some(upkeep));
        Ok(Self { shared, rpc_addr, stop, server, consensus, upkeep })
    }

    /// Where JSON-RPC listens.
    pub const fn rpc_addr(&self) -> SocketAddr {
        self.rpc_addr
    }

    /// Answers the body of a JSON-RPC request as the service does, without a connection; none when no answer is wanted. It counts
    /// towards no caller's quota, and its length is for the caller to bound.
    pub async fn answer(&self, body: &[u8]) -> Option<Vec<u8>> {
        rpc::answer_bytes(&self.shared, body).await
    }

    /// Height of the tip.
    pub fn height(&self) -> u64 {
        self.shared.chain().tip().height
    }

    /// Returns when no more blocks come: after a failure such as a full disk, which was logged, or a stop. Queries are
    /// still answered then, and a node that is started again goes on at the last block.
    pub async fn production_ended(&self) {
        let mut ticks = tokio::time::interval(PRODUCTION_CHECK);
        while !self.shared.pool().stopped {
            ticks.tick().await;
        }
    }

    /// Why no more blocks come, if the node ended that by itself.
    pub fn failure(&self) -> Option<&ConsensusError> {
        self.shared.failure()
    }

    /// Who decides the next block.
    pub fn validators(&self) -> ValidatorSet {
        self.shared.chain().validators()
    }

    /// Stops consensus and service and waits for both; the data directory is free afterwards.
    pub async fn shutdown(mut self) {
        self.signal();
        if let Some(consensus) = self.consensus.take() {
            // A panic there was reported when it happened.
            let _ = tokio::task::spawn_blocking(move || consensus.join()).await;
        }
        if let Some(upkeep) = self.upkeep.take() {
            // Ends at once, or with the snapshot that it is writing.
            let _ = upkeep.await;
        }
        let Some(mut server) = self.server.take() else { return };
        if tokio::time::timeout(SHUTDOWN_WAIT, &mut server).await.is_err() {
            server.abort();
        }
    }

    fn signal(&self) {
        self.shared.stop();
        let _ = self.stop.send(true);
    }
}

/// What is said about a key whose record of signatures is missing. Flags stay in unit files; so each holds for one height only.
#[derive(Debug, Clone, Copy)]
struct Word {
    alone: bool,
    first_start: bool,
    unsigned_from: Option<u64>,
}

impl Word {
    /// Whether the key signed nothing for the next height, nor for a later one.
    fn is_unsigned(self, next: u64) -> bool {
        // A sole validator contradicts nobody else.
        self.alone || self.unsigned_from == Some(next)
    }

    /// Whether the key is said to have signed nothing at all, which others may know better.
    fn is_new(self, next: u64) -> bool {
        self.first_start && next == 1
    }
}

fn check_times(config: &NodeConfig) -> Result<(), NodeError> {
    let times = [
        ("block_interval_ms", config.block_interval_ms),
        ("propose_timeout_ms", config.propose_timeout_ms),
        ("vote_timeout_ms", config.vote_timeout_ms),
    ];
    match times.into_iter().find(|(_, found)| !(1..=3_600_000).contains(found)) {
        None => Ok(()),
        Some((name, found)) => Err(NodeError::Interval { name, found }),
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.signal();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with blocks whose record of signatures is missing has lost it, whatever flag was left behind.
    #[test]
    fn a_flag_that_was_left_behind_forgets_nothing() {
        let word = |alone, first_start, unsigned_from| Word { alone, first_start, unsigned_from };
        let (first, seven) = (word(false, true, None), word(false, true, Some(7)));
        assert!(first.is_new(1) && !first.is_new(2) && !first.is_unsigned(1));
        assert!(seven.is_unsigned(7) && !seven.is_unsigned(6) && !seven.is_unsigned(8));
        assert!(!word(false, false, None).is_unsigned(1) && word(true, false, None).is_unsigned(9));
    }
}
