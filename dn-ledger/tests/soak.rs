//! Four validators as processes, killed at random moments, any number of them at once, while clients send transfers: no fork,
//! nothing acknowledged is lost, the books balance, and the chain always goes on. One of them also has its files damaged now and then
//! while it is down: it goes on, or says why not, begins anew without them, and signs nothing twice.
//!
//! `cargo test -p dn-ledger --features node --test soak -- --ignored --nocapture` takes about 20 minutes for 500 kills;
//! `DN_SOAK_KILLS` is another number, `DN_SOAK_SEED` another course. The short one runs with all tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a long run says how far it is")]

#[path = "replication/cluster.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod cluster;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cluster::{CHAIN_ID, address, genesis, hex_of, key, validator};
use dn_core::Amount;
use dn_ledger::node::{NetworkConfig, Node, NodeConfig, Store, free_addrs};
use dn_ledger::state::{IDENTITIES, IdentityStatus};
use dn_ledger::{Payload, Role, SignedTx, Tx};
use serde_json::{Value, json};

const CHILD: &str = "DN_SOAK_CHILD";
const NODES: usize = 4;
const STAKES: [u64; NODES] = [40, 30, 20, 10];
/// Longest time without a block while all run.
const PATIENCE: Duration = Duration::from_secs(90);

/// The child: a node that runs until it is killed. Does nothing when run as a test.
#[test]
fn child_node() {
    let Ok(what) = std::env::var(CHILD) else { return };
    let what: Value = serde_json::from_str(&what).unwrap();
    let ports: Vec<u16> = serde_json::from_value(what["ports"].clone()).unwrap();
    let index = what["index"].as_u64().unwrap() as usize;
    let at = |port: &u16| SocketAddr::from(([127, 0, 0, 1], *port));
    let peers = ports.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, port)| at(port)).collect();
    let network = NetworkConfig { listen: at(&ports[index]), peers, closed: false };
    let dir = PathBuf::from(what["dir"].as_str().unwrap());
    let alone = NodeConfig::alone(dir, genesis(&STAKES, 20), at(&0), key(&validator(index)), 100);
    let unsigned_from = what["first"].as_bool().unwrap().then_some(1);
    let config = NodeConfig { network: Some(network), unsigned_from, propose_timeout_ms: 700, ..alone };
    tracing_subscriber::fmt().with_env_filter("warn").with_writer(std::io::stderr).init();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let node = match Node::start(config).await {
            Ok(node) => node,
            // Damage that was noticed.
            Err(error) => return println!("\nrefused {error}"),
        };
        println!("\nlistening {}", node.rpc_addr());
        node.production_ended().await;
        panic!("consensus ended by itself: {}", node.failure().map_or_else(String::new, ToString::to_string));
    });
}

/// A number that follows from the one before: the course can be run again.
struct Course(u64);

impl Course {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

struct Network {
    dir: PathBuf,
    ports: Vec<u16>,
    children: Vec<Option<Child>>,
    rpc: Arc<Mutex<Vec<Option<SocketAddr>>>>,
    /// Whose files were damaged: it may end.
    damaged: Option<usize>,
    /// How often a node was asked what it has seen, and did answer.
    asked: u32,
    answered: u32,
}

impl Network {
    fn start(dir: &Path) -> Self {
        let ports = free_addrs(NODES).unwrap().iter().map(SocketAddr::port).collect();
        let children = (0..NODES).map(|_| None).collect();
        let rpc = Arc::new(Mutex::new(vec![None; NODES]));
        let mut network =
            Self { dir: dir.to_owned(), ports, children, rpc, damaged: None, asked: 0, answered: 0 };
        (0..NODES).for_each(|i| network.launch(i, true));
        (0..NODES).for_each(|i| network.wait_up(i).unwrap());
        network
    }

    fn launch(&mut self, index: usize, first: bool) {
        let what =
            json!({ "dir": self.node_dir(index), "index": index, "ports": self.ports, "first": first });
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join(format!("{index}.log")));
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_node", "--nocapture"])
            .env(CHILD, what.to_string())
            .stdout(Stdio::piped())
            .stderr(log.unwrap())
            .spawn();
        self.children[index] = Some(child.unwrap());
    }

