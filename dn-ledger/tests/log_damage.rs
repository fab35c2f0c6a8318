//! The engine's log damaged on disk: no validator stands still because of it, and none signs what it cannot know to be new.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "replication/cluster.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod cluster;

use std::path::Path;
use std::time::{Duration, Instant};

use cluster::Cluster;
use dn_ledger::node::{
    CheckError, CheckOptions, ConsensusFilesError, GuardError, KeyStart, LogFault, Node, NodeConfig,
    NodeError, Store,
};

/// Far more than a block takes; a machine under load is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// A log of a height as the engine writes it, but for its content: one entry with a wrong checksum, then a whole one.
fn damaged_log(dir: &Path, height: u64) {
    let entry = |content: &[u8], checksum: u32| {
        [&[0][..], &(content.len() as u64).to_be_bytes(), &checksum.to_be_bytes(), content].concat()
    };
    let head = [&1u32.to_be_bytes()[..], &height.to_be_bytes()].concat();
    // The CRC-32 of these nine digits is known.
    let bytes = [head, entry(b"123456789", 1), entry(b"123456789", 0xcbf4_3926)].concat();
    std::fs::write(dir.join("consensus/engine.wal"), bytes).unwrap();
}

async fn rises(node: &Node, height: u64) {
    let began = Instant::now();
    while node.height() < height {
        assert!(began.elapsed() < PATIENCE, "height {height} not reached: {}", node.height());
        assert!(node.failure().is_none(), "{:?}", node.failure());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sole_validator_goes_on_without_its_damaged_log() {
    let dir = tempfile::tempdir().unwrap();
    let genesis = cluster::genesis(&[10], 20);
    let config = || {
        let (listen, key) = ("127.0.0.1:0".parse().unwrap(), cluster::key("validator-0"));
        NodeConfig::alone(dir.path().to_owned(), genesis.clone(), listen, key, 40)
    };
    let mut tip = 0;
    for damaged in [false, true, true] {
        if damaged {
            damaged_log(dir.path(), tip + 1);
        }
        let node = Node::start(config()).await.unwrap();
        rises(&node, tip + 3).await;
        node.shutdown().await;
        assert_eq!(dir.path().join("consensus/engine.damaged").exists(), damaged);
        tip = Store::open(dir.path(), &genesis).unwrap().1.tip().height;
    }
    // With all but its head lost, then a part of that, and then wholly.
    let path = dir.path().join("consensus/engine.wal");
    for left in [12, 11, 8, 3, 0] {
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..left]).unwrap();
        let node = Node::start(config()).await.unwrap();
        rises(&node, tip + 3).await;
        node.shutdown().await;
        tip = Store::open(dir.path(), &genesis).unwrap().1.tip().height;
    }
    std::fs::remove_file(dir.path().join("consensus/engine.wal")).unwrap();
    let node = Node::start(config()).await.unwrap();
    rises(&node, tip + 3).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_four_follows_after_damage_and_signs_again() {
    let mut cluster = Cluster::start(&[10, 10, 10, 10], 20, 0).await;
    cluster.reach(3, PATIENCE).await;
    cluster.stop_node(3).await;
    let dir = cluster.dir(3);
    let tip = Store::open(&dir, &cluster.genesis).unwrap().1.tip().height;
    damaged_log(&dir, tip + 1);
    cluster.start_node(3, false).await;
    let later = cluster.top() + 4;
    cluster.reach(later, PATIENCE).await;
    cluster.signs(3, PATIENCE).await;
    cluster.stop_node(0).await;
    let needed = cluster.top() + 3;
    cluster.reach(needed, PATIENCE).await;
    for index in 1..4 {
        assert_eq!(cluster.metric(index, "dn_ledger_equivocations_total").await, 0.0);
    }
    assert!(dir.join("consensus/engine.damaged").exists());
    cluster.agree().await;
    cluster.stop().await;
}

/// A validator whose log is lost at its own round is held to its record: at the height that it signed for it asks nothing of
/// the network but patience.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_lost_its_end_makes_nobody_sign_twice() {
    let mut cluster = Cluster::start(&[10, 10, 10, 10], 20, 0).await;
    cluster.reach(3, PATIENCE).await;
    for round in 0..3 {
        for index in 0..4 {
            cluster.stop_node(index).await;
        }
        for index in 0..4 {
            // Only the head is left: nothing that was signed at this height is known to the engine.
            let path = cluster.dir(index).join("consensus/engine.wal");
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..12]).unwrap();
        }
        // The second time they find in their logs what they gave again.
        for again in [false, true] {
            for index in 0..4 {
                cluster.start_node(index, false).await;
            }
            if !again {
                tokio::time::sleep(Duration::from_millis(100 * round)).await;
                for index in 0..4 {
                    cluster.stop_node(index).await;
                }
            }
        }
        let later = cluster.top() + 3;
        cluster.reach(later, PATIENCE).await;
        for index in 0..4 {
            let found = cluster.metric(index, "dn_ledger_equivocations_total").await;
            assert_eq!(found, 0.0, "round {round}, node {index}");
        }
    }
    cluster.agree().await;
    cluster.stop().await;
}

