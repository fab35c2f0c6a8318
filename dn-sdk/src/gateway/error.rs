//! What goes wrong in a gateway: at the start ([`GatewayError`]), and with a call ([`ApiError`], one HTTP answer each).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dn_core::{Address, Amount, ChannelId};
use serde_json::{Value, json};

use super::session::SessionRefusal;
use crate::ledger::LedgerError;
use crate::store::StoreError;

/// Why a gateway cannot start, or a key cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The data directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address cannot be bound.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The channel does not exist on the ledger.
    #[error("channel {channel} does not exist")]
    UnknownChannel {
        /// The channel.
        channel: ChannelId,
    },
    /// The channel pays somebody else.
    #[error("channel {channel} pays {payee}, not this gateway {gateway}")]
    OtherPayee {
        /// The channel.
        channel: ChannelId,
        /// Whom it pays.
        payee: Address,
        /// This gateway.
        gateway: Address,
    },
    /// The key may not spend from the channel.
    #[error("{found} may not spend from channel {channel}; its payer is {payer}, its spender {spender}")]
    Spender {
        /// The channel.
        channel: ChannelId,
        /// Who pays.
        payer: Address,
        /// Who may spend besides.
        spender: Address,
        /// Whose key was given.
        found: Address,
    },
    /// A channel has only so many lanes, and every key takes one.
    #[error("channel {channel} has no free lane; at most {limit}")]
    NoLane {
        /// The channel.
        channel: ChannelId,
        /// Lanes of a channel.
        limit: u32,
    },
    /// A label is for people to read: at most 64 bytes, no control characters.
    #[error("a label has at most 64 bytes and no control characters")]
    Label,
    /// A task of the runtime was cut off.
    #[error("interrupted")]
    Interrupted,
}

/// Why a call is refused. Each variant is one HTTP answer with an OpenAI-shaped error body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ApiError {
    #[error("the body is not JSON: {what} at line {line}, column {column}")]
    Json { what: String, line: usize, column: usize },
    #[error("`{param}` is required")]
    Missing { param: String },
    #[error("`{param}` is {found}; {expected} expected")]
    Type { param: String, expected: &'static str, found: &'static str },
    #[error("`{param}` is {found}; {expected} expected")]
    Range { param: String, expected: String, found: String },
    #[error("`{param}` is not supported here: {reason}")]
    Unsupported { param: String, reason: &'static str },
    #[error("the messages give no prompt: {reason}")]
    Chat { reason: String },
    #[error(
        "the model's context is {context} tokens and the prompt has {prompt}; at least one must be left for the answer"
    )]
    ContextLength { param: &'static str, context: u32, prompt: usize },
    #[error("the model `{model}` does not exist")]
    UnknownModel { model: String },
    #[error("there is nothing at {path}")]
    UnknownPath { path: String },
    #[error("no {what} {id}")]
    NotFound { what: &'static str, id: String },
    #[error("{method} is not allowed at {path}")]
    Method { method: String, path: String },
    #[error("no API key: send it as `Authorization: Bearer dn-...`")]
    MissingKey,
    #[error("the API key is not known here")]
    WrongKey,
    #[error("signature or clock of the auditor is wrong, or it is no active validator: {reason}")]
    Auditor { reason: &'static str },
    #[error("channel {channel} has {available} DN left; this call may cost {needed} DN")]
    Balance { channel: ChannelId, available: Amount, needed: Amount },
    #[error("channel {channel} is closing; no more calls are taken on it")]
    Closing { channel: ChannelId },
    #[error(
        "lane {lane} of channel {channel}: the voucher allows {found} DN; this call needs {needed} DN in all"
    )]
    VoucherShort { channel: ChannelId, lane: u32, found: Amount, needed: Amount },
    #[error(
        "lane {lane} of channel {channel}: a voucher over {accepted} DN was accepted before; this one is over {found} DN"
    )]
    VoucherLower { channel: ChannelId, lane: u32, accepted: Amount, found: Amount },
    #[error("session key {session}: {reason}")]
    Session { session: Address, reason: SessionRefusal },
    #[error("the voucher is refused: {reason}")]
    Voucher { reason: String },
    #[error("the body is longer than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the body did not arrive within {seconds} s")]
    BodyTimeout { seconds: u64 },
    #[error("the connection broke off inside the body")]
    BodyBroken,
    #[error("header `{header}`: {expected} expected")]
    Header { header: &'static str, expected: &'static str },
    #[error("this Idempotency-Key was used for another request")]
    IdempotencyConflict,
    #[error("the request with this Idempotency-Key still runs; ask again")]
    IdempotencyPending,
    #[error("{limit} calls already run on channel {channel}")]
    TooManyCalls { channel: ChannelId, limit: usize },
    #[error("no worker is free for `{model}`")]
    NoWorker { model: String },
    #[error("every worker of `{model}` here asks for more than the model's price")]
    PricedOut { model: String },
    #[error("this gateway is at its limit of {limit} calls")]
    Full { limit: usize },
    #[error("the workers failed; nothing was charged")]
    WorkersFailed,
    #[error("the ledger cannot be reached")]
    LedgerDown,
    #[error("the gateway failed; nothing was charged")]
    Internal,
}

