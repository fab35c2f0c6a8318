//! Whatever is asked: an answer of JSON-RPC's form, never a panic.

use std::net::SocketAddr;

use dn_core::hexadecimal::to_hex;
use dn_ledger::node::{Node, NodeConfig};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::{key, params, solo_genesis};

/// Any JSON, with texts and numbers that the methods know among it.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0u64..4).prop_map(Value::from),
        any::<f64>().prop_map(|n| json!(n)),
        ".{0,12}".prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..70).prop_map(|bytes| to_hex(&bytes).into()),
        prop::collection::vec(any::<u8>(), 32).prop_map(|bytes| to_hex(&bytes).into()),
        prop::collection::vec(any::<u8>(), 20).prop_map(|bytes| to_hex(&bytes).into()),
        prop::sample::select(vec!["worker", "validator", "account", "batch_at", "family"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name(), inner, 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Names of parameters, and others.
fn name() -> impl Strategy<Value = String> {
    let known = [
        "address",
        "role",
        "id",
        "owner",
        "open",
        "height",
        "index",
        "subject",
        "worker",
        "limit",
        "after",
        "auditor",
        "from_height",
        "tx",
        "batch",
        "party",
        "kind",
        "sequence",
        "session",
    ];
    prop_oneof![4 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => ".{0,8}"]
}

fn call(methods: Vec<String>) -> impl Strategy<Value = Value> {
    let method = prop_oneof![
        8 => prop::sample::select(methods).prop_map(Value::from),
        1 => any_json(),
    ];
    let fields = prop::collection::btree_map(name(), any_json(), 0..4);
    let params = prop_oneof![
        4 => fields.prop_map(|fields| Value::Object(fields.into_iter().collect())),
        1 => any_json(),
    ];
    (method, params, any_json(), 0u8..10).prop_map(|(method, params, id, form)| match form {
        0 => json!({ "method": method, "params": params }),
        1 => json!({ "jsonrpc": "2.0", "method": method, "params": params, "id": id }),
        2 => json!({ "jsonrpc": "2.0", "method": method }),
        3 => params,
        _ => json!({ "jsonrpc": "2.0", "method": method, "params": params, "id": 1 }),
    })
}

/// What JSON-RPC 2.0 says of an answer; the node's own failure is none that a caller may cause.
fn check(answer: &Value) {
    let Value::Object(fields) = answer else {
        return answer.as_array().expect("an answer or a batch of them").iter().for_each(check);
    };
    assert_eq!(fields["jsonrpc"], "2.0");
    assert!(fields.contains_key("id"));
    assert_ne!(fields.contains_key("result"), fields.contains_key("error"), "{answer}");
    if let Some(error) = fields.get("error") {
        let code = error["code"].as_i64().expect("a code");
        assert!([-32_700, -32_600, -32_601, -32_602, -32_001, -32_002].contains(&code), "{answer}");
        assert!(error["message"].is_string());
    }
}

#[test]
fn whatever_is_asked_is_answered_in_form() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let rpc: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let config = NodeConfig::alone(dir.path().to_owned(), solo_genesis(params()), rpc, key("v1"), 500);
    let node = runtime.block_on(Node::start(config)).unwrap();
    let methods: Vec<String> = dn_ledger::node::openrpc()["methods"]
        .as_array()
        .unwrap()
        .iter()
        .map(|method| method["name"].as_str().unwrap().to_owned())
        .collect();
    let ask = |body: &[u8]| {
        if let Some(answer) = runtime.block_on(node.answer(body)) {
            check(&serde_json::from_slice(&answer).unwrap());
        }
    };
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 1_500,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let bodies = prop_oneof![
        6 => call(methods.clone()).prop_map(|call| call.to_string().into_bytes()),
        1 => prop::collection::vec(call(methods), 0..4).prop_map(|calls| Value::from(calls).to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ];
    runner
        .run(&bodies, |body| {
            ask(&body);
            Ok(())
        })
        .unwrap();
    runtime.block_on(node.shutdown());
}
