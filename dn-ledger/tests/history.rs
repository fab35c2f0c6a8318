//! Snapshots, pruning, archives and the offline check: what is whole is accepted, what was changed anywhere is refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

#[path = "history/archives.rs"]
mod archives;

use std::path::Path;
use std::time::{Duration, Instant};

use common::counting::{Counting, RULES};
use common::{START_MS, World, address, dn, key, params, solo_genesis};
use dn_core::{Address, Amount, Canonical, keccak256};
use dn_ledger::light::{LightBlock, LightClient, TrustOptions};
use dn_ledger::node::{
    ArchiveError, CODE_PRUNED, CheckError, CheckOptions, CheckReport, History, JoinError, Node, NodeConfig,
    PastError, Peer, RestoreError, SnapshotFile, SnapshotFileError, SnapshotSource, Store, join,
};
use dn_ledger::params::DisputeParams;
use dn_ledger::snapshot::{Chunk, Export, Manifest, SnapshotError};
use dn_ledger::views::Pruned;
use dn_ledger::{BlockError, Chain, Genesis, Params, Payload, RefereeHandle};
use redb::ReadableTable;

/// A chain in a directory.
struct Stored {
    w: World,
    store: Store,
    dir: tempfile::TempDir,
}

impl Stored {
    fn step(&mut self, name: &str, payload: Payload) {
        self.w.ok(name, payload);
        let last = self.w.log.last().unwrap();
        self.store.commit(&last.block, self.w.chain.certificate(), &last.executed).unwrap();
    }

    fn block(&self) -> LightBlock {
        self.store.light_block(self.w.height()).unwrap().unwrap()
    }
}

fn stored(blocks: u64) -> Stored {
    stored_by(World::bare(), blocks)
}

fn stored_by(w: World, blocks: u64) -> Stored {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path(), &w.genesis).unwrap();
    let mut stored = Stored { w, store, dir };
    for n in 0..blocks {
        let to = address(["owner", "worker", "somebody new"][n as usize % 3]);
        match n % 5 {
            4 => stored.step("stranger", Payload::Stake { validator: address("v2"), amount: dn(20) }),
            _ => stored.step("payer", Payload::Transfer { to, amount: dn(n + 1) }),
        }
    }
    stored
}

/// A snapshot in many small chunks.
fn small_snapshot(s: &Stored) -> std::path::PathBuf {
    let state = s.w.state();
    let entries = state.entries().map(|(key, value)| (key.to_vec(), value.to_vec()));
    let export = Export::with_limit(s.block(), state.sealed(), entries, 300);
    assert!(export.manifest.pieces.len() > 5);
    SnapshotFile::write(s.dir.path(), &export).unwrap()
}

fn check(dir: &Path) -> Result<CheckReport, CheckError> {
    Store::check(dir, &CheckOptions::default())
}

fn holds_no_chain(dir: &Path) -> bool {
    !dir.join("ledger.redb").exists()
}

#[test]
fn a_snapshot_restores_and_the_chain_goes_on() {
    let mut s = stored(21);
    let export = s.store.export().unwrap();
    let path = SnapshotFile::write(s.dir.path(), &export).unwrap();
    assert_eq!(SnapshotFile::list(s.dir.path()).unwrap(), [21]);
    let other = tempfile::tempdir().unwrap();
    let mut file = SnapshotFile::open(&path).unwrap();
    let header = s.w.chain.tip().clone();
    let (store, mut chain) = Store::restore(other.path(), &s.w.genesis, &header, &mut file).unwrap();
    assert_eq!(chain.state(), s.w.state());
    assert_eq!((store.horizon().unwrap(), store.block(21).unwrap()), (22, None));
    assert_eq!(store.light_block(0).unwrap(), s.store.light_block(0).unwrap());
    assert_eq!(store.light_block(21).unwrap(), s.store.light_block(21).unwrap());

    s.step("payer", Payload::Transfer { to: address("owner"), amount: dn(1) });
    let last = s.w.log.last().unwrap();
    let executed = chain.validate(&last.block).unwrap();
    store.commit(&last.block, s.w.chain.certificate(), &executed).unwrap();
    chain.commit(&last.block.header, s.w.chain.certificate().clone(), &executed);
    assert_eq!(chain.tip(), s.w.chain.tip());
    let again = Store::restore(other.path(), &s.w.genesis, &header, &mut file);
    assert!(matches!(again, Err(RestoreError::NotEmpty { .. })));
    drop(store);
    let report = check(other.path()).unwrap();
    assert_eq!((report.height, report.horizon, report.replayed_from), (22, 22, None));
}