    /// Waits until a node serves; what it says if it refuses its files.
    fn wait_up(&mut self, index: usize) -> Result<(), String> {
        let stdout = self.children[index].as_mut().unwrap().stdout.take().unwrap();
        let mut lines = BufReader::new(stdout).lines();
        for line in lines.by_ref() {
            let line = line.unwrap();
            if let Some(error) = line.strip_prefix("refused ") {
                self.children[index].take().unwrap().wait().unwrap();
                return Err(error.to_owned());
            }
            if let Some(addr) = line.strip_prefix("listening ") {
                self.rpc.lock().unwrap()[index] = Some(addr.parse().unwrap());
                // After a minute the child's test harness writes another line, and ends if nobody reads it.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(());
            }
        }
        panic!("node {index} did not start: {}", self.log(index));
    }

    fn kill(&mut self, index: usize) {
        let may_have_ended = self.damaged == Some(index);
        assert!(
            may_have_ended || !self.has_ended(index),
            "node {index} ended by itself: {}",
            self.log(index)
        );
        // What it saw others do is forgotten with it.
        if let Some(addr) = self.rpc.lock().unwrap()[index].take() {
            self.asked += 1;
            self.answered += u32::from(saw_no_equivocation(addr));
        }
        let mut child = self.children[index].take().unwrap();
        let _ = child.kill();
        child.wait().unwrap();
    }

    fn has_ended(&mut self, index: usize) -> bool {
        self.children[index].as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// Flips a bit of one of a node's files, or cuts it off; what it did.
    fn damage(&mut self, index: usize, course: &mut Course) -> String {
        self.damaged = Some(index);
        let mut files = Vec::new();
        for dir in [self.node_dir(index), self.node_dir(index).join("consensus")] {
            let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
            files.extend(entries.filter(|path| path.is_file() && path.metadata().unwrap().len() > 0));
        }
        files.sort();
        let path = &files[course.below(files.len() as u64) as usize];
        let mut bytes = std::fs::read(path).unwrap();
        let (at, cut) = (course.below(bytes.len() as u64) as usize, course.below(2) == 0);
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << course.below(8);
        }
        std::fs::write(path, bytes).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        format!("{name} {} {at}", if cut { "cut off at" } else { "bit flipped at" })
    }

    /// Starts a node again as its message says, or with nothing: its key may have signed what it does not know.
    fn begin_anew(&mut self, index: usize, reason: &str) {
        self.rpc.lock().unwrap()[index] = None;
        if reason.contains("move `consensus/engine.wal` away") {
            std::fs::remove_file(self.node_dir(index).join("consensus/engine.wal")).unwrap();
        } else {
            std::fs::remove_dir_all(self.node_dir(index)).unwrap();
        }
        self.launch(index, false);
        self.wait_up(index).unwrap();
    }

    fn node_dir(&self, index: usize) -> PathBuf {
        self.dir.join(index.to_string())
    }

    fn log(&self, index: usize) -> String {
        let text = std::fs::read_to_string(self.dir.join(format!("{index}.log"))).unwrap_or_default();
        text.lines().rev().take(12).collect::<Vec<_>>().join("\n")
    }

    fn heights(&self) -> Vec<u64> {
        let addresses: Vec<_> = self.rpc.lock().unwrap().clone();
        let height = |addr: SocketAddr| call(addr, "dn_status", json!({}))?["result"]["height"].as_u64();
        addresses.into_iter().flatten().filter_map(height).collect()
    }

