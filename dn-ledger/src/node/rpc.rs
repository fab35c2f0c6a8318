//! JSON-RPC 2.0 over HTTP POST `/`, and beside it the stream of events.

mod registry;
mod review;
mod submit;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use dn_core::{Address, BatchId, ChannelId, ModelId, TxId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::quota::{BURST, CALLS_PER_SECOND, Caller, Quotas};
use super::server;
use super::shared::Shared;
use super::snapshot::{SnapshotFile, SnapshotFileError, SnapshotsView};
use super::store::StoreError;
use super::subscribe::{self, Subscriptions};
use crate::light::{LightBlock, ProofView, Subject};
use crate::query;
use crate::reject::Reject;
use crate::state::PARAMS;
use crate::text::to_hex;
use crate::tx::Role;
use crate::views::StatusView;

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

/// Longest wait for a request's body.
const BODY_WAIT: Duration = Duration::from_secs(10);
/// Requests in progress at once.
const MAX_REQUESTS: usize = 512;

/// An error of one call.
#[derive(Debug)]
struct RpcError {
    code: i64,
    message: String,
    data: Option<Value>,
}

impl RpcError {
    fn new(code: i64, message: impl ToString) -> Self {
        Self { code, message: message.to_string(), data: None }
    }

    fn value(self) -> Value {
        match self.data {
            None => json!({ "code": self.code, "message": self.message }),
            Some(data) => json!({ "code": self.code, "message": self.message, "data": data }),
        }
    }
}

impl From<Reject> for RpcError {
    fn from(reject: Reject) -> Self {
        let data = serde_json::to_value(&reject).ok();
        Self { code: CODE_REJECTED, message: reject.to_string(), data }
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

#[derive(Debug, Clone)]
struct Service {
    shared: Arc<Shared>,
    slots: Arc<Semaphore>,
    quotas: Arc<Quotas>,
}

/// Serves until told to stop.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, stopped: watch::Receiver<bool>) {
    let subscriptions = Subscriptions::new(Arc::clone(&shared), stopped.clone());
    let (slots, quotas) = (Arc::new(Semaphore::new(MAX_REQUESTS)), Arc::default());
    let service = Service { shared, slots, quotas };
    let events = Router::new().route("/events", get(subscribe::handle)).with_state(subscriptions);
    let app = Router::new().route("/", post(handle)).route("/metrics", get(metrics));
    let app = app.with_state(service).merge(events);
    server::serve(listener, app, server::Limits::default(), stopped).await;
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
        return (StatusCode::SERVICE_UNAVAILABLE, Json(failure(&Value::Null, error))).into_response();
    };
    let body = match read_body(request).await {
        Ok(body) => body,
        Err((status, message)) => {
            let error = RpcError::new(CODE_REQUEST, message);
            let close = [(header::CONNECTION, "close")];
            return (status, close, Json(failure(&Value::Null, error))).into_response();
        }
    };
    // serde_json stops at 128 levels, so depth costs no stack.
    let value = match serde_json::from_slice::<Value>(&body) {
        Ok(value) => value,
        Err(error) => return Json(failure(&Value::Null, RpcError::new(CODE_PARSE, error))).into_response(),
    };
    let calls = value.as_array().and_then(|calls| u32::try_from(calls.len()).ok());
    let calls = calls.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    if !service.quotas.allows(caller, calls) {
        let message = format!("more than {CALLS_PER_SECOND} calls a second, or {BURST} at once");
        let error = RpcError::new(CODE_BUSY, message);
        return (StatusCode::TOO_MANY_REQUESTS, Json(failure(&Value::Null, error))).into_response();
    }
    match answer(&service, value).await {
        Some(answer) => Json(answer).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
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

async fn answer(service: &Service, request: Value) -> Option<Value> {
    let shared = &service.shared;
    let calls = match request {
        Value::Array(calls) => calls,
        single => return answers(shared, vec![single]).await.pop(),
    };
    if calls.is_empty() || calls.len() > MAX_BATCH {
        let message = format!("a batch holds 1 to {MAX_BATCH} calls; this one holds {}", calls.len());
        return Some(failure(&Value::Null, RpcError::new(CODE_REQUEST, message)));
    }
    let answers = answers(shared, calls).await;
    (!answers.is_empty()).then_some(Value::Array(answers))
}

/// One call, read.
struct Call {
    /// None if nobody wants an answer.
    id: Option<Value>,
    method: String,
    params: Value,
}

impl Call {
    /// A call, or the answer to what is none.
    fn read(mut call: Value) -> Result<Self, Value> {
        let id = call.get("id").cloned();
        let shown = id.clone().unwrap_or(Value::Null);
        let valid_id = matches!(shown, Value::Null | Value::String(_) | Value::Number(_));
        let version = call.get("jsonrpc").and_then(Value::as_str) == Some("2.0");
        let method = call.get("method").and_then(Value::as_str).map(str::to_owned);
        let Some(method) = method.filter(|_| version && valid_id) else {
            let message =
                "expected an object with `jsonrpc`: \"2.0\", a `method` and an `id` of text or number";
            return Err(failure(&Value::Null, RpcError::new(CODE_REQUEST, message)));
        };
        let params = call.get_mut("params").map_or_else(|| json!({}), Value::take);
        Ok(Self { id, method, params })
    }
}

/// The answers to calls, in their order. Queries run side by side; transactions go in together, so that they can enter one block.
async fn answers(shared: &Arc<Shared>, calls: Vec<Value>) -> Vec<Value> {
    let (mut answers, mut txs, mut queries) = (vec![None; calls.len()], Vec::new(), Vec::new());
    for (place, call) in calls.into_iter().enumerate() {
        match Call::read(call) {
            Err(answer) => answers[place] = Some(answer),
            Ok(call) if call.method == "dn_sendTransaction" => txs.push((place, call.id, call.params)),
            Ok(Call { id, method, params }) => {
                let shared = Arc::clone(shared);
                let query = tokio::task::spawn_blocking(move || query_method(&shared, &method, params));
                queries.push((place, id, query));
            }
        }
    }
    let mut results = Vec::with_capacity(answers.len());
    let (places, params): (Vec<_>, Vec<_>) = txs.into_iter().map(|(place, id, p)| ((place, id), p)).unzip();
    let sent = submit::all(shared, params).await;
    results.extend(places.into_iter().zip(sent).map(|((place, id), result)| (place, id, result)));
    for (place, id, query) in queries {
        results.push((place, id, query.await.unwrap_or_else(|_| Err(internal()))));
    }
    for (place, id, result) in results {
        answers[place] = id.map(|id| match result {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err(error) => failure(&id, error),
        });
    }
    answers.into_iter().flatten().collect()
}

fn failure(id: &Value, error: RpcError) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": error.value() })
}

fn internal() -> RpcError {
    RpcError::new(CODE_INTERNAL, "the node failed on this call")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct None_ {}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByAddress {
    address: Address,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByIdentity {
    address: Address,
    role: Role,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByRole {
    role: Role,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ById<T> {
    id: T,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByOwner {
    owner: Address,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenOnly {
    #[serde(default)]
    open: bool,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByHeight {
    height: u64,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByChunk {
    height: u64,
    index: usize,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    subject: Subject,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByWorker {
    worker: Address,
    limit: Option<usize>,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditFilter {
    auditor: Option<Address>,
    #[serde(default)]
    open: bool,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventRange {
    from_height: u64,
    limit: Option<usize>,
}
fn parse<T: DeserializeOwned>(params: Value) -> Result<T, RpcError> {
    if !params.is_object() {
        return Err(RpcError::new(CODE_PARAMS, "params: expected an object with parameters by name"));
    }
    serde_json::from_value(params).map_err(|e| RpcError::new(CODE_PARAMS, format!("params: {e}")))
}

fn show<T: serde::Serialize>(value: T) -> Result<Value, RpcError> {
    serde_json::to_value(value).map_err(|_| internal())
}

fn query_method(shared: &Shared, method: &str, params: Value) -> Result<Value, RpcError> {
    let height = || shared.chain().tip().height;
    match method {
        "dn_status" => parse::<None_>(params).and_then(|_| show(status(shared))),
        "dn_params" => parse::<None_>(params).and_then(|_| show(PARAMS.get(shared.chain().state(), &0))),
        "dn_account" => show(account(shared, parse::<ByAddress>(params)?.address)),
        "dn_identity" => {
            let ByIdentity { address, role } = parse(params)?;
            show(query::identity(shared.chain().state(), role, address))
        }
        "dn_identities" => show(query::identities(shared.chain().state(), parse::<ByRole>(params)?.role)),
        "dn_trust" => {
            let ByIdentity { address, role } = parse(params)?;
            show(query::trust(shared.chain().state(), role, address))
        }
        "dn_channel" => show(query::channel(shared.chain().state(), parse::<ById<ChannelId>>(params)?.id)),
        "dn_model" => show(query::model(shared.chain().state(), parse::<ById<ModelId>>(params)?.id)),
        "dn_models" => parse::<None_>(params).and_then(|_| show(query::models(shared.chain().state()))),
        "dn_batch" => show(query::batch(shared.chain().state(), parse::<ById<BatchId>>(params)?.id)),
        "dn_batches" => {
            let ByWorker { worker, limit } = parse(params)?;
            show(query::batches(shared.chain().state(), worker, limit.unwrap_or(100)))
        }
        "dn_audits" => {
            let AuditFilter { auditor, open } = parse(params)?;
            show(query::audits(shared.chain().state(), auditor, open))
        }
        "dn_sessions" => show(query::sessions(shared.chain().state(), parse::<ByOwner>(params)?.owner)),
        "dn_proposal" => show(query::proposal(shared.chain().state(), parse::<ById<u64>>(params)?.id)),
        "dn_proposals" => show(query::proposals(shared.chain().state(), parse::<OpenOnly>(params)?.open)),
        "dn_upgrades" => parse::<None_>(params).and_then(|_| show(query::upgrades(shared.chain().state()))),
        "dn_supply" => {
            parse::<None_>(params)?;
            let chain = shared.chain();
            show(query::supply_view(chain.supply(), chain.tip().height))
        }
        "dn_balances" => {
            parse::<None_>(params)?;
            let chain = shared.chain();
            let (limit, found) = (query::MAX_BALANCES, chain.state().len());
            if found > limit {
                let message = format!("the state holds {found} records; `dn_balances` lists at most {limit}");
                return Err(RpcError::new(CODE_PARAMS, message));
            }
            show(query::balances(chain.state(), chain.tip().height))
        }
        "dn_block" => show(shared.store.block_view(parse::<ByHeight>(params)?.height)?),
        "dn_prove" => show(prove(shared, &parse::<About>(params)?.subject)),
        "dn_header" => show(shared.store.light_block(parse::<ByHeight>(params)?.height)?),
        "dn_snapshots" => {
            parse::<None_>(params)?;
            show(SnapshotsView { heights: SnapshotFile::list(shared.store.dir())? })
        }
        "dn_snapshot" => {
            let height = parse::<ByHeight>(params)?.height;
            show(snapshot(shared, height, |file| file.manifest_bytes())?)
        }
        "dn_snapshotChunk" => {
            let ByChunk { height, index } = parse(params)?;
            show(snapshot(shared, height, |file| file.chunk_bytes(index))?)
        }
        "dn_tx" => show(shared.store.tx(parse::<ById<TxId>>(params)?.id)?),
        "dn_events" => {
            let EventRange { from_height, limit } = parse(params)?;
            let limit = limit.unwrap_or(query::MAX_LIST).clamp(1, query::MAX_LIST);
            show(shared.store.events(from_height, limit, height())?)
        }
        _ => registry::query_method(shared, method, params.clone())
            .or_else(|| review::query_method(shared, method, params))
            .unwrap_or_else(|| {
                let name = method.chars().take(64).collect::<String>();
                Err(RpcError::new(CODE_METHOD, format!("no method `{name}`")))
            }),
    }
}

/// The records of a subject under the tip's state root, with what proves the tip.
fn prove(shared: &Shared, subject: &Subject) -> ProofView {
    let chain = shared.chain();
    let (tip, certificate) = (chain.tip().clone(), chain.certificate().clone());
    let block = LightBlock::new(tip, certificate, chain.tip_validators(), chain.validators());
    ProofView::answer(subject, chain.state(), block)
}

/// A part of a snapshot as text; none when there is no snapshot of this height.
fn snapshot(
    shared: &Shared,
    height: u64,
    read: impl FnOnce(&mut SnapshotFile) -> Result<Vec<u8>, SnapshotFileError>,
) -> Result<Option<String>, RpcError> {
    let path = SnapshotFile::path(shared.store.dir(), height);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = read(&mut SnapshotFile::open(&path)?)?;
    Ok(Some(to_hex(&bytes)))
}

fn status(shared: &Shared) -> StatusView {
    let mempool = shared.pool().mempool.len() as u64;
    let chain = shared.chain();
    let (tip, ctx) = (chain.tip(), chain.next());
    let epoch = tip.height / ctx.params.epoch_blocks;
    StatusView {
        chain_id: tip.chain_id,
        genesis: shared.genesis,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        height: tip.height,
        tip: tip.hash(),
        state: tip.state,
        time_ms: tip.time_ms,
        epoch,
        next_epoch_height: (epoch + 1) * ctx.params.epoch_blocks,
        mempool,
        producer: shared.producer,
    }
}

fn account(shared: &Shared, address: Address) -> crate::views::AccountView {
    let pool = shared.pool();
    let mut view = query::account(shared.chain().state(), address);
    view.pending_nonce = pool.mempool.next_nonce(address, view.nonce);
    view
}
