//! The node over HTTP: service, durability, bad input.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

#[path = "node/refusals.rs"]
mod refusals;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use common::{CHAIN_ID, address, dn, key, params, solo_genesis};
use dn_core::objects::ModelManifest;
use dn_core::{Amount, Canonical};
use dn_ledger::node::{
    CODE_BUSY, ConsensusError, MAX_ANSWER_BYTES, MAX_BATCH, Node, NodeConfig, NodeError, ServiceLimits,
    StoreError,
};
use dn_ledger::referee::{Case, MoveFault, Played, Side, Standing};
use dn_ledger::views::{AccountView, StatusView, SupplyView, TxOutcome, TxView};
use dn_ledger::{Payload, Referee, RefereeHandle, Reject, SignedTx, Tx};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

fn config(dir: &Path) -> NodeConfig {
    NodeConfig::alone(dir.to_owned(), solo_genesis(params()), "127.0.0.1:0".parse().unwrap(), key("v1"), 40)
}

/// A POST of these bytes: status and body.
fn post(addr: SocketAddr, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // The server may refuse by the head alone.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

async fn call(addr: SocketAddr, method: &str, params: Value) -> Value {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let (status, text) = tokio::task::spawn_blocking(move || post(addr, body.as_bytes())).await.unwrap();
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

async fn get<T: serde::de::DeserializeOwned>(addr: SocketAddr, method: &str, params: Value) -> T {
    let answer = call(addr, method, params).await;
    serde_json::from_value(answer["result"].clone()).unwrap_or_else(|e| panic!("{method}: {e}: {answer}"))
}

fn transfer(nonce: u64, amount: Amount, expires_height: u64) -> SignedTx {
    let payload = Payload::Transfer { to: address("stranger"), amount };
    let fee = params().min_tx_fee;
    let sender = address("payer");
    Tx { chain_id: CHAIN_ID, sender, nonce, expires_height, fee, payload }.sign(&key("payer"))
}

fn hex_of(tx: &SignedTx) -> Value {
    json!({ "tx": dn_core::hexadecimal::to_hex(&tx.to_bytes()) })
}

/// Thirty-two answers of the largest kind in one request: those that are too much are not made, and each is had by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answers_to_a_batch_are_bounded_together() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(config(dir.path())).await.unwrap();
    let addr = node.rpc_addr();
    let call = |id: usize| json!({ "jsonrpc": "2.0", "id": id, "method": "rpc.discover", "params": {} });
    let ask = |body: Value| async move {
        let body = body.to_string();
        tokio::task::spawn_blocking(move || post(addr, body.as_bytes())).await.unwrap()
    };
    let (_, one) = ask(call(0)).await;
    assert!(
        one.len() * MAX_BATCH > MAX_ANSWER_BYTES + 8 * one.len(),
        "{} bytes are too few to test with",
        one.len()
    );
    let (status, text) = ask((0..MAX_BATCH).map(call).collect()).await;
    assert_eq!(status, 200);
    assert!(text.len() < MAX_ANSWER_BYTES + 4 * one.len(), "{} bytes", text.len());
    let answers: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(answers.len(), MAX_BATCH);
    let whole = answers.iter().take_while(|answer| answer.get("result").is_some()).count();
    assert!(whole * one.len() > MAX_ANSWER_BYTES - 4 * one.len(), "{whole}");
    for (id, answer) in answers.iter().enumerate() {
        assert_eq!(answer["id"], id);
        if id >= whole {
            assert_eq!(answer["error"]["code"], CODE_BUSY, "{id}");
        }
    }
    node.shutdown().await;
}

/// A client that asks much and takes nothing: while its answer lies here, there is room for small ones only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_takes_are_bounded_together() {
    let dir = tempfile::tempdir().unwrap();
    let limits = ServiceLimits { answer_bytes: MAX_ANSWER_BYTES * 3 / 2, ..ServiceLimits::default() };
    let node = Node::start(NodeConfig { limits, ..config(dir.path()) }).await.unwrap();
    let addr = node.rpc_addr();
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "rpc.discover" });
    let large = Value::from(vec![call; MAX_BATCH]).to_string();
    let ask = |body: String| async move {
        tokio::task::spawn_blocking(move || post(addr, body.as_bytes())).await.unwrap()
    };
    let (status, text) = ask(large.clone()).await;
    assert_eq!(status, 200);
    assert!(text.len() > limits.answer_bytes / 2, "{} bytes are too few to test with", text.len());

    // A connection that holds little on its way.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut lazy = socket.connect(addr).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", large.len());
    lazy.write_all((head + &large).as_bytes()).await.unwrap();
    // Its answer is made.
    lazy.readable().await.unwrap();
    let (status, text) = ask(large.clone()).await;
    let error = &serde_json::from_str::<Value>(&text).unwrap()["error"];
    assert_eq!((status, &error["code"]), (503, &json!(CODE_BUSY)), "{error}");
    let _: StatusView = get(addr, "dn_status", json!({})).await;
    drop(lazy);
    let began = Instant::now();
    while ask(large.clone()).await.0 != 200 {
        assert!(began.elapsed() < Duration::from_secs(10), "what was held for it is never free again");
    }
    node.shutdown().await;
}

