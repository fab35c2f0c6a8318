//! The HTTP surface: routes, and the way from a request to a call.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{MatchedPath, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use dn_compute::sampling::{Sampler, SamplerError};
use dn_core::objects::{Decoding, JobRequest, Sampling, TokenLogprobs};
use dn_core::{Hash32, ReceiptId, keccak256};
use http_body_util::BodyExt;
use rand_core::{OsRng, RngCore};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::auth;
use super::call::{self, Call, CallEvent, Payer};
use super::error::ApiError;
use super::lookup;
use super::parse::{CallBody, Kind, Prompt, parse};
use super::render::{Head, Outcome};
use super::shared::{Served, Shared, off_thread};
use super::sse::{self, Events};
use super::workers;
use crate::clock::now_ms;
use crate::wire::{MAX_MESSAGE_BYTES, WORKER_PATH};

const IDEMPOTENCY_HEADER: &str = "idempotency-key";
/// Header that asks for token ids, the signed receipt and the canonical request in the answer.
pub(crate) const TOKENS_HEADER: &str = "x-dn-tokens";
const MAX_IDEMPOTENCY_BYTES: usize = 255;
/// The most bytes that are read only to be thrown away.
const DISCARD_LIMIT: usize = 16 * 1024 * 1024;
/// How long that may take for a caller who is refused anyway.
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// All routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(text))
        .route("/v1/models", get(lookup::models))
        .route("/v1/models/{model}", get(lookup::model))
        .route("/v1/receipts/{id}", get(lookup::receipt))
        .route("/v1/openings/{batch}/{index}", get(lookup::opening))
        .route("/healthz", get(lookup::health))
        .route("/readyz", get(lookup::ready))
        .route("/metrics", get(lookup::metrics))
        .route(WORKER_PATH, get(worker))
        .fallback(|uri: Uri| async move { ApiError::UnknownPath { path: uri.path().to_owned() } })
        .method_not_allowed_fallback(|method: Method, uri: Uri| async move {
            ApiError::Method { method: method.to_string(), path: uri.path().to_owned() }
        })
        .layer(middleware::from_fn_with_state(shared.clone(), count))
        .with_state(shared)
}

/// Counts answers by endpoint and status.
async fn count(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let response = next.run(request).await;
    let endpoint = match path.as_deref() {
        Some("/v1/chat/completions") => "chat_completions",
        Some("/v1/completions") => "completions",
        Some("/v1/models" | "/v1/models/{model}") => "models",
        Some("/v1/receipts/{id}") => "receipts",
        Some("/v1/openings/{batch}/{index}") => "openings",
        Some(WORKER_PATH) => "worker",
        _ => "other",
    };
    shared.metrics.answered(endpoint, response.status().as_u16());
    response
}

async fn worker(State(shared): State<Arc<Shared>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .on_upgrade(move |socket| workers::serve(shared, socket))
}

