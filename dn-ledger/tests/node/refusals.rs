//! What a node refuses, or does not wait for, says so in a form that a program can read.

use dn_ledger::node::CODE_POOL;
use dn_ledger::views::PoolRefusal;
use tokio::task::{JoinHandle, JoinSet};

use super::*;

/// Shorter than a node waits for a block.
const SOON: Duration = Duration::from_secs(20);

fn paid(name: &str, nonce: u64, fee: Amount) -> SignedTx {
    let payload = Payload::Transfer { to: address("worker"), amount: dn(1) };
    let sender = address(name);
    Tx { chain_id: CHAIN_ID, sender, nonce, expires_height: 900, fee, payload }.sign(&key(name))
}

/// Sends transactions in one request, without waiting for the answers.
fn send_all(addr: SocketAddr, txs: &[SignedTx]) -> JoinHandle<Vec<Value>> {
    let call = |(id, tx): (usize, &SignedTx)| json!({ "jsonrpc": "2.0", "id": id, "method": "dn_sendTransaction", "params": hex_of(tx) });
    let body = txs.iter().enumerate().map(call).collect::<Value>().to_string();
    tokio::task::spawn_blocking(move || serde_json::from_str(&post(addr, body.as_bytes()).1).unwrap())
}

async fn until_pooled(addr: SocketAddr, count: u64) {
    let began = Instant::now();
    while get::<StatusView>(addr, "dn_status", json!({})).await.mempool != count {
        assert!(began.elapsed() < SOON, "{count} do not wait");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn refusal(addr: SocketAddr, tx: &SignedTx) -> PoolRefusal {
    let answer = call(addr, "dn_sendTransaction", hex_of(tx)).await;
    assert_eq!(answer["error"]["code"], CODE_POOL, "{answer}");
    serde_json::from_value(answer["error"]["data"].clone()).unwrap_or_else(|e| panic!("{e}: {answer}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_wait_is_told_why() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(config(dir.path())).await.unwrap();
    let addr = node.rpc_addr();
    let fee = params().min_tx_fee;
    // As many as may wait behind a gap.
    let gapped: Vec<_> = (1..=16).map(|nonce| paid("payer", nonce, fee)).collect();
    let waiting = send_all(addr, &gapped);
    until_pooled(addr, 16).await;

    let one_more = paid("payer", 17, fee);
    assert_eq!(refusal(addr, &one_more).await, PoolRefusal::Gapped { missing: 0, limit: 16, found: 17 });
    let far = paid("payer", 256, fee);
    assert_eq!(refusal(addr, &far).await, PoolRefusal::TooFarAhead { expected: 0, limit: 256, found: 256 });
    let minimum = fee.checked_add(Amount::from_atto(fee.atto() / 10)).unwrap();
    assert_eq!(
        refusal(addr, &transfer(1, dn(2), 900)).await,
        PoolRefusal::Underpriced { nonce: 1, minimum, found: fee }
    );

    let AccountView { balance: available, .. } =
        get(addr, "dn_account", json!({ "address": address("gateway") })).await;
    let most = available.checked_sub(fee).unwrap();
    // It is answered when the node stops.
    let _first = send_all(addr, &[paid("gateway", 1, most)]);
    until_pooled(addr, 17).await;
    let needed = most.checked_add(dn(1)).unwrap();
    assert_eq!(refusal(addr, &paid("gateway", 2, dn(1))).await, PoolRefusal::Unfunded { available, needed });

    // None of that harms what waits.
    let filled = send_all(addr, &[paid("payer", 0, fee)]).await.unwrap();
    assert!(filled[0].get("result").is_some(), "{filled:?}");
    let answers = waiting.await.unwrap();
    assert!(answers.iter().all(|answer| answer.get("result").is_some()), "{answers:?}");
    node.shutdown().await;
}

/// The same transaction on connection after connection: a few wait for it, the others are told at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_wait_for_one_transaction_and_nobody_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(config(dir.path())).await.unwrap();
    let addr = node.rpc_addr();
    let gapped = transfer(1, dn(1), 900);
    let mut asking = JoinSet::new();
    for _ in 0..20 {
        let params = hex_of(&gapped);
        asking.spawn(async move { call(addr, "dn_sendTransaction", params).await });
    }
    for _ in 0..12 {
        let answer = tokio::time::timeout(SOON, asking.join_next()).await.expect("told at once");
        let error = &answer.unwrap().unwrap()["error"];
        assert_eq!((&error["code"], &error["data"]["limit"]), (&json!(CODE_BUSY), &json!(8)), "{error}");
        assert_eq!(error["data"]["reason"], "waits_of_transaction");
    }
    let first: TxOutcome = get(addr, "dn_sendTransaction", hex_of(&transfer(0, dn(1), 900))).await;
    for answer in asking.join_all().await {
        let outcome: TxOutcome = serde_json::from_value(answer["result"].clone()).unwrap();
        assert_eq!(outcome.tx_id, gapped.id(), "{answer}");
        assert!(outcome.height >= first.height);
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_body_is_not_called_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(config(dir.path())).await.unwrap();
    let addr = node.rpc_addr();
    let exchange = move |body: &'static str| {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let head = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let ask = |body| async move { tokio::task::spawn_blocking(move || exchange(body)).await.unwrap() };
    let refused = ask("no length\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("-32600"), "{refused}");
    let answered = ask("1\r\n{\r\n1\r\n}\r\n0\r\n\r\n").await;
    assert!(answered.starts_with("HTTP/1.1 200") && answered.contains("-32600"), "{answered}");
    node.shutdown().await;
}
