//! JSON-RPC 2.0 over HTTP POST `/`, and beside it the stream of events.

mod account;
mod chain;
mod governance;
mod openrpc;
mod params;
mod registry;
mod submit;
mod table;
mod work;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

pub use self::openrpc::openrpc;
use self::table::{Call, Query};
use super::quota::{BURST, CALLS_PER_SECOND, Caller, Quotas};
use super::server::{self, ServiceLimits};
use super::shared::Shared;
use super::snapshot::SnapshotFileError;
use super::store::StoreError;
use super::subscribe::{self, Subscriptions};
use crate::query::PageError;
use crate::reject::Reject;

/// The most bytes of a request.
pub const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;
/// The most calls in one batch.
pub const MAX_BATCH: usize = 32;
/// A transaction that the rules refuse; `data` is the [`Reject`].
pub const CODE_REJECTED: i64 = -32_001;
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
/// Longest wait for a request's body.
const BODY_WAIT: Duration = Duration::from_secs(10);
/// Requests in progress at once.
const MAX_REQUESTS: usize = 512;

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
    slots: Arc<Semaphore>,
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
    let subscriptions = Subscriptions::new(Arc::clone(&shared), stopped.clone());
    let slots = Arc::new(Semaphore::new(MAX_REQUESTS));
    let held = Arc::new(Semaphore::new(limits.answer_bytes / HELD_UNIT));
    let service = Service { shared, slots, held, quotas: Arc::default() };
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
    let Ok(_slot) = service.slots.clone().try_acquire_owned() else {
        let error = RpcError::new(CODE_BUSY, format!("{MAX_REQUESTS} requests are in progress"));
        return (StatusCode::SERVICE_UNAVAILABLE, Json(Answer::refusal(error))).into_response();
    };
    let body = match read_body(request).await {
        Ok(body) => body,
        Err((status, message)) => {
            let error = RpcError::new(CODE_REQUEST, message);
            let close = [(header::CONNECTION, "close")];
            return (status, close, Json(Answer::refusal(error))).into_response();
        }
    };
    let value = match read_json(&body) {
        Ok(value) => value,
        Err(error) => return Json(Answer::refusal(error)).into_response(),
    };
    if !service.quotas.allows(caller, weight(&value)) {
        let message = format!("more than {CALLS_PER_SECOND} calls a second, or {BURST} at once");
        let error = RpcError::new(CODE_BUSY, message);
        return (StatusCode::TOO_MANY_REQUESTS, Json(Answer::refusal(error))).into_response();
    }
    let Some(bytes) = answer(&service.shared, value).await else {
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

async fn read_body(request: Request<Body>) -> Result<Vec<u8>, (StatusCode, String)> {
    let too_large = || (StatusCode::PAYLOAD_TOO_LARGE, format!("a request may have {MAX_BODY_BYTES} bytes"));
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_WAIT, to_bytes(request.into_body(), MAX_BODY_BYTES)).await {
        Ok(Ok(bytes)) => Ok(bytes.to_vec()),
        Ok(Err(_)) => Err(too_large()),
        Err(_) => {
            let seconds = BODY_WAIT.as_secs();
            Err((StatusCode::REQUEST_TIMEOUT, format!("the body did not arrive within {seconds} s")))
        }
    }
}

/// The answer to the body of a request, if it wants one.
pub(super) async fn answer_bytes(shared: &Arc<Shared>, body: &[u8]) -> Option<Vec<u8>> {
    match read_json(body) {
        Ok(value) => answer(shared, value).await,
        Err(error) => Some(written(&Answer::refusal(error))),
    }
}

fn read_json(body: &[u8]) -> Result<Value, RpcError> {
    // serde_json stops at 128 levels, so depth costs no stack.
    serde_json::from_slice(body).map_err(|error| RpcError::new(CODE_PARSE, error))
}