async fn chat(state: State<Arc<Shared>>, request: Request) -> Response {
    completions(Kind::Chat, state.0, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn text(state: State<Arc<Shared>>, request: Request) -> Response {
    completions(Kind::Text, state.0, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn completions(kind: Kind, shared: Arc<Shared>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let (permit, payer) = match admit(&shared, &parts.headers).await {
        Ok(admitted) => admitted,
        Err(error) => {
            discard(body).await;
            return Err(error);
        }
    };
    let bytes = read_body(&shared, body).await?;
    let body = parse(kind, &bytes)?;
    let with_tokens = parts.headers.get(TOKENS_HEADER).is_some_and(|value| value == "1");
    let running = match idempotency(&parts.headers, kind, &payer, &bytes)? {
        None => None,
        Some((key, hash)) => match claim(&shared, key, hash).await? {
            Claim::New(running) => Some(running),
            Claim::Settled(receipt) => return replay(&shared, &body, with_tokens, receipt).await,
        },
    };
    let model = shared.model(&body.model).ok_or(ApiError::UnknownModel { model: body.model.clone() })?;
    let request = job(&shared, &model, &body, &payer).await?;
    let head = Head::new(kind, &request, &model.front, &body, now_ms(), with_tokens);
    let idempotency = running.as_ref().map(|running| (running.key, running.body));
    let text = model.front.text_stream(&request.stop);
    let stream = call::start(shared, Call { request, model, payer, idempotency }, body.stream);
    let mut events = match running {
        None => Events::Direct(stream),
        Some(running) => Events::Detached(detach(stream, running)),
    };
    let first = events.next().await.ok_or(ApiError::Internal)?;
    if let CallEvent::Failed(error) = first {
        return Err(error);
    }
    if body.stream {
        let response = sse::response(head, text, first, events);
        // The permit counts calls, so it has to live as long as the body.
        return Ok(response.map(|body| hold_while_sent(body, permit)));
    }
    whole(head, text, first, events).await
}

/// Whether a call is taken at all, and who pays.
async fn admit(shared: &Arc<Shared>, headers: &HeaderMap) -> Result<(OwnedSemaphorePermit, Payer), ApiError> {
    let limit = shared.limits().max_calls;
    let permit = shared.admission.clone().try_acquire_owned().map_err(|_| ApiError::Full { limit })?;
    if shared.is_stopping() {
        return Err(ApiError::Full { limit: 0 });
    }
    Ok((permit, auth::payer(shared, headers).await?))
}

fn hold_while_sent(body: Body, permit: OwnedSemaphorePermit) -> Body {
    use futures_util::StreamExt;
    let held = body.into_data_stream().map(move |item| {
        let _ = &permit;
        item
    });
    Body::from_stream(held)
}

/// The whole answer at once.
async fn whole(
    head: Head,
    mut text: dn_compute::TextStream,
    first: CallEvent,
    mut events: Events,
) -> Result<Response, ApiError> {
    let (mut answer, mut logprobs) = (String::new(), Vec::new());
    let mut event = first;
    loop {
        match event {
            CallEvent::Tokens { tokens, logprobs: shown } => {
                answer.extend(tokens.iter().map(|token| text.push(*token)));
                logprobs.extend(shown);
            }
            CallEvent::Failed(error) => return Err(error),
            CallEvent::Done(outcome) => {
                answer.push_str(&text.finish());
                return Ok(answered(&head, &answer, &logprobs, &outcome));
            }
        }
        event = events.next().await.ok_or(ApiError::Internal)?;
    }
}

fn answered(head: &Head, text: &str, logprobs: &[TokenLogprobs], outcome: &Outcome) -> Response {
    let mut response = Json(head.whole(text, logprobs, outcome)).into_response();
    let id = outcome.receipt.body.id().to_string();
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-dn-receipt", value);
    }
    response
}

/// The answer of a call that was settled before: the same tokens, text and receipt, and no second charge.
async fn replay(
    shared: &Arc<Shared>,
    body: &CallBody,
    with_tokens: bool,
    receipt: ReceiptId,
) -> Result<Response, ApiError> {
    let looking = {
        let shared = shared.clone();
        move || shared.store.receipt(receipt)
    };
    let record = off_thread(looking).await?.map_err(|_| ApiError::Internal)?.ok_or(ApiError::Internal)?;
    let unknown = || ApiError::UnknownModel { model: body.model.clone() };
    let model = shared.model(&record.request.model.to_string()).ok_or_else(unknown)?;
    let text = model.front.text_stream(&record.request.stop);
    let created = record.receipt.body.started_ms;
    let head = Head::new(body.kind, &record.request, &model.front, body, created, with_tokens);
    let first = CallEvent::Tokens { tokens: record.output.clone(), logprobs: record.logprobs };
    let outcome = Outcome { request: record.request, receipt: record.receipt, tokens: record.output };
    let (sender, events) = mpsc::unbounded_channel();
    let _ = sender.send(CallEvent::Done(Box::new(outcome)));
    let events = Events::Detached(events);
    let mut response = if body.stream {
        sse::response(head, text, first, events)
    } else {
        whole(head, text, first, events).await?
    };
    response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    Ok(response)
}

/// Reads the body. One that is too long is read on and thrown away, up to [`DISCARD_LIMIT`], for a caller that is still
/// sending would see a broken connection instead of the answer.
async fn read_body(shared: &Shared, body: Body) -> Result<Vec<u8>, ApiError> {
    let limit = shared.limits().max_body_bytes;
    let within = shared.limits().body_timeout;
    let reading = tokio::time::timeout(within, collect(body, limit));
    reading.await.map_err(|_| ApiError::BodyTimeout { seconds: within.as_secs() })?
}

async fn collect(mut body: Body, limit: usize) -> Result<Vec<u8>, ApiError> {
    let (mut bytes, mut length) = (Vec::new(), 0usize);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ApiError::BodyBroken)?.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length <= limit {
            bytes.extend_from_slice(&data);
        } else if length > limit.saturating_add(DISCARD_LIMIT) {
            break;
        } else {
            bytes = Vec::new();
        }
    }
    if length > limit { Err(ApiError::TooLarge { limit }) } else { Ok(bytes) }
}

/// Throws away a body that nobody will read.
async fn discard(body: Body) {
    let _ = tokio::time::timeout(DISCARD_TIME, collect(body, 0)).await;
}

/// The canonical request: tokens, sampler settings and prices that the worker will sign for.
async fn job(
    shared: &Arc<Shared>,
    model: &Arc<Served>,
    body: &CallBody,
    payer: &Payer,
) -> Result<JobRequest, ApiError> {
    let prompt = {
        let (front, body) = (model.front.clone(), body.clone());
        off_thread(move || {
            let prompt = tokens(&front, body.prompt)?;
            check_sampler(&front, &body.sampling, &body.decoding, body.grammar_param)?;
            Ok::<_, ApiError>(prompt)
        })
        .await??
    };
    let context = model.front.context();
    let room = usize::try_from(context).unwrap_or(usize::MAX).saturating_sub(prompt.len());
    let room = u32::try_from(room).unwrap_or(u32::MAX);
    if room == 0 {
        let param = if body.kind == Kind::Chat { "messages" } else { "prompt" };
        return Err(ApiError::ContextLength { param, context, prompt: prompt.len() });
    }
    let mut sampling = body.sampling;
    if !body.seeded {
        sampling.seed = OsRng.next_u64();
    }
    let mut nonce = [0; 16];
    OsRng.fill_bytes(&mut nonce);
    let timeout = u64::try_from(shared.limits().call_timeout.as_millis()).unwrap_or(u64::MAX);
    Ok(JobRequest {
        chain_id: shared.chain_id,
        payer: payer.address,
        gateway: shared.address(),
        channel: payer.channel,
        lane: payer.lane,
        domain: model.view.domain,
        model: model.view.id,
        numeric_spec: model.view.manifest.numeric_spec,
        prompt,
        sampling,
        decoding: body.decoding.clone(),
        max_tokens: body.max_tokens.unwrap_or(shared.limits().default_max_tokens).min(room),
        stop: body.stop.clone(),
        price: model.view.price,
        nonce,
        expires_ms: now_ms().saturating_add(timeout),
    })
}

fn tokens(front: &dn_compute::ModelFront, prompt: Prompt) -> Result<Vec<u32>, ApiError> {
    let range = |expected: String, found: String| ApiError::Range { param: "prompt".into(), expected, found };
    let tokens = match prompt {
        Prompt::Chat(messages) => {
            front.chat_prompt(&messages).map_err(|error| ApiError::Chat { reason: error.to_string() })?
        }
        Prompt::Text(text) => front
            .text_prompt(&text)
            .map_err(|error| range("text for the model's tokenizer".into(), error.to_string()))?,
        Prompt::Tokens(tokens) => tokens,
    };
    let vocabulary = front.vocabulary();
    if let Some(token) = tokens.iter().find(|token| **token >= vocabulary) {
        return Err(range(format!("token ids below {vocabulary}"), token.to_string()));
    }
    if tokens.is_empty() {
        return Err(range("at least one token".into(), "none".into()));
    }
    Ok(tokens)
}

/// Refuses what no worker could serve, a grammar above all, before money is held and a worker is asked.
fn check_sampler(
    front: &dn_compute::ModelFront,
    sampling: &Sampling,
    decoding: &Decoding,
    grammar_param: &'static str,
) -> Result<(), ApiError> {
    let Err(error) = Sampler::new(front, &[], sampling, decoding) else { return Ok(()) };
    let (param, expected) = match &error {
        SamplerError::Token { vocabulary, .. } => ("logit_bias", format!("token ids below {vocabulary}")),
        SamplerError::Grammar(_) | SamplerError::NothingLeft => {
            (grammar_param, "a grammar that can be applied to this model".to_owned())
        }
        _ => ("body", "sampler settings within their bounds".to_owned()),
    };
    Err(ApiError::Range { param: param.to_owned(), expected, found: format!("refused ({error})") })
}

/// A running call with an `Idempotency-Key`; the key is free again when it ends.
struct RunningKey {
    shared: Arc<Shared>,
    key: Hash32,
    body: Hash32,
}

impl Drop for RunningKey {
    fn drop(&mut self) {
        let mut running = self.shared.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        running.remove(&self.key);
    }
}

enum Claim {
    New(RunningKey),
    Settled(ReceiptId),
}

fn idempotency(
    headers: &HeaderMap,
    kind: Kind,
    payer: &Payer,
    body: &[u8],
) -> Result<Option<(Hash32, Hash32)>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_HEADER) else { return Ok(None) };
    let key = value.as_bytes();
    if key.is_empty() || key.len() > MAX_IDEMPOTENCY_BYTES || !key.iter().all(u8::is_ascii_graphic) {
        let expected = "1 to 255 visible ASCII characters";
        return Err(ApiError::Header { header: IDEMPOTENCY_HEADER, expected });
    }
    let kind: &[u8] = if kind == Kind::Chat { b"chat" } else { b"text" };
    let key = Hash32(keccak256(&[b"DeepNode idempotency v1", &payer.scope.0, key]));
    Ok(Some((key, Hash32(keccak256(&[kind, body])))))
}