/// Whatever byte of a snapshot is changed, or wherever it ends: a typed error, and no chain in the directory.
#[test]
fn damaged_snapshots_are_refused() {
    let s = stored(12);
    let path = small_snapshot(&s);
    let (bytes, header) = (std::fs::read(&path).unwrap(), s.w.chain.tip().clone());
    let attempt = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let other = tempfile::tempdir().unwrap();
        let restored = SnapshotFile::open(&path)
            .map_err(RestoreError::from)
            .and_then(|mut file| Store::restore(other.path(), &s.w.genesis, &header, &mut file).map(|_| ()));
        assert!(restored.is_ok() || holds_no_chain(other.path()));
        restored
    };
    for at in (0..bytes.len()).step_by(61) {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(attempt(&bad).is_err(), "byte {at} of {}", bytes.len());
    }
    for end in [0, 7, 8, 11, 100, bytes.len() / 2, bytes.len() - 1] {
        assert!(attempt(&bytes[..end]).is_err(), "cut at {end}");
    }
    attempt(&bytes).unwrap();
    let mut file = SnapshotFile::open(&path).unwrap();
    let other = tempfile::tempdir().unwrap();
    let mut old = header.clone();
    old.height -= 1;
    let refused = Store::restore(other.path(), &s.w.genesis, &old, &mut file);
    assert!(matches!(refused, Err(RestoreError::Header { expected: 11, found: 12 })));
}

#[test]
fn manifests_and_chunks_prove_themselves() {
    let s = stored(12);
    let mut file = SnapshotFile::open(&small_snapshot(&s)).unwrap();
    let manifest = file.manifest().unwrap();
    manifest.verify().unwrap();
    let chunks: Vec<_> = (0..manifest.pieces.len()).map(|at| file.chunk(at).unwrap()).collect();
    for (at, chunk) in chunks.iter().enumerate() {
        manifest.verify_chunk(at, chunk).unwrap();
        // In another one's place.
        assert!(manifest.verify_chunk((at + 1) % chunks.len(), chunk).is_err());
        if let Some(first) = chunk.entries.first() {
            let twice = Chunk { entries: vec![first.clone(), first.clone()] };
            assert!(matches!(manifest.verify_chunk(at, &twice), Err(SnapshotError::Order { .. })));
        }
    }
    let index = chunks.len();
    let none = manifest.verify_chunk(index, &chunks[0]);
    assert_eq!(none, Err(SnapshotError::Index { index, count: index }));
    let bent = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = manifest.clone();
        change(&mut manifest);
        manifest.verify().expect_err("refused")
    };
    assert!(matches!(bent(&|m| m.pieces[1].hash.0[0] ^= 1), SnapshotError::Root { .. }));
    assert!(matches!(bent(&|m| m.pieces.truncate(m.pieces.len() - 1)), SnapshotError::Shape { .. }));
    assert!(matches!(bent(&|m| m.pieces.push(m.pieces[0])), SnapshotError::Shape { .. }));
    assert!(matches!(bent(&|m| m.pieces[0].depth = 300), SnapshotError::Shape { .. }));
    assert!(matches!(bent(&|m| m.pieces.clear()), SnapshotError::Shape { .. }));
}

/// A source that breaks off, and counts.
struct Flaky {
    file: SnapshotFile,
    left: usize,
    served: usize,
}

impl SnapshotSource for Flaky {
    fn manifest(&mut self) -> Result<Manifest, SnapshotFileError> {
        self.file.manifest()
    }

    fn chunk(&mut self, index: usize) -> Result<Chunk, SnapshotFileError> {
        let gone = || SnapshotFileError::Shape { path: "gone".into() };
        self.left = self.left.checked_sub(1).ok_or_else(gone)?;
        self.served += 1;
        self.file.chunk(index)
    }
}