async fn answer(shared: &Arc<Shared>, request: Value) -> Option<Vec<u8>> {
    let calls = match request {
        Value::Array(calls) => calls,
        single => return answers(shared, vec![single]).await.first().map(written),
    };
    if calls.is_empty() || calls.len() > MAX_BATCH {
        let message = format!("a batch holds 1 to {MAX_BATCH} calls; this one holds {}", calls.len());
        return Some(written(&Answer::refusal(RpcError::new(CODE_REQUEST, message))));
    }
    let answers = answers(shared, calls).await;
    (!answers.is_empty()).then(|| written(&answers))
}

fn written(answer: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(answer).expect("JSON values and text that is JSON can be written")
}

/// One call, read.
struct OneCall {
    /// None if nobody wants an answer.
    id: Option<Value>,
    method: String,
    params: Value,
}

impl OneCall {
    /// A call, or why it is none.
    fn read(mut call: Value) -> Result<Self, RpcError> {
        let id = call.get("id").cloned();
        let shown = id.clone().unwrap_or(Value::Null);
        let valid_id = matches!(shown, Value::Null | Value::String(_) | Value::Number(_));
        let version = call.get("jsonrpc").and_then(Value::as_str) == Some("2.0");
        let method = call.get("method").and_then(Value::as_str).map(str::to_owned);
        let Some(method) = method.filter(|_| version && valid_id) else {
            let message =
                "expected an object with `jsonrpc`: \"2.0\", a `method` and an `id` of text or number";
            return Err(RpcError::new(CODE_REQUEST, message));
        };
        let params = call.get_mut("params").map_or_else(|| json!({}), Value::take);
        Ok(Self { id, method, params })
    }
}

/// The answers to calls, in their order. Queries run one after another; transactions go in together, so that they can enter one block.
async fn answers(shared: &Arc<Shared>, calls: Vec<Value>) -> Vec<Answer> {
    let (mut answers, mut txs, mut queries) = (Vec::new(), Vec::new(), Vec::new());
    for (place, call) in calls.into_iter().enumerate() {
        match OneCall::read(call) {
            Err(error) => answers.push((place, Answer::refusal(error))),
            Ok(OneCall { id, method, params }) => match (table::find(&method).map(|method| &method.call), id)
            {
                (Some(Call::Send), id) => txs.push(((place, id), params)),
                // Nobody wants to know.
                (_, None) => {}
                (Some(Call::Query(query)), Some(id)) => queries.push((place, id, &**query, params)),
                (None, Some(id)) => answers.push((place, Answer::new(id, Err(no_method(&method))))),
            },
        }
    }
    let (places, params): (Vec<_>, Vec<_>) = txs.into_iter().unzip();
    let (sent, asked) = tokio::join!(submit::all(shared, params), asked(shared, queries));
    let sent = places.into_iter().zip(sent);
    answers.extend(sent.filter_map(|((place, id), result)| Some((place, Answer::new(id?, result)))));
    answers.extend(asked);
    answers.sort_unstable_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// A query to make: its place in the request, its id, and what it asks.
type Asked = (usize, Value, &'static Query, Value);

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

fn no_method(method: &str) -> RpcError {
    let name = method.chars().take(64).collect::<String>();
    RpcError::new(CODE_METHOD, format!("no method `{name}`"))
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
mod tests {
    use super::*;

    #[test]
    fn what_reads_much_counts_for_much() {
        let call = |method: &str| json!({ "method": method });
        let of = |request: Value| weight(&request).get();
        assert_eq!(of(call("dn_status")), 1);
        assert_eq!(of(call("dn_txProof")), 20);
        assert_eq!(of(json!([call("dn_txProof"), call("dn_status"), call("no such"), 7])), 23);
        assert_eq!([of(json!([])), of(json!("text")), of(Value::Null)], [1; 3]);
        // As many as a batch holds, and as there are after a rest: it waits for no more than that.
        assert_eq!(of(vec![call("dn_txProof"); MAX_BATCH].into()), 20 * MAX_BATCH as u32);
        assert_eq!(of(vec![call("dn_txProof"); 1_000].into()), 20 * MAX_BATCH as u32);
        assert_eq!(of(vec![call("dn_proposals"); MAX_BATCH].into()), BURST);
    }
}
