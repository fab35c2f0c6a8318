use std::net::IpAddr;
use std::time::{Duration, Instant};

use axum::body::to_bytes;
use dn_core::hexadecimal::to_hex;
use dn_core::{Address, Amount, Canonical, SecretKey};
use futures_util::stream::{self, StreamExt};
use serde_json::json;
use tokio::task::JoinHandle;

use super::waits::MAX_OF_TX;
use super::*;
use crate::genesis::{Devnet, DevnetValidator, Genesis};
use crate::node::store::Store;
use crate::params::Params;
use crate::tx::{Payload, SignedTx, Tx};

/// Longer than anything here takes, and shorter than a wait for a block.
const SOON: Duration = Duration::from_secs(20);
const LOCAL: &str = "127.0.0.1";
const STRANGER: &str = "192.0.2.1";

/// A service of so many places over a chain that gets no blocks, with somebody who can pay.
struct Fixture {
    service: Service,
    payer: SecretKey,
    _dir: tempfile::TempDir,
}

fn fixture(places: usize) -> Fixture {
    let payer = SecretKey::from_bytes(&[7; 32]).unwrap();
    let validator = DevnetValidator {
        address: Address([1; 20]),
        name: "v".into(),
        endpoint: "v".into(),
        stake: Amount::from_dn(10_000),
    };
    let devnet = Devnet {
        chain_id: 1,
        time_ms: 1,
        faucet: Address([2; 20]),
        funded: vec![(payer.address(), Amount::from_dn(5))],
        validators: vec![validator],
    };
    let genesis = Genesis::devnet(&devnet, Params::devnet()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (store, chain) = Store::open(dir.path(), &genesis).unwrap();
    let shared = Arc::new(Shared::new(chain, store, genesis.hash(), None, false));
    let mut service = Service::new(shared, Arc::default(), 1 << 20);
    service.places = Arc::new(Places::new(places, places));
    Fixture { service, payer, _dir: dir }
}

impl Fixture {
    fn tx(&self, nonce: u64) -> SignedTx {
        let (sender, fee) = (self.payer.address(), Amount::from_atto(1_000_000_000_000_000));
        let payload = Payload::Withdraw {};
        Tx { chain_id: 1, sender, nonce, expires_height: 90, fee, payload }.sign(&self.payer)
    }

    fn ask(&self, caller: &str, body: impl Into<Body>) -> JoinHandle<Response> {
        let caller = Caller(caller.parse::<IpAddr>().unwrap());
        tokio::spawn(handle(State(self.service.clone()), Extension(caller), Request::new(body.into())))
    }

    async fn answered(&self, caller: &str, body: Value) -> (StatusCode, Value) {
        told(self.ask(caller, body.to_string())).await
    }

    /// Until so many transactions are waited for.
    async fn until_waiting(&self, count: usize) {
        let began = Instant::now();
        while self.service.waits.count() != count {
            assert!(began.elapsed() < SOON, "{} wait, not {count}", self.service.waits.count());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn told(asking: JoinHandle<Response>) -> (StatusCode, Value) {
    let response = tokio::time::timeout(SOON, asking).await.expect("an answer").unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

fn status() -> Value {
    json!({ "jsonrpc": "2.0", "id": "status", "method": "dn_status" })
}

fn send(tx: &SignedTx) -> Value {
    let params = json!({ "tx": to_hex(&tx.to_bytes()) });
    json!({ "jsonrpc": "2.0", "id": "tx", "method": "dn_sendTransaction", "params": params })
}

/// Connections cost little until their requests are there: it is the work that has so many places.
#[tokio::test]
async fn half_a_body_takes_no_place() {
    let fixture = fixture(8);
    let half = || {
        let parts = stream::iter([Ok::<_, std::io::Error>("{")]).chain(stream::pending());
        fixture.ask(LOCAL, Body::from_stream(parts))
    };
    let slow: Vec<_> = (0..24).map(|_| half()).collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(slow.iter().all(|asking| !asking.is_finished()), "some are refused before their body is here");
    let (code, answer) = fixture.answered(STRANGER, status()).await;
    assert_eq!((code, answer.get("error")), (StatusCode::OK, None));
    slow.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn who_waits_for_a_block_takes_no_place_and_few_wait_for_one_transaction() {
    let fixture = fixture(8);
    // What waits behind a gap, and is sent again and again.
    let again = send(&fixture.tx(1));
    let ask = |call: &Value| fixture.ask(LOCAL, call.to_string());
    let mut waiting = Vec::new();
    for call in [&again, &send(&fixture.tx(2))] {
        for _ in 0..MAX_OF_TX {
            // One after another: so many at once would not find a place each while they are taken in.
            waiting.push(ask(call));
            fixture.until_waiting(waiting.len()).await;
        }
    }
    assert!(waiting.len() > 8, "as many as there are places is too few to test with");
    let (code, answer) = fixture.answered(STRANGER, status()).await;
    assert_eq!((code, answer.get("error")), (StatusCode::OK, None));
    let (code, answer) = told(ask(&again)).await;
    let error = &answer["error"];
    let data = json!({ "reason": "waits_of_transaction", "limit": MAX_OF_TX });
    assert_eq!((code, &error["code"], &error["data"]), (StatusCode::OK, &json!(CODE_BUSY), &data));
    // Whoever goes away leaves its wait to others.
    waiting.remove(0).abort();
    fixture.until_waiting(waiting.len()).await;
    waiting.push(ask(&again));
    fixture.until_waiting(waiting.len()).await;
    waiting.iter().for_each(JoinHandle::abort);
}

/// Whoever fills the waits keeps nobody's transactions out.
#[tokio::test]
async fn what_nobody_may_wait_for_is_taken_in() {
    let mut fixture = fixture(8);
    fixture.service.waits = Arc::new(Waits::new(8, 1));
    let first = fixture.ask(STRANGER, send(&fixture.tx(1)).to_string());
    fixture.until_waiting(1).await;
    let (code, answer) = fixture.answered(STRANGER, send(&fixture.tx(2))).await;
    let data = json!({ "reason": "waits_of_address", "limit": 1 });
    let error = &answer["error"];
    assert_eq!((code, &error["code"], &error["data"]), (StatusCode::OK, &json!(CODE_BUSY), &data));
    assert_eq!(fixture.service.shared.pool().mempool.len(), 2);
    first.abort();
}

/// What a request asks beside its transactions it asks once they are answered, and for a place like any other.
#[tokio::test]
async fn queries_beside_a_transaction_take_a_place_after_it() {
    for full in [false, true] {
        let fixture = fixture(8);
        let tx = fixture.tx(0);
        let asking = fixture.ask(STRANGER, json!([status(), send(&tx)]).to_string());
        fixture.until_waiting(1).await;
        let take = |_| fixture.service.places.take(STRANGER.parse().unwrap()).ok();
        // All that strangers get are free, once the transaction is taken in.
        let (began, mut taken) = (Instant::now(), Vec::new());
        while taken.len() < 7 {
            assert!(began.elapsed() < SOON, "it keeps its place");
            tokio::time::sleep(Duration::from_millis(10)).await;
            taken.extend((taken.len()..8).map_while(take));
        }
        assert_eq!(taken.len(), 7);
        let _taken = full.then_some(taken);
        fixture.service.shared.reject(&[(tx, Reject::NothingToChange {})]);
        let (code, answers) = told(asking).await;
        assert_eq!((code, &answers[1]["error"]["code"]), (StatusCode::OK, &json!(CODE_REJECTED)));
        assert_eq!(answers[0].get("result").is_some(), !full, "{answers}");
        if full {
            assert_eq!(answers[0]["error"]["code"], CODE_BUSY);
        }
    }
}

#[tokio::test]
async fn strangers_do_not_take_the_places_of_programs_of_this_machine() {
    let fixture = fixture(8);
    let service = Service::new(Arc::clone(&fixture.service.shared), Arc::default(), 1 << 20);
    let take = |who: &str| service.places.take(who.parse().unwrap());
    let mut taken: Vec<_> = (0..MAX_OF_CALLER).map(|_| take(STRANGER).unwrap()).collect();
    let ask = |who: &str| {
        let caller = Caller(who.parse().unwrap());
        let asking =
            handle(State(service.clone()), Extension(caller), Request::new(status().to_string().into()));
        told(tokio::spawn(asking))
    };
    let (code, answer) = ask(STRANGER).await;
    assert_eq!((code, &answer["error"]["code"]), (StatusCode::TOO_MANY_REQUESTS, &json!(CODE_BUSY)));
    for n in 2..=7 {
        taken.extend((0..MAX_OF_CALLER).map(|_| take(&format!("192.0.2.{n}")).unwrap()));
    }
    let (code, answer) = ask("192.0.2.8").await;
    assert_eq!((code, &answer["error"]["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!(CODE_BUSY)));
    assert_eq!(answer["error"]["message"], "448 requests are in progress");
    taken.extend((taken.len() + 1..MAX_REQUESTS).map(|_| take(LOCAL).unwrap()));
    let (code, answer) = ask(LOCAL).await;
    assert_eq!((code, answer.get("error")), (StatusCode::OK, None));
    taken.push(take(LOCAL).unwrap());
    assert_eq!((taken.len(), ask("::1").await.0), (MAX_REQUESTS, StatusCode::SERVICE_UNAVAILABLE));
}

#[test]
fn what_reads_much_counts_for_much() {
    let call = |method: &str| json!({ "method": method });
    let of = |request: Value| weight(&request).get();
    assert_eq!(of(call("dn_status")), 1);
    assert_eq!(of(call("dn_txProof")), 20);
    assert_eq!(of(json!([call("dn_txProof"), call("dn_status"), call("no such"), 7])), 23);
    assert_eq!([of(json!([])), of(json!("text")), of(Value::Null)], [1; 3]);
    // As many as a batch holds, and as there are after a rest: it waits for no more than that.
    assert_eq!(of(vec![call("dn_txProof"); MAX_BATCH].into()), 20 * MAX_BATCH as u32);
    assert_eq!(of(vec![call("dn_txProof"); 1_000].into()), 20 * MAX_BATCH as u32);
    assert_eq!(of(vec![call("dn_proposals"); MAX_BATCH].into()), BURST);
}

/// What waits for a block holds no long parameters meanwhile.
#[tokio::test]
async fn long_queries_do_not_wait_beside_a_transaction() {
    let fixture = fixture(8);
    let tx = fixture.tx(0);
    let mut long = status();
    long["params"] = json!({ "x": vec![0; MAX_MIXED_BYTES] });
    let asking = fixture.ask(STRANGER, json!([long, send(&tx)]).to_string());
    fixture.until_waiting(1).await;
    fixture.service.shared.reject(&[(tx, Reject::NothingToChange {})]);
    let (code, answers) = told(asking).await;
    assert_eq!((code, &answers[0]["error"]["code"]), (StatusCode::OK, &json!(CODE_REQUEST)));
    assert_eq!(answers[1]["error"]["code"], CODE_REJECTED);
}
