//! SIGKILL at random moments while transactions are acknowledged: none that was acknowledged is lost, none applies twice.
//!
//! The test starts this same binary again as the node. About 10 s.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{CHAIN_ID, address, key, params, solo_genesis};
use dn_core::{Amount, Canonical, TxId};
use dn_ledger::node::{Node, NodeConfig, Store};
use dn_ledger::state::ACCOUNTS;
use dn_ledger::{Payload, SignedTx, Tx};
use serde_json::{Value, json};

const DIR: &str = "DN_LEDGER_KILL_TEST_DIR";
const ROUNDS: u32 = 30;

/// The child: a node that runs until it is killed. Does nothing when run as a test.
#[test]
fn child_node() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let config =
        NodeConfig::alone(dir.into(), solo_genesis(params()), "127.0.0.1:0".parse().unwrap(), key("v1"), 8);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let node = Node::start(config).await.unwrap();
        println!("\nlistening {}", node.rpc_addr());
        std::future::pending::<()>().await;
    });
}

fn start(dir: &Path) -> (Child, SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_node", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines {
        if let Some(addr) = line.unwrap().strip_prefix("listening ") {
            return (child, addr.parse().unwrap());
        }
    }
    panic!("the node did not start: {:?}", child.wait());
}

fn transfer(nonce: u64) -> SignedTx {
    let payload = Payload::Transfer { to: address("stranger"), amount: Amount::from_atto(1) };
    let (sender, fee, expires_height) = (address("faucet"), params().min_tx_fee, 1_000);
    Tx { chain_id: CHAIN_ID, sender, nonce, expires_height, fee, payload }.sign(&key("faucet"))
}

fn send(addr: SocketAddr, tx: &SignedTx) -> Option<Value> {
    let digits = dn_core::hexadecimal::to_digits(&tx.to_bytes());
    let body =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "dn_sendTransaction", "params": { "tx": digits } });
    let body = body.to_string();
    let mut stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let head =
        format!("POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let value: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
    value.get("result").cloned()
}

#[test]
fn no_acknowledged_transaction_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<(SignedTx, Value)> = Vec::new();
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..ROUNDS {
        let (mut child, addr) = start(dir.path());
        // What was acknowledged before the last kill is still there, with the same answer.
        if let Some((tx, answer)) = acknowledged.last() {
            assert_eq!(send(addr, tx).as_ref(), Some(answer));
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let life = Duration::from_millis(20 + (seed >> 33) % 400);
        let killer = std::thread::spawn(move || {
            std::thread::sleep(life);
            child.kill().unwrap();
            child.wait().unwrap();
        });
        let started = Instant::now();
        // Never acknowledged but perhaps applied: the first one of a round may already be in a block.
        while started.elapsed() < life + Duration::from_millis(200) {
            let tx = transfer(acknowledged.len() as u64);
            match send(addr, &tx) {
                Some(answer) => acknowledged.push((tx, answer)),
                None => break,
            }
        }
        killer.join().unwrap();
    }
    assert!(acknowledged.len() > ROUNDS as usize, "only {} acknowledged", acknowledged.len());
    let (store, chain) = Store::open(dir.path(), &solo_genesis(params())).unwrap();
    for (tx, answer) in &acknowledged {
        let found = store.outcome(tx.id()).unwrap().expect("an acknowledged transaction is in a block");
        assert_eq!(&serde_json::to_value(found).unwrap(), answer);
    }
    // At most the last one may have been applied without being acknowledged.
    let nonce = ACCOUNTS.get_or_default(chain.state(), &address("faucet")).nonce;
    assert!(nonce == acknowledged.len() as u64 || nonce == acknowledged.len() as u64 + 1);
    // And the block log holds each of them once.
    let mut seen = std::collections::BTreeSet::<TxId>::new();
    for height in 1..=chain.tip().height {
        let block = store.block(height).unwrap().expect("the log has no gaps");
        assert!(block.txs.iter().all(|tx| seen.insert(tx.id())));
    }
    assert_eq!(seen.len() as u64, nonce);
}