/// Whoever wants no answer has no query made: thirty-one of them would leave no room for the answer to the last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_whose_answer_nobody_wants_are_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(config(dir.path())).await.unwrap();
    let addr = node.rpc_addr();
    let ask = |body: Value| async move {
        tokio::task::spawn_blocking(move || post(addr, body.to_string().as_bytes())).await.unwrap()
    };
    let silent = json!({ "jsonrpc": "2.0", "method": "rpc.discover" });
    let last = json!({ "jsonrpc": "2.0", "id": "last", "method": "rpc.discover" });
    let mut batch = vec![silent.clone(); MAX_BATCH - 1];
    batch.push(last);
    let (status, text) = ask(batch.into()).await;
    let answers: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!((status, answers.len(), &answers[0]["id"]), (200, 1, &json!("last")));
    assert!(answers[0].get("result").is_some(), "{}", answers[0]);
    assert!(text.len() * (MAX_BATCH - 1) > MAX_ANSWER_BYTES, "{} bytes are too few to test with", text.len());
    assert_eq!(ask(silent).await, (204, String::new()));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_answered_once_durable_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(config(dir.path())).await.unwrap();
    let addr = node.rpc_addr();
    let before: AccountView = get(addr, "dn_account", json!({ "address": address("stranger") })).await;
    let tx = transfer(0, dn(3), 100);
    let first: TxOutcome = get(addr, "dn_sendTransaction", hex_of(&tx)).await;
    assert_eq!(first.tx_id, tx.id());
    let again: TxOutcome = get(addr, "dn_sendTransaction", hex_of(&tx)).await;
    assert_eq!(first, again);
    let view: TxView = get(addr, "dn_tx", json!({ "id": tx.id() })).await;
    assert_eq!((view.tx, view.outcome), (tx.clone(), first.clone()));
    let status: StatusView = get(addr, "dn_status", json!({})).await;
    assert!(status.height >= first.height);
    node.shutdown().await;

    let node = Node::start(config(dir.path())).await.unwrap();
    let addr = node.rpc_addr();
    assert!(node.height() >= status.height);
    let after_restart: TxOutcome = get(addr, "dn_sendTransaction", hex_of(&tx)).await;
    assert_eq!(after_restart, first);
    let after: AccountView = get(addr, "dn_account", json!({ "address": address("stranger") })).await;
    assert_eq!(after.balance, before.balance.checked_add(dn(3)).unwrap(), "applied exactly once");
    let supply: SupplyView = get(addr, "dn_supply", json!({})).await;
    assert_eq!(supply.total, supply.supply);
    // Every query answers.
    let a = json!({ "address": address("v1") });
    for (method, params) in [
        ("dn_params", json!({})),
        ("dn_identity", json!({ "address": address("v1"), "role": "validator" })),
        ("dn_identities", json!({ "role": "validator" })),
        ("dn_trust", json!({ "address": address("v1"), "role": "validator" })),
        ("dn_account", a),
        ("dn_channel", json!({ "id": dn_core::ChannelId::ZERO })),
        ("dn_model", json!({ "id": dn_core::ModelId::ZERO })),
        ("dn_models", json!({})),
        ("dn_batch", json!({ "id": dn_core::BatchId::ZERO })),
        ("dn_batches", json!({ "worker": address("worker") })),
        ("dn_audits", json!({ "open": true })),
        ("dn_balances", json!({})),
        ("dn_domain", json!({ "id": 0 })),
        ("dn_domains", json!({})),
        ("dn_family", json!({ "id": dn_core::ModelId::ZERO })),
        ("dn_modelTerms", json!({ "id": dn_core::ModelId::ZERO })),
        ("dn_backing", json!({ "address": address("v1") })),
        ("dn_offer", json!({ "model": dn_core::ModelId::ZERO, "worker": address("worker") })),
        ("dn_job", json!({ "id": dn_core::ChannelId::ZERO })),
        ("dn_jobs", json!({})),
        ("dn_block", json!({ "height": 1 })),
        ("dn_events", json!({ "from_height": 1, "limit": 10 })),
    ] {
        let answer = call(addr, method, params).await;
        assert!(answer.get("result").is_some(), "{method}: {answer}");
    }
    node.shutdown().await;
}

