//! A node that lies is found out: whichever field of a proven answer is changed on the way, the client says what does not hold.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use dn_core::{Address, Amount, BlockHash, SecretKey};
use dn_ledger::light::{LightError, SubjectError, TrustedHash};
use dn_ledger::node::{Node, NodeConfig};
use dn_ledger::state::ProofError;
use dn_ledger::tx::Payload;
use dn_ledger::{Chain, Devnet, DevnetValidator, Genesis, Params, Reject};
use dn_sdk::ledger::{LedgerClient, LedgerError};
use serde_json::{Value, json};
use tokio::sync::Notify;

/// Changes the result of a method.
type Lie = Box<dyn Fn(&str, &mut Value) + Send + Sync>;

struct Proxy {
    target: String,
    http: reqwest::Client,
    lie: Mutex<Lie>,
    /// What every transaction is answered with instead.
    refusal: Mutex<Option<Value>>,
    /// Holds the next proof back until it is told to go on.
    held: Mutex<Option<Arc<Notify>>>,
}

async fn pass_on(State(proxy): State<Arc<Proxy>>, Json(call): Json<Value>) -> Json<Value> {
    let method = call["method"].as_str().unwrap_or_default().to_owned();
    let refusal = proxy.refusal.lock().unwrap().clone();
    if let Some(error) = refusal.filter(|_| method == "dn_sendTransaction") {
        return Json(json!({ "jsonrpc": "2.0", "id": call["id"], "error": error }));
    }
    let answer = proxy.http.post(&proxy.target).json(&call).send().await.unwrap();
    let mut answer: Value = answer.json().await.unwrap();
    let held = proxy.held.lock().unwrap().take_if(|_| method == "dn_prove");
    if let Some(held) = held {
        held.notified().await;
    }
    if let Some(result) = answer.get_mut("result") {
        proxy.lie.lock().unwrap()(&method, result);
    }
    Json(answer)
}

static STARTED_MS: LazyLock<u64> = LazyLock::new(|| {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
});

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32]).unwrap()
}

fn genesis() -> Genesis {
    genesis_with(vec![(key(3).address(), Amount::from_dn(5))])
}

fn genesis_with(funded: Vec<(Address, Amount)>) -> Genesis {
    let validator = DevnetValidator {
        address: key(1).address(),
        name: "v".into(),
        endpoint: "in-process".into(),
        stake: Amount::from_dn(10_000),
    };
    let devnet = Devnet {
        chain_id: 9,
        // Of today: an old genesis vouches for nothing.
        time_ms: *STARTED_MS,
        faucet: key(2).address(),
        funded,
        validators: vec![validator],
    };
    Genesis::devnet(&devnet, Params::devnet()).unwrap()
}

struct Net {
    node: Node,
    proxy: Arc<Proxy>,
    url: String,
    _dir: tempfile::TempDir,
}

async fn net() -> Net {
    net_with(genesis(), 50).await
}

async fn net_with(genesis: Genesis, block_interval_ms: u64) -> Net {
    let dir = tempfile::tempdir().unwrap();
    let rpc_listen = (Ipv4Addr::LOCALHOST, 0).into();
    let config = NodeConfig::alone(dir.path().to_owned(), genesis, rpc_listen, key(1), block_interval_ms);
    let node = Node::start(config).await.unwrap();
    let proxy = Arc::new(Proxy {
        target: format!("http://{}", node.rpc_addr()),
        http: reqwest::Client::new(),
        lie: Mutex::new(Box::new(|_, _| {})),
        refusal: Mutex::new(None),
        held: Mutex::new(None),
    });
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().route("/", post(pass_on)).with_state(Arc::clone(&proxy));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    Net { node, proxy, url, _dir: dir }
}

impl Net {
    fn lie(&self, lie: impl Fn(&str, &mut Value) + Send + Sync + 'static) {
        *self.proxy.lie.lock().unwrap() = Box::new(lie);
    }
}

