//! Several nodes of one chain in this process, over loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dn_core::{Address, Amount, Canonical, SecretKey, keccak256};
use dn_ledger::node::{History, NetworkConfig, Node, NodeConfig, free_addrs};
use dn_ledger::views::{AccountView, BlockView, StatusView, TxOutcome};
use dn_ledger::{Devnet, DevnetValidator, Genesis, Params, Payload, SignedTx, Tx};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const CHAIN_ID: u64 = 77;

pub(crate) fn key(name: &str) -> SecretKey {
    SecretKey::from_bytes(&keccak256(&[b"replication test", name.as_bytes()])).unwrap()
}

pub(crate) fn address(name: &str) -> Address {
    key(name).address()
}

pub(crate) fn validator(index: usize) -> String {
    format!("validator-{index}")
}

/// A chain of validators with these stakes in DN, a payer, and short epochs.
pub(crate) fn genesis(stakes: &[u64], epoch_blocks: u64) -> Genesis {
    let mut params = Params { epoch_blocks, ..Params::devnet() };
    (params.audit_times.commit_blocks, params.audit_times.reveal_blocks) = (10, 5);
    params.staking.min_self_bond = Amount::from_dn(1);
    let validators = stakes.iter().enumerate().map(|(index, stake)| DevnetValidator {
        address: address(&validator(index)),
        name: validator(index),
        endpoint: format!("127.0.0.1:{}", 26_656 + index),
        stake: Amount::from_dn(*stake),
    });
    let devnet = Devnet {
        chain_id: CHAIN_ID,
        time_ms: 1_700_000_000_000,
        faucet: address("faucet"),
        funded: vec![(address("payer"), Amount::from_dn(100_000))],
        validators: validators.collect(),
    };
    Genesis::devnet(&devnet, params).unwrap()
}

pub(crate) struct Cluster {
    pub(crate) genesis: Genesis,
    dirs: Vec<TempDir>,
    ports: Vec<u16>,
    keys: Vec<Option<SecretKey>>,
    pub(crate) nodes: Vec<Option<Node>>,
    nonce: u64,
    pub(crate) history: History,
    #[cfg(feature = "faults")]
    pub(crate) faults: Vec<Option<dn_ledger::node::Fault>>,
}

impl Cluster {
    /// Validators with these stakes, all started, and `followers` without a key.
    pub(crate) async fn start(stakes: &[u64], epoch_blocks: u64, followers: usize) -> Self {
        let mut cluster = Self::prepare(stakes, epoch_blocks, followers);
        cluster.start_all().await;
        cluster
    }

    pub(crate) async fn start_all(&mut self) {
        for index in 0..self.nodes.len() {
            self.start_node(index, true).await;
        }
    }

    /// The same, not started.
    pub(crate) fn prepare(stakes: &[u64], epoch_blocks: u64, followers: usize) -> Self {
        let count = stakes.len() + followers;
        let mut keys: Vec<_> = (0..stakes.len()).map(|i| Some(key(&validator(i)))).collect();
        keys.resize(count, None);
        Self {
            genesis: genesis(stakes, epoch_blocks),
            dirs: (0..count).map(|_| tempfile::tempdir().unwrap()).collect(),
            ports: free_addrs(count).unwrap().iter().map(SocketAddr::port).collect(),
            keys,
            nodes: (0..count).map(|_| None).collect(),
            nonce: 0,
            history: History::default(),
            #[cfg(feature = "faults")]
            faults: vec![None; count],
        }
    }

    /// Gives a node another key.
    pub(crate) fn set_key(&mut self, index: usize, name: &str) {
        self.keys[index] = Some(key(name));
    }

    /// Throws away what a node has on disk.
    pub(crate) fn wipe(&mut self, index: usize) {
        self.dirs[index] = tempfile::tempdir().unwrap();
    }

    pub(crate) fn config(&self, index: usize, new_key: bool) -> NodeConfig {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let others = self.ports.iter().enumerate().filter(|(other, _)| *other != index);
        let peers = others.map(|(_, port)| at(*port)).collect();
        let network = NetworkConfig { listen: at(self.ports[index]), peers, closed: false };
        let spare = key("nobody");
        let alone = NodeConfig::alone(self.dir(index), self.genesis.clone(), at(0), spare, 200);
        NodeConfig {
            key: self.keys[index].clone(),
            network: Some(network),
            unsigned_from: new_key.then_some(1),
            history: self.history,
            #[cfg(feature = "faults")]
            fault: self.faults[index],
            ..alone
        }
    }

    pub(crate) fn dir(&self, index: usize) -> PathBuf {
        self.dirs[index].path().to_owned()
    }

    pub(crate) async fn start_node(&mut self, index: usize, new_key: bool) {
        self.nodes[index] = Some(Node::start(self.config(index, new_key)).await.unwrap());
    }

