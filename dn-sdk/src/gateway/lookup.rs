//! Everything that is only looked up: models, receipts, openings, and what operators watch.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use dn_core::encoding::Canonical;
use dn_core::hexadecimal::from_hex;
use dn_core::merkle::MerkleTree;
use dn_core::{Address, BatchId, ReceiptId, Signature};
use serde_json::{Value, json};

use super::auth;
use super::error::ApiError;
use super::http::{id, ok, unavailable, version};
use super::shared::{Served, Shared, off_thread};
use super::store::ReceiptRecord;
use crate::clock::now_ms;
use crate::opening::{
    AUDITOR_HEADER, MAX_CLOCK_SKEW_MS, Opening, SIGNATURE_HEADER, TIME_HEADER, opening_digest,
};
use crate::store::StoreError;

type Shares = State<Arc<Shared>>;

/// A model as OpenAI lists it, with what DeepNode adds.
fn listed(shared: &Shared, served: &Served) -> Value {
    let view = &served.view;
    json!({
        "id": view.name,
        "object": "model",
        "created": 0,
        "owned_by": view.owner,
        "dn": {
            "model_id": view.id,
            "price": view.price,
            "domain": view.domain,
            "context_tokens": served.front.context(),
            "numeric_spec": view.manifest.numeric_spec,
            "exact": view.manifest.is_exact(),
            "workers": view.workers.len(),
            "chain_id": shared.chain_id,
            "gateway": shared.address(),
        },
    })
}

/// `GET /v1/models`.
pub(crate) async fn models(State(shared): Shares, headers: HeaderMap) -> Result<Response, ApiError> {
    auth::no_wrong_key(&shared, &headers).await?;
    let data: Vec<Value> = shared.models().iter().map(|served| listed(&shared, served)).collect();
    Ok(ok(json!({ "object": "list", "data": data })))
}

/// `GET /v1/models/{model}`.
pub(crate) async fn model(
    State(shared): Shares,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    auth::no_wrong_key(&shared, &headers).await?;
    let served = shared.model(&name);
    let shown = name.chars().take(80).collect();
    served.map(|served| ok(listed(&shared, &served))).ok_or(ApiError::UnknownModel { model: shown })
}

/// `GET /v1/receipts/{id}`: a receipt and where it stands; with the credentials that paid also request and output.
pub(crate) async fn receipt(
    State(shared): Shares,
    path: Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id: ReceiptId = id("receipt", path)?;
    let looking = {
        let shared = shared.clone();
        move || shared.store.receipt(id)
    };
    let record = off_thread(looking).await?.map_err(|_| ApiError::Internal)?;
    let record = record.ok_or(ApiError::NotFound { what: "receipt", id: id.to_string() })?;
    let batch = record.assignments.last().map(|last| json!({ "id": last.batch, "sequence": last.sequence }));
    let mut body = json!({ "object": "dn.receipt", "id": id, "receipt": record.receipt, "batch": batch });
    if headers.contains_key(header::AUTHORIZATION) {
        let payer = auth::payer(&shared, &headers).await?;
        if (payer.channel, payer.lane) == (record.request.channel, record.request.lane) {
            body["request"] = json!(record.request);
            body["output_tokens"] = json!(record.output);
        }
    }
    Ok(ok(body))
}

/// `GET /v1/openings/{batch}/{index}`: canonical bytes of an [`Opening`], for active validators only.
pub(crate) async fn opening(
    State(shared): Shares,
    Path((batch, index)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let batch: BatchId = id("batch", Path(batch))?;
    let index: u32 = id("receipt of the batch at", Path(index))?;
    authorize(&shared, batch, index, &headers).await?;
    let opening = {
        let shared = shared.clone();
        move || open(&shared, batch, index)
    };
    let bytes = off_thread(opening).await?.map_err(|_| ApiError::Internal)?;
    let missing = ApiError::NotFound { what: "opening", id: format!("{index} of {batch}") };
    let mut response = Body::from(bytes.ok_or(missing)?).into_response();
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// Prompts are shown to nobody but validators, who prove that they are.
async fn authorize(shared: &Shared, batch: BatchId, index: u32, headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let auditor: Option<Address> = text(AUDITOR_HEADER).and_then(|text| text.parse().ok());
    let time_ms: Option<u64> = text(TIME_HEADER).and_then(|text| text.parse().ok());
    let signature = text(SIGNATURE_HEADER).and_then(|text| from_hex(text, 65));
    let signature = signature.and_then(|bytes| Signature::from_bytes(bytes.try_into().ok()?).ok());
    let refused = |reason| ApiError::Auditor { reason };
    let (Some(auditor), Some(time_ms), Some(signature)) = (auditor, time_ms, signature) else {
        return Err(refused("headers x-dn-auditor, x-dn-time and x-dn-signature expected"));
    };
    if now_ms().abs_diff(time_ms) > MAX_CLOCK_SKEW_MS {
        return Err(refused("x-dn-time is more than five minutes off"));
    }
    let digest = opening_digest(shared.chain_id, shared.address(), batch, index, time_ms);
    signature.verify(&digest, auditor).map_err(|_| refused("the signature is not the auditor's"))?;
    match shared.is_auditor(auditor).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(refused("no active validator")),
        Err(_) => Err(ApiError::LedgerDown),
    }
}

fn open(shared: &Shared, batch: BatchId, index: u32) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(record) = shared.store.batch(batch)? else { return Ok(None) };
    let receipts = record.receipts.iter().map(|id| shared.store.receipt(*id));
    let receipts = receipts.collect::<Result<Option<Vec<ReceiptRecord>>, _>>()?;
    let Some(mut receipts) = receipts else { return Ok(None) };
    let tree = MerkleTree::new(receipts.iter().map(|record| record.receipt.to_bytes()));
    let Some(proof) = tree.prove(index.into()) else { return Ok(None) };
    let ReceiptRecord { receipt, request, output, .. } = receipts.swap_remove(index as usize);
    Ok(Some(Opening { receipt, proof, request, output }.to_bytes()))
}

/// `GET /healthz`: the process answers.
pub(crate) async fn health(State(shared): Shares) -> Response {
    let (chain_id, gateway) = (shared.chain_id, shared.address());
    ok(json!({ "status": "ok", "version": version(), "chain_id": chain_id, "gateway": gateway }))
}

/// `GET /readyz`: calls can be served, that is the ledger answers and a worker is connected.
pub(crate) async fn ready(State(shared): Shares) -> Response {
    let ledger = shared.ledger_reachable();
    let workers = shared.workers.status().iter().filter(|worker| !worker.draining).count();
    let models = shared.models().len();
    let ready = ledger && workers > 0 && models > 0;
    let body = json!({ "ready": ready, "ledger": ledger, "workers": workers, "models": models });
    if ready { ok(body) } else { unavailable(body) }
}

/// `GET /metrics`: Prometheus text.
pub(crate) async fn metrics(State(shared): Shares) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.metrics_text()).into_response()
}
