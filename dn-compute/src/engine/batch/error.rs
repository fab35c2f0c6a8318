//! Why a batch does not serve a request.

use crate::engine::GenerateError;

/// Why a batch does not serve a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The request cannot be served.
    #[error(transparent)]
    Request(#[from] GenerateError),
    /// As many requests as allowed are waiting.
    #[error("{limit} requests are waiting already; try again later")]
    QueueFull {
        /// Most that may wait.
        limit: usize,
    },
    /// The keys and values of the longest possible answer do not fit the memory for all requests together.
    #[error(
        "the request may need {needed} bytes for keys and values, {limit} are set aside for all requests; ask for fewer tokens"
    )]
    Memory {
        /// Bytes for prompt and longest answer.
        needed: u64,
        /// Bytes for all requests.
        limit: u64,
    },
    /// The runner has stopped.
    #[error("the batch runner has stopped")]
    Stopped,
}
