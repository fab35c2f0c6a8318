//! Why a local network cannot run.

use std::net::SocketAddr;
use std::time::Duration;

use dn_compute::EngineError;
use dn_core::ModelId;
use dn_ledger::node::NodeError;

use super::home::HomeError;
use super::keys::KeysError;
use crate::gateway::GatewayError;
use crate::ledger::LedgerError;
use crate::validator::AuditError;
use crate::worker::{WorkerError, WorkerFailure};

/// Which part of a running network can no longer work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DevnetFailure {
    /// The ledger; the reason was logged.
    #[error("the ledger cannot store its data any more")]
    Ledger,
    /// A worker.
    #[error("a worker: {0}")]
    Worker(WorkerFailure),
}

/// Why a local network cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DevnetError {
    /// The data directory.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// An address to listen on is taken or not of this machine.
    #[error(
        "cannot listen on {addr} for the {what}: {source}; choose another address, port 0 takes a free one"
    )]
    Listen {
        /// What wanted it.
        what: &'static str,
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The genesis names another address for the gateway, and auditors look for it there.
    #[error(
        "this network's gateway is registered at {registered}, not at {wanted}: start it there or choose another data directory"
    )]
    GatewayMoved {
        /// Where it was registered.
        registered: String,
        /// Where it was to listen.
        wanted: String,
    },
    /// The ledger node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A query or transaction.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The gateway.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// A worker.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// An auditor.
    #[error(transparent)]
    Auditor(#[from] AuditError),
    /// The engine cannot run the model.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The gateway does not answer.
    #[error("the gateway: {0}")]
    Http(#[from] reqwest::Error),
    /// The model on the ledger belongs to somebody else.
    #[error("model {model} was not published by this network's model owner")]
    ForeignModel {
        /// The model.
        model: ModelId,
    },
    /// Something did not come up.
    #[error("{what} did not happen within {waited:?}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        waited: Duration,
    },
}
