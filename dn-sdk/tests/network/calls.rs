//! Calls that go well.

use std::time::Duration;

use dn_core::Amount;
use dn_core::objects::FinishReason;
use dn_sdk::client::{ChatRequest, CompletionRequest, Event};
use serde_json::{Value, json};

use crate::net::{MODEL, Net, PAYER, VALIDATOR, WORKER, engine, eventually, key, price};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_answered_charged_settled_and_audited() {
    let net = Net::start().await;
    let worker = net.worker(WORKER).await;
    let _auditors = [net.auditor(VALIDATOR).await, net.auditor(VALIDATOR + 1).await];
    let mut request = CompletionRequest::continue_text(MODEL, "fn main() {");
    request.settings.max_tokens = Some(24);
    request.settings.seed = Some(7);
    let client = net.client().with_replay(engine()).with_payer(key(PAYER).address());
    let answer = client.completion(&request).await.unwrap();
    assert!(answer.replayed && !answer.text.is_empty());
    let fee = price().fee(answer.usage.prompt_tokens.into(), answer.usage.completion_tokens.into()).unwrap();
    assert_eq!(answer.receipt.body.fee, fee);
    assert_eq!(net.charged(), fee);
    let again = client.completion(&request).await.unwrap();
    assert_eq!(again.tokens, answer.tokens, "equal seeds give equal answers");
    assert_ne!(again.receipt.body.job, answer.receipt.body.job, "but they are two jobs");

    let began = std::time::Instant::now();
    loop {
        let batches = net.ledger.batches(worker.address()).await.unwrap();
        let fees = Amount::sum(batches.iter().map(|batch| batch.fees)).unwrap();
        let settled = batches.iter().all(|batch| batch.escrow.is_zero());
        if fees == fee.checked_mul(2).unwrap() && settled {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "not settled: {batches:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let channel = net.ledger.channel(net.channel).await.unwrap().unwrap();
    assert_eq!(channel.claimed, fee.checked_mul(2).unwrap());
    let known = client.receipt(answer.receipt.body.id()).await.unwrap();
    assert_eq!(known, answer.receipt);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_says_the_same_as_a_whole_answer() {
    let net = Net::start().await;
    let worker = net.worker(WORKER).await;
    let mut request = ChatRequest::ask(MODEL, "What is a Vec?");
    request.settings.max_tokens = Some(20);
    request.settings.seed = Some(3);
    let client = net.client();
    let whole = client.chat(&request).await.unwrap();
    let mut stream = client.stream(&request).await.unwrap();
    let mut text = String::new();
    let streamed = loop {
        match stream.next().await.unwrap().unwrap() {
            Event::Text(more) => text.push_str(&more),
            Event::Done(answer) => break answer,
        }
    };
    assert_eq!(text, whole.text);
    assert_eq!(streamed.tokens, whole.tokens);
    assert!(stream.next().await.unwrap().is_none());
    eventually("both are charged", || net.charged() == whole.receipt.body.fee.checked_mul(2).unwrap()).await;
    assert_eq!(worker.status().done, 2);
}

/// The `data:` events of a stream.
async fn events(net: &Net, path: &str, body: Value) -> Vec<String> {
    let response = net.post(path, &body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let text = response.text().await.unwrap();
    let events = text.split("\n\n").filter(|event| !event.is_empty());
    events.map(|event| event.strip_prefix("data: ").unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_have_the_shape_that_openai_clients_expect() {
    let net = Net::start().await;
    let _worker = net.worker(WORKER).await;
    let body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 5,
        "temperature": 0, "stream": true, "stream_options": { "include_usage": true } });
    let events = events(&net, "/v1/chat/completions", body).await;
    let (done, chunks) = events.split_last().unwrap();
    assert_eq!(done, "[DONE]");
    let chunks: Vec<Value> = chunks.iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect();
    let (usage, chunks) = chunks.split_last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], 5);
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let (finish, middle) = chunks.split_last().unwrap();
    assert_eq!(finish["choices"][0]["finish_reason"], "length");
    assert_eq!(finish["choices"][0]["delta"], json!({}));
    assert!(finish["dn"]["receipt_id"].is_string());
    for chunk in middle {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["id"], usage["id"]);
        assert_eq!(chunk["usage"], Value::Null);
        assert_eq!(chunk["choices"][0]["finish_reason"], Value::Null);
        assert!(chunk["choices"][0]["delta"]["content"].is_string());
        assert!(chunk.get("dn").is_none(), "nothing that a stock client does not expect in every chunk");
    }
    let plain = json!({ "model": MODEL, "prompt": "fn ", "stream": true, "max_tokens": 3 });
    let plain = self::events(&net, "/v1/completions", plain).await;
    let first: Value = serde_json::from_str(&plain[0]).unwrap();
    assert_eq!(first["object"], "text_completion");
    assert!(first["choices"][0]["text"].is_string());
    let models: Value = net.get("/v1/models").send().await.unwrap().json().await.unwrap();
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!(MODEL)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_texts_end_the_answer_and_are_not_in_it() {
    let net = Net::start().await;
    let _worker = net.worker(WORKER).await;
    let mut request = CompletionRequest::continue_text(MODEL, "fn main() {");
    request.settings.max_tokens = Some(40);
    request.settings.temperature = Some(0.0);
    let client = net.client().with_replay(engine());
    let free = client.completion(&request).await.unwrap();
    let stop: String = free.text.chars().skip(6).take(3).collect();
    request.settings.stop = vec![stop.clone()];
    let stopped = client.completion(&request).await.unwrap();
    assert_eq!(stopped.finish, FinishReason::Stop);
    assert!(
        !stopped.text.contains(&stop) && free.text.starts_with(&stopped.text),
        "{stop:?} in {:?}",
        stopped.text
    );
    assert!(stopped.tokens.len() < free.tokens.len());
}
