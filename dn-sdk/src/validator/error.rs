//! Why an auditor cannot start, or an opening cannot be had.

use crate::ledger::LedgerError;
use crate::opening::OpeningError;
use crate::store::StoreError;

/// Why an auditor cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The data directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The HTTP client cannot be made.
    #[error("cannot make an HTTP client: {0}")]
    Http(reqwest::Error),
    /// A computation cannot be opened against a receipt.
    #[error(transparent)]
    Witness(#[from] dn_compute::verify::WitnessError),
    /// What it computes on failed: nothing is said about the receipt.
    #[error("no verdict: {0}")]
    Device(#[from] dn_compute::spec::DeviceFailure),
    /// A task of the runtime was cut off.
    #[error("interrupted")]
    Interrupted,
}

/// Why a gateway did not hand a good opening over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The gateway is not registered or gives no endpoint.
    #[error("the gateway has no endpoint on the ledger")]
    NoEndpoint,
    /// It cannot be reached or broke off.
    #[error("the gateway cannot be reached: {0}")]
    Transport(#[from] reqwest::Error),
    /// It refuses.
    #[error("the gateway answers with status {0}")]
    Status(u16),
    /// It sends too much.
    #[error("the opening is longer than {limit} bytes")]
    TooLong {
        /// The most that is read.
        limit: usize,
    },
    /// What it sends is not the opening.
    #[error(transparent)]
    Opening(#[from] OpeningError),
}

impl FetchError {
    /// True when asking again may help.
    pub const fn is_transient(&self) -> bool {
        !matches!(self, Self::Opening(_) | Self::TooLong { .. })
    }
}
