//! Why somebody gets no stream of events.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::filter::UnknownKind;
use crate::node::history::CODE_PRUNED;
use crate::node::quota::{BURST, CALLS_PER_SECOND};
use crate::node::rpc::{CODE_BUSY, CODE_INTERNAL};
use crate::node::server::NoPlace;
use crate::node::store::{PastError, StoreError};
use crate::views::Pruned;

/// Why somebody gets no stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubscribeError {
    /// The filters cannot be read.
    #[error("{}", .0.body_text())]
    Query(#[from] QueryRejection),
    /// Nothing would ever fit.
    #[error(transparent)]
    Kind(#[from] UnknownKind),
    /// It is not of the form that events' ids have.
    #[error("Last-Event-ID: expected `height.index`")]
    LastId,
    /// What was asked for is not held any more.
    #[error(transparent)]
    Pruned(#[from] Pruned),
    /// The caller has asked enough for now.
    #[error("more than {} calls a second, or {} at once", CALLS_PER_SECOND, BURST)]
    Calls,
    /// There are streams enough, of all or of this caller.
    #[error("no place for a stream: {}", shown(.0))]
    Place(#[from] NoPlace),
    /// The store cannot be read.
    #[error("the node cannot read its store")]
    Store(#[source] StoreError),
    /// The read ended without an answer.
    #[error("the node failed on this call")]
    Broken,
}

/// A stream's place is a place like a connection's, but for the words.
fn shown(error: &NoPlace) -> String {
    match error {
        NoPlace::Total { limit } => format!("{limit} are open"),
        NoPlace::Address { limit } => format!("{limit} of this address are open"),
        NoPlace::Network { limit } => format!("{limit} of this network are open"),
    }
}

impl From<PastError> for SubscribeError {
    fn from(error: PastError) -> Self {
        match error {
            PastError::Pruned(pruned) => Self::Pruned(pruned),
            PastError::Store(error) => Self::Store(error),
        }
    }
}

impl SubscribeError {
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::Query(_) | Self::Kind(_) | Self::LastId => StatusCode::BAD_REQUEST,
            Self::Pruned(_) => StatusCode::GONE,
            Self::Calls | Self::Place(NoPlace::Address { .. } | NoPlace::Network { .. }) => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Place(NoPlace::Total { .. }) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(_) | Self::Broken => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What JSON-RPC answers in the same case.
    const fn code(&self) -> Option<i64> {
        match self {
            Self::Query(_) | Self::Kind(_) | Self::LastId => None,
            Self::Pruned(_) => Some(CODE_PRUNED),
            Self::Calls | Self::Place(_) => Some(CODE_BUSY),
            Self::Store(_) | Self::Broken => Some(CODE_INTERNAL),
        }
    }

    fn data(&self) -> Option<Value> {
        match self {
            Self::Kind(UnknownKind { found, known }) => Some(json!({ "found": found, "known": known })),
            Self::Pruned(pruned) => serde_json::to_value(pruned).ok(),
            _ => None,
        }
    }
}

impl IntoResponse for SubscribeError {
    fn into_response(self) -> Response {
        if let Self::Store(error) = &self {
            tracing::error!(%error, "a subscriber cannot be served");
        }
        let mut error = json!({ "message": self.to_string() });
        if let Some(code) = self.code() {
            error["code"] = code.into();
        }
        if let Some(data) = self.data() {
            error["data"] = data;
        }
        (self.status(), Json(json!({ "error": error }))).into_response()
    }
}
