//! Runs models for gateways: dials out, takes leases, streams tokens, signs receipts, and settles them in batches.

mod batch;
mod choose;
mod config;
mod connection;
mod defence;
mod error;
mod executor;
mod job;
mod served;
mod socket;
mod store;

pub use config::WorkerConfig;
pub use error::{WorkerError, WorkerFailure};
pub use executor::{EngineExecutor, ExecuteError, Execution, Executor, TokenSink};

use std::sync::Arc;
use std::time::Duration;

use dn_core::Address;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long a batch or a dispute that is being worked on may take when the worker stops. What is cut off is on disk, as after a
/// crash.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// A running worker. Dropping it stops it at once; [`shutdown`](Self::shutdown) lets running jobs end first.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<connection::Shared>,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

/// What a worker has done since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkerStatus {
    /// Gateways that it is connected to.
    pub gateways: usize,
    /// Jobs that run now.
    pub jobs: usize,
    /// Jobs done.
    pub done: u64,
    /// Receipts that wait for a batch.
    pub pending_receipts: usize,
    /// Batches that stand on the ledger.
    pub batches: u64,
}

impl Worker {
    /// Opens the store, connects to the gateways (and keeps trying), and works.
    ///
    /// # Errors
    /// [`WorkerError`]: the ledger cannot be reached, or the data directory is in use or of another chain.
    pub async fn start(config: WorkerConfig) -> Result<Self, WorkerError> {
        connection::start(config).await
    }

    /// The worker's address.
    pub fn address(&self) -> Address {
        self.shared.address()
    }

    /// What it has done.
    pub fn status(&self) -> WorkerStatus {
        self.shared.status()
    }

    /// Settles what is pending now, instead of at the end of the interval.
    pub fn settle_now(&self) {
        self.shared.settle_now();
    }

    /// Returns when the worker can no longer work, and says why: its store cannot be written, a device that it computes on is
    /// gone, or the thread that computes has panicked. From then on it takes no jobs. Whoever runs it shuts it down and ends with that error, so that it is started
    /// again, which opens the device anew.
    pub async fn broken(&self) -> WorkerFailure {
        self.shared.broken().await
    }

    /// Takes no more jobs, lets those that run end (at most ten seconds), and stops (at most twenty more). Unsettled receipts are settled
    /// after the next start.
    pub async fn shutdown(mut self) {
        self.shared.drain().await;
        let _ = self.stop.send(true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(END_TIMEOUT, ended).await.is_err() {
            tracing::warn!("what the worker was doing is cut off; the next start takes it up");
            self.tasks.shutdown().await;
        }
    }
}
