//! Asks a gateway for a receipt and for what it stands for, checks the signature, and replays the answer.
//!
//! `cargo run --release -p dn-examples --example audit_a_receipt -- GATEWAY_URL API_KEY RECEIPT_ID [MODEL.gguf]`

use std::sync::Arc;

use dn_compute::{Engine, EngineOptions, GenerateRequest, Model};
use dn_core::Signed;
use dn_core::objects::{JobRequest, Receipt};
use dn_sdk::receipt::check_receipt;

#[derive(serde::Deserialize)]
struct Shown {
    receipt: Signed<Receipt>,
    request: JobRequest,
    output_tokens: Vec<u32>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [gateway_url, api_key, id, model @ ..] = args.as_slice() else {
        return Err("usage: audit_a_receipt GATEWAY_URL API_KEY RECEIPT_ID [MODEL.gguf]".into());
    };
    let url = format!("{}/v1/receipts/{id}", gateway_url.trim_end_matches('/'));
    let answer = reqwest::Client::new().get(url).bearer_auth(api_key).send().await?.error_for_status()?;
    let Shown { receipt, request, output_tokens } = answer.json().await?;
    check_receipt(&receipt, &request, &output_tokens)?;

    let model = match model.first() {
        Some(path) => Model::load(path.as_ref())?,
        None => Model::from_bytes(dn_compute::embedded::tiny_rust())?,
    };
    if model.id() != receipt.body.model {
        return Err(format!("the receipt is for model {}; this is {}", receipt.body.model, model.id()).into());
    }
    let engine = Engine::new(Arc::new(model), EngineOptions::default())?;
    let generate = GenerateRequest {
        prompt: &request.prompt,
        already: &[],
        sampling: request.sampling,
        decoding: &request.decoding,
        max_tokens: request.max_tokens,
        stop: &request.stop,
    };
    let replay = engine.replay(&generate, &output_tokens, receipt.body.finish)?;
    match replay.divergence {
        Some(divergence) => Err(format!("cheated: {divergence:?}").into()),
        None if replay.trace_root != receipt.body.trace_root => Err("cheated: another trace".into()),
        None => {
            let (took, count) = (replay.timings.prefill, replay.timings.prefill_tokens);
            say(&format!("{} is honest: {count} tokens replayed in {took:.1?}\n", receipt.body.id()))
        }
    }
}

fn say(text: &str) -> Result<(), Box<dyn std::error::Error>> {
    Ok(std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())?)
}
