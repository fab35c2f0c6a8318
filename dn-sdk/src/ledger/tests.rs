//! Nodes that answer, and yet would hold a client up.

use std::net::Ipv4Addr;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Instant;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use dn_ledger::block::Certificate;
use dn_ledger::tx::model_commitment;
use dn_ledger::{Chain, Devnet, DevnetValidator, Genesis, ValidatorSet};

use super::*;

const CHAIN: u64 = 9;
/// How old a commitment must be.
const BLOCKS: u64 = 8;
/// Higher than any of the chains here ever is.
const FAR: u64 = 1 << 40;
/// Within this every wait of these tests is over, if it ends at all.
const SOON: Duration = Duration::from_secs(30);

fn owner() -> SecretKey {
    SecretKey::from_bytes(&[2; 32]).unwrap()
}

fn validator() -> SecretKey {
    SecretKey::from_bytes(&[1; 32]).unwrap()
}

/// A chain of one validator at its genesis, which is of now: an old one vouches for nothing.
fn chain() -> Chain {
    let mut params = Params::devnet();
    params.registry.commit_blocks = BLOCKS;
    let devnet = Devnet {
        chain_id: CHAIN,
        time_ms: now_ms(),
        faucet: Address([9; 20]),
        funded: vec![(owner().address(), Amount::from_dn(1_000))],
        validators: vec![DevnetValidator {
            address: validator().address(),
            name: "v".into(),
            endpoint: "in-process".into(),
            stake: Amount::from_dn(5_000),
        }],
    };
    Chain::new(&Genesis::devnet(&devnet, params).unwrap())
}

fn advance(chain: &mut Chain, payload: Option<Payload>) {
    let sender = owner().address();
    let nonce = query::account(chain.state(), sender).nonce;
    let tx = |payload| {
        let expires_height = chain.tip().height + 9;
        let mut tx = Tx { chain_id: CHAIN, sender, nonce, expires_height, fee: Amount::ZERO, payload };
        tx.fee = tx.least_fee(Params::devnet().min_tx_fee);
        tx.sign(&owner())
    };
    let txs: Vec<_> = payload.map(tx).into_iter().collect();
    let time_ms = chain.tip().time_ms + 1;
    let proposal = chain.propose(validator().address(), time_ms, &txs).unwrap();
    assert_eq!(proposal.rejected, []);
    let header = &proposal.block.header;
    chain.commit(header, Certificate::sign(header, 0, [&validator()]), &proposal.executed);
}

/// A publication, and the chain whose newest block holds the commitment to its model.
fn committed() -> (Chain, Payload) {
    let model = dn_compute::Model::from_bytes(dn_compute::embedded::tiny_rust()).unwrap();
    let (manifest, id) = (model.manifest().clone(), model.id());
    let mut chain = chain();
    let (role, collateral) = (Role::ModelOwner, Amount::from_dn(100));
    let register = Payload::Register { role, collateral, name: "n".into(), endpoint: String::new() };
    advance(&mut chain, Some(register));
    let commitment = model_commitment(id, owner().address(), &model_salt(&owner(), id));
    advance(&mut chain, Some(Payload::CommitModel { commitment }));
    let one = Amount::from_atto(1);
    let price = dn_core::objects::Price { prompt_token: one, output_token: one };
    (chain, Payload::PublishModel { manifest, name: "m".into(), price, domain: 0, salt: None })
}

fn tip(chain: &Chain) -> LightBlock {
    let (header, certificate) = (chain.tip().clone(), chain.certificate().clone());
    LightBlock::new(header, certificate, chain.tip_validators(), chain.validators())
}

fn prove(chain: &Chain, params: &Value) -> Value {
    let subject: Subject = serde_json::from_value(params["subject"].clone()).unwrap();
    serde_json::to_value(ProofView::answer(&subject, chain.state(), tip(chain))).unwrap()
}

/// A status that nothing proves.
fn far_ahead() -> Value {
    let status = StatusView {
        chain_id: CHAIN,
        genesis: Default::default(),
        version: String::new(),
        height: FAR,
        first_block: 1,
        tip: Default::default(),
        state: Default::default(),
        time_ms: now_ms(),
        epoch: 0,
        next_epoch_height: FAR,
        mempool: 0,
        node_key: None,
    };
    serde_json::to_value(status).unwrap()
}

/// What a node answers to a method, and how long that takes.
type Answers = Box<dyn FnMut(&str, &Value) -> (Value, Duration) + Send>;

async fn answer(State(node): State<Arc<StdMutex<Answers>>>, Json(call): Json<Value>) -> Json<Value> {
    let (result, pause) = {
        let mut answers = node.lock().unwrap();
        (*answers)(call["method"].as_str().unwrap(), &call["params"])
    };
    tokio::time::sleep(pause).await;
    Json(json!({ "jsonrpc": "2.0", "id": call["id"], "result": result }))
}

