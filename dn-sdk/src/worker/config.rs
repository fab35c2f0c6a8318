//! What a worker is made of.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dn_core::SecretKey;
use dn_core::objects::Price;

use super::executor::Executor;
use crate::ledger::LedgerClient;

/// What [`Worker::start`](super::Worker::start) needs.
#[derive(Clone)]
pub struct WorkerConfig {
    /// The worker's key: signs receipts and batches.
    pub key: SecretKey,
    /// The ledger node to ask.
    pub ledger: LedgerClient,
    /// URLs of the gateways to serve, such as `http://127.0.0.1:8080`.
    pub gateways: Vec<String>,
    /// Runs the models.
    pub executor: Arc<dyn Executor>,
    /// Jobs at a time, over all gateways.
    pub slots: u16,
    /// Where receipts wait for their batch.
    pub data_dir: PathBuf,
    /// How often receipts are settled.
    pub batch_interval: Duration,
    /// How often receipts are settled that bring less than their batch costs.
    pub small_batch_interval: Duration,
    /// The most receipts of one batch.
    pub max_batch_receipts: usize,
    /// Jobs that pay less are refused.
    pub min_price: Price,
    /// How long a receipt can be settled.
    pub receipt_validity: Duration,
}

impl WorkerConfig {
    /// A configuration with two slots that settles every ten seconds, what does not pay for its batch every hour, and takes any price.
    pub fn new(
        key: SecretKey,
        ledger: LedgerClient,
        gateways: Vec<String>,
        executor: Arc<dyn Executor>,
        data_dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            key,
            ledger,
            gateways,
            executor,
            slots: 2,
            data_dir: data_dir.into(),
            batch_interval: Duration::from_secs(10),
            small_batch_interval: Duration::from_secs(3600),
            max_batch_receipts: 512,
            min_price: Price::default(),
            receipt_validity: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

impl std::fmt::Debug for WorkerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerConfig")
            .field("worker", &self.key.address())
            .field("gateways", &self.gateways)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}