async fn claim(shared: &Arc<Shared>, key: Hash32, body: Hash32) -> Result<Claim, ApiError> {
    {
        let mut running = shared.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match running.get(&key) {
            Some(other) if *other != body => return Err(ApiError::IdempotencyConflict),
            Some(_) => return Err(ApiError::IdempotencyPending),
            None => running.insert(key, body),
        };
    }
    let claimed = RunningKey { shared: shared.clone(), key, body };
    let looking = {
        let shared = shared.clone();
        move || shared.store.idempotency(key)
    };
    match off_thread(looking).await?.map_err(|_| ApiError::Internal)? {
        None => Ok(Claim::New(claimed)),
        Some(record) if record.body == body => Ok(Claim::Settled(record.receipt)),
        Some(_) => Err(ApiError::IdempotencyConflict),
    }
}

/// Lets a call run to its end whether or not its caller stays, so that a second request finds the whole answer.
fn detach(mut stream: call::CallStream, running: RunningKey) -> mpsc::UnboundedReceiver<CallEvent> {
    let (sender, events) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(event) = stream.next().await {
            let last = matches!(event, CallEvent::Done(_) | CallEvent::Failed(_));
            if last {
                // The key is free before the caller sees the end: an immediate retry must not be told to wait.
                drop(running);
                let _ = sender.send(event);
                return;
            }
            let _ = sender.send(event);
        }
    });
    events
}

/// `200` with a JSON body.
pub(crate) fn ok(value: Value) -> Response {
    Json(value).into_response()
}

/// Parses an identifier in a path.
pub(crate) fn id<T: std::str::FromStr>(what: &'static str, Path(text): Path<String>) -> Result<T, ApiError> {
    let shown = text.chars().take(80).collect();
    text.parse().map_err(|_| ApiError::NotFound { what, id: shown })
}

/// `503` with a JSON body.
pub(crate) fn unavailable(value: Value) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, Json(value)).into_response()
}

/// The version that this gateway runs.
pub(crate) fn version() -> Value {
    json!(env!("CARGO_PKG_VERSION"))
}
