//! JSON-RPC 2.0 over HTTP POST `/`, and beside it the stream of events.

mod account;
mod body;
mod calls;
mod chain;
mod governance;
mod openrpc;
mod params;
mod registry;
mod submit;
mod table;
mod waits;
mod work;

use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use self::calls::{Asked, Sorted};
pub use self::openrpc::openrpc;
use self::waits::Waits;
use super::quota::{BURST, CALLS_PER_SECOND, Caller, Quotas};
use super::server::{self, NoPlace, Place, Places, ServiceLimits};
use super::shared::Shared;
use super::snapshot::SnapshotFileError;
use super::store::StoreError;
use super::subscribe::{self, Subscriptions};
use crate::query::PageError;
use crate::reject::Reject;

/// The most bytes of a request.
pub const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;
/// The most bytes of a request whose queries wait for a block beside its transactions.
const MAX_MIXED_BYTES: usize = 64 * 1024;
/// The most calls in one batch.
pub const MAX_BATCH: usize = 32;
/// A transaction that the rules refuse; `data` is the [`Reject`].
pub const CODE_REJECTED: i64 = -32_001;
/// A transaction that the node does not let wait for a block; `data` is the [`PoolRefusal`](crate::views::PoolRefusal).
pub const CODE_POOL: i64 = -32_004;
/// The node has no room, or the transaction was not in a block in time; asking again is safe.
pub const CODE_BUSY: i64 = -32_002;
/// The node itself failed.
pub const CODE_INTERNAL: i64 = -32_603;

const CODE_PARSE: i64 = -32_700;
const CODE_REQUEST: i64 = -32_600;
const CODE_METHOD: i64 = -32_601;
const CODE_PARAMS: i64 = -32_602;

/// Once the answers to one request have so many bytes, the calls after them are not made: they get [`CODE_BUSY`].
pub const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of an answer that count as one more call.
const BYTES_PER_CALL: usize = 64 * 1024;
/// In what the bytes of answers are counted that nobody has taken yet.
const HELD_UNIT: usize = 4 * 1024;
/// Requests at work at once: their body is here, and they wait for no block. An eighth of the places is for programs of the same machine.
const MAX_REQUESTS: usize = 512;
/// Those of one caller, if it is on another machine.
const MAX_OF_CALLER: usize = 64;

/// An error of one call.
#[derive(Debug, Serialize)]
struct RpcError {
    code: i64,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

impl RpcError {
    fn new(code: i64, message: impl ToString) -> Self {
        Self { code, message: message.to_string(), data: None }
    }
}

impl From<Reject> for RpcError {
    fn from(reject: Reject) -> Self {
        let data = serde_json::to_value(&reject).ok();
        Self { code: CODE_REJECTED, message: reject.to_string(), data }
    }
}

impl From<PageError> for RpcError {
    fn from(error: PageError) -> Self {
        Self::new(CODE_PARAMS, format!("params: {error}"))
    }
}

impl From<StoreError> for RpcError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "query failed");
        Self::new(CODE_INTERNAL, "the node cannot read its store")
    }
}

impl From<SnapshotFileError> for RpcError {
    fn from(error: SnapshotFileError) -> Self {
        tracing::error!(%error, "query failed");
        Self::new(CODE_INTERNAL, "the node cannot read its snapshot")
    }
}

/// The answer to one call; its result is text already.
#[derive(Debug, Serialize)]
struct Answer {
    jsonrpc: &'static str,
    id: Value,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Result(Box<RawValue>),
    Error(RpcError),
}

impl Answer {
    fn new(id: Value, result: Result<Box<RawValue>, RpcError>) -> Self {
        Self { jsonrpc: "2.0", id, outcome: result.map_or_else(Outcome::Error, Outcome::Result) }
    }

    /// To what has no id.
    fn refusal(error: RpcError) -> Self {
        Self::new(Value::Null, Err(error))
    }
}

#[derive(Debug, Clone)]
struct Service {
    shared: Arc<Shared>,
    /// Of requests at work.
    places: Arc<Places>,
    waits: Arc<Waits>,
    /// Units of answers.
    held: Arc<Semaphore>,
    quotas: Arc<Quotas>,
}

