//! The OpenRPC document is what the service does: it is made of the same table, and what a node answers fits it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arbitrary;
#[path = "../common/mod.rs"]
mod common;
mod schema;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use common::{CHAIN_ID, World, address, dn, key, offer, params, price, solo_genesis};
use dn_core::objects::SessionGrant;
use dn_core::{BatchId, Canonical, ChannelId, Hash32, JobId, ModelId, Signed};
use dn_ledger::node::{History, Node, NodeConfig, openrpc};
use dn_ledger::tx::{BackingTerms, Licence, NewJob, NewVersion, ProposalKind, channel_id, escrow_id};
use dn_ledger::{Payload, Role, SignedTx, Tx};
use schema::Schemas;
use serde_json::{Value, json};

const REGENERATE: &str = "cargo run -p dn -- ledger openrpc > docs/openrpc.json";

#[test]
fn the_committed_document_is_the_generated_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openrpc.json");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let committed: Value = serde_json::from_str(&text).unwrap_or_default();
    assert!(committed == openrpc(), "docs/openrpc.json is out of date; regenerate it with: {REGENERATE}");
    // As the command prints it, to the byte.
    assert!(
        text == format!("{:#}\n", openrpc()),
        "docs/openrpc.json is not as printed; regenerate it with: {REGENERATE}"
    );
}

/// One call over HTTP.
fn call(addr: SocketAddr, method: &str, params: &Value) -> Value {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{method}: {e}: {answer}"))
}

/// Sends transactions of one sender after the other.
struct Sender {
    addr: SocketAddr,
    nonces: BTreeMap<String, u64>,
}

impl Sender {
    fn raw(&mut self, name: &str, payload: Payload) -> SignedTx {
        let nonce = self.nonces.entry(name.to_owned()).or_default();
        let fee = params().min_tx_fee;
        let tx = Tx {
            chain_id: CHAIN_ID,
            sender: address(name),
            nonce: *nonce,
            expires_height: 900,
            fee,
            payload,
        };
        *nonce += 1;
        tx.sign(&key(name))
    }

    fn ok(&mut self, name: &str, payload: Payload) -> SignedTx {
        let tx = self.raw(name, payload);
        let answer = call(self.addr, "dn_sendTransaction", &hex_of(&tx));
        assert!(answer.get("result").is_some(), "{answer}");
        tx
    }
}

fn hex_of(tx: &SignedTx) -> Value {
    json!({ "tx": dn_core::hexadecimal::to_hex(&tx.to_bytes()) })
}

/// What a node was told, by name.
struct Scene {
    tx: SignedTx,
    model: ModelId,
    channel: ChannelId,
    escrow: ChannelId,
    batch: BatchId,
}

/// One of most things that can be asked about.
fn populate(send: &mut Sender, w: &World) -> Scene {
    let register = |role, collateral| Payload::Register {
        role,
        collateral: dn(collateral),
        name: "somebody".into(),
        endpoint: "x:1".into(),
    };
    send.ok("owner", register(Role::ModelOwner, 10));
    send.ok("gateway", register(Role::Gateway, 100));
    send.ok("worker", register(Role::Worker, 1_000));
    let version = NewVersion {
        family: None,
        manifest: common::manifest(1),
        name: "tiny".into(),
        price: price(),
        domain: 0,
        licence: Licence { id: "MIT".into(), derivatives: true, commercial: true, royalty_bps: 500 },
        parents: vec![],
        fees: None,
        backing: Some(BackingTerms { share_bps: 1_000, cap: dn(100) }),
        salt: None,
    };
    let model = version.manifest.id();
    send.ok("owner", Payload::PublishVersion { version });
    send.ok("owner", Payload::CommitModel { commitment: Hash32([4; 32]) });
    send.ok("worker", offer(model));
    send.ok("payer", Payload::BackModel { family: model, amount: dn(20) });
    let (payer, gateway) = (address("payer"), address("gateway"));
    let channel = channel_id(payer, gateway, send.nonces["payer"]);
    send.ok("payer", Payload::OpenChannel { payee: gateway, deposit: dn(100), spender: address("spender") });
    let escrow = escrow_id(payer, gateway, send.nonces["payer"]);
    let job = NewJob {
        worker: None,
        gateway,
        model,
        job: JobId([5; 32]),
        price: price(),
        amount: dn(1),
        expires_height: 1_000,
        bond: dn(2),
    };
    send.ok("payer", Payload::LockJob { job });
    let grant = SessionGrant {
        chain_id: CHAIN_ID,
        owner: payer,
        session: address("session"),
        serial: 1,
        per_call: dn(1),
        total: dn(5),
        models: vec![model],
        expires_ms: u64::MAX,
    };
    send.ok("payer", Payload::GrantSession { grant: Signed::sign(grant, &key("payer")) });
    let kind = ProposalKind::Text {};
    let deposit = w.genesis.params.governance.min_deposit;
    send.ok("payer", Payload::Propose { title: "t".into(), text: "x".into(), kind, deposit });
    let mut root =
        w.root("worker", vec![dn_core::objects::BatchLine { channel, model, ..w.line(0, 3, dn(1)) }]);
    root.expires_ms = u64::MAX;
    let batch = root.id();
    let voucher = dn_core::objects::Voucher {
        chain_id: CHAIN_ID,
        channel,
        lane: 0,
        max_claimable: dn(1),
        signer: address("spender"),
        expires_ms: u64::MAX,
    };
    let vouchers = vec![Signed::sign(voucher, &key("spender"))];
    let tx = send.ok("worker", Payload::PostBatch { batch: Signed::sign(root, &key("gateway")), vouchers });
    Scene { tx, model, channel, escrow, batch }
}