/// Where a node of these answers is.
async fn serve(answers: impl FnMut(&str, &Value) -> (Value, Duration) + Send + 'static) -> String {
    let node: Arc<StdMutex<Answers>> = Arc::new(StdMutex::new(Box::new(answers)));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().route("/", post(answer)).with_state(node);
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    url
}

/// A client that waits for other times.
fn waiting(client: LedgerClient, change: impl FnOnce(&mut Waits)) -> LedgerClient {
    let mut inner = Arc::into_inner(client.0).unwrap();
    change(&mut inner.waits);
    LedgerClient(Arc::new(inner))
}

/// A block of a chain that strangers made: it needs a header half way, and that one again, forty times.
fn strangers_block(height: u64, like: &Header) -> LightBlock {
    let stranger = SecretKey::from_bytes(&[7; 32]).unwrap();
    let set = ValidatorSet::new([(stranger.address(), 1)]);
    let (validators, next_validators) = (set.hash(), set.hash());
    let header = Header { height, time_ms: like.time_ms + 1, validators, next_validators, ..like.clone() };
    let certificate = Certificate::sign(&header, 0, [&stranger]);
    LightBlock::new(header, certificate, set.clone(), set)
}

/// Each header comes soon, all of them would take long: the time for an answer is for all of them, also for who waits for another question's headers.
#[tokio::test]
async fn headers_that_lead_nowhere_hold_no_client_up() {
    let chain = chain();
    let genesis = chain.tip().clone();
    let trusted = TrustedHash { height: 0, hash: genesis.hash() };
    let (honest, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let url = serve({
        let (honest, asked) = (honest.clone(), asked.clone());
        move |method, params| match method {
            "dn_header" if params["height"] == 0 => (json!(tip(&chain)), Duration::ZERO),
            "dn_header" => {
                asked.fetch_add(1, Ordering::SeqCst);
                let block = strangers_block(params["height"].as_u64().unwrap(), &genesis);
                (json!(block), Duration::from_millis(100))
            }
            _ if honest.load(Ordering::SeqCst) => (prove(&chain, params), Duration::ZERO),
            _ => {
                let made_up = ProofView { block: strangers_block(FAR, &genesis), entries: Vec::new() };
                (json!(made_up), Duration::ZERO)
            }
        }
    })
    .await;
    let client = LedgerClient::trusting(&url, trusted).unwrap();
    let client = waiting(client, |waits| waits.follow = Duration::from_millis(500));
    let (one, other) = tokio::join!(client.params(), client.account(owner().address()));
    for error in [one.unwrap_err(), other.unwrap_err()] {
        assert!(matches!(error, LedgerError::NoHeader { height: FAR, .. }), "{error}");
    }
    let asked = asked.load(Ordering::SeqCst);
    assert!((1..30).contains(&asked), "{asked} of 40 headers were asked for");
    // Nothing of it is left: what is true is believed.
    honest.store(true, Ordering::SeqCst);
    let balance = client.account(owner().address()).await.unwrap().balance;
    assert_eq!(balance, Amount::from_dn(1_000));
    assert_eq!(client.verified_header().await.unwrap().height, 0);
}

/// Blocks that never come end the wait for them, whatever the node says of its height where nothing proves it.
#[tokio::test]
async fn a_chain_that_stands_still_holds_no_publication_up() {
    let (chain, publish) = committed();
    let (made, standstill) = (chain.tip().height, Duration::from_millis(500));
    let url = serve(move |method, params| match method {
        "dn_status" => (far_ahead(), Duration::ZERO),
        _ => (prove(&chain, params), Duration::ZERO),
    })
    .await;
    let client = LedgerClient::new(&url).unwrap();
    let client = waiting(client, |waits| waits.standstill = standstill);
    let (key, began) = (owner(), Instant::now());
    let ended = tokio::time::timeout(SOON, client.commit_first(&key, publish)).await;
    let error = ended.expect("it gives up").unwrap_err();
    assert!(began.elapsed() >= standstill, "{:?} is no standstill", began.elapsed());
    // The block before the first that may hold the publication.
    let missing = made + BLOCKS - 1;
    assert!(matches!(error, LedgerError::NoHeader { height, .. } if height == missing), "{error}");
    let says = error.to_string();
    assert!(says.contains(&url) && says.contains(&format!("header {missing}")), "{says}");
    assert_eq!(client.verified_header().await.unwrap().height, made);
}

/// A chain that is slow stands still as long as its next block takes, not as long as all of them.
#[tokio::test]
async fn blocks_that_come_slowly_are_waited_for() {
    let (mut chain, publish) = committed();
    let (made, mut asked) = (chain.tip().height, 0);
    let url = serve(move |_, params| {
        // One in two questions finds a new block: some 400 ms for each.
        asked += 1;
        if asked % 2 == 0 {
            advance(&mut chain, None);
        }
        (prove(&chain, params), Duration::ZERO)
    })
    .await;
    let standstill = Duration::from_millis(1_300);
    let client = waiting(LedgerClient::new(&url).unwrap(), |waits| waits.standstill = standstill);
    let began = Instant::now();
    let ready = client.commit_first(&owner(), publish).await.unwrap();
    assert!(began.elapsed() > standstill, "the blocks came too soon to show anything");
    assert!(client.verified_header().await.unwrap().height >= made + BLOCKS - 1);
    assert!(matches!(ready, Payload::PublishModel { salt: Some(_), .. }));
}

/// Neither a height that nobody signed nor one from before ends the wait early, or makes it longer: the node is left at once.
#[tokio::test]
async fn a_node_that_lies_about_heights_is_left_at_once() {
    for forged in [true, false] {
        let (chain, publish) = committed();
        let known = chain.tip().height;
        let mut next = chain.clone();
        advance(&mut next, None);
        let mut asked = 0;
        let url = serve(move |_, params| {
            // Parameters, model and commitment are told as they are, and the first time the height, too.
            asked += 1;
            let mut told = match asked {
                0..4 => prove(&chain, params),
                4 => prove(&next, params),
                _ if forged => prove(&next, params),
                _ => prove(&chain, params),
            };
            if forged && asked > 4 {
                let header = &mut told["block"]["header"];
                header["height"] = json!(FAR);
                header["time_ms"] = json!(header["time_ms"].as_u64().unwrap() + 1);
            }
            (told, Duration::ZERO)
        })
        .await;
        let client = LedgerClient::new(&url).unwrap();
        let key = owner();
        let ended = tokio::time::timeout(SOON, client.commit_first(&key, publish)).await;
        let error = ended.expect("it gives up").unwrap_err();
        if forged {
            let light = |source: &SubjectError| {
                matches!(source, SubjectError::Light(LightError::Certificate { height: FAR, .. }))
            };
            assert!(matches!(&error, LedgerError::Untrue { source, .. } if light(source)), "{error}");
        } else {
            let old = matches!(error, LedgerError::Behind { known: newest, found, .. } if (newest, found) == (known + 1, known));
            assert!(old, "{error}");
        }
    }
}

#[test]
fn what_may_not_wait_is_told_with_its_numbers() {
    let refusal = PoolRefusal::Gapped { missing: 3, limit: 16, found: 20 };
    let fault = |code: i64, data: Value| -> RpcFault {
        serde_json::from_value(json!({ "code": code, "message": "no", "data": data })).unwrap()
    };
    let data = json!({ "reason": "gapped", "missing": 3, "limit": 16, "found": 20 });
    assert_eq!(fault(NOT_POOLED, data.clone()).not_pooled(), Some(refusal));
    assert_eq!(fault(REJECTED, data).not_pooled(), None);
    // Why another version does not take it in.
    assert_eq!(fault(NOT_POOLED, json!({ "reason": "a new one" })).not_pooled(), None);
}

/// A node that has a transaction and tells nobody what became of it is sent the same one again, not another with the next number.
#[tokio::test]
async fn what_was_taken_in_is_not_signed_again() {
    let sent: Arc<StdMutex<Vec<Value>>> = Arc::default();
    let answer = |State(sent): State<Arc<StdMutex<Vec<Value>>>>, Json(call): Json<Value>| async move {
        let mut sent = sent.lock().unwrap();
        sent.push(call["params"]["tx"].clone());
        let data = json!({ "reason": "waits_of_address", "limit": 1 });
        let busy = json!({ "code": BUSY, "message": "taken in: ask for it again", "data": data });
        let rejected =
            json!({ "code": REJECTED, "message": "no", "data": { "reason": "nothing_to_change" } });
        let error = if sent.len() < 3 { busy } else { rejected };
        Json(json!({ "jsonrpc": "2.0", "id": call["id"], "error": error }))
    };
    let router = Router::new().route("/", post(answer)).with_state(Arc::clone(&sent));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let ledger = LedgerClient::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let node = tokio::spawn(async move { axum::serve(listener, router).await });
    let (sender, payload) = (owner().address(), Payload::Withdraw {});
    let tx = Tx { chain_id: CHAIN, sender, nonce: 0, expires_height: 9, fee: Amount::ZERO, payload };
    let told = ledger.send_until_told(&tx.sign(&owner())).await.unwrap_err();
    assert!(matches!(told, LedgerError::Rejected(_)), "{told}");
    let sent = sent.lock().unwrap();
    assert!(sent.len() == 3 && sent.iter().all(|tx| *tx == sent[0]), "{sent:?}");
    node.abort();
}
