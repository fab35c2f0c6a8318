//! The checks of an answer.

use dn_compute::spec::{DeviceFailure, NumericError};
use dn_compute::{Engine, GenerateError, GenerateRequest, ModelFront};
use dn_core::objects::{JobRequest, Receipt, TokenBias};

use super::answer::{Listed, Parts};
use super::request::{Body, Sent, Settings};
use super::{Answer, CheckError, Client, ClientError, Usage};
use crate::receipt::{ReceiptError, check_receipt};

impl Client {
    /// Makes an answer of its parts, or says what is wrong with it.
    pub(super) async fn check(
        &self,
        terms: &Listed,
        body: &Body,
        mut parts: Parts,
    ) -> Result<Answer, ClientError> {
        let missing = |field| ClientError::Shape { field };
        let receipt = parts.receipt.take().ok_or(missing("dn.receipt"))?;
        let request = parts.request.take().ok_or(missing("dn.request"))?;
        let usage = parts.usage.ok_or(missing("usage"))?;
        self.check_terms(terms, &request)?;
        check_settings(&body.settings, &request)?;
        check_receipt(&receipt, &request, &parts.tokens).map_err(CheckError::from)?;
        check_logprobs(&request, &parts)?;
        check_usage(usage, &receipt.body)?;
        let front = self.fronts.iter().find(|(model, _)| *model == request.model);
        if let Some((_, front)) = front {
            check_text(front, body, &request, &parts.tokens, &parts.text)?;
        }
        let engine = self.engines.iter().find(|engine| engine.model().id() == request.model).cloned();
        let replayed = engine.is_some();
        if let Some(engine) = engine {
            let (request, receipt, parts) = (request.clone(), receipt.body.clone(), parts.clone());
            let replay =
                tokio::task::spawn_blocking(move || check_replay(&engine, &request, &parts, &receipt));
            replay.await.map_err(|_| CheckError::Interrupted)??;
        }
        let (text, finish, tokens) = (parts.text, receipt.body.finish, parts.tokens);
        let logprobs = parts.logprobs;
        Ok(Answer { text, finish, tokens, logprobs, usage, receipt, request, replayed })
    }

    fn check_terms(&self, listed: &Listed, request: &JobRequest) -> Result<(), CheckError> {
        let terms = &listed.dn;
        if request.model != terms.model_id {
            return Err(CheckError::Model { expected: terms.model_id, found: request.model });
        }
        if request.price != terms.price {
            return Err(ReceiptError::Price { expected: terms.price, found: request.price }.into());
        }
        let checks = [
            ("chain", request.chain_id == self.chain_id.unwrap_or(terms.chain_id)),
            ("gateway", request.gateway == self.gateway.unwrap_or(terms.gateway)),
            ("payer", self.payer.is_none_or(|payer| request.payer == payer)),
            ("numeric spec", request.numeric_spec == terms.numeric_spec),
        ];
        first_wrong(&checks)
    }
}