    pub(crate) async fn stop_node(&mut self, index: usize) {
        self.nodes[index].take().unwrap().shutdown().await;
    }

    pub(crate) async fn stop(mut self) {
        for node in self.nodes.iter_mut().filter_map(Option::take) {
            node.shutdown().await;
        }
    }

    pub(crate) fn height(&self, index: usize) -> u64 {
        self.nodes[index].as_ref().unwrap().height()
    }

    pub(crate) fn top(&self) -> u64 {
        self.nodes.iter().flatten().map(Node::height).max().unwrap()
    }

    /// Waits until all running nodes are at this height.
    pub(crate) async fn reach(&self, height: u64, limit: Duration) {
        let running: Vec<_> = (0..self.nodes.len()).filter(|i| self.nodes[*i].is_some()).collect();
        let began = Instant::now();
        while running.iter().any(|i| self.height(*i) < height) {
            let heights: Vec<_> = running.iter().map(|i| (*i, self.height(*i))).collect();
            assert!(began.elapsed() < limit, "height {height} not reached in {limit:?}: {heights:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a node's key signs.
    pub(crate) async fn signs(&self, index: usize, limit: Duration) {
        let began = Instant::now();
        while self.metric(index, "dn_ledger_signing").await < 1.0 {
            assert!(began.elapsed() < limit, "node {index} does not sign within {limit:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) fn rpc(&self, index: usize) -> SocketAddr {
        self.nodes[index].as_ref().unwrap().rpc_addr()
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, index: usize, method: &str, params: Value) -> T {
        let answer = call(self.rpc(index), method, params).await;
        serde_json::from_value(answer["result"].clone()).unwrap_or_else(|e| panic!("{method}: {e}: {answer}"))
    }

    /// Sends a transfer of one DN to one node and waits for its block.
    pub(crate) async fn pay(&mut self, index: usize) -> TxOutcome {
        let tx = self.transfer();
        self.get(index, "dn_sendTransaction", hex_of(&tx)).await
    }

    /// The payer's next transfer of one DN.
    pub(crate) fn transfer(&mut self) -> SignedTx {
        let payload = Payload::Transfer { to: address("payee"), amount: Amount::from_dn(1) };
        self.sign("payer", payload)
    }

    pub(crate) fn sign(&mut self, who: &str, payload: Payload) -> SignedTx {
        assert_eq!(who, "payer", "only the payer's nonces are counted");
        let (sender, nonce, fee) = (address(who), self.nonce, self.genesis.params.min_tx_fee);
        self.nonce += 1;
        let expires_height = self.top() + 900;
        Tx { chain_id: CHAIN_ID, sender, nonce, expires_height, fee, payload }.sign(&key(who))
    }

    /// A number from a node's metrics.
    pub(crate) async fn metric(&self, index: usize, name: &str) -> f64 {
        let text = metrics(self.rpc(index)).await;
        let line =
            text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Checks that all running nodes have the same blocks up to the lowest tip, and that the state at equal tips is the same.
    pub(crate) async fn agree(&self) {
        self.agree_from(1).await;
    }

    /// The same, of the blocks from this height on.
    pub(crate) async fn agree_from(&self, first_height: u64) {
        let running: Vec<_> = (0..self.nodes.len()).filter(|i| self.nodes[*i].is_some()).collect();
        let lowest = running.iter().map(|i| self.height(*i)).min().unwrap();
        for height in (first_height..=lowest).rev().step_by(3) {
            let at = json!({ "height": height });
            let first: BlockView = self.get(running[0], "dn_block", at.clone()).await;
            for i in &running[1..] {
                let other: BlockView = self.get(*i, "dn_block", at.clone()).await;
                assert_eq!((other.hash, other.header), (first.hash, first.header.clone()), "height {height}");
            }
        }
        let payee = json!({ "address": address("payee") });
        for _ in 0..50 {
            let mut seen = Vec::new();
            for i in &running {
                let before: StatusView = self.get(*i, "dn_status", json!({})).await;
                let account: AccountView = self.get(*i, "dn_account", payee.clone()).await;
                seen.push((before.height, before.state, account.balance));
            }
            if seen.windows(2).all(|pair| pair[0].0 == pair[1].0) {
                assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
                return;
            }
        }
        panic!("the nodes were never at the same height");
    }
}

pub(crate) fn hex_of(tx: &SignedTx) -> Value {
    json!({ "tx": dn_core::hexadecimal::to_hex(&tx.to_bytes()) })
}

pub(crate) async fn call(addr: SocketAddr, method: &str, params: Value) -> Value {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let text = tokio::task::spawn_blocking(move || request(addr, "POST /", &body)).await.unwrap();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

pub(crate) async fn metrics(addr: SocketAddr) -> String {
    tokio::task::spawn_blocking(move || request(addr, "GET /metrics", "")).await.unwrap()
}

fn request(addr: SocketAddr, what: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    let length = body.len();
    let head = format!("{what} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned())
}
