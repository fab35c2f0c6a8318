//! Several validators over loopback: the real engine, real sockets, real files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "replication/cluster.rs"]
mod cluster;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cluster::{Cluster, address};
use dn_core::Amount;
use dn_ledger::light::{LightClient, TrustOptions};
use dn_ledger::node::{History, Node, NodeConfig, NodeError, Peer, join};
use dn_ledger::views::AccountView;
use dn_ledger::{Payload, Role};
use serde_json::json;

/// Far more than a block takes; a machine under load is slow.
const PATIENCE: Duration = Duration::from_secs(60);

fn logged() {
    if let Ok(filter) = std::env::var("DN_LOG") {
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_validators_and_a_follower_decide_one_chain() {
    logged();
    let mut cluster = Cluster::start(&[10, 10, 10, 10], 20, 1).await;
    cluster.reach(3, PATIENCE).await;
    // Whichever node is asked, also one that never proposes.
    for index in 0..5 {
        let outcome = cluster.pay(index).await;
        assert!(outcome.height > 0);
    }
    cluster.reach(cluster.top(), PATIENCE).await;
    cluster.agree().await;
    assert_eq!(cluster.metric(4, "dn_ledger_signing").await, 0.0);
    assert_eq!(cluster.metric(0, "dn_ledger_signing").await, 1.0);
    assert_eq!(cluster.metric(4, "dn_ledger_validators").await, 4.0);
    assert_eq!(cluster.metric(4, "dn_ledger_equivocations_total").await, 0.0);
    cluster.stop().await;
}

/// Alone for good and looking healthy: that is what a node was whose address for others was taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_others_cannot_reach_does_not_start() {
    logged();
    let mut cluster = Cluster::prepare(&[10, 10, 10, 10], 20, 0);
    let config = cluster.config(0, true);
    let listen = config.network.as_ref().unwrap().listen;
    let taken = std::net::TcpListener::bind(listen).unwrap();
    let refused = Node::start(config).await;
    assert!(
        matches!(&refused, Err(NodeError::ListenPeers { address, .. }) if *address == listen),
        "{refused:?}"
    );
    let text = refused.unwrap_err().to_string();
    assert!(text.contains(&listen.to_string()), "{text}");
    drop(taken);
    // Its directory is free, and so is the address.
    cluster.start_all().await;
    cluster.reach(2, PATIENCE).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_four_stops_and_catches_up() {
    logged();
    let mut cluster = Cluster::start(&[10, 10, 10, 10], 20, 0).await;
    cluster.reach(2, PATIENCE).await;
    cluster.stop_node(3).await;
    let stopped_at = cluster.top();
    for _ in 0..2 {
        cluster.pay(0).await;
    }
    cluster.reach(stopped_at + 6, PATIENCE).await;
    cluster.start_node(3, false).await;
    let target = cluster.top();
    cluster.reach(target + 3, PATIENCE).await;
    cluster.pay(3).await;
    cluster.agree().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_nothing_is_decided_and_all_goes_on_afterwards() {
    logged();
    // A cap keeps everybody under a third: with two of four gone, half is not enough.
    let mut cluster = Cluster::start(&[40, 10, 10, 10], 20, 0).await;
    cluster.reach(2, PATIENCE).await;
    cluster.stop_node(0).await;
    cluster.pay(1).await;
    cluster.stop_node(1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let halted = cluster.top();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(cluster.top() <= halted + 1, "two of four decided {} blocks", cluster.top() - halted);
    cluster.start_node(0, false).await;
    cluster.start_node(1, false).await;
    cluster.reach(halted + 4, PATIENCE).await;
    for index in 0..4 {
        cluster.stop_node(index).await;
    }
    for index in 0..4 {
        cluster.start_node(index, false).await;
    }
    let resumed = cluster.top();
    cluster.reach(resumed + 3, PATIENCE).await;
    cluster.pay(2).await;
    cluster.agree().await;
    cluster.stop().await;
}

/// Starts the last of four without its record: it watches first, then signs, and is needed where another one stops.
async fn watches_and_then_is_needed(cluster: &mut Cluster) {
    cluster.start_node(3, false).await;
    assert_eq!(cluster.metric(3, "dn_ledger_signing").await, 0.0, "it may have signed what it does not know");
    let target = cluster.top() + 3;
    cluster.reach(target, PATIENCE).await;
    cluster.signs(3, PATIENCE).await;
    // Now two are gone without it.
    cluster.stop_node(0).await;
    let needed = cluster.top() + 3;
    cluster.reach(needed, PATIENCE).await;
    cluster.pay(3).await;
    for index in 1..4 {
        assert_eq!(cluster.metric(index, "dn_ledger_equivocations_total").await, 0.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_that_lost_its_disk_watches_before_it_signs() {
    logged();
    let mut cluster = Cluster::start(&[10, 10, 10, 10], 20, 0).await;
    cluster.reach(4, PATIENCE).await;
    cluster.stop_node(3).await;
    cluster.wipe(3);
    watches_and_then_is_needed(&mut cluster).await;
    cluster.agree().await;
    cluster.stop().await;
}

/// As an operator does it: nothing is left, nobody has the first blocks any more, and a peer's snapshot begins the new directory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_validator_joins_from_a_snapshot() {
    logged();
    let now_ms = || u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let mut cluster = Cluster::prepare(&[10, 10, 10, 10], 20, 0);
    cluster.history = History { snapshot_blocks: Some(4), keep_blocks: Some(20), keep_snapshots: 2 };
    // Of today: an old genesis vouches for nothing.
    cluster.genesis.time_ms = now_ms();
    cluster.start_all().await;
    cluster.pay(3).await;
    cluster.stop_node(3).await;
    cluster.wipe(3);
    let began = Instant::now();
    loop {
        let mut gone = true;
        for index in 0..3 {
            let first = cluster::call(cluster.rpc(index), "dn_block", json!({ "height": 1 })).await;
            let held = cluster::call(cluster.rpc(index), "dn_snapshots", json!({})).await;
            gone &= first["result"].is_null() && held["result"]["heights"] != json!([]);
        }
        if gone {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the first blocks are still there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (url, dir, genesis) = (format!("http://{}", cluster.rpc(1)), cluster.dir(3), cluster.genesis.clone());
    let joined = tokio::task::spawn_blocking(move || {
        let peer = Peer::new(&url, Instant::now() + PATIENCE).unwrap();
        let mut light = LightClient::from_genesis(&genesis, TrustOptions::of(&genesis.params));
        let (store, chain) = join(&dir, &genesis, &peer, &mut light, now_ms()).unwrap();
        assert_eq!(store.horizon().unwrap(), chain.tip().height + 1);
        chain.tip().height
    });
    let joined = joined.await.unwrap();
    assert!(joined > 1);
    watches_and_then_is_needed(&mut cluster).await;
    // What was paid before is there.
    let account: AccountView = cluster.get(3, "dn_account", json!({ "address": address("payee") })).await;
    assert_eq!(account.balance, Amount::from_dn(2));
    let lowest = (1..4).map(|index| cluster.height(index)).min().unwrap();
    cluster.agree_from(lowest - 3).await;
    cluster.stop().await;
}

/// The operator's word about one height: without it a key that lost its record waits for others for ever where there are none, and left
/// behind in a unit file it says nothing of a later day.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_about_a_height_counts_for_that_height_only() {
    logged();
    let mut cluster = Cluster::start(&[10], 20, 0).await;
    cluster.reach(3, PATIENCE).await;
    let mut unsigned_from = None;
    for word_counts in [false, true, false] {
        cluster.stop_node(0).await;
        let dir = cluster.dir(0);
        let tip = dn_ledger::node::Store::open(&dir, &cluster.genesis).unwrap().1.tip().height;
        for file in ["signed", "engine.wal"] {
            // The second is not there while the node only follows.
            let _ = std::fs::remove_file(dir.join("consensus").join(file));
        }
        if word_counts {
            unsigned_from = Some(tip + 1);
        }
        let config = NodeConfig { first_start: true, unsigned_from, ..cluster.config(0, false) };
        cluster.nodes[0] = Some(Node::start(config).await.unwrap());
        if word_counts {
            cluster.reach(tip + 3, PATIENCE).await;
            cluster.signs(0, PATIENCE).await;
        } else {
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_eq!((cluster.height(0), cluster.metric(0, "dn_ledger_signing").await), (tip, 0.0));
        }
    }
    cluster.stop().await;
}

async fn first_start(cluster: &mut Cluster, index: usize) {
    let config = NodeConfig { first_start: true, ..cluster.config(index, false) };
    cluster.nodes[index] = Some(Node::start(config).await.unwrap());
}

/// With one of the three that began it away, the chain waits for the fourth, whose key is as new as it is said to be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_signs_once_others_are_heard_that_do_not_know_it() {
    logged();
    let mut cluster = Cluster::prepare(&[10, 10, 10, 10], 20, 0);
    first_start(&mut cluster, 0).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(cluster.metric(0, "dn_ledger_signing").await, 0.0, "nobody was heard");
    for index in [1, 2] {
        first_start(&mut cluster, index).await;
    }
    cluster.reach(3, PATIENCE).await;
    cluster.stop_node(0).await;
    first_start(&mut cluster, 3).await;
    assert_eq!(cluster.metric(3, "dn_ledger_signing").await, 0.0, "it listens first");
    cluster.reach(cluster.top() + 3, PATIENCE).await;
    cluster.agree().await;
    cluster.stop().await;
}

/// The flag is in the unit file still, the chain is young, and waits for the key: it signed before, and others' blocks say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_lost_on_the_first_day_is_no_first_start() {
    logged();
    let mut cluster = Cluster::start(&[10, 10, 10, 10], 20, 0).await;
    cluster.reach(6, PATIENCE).await;
    cluster.stop_node(3).await;
    cluster.stop_node(2).await;
    cluster.wipe(3);
    first_start(&mut cluster, 3).await;
    cluster.reach(cluster.top(), PATIENCE).await;
    let halted = cluster.top();
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!((cluster.top(), cluster.metric(3, "dn_ledger_signing").await), (halted, 0.0));
    // Others decide, and it watches.
    cluster.start_node(2, false).await;
    cluster.reach(halted + 3, PATIENCE).await;
    cluster.signs(3, PATIENCE).await;
    for index in 0..4 {
        assert_eq!(cluster.metric(index, "dn_ledger_equivocations_total").await, 0.0);
    }
    cluster.agree().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn powers_move_and_validators_come_and_go_at_epochs() {
    logged();
    let mut cluster = Cluster::prepare(&[10_000, 10_000, 10_000], 6, 1);
    cluster.set_key(3, "payer");
    cluster.start_all().await;
    cluster.reach(1, PATIENCE).await;
    let more = Payload::Stake { validator: address("validator-0"), amount: Amount::from_dn(2_000) };
    let register = Payload::Register {
        role: Role::Validator,
        collateral: Amount::from_dn(1_000),
        name: "newcomer".into(),
        endpoint: "127.0.0.1:1".into(),
    };
    let stake = Payload::Stake { validator: address("payer"), amount: Amount::from_dn(9_000) };
    for payload in [more, register, stake] {
        send(&mut cluster, payload).await;
    }
    let members = |cluster: &Cluster, index: usize| {
        let set = cluster.nodes[index].as_ref().unwrap().validators();
        set.members.into_iter().map(|m| (m.address, m.power)).collect::<Vec<_>>()
    };
    let before = members(&cluster, 0);
    let next_epoch = |cluster: &Cluster| (cluster.top() / 6 + 1) * 6 + 6;
    cluster.reach(next_epoch(&cluster), PATIENCE).await;
    let after = members(&cluster, 0);
    assert!(after.iter().any(|(who, _)| *who == address("payer")), "{before:?} {after:?}");
    let power =
        |of: &[(dn_core::Address, u64)], who| of.iter().find(|(a, _)| *a == who).map_or(0, |(_, p)| *p);
    assert!(power(&after, address("validator-0")) > power(&after, address("validator-1")));
    // Without the newcomer there is a quorum, and with it one of the old may be missing.
    cluster.stop_node(1).await;
    let without = cluster.top() + 4;
    cluster.reach(without, PATIENCE).await;
    cluster.start_node(1, false).await;
    let caught_up = cluster.top() + 1;
    cluster.reach(caught_up, PATIENCE).await;
    send(&mut cluster, Payload::Retire { role: Role::Validator }).await;
    cluster.reach(next_epoch(&cluster), PATIENCE).await;
    for index in 0..4 {
        assert_eq!(members(&cluster, index).len(), 3, "node {index}");
    }
    let later = cluster.top() + 2;
    cluster.reach(later, PATIENCE).await;
    cluster.agree().await;
    cluster.stop().await;
}

async fn send(cluster: &mut Cluster, payload: Payload) {
    let tx = cluster.sign("payer", payload);
    let answer = cluster::call(cluster.rpc(2), "dn_sendTransaction", cluster::hex_of(&tx)).await;
    assert!(answer.get("result").is_some(), "{answer}");
}
