//! What happens when parties die, cheat, leave or restart.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dn_core::Amount;
use dn_core::objects::FinishReason;
use dn_ledger::state::BatchStatus;
use dn_ledger::tx::Role;
use dn_sdk::client::{ChatRequest, ClientError, Event};
use dn_sdk::gateway::{Gateway, GatewayError};
use dn_sdk::store::StoreError;
use dn_sdk::validator::Auditor;
use serde_json::{Value, json};

use crate::executors::{Cheating, Dying, Gated, Slow};
use crate::net::{MODEL, Net, SPENDER, VALIDATOR, WORKER, engine, eventually, key, price};

fn request(max_tokens: u32) -> ChatRequest {
    let mut request = ChatRequest::ask(MODEL, "How do I write a loop?");
    request.settings.max_tokens = Some(max_tokens);
    request.settings.seed = Some(11);
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_on_another_worker_bit_for_bit() {
    let net = Net::start().await;
    let slow = net.worker_with(WORKER, Arc::new(Slow(Duration::from_millis(20)))).await;
    let client = net.client();
    let mut stream = client.stream(&request(30)).await.unwrap();
    assert!(matches!(stream.next().await.unwrap(), Some(Event::Text(_))));
    let backup = net.worker(WORKER + 1).await;
    drop(slow);
    let answer = loop {
        match stream.next().await.unwrap().unwrap() {
            Event::Text(_) => {}
            Event::Done(answer) => break answer,
        }
    };
    assert_eq!(answer.receipt.body.worker, backup.address());
    let undisturbed = client.chat(&request(30)).await.unwrap();
    assert_eq!(undisturbed.tokens, answer.tokens);
    let both = answer.receipt.body.fee.checked_add(undisturbed.receipt.body.fee).unwrap();
    assert_eq!(net.charged(), both, "the call is charged once");
    let metrics = net.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("dn_gateway_resumed_calls_total 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_workers_fail_the_caller_pays_nothing() {
    let net = Net::start().await;
    let _a = net.worker_with(WORKER, Arc::new(Dying)).await;
    let _b = net.worker_with(WORKER + 1, Arc::new(Dying)).await;
    let mut stream = net.client().stream(&request(30)).await.unwrap();
    let error = loop {
        match stream.next().await {
            Ok(event) => assert!(matches!(event, Some(Event::Text(_)))),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&error, ClientError::Api(fault) if fault.code.as_deref() == Some("workers_failed")),
        "{error}"
    );
    assert_eq!(net.charged(), Amount::ZERO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_pays_what_it_was_given() {
    let net = Net::start().await;
    let _worker = net.worker_with(WORKER, Arc::new(Slow(Duration::from_millis(20)))).await;
    let mut stream = net.client().stream(&request(200)).await.unwrap();
    assert!(matches!(stream.next().await.unwrap(), Some(Event::Text(_))));
    drop(stream);
    eventually("the call is over", || net.gateway().status().calls == 0 && !net.charged().is_zero()).await;
    let state = net.gateway().lanes(net.channel).unwrap().remove(0);
    let full = price().fee(0, 200).unwrap();
    assert!(state.charged < full, "{} of {full}", state.charged);
    assert_eq!(state.max_claimable(), state.charged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_before_the_answer_pays_nothing() {
    let net = Net::start().await;
    let worker = net.worker_with(WORKER, Arc::new(Slow(Duration::from_millis(100)))).await;
    let body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 100,
        "seed": 11 });
    let call = net.post("/v1/chat/completions", &body).timeout(Duration::from_millis(300)).send().await;
    assert!(call.unwrap_err().is_timeout());
    eventually("the job is over", || net.gateway().status().calls == 0 && worker.status().jobs == 0).await;
    assert_eq!(net.charged(), Amount::ZERO);
    assert_eq!(worker.status().pending_receipts, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cheat_is_caught_and_slashed_and_the_payer_gets_the_fees_back() {
    let net = Net::start().await;
    let cheat = net.worker_with(WORKER, Arc::new(Cheating)).await;
    let trusting = net.client().chat(&request(12)).await.unwrap();
    assert_ne!(trusting.receipt.body.finish, FinishReason::Cancelled);
    let caught = net.client().with_replay(engine()).chat(&request(12)).await.unwrap_err();
    assert!(matches!(caught, ClientError::Check(_)), "a replaying client sees it at once: {caught}");
    let auditors = [net.auditor(VALIDATOR).await, net.auditor(VALIDATOR + 1).await];
    let began = Instant::now();
    loop {
        let batches = net.ledger.batches(cheat.address()).await.unwrap();
        if batches.iter().any(|batch| batch.status == BatchStatus::Voided) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(40), "the cheat was not caught: {batches:?}");
        // Later calls may find the cheat suspended already.
        let _ = net.client().chat(&request(12)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let channel = net.ledger.channel(net.channel).await.unwrap().unwrap();
    assert!(channel.deposit > Amount::from_dn(1), "the fees came back: {}", channel.deposit);
    let identity = net.ledger.identity(cheat.address(), Role::Worker).await.unwrap().unwrap();
    assert!(identity.collateral < Amount::from_dn(100), "slashed: {}", identity.collateral);
    let records = auditors.iter().flat_map(Auditor::records).collect::<Vec<_>>();
    assert!(records.iter().any(|record| record.reason.is_some()), "{records:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_restart_loses_no_charge_and_makes_none_twice() {
    let mut net = Net::start().await;
    let worker = net.worker(WORKER).await;
    let body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 8 });
    let send = |net: &Net| net.post("/v1/chat/completions", &body).header("idempotency-key", "one").send();
    let first: Value = send(&net).await.unwrap().json().await.unwrap();
    let charged = net.charged();
    net.gateway.take().unwrap().shutdown().await;
    let offline = net.gateway_config();
    let other_key = Gateway::add_key_offline(offline, net.channel, &key(SPENDER), "other").await.unwrap();
    net.start_gateway(|_| {}).await;
    let in_use = Gateway::add_key_offline(net.gateway_config(), net.channel, &key(SPENDER), "x").await;
    assert!(matches!(in_use, Err(GatewayError::Store(StoreError::InUse { .. }))), "{in_use:?}");
    assert_ne!(other_key, net.api_key);
    assert_eq!(net.charged(), charged);
    let again = send(&net).await.unwrap();
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    let again: Value = again.json().await.unwrap();
    for field in ["id", "choices", "usage", "dn"] {
        assert_eq!(again[field], first[field], "{field}");
    }
    assert_eq!(net.charged(), charged);
    let id = first["dn"]["receipt_id"].as_str().unwrap();
    assert_eq!(net.get(&format!("/v1/receipts/{id}")).send().await.unwrap().status(), 200);
    let address = worker.address();
    let began = Instant::now();
    while net.ledger.batches(address).await.unwrap().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20), "the receipt was not settled after the restart");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eventually("the worker is back", || !net.gateway().status().workers.is_empty()).await;
    net.client().chat(&request(4)).await.unwrap();
    assert!(net.charged() > charged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_restart_settles_what_was_pending_once() {
    let net = Net::start().await;
    let worker = net.worker(WORKER).await;
    let answer = net.client().chat(&request(8)).await.unwrap();
    drop(worker);
    let worker = net.worker(WORKER).await;
    let began = Instant::now();
    loop {
        let batches = net.ledger.batches(worker.address()).await.unwrap();
        let fees = Amount::sum(batches.iter().map(|batch| batch.fees)).unwrap();
        if fees == answer.receipt.body.fee {
            break;
        }
        assert!(fees.is_zero() && began.elapsed() < Duration::from_secs(20), "{batches:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(worker.status().pending_receipts, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_idempotency_key_is_one_call() {
    let net = Net::start().await;
    let gated = Gated::default();
    let open = gated.open.clone();
    let _worker = net.worker_with(WORKER, Arc::new(gated)).await;
    let body = |text: &str| json!({ "model": MODEL, "messages": [{ "role": "user", "content": text }], "max_tokens": 10, "seed": 1 });
    let send =
        |text: &str| net.post("/v1/chat/completions", &body(text)).header("idempotency-key", "k").send();
    let left = send("hi").await;
    drop(left);
    let first = tokio::spawn(send("hi"));
    eventually("it runs", || net.gateway().status().calls == 1 || first.is_finished()).await;
    open.store(true, Ordering::Relaxed);
    let first = first.await.unwrap().unwrap();
    assert!(first.status() == 200 || first.status() == 409);
    eventually("it is charged", || !net.charged().is_zero()).await;
    let charged = net.charged();
    let again = send("hi").await.unwrap();
    assert_eq!(again.status(), 200);
    let conflict = send("ho").await.unwrap();
    assert_eq!(conflict.status(), 409);
    assert_eq!(net.charged(), charged);
}
