//! Several validators over loopback: the real engine, real sockets, real files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "replication/cluster.rs"]
mod cluster;

use std::time::Duration;

use cluster::Cluster;

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
    let text = cluster::metrics(cluster.rpc(4)).await;
    assert!(text.contains("dn_ledger_signing 0") && text.contains("dn_ledger_validators 4"), "{text}");
    let text = cluster::metrics(cluster.rpc(0)).await;
    assert!(text.contains("dn_ledger_signing 1"), "{text}");
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