fn first_wrong(checks: &[(&'static str, bool)]) -> Result<(), CheckError> {
    match checks.iter().find(|(_, ok)| !ok) {
        Some((field, _)) => Err(CheckError::Request { field }),
        None => Ok(()),
    }
}

fn check_settings(asked: &Settings, request: &JobRequest) -> Result<(), CheckError> {
    let sampling = &request.sampling;
    let micro = |number: f64| (number * 1_000_000.0).round();
    let same = |asked: Option<f64>, found: u32| asked.is_none_or(|asked| micro(asked) == f64::from(found));
    let signed = |asked: Option<f64>, found: i32| asked.unwrap_or(0.0) * 1_000_000.0 - f64::from(found);
    let signed = |asked: Option<f64>, found: i32| signed(asked, found).abs() <= 0.5;
    let decoding = &request.decoding;
    let entry = |(token, bias): &(u32, f64)| TokenBias { token: *token, bias_micro: micro(*bias) as i32 };
    let mut bias: Vec<TokenBias> = asked.logit_bias.iter().map(entry).collect();
    bias.sort_unstable();
    let mut banned = asked.banned_tokens.clone();
    banned.sort_unstable();
    banned.dedup();
    first_wrong(&[
        ("temperature", same(asked.temperature, sampling.temperature_micro)),
        ("top_p", same(asked.top_p.map(|top_p| top_p.max(0.000_001)), sampling.top_p_micro)),
        ("top_k", asked.top_k.is_none_or(|top_k| top_k == sampling.top_k)),
        ("min_p", same(asked.min_p, sampling.min_p_micro)),
        ("repetition_penalty", same(asked.repetition_penalty, sampling.repetition_micro)),
        ("presence_penalty", signed(asked.presence_penalty, sampling.presence_micro)),
        ("frequency_penalty", signed(asked.frequency_penalty, sampling.frequency_micro)),
        ("penalty_window", asked.penalty_window.is_none_or(|window| window == sampling.penalty_window)),
        ("logit_bias", bias == decoding.bias),
        ("banned_tokens", banned == decoding.banned),
        ("logprobs", asked.logprobs == decoding.logprobs),
        ("grammar", asked.grammar == decoding.grammar),
        ("seed", asked.seed.is_none_or(|seed| seed == sampling.seed)),
        ("stop", asked.stop == request.stop),
        ("max_tokens", asked.max_tokens.is_none_or(|most| request.max_tokens <= most)),
    ])
}

/// One for each token where they were asked for.
fn check_logprobs(request: &JobRequest, parts: &Parts) -> Result<(), CheckError> {
    let wanted = if request.decoding.logprobs.is_some() { parts.tokens.len() } else { 0 };
    let of = parts.logprobs.iter().map(|shown| shown.chosen.token);
    let fits = parts.logprobs.len() == wanted && of.eq(parts.tokens.iter().copied().take(wanted));
    if fits { Ok(()) } else { Err(CheckError::Logprobs) }
}

fn check_usage(usage: Usage, receipt: &Receipt) -> Result<(), CheckError> {
    let (prompt_tokens, completion_tokens) = (receipt.prompt_tokens, receipt.output_tokens);
    let total_tokens = u64::from(prompt_tokens) + u64::from(completion_tokens);
    let expected = Usage { prompt_tokens, completion_tokens, total_tokens };
    if usage == expected { Ok(()) } else { Err(CheckError::Usage) }
}

fn check_text(
    front: &ModelFront,
    body: &Body,
    request: &JobRequest,
    tokens: &[u32],
    text: &str,
) -> Result<(), CheckError> {
    let prompt = match &body.prompt {
        Sent::Chat(messages) => front.chat_prompt(messages).ok(),
        Sent::Text(text) => front.text_prompt(text).ok(),
    };
    if prompt.as_ref() != Some(&request.prompt) {
        return Err(CheckError::Prompt);
    }
    let mut stream = front.text_stream(&request.stop);
    let mut decoded: String = tokens.iter().map(|token| stream.push(*token)).collect();
    decoded.push_str(&stream.finish());
    if decoded == text { Ok(()) } else { Err(CheckError::Text) }
}

fn check_replay(
    engine: &Engine,
    request: &JobRequest,
    parts: &Parts,
    receipt: &Receipt,
) -> Result<(), CheckError> {
    let tokens = &parts.tokens;
    let generate = GenerateRequest {
        prompt: &request.prompt,
        already: &[],
        sampling: request.sampling,
        decoding: &request.decoding,
        max_tokens: request.max_tokens,
        stop: &request.stop,
    };
    let replay = engine.replay(&generate, tokens, receipt.finish).map_err(no_replay)?;
    if let Some(divergence) = replay.divergence {
        return Err(CheckError::Replay { position: divergence.position });
    }
    // No receipt binds them, but they are a function of the logits.
    if replay.logprobs != parts.logprobs {
        return Err(CheckError::Logprobs);
    }
    if replay.trace_root == receipt.trace_root { Ok(()) } else { Err(CheckError::Trace) }
}

/// A device of the client's own that fails is not the worker's fault.
fn no_replay(error: GenerateError) -> CheckError {
    match error {
        GenerateError::Numeric(NumericError::Device { device, fault, .. }) => {
            DeviceFailure { device, fault }.into()
        }
        _ => CheckError::Refused,
    }
}

#[cfg(test)]
mod tests {
    use dn_compute::spec::{DeviceFault, Op};

    use super::*;

    #[test]
    fn a_device_of_the_clients_own_that_fails_is_nobodys_fault() {
        let failure = DeviceFailure { device: "a card".into(), fault: DeviceFault::Lost };
        let DeviceFailure { device, fault } = failure.clone();
        let error = no_replay(NumericError::Device { op: Op::Layer, device, fault }.into());
        assert_eq!(error, CheckError::Device(failure));
        assert!(error.to_string().contains("nothing was found out") && error.to_string().contains("a card"));
        assert_eq!(no_replay(GenerateError::EmptyPrompt), CheckError::Refused);
    }
}