/// Questions that are asked at once: the answer to the first one may be the last to arrive.
#[tokio::test(flavor = "multi_thread")]
async fn answers_may_overtake_each_other() {
    let net = net().await;
    let (rich, holder) = (key(2), key(3).address());
    let transfer = || Payload::Transfer { to: holder, amount: Amount::from_dn(2) };
    let other = LedgerClient::new(&net.url).unwrap();
    other.submit(&rich, transfer()).await.unwrap();
    let client = LedgerClient::new(&net.url).unwrap();
    let go_on = Arc::new(Notify::new());
    *net.proxy.held.lock().unwrap() = Some(Arc::clone(&go_on));
    let first = tokio::spawn({
        let client = client.clone();
        async move { client.account(holder).await }
    });
    while net.proxy.held.lock().unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..3 {
        other.submit(&rich, transfer()).await.unwrap();
    }
    assert_eq!(client.account(holder).await.unwrap().balance, Amount::from_dn(13));
    let newest = client.verified_header().await.unwrap();
    go_on.notify_one();
    // What was true when it was asked, before any block that this client had seen by then.
    assert_eq!(first.await.unwrap().unwrap().balance, Amount::from_dn(7));
    assert_eq!(client.verified_header().await.unwrap(), newest);
}

/// What was true once is no answer to what is asked now.
#[tokio::test(flavor = "multi_thread")]
async fn old_answers_are_not_taken_for_new_ones() {
    let net = net().await;
    let (rich, holder) = (key(2), key(3).address());
    let client = LedgerClient::new(&net.url).unwrap();
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    net.lie(move |method, result| {
        if method == "dn_prove" {
            keep.lock().unwrap().get_or_insert_with(|| result.clone());
        }
    });
    client.account(holder).await.unwrap();
    let known = client.verified_header().await.unwrap().height;
    for _ in 0..3 {
        let transfer = Payload::Transfer { to: holder, amount: Amount::from_dn(2) };
        client.submit(&rich, transfer).await.unwrap();
    }
    net.lie(|_, _| {});
    assert_eq!(client.account(holder).await.unwrap().balance, Amount::from_dn(11));
    let answer = kept.lock().unwrap().clone().unwrap();
    let mut bent = answer.clone();
    net.lie(move |method, result| {
        if method == "dn_prove" {
            *result = answer.clone();
        }
    });
    let error = client.account(holder).await.unwrap_err();
    assert!(matches!(error, LedgerError::Behind { found, .. } if found == known), "{error}");
    // Another block of that height is none, whoever signed it.
    bend(&mut bent["block"]["header"]["state"]);
    net.lie(move |method, result| {
        if method == "dn_prove" {
            *result = bent.clone();
        }
    });
    let error = untrue(client.account(holder).await.unwrap_err());
    assert!(matches!(error, SubjectError::Light(LightError::Trusted { .. })), "{error}");
}

/// Flips the last hexadecimal digit of a text.
fn bend(value: &mut Value) {
    let mut text = value.as_str().unwrap().to_owned();
    let last = text.pop().unwrap();
    text.push(if last == '0' { '1' } else { '0' });
    *value = Value::String(text);
}

fn untrue(error: LedgerError) -> SubjectError {
    match error {
        LedgerError::Untrue { source, .. } => *source,
        other => panic!("{other}"),
    }
}

