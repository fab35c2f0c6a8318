//! OpenAI answer bodies and stream events.

use std::sync::Arc;

use dn_compute::ModelFront;
use dn_core::hexadecimal::to_digits;
use dn_core::objects::{FinishReason, JobRequest, Receipt, TokenLogprobs};
use dn_core::{ModelId, Signed};
use serde_json::{Value, json};

use super::logprobs;
use super::parse::{CallBody, Kind};

/// What every part of one answer repeats.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    id: String,
    created: u64,
    model: String,
    fingerprint: String,
    /// The caller wants token ids and the canonical request, to check the receipt.
    with_tokens: bool,
    include_usage: bool,
    /// Names tokens where log-probabilities are wanted.
    front: Option<Arc<ModelFront>>,
}

/// The tokens of a piece of text.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shown<'a> {
    pub(crate) tokens: &'a [u32],
    /// One for each where that was asked for, else none.
    pub(crate) logprobs: &'a [TokenLogprobs],
    /// Characters of the answer before them.
    pub(crate) offset: usize,
}

/// A finished answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) request: JobRequest,
    pub(crate) receipt: Signed<Receipt>,
    pub(crate) tokens: Vec<u32>,
}

impl Head {
    pub(crate) fn new(
        kind: Kind,
        request: &JobRequest,
        front: &Arc<ModelFront>,
        body: &CallBody,
        created_ms: u64,
        with_tokens: bool,
    ) -> Self {
        let prefix = if kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
        let job = request.id().to_string();
        let ModelId(bytes) = request.model;
        let fingerprint = format!("dn_{}", to_digits(&bytes[..8]));
        let (id, created) = (format!("{prefix}-{}", &job[2..34]), created_ms / 1000);
        let (model, include_usage) = (body.model.clone(), body.include_usage);
        let front = request.decoding.logprobs.is_some().then(|| front.clone());
        Self { kind, id, created, model, fingerprint, with_tokens, include_usage, front }
    }

    fn envelope(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        })
    }

    /// The whole answer at once.
    pub(crate) fn whole(&self, text: &str, logprobs: &[TokenLogprobs], outcome: &Outcome) -> Value {
        let shown = Shown { tokens: &outcome.tokens, logprobs, offset: 0 };
        let logprobs = self.logprobs(shown);
        let finish = finish_name(outcome.receipt.body.finish);
        let (object, choice) = match self.kind {
            Kind::Chat => (
                "chat.completion",
                json!({
                    "index": 0,
                    "message": { "role": "assistant", "content": text, "refusal": null },
                    "logprobs": logprobs,
                    "finish_reason": finish,
                }),
            ),
            Kind::Text => (
                "text_completion",
                json!({ "index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish }),
            ),
        };
        let mut body = self.envelope(object, json!([choice]));
        body["usage"] = usage(&outcome.receipt.body);
        body["dn"] = self.receipt(outcome);
        self.add_tokens(&mut body, shown);
        body
    }

    fn chunk(&self, delta: Option<Value>, text: &str, shown: Shown<'_>, finish: Option<&str>) -> Value {
        let logprobs = self.logprobs(shown);
        let (object, choice) = match self.kind {
            Kind::Chat => {
                let delta = delta.unwrap_or_else(|| json!({ "content": text }));
                let choice =
                    json!({ "index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish });
                ("chat.completion.chunk", choice)
            }
            Kind::Text => {
                let choice =
                    json!({ "index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish });
                ("text_completion", choice)
            }
        };
        let mut chunk = self.envelope(object, json!([choice]));
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    /// The first event of a chat: who speaks. A plain completion has none.
    pub(crate) fn role(&self) -> Option<Value> {
        let delta = json!({ "role": "assistant", "content": "", "refusal": null });
        (self.kind == Kind::Chat).then(|| self.chunk(Some(delta), "", Shown::default(), None))
    }

    /// More text, and the tokens that arrived since the last event.
    pub(crate) fn text(&self, text: &str, shown: Shown<'_>) -> Value {
        let mut chunk = self.chunk(None, text, shown, None);
        self.add_tokens(&mut chunk, shown);
        chunk
    }

    /// Why it ended, and the receipt.
    pub(crate) fn finish(&self, shown: Shown<'_>, outcome: &Outcome) -> Value {
        let finish = finish_name(outcome.receipt.body.finish);
        let mut chunk = self.chunk(Some(json!({})), "", shown, Some(finish));
        chunk["dn"] = self.receipt(outcome);
        self.add_tokens(&mut chunk, shown);
        chunk
    }

    /// What is needed to check the answer, where that was asked for.
    fn add_tokens(&self, body: &mut Value, shown: Shown<'_>) {
        if self.with_tokens {
            body["dn"]["output_tokens"] = json!(shown.tokens);
            if self.front.is_some() {
                body["dn"]["logprobs"] = json!(shown.logprobs);
            }
        }
    }

    /// In the shape of the API; null where they were not asked for.
    fn logprobs(&self, shown: Shown<'_>) -> Value {
        match &self.front {
            None => Value::Null,
            Some(front) => logprobs::shape(self.kind, front, shown),
        }
    }

    /// The last event, when it was asked for: usage and no choice.
    pub(crate) fn usage(&self, outcome: &Outcome) -> Option<Value> {
        self.include_usage.then(|| {
            let object = if self.kind == Kind::Chat { "chat.completion.chunk" } else { "text_completion" };
            let mut chunk = self.envelope(object, json!([]));
            chunk["usage"] = usage(&outcome.receipt.body);
            chunk
        })
    }

    fn receipt(&self, outcome: &Outcome) -> Value {
        let receipt = &outcome.receipt.body;
        let mut dn = json!({
            "receipt_id": receipt.id(),
            "model_id": receipt.model,
            "worker": receipt.worker,
            "gateway": receipt.gateway,
            "fee": receipt.fee,
            "fee_dn": receipt.fee.to_string(),
        });
        if self.with_tokens {
            dn["receipt"] = json!(outcome.receipt);
            dn["request"] = json!(outcome.request);
        }
        dn
    }
}

fn usage(receipt: &Receipt) -> Value {
    let (prompt, output) = (receipt.prompt_tokens, receipt.output_tokens);
    json!({ "prompt_tokens": prompt, "completion_tokens": output, "total_tokens": u64::from(prompt) + u64::from(output) })
}

const fn finish_name(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop | FinishReason::Cancelled => "stop",
        FinishReason::Length => "length",
    }
}