    /// Waits for a block more than there was anywhere, at every node.
    fn wait_progress(&mut self, round: u64, victim: &mut Victim) {
        let target = self.heights().into_iter().max().unwrap_or(0) + 1;
        let mut began = Instant::now();
        while self.heights().iter().filter(|h| **h >= target).count() < NODES {
            if victim.look_after(self) {
                began = Instant::now();
            }
            if began.elapsed() > PATIENCE {
                let logs: Vec<_> = (0..NODES).map(|i| self.log(i)).collect();
                panic!(
                    "round {round}: height {target} not reached: {:?}\n{}",
                    self.heights(),
                    logs.join("\n---\n")
                );
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }
}

/// The node whose files are damaged: always the same one, and not the strongest, so that the others are enough while its key only watches.
struct Victim {
    index: usize,
    damages: u64,
    refusals: u64,
    last: String,
}

impl Victim {
    fn damage(&mut self, network: &mut Network, course: &mut Course) {
        self.last = network.damage(self.index, course);
        self.damages += 1;
    }

    fn refused(&mut self, network: &mut Network, reason: &str) {
        assert!(self.damages > 0, "node {}: {reason}", self.index);
        println!("{}: {reason}", self.last);
        self.refusals += 1;
        network.begin_anew(self.index, reason);
    }

    /// Damage that is met only when it is read ends the node, which says so. Whether it had to begin again.
    fn look_after(&mut self, network: &mut Network) -> bool {
        let has_ended = network.has_ended(self.index);
        if has_ended {
            let log = network.log(self.index);
            let text = std::fs::read_to_string(network.dir.join(format!("{}.log", self.index))).unwrap();
            let said = text.lines().rev().find(|line| line.contains("consensus ended by itself"));
            let said = said.unwrap_or_else(|| panic!("ended without a word: {log}")).to_owned();
            self.refused(network, &said);
        }
        has_ended
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn call(addr: SocketAddr, method: &str, params: Value) -> Option<Value> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    serde_json::from_str(&request(addr, "POST /", &body)?).ok()
}

fn request(addr: SocketAddr, what: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let length = body.len();
    let head = format!("{what} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

/// Nobody signed two things where one is allowed, as far as a node has seen; false when it does not answer.
fn saw_no_equivocation(addr: SocketAddr) -> bool {
    let Some(metrics) = request(addr, "GET /metrics", "") else { return false };
    assert!(metrics.contains("\ndn_ledger_equivocations_total 0\n"), "{metrics}");
    true
}

/// Sends one transfer after the other, each until somebody acknowledges it.
fn client(name: &str, rpc: &Mutex<Vec<Option<SocketAddr>>>, stop: &AtomicBool) -> Vec<(SignedTx, Value)> {
    let (mut acknowledged, mut turn) = (Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let payload = Payload::Transfer { to: address("payee"), amount: Amount::from_atto(1) };
        let (sender, nonce) = (address(name), acknowledged.len() as u64);
        let fee = genesis(&STAKES, 20).params.min_tx_fee;
        let mut expires_height = 0;
        let answer = loop {
            turn += 1;
            let addr = rpc.lock().unwrap()[turn % NODES];
            if stop.load(Ordering::Relaxed) {
                return acknowledged;
            }
            let Some(addr) = addr else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            if expires_height == 0 {
                let Some(status) = call(addr, "dn_status", json!({})) else { continue };
                expires_height = status["result"]["height"].as_u64().unwrap() + 900;
            }
            let payload = payload.clone();
            let tx = Tx { chain_id: CHAIN_ID, sender, nonce, expires_height, fee, payload }.sign(&key(name));
            match call(addr, "dn_sendTransaction", hex_of(&tx)) {
                Some(answer) if answer.get("result").is_some() => break (tx, answer["result"].clone()),
                // Busy, or behind: the next node.
                Some(answer) if answer["error"]["code"] == -32_002 => {}
                // The height was of a node that had just begun anew, or this is one.
                Some(answer) if answer["error"]["data"]["reason"] == "expired" => expires_height = 0,
                Some(answer) if answer["error"]["data"]["reason"] == "expiry_too_far" => {}
                Some(answer) if answer["error"]["code"] == -32_001 => {
                    assert!(answer.to_string().contains("nonce"), "{name} {nonce}: {answer}");
                }
                _ => {}
            }
        };
        acknowledged.push(answer);
    }
    acknowledged
}

fn soak(kills: u64, seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut network = Network::start(dir.path());
    let (mut course, stop) = (Course(seed), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = ["payer", "faucet"]
        .into_iter()
        .map(|name| {
            let (rpc, stop) = (Arc::clone(&network.rpc), Arc::clone(&stop));
            std::thread::spawn(move || client(name, &rpc, &stop))
        })
        .collect();
    let (mut killed, mut round, began) = (0, 0, Instant::now());
    let mut victim =
        Victim { index: 1 + seed as usize % (NODES - 1), damages: 0, refusals: 0, last: String::new() };
    while killed < kills {
        std::thread::sleep(Duration::from_millis(20 + course.below(700)));
        // Mostly one, now and then all.
        let subset = match course.below(10) {
            0 => 15,
            1..=3 => 1 + course.below(15),
            _ => 1 << course.below(NODES as u64),
        };
        let chosen: Vec<_> = (0..NODES).filter(|i| subset & (1 << i) != 0).collect();
        victim.look_after(&mut network);
        for index in &chosen {
            network.kill(*index);
            killed += 1;
        }
        std::thread::sleep(Duration::from_millis(course.below(600)));
        if chosen.contains(&victim.index) && course.below(2) == 0 {
            victim.damage(&mut network, &mut course);
        }
        chosen.iter().for_each(|index| network.launch(*index, false));
        for index in &chosen {
            if let Err(error) = network.wait_up(*index) {
                assert_eq!(*index, victim.index, "refused to start: {error}");
                victim.refused(&mut network, &error);
            }
        }
        network.wait_progress(round, &mut victim);
        round += 1;
        if round % 20 == 0 {
            println!("{killed} kills, {round} rounds, height {:?}, {:?}", network.heights(), began.elapsed());
        }
    }
    stop.store(true, Ordering::Relaxed);
    let acknowledged: Vec<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    victim.look_after(&mut network);
    (0..NODES).for_each(|index| network.kill(index));
    // A node that is killed while it starts, or was damaged, has nothing to say.
    let Network { asked, answered, .. } = network;
    assert!(2 * answered > asked, "{answered} of {asked} answered");
    let Victim { index, damages, refusals, .. } = victim;
    check(&network, &acknowledged, (damages > 0).then_some(index));
    println!(
        "seed {seed}: {killed} kills, {round} rounds, {damages} damaged files of which {refusals} refused, {} acknowledged, {:?}",
        acknowledged.len(),
        began.elapsed()
    );
}

/// One chain everywhere, and everything acknowledged in it.
fn check(network: &Network, acknowledged: &[(SignedTx, Value)], damaged: Option<usize>) {
    assert!(acknowledged.len() > 5, "only {} acknowledged", acknowledged.len());
    // Opening checks every record, the commitment, the tip's certificate and the supply.
    let stores: Vec<_> =
        (0..NODES).map(|i| Store::open(&network.node_dir(i), &genesis(&STAKES, 20)).unwrap()).collect();
    let tips: Vec<_> = stores.iter().map(|(_, chain)| chain.tip().height).collect();
    let whole = tips.iter().enumerate().filter(|(index, _)| damaged != Some(*index));
    let longest = whole.max_by_key(|(_, tip)| **tip).unwrap().0;
    // Nor was anybody jailed for it.
    for index in 0..NODES {
        let identity =
            IDENTITIES.get(stores[longest].1.state(), &(Role::Validator, address(&validator(index))));
        assert_eq!(identity.unwrap().status, IdentityStatus::Active, "validator {index}");
    }
    for (index, (store, _)) in stores.iter().enumerate() {
        for height in 1..=tips[index].min(tips[longest]) {
            match store.block(height) {
                Ok(own) => {
                    let other = stores[longest].0.block(height).unwrap();
                    assert_eq!(own, other, "node {index} has another block {height}");
                }
                // An old block may be damaged without anybody having asked for it; it is never another one.
                Err(error) => assert_eq!(damaged, Some(index), "block {height}: {error}"),
            }
        }
    }
    for (tx, answer) in acknowledged {
        let found =
            stores[longest].0.outcome(tx.id()).unwrap().expect("an acknowledged transaction is in a block");
        assert_eq!(&serde_json::to_value(found).unwrap(), answer);
    }
}

#[test]
fn a_dozen_kills() {
    soak(12, 1);
}

#[test]
#[ignore = "takes about 20 minutes"]
fn many_kills() {
    let number =
        |name, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    soak(number("DN_SOAK_KILLS", 500), number("DN_SOAK_SEED", 1));
}
