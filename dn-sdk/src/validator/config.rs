//! What an auditor is made of.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dn_compute::Engine;
use dn_core::SecretKey;

use crate::ledger::LedgerClient;

/// What [`Auditor::start`](super::Auditor::start) needs.
#[derive(Debug, Clone)]
pub struct AuditorConfig {
    /// The validator's key.
    pub key: SecretKey,
    /// The ledger node to ask.
    pub ledger: LedgerClient,
    /// One engine for each model that can be replayed.
    pub engines: Vec<Arc<Engine>>,
    /// Where verdicts wait for their reveal.
    pub data_dir: PathBuf,
    /// How often tasks are looked up.
    pub poll_interval: Duration,
    /// The longest that a gateway may take to hand an opening over.
    pub fetch_timeout: Duration,
}

impl AuditorConfig {
    /// A configuration that looks for tasks twice a second.
    pub fn new(
        key: SecretKey,
        ledger: LedgerClient,
        engines: Vec<Arc<Engine>>,
        data_dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            key,
            ledger,
            engines,
            data_dir: data_dir.into(),
            poll_interval: Duration::from_millis(500),
            fetch_timeout: Duration::from_secs(10),
        }
    }
}