#[test]
fn an_interrupted_restore_goes_on() {
    let s = stored(12);
    let path = small_snapshot(&s);
    let other = tempfile::tempdir().unwrap();
    let header = s.w.chain.tip().clone();
    let mut first = Flaky { file: SnapshotFile::open(&path).unwrap(), left: 4, served: 0 };
    let broken = Store::restore(other.path(), &s.w.genesis, &header, &mut first);
    assert!(matches!(broken, Err(RestoreError::Source(_))));
    assert!(holds_no_chain(other.path()));
    let mut second = Flaky { file: SnapshotFile::open(&path).unwrap(), left: usize::MAX, served: 0 };
    let (_, chain) = Store::restore(other.path(), &s.w.genesis, &header, &mut second).unwrap();
    assert_eq!(chain.state(), s.w.state());
    let count = second.file.manifest().unwrap().pieces.len();
    assert_eq!(second.served, count - 4);

    // What is left of another snapshot, or of a crash, is no obstacle.
    let third = tempfile::tempdir().unwrap();
    std::fs::write(third.path().join("ledger.redb.part"), b"not a database").unwrap();
    Store::restore(third.path(), &s.w.genesis, &header, &mut second).unwrap();
}

/// A peer that answers every request for a header with the same one.
fn stubborn_peer(s: &Stored) -> String {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let export = SnapshotFile::open(&small_snapshot(s)).unwrap().manifest().unwrap();
    let header = s.store.light_block(2).unwrap().unwrap();
    let (height, manifest) = (s.w.height(), dn_core::hexadecimal::to_hex(&export.to_bytes()));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut text) = (stream.unwrap(), Vec::new());
            while !text.ends_with(b"}") {
                let mut part = [0; 4_096];
                let read = stream.read(&mut part).unwrap();
                text.extend_from_slice(&part[..read]);
            }
            let text = String::from_utf8(text).unwrap();
            let call: serde_json::Value =
                serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
            let result = match call["method"].as_str().unwrap() {
                "dn_snapshots" => serde_json::json!({ "heights": [height] }),
                "dn_snapshot" => serde_json::json!(manifest),
                "dn_header" => serde_json::to_value(&header).unwrap(),
                other => panic!("{other}"),
            };
            let body = serde_json::json!({ "jsonrpc": "2.0", "id": 1, "result": result }).to_string();
            let length = body.len();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
        }
    });
    url
}