/// What the offline check says of a validator's files is what a start makes of them, and it changes none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_finds_what_a_start_finds() {
    let dir = tempfile::tempdir().unwrap();
    let genesis = cluster::genesis(&[10], 20);
    let config = || {
        let (listen, key) = ("127.0.0.1:0".parse().unwrap(), cluster::key("validator-0"));
        NodeConfig::alone(dir.path().to_owned(), genesis.clone(), listen, key, 40)
    };
    let node = Node::start(config()).await.unwrap();
    rises(&node, 3).await;
    node.shutdown().await;
    let check = || Store::check(dir.path(), &CheckOptions::default());
    let whole = check().unwrap();
    let (height, found) = (whole.height, whole.consensus);
    assert!(found.present && !found.torn && found.log.is_some() && found.signed >= Some(3), "{found:?}");
    assert_eq!(found.start, KeyStart::Signs { next: height + 1 });

    let consensus = dir.path().join("consensus");
    // Every fiftieth byte of a file is another one; what it was.
    let spoiled = |name: &str| {
        let path = consensus.join(name);
        let before = std::fs::read(&path).unwrap();
        let mut bytes = before.clone();
        bytes.iter_mut().step_by(50).for_each(|byte| *byte ^= 1);
        std::fs::write(&path, &bytes).unwrap();
        (path, before, bytes)
    };
    let (path, before, after) = spoiled("signed");
    let found = check().unwrap_err();
    let damaged = |found: &CheckError| {
        matches!(found, CheckError::Consensus(ConsensusFilesError::Record(GuardError::Damaged { .. })))
    };
    assert!(damaged(&found), "{found}");
    assert_eq!(std::fs::read(&path).unwrap(), after);
    let refused = Node::start(config()).await.err();
    assert!(matches!(refused, Some(NodeError::Guard(GuardError::Damaged { .. }))), "{refused:?}");
    std::fs::write(&path, before).unwrap();

    let (path, before, after) = spoiled("engine.wal");
    let found = check().unwrap_err();
    let CheckError::Consensus(ConsensusFilesError::Log { at, reason, .. }) = &found else {
        panic!("{found}")
    };
    assert!(matches!((at, reason), (0, LogFault::Version { .. })), "{found}");
    assert_eq!(std::fs::read(&path).unwrap(), after);
    damaged_log(dir.path(), height + 1);
    let found = check().unwrap_err().to_string();
    assert!(
        found.contains("engine.wal is damaged at byte 12") && found.contains("engine.damaged"),
        "{found}"
    );
    assert!(!consensus.join("engine.damaged").exists());
    std::fs::write(&path, before).unwrap();

    let elsewhere = dir.path().join("moved");
    std::fs::rename(&consensus, &elsewhere).unwrap();
    let found = check().unwrap().consensus;
    assert_eq!((found.present, found.signed, found.start), (false, None, KeyStart::Unrecorded));
    assert!(found.start.to_string().contains("will follow without signing until"), "{}", found.start);
    // Nothing is made where nothing is.
    assert!(!consensus.exists());
    let named = |name: &str| {
        let sign_guard = Some(elsewhere.join(name));
        Store::check(dir.path(), &CheckOptions { sign_guard, ..CheckOptions::default() })
    };
    assert_eq!(named("signed").unwrap().consensus.signed, whole.consensus.signed);
    let none = named("typo").unwrap_err();
    assert!(matches!(none, CheckError::Consensus(ConsensusFilesError::NoRecord { .. })), "{none}");
    std::fs::rename(&elsewhere, &consensus).unwrap();

    let node = Node::start(config()).await.unwrap();
    rises(&node, height + 2).await;
    node.shutdown().await;
    check().unwrap();
}