struct Shape {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    retry_after_s: Option<u64>,
}

const INVALID: &str = "invalid_request_error";

impl Shape {
    const fn new(status: StatusCode, kind: &'static str, code: &'static str) -> Self {
        Self { status, kind, code: Some(code), param: None, retry_after_s: None }
    }

    fn of(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    const fn retry(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
}

impl ApiError {
    fn shape(&self) -> Shape {
        let bad = |code| Shape::new(StatusCode::BAD_REQUEST, INVALID, code);
        match self {
            Self::Json { .. } => bad("invalid_json"),
            Self::Missing { param } => bad("missing_required_parameter").of(param),
            Self::Type { param, .. } => bad("invalid_type").of(param),
            Self::Range { param, .. } => bad("invalid_value").of(param),
            Self::Unsupported { param, .. } => bad("unsupported_parameter").of(param),
            Self::Chat { .. } => bad("invalid_value").of("messages"),
            Self::ContextLength { param, .. } => bad("context_length_exceeded").of(param),
            Self::Header { .. } => bad("invalid_header"),
            Self::BodyBroken => bad("incomplete_body"),
            Self::Voucher { .. } => bad("invalid_voucher").of("x-dn-voucher"),
            Self::UnknownModel { .. } => {
                Shape::new(StatusCode::NOT_FOUND, INVALID, "model_not_found").of("model")
            }
            Self::UnknownPath { .. } => Shape::new(StatusCode::NOT_FOUND, INVALID, "unknown_url"),
            Self::NotFound { .. } => Shape::new(StatusCode::NOT_FOUND, INVALID, "not_found"),
            Self::Method { .. } => Shape::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, "method_not_allowed"),
            Self::MissingKey | Self::WrongKey => {
                Shape::new(StatusCode::UNAUTHORIZED, INVALID, "invalid_api_key")
            }
            Self::Auditor { .. } => Shape::new(StatusCode::UNAUTHORIZED, INVALID, "invalid_auditor"),
            _ => self.service_shape(),
        }
    }

    fn service_shape(&self) -> Shape {
        let payment = |code| Shape::new(StatusCode::PAYMENT_REQUIRED, "insufficient_quota", code);
        let conflict = |code| Shape::new(StatusCode::CONFLICT, INVALID, code);
        let unavailable = |code| Shape::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", code);
        match self {
            Self::Balance { .. } => payment("insufficient_balance"),
            Self::Closing { .. } => payment("channel_closing"),
            Self::VoucherShort { .. } => payment("voucher_short"),
            Self::Session { .. } => payment("session_limit"),
            Self::VoucherLower { .. } => conflict("voucher_lower"),
            Self::IdempotencyConflict => conflict("idempotency_conflict"),
            Self::IdempotencyPending => conflict("idempotency_pending").retry(1),
            Self::TooLarge { .. } => Shape::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, "body_too_large"),
            Self::BodyTimeout { .. } => Shape::new(StatusCode::REQUEST_TIMEOUT, INVALID, "body_timeout"),
            Self::TooManyCalls { .. } => {
                Shape::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "too_many_calls").retry(1)
            }
            Self::NoWorker { .. } => unavailable("no_worker_available").retry(2),
            Self::PricedOut { .. } => unavailable("price_too_low"),
            Self::Full { .. } => unavailable("gateway_full").retry(2),
            Self::LedgerDown => unavailable("ledger_unreachable").retry(5),
            Self::WorkersFailed => Shape::new(StatusCode::BAD_GATEWAY, "server_error", "workers_failed"),
            _ => Shape::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "internal_error"),
        }
    }

    /// Amounts, for programs that act on them.
    fn detail(&self) -> Option<Value> {
        match self {
            Self::Balance { channel, available, needed } => {
                Some(json!({ "channel": channel, "balance": available, "needed": needed }))
            }
            Self::VoucherShort { channel, lane, found, needed } => {
                Some(json!({ "channel": channel, "lane": lane, "max_claimable": found, "needed": needed }))
            }
            Self::VoucherLower { channel, lane, accepted, found } => Some(
                json!({ "channel": channel, "lane": lane, "max_claimable": found, "accepted": accepted }),
            ),
            _ => None,
        }
    }

    /// The error body.
    pub(crate) fn body(&self) -> Value {
        let Shape { kind, code, param, .. } = self.shape();
        let mut error = json!({ "message": self.to_string(), "type": kind, "param": param, "code": code });
        if let Some(detail) = self.detail() {
            error["dn"] = detail;
        }
        json!({ "error": error })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Shape { status, retry_after_s, .. } = self.shape();
        let mut response = (status, Json(self.body())).into_response();
        if let Some(seconds) = retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