/// A referee with a bug that shows after some blocks.
#[derive(Debug)]
struct Panics(std::sync::atomic::AtomicU32);

impl Referee for Panics {
    fn rules(&self) -> u32 {
        let calls = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        assert!(calls < 8, "a bug of the rules");
        1
    }

    fn judges(&self, _: &ModelManifest) -> bool {
        false
    }

    fn open(&self, _: Case<'_>) -> Standing {
        Standing::Turn(Side::Worker)
    }

    fn play(&self, _: Case<'_>, _: &[Played], _: Side, _: &[u8]) -> Result<Standing, MoveFault> {
        Err(MoveFault::Unjudged)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_of_the_rules_ends_the_node_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut params = params();
    (params.dispute.referee, params.unbonding_epochs) = (1, 60);
    let referee = Some(RefereeHandle::new(Panics(0.into())));
    let node = Node::start(NodeConfig { genesis: solo_genesis(params), referee, ..config(dir.path()) })
        .await
        .unwrap();
    tokio::time::timeout(Duration::from_secs(60), node.production_ended()).await.unwrap();
    let Some(ConsensusError::Panicked { height, message }) = node.failure() else {
        panic!("{:?}", node.failure());
    };
    assert_eq!((*height, message.as_str()), (node.height(), "a bug of the rules"));
    // Still there, and at its tip.
    let status: StatusView = get(node.rpc_addr(), "dn_status", json!({})).await;
    assert_eq!(status.height, *height);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_of_one_request_enter_one_block_and_are_answered_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(config(dir.path())).await.unwrap();
    let addr = node.rpc_addr();
    let call = |id: Value, method: &str, params: Value| json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
    let send = |id: &str, tx: &SignedTx| call(json!(id), "dn_sendTransaction", hex_of(tx));
    let mut unsigned = transfer(2, dn(1), 100);
    unsigned.signature = transfer(3, dn(1), 100).signature;
    let silent = json!({ "jsonrpc": "2.0", "method": "dn_sendTransaction", "params": hex_of(&transfer(2, dn(1), 100)) });
    let batch = json!([
        send("second", &transfer(1, dn(1), 100)),
        call(json!("status"), "dn_status", json!({})),
        send("unsigned", &unsigned),
        7,
        silent,
        send("first", &transfer(0, dn(1), 100)),
        call(json!("no bytes"), "dn_sendTransaction", json!({ "tx": "0x01" })),
    ]);
    let (status, text) =
        tokio::task::spawn_blocking(move || post(addr, batch.to_string().as_bytes())).await.unwrap();
    assert_eq!(status, 200, "{text}");
    let answers: Vec<Value> = serde_json::from_str(&text).unwrap();
    let ids: Vec<_> = answers.iter().map(|answer| answer["id"].clone()).collect();
    assert_eq!(json!(ids), json!(["second", "status", "unsigned", null, "first", "no bytes"]));
    let outcome =
        |place: usize| -> TxOutcome { serde_json::from_value(answers[place]["result"].clone()).unwrap() };
    let (first, second) = (outcome(4), outcome(0));
    assert_eq!((first.height, first.index + 1), (second.height, second.index));
    let codes = [2, 3, 5].map(|place| answers[place]["error"]["code"].as_i64().unwrap());
    assert_eq!(codes, [-32_001, -32_600, -32_602]);
    // Nobody waited for it, and it stands.
    let view: TxView = get(addr, "dn_tx", json!({ "id": transfer(2, dn(1), 100).id() })).await;
    assert_eq!(view.outcome.height, first.height);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_get_typed_errors() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(config(dir.path())).await.unwrap();
    let addr = node.rpc_addr();
    let code = |text: &str| serde_json::from_str::<Value>(text).unwrap()["error"]["code"].as_i64().unwrap();
    let raw = |body: Vec<u8>| tokio::task::spawn_blocking(move || post(addr, &body));
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    let batch = vec![json!({ "jsonrpc": "2.0", "id": 1, "method": "dn_status" }); 33];
    for (body, expected) in [
        (b"{".to_vec(), -32_700),
        (deep, -32_700),
        (b"\xff\xfe".to_vec(), -32_700),
        (b"[]".to_vec(), -32_600),
        (b"{\"method\":\"dn_status\"}".to_vec(), -32_600),
        (serde_json::to_vec(&batch).unwrap(), -32_600),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"eth_blockNumber\"}".to_vec(), -32_601),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"dn_status\",\"params\":[1]}".to_vec(), -32_602),
        (
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"dn_account\",\"params\":{\"address\":1}}".to_vec(),
            -32_602,
        ),
        (
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"dn_sendTransaction\",\"params\":{\"tx\":\"0x00\"}}"
                .to_vec(),
            -32_602,
        ),
    ] {
        let (status, text) = raw(body).await.unwrap();
        assert_eq!((status, code(&text)), (200, expected), "{text}");
    }
    assert_eq!(raw(vec![b' '; 3 * 1024 * 1024]).await.unwrap().0, 413);
    // A batch of calls is answered in order; one without id is not answered.
    let batch = json!([
        { "jsonrpc": "2.0", "id": "a", "method": "dn_status" },
        { "jsonrpc": "2.0", "method": "dn_status" },
        { "jsonrpc": "2.0", "id": "b", "method": "nope" },
    ]);
    let (_, text) = raw(serde_json::to_vec(&batch).unwrap()).await.unwrap();
    let answers: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (answers.len(), &answers[0]["id"], &answers[1]["error"]["code"]),
        (2, &json!("a"), &json!(-32_601))
    );

    let reject = async |tx: SignedTx| {
        let answer = call(addr, "dn_sendTransaction", hex_of(&tx)).await;
        assert_eq!(answer["error"]["code"], -32_001, "{answer}");
        serde_json::from_value::<Reject>(answer["error"]["data"].clone()).unwrap()
    };
    let over = dn(1_000_000);
    assert!(
        matches!(reject(transfer(0, over, 100)).await, Reject::Insufficient { needed, .. } if needed == over)
    );
    let mut other = transfer(0, dn(1), 100);
    other.tx.chain_id = 5;
    assert!(matches!(reject(other).await, Reject::ChainId { expected: CHAIN_ID, found: 5, .. }));
    let mut flipped = transfer(0, dn(1), 100);
    flipped.tx.fee = dn(1);
    assert!(matches!(reject(flipped).await, Reject::Signature { .. }));
    let _: TxOutcome = get(addr, "dn_sendTransaction", hex_of(&transfer(0, dn(1), 100))).await;
    assert_eq!(reject(transfer(0, dn(2), 100)).await, Reject::Nonce { expected: 1, found: 0 });
    assert!(matches!(reject(transfer(1, dn(2), 0)).await, Reject::Expired { expires_height: 0, .. }));
    // A later nonce waits for the earlier one.
    let late = tokio::spawn(async move {
        get::<TxOutcome>(addr, "dn_sendTransaction", hex_of(&transfer(2, dn(1), 900))).await
    });
    tokio::time::sleep(Duration::from_millis(150)).await;
    let early: TxOutcome = get(addr, "dn_sendTransaction", hex_of(&transfer(1, dn(1), 900))).await;
    let late = late.await.unwrap();
    assert!((late.height, late.index) > (early.height, early.index));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_another_chain_or_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(config(dir.path())).await.unwrap();
    let second = Node::start(config(dir.path())).await;
    assert!(matches!(second, Err(NodeError::Store(StoreError::InUse { .. }))), "{second:?}");
    node.shutdown().await;
    let mut other = config(dir.path());
    other.genesis.chain_id = 9;
    let refused = Node::start(other).await;
    let expected =
        matches!(refused, Err(NodeError::Store(StoreError::OtherChain { expected: 9, found: CHAIN_ID, .. })));
    assert!(expected, "{refused:?}");
    let mut other = config(dir.path());
    other.genesis.time_ms += 1;
    let refused = Node::start(other).await;
    assert!(matches!(refused, Err(NodeError::Store(StoreError::OtherGenesis { .. }))), "{refused:?}");
    let mut other = config(dir.path());
    other.key = Some(key("stranger"));
    let refused = Node::start(other).await;
    assert!(matches!(refused, Err(NodeError::NotValidator { .. })), "{refused:?}");
    let stored = dn_ledger::node::Store::stored_genesis(dir.path()).unwrap();
    assert_eq!(stored, Some(solo_genesis(params())));
}

