//! Audits: replays the receipts that the ledger draws for this validator and votes on them.

mod accuse;
mod auditor;
mod config;
mod error;
mod judge;
mod store;

pub use config::AuditorConfig;
pub use error::{AuditError, FetchError};
pub use judge::{Judgement, judge};

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dn_core::objects::AuditOutcome;
use dn_core::{Address, BatchId, ReceiptId};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A running auditor.
#[derive(Debug)]
pub struct Auditor {
    shared: Arc<auditor::Shared>,
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

/// One audit that was done.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AuditRecord {
    /// The batch.
    pub batch: BatchId,
    /// The receipt's place in it.
    pub index: u32,
    /// Whose work it was.
    pub worker: Address,
    /// The receipt, when it was handed over.
    pub receipt: Option<ReceiptId>,
    /// The verdict.
    pub outcome: AuditOutcome,
    /// Why, in words, when it is not a match.
    pub reason: Option<String>,
    /// Time of the replay, in microseconds.
    pub replay_us: u64,
    /// Time that the worker took, by its receipt, in microseconds.
    pub generation_us: u64,
}

impl Auditor {
    /// Opens the store and starts to look for tasks.
    ///
    /// # Errors
    /// [`AuditError`]: the ledger cannot be reached, or the data directory is in use or of another chain.
    pub async fn start(config: AuditorConfig) -> Result<Self, AuditError> {
        auditor::start(config).await
    }

    /// The validator's address.
    pub fn address(&self) -> Address {
        self.shared.address()
    }

    /// The last audits done since the start, at most 10,000, oldest first.
    pub fn records(&self) -> Vec<AuditRecord> {
        self.shared.records()
    }

    /// Replays begun since the start, also those that gave no verdict because the device failed.
    pub fn replays(&self) -> u64 {
        self.shared.replays.load(Ordering::Relaxed)
    }

    /// Stops after the audit that runs. Open tasks are taken up again at the next start.
    pub async fn shutdown(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}
