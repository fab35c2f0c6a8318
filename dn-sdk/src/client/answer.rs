//! What comes back.

use dn_core::objects::{FinishReason, JobRequest, Price, Receipt, TokenLogprobs};
use dn_core::{Address, ModelId, Signed};
use serde::Deserialize;
use serde_json::Value;

use super::ClientError;

/// Tokens of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: u32,
    /// Of the answer.
    pub completion_tokens: u32,
    /// Of both.
    pub total_tokens: u64,
}

/// An answer whose receipt was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Why it ended.
    pub finish: FinishReason,
    /// The output tokens.
    pub tokens: Vec<u32>,
    /// What the model thought of each of them, where that was asked for; not bound by the receipt, but by a replay.
    pub logprobs: Vec<TokenLogprobs>,
    /// Counts.
    pub usage: Usage,
    /// The receipt.
    pub receipt: Signed<Receipt>,
    /// The canonical request that the receipt is for.
    pub request: JobRequest,
    /// The answer was replayed and every bit agreed.
    pub replayed: bool,
}

/// A model as the gateway lists it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) dn: Terms,
}

/// What DeepNode adds to a listed model.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Terms {
    pub(super) model_id: ModelId,
    pub(super) price: Price,
    pub(super) chain_id: u64,
    pub(super) gateway: Address,
    pub(super) numeric_spec: u16,
}

impl Listed {
    pub(super) fn is(&self, model: &str) -> bool {
        self.id == model || model.parse() == Ok(self.dn.model_id)
    }
}

/// An answer before its check.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts {
    pub(super) text: String,
    pub(super) tokens: Vec<u32>,
    pub(super) logprobs: Vec<TokenLogprobs>,
    pub(super) receipt: Option<Signed<Receipt>>,
    pub(super) request: Option<JobRequest>,
    pub(super) usage: Option<Usage>,
}

impl Parts {
    /// Parts of a whole answer, chat or plain.
    pub(super) fn whole(answer: &Value) -> Result<Self, ClientError> {
        let choice = &answer["choices"][0];
        let text = choice["message"]["content"].as_str().or(choice["text"].as_str());
        let text = text.ok_or(ClientError::Shape { field: "choices[0]" })?.to_owned();
        let mut parts = Self { text, ..Self::default() };
        parts.take(answer)?;
        Ok(parts)
    }

    /// Adds one event of a stream; returns its text.
    pub(super) fn event(&mut self, event: &Value) -> Result<String, ClientError> {
        let choice = &event["choices"][0];
        let text = choice["delta"]["content"].as_str().or(choice["text"].as_str()).unwrap_or_default();
        self.text.push_str(text);
        self.take(event)?;
        Ok(text.to_owned())
    }

    fn take(&mut self, value: &Value) -> Result<(), ClientError> {
        let dn = &value["dn"];
        if !dn["output_tokens"].is_null() {
            self.tokens.extend(Vec::<u32>::deserialize(&dn["output_tokens"])?);
        }
        if !dn["logprobs"].is_null() {
            self.logprobs.extend(Vec::<TokenLogprobs>::deserialize(&dn["logprobs"])?);
        }
        if !dn["receipt"].is_null() {
            self.receipt = Some(Signed::deserialize(&dn["receipt"])?);
        }
        if !dn["request"].is_null() {
            self.request = Some(JobRequest::deserialize(&dn["request"])?);
        }
        if !value["usage"].is_null() {
            self.usage = Some(Usage::deserialize(&value["usage"])?);
        }
        Ok(())
    }
}
