//! Calls that go well.

use std::time::Duration;

use dn_core::Amount;
use dn_sdk::client::{ChatRequest, CompletionRequest, Event};

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
