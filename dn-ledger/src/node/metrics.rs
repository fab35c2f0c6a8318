//! What the node tells Prometheus at `/metrics`.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Counts and levels of one node.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    pub(super) height: Gauge,
    pub(super) first_block: Gauge,
    pub(super) round: Gauge,
    pub(super) peers: Gauge,
    pub(super) signing: Gauge,
    pub(super) validators: Gauge,
    pub(super) mempool_txs: Gauge,
    pub(super) block_interval: Histogram,
    pub(super) block_txs: Histogram,
    pub(super) txs: Counter,
    pub(super) rounds_over_zero: Counter,
    pub(super) invalid_blocks: Counter,
    pub(super) dropped_parts: Counter,
    pub(super) evidence: Counter,
    pub(super) stalls: Counter,
    pub(super) synced_blocks: Counter,
    pub(super) commit_seconds: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("dn_ledger");
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let height = gauge("height", "Height of the tip");
        let first_block = gauge("first_block", "First height whose block and events are held");
        let round = gauge("round", "Round of consensus that runs");
        let peers = gauge("peers", "Connected peers");
        let signing = gauge("signing", "1 if this node's key signs, 0 if it only follows");
        let validators = gauge("validators", "Validators that decide the next block");
        let mempool_txs = gauge("mempool_txs", "Transactions that wait for a block");
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let txs = counter("txs", "Transactions in decided blocks");
        let rounds_over_zero = counter("late_blocks", "Blocks that needed more than one round");
        let invalid_blocks = counter("invalid_blocks", "Proposed blocks that this node found invalid");
        let dropped_parts = counter("dropped_parts", "Parts of blocks that were dropped");
        let evidence = counter("equivocations", "Pairs of conflicting signatures that were seen");
        let stalls = counter("stalls", "Times that a height stood still and the engine was started again");
        let synced_blocks = counter("synced_blocks", "Blocks that came by synchronisation");
        let block_interval = Histogram::new(exponential_buckets(0.02, 1.6, 16));
        let help = "Time between decided blocks";
        registry.register_with_unit("block_interval", help, Unit::Seconds, block_interval.clone());
        let block_txs = Histogram::new(exponential_buckets(1.0, 2.0, 15));
        registry.register("block_txs", "Transactions of a block", block_txs.clone());
        let commit_seconds = Gauge::<f64, AtomicU64>::default();
        let help = "Time that the last block took to become durable";
        registry.register_with_unit("commit", help, Unit::Seconds, commit_seconds.clone());
        Self {
            registry,
            height,
            first_block,
            round,
            peers,
            signing,
            validators,
            mempool_txs,
            block_interval,
            block_txs,
            txs,
            rounds_over_zero,
            invalid_blocks,
            dropped_parts,
            evidence,
            stalls,
            synced_blocks,
            commit_seconds,
        }
    }
}

impl Metrics {
    /// The text that Prometheus reads.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("text takes every character");
        text
    }
}