/// A subscription that has been asked for: the connection, and what was read of it so far.
struct Subscription {
    stream: TcpStream,
    text: String,
}

impl Subscription {
    fn open(addr: SocketAddr, query: &str, last_id: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let last = last_id.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        write!(stream, "GET /events?{query} HTTP/1.1\r\nhost: x\r\n{last}\r\n").unwrap();
        Self { stream, text: String::new() }
    }

    /// Reads until this many events came, or the connection ended.
    fn events(&mut self, count: usize) -> Vec<(String, Value)> {
        let mut buffer = [0; 4_096];
        loop {
            // Whole messages; an id alone only says how far the node is.
            let messages = self.text.split_inclusive("\n\n").filter(|message| message.ends_with("\n\n"));
            let events = messages.filter_map(|message| {
                let field = |name: &str| message.lines().find_map(|line| line.strip_prefix(name));
                Some((field("id: ")?.to_owned(), serde_json::from_str(field("data: ")?).unwrap()))
            });
            let events: Vec<_> = events.collect();
            let read = if events.len() >= count { 0 } else { self.stream.read(&mut buffer).unwrap() };
            if read == 0 {
                return events;
            }
            self.text += std::str::from_utf8(&buffer[..read]).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_hear_what_they_asked_for_and_go_on_where_they_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(config(dir.path())).await.unwrap();
    let addr = node.rpc_addr();
    let stranger = address("stranger");
    let mut live = Subscription::open(addr, &format!("address={stranger}&event=transferred"), None);
    let mut amounts = Vec::new();
    for nonce in 0..3 {
        amounts.push(dn(nonce + 1));
        let tx = transfer(nonce, dn(nonce + 1), 100);
        let _: TxOutcome = get(addr, "dn_sendTransaction", hex_of(&tx)).await;
    }
    let amount = |(_, view): &(String, Value)| view["event"]["amount"].clone();
    let heard = tokio::task::spawn_blocking(move || live.events(3)).await.unwrap();
    assert_eq!(
        heard.iter().map(amount).collect::<Vec<_>>(),
        amounts.iter().map(|a| json!(a)).collect::<Vec<_>>()
    );

    // Away after the first, back with its id: the other two, from the store.
    let (id, query) = (heard[0].0.clone(), format!("address={stranger}&event=transferred&from_height=1"));
    let mut back = Subscription::open(addr, &query, Some(&id));
    let rest = tokio::task::spawn_blocking(move || back.events(2)).await.unwrap();
    assert_eq!(rest, heard[1..]);

    for (query, last, said) in [
        ("address=0x12", None, "address"),
        ("wish=1", None, "wish"),
        ("role=king", None, "role"),
        ("event=nonsense", None, "nonsense"),
        ("", Some("one"), "Last-Event-ID"),
    ] {
        let mut refused = Subscription::open(addr, query, last);
        let _ = refused.stream.set_read_timeout(Some(Duration::from_millis(500)));
        let mut text = [0; 2_048];
        let read = refused.stream.read(&mut text).unwrap();
        let text = String::from_utf8_lossy(&text[..read]);
        assert!(text.starts_with("HTTP/1.1 400") && text.contains(said), "{query}: {text}");
    }

    // The end of the node ends a subscription.
    let mut last = Subscription::open(addr, "event=epoch_closed", None);
    let ended = tokio::task::spawn_blocking(move || last.events(usize::MAX).len());
    tokio::time::sleep(Duration::from_millis(100)).await;
    tokio::time::timeout(Duration::from_secs(3), node.shutdown()).await.unwrap();
    ended.await.unwrap();
}