/// Calls of every method, and whether there is something to answer with.
fn examples(scene: &Scene, send: &mut Sender, snapshot: u64) -> Vec<(&'static str, Value, bool)> {
    let by_model = json!({ "id": scene.model });
    let of = |name: &str| json!({ "address": address(name) });
    let role = |name: &str, role: &str| json!({ "address": address(name), "role": role });
    let one = json!({ "height": 1 });
    let next = hex_of(&send.raw("stranger", Payload::Transfer { to: address("payer"), amount: dn(1) }));
    let mut all = vec![
        ("rpc.discover", json!({}), true),
        ("dn_status", json!({}), true),
        ("dn_params", json!({}), true),
        ("dn_supply", json!({}), true),
        ("dn_balances", json!({}), true),
        ("dn_pools", json!({ "limit": 2 }), true),
        ("dn_beacon", json!({}), true),
        ("dn_block", one.clone(), true),
        ("dn_block", json!({ "height": 9_999_999 }), false),
        ("dn_header", one, true),
        ("dn_tx", json!({ "id": scene.tx.id() }), true),
        ("dn_txProof", json!({ "id": scene.tx.id() }), true),
        ("dn_events", json!({ "from_height": 1 }), true),
        ("dn_snapshots", json!({}), true),
        ("dn_snapshot", json!({ "height": snapshot }), true),
        ("dn_snapshotChunk", json!({ "height": snapshot, "index": 0 }), true),
        ("dn_snapshotChunk", json!({ "height": snapshot, "index": 99_999 }), false),
        ("dn_account", of("v1"), true),
        ("dn_stakes", of("v1"), true),
        ("dn_unbonding", of("v1"), true),
        ("dn_redelegations", of("v1"), true),
        ("dn_backings", of("payer"), true),
        ("dn_backingReleases", of("payer"), true),
        ("dn_modelCommitments", json!({ "owner": address("owner") }), true),
        ("dn_modelWorkers", by_model.clone(), true),
        ("dn_identity", role("v1", "validator"), true),
        ("dn_identity", role("worker", "worker"), true),
        ("dn_identity", role("worker", "gateway"), false),
        ("dn_identities", json!({ "role": "validator" }), true),
        ("dn_trust", role("worker", "worker"), true),
        ("dn_channel", json!({ "id": scene.channel }), true),
        ("dn_sessions", json!({ "owner": address("payer") }), true),
        ("dn_agent", of("worker"), true),
        ("dn_agentReputation", of("worker"), true),
        ("dn_agentValidations", of("worker"), true),
        ("dn_model", by_model.clone(), true),
        ("dn_models", json!({}), true),
        ("dn_modelTerms", by_model.clone(), true),
        ("dn_modelTrust", by_model.clone(), false),
        ("dn_family", by_model, true),
        ("dn_backing", of("payer"), true),
        ("dn_domain", json!({ "id": 0 }), true),
        ("dn_domains", json!({}), true),
        ("dn_offer", json!({ "model": scene.model, "worker": address("worker") }), true),
        ("dn_job", json!({ "id": scene.escrow }), true),
        ("dn_jobs", json!({}), true),
        ("dn_batch", json!({ "id": scene.batch }), true),
        ("dn_batches", json!({ "worker": address("worker") }), true),
        ("dn_audits", json!({}), true),
        ("dn_audits", json!({ "open": true, "auditor": address("v1") }), true),
        ("dn_dispute", json!({ "batch": scene.batch, "index": 0 }), false),
        ("dn_disputes", json!({}), true),
        ("dn_qualityRounds", json!({}), true),
        ("dn_proposal", json!({ "id": 0 }), true),
        ("dn_proposals", json!({ "open": true }), true),
        ("dn_upgrades", json!({}), true),
        ("dn_sendTransaction", next, true),
    ];
    let subjects = [
        json!({ "kind": "account", "address": address("payer") }),
        json!({ "kind": "batch_at", "worker": address("worker"), "sequence": 0 }),
        json!({ "kind": "family", "id": scene.model }),
        json!({ "kind": "session", "owner": address("payer"), "session": address("session") }),
        json!({ "kind": "params" }),
    ];
    all.extend(subjects.map(|subject| ("dn_prove", json!({ "subject": subject }), true)));
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_answers_what_its_schema_says() {
    let dir = tempfile::tempdir().unwrap();
    let rpc = "127.0.0.1:0".parse().unwrap();
    let mut config = NodeConfig::alone(dir.path().to_owned(), solo_genesis(params()), rpc, key("v1"), 200);
    config.history = HISTORY;
    let node = Node::start(config).await.unwrap();
    let addr = node.rpc_addr();
    tokio::task::spawn_blocking(move || {
        let mut send = Sender { addr, nonces: BTreeMap::new() };
        let scene = populate(&mut send, &World::bare());
        let snapshot = loop {
            let heights = call(addr, "dn_snapshots", &json!({}))["result"]["heights"].clone();
            if let Some(height) = heights.as_array().and_then(|all| all.last()).and_then(Value::as_u64) {
                break height;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        check_all(addr, &examples(&scene, &mut send, snapshot));
    })
    .await
    .unwrap();
    node.shutdown().await;
}

/// A snapshot every few blocks.
const HISTORY: History = History { keep_blocks: None, snapshot_blocks: Some(5), keep_snapshots: 1_000 };

fn check_all(addr: SocketAddr, examples: &[(&str, Value, bool)]) {
    let document = call(addr, "rpc.discover", &json!({}))["result"].clone();
    assert_eq!(document, openrpc());
    let schemas = Schemas(document["components"]["schemas"].as_object().unwrap());
    let methods = document["methods"].as_array().unwrap();
    for (method, params, found) in examples {
        let described = methods.iter().find(|m| m["name"] == *method).unwrap_or_else(|| panic!("{method}"));
        let fields = described["params"].as_array().unwrap();
        for (name, value) in params.as_object().unwrap() {
            let field =
                fields.iter().find(|f| f["name"] == **name).unwrap_or_else(|| panic!("{method}: {name}"));
            schemas.check(&field["schema"], value).unwrap_or_else(|e| panic!("{method}: {name}: {e}"));
        }
        let missing = fields
            .iter()
            .find(|f| f["required"] == true && params.get(f["name"].as_str().unwrap()).is_none());
        assert_eq!(missing, None, "{method}");
        let answer = call(addr, method, params);
        let result = answer.get("result").unwrap_or_else(|| panic!("{method}: {answer}"));
        assert!(!result.is_null() || !found, "{method}: {result}");
        let schema = &described["result"]["schema"];
        schemas.check(schema, result).unwrap_or_else(|e| panic!("{method}: {e}"));
        // The schema says something: not every value fits.
        assert!(schemas.check(schema, &json!([7.5])).is_err(), "{method}");
    }
    for described in methods {
        let method = described["name"].as_str().unwrap();
        assert!(examples.iter().any(|(name, ..)| *name == method), "{method} has no example");
        let params = &examples.iter().find(|(name, ..)| *name == method).unwrap().1;
        let mut unknown = params.clone();
        unknown["bogus"] = json!(1);
        let error = call(addr, method, &unknown)["error"].clone();
        assert_eq!(error["code"], -32_602, "{method}: {error}");
        assert!(error["message"].as_str().unwrap().contains("`bogus`"), "{method}: {error}");
        for field in described["params"].as_array().unwrap() {
            let name = field["name"].as_str().unwrap();
            let mut bad = params.clone();
            bad[name] = json!([7.5]);
            let error = call(addr, method, &bad)["error"].clone();
            assert_eq!(error["code"], -32_602, "{method}: {error}");
            assert!(schemas.check(&field["schema"], &json!([7.5])).is_err(), "{method}: {name}");
            if field["required"] == true {
                bad.as_object_mut().unwrap().remove(name);
                let error = call(addr, method, &bad)["error"].clone();
                assert!(
                    error["message"].as_str().unwrap().contains(&format!("`{name}`")),
                    "{method}: {error}"
                );
            }
        }
    }
}
