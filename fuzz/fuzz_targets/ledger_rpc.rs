//! Bodies of JSON-RPC requests: no panic, and an answer of JSON-RPC's form.
//! `dn-ledger/tests/openrpc/arbitrary.rs` tries the same on every test run.
#![no_main]

use std::sync::OnceLock;

use dn_core::{Amount, SecretKey};
use dn_ledger::node::{Node, NodeConfig};
use dn_ledger::{Devnet, DevnetValidator, Genesis, Params};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tokio::runtime::Runtime;

fn genesis(key: &SecretKey) -> Genesis {
    let address = key.address();
    let (name, endpoint, stake) = ("v".into(), "in-process".into(), Amount::from_dn(1_000));
    let validator = DevnetValidator { address, name, endpoint, stake };
    let devnet =
        Devnet { chain_id: 7, time_ms: 1, faucet: address, funded: vec![], validators: vec![validator] };
    Genesis::devnet(&devnet, Params::devnet()).expect("valid")
}

fn node() -> &'static (Runtime, Node) {
    static NODE: OnceLock<(Runtime, Node)> = OnceLock::new();
    NODE.get_or_init(|| {
        let runtime = Runtime::new().expect("a runtime");
        let key = SecretKey::from_bytes(&[5; 32]).expect("in range");
        let dir = std::env::temp_dir().join(format!("dn-fuzz-rpc-{}", std::process::id()));
        let listen = "127.0.0.1:0".parse().expect("an address");
        let config = NodeConfig::alone(dir, genesis(&key), listen, key, 60_000);
        let node = runtime.block_on(Node::start(config)).expect("starts");
        (runtime, node)
    })
}

fn check(answer: &Value) {
    let Value::Object(fields) = answer else {
        return answer.as_array().expect("an answer or a batch of them").iter().for_each(check);
    };
    assert_ne!(fields.contains_key("result"), fields.contains_key("error"));
    // The node's own failure is none that a caller may cause.
    assert_ne!(fields.get("error").map(|error| &error["code"]), Some(&Value::from(-32_603)));
}

fuzz_target!(|input: &[u8]| {
    let (runtime, node) = node();
    if let Some(answer) = runtime.block_on(node.answer(input)) {
        check(&serde_json::from_slice(&answer).expect("an answer is JSON"));
    }
});
