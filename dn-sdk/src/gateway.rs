//! The OpenAI-compatible front of the network: takes calls, routes them to workers that dialled in, holds and charges
//! the payers' channels, and hands receipts to clients and openings to auditors.
//!
//! | path | what |
//! |---|---|
//! | `GET /v1/models`, `/v1/models/{id}` | published models that are served here |
//! | `POST /v1/chat/completions`, `/v1/completions` | calls, streamed or not |
//! | `GET /v1/receipts/{id}` | a receipt; with the key that paid also request and output |
//! | `GET /v1/openings/{batch}/{index}` | for auditors, signed: receipt, proof, request and output, canonical |
//! | `GET /v1/worker` | WebSocket of a worker |
//! | `GET /healthz`, `/readyz`, `/metrics` | for operators |
//!
//! # Money
//! A slot is reserved first, then the most that the call can cost is held (in memory: a restart ends the calls and so
//! the holds). What was delivered is charged in one transaction with the receipt, the new voucher and the idempotency
//! record, and only then does the client see the end of its answer. A call that fails costs nothing.

mod auth;
mod call;
mod config;
mod countersign;
mod error;
mod http;
mod logprobs;
mod lookup;
mod metrics;
mod money;
mod parse;
mod render;
mod router;
mod server;
mod session;
mod shared;
mod sse;
mod store;
mod workers;

pub use config::{GatewayConfig, GatewayLimits, ServedModel};
pub use error::GatewayError;
pub use store::LaneState;

use std::net::SocketAddr;
use std::sync::Arc;

use dn_core::{Address, ChannelId, SecretKey};

use shared::Shared;

/// A running gateway. Dropping it stops it without waiting for calls; [`shutdown`](Self::shutdown) lets them end.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    addr: SocketAddr,
    tasks: server::Tasks,
}

/// Where a gateway stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayStatus {
    /// Connected workers.
    pub workers: Vec<WorkerStatus>,
    /// Calls that run now.
    pub calls: usize,
    /// The ledger answered lately.
    pub ledger_reachable: bool,
}

/// A worker as its gateway sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Who.
    pub address: Address,
    /// Jobs at a time.
    pub slots: usize,
    /// Jobs now.
    pub busy: usize,
    /// It takes no more jobs.
    pub draining: bool,
}

impl Gateway {
    /// Opens the store, binds the address, and serves.
    ///
    /// # Errors
    /// [`GatewayError`]: the ledger cannot be reached, the data directory is in use or of another chain, the address is
    /// taken.
    pub async fn start(config: GatewayConfig) -> Result<Self, GatewayError> {
        server::start(config).await
    }

    /// The address that it listens on.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address as a URL, to be given to workers and clients on this machine.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Makes an API key that spends from a channel, on a lane of its own, by a spending key that the ledger knows as
    /// the channel's spender; at most the channel's deposit can be lost with it. The text is shown only here; the store
    /// keeps its hash.
    ///
    /// # Errors
    /// [`GatewayError`]: no such channel, it pays somebody else, or the key is not its spender.
    pub async fn add_key(
        &self,
        channel: ChannelId,
        spending_key: &SecretKey,
        label: &str,
    ) -> Result<String, GatewayError> {
        self.shared.add_key(channel, spending_key, label).await
    }

    /// Whether an API key is one of this gateway's.
    ///
    /// # Errors
    /// [`GatewayError`]: the store cannot be read.
    pub async fn knows_key(&self, key: &str) -> Result<bool, GatewayError> {
        self.shared.knows_key(key).await
    }

    /// [`add_key`](Self::add_key) while no gateway runs on this data directory: for operators' tools.
    ///
    /// # Errors
    /// [`GatewayError`], as `add_key`, and when a gateway uses the directory.
    pub async fn add_key_offline(
        config: GatewayConfig,
        channel: ChannelId,
        spending_key: &SecretKey,
        label: &str,
    ) -> Result<String, GatewayError> {
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let shared = Arc::new(Shared::open(config, stopped).await?);
        shared.add_key(channel, spending_key, label).await
    }

    /// What was charged on each lane of a channel.
    ///
    /// # Errors
    /// [`GatewayError`].
    pub fn lanes(&self, channel: ChannelId) -> Result<Vec<LaneState>, GatewayError> {
        self.shared.lanes(channel)
    }

    /// Where it stands.
    pub fn status(&self) -> GatewayStatus {
        self.shared.status()
    }

    /// Takes no more calls, waits for those that run (at most ten seconds), and stops.
    pub async fn shutdown(self) {
        self.tasks.shutdown().await;
    }
}
