//! What a gateway is made of.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dn_compute::ModelFront;
use dn_core::{ModelId, SecretKey};

use crate::ledger::LedgerClient;
use crate::wire::LeaseLimits;

/// A model that a gateway serves: what it needs of the file, and which published model that is.
#[derive(Debug, Clone)]
pub struct ServedModel {
    /// The published model; name, price and domain come from the ledger.
    pub id: ModelId,
    /// Tokenizer, chat template and sizes.
    pub front: Arc<ModelFront>,
}

/// Bounds on what strangers can make a gateway do.
#[derive(Debug, Clone)]
pub struct GatewayLimits {
    /// The most bytes of a request body.
    pub max_body_bytes: usize,
    /// From the connection to the end of the request's headers.
    pub header_timeout: Duration,
    /// From the headers to the end of the body.
    pub body_timeout: Duration,
    /// Open connections.
    pub max_connections: usize,
    /// Calls that run at the same time.
    pub max_calls: usize,
    /// Calls that run at the same time on one channel.
    pub max_calls_per_channel: usize,
    /// Connected workers.
    pub max_workers: usize,
    /// A client that takes no data for so long is gone.
    pub delivery_timeout: Duration,
    /// The longest that one call may take.
    pub call_timeout: Duration,
    /// Workers tried for one call, the first included.
    pub max_attempts: usize,
    /// Most output tokens when a chat request does not say.
    pub default_max_tokens: u32,
    /// How long an `Idempotency-Key` is remembered.
    pub idempotency_window: Duration,
    /// How long a client's voucher must stay valid when it comes.
    pub voucher_validity: Duration,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            max_body_bytes: 1024 * 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            max_connections: 1024,
            max_calls: 256,
            max_calls_per_channel: 32,
            max_workers: 256,
            delivery_timeout: Duration::from_secs(60),
            call_timeout: Duration::from_secs(600),
            max_attempts: 3,
            default_max_tokens: 512,
            idempotency_window: Duration::from_secs(24 * 3600),
            voucher_validity: Duration::from_secs(3600),
        }
    }
}

/// What [`Gateway::start`](super::Gateway::start) needs.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// The gateway's key; its address is the payee of the channels.
    pub key: SecretKey,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The ledger node to ask.
    pub ledger: LedgerClient,
    /// Where keys, vouchers and receipts are kept.
    pub data_dir: PathBuf,
    /// The models to serve; those that the ledger does not know are not listed until it does.
    pub models: Vec<ServedModel>,
    /// How often prices, trust and channels are looked up on the ledger.
    pub refresh_interval: Duration,
    /// Bounds.
    pub limits: GatewayLimits,
    /// Deadlines towards workers.
    pub lease_limits: LeaseLimits,
}

impl GatewayConfig {
    /// A configuration with the usual bounds.
    pub fn new(
        key: SecretKey,
        listen: SocketAddr,
        ledger: LedgerClient,
        data_dir: impl Into<PathBuf>,
        models: Vec<ServedModel>,
    ) -> Self {
        Self {
            key,
            listen,
            ledger,
            data_dir: data_dir.into(),
            models,
            refresh_interval: Duration::from_secs(2),
            limits: GatewayLimits::default(),
            lease_limits: LeaseLimits::default(),
        }
    }
}