/// An answer until it is sent.
struct Held {
    bytes: Vec<u8>,
    _units: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Serves until told to stop.
pub(super) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    limits: ServiceLimits,
    stopped: watch::Receiver<bool>,
) {
    let quotas = Arc::<Quotas>::default();
    let subscriptions = Subscriptions::new(Arc::clone(&shared), Arc::clone(&quotas), stopped.clone());
    let service = Service::new(shared, quotas, limits.answer_bytes);
    let events = Router::new().route("/events", get(subscribe::handle)).with_state(subscriptions);
    let app = Router::new().route("/", post(handle)).route("/metrics", get(metrics));
    let app = app.with_state(service).merge(events);
    server::serve(listener, app, limits, stopped).await;
}

async fn metrics(State(service): State<Service>) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    (kind, service.shared.metrics.text()).into_response()
}

async fn handle(
    State(service): State<Service>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    let body = match body::read(request).await {
        Ok(body) => body,
        Err(error) => {
            let (status, close) = (error.status(), [(header::CONNECTION, "close")]);
            let error = RpcError::new(CODE_REQUEST, error);
            return (status, close, Json(Answer::refusal(error))).into_response();
        }
    };
    // Not before: whoever sends half a body keeps nobody else out.
    let place = match service.places.take(caller.0) {
        Ok(place) => place,
        Err(error) => {
            let status = match error {
                NoPlace::Total { .. } => StatusCode::SERVICE_UNAVAILABLE,
                NoPlace::Address { .. } | NoPlace::Network { .. } => StatusCode::TOO_MANY_REQUESTS,
            };
            return (status, Json(Answer::refusal(no_place(error)))).into_response();
        }
    };
    let value = match read_json(&body) {
        Ok(value) => value,
        Err(error) => return Json(Answer::refusal(error)).into_response(),
    };
    // An answer may take a while.
    let is_long = body.len() > MAX_MIXED_BYTES;
    drop(body);
    if !service.quotas.allows(caller, weight(&value)) {
        let message = format!("more than {CALLS_PER_SECOND} calls a second, or {BURST} at once");
        let error = RpcError::new(CODE_BUSY, message);
        return (StatusCode::TOO_MANY_REQUESTS, Json(Answer::refusal(error))).into_response();
    }
    let Some(bytes) = service.answer(caller, place, value, is_long).await else {
        return StatusCode::NO_CONTENT.into_response();
    };
    service.quotas.charge(caller, u32::try_from(bytes.len() / BYTES_PER_CALL).unwrap_or(u32::MAX));
    let units = u32::try_from(bytes.len().div_ceil(HELD_UNIT)).unwrap_or(u32::MAX);
    let Ok(units) = service.held.clone().try_acquire_many_owned(units) else {
        let error = RpcError::new(CODE_BUSY, "answers that nobody has taken yet leave no room for this one");
        return (StatusCode::SERVICE_UNAVAILABLE, Json(Answer::refusal(error))).into_response();
    };
    let body = Body::from(Bytes::from_owner(Held { bytes, _units: units }));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// How many calls a request counts for, before any of it is done; never more than somebody has who has rested.
fn weight(request: &Value) -> NonZeroU32 {
    let of = |call: &Value| {
        let method = call.get("method").and_then(Value::as_str).and_then(table::find);
        method.map_or(1, |method| method.weight)
    };
    let calls = request.as_array().map_or(std::slice::from_ref(request), Vec::as_slice);
    // A batch that is too long is refused for that, after it was counted.
    let all = calls.iter().take(MAX_BATCH).map(of).sum::<u32>();
    NonZeroU32::new(all.min(BURST)).unwrap_or(NonZeroU32::MIN)
}

/// The answer to the body of a request of this very program, if it wants one.
pub(super) async fn answer_bytes(shared: &Arc<Shared>, body: &[u8]) -> Option<Vec<u8>> {
    let own = Caller(Ipv4Addr::LOCALHOST.into());
    let service = Service::new(Arc::clone(shared), Arc::default(), 0);
    let place = match service.places.take(own.0) {
        Ok(place) => place,
        Err(error) => return Some(written(&Answer::refusal(no_place(error)))),
    };
    match read_json(body) {
        Ok(value) => service.answer(own, place, value, false).await,
        Err(error) => Some(written(&Answer::refusal(error))),
    }
}

fn apart() -> RpcError {
    let message = format!(
        "queries beside transactions have a request of {MAX_MIXED_BYTES} bytes at most: ask them apart"
    );
    RpcError::new(CODE_REQUEST, message)
}

fn no_place(error: NoPlace) -> RpcError {
    let message = match error {
        NoPlace::Total { limit } => format!("{limit} requests are in progress"),
        NoPlace::Address { limit } => format!("{limit} requests of this address are in progress"),
        NoPlace::Network { limit } => format!("{limit} requests of this network are in progress"),
    };
    RpcError::new(CODE_BUSY, message)
}

fn read_json(body: &[u8]) -> Result<Value, RpcError> {
    // serde_json stops at 128 levels, so depth costs no stack.
    serde_json::from_slice(body).map_err(|error| RpcError::new(CODE_PARSE, error))
}

impl Service {
    fn new(shared: Arc<Shared>, quotas: Arc<Quotas>, answer_bytes: usize) -> Self {
        let places = Arc::new(Places::new(MAX_REQUESTS, MAX_OF_CALLER));
        let held = Arc::new(Semaphore::new(answer_bytes / HELD_UNIT));
        Self { shared, places, waits: Arc::default(), held, quotas }
    }

    async fn answer(&self, caller: Caller, place: Place, request: Value, is_long: bool) -> Option<Vec<u8>> {
        let calls = match request {
            Value::Array(calls) => calls,
            single => return self.answers(caller, place, vec![single], is_long).await.first().map(written),
        };
        if calls.is_empty() || calls.len() > MAX_BATCH {
            let message = format!("a batch holds 1 to {MAX_BATCH} calls; this one holds {}", calls.len());
            return Some(written(&Answer::refusal(RpcError::new(CODE_REQUEST, message))));
        }
        let answers = self.answers(caller, place, calls, is_long).await;
        (!answers.is_empty()).then(|| written(&answers))
    }

    /// The answers to calls, in their order. Transactions go in together, so that they can enter one block, and the queries are made after
    /// them, one after another: a request that waits for a block holds no place, and no answers that need one.
    async fn answers(&self, caller: Caller, place: Place, calls: Vec<Value>, is_long: bool) -> Vec<Answer> {
        let Sorted { mut answers, txs, mut queries } = calls::sort(calls);
        let (places, params): (Vec<_>, Vec<_>) = txs.into_iter().unzip();
        let sent = submit::send(&self.shared, &self.waits, caller, params).await;
        let place = (!sent.waits()).then_some(place);
        if is_long && place.is_none() {
            // Nothing bounds how much of such parameters all requests that wait would hold.
            let refused = |(place, id, ..): Asked| (place, Answer::new(id, Err(apart())));
            answers.extend(std::mem::take(&mut queries).into_iter().map(refused));
        }
        let sent = places.into_iter().zip(sent.answers(&self.shared).await);
        answers.extend(sent.filter_map(|((place, id), result)| Some((place, Answer::new(id?, result)))));
        if !queries.is_empty() {
            match place.map_or_else(|| self.places.take(caller.0), Ok) {
                Ok(_place) => answers.extend(asked(&self.shared, queries).await),
                Err(error) => {
                    let refused = |(place, id, ..): Asked| (place, Answer::new(id, Err(no_place(error))));
                    answers.extend(queries.into_iter().map(refused));
                }
            }
        }
        answers.sort_unstable_by_key(|(place, _)| *place);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }
}

fn written(answer: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(answer).expect("JSON values and text that is JSON can be written")
}

/// The answers to queries, until they are enough.
async fn asked(shared: &Arc<Shared>, queries: Vec<Asked>) -> Vec<(usize, Answer)> {
    let (mut answers, mut bytes) = (Vec::new(), 0);
    for (place, id, query, params) in queries {
        let result = if bytes < MAX_ANSWER_BYTES {
            let shared = Arc::clone(shared);
            let asking = tokio::task::spawn_blocking(move || query(&shared, params));
            asking.await.unwrap_or_else(|_| Err(internal()))
        } else {
            let message = format!("the answers before have {bytes} bytes; ask the rest by itself");
            Err(RpcError::new(CODE_BUSY, message))
        };
        bytes += result.as_ref().map_or(0, |text| text.get().len());
        answers.push((place, Answer::new(id, result)));
    }
    answers
}

fn internal() -> RpcError {
    RpcError::new(CODE_INTERNAL, "the node failed on this call")
}

fn parse<T: DeserializeOwned>(params: Value) -> Result<T, RpcError> {
    if !params.is_object() {
        return Err(RpcError::new(CODE_PARAMS, "params: expected an object with parameters by name"));
    }
    serde_json::from_value(params).map_err(|e| RpcError::new(CODE_PARAMS, format!("params: {e}")))
}

fn show(value: impl Serialize) -> Result<Box<RawValue>, RpcError> {
    to_raw_value(&value).map_err(|_| internal())
}

#[cfg(test)]
mod tests;
