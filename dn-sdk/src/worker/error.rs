//! Why a worker cannot start, or lost a connection.

use dn_compute::spec::DeviceFailure;
use dn_core::{Address, DecodeError};

use crate::ledger::LedgerError;
use crate::store::StoreError;
use crate::wire::{HelloError, RefuseReason};

/// Why a worker cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The data directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A gateway's URL is not one.
    #[error("`{url}` is not the http:// or https:// URL of a gateway")]
    GatewayUrl {
        /// The text.
        url: String,
    },
    /// No model to run.
    #[error("the executor has no model")]
    NoModel,
    /// No job at a time.
    #[error("a worker needs at least one slot")]
    NoSlot,
}

/// Why a running worker can do no more jobs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerFailure {
    /// Its store cannot be written, such as on a full disk.
    #[error("receipts cannot be stored; start again once the cause is gone")]
    Store,
    /// What it computes on is gone.
    #[error("no job can be computed any more: {0}")]
    Device(#[from] DeviceFailure),
    /// The thread that computes its jobs broke off.
    #[error(
        "no job can be computed any more: the thread that computes has panicked; please report what it said"
    )]
    Stopped,
}

/// Why a connection to a gateway ended. The worker connects again by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ConnectionError {
    #[error("cannot connect: {0}")]
    Connect(Box<tokio_tungstenite::tungstenite::Error>),
    #[error("connection lost: {0}")]
    Lost(Box<tokio_tungstenite::tungstenite::Error>),
    #[error("the gateway closed the connection")]
    Closed,
    #[error("no answer within {seconds} s while waiting for {what}")]
    Timeout { what: &'static str, seconds: u64 },
    #[error("undecodable message: {0}")]
    Decode(#[from] DecodeError),
    #[error("greeting: {0}")]
    Hello(#[from] HelloError),
    #[error("the gateway serves chain {found}; this worker serves chain {expected}")]
    Chain { expected: u64, found: u64 },
    #[error("the gateway refuses this worker: {0:?}")]
    Refused(RefuseReason),
    #[error("{gateway} is not an active gateway on the ledger")]
    GatewayUnknown { gateway: Address },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}