#[test]
fn a_header_of_another_height_ends_a_join() {
    let s = stored(20);
    let peer = Peer::new(&stubborn_peer(&s), Instant::now() + Duration::from_secs(60)).unwrap();
    // Never content with less than all: it asks for the header half way.
    let strict = TrustOptions { threshold: (1, 1), ..TrustOptions::of(&s.w.genesis.params) };
    let mut light = LightClient::from_genesis(&s.w.genesis, strict);
    let dir = tempfile::tempdir().unwrap();
    let joined = join(dir.path(), &s.w.genesis, &peer, &mut light, START_MS + 60_000);
    assert!(matches!(joined, Err(JoinError::OtherHeight { expected: 10, found: 2 })), "{:?}", joined.err());
    assert!(holds_no_chain(dir.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_joined_over_the_network() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    // Of today: an old genesis vouches for nothing.
    let genesis = Genesis { time_ms: u64::try_from(now.as_millis()).unwrap(), ..solo_genesis(params()) };
    let dir = tempfile::tempdir().unwrap();
    let history = History { snapshot_blocks: Some(3), keep_blocks: Some(5), keep_snapshots: 2 };
    let rpc_listen = "127.0.0.1:0".parse().unwrap();
    let alone = NodeConfig::alone(dir.path().to_owned(), genesis.clone(), rpc_listen, key("v1"), 20);
    let config = NodeConfig { history, ..alone };
    let node = Node::start(config).await.unwrap();
    let url = format!("http://{}", node.rpc_addr());
    let (joined, height) = tokio::task::spawn_blocking(move || {
        let peer = Peer::new(&url, Instant::now() + Duration::from_secs(60)).unwrap();
        while dn_ledger::node::PeerSnapshot::newest(&peer).unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(50));
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let now_ms = u64::try_from(now.as_millis()).unwrap();
        let other = tempfile::tempdir().unwrap();
        let mut light = LightClient::from_genesis(&genesis, TrustOptions::default());
        let (store, chain) = join(other.path(), &genesis, &peer, &mut light, now_ms).unwrap();
        assert_eq!(light.header(), chain.tip());
        assert_eq!(store.horizon().unwrap(), chain.tip().height + 1);
        // A client that trusts another chain's genesis takes nothing from this peer.
        let mut elsewhere = genesis.clone();
        elsewhere.time_ms += 1;
        let mut light = LightClient::from_genesis(
            &elsewhere,
            TrustOptions { threshold: (1, 1), ..TrustOptions::default() },
        );
        let third = tempfile::tempdir().unwrap();
        assert!(join(third.path(), &elsewhere, &peer, &mut light, now_ms).is_err());
        assert!(holds_no_chain(third.path()));
        (true, chain.tip().height)
    })
    .await
    .unwrap();
    assert!(joined && height > 0);
    node.shutdown().await;
    let report = check(dir.path()).unwrap();
    assert!(report.horizon > 1, "{report:?}");
}

#[test]
fn an_archive_carries_the_whole_chain() {
    let s = stored(17);
    let tip = s.w.chain.tip().clone();
    let Stored { store, dir, .. } = s;
    drop(store);
    let mut bytes = Vec::new();
    assert_eq!(Store::export_archive(dir.path(), None, &mut bytes).unwrap(), 17);
    let other = tempfile::tempdir().unwrap();
    // Cut short, then whole: it goes on.
    let cut = Store::import_archive(other.path(), &mut &bytes[..bytes.len() / 2], None);
    assert!(matches!(cut, Err(ArchiveError::Truncated { height: 1..=16 })), "{cut:?}");
    let report = Store::import_archive(other.path(), &mut bytes.as_slice(), None).unwrap();
    assert_eq!(report.known + report.imported, 17);
    assert!(report.known > 0 && report.imported > 0 && report.height == 17, "{report:?}");
    let again = Store::import_archive(other.path(), &mut bytes.as_slice(), None).unwrap();
    assert_eq!((again.known, again.imported), (17, 0));
    let checked = check(other.path()).unwrap();
    assert_eq!((checked.height, checked.txs, checked.replayed_from), (17, 17, Some(0)));
    let mut copy = Vec::new();
    Store::export_archive(other.path(), None, &mut copy).unwrap();
    assert_eq!(copy, bytes);
    for at in (0..bytes.len()).step_by(313) {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        let third = tempfile::tempdir().unwrap();
        assert!(Store::import_archive(third.path(), &mut bad.as_slice(), None).is_err(), "byte {at}");
    }
    assert_eq!(tip.height, 17);
}

#[test]
fn pruning_forgets_blocks_and_nothing_else() {
    let s = stored(23);
    let id = s.w.log[2].block.txs[0].id();
    assert!(s.store.tx(id).unwrap().is_some());
    let path = SnapshotFile::write(s.dir.path(), &s.store.export().unwrap()).unwrap();
    assert_eq!(s.store.prune(11).unwrap(), 11);
    assert_eq!(s.store.prune(5).unwrap(), 11);
    assert_eq!((s.store.block(10).unwrap(), s.store.tx(id).unwrap()), (None, None));
    assert!(s.store.block(11).unwrap().is_some() && s.store.light_block(11).unwrap().is_some());
    // Not told as if nothing had happened.
    let pruned = s.store.events(1, 10, 23).unwrap_err();
    let expected = Pruned { height: 1, first_block: 11 };
    assert!(matches!(pruned, PastError::Pruned(found) if found == expected), "{pruned}");
    let events = s.store.events(0, 10, 23).unwrap();
    assert_eq!(events.events[0].height, 11);
    let Stored { store, dir, w } = s;
    drop(store);
    let (store, chain) = Store::open(dir.path(), &w.genesis).unwrap();
    assert_eq!(chain.state(), w.state());
    drop(store);
    assert!(matches!(
        Store::export_archive(dir.path(), None, &mut Vec::new()),
        Err(ArchiveError::Pruned { horizon: 11 })
    ));
    let report = check(dir.path()).unwrap();
    assert_eq!((report.horizon, report.txs, report.replayed_from), (11, 13, Some(23)));
    std::fs::remove_file(path).unwrap();
    assert_eq!(check(dir.path()).unwrap().replayed_from, None);
}

/// A GET of this path: the head and as much of the body as is read at once.
fn get(addr: std::net::SocketAddr, path: &str, last_id: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let last_id = if last_id.is_empty() { String::new() } else { format!("last-event-id: {last_id}\r\n") };
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{last_id}\r\n").unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// A node that has forgotten what is asked for says so, and where its past begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pruned_past_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let rpc_listen = "127.0.0.1:0".parse().unwrap();
    let alone = NodeConfig::alone(dir.path().to_owned(), solo_genesis(params()), rpc_listen, key("v1"), 20);
    let history = History { keep_blocks: Some(5), ..History::default() };
    let node = Node::start(NodeConfig { history, ..alone }).await.unwrap();
    let ask = async |method: &str, params: serde_json::Value| {
        let body =
            serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        serde_json::from_slice::<serde_json::Value>(&node.answer(body.as_bytes()).await.unwrap()).unwrap()
    };
    let status = loop {
        let status = ask("dn_status", serde_json::json!({})).await["result"].clone();
        if status["first_block"].as_u64().unwrap() > 3 {
            break status;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let first = status["first_block"].as_u64().unwrap();
    let named = |error: &serde_json::Value, height: u64| {
        let found: Pruned = serde_json::from_value(error["data"].clone()).unwrap();
        assert_eq!((error["code"].as_i64(), found.height), (Some(CODE_PRUNED), height), "{error}");
        assert!(found.first_block >= first, "{error}");
        assert_eq!(error["message"], found.to_string());
        assert!(found.to_string().starts_with(&format!("block {height} is pruned; the first held is ")));
    };
    let at = serde_json::json!({ "height": 2 });
    for (method, params) in
        [("dn_block", at.clone()), ("dn_header", at), ("dn_events", serde_json::json!({ "from_height": 2 }))]
    {
        named(&ask(method, params).await["error"], 2);
    }
    // What never was is still nothing, and the genesis is kept.
    for height in [0, 9_999_999] {
        assert_eq!(
            ask("dn_block", serde_json::json!({ "height": height })).await["result"],
            serde_json::Value::Null
        );
    }
    assert_eq!(ask("dn_header", serde_json::json!({ "height": 0 })).await["result"]["header"]["height"], 0);
    for params in [serde_json::json!({}), serde_json::json!({ "from_height": 0 })] {
        let next = ask("dn_events", params).await["result"]["next_height"].as_u64().unwrap();
        assert!(next > first, "from the first that is held: {next}");
    }
    let addr = node.rpc_addr();
    let reading = tokio::task::spawn_blocking(move || {
        let refused = get(addr, "/events?from_height=2", "");
        let back = get(addr, "/events", "2.1");
        (refused, back, get(addr, "/metrics", ""))
    });
    let (refused, back, metrics) = reading.await.unwrap();
    for text in [refused, back] {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 410"), "{text}");
        named(&serde_json::from_str::<serde_json::Value>(body).unwrap()["error"], 2);
    }
    let shown = metrics.lines().find_map(|line| line.strip_prefix("dn_ledger_first_block "));
    assert!(shown.unwrap().parse::<u64>().unwrap() > 1, "{metrics}");
    node.shutdown().await;
}

/// A stored record that was changed behind the node's back is found, with its height.
#[test]
fn the_check_finds_the_first_problem() {
    const TABLES: [&str; 3] = ["blocks", "certificates", "events"];
    for (table, height) in TABLES.into_iter().flat_map(|table| [(table, 3u64), (table, 11)]) {
        let Stored { store, dir, .. } = stored(17);
        drop(store);
        assert_eq!(check(dir.path()).unwrap().replayed_from, Some(0));
        let db = redb::Database::create(dir.path().join("ledger.redb")).unwrap();
        let tx = db.begin_write().unwrap();
        {
            let definition: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new(table);
            let mut rows = tx.open_table(definition).unwrap();
            // The neighbour's, which is as well-formed as the right one.
            let other = rows.get(height + 1).unwrap().unwrap().value().to_vec();
            rows.insert(height, other.as_slice()).unwrap();
        }
        tx.commit().unwrap();
        drop(db);
        let found = check(dir.path()).unwrap_err();
        match table {
            "blocks" => {
                assert!(matches!(found, CheckError::Block { height: h, .. } if h == height), "{found}")
            }
            "certificates" => assert!(matches!(found, CheckError::Store(_)), "{found}"),
            _ => {
                let here = matches!(found, CheckError::Block { height: h, .. } if h == height)
                    || matches!(found, CheckError::Store(_));
                assert!(here, "{found}");
            }
        }
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(check(empty.path()), Err(CheckError::Empty)));
}

/// A chain that names a referee executes no block without it, so the check and an import need it too.
#[test]
fn a_chain_with_a_referee_is_checked_and_imported_with_it() {
    let referee = || Some(RefereeHandle::new(Counting));
    let dispute = DisputeParams { referee: RULES, open_blocks: 8, clock_blocks: 64, max_moves_per_block: 8 };
    let mut w = World::with(Params { unbonding_epochs: 21, dispute, ..params() });
    w.chain = w.chain.clone().with_referee(RefereeHandle::new(Counting));
    let Stored { store, dir, .. } = stored_by(w, 7);
    drop(store);
    let without = check(dir.path()).unwrap_err();
    assert!(matches!(without, CheckError::Replay(BlockError::Referee { height: 1, .. })), "{without}");
    let with = CheckOptions { referee: referee(), ..CheckOptions::default() };
    assert_eq!(Store::check(dir.path(), &with).unwrap().replayed_from, Some(0));
    let mut bytes = Vec::new();
    Store::export_archive(dir.path(), None, &mut bytes).unwrap();
    let other = tempfile::tempdir().unwrap();
    assert!(Store::import_archive(other.path(), &mut bytes.as_slice(), None).is_err());
    assert_eq!(Store::import_archive(other.path(), &mut bytes.as_slice(), referee()).unwrap().height, 7);
}

/// One thread or several: the same blocks, refusals and roots. Each block has far more signatures and changes than are worth a thread.
#[test]
fn threads_change_nothing() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut w = World::bare();
            for round in 0u64..4 {
                let mut txs = Vec::new();
                for (n, from) in ["payer", "owner", "worker", "gateway"].iter().enumerate() {
                    for nonce in 0..60u64 {
                        let to = Address(
                            keccak256(&[&[round as u8, n as u8, nonce as u8]])[..20].try_into().unwrap(),
                        );
                        let amount = Amount::from_atto(u128::from(1 + nonce));
                        let mut tx = w.raw(from, Payload::Transfer { to, amount });
                        tx.nonce += nonce;
                        let signer = if nonce == 50 + round { "stranger" } else { from };
                        txs.push(tx.sign(&key(signer)));
                    }
                }
                let proposal = w.block(&txs);
                // The one that somebody else signed, and those that come after it.
                let refused = 4 * (10 - round as usize);
                assert_eq!((proposal.rejected.len(), proposal.block.txs.len()), (refused, 240 - refused));
            }
            w.log.into_iter().map(|proposal| (proposal.block, proposal.rejected)).collect::<Vec<_>>()
        })
    };
    let alone = run(1);
    for threads in [2, 4] {
        assert_eq!(run(threads), alone, "{threads} threads");
    }
}

/// Executing the stored blocks again, from any of them on, gives the same roots.
#[test]
fn replay_gives_the_same_roots() {
    let s = stored(26);
    let mut replay = Chain::new(&s.w.genesis);
    for proposal in &s.w.log {
        let executed = replay.validate(&proposal.block).unwrap();
        assert_eq!(executed.tree.hash(), proposal.block.header.state);
        replay.commit(
            &proposal.block.header,
            common::certificate(&proposal.block.header, &replay.validators()),
            &executed,
        );
        // From the entries alone the tree is the same as along the way.
        let entries = replay.state().entries().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
        let fresh = dn_ledger::state::State::from_entries(entries);
        assert_eq!(fresh.sealed().hash(), proposal.block.header.state);
    }
    assert_eq!(replay.state(), s.w.state());
    assert_ne!(s.w.balance("owner"), Amount::ZERO);
    assert!(!s.block().to_bytes().is_empty());
}
