//! One of four validators misbehaves: the others go on, agree, and see what can be seen.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "replication/cluster.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod cluster;

use std::time::Duration;

use cluster::{Cluster, address, call, hex_of, validator};
use dn_core::Amount;
use dn_ledger::Payload;
use dn_ledger::light::LightBlock;
use dn_ledger::node::Fault;
use dn_ledger::state::IdentityStatus;
use dn_ledger::views::IdentityView;
use serde_json::json;

/// Far more than a block takes; a machine under load is slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// One of four has this fault: the chain goes on past several of its turns, and its proposals are never decided in their first
/// round.
async fn with_fault(fault: Fault) -> Cluster {
    let mut cluster = Cluster::prepare(&[10, 10, 10, 10], 50, 0);
    cluster.faults[0] = Some(fault);
    cluster.start_all().await;
    cluster.reach(10, PATIENCE).await;
    cluster.pay(0).await;
    for index in 1..4 {
        let late = cluster.metric(index, "dn_ledger_late_blocks_total").await;
        assert!(late > 0.0, "{fault:?} had a turn and cost nothing");
    }
    cluster.nodes[0].take().unwrap().shutdown().await;
    cluster.agree().await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_proposer_costs_its_turns() {
    with_fault(Fault::Silent).await.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_with_another_state_are_refused() {
    let cluster = with_fault(Fault::WrongState).await;
    assert!(cluster.metric(1, "dn_ledger_invalid_blocks_total").await > 0.0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_from_the_future_are_refused() {
    let cluster = with_fault(Fault::Future).await;
    assert!(cluster.metric(2, "dn_ledger_invalid_blocks_total").await > 0.0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn withheld_parts_cost_a_turn() {
    with_fault(Fault::Withhold).await.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_another_block_are_dropped() {
    let cluster = with_fault(Fault::Garbage).await;
    assert!(cluster.metric(3, "dn_ledger_dropped_parts_total").await > 0.0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_votes_count_for_nothing() {
    let mut cluster = Cluster::prepare(&[10, 10, 10, 10], 50, 0);
    cluster.faults[0] = Some(Fault::StaleVotes);
    cluster.start_all().await;
    cluster.reach(20, PATIENCE).await;
    cluster.pay(1).await;
    cluster.agree().await;
    // The first votes went out when they were made, and may have helped to decide the first heights.
    for height in 6..=20 {
        let block: LightBlock = cluster.get(1, "dn_header", json!({ "height": height })).await;
        let signers: Vec<_> = block.certificate.signatures.iter().map(|(signer, _)| *signer).collect();
        let expected: Vec<_> = (1..4).map(|index| address(&validator(index))).collect();
        assert_eq!(signers.len(), 3, "height {height}");
        assert!(expected.iter().all(|signer| signers.contains(signer)), "height {height}: {signers:?}");
    }
    cluster.stop().await;
}

/// A transfer to where the rules of some nodes have a bug, sent to one node; those that have it panic with it.
async fn with_a_bug(panicking: &[usize]) -> Cluster {
    let mut cluster = Cluster::prepare(&[10, 10, 10, 10], 50, 0);
    for index in panicking {
        cluster.faults[*index] = Some(Fault::Panics);
    }
    cluster.start_all().await;
    cluster.reach(3, PATIENCE).await;
    let payload = Payload::Transfer { to: Fault::TRAP, amount: Amount::from_dn(1) };
    let tx = cluster.sign("payer", payload);
    // Its answer comes when it is in a block, or never.
    let addr = cluster.rpc(if panicking.len() == 1 { 1 } else { 0 });
    tokio::spawn(async move { call(addr, "dn_sendTransaction", hex_of(&tx)).await });
    cluster
}

/// One validator proposes what three cannot execute without a panic: they refuse it, drop it from their own blocks, and go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_panics_is_refused() {
    let cluster = with_a_bug(&[1, 2, 3]).await;
    let began = std::time::Instant::now();
    while cluster.metric(1, "dn_ledger_invalid_blocks_total").await < 2.0 {
        assert!(began.elapsed() < PATIENCE, "the one that has no bug proposed nothing");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let later = cluster.top() + 4;
    cluster.reach(later, PATIENCE).await;
    for node in cluster.nodes.iter().flatten() {
        assert!(node.failure().is_none(), "{:?}", node.failure());
    }
    cluster.stop().await;
}

/// What a quorum decides counts: a node that panics with it stops there, and says why; the others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decided_block_that_panics_stops_the_node() {
    let mut cluster = with_a_bug(&[0]).await;
    let node = cluster.nodes[0].take().unwrap();
    tokio::time::timeout(PATIENCE, node.production_ended()).await.unwrap();
    let failure = node.failure().expect("it stopped by itself").to_string();
    assert!(failure.contains("cannot execute it") && failure.contains("a bug in the rules"), "{failure}");
    assert!(failure.contains("It stops, rather than go on with another state"), "{failure}");
    let stopped = node.height();
    cluster.reach(stopped + 4, PATIENCE).await;
    cluster.agree().await;
    node.shutdown().await;
    cluster.stop().await;
}

/// The same validator runs twice, each time without knowing of the other: both propose and vote. The others hold nothing but bond and stake, and
/// report it all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_that_signs_twice_is_seen_punished_and_splits_nothing() {
    let mut cluster = Cluster::prepare(&[10, 10, 10, 10], 50, 1);
    cluster.set_key(4, &validator(0));
    let validators: Vec<_> = (0..4).map(|index| address(&validator(index))).collect();
    assert!(cluster.genesis.accounts.iter().all(|account| !validators.contains(&account.address)));
    cluster.start_all().await;
    cluster.reach(8, PATIENCE).await;
    let began = std::time::Instant::now();
    loop {
        let mut seen = 0.0;
        for index in 1..4 {
            seen += cluster.metric(index, "dn_ledger_equivocations_total").await;
        }
        if seen > 0.0 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "two signatures for one step were never seen");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let began = std::time::Instant::now();
    let offender = json!({ "address": address(&validator(0)), "role": "validator" });
    loop {
        let identity: IdentityView = cluster.get(1, "dn_identity", offender.clone()).await;
        if matches!(identity.status, IdentityStatus::Jailed { .. }) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "seen, and not punished: {identity:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for twin in [0, 4] {
        cluster.nodes[twin].take().unwrap().shutdown().await;
    }
    let later = cluster.top() + 3;
    cluster.reach(later, PATIENCE).await;
    cluster.agree().await;
    cluster.stop().await;
}
