//! What goes wrong for a client.

use dn_compute::spec::DeviceFailure;
use dn_core::objects::Price;
use dn_core::{Amount, ModelId, ReceiptId};
use serde_json::Value;

use crate::receipt::ReceiptError;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The URL is not one.
    #[error("`{url}` is not an http:// or https:// URL")]
    Url {
        /// The text.
        url: String,
    },
    /// The gateway cannot be reached or broke off. Whether the call was charged is not known; an `Idempotency-Key` makes
    /// it safe to send it again.
    #[error("gateway: {0}")]
    Transport(#[from] reqwest::Error),
    /// The gateway refuses.
    #[error("{0}")]
    Api(Box<ApiFault>),
    /// The answer is not JSON.
    #[error("the gateway's answer cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// The answer lacks what every answer has.
    #[error("the gateway's answer has no valid `{field}`")]
    Shape {
        /// What is missing.
        field: &'static str,
    },
    /// The answer is longer than anything a gateway sends.
    #[error("the gateway's answer is longer than {limit} bytes")]
    TooLong {
        /// The most that is read.
        limit: usize,
    },
    /// The stream ended before the answer did.
    #[error("the stream ended before the answer did")]
    Incomplete,
    /// The gateway does not serve this model.
    #[error("the gateway does not serve `{model}`")]
    UnknownModel {
        /// Its name or id.
        model: String,
    },
    /// The model costs more than allowed.
    #[error("the model costs {} and {} DN a token; at most {} and {} DN allowed",
        found.prompt_token, found.output_token, max.prompt_token, max.output_token)]
    PriceTooHigh {
        /// Allowed.
        max: Price,
        /// Listed.
        found: Price,
    },
    /// The wallet will not sign so much.
    #[error("the gateway asks for a voucher over {needed} DN; the wallet signs at most {limit} DN")]
    WalletLimit {
        /// What the gateway asks for, in all.
        needed: Amount,
        /// The wallet's limit.
        limit: Amount,
    },
    /// The answer is not what it should be.
    #[error("receipt check: {0}")]
    Check(#[from] CheckError),
}

/// Why an answer is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The receipt itself.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// The canonical request is not what was asked for.
    #[error("the canonical request has another {field} than asked for")]
    Request {
        /// Which field.
        field: &'static str,
    },
    /// Another model.
    #[error("answered by model {found}; {expected} was asked for")]
    Model {
        /// Asked for.
        expected: ModelId,
        /// In the request.
        found: ModelId,
    },
    /// The receipt has another id than the one asked for.
    #[error("receipt {found}; {expected} asked for")]
    ReceiptId {
        /// Asked for.
        expected: ReceiptId,
        /// Handed out.
        found: ReceiptId,
    },
    /// The prompt tokens are not those of the prompt.
    #[error("the prompt that was charged is not the one that was sent")]
    Prompt,
    /// The text is not that of the output tokens.
    #[error("the text is not that of the output tokens")]
    Text,
    /// The usage is not the receipt's.
    #[error("the usage differs from the receipt's counts")]
    Usage,
    /// The model does not say this.
    #[error("replay: the model departs from this answer at position {position}")]
    Replay {
        /// First position of prompt and output that differs.
        position: u32,
    },
    /// The log-probabilities are not one for each token, or not the model's.
    #[error("the log-probabilities are not those of the answer's tokens")]
    Logprobs,
    /// The trace commitment is not the model's.
    #[error("replay: the trace commitment is not the model's")]
    Trace,
    /// The engine refuses the request.
    #[error("replay: the engine refuses the request")]
    Refused,
    /// What replays here failed: nothing is said about the answer.
    #[error("replay: nothing was found out about this answer: {0}")]
    Device(#[from] DeviceFailure),
    /// The replay panicked here: nothing is said about the answer.
    #[error("replay: nothing was found out about this answer: the replay broke off")]
    Interrupted,
}

/// An error that the gateway answered with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("status {status}: {message}")]
pub struct ApiFault {
    /// HTTP status; 200 for an error inside a stream.
    pub status: u16,
    /// In words.
    pub message: String,
    /// The kind, such as `invalid_request_error`.
    pub kind: Option<String>,
    /// The code, such as `context_length_exceeded`.
    pub code: Option<String>,
    /// The field that is wrong.
    pub param: Option<String>,
    /// When to try again, in seconds.
    pub retry_after_s: Option<u64>,
    /// The cumulative amount that a voucher needs for this call.
    pub needed: Option<Amount>,
}

impl ApiFault {
    /// Reads an OpenAI error body; anything else becomes the message, cut at 500 characters.
    pub(super) fn parse(status: u16, retry_after_s: Option<u64>, body: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let error = &value["error"];
        let text = |name: &str| error[name].as_str().map(str::to_owned);
        let raw = || String::from_utf8_lossy(body).chars().take(500).collect();
        let needed = match error["code"].as_str() {
            Some("voucher_short") => error["dn"]["needed"].as_str(),
            // The wallet forgot what it signed.
            Some("voucher_lower") => error["dn"]["accepted"].as_str(),
            _ => None,
        };
        let needed = needed.and_then(|atto| atto.parse().ok());
        Self {
            status,
            message: text("message").unwrap_or_else(raw),
            kind: text("type"),
            code: text("code"),
            param: text("param"),
            retry_after_s,
            needed: needed.map(Amount::from_atto),
        }
    }
}
