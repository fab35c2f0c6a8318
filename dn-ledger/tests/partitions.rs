//! Four validators in network namespaces, cut apart 3|1 and 2|2 and joined again: with a quorum the chain goes on, without one it
//! stops, joined it goes on everywhere, and it is one chain.
//!
//! Needs root and `ip`: `sudo -E cargo test -p dn-ledger --features node --test partitions -- --ignored --nocapture`, about a minute.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a long run says how far it is")]
#![cfg(target_os = "linux")]

#[path = "replication/cluster.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod cluster;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cluster::{genesis, key, validator};
use dn_ledger::node::{NetworkConfig, Node, NodeConfig};
use dn_ledger::views::{BlockView, StatusView};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const CHILD: &str = "DN_PARTITION_CHILD";
const NODES: usize = 4;
const PATIENCE: Duration = Duration::from_secs(90);

/// The child: a node in a namespace. Does nothing when run as a test.
#[test]
fn child_node() {
    let Ok(what) = std::env::var(CHILD) else { return };
    let what: Value = serde_json::from_str(&what).unwrap();
    let index = what["index"].as_u64().unwrap() as usize;
    let peers = (0..NODES).filter(|i| *i != index).map(peer).collect();
    let network = NetworkConfig { listen: peer(index), peers, closed: false };
    let dir = PathBuf::from(what["dir"].as_str().unwrap());
    let alone = NodeConfig::alone(dir, genesis(&[10; NODES], 50), rpc(index), key(&validator(index)), 200);
    let config = NodeConfig { network: Some(network), unsigned_from: Some(1), ..alone };
    tracing_subscriber::fmt().with_env_filter("warn").with_writer(std::io::stderr).init();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let node = Node::start(config).await.unwrap();
        node.production_ended().await;
        panic!("consensus ended by itself");
    });
}

/// Where a node meets the others: on a bridge that can be cut.
fn peer(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 213, 77, u8::try_from(index).unwrap() + 1], 26_656))
}

/// Where this test asks it: over a link of its own.
fn rpc(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 214, u8::try_from(index).unwrap(), 2], 8_090))
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(done.success(), "ip {arguments}");
}

struct Networks {
    tag: String,
    children: Vec<Child>,
}

impl Networks {
    fn start(dir: &std::path::Path) -> Self {
        let tag = format!("dn{}", std::process::id());
        let mut networks = Self { tag: tag.clone(), children: Vec::new() };
        for side in ["a", "b"] {
            ip(&format!("link add {tag}{side} type bridge"));
            ip(&format!("link set {tag}{side} up"));
        }
        for i in 0..NODES {
            ip(&format!("netns add {tag}-{i}"));
            ip(&format!("link add {tag}v{i} type veth peer name eth0 netns {tag}-{i}"));
            ip(&format!("link set {tag}v{i} master {tag}a up"));
            ip(&format!("-n {tag}-{i} addr add {}/24 dev eth0", peer(i).ip()));
            ip(&format!("link add {tag}m{i} type veth peer name ask0 netns {tag}-{i}"));
            ip(&format!("addr add 10.214.{i}.1/30 dev {tag}m{i}"));
            ip(&format!("link set {tag}m{i} up"));
            ip(&format!("-n {tag}-{i} addr add {}/30 dev ask0", rpc(i).ip()));
            for device in ["lo", "eth0", "ask0"] {
                ip(&format!("-n {tag}-{i} link set {device} up"));
            }
        }
        for i in 0..NODES {
            let what = json!({ "index": i, "dir": dir.join(i.to_string()) });
            let child = Command::new("ip")
                .args(["netns", "exec", &format!("{tag}-{i}")])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", "child_node", "--nocapture"])
                .env(CHILD, what.to_string())
                .stdout(Stdio::null())
                .spawn();
            networks.children.push(child.unwrap());
        }
        networks
    }

    /// Moves nodes to one side of the cut.
    fn side(&self, side: &str, nodes: &[usize]) {
        nodes.iter().for_each(|i| ip(&format!("link set {0}v{i} master {0}{side}", self.tag)));
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let quiet = |arguments: String| {
            let _ = Command::new("ip").args(arguments.split(' ')).stderr(Stdio::null()).status();
        };
        (0..NODES).for_each(|i| quiet(format!("netns del {}-{i}", self.tag)));
        ["a", "b"].iter().for_each(|side| quiet(format!("link del {}{side}", self.tag)));
    }
}

async fn get<T: DeserializeOwned>(index: usize, method: &str, params: Value) -> T {
    let answer = cluster::call(rpc(index), method, params).await;
    serde_json::from_value(answer["result"].clone()).unwrap_or_else(|e| panic!("{method}: {e}: {answer}"))
}

async fn height(index: usize) -> u64 {
    get::<StatusView>(index, "dn_status", json!({})).await.height
}

async fn reach(nodes: &[usize], target: u64) {
    let began = Instant::now();
    for i in nodes {
        while height(*i).await < target {
            assert!(began.elapsed() < PATIENCE, "node {i} is at {}, not at {target}", height(*i).await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn cut_networks_never_decide_two_chains() {
    let dir = tempfile::tempdir().unwrap();
    let networks = Networks::start(dir.path());
    for i in 0..NODES {
        let began = Instant::now();
        while std::net::TcpStream::connect_timeout(&rpc(i), Duration::from_millis(200)).is_err() {
            assert!(began.elapsed() < PATIENCE, "node {i} does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    reach(&[0, 1, 2, 3], 5).await;

    networks.side("b", &[3]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (three, one) = (height(0).await, height(3).await);
    reach(&[0, 1, 2], three + 8).await;
    assert!(height(3).await <= one + 1, "one of four decided alone");
    println!("3|1: three went on to {}, one stayed at {}", height(0).await, height(3).await);
    networks.side("a", &[3]);
    let joined = Instant::now();
    reach(&[3], height(0).await).await;
    println!("joined: it caught up after {:?}", joined.elapsed());

    networks.side("b", &[2, 3]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let halves = (height(0).await, height(2).await);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((height(0).await, height(2).await), halves, "half of the power decided");
    networks.side("a", &[2, 3]);
    let (joined, last) = (Instant::now(), halves.0.max(halves.1) + 1);
    reach(&[0, 1, 2, 3], last).await;
    println!("2|2: both stood at {halves:?}; joined, they went on after {:?}", joined.elapsed());
    reach(&[0, 1, 2, 3], last + 6).await;

    for h in 1..=last + 6 {
        let first: BlockView = get(0, "dn_block", json!({ "height": h })).await;
        for i in 1..NODES {
            let other: BlockView = get(i, "dn_block", json!({ "height": h })).await;
            assert_eq!(other.hash, first.hash, "node {i} has another block {h}");
        }
    }
    println!("one chain of {} blocks", last + 6);
}
