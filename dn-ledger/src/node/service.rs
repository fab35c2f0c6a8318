//! Starting and stopping a node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use dn_core::{Address, SecretKey};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::history::{self, History};
use super::producer::{self, Shared};
use super::rpc;
use super::store::{Store, StoreError};
use crate::chain::BlockError;
use crate::genesis::{Genesis, GenesisError};
use crate::referee::RefereeHandle;

/// Longest wait for requests in progress when a node shuts down.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(3);
/// How often it is looked whether blocks are still produced.
const PRODUCTION_CHECK: Duration = Duration::from_millis(500);

/// What a node needs.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Where the chain is kept; made if it does not exist.
    pub data_dir: PathBuf,
    /// The chain's genesis.
    pub genesis: Genesis,
    /// Where JSON-RPC listens; port 0 takes a free one.
    pub rpc_listen: SocketAddr,
    /// The validator's key: it proposes and signs blocks.
    pub key: SecretKey,
    /// Time between blocks without transactions; with transactions a quarter of it.
    pub block_interval_ms: u64,
    /// Who judges disputes; needed where the chain's parameters name a referee.
    pub referee: Option<RefereeHandle>,
    /// What is kept of the past.
    pub history: History,
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
    /// A block interval that is no time.
    #[error("a block interval of {found} ms; between 1 and 3,600,000 expected")]
    Interval {
        /// What was configured.
        found: u64,
    },
    /// The address is taken, or not this machine's.
    #[error("JSON-RPC cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The system gives no thread.
    #[error("no thread for block production: {0}")]
    Thread(std::io::Error),
}

/// A running node. Dropping it stops it without waiting; [`shutdown`](Self::shutdown) waits.
#[derive(Debug)]
pub struct Node {
    shared: Arc<Shared>,
    rpc_addr: SocketAddr,
    stop: watch::Sender<bool>,
    server: Option<tokio::task::JoinHandle<()>>,
    producer: Option<JoinHandle<()>>,
    upkeep: Option<tokio::task::JoinHandle<()>>,
}

impl Node {
    /// Opens or starts the chain, then produces blocks and serves JSON-RPC. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`NodeError`]; nothing runs then.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        config.genesis.validate()?;
        if !(1..=3_600_000).contains(&config.block_interval_ms) {
            return Err(NodeError::Interval { found: config.block_interval_ms });
        }
        let NodeConfig { data_dir, genesis, rpc_listen, key, block_interval_ms, referee, history } = config;
        let hash = genesis.hash();
        let opened = tokio::task::spawn_blocking(move || Store::open(&data_dir, &genesis)).await;
        let (store, mut chain) = opened.expect("opening a store does not panic and is not cancelled")?;
        if let Some(referee) = referee {
            chain = chain.with_referee(referee);
        }
        if let Err(BlockError::Referee { expected, found, .. }) = chain.check_referee() {
            return Err(NodeError::Referee { expected, found });
        }
        let address = key.address();
        // One signature has to be a quorum until nodes talk to each other.
        let set = chain.validators();
        if !set.is_quorum(set.power(address).into()) {
            return Err(NodeError::NotValidator { address });
        }
        let listen = |source| NodeError::Listen { address: rpc_listen, source };
        let listener = TcpListener::bind(rpc_listen).await.map_err(listen)?;
        let rpc_addr = listener.local_addr().map_err(listen)?;
        let shared = Arc::new(Shared::new(chain, store, hash, address));
        let producer = {
            let shared = Arc::clone(&shared);
            let interval = Duration::from_millis(block_interval_ms);
            std::thread::Builder::new()
                .name("dn-blocks".into())
                .spawn(move || producer::run(&shared, &key, interval))
                .map_err(NodeError::Thread)?
        };
        let (stop, stopped) = watch::channel(false);
        let dir = shared.store.dir().to_owned();
        let upkeep = tokio::spawn(history::keep(Arc::clone(&shared), dir, history, stopped.clone()));
        let server = tokio::spawn(rpc::serve(listener, Arc::clone(&shared), stopped));
        tracing::info!(%rpc_addr, height = shared.chain().tip().height, "ledger node started");
        let (server, producer, upkeep) = (Some(server), Some(producer), Some(upkeep));
        Ok(Self { shared, rpc_addr, stop, server, producer, upkeep })
    }

    /// Where JSON-RPC listens.
    pub const fn rpc_addr(&self) -> SocketAddr {
        self.rpc_addr
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

    /// Stops production and service and waits for both; the data directory is free afterwards.
    pub async fn shutdown(mut self) {
        self.signal();
        if let Some(producer) = self.producer.take() {
            // A panic there was reported when it happened.
            let _ = tokio::task::spawn_blocking(move || producer.join()).await;
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

impl Drop for Node {
    fn drop(&mut self) {
        self.signal();
    }
}