/// The genesis' hash is no block's: whoever mistook it is told so, and the node is not accused.
#[tokio::test(flavor = "multi_thread")]
async fn the_genesis_is_not_taken_for_its_first_block() {
    let net = net().await;
    let named = TrustedHash { height: 0, hash: BlockHash(genesis().hash().0) };
    let error = LedgerClient::trusting(&net.url, named).unwrap().account(key(3).address()).await.unwrap_err();
    assert!(matches!(&error, LedgerError::Trusted(_)), "{error}");
    assert!(error.to_string().starts_with(&format!("{named} names the genesis")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_node_is_found_out() {
    let net = net().await;
    let first = Chain::new(&genesis()).tip().hash();
    let trusted = TrustedHash { height: 0, hash: first };
    let client = LedgerClient::trusting(&net.url, trusted).unwrap();
    let (rich, holder) = (key(2), key(3).address());
    client.submit(&rich, Payload::Transfer { to: holder, amount: Amount::from_dn(2) }).await.unwrap();
    assert_eq!(client.account(holder).await.unwrap().balance, Amount::from_dn(7));
    assert!(client.verified_header().await.unwrap().height > 0);
    assert_eq!(client.chain_id().await.unwrap(), 9);

    // Another balance.
    net.lie(|method, result| {
        if method == "dn_prove" {
            bend(&mut result["entries"][0]["value"]);
        }
    });
    let error = untrue(client.account(holder).await.unwrap_err());
    let root = |error: &SubjectError| {
        matches!(error, SubjectError::Light(LightError::Proof { source: ProofError::Root { .. }, .. }))
    };
    assert!(root(&error), "{error}");
    // An account denied.
    net.lie(|method, result| {
        if method == "dn_prove" {
            result["entries"][0]["value"] = Value::Null;
            result["entries"][0]["proof"]["end"] = json!({ "end": "empty" });
        }
    });
    let error = untrue(client.account(holder).await.unwrap_err());
    assert!(root(&error), "{error}");
    // A state root that fits another state.
    net.lie(|method, result| {
        if method == "dn_prove" {
            bend(&mut result["block"]["header"]["state"]);
        }
    });
    let error = untrue(client.account(holder).await.unwrap_err());
    let forged = |error: &SubjectError| {
        matches!(error, SubjectError::Light(LightError::Certificate { .. } | LightError::Trusted { .. }))
    };
    assert!(forged(&error), "{error}");
    // Somebody else's record.
    let other: Address = key(1).address();
    let stranger = LedgerClient::new(&net.url).unwrap();
    net.lie(|_, _| {});
    stranger.account(other).await.unwrap();
    net.lie(|method, result| {
        if method == "dn_prove" {
            result["entries"] = json!([]);
        }
    });
    let error = untrue(stranger.account(other).await.unwrap_err());
    assert!(matches!(error, SubjectError::Missing { table: "accounts" }), "{error}");
    // Cheaper parameters.
    let error = untrue(stranger.params().await.unwrap_err());
    assert!(matches!(error, SubjectError::Missing { table: "params" }), "{error}");
    // Another chain than the trusted one.
    net.lie(|_, _| {});
    let wrong = TrustedHash { height: 0, hash: BlockHash([7; 32]) };
    let elsewhere = LedgerClient::trusting(&net.url, wrong).unwrap();
    let error = untrue(elsewhere.account(holder).await.unwrap_err());
    assert!(matches!(error, SubjectError::Light(LightError::Trusted { height: 0, .. })), "{error}");
    // The header of another height than the one that is needed.
    net.lie(|method, result| {
        if method == "dn_header" {
            result["header"]["height"] = json!(5);
        }
    });
    let lost = LedgerClient::trusting(&net.url, trusted).unwrap();
    let error = lost.account(holder).await.unwrap_err();
    assert!(matches!(error, LedgerError::NoHeader { height: 0, .. }), "{error}");
    net.lie(|_, _| {});
    // A transaction is where the node says, or there is no proof of it.
    let pay = Payload::Transfer { to: holder, amount: Amount::from_dn(1) };
    let (tx, outcome) = client.submit_signed(&rich, pay).await.unwrap();
    let place = Some((outcome.height, u64::from(outcome.index)));
    assert_eq!(client.prove_tx(&tx).await.unwrap(), place);
    net.lie(|method, result| {
        if method == "dn_txProof" {
            bend(&mut result["block"]["header"]["tx_root"]);
        }
    });
    let error = untrue(client.prove_tx(&tx).await.unwrap_err());
    assert!(forged(&error), "{error}");
    net.lie(|method, result| {
        if method == "dn_txProof" {
            result["proof"]["count"] = json!(2);
            result["proof"]["path"] = json!([BlockHash([7; 32])]);
        }
    });
    let error = untrue(client.prove_tx(&tx).await.unwrap_err());
    assert!(matches!(error, SubjectError::Light(LightError::Transaction { .. })), "{error}");
    net.lie(|method, result| {
        if method == "dn_txProof" {
            *result = Value::Null;
        }
    });
    assert_eq!(client.prove_tx(&tx).await.unwrap(), None);
    net.lie(|_, _| {});
    // Another transaction has no place there.
    let mut other = tx.clone();
    other.tx.nonce += 1;
    assert_eq!(client.prove_tx(&other).await.unwrap(), None);
    assert_eq!(client.prove_tx(&tx).await.unwrap(), place);
    // The honest node goes on being believed.
    assert_eq!(client.account(holder).await.unwrap().balance, Amount::from_dn(8));
    net.node.shutdown().await;
}

/// More holdings than fit a page are read to the end, and a list without an end is not.
#[tokio::test(flavor = "multi_thread")]
async fn lists_are_read_page_by_page() {
    let holder = |n: u16| {
        let mut bytes = [7; 20];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        Address(bytes)
    };
    let funded = (0..2_500).map(|n| (holder(n), Amount::from_dn(1))).collect();
    // No block comes in between.
    let net = net_with(genesis_with(funded), 3_600_000).await;
    let client = LedgerClient::new(&net.url).unwrap();
    let view = client.balances().await.unwrap();
    assert!((0..2_500).all(|n| view.accounts.iter().any(|b| b.address == holder(n))));
    let domains = client.domains().await.unwrap();
    assert!(!domains.is_empty());

    net.lie(|method, result| {
        if method == "dn_domains" {
            result["next"] = json!("0x3200000000");
        }
    });
    let error = client.domains().await.unwrap_err();
    assert!(matches!(error, LedgerError::TooMany { method: "dn_domains", .. }), "{error}");
    // Blocks come between the pages, every time.
    let height = Arc::new(std::sync::atomic::AtomicU64::new(0));
    net.lie(move |method, result| {
        if method == "dn_balances" {
            let next = height.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            result["balances"]["height"] = json!(next);
        }
    });
    let error = client.balances().await.unwrap_err();
    assert!(matches!(error, LedgerError::Moving { method: "dn_balances" }), "{error}");
    net.node.shutdown().await;
}

/// The smallest fee may change: it is read again with a new epoch and after a refusal, and only what is proven is paid.
#[tokio::test(flavor = "multi_thread")]
async fn the_fee_follows_the_parameters() {
    let net = net().await;
    let client = LedgerClient::new(&net.url).unwrap();
    let (rich, to) = (key(2), key(3).address());
    let pay = || client.submit(&rich, Payload::Transfer { to, amount: Amount::from_dn(1) });
    let proofs = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = |proofs: &Arc<std::sync::atomic::AtomicU64>| proofs.load(std::sync::atomic::Ordering::SeqCst);
    // The epoch as it is told.
    let told = Arc::new(Mutex::new(5u64));
    let (seen, tells) = (Arc::clone(&proofs), Arc::clone(&told));
    net.lie(move |method, result| match method {
        "dn_status" => result["epoch"] = json!(*tells.lock().unwrap()),
        "dn_prove" => drop(seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst)),
        _ => {}
    });
    pay().await.unwrap();
    pay().await.unwrap();
    assert_eq!(count(&proofs), 1, "asked for once in an epoch");
    *told.lock().unwrap() = 6;
    pay().await.unwrap();
    assert_eq!(count(&proofs), 2, "and again in the next");
    // A node that says that the fee is too low does not get more.
    *net.proxy.refusal.lock().unwrap() = Some(json!({ "code": -32_001, "message": "no", "data": low_fee() }));
    let error = pay().await.unwrap_err();
    assert!(matches!(error.reject(), Some(Reject::FeeTooLow { .. })), "{error}");
    assert_eq!(count(&proofs), 3, "looked once more");
    net.node.shutdown().await;
}

fn low_fee() -> Value {
    let (minimum, found) = (Amount::from_dn(1_000), Amount::ZERO);
    serde_json::to_value(Reject::FeeTooLow { minimum, found }).unwrap()
}
