//! What blocks cost whose audits are as many as blocks admit: a worker posts batches as fast as they are taken, and no auditor answers.
//!
//! `cargo test --release -p dn-ledger --test audit_load -- --ignored --nocapture`: some minutes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::{CHAIN_ID, START_MS, World, address, dn, key, manifest};
use dn_core::{Address, Amount, ChannelId, Signed, keccak256};
use dn_ledger::block::Certificate;
use dn_ledger::events::Event;
use dn_ledger::{Chain, Devnet, DevnetValidator, Genesis, Params, Payload, Proposal, SignedTx, Tx};

const PEOPLE: [&str; 7] = ["owner", "worker", "worker2", "gateway", "payer", "stranger", "v1"];
const BATCHES: u64 = 500;
const RECEIPTS: u32 = 96;

/// So many validators, of which the first one decides.
fn world(validators: u32) -> World {
    let mut params = Params { epoch_blocks: 3_600, ..Params::devnet() };
    (params.audit_times.commit_blocks, params.audit_times.reveal_blocks) = (6, 3);
    params.audit_times.window_blocks = 3;
    params.audit_rate = dn_trust::AuditParams { ceiling: 5_000, floor: 5_000 };
    let validator = |n: u32| DevnetValidator {
        address: if n == 0 {
            address("v1")
        } else {
            Address(keccak256(&[&n.to_le_bytes()])[..20].try_into().unwrap())
        },
        name: format!("v{n}"),
        endpoint: if n == 0 { "in-process".into() } else { String::new() },
        stake: dn(10_000),
    };
    let devnet = Devnet {
        chain_id: CHAIN_ID,
        time_ms: START_MS,
        faucet: address("faucet"),
        funded: PEOPLE.iter().map(|name| (address(name), dn(5_000))).collect(),
        validators: (0..validators).map(validator).collect(),
    };
    let genesis = Genesis::devnet(&devnet, params).unwrap();
    let chain = Chain::new(&genesis);
    let (model, channel) = (manifest(1).id(), ChannelId::ZERO);
    let mut w = World { chain, genesis, log: Vec::new(), model, channel, sequence: 0 };
    w.prepare();
    w
}

/// Processor time of this thread, where the system tells, or the time that has passed.
fn processor_time(start: Instant) -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split_whitespace().next().and_then(|first| first.parse().ok());
    nanos.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

/// The next block, with the time that it takes a proposer.
fn block(w: &mut World, txs: &[SignedTx]) -> (Proposal, Duration) {
    let time_ms = w.chain.tip().time_ms + 1_000;
    let start = Instant::now();
    let before = processor_time(start);
    let proposal = w.chain.propose(address("v1"), time_ms, txs).unwrap();
    let took = processor_time(start).saturating_sub(before);
    let header = &proposal.block.header;
    w.chain.commit(header, Certificate::default(), &proposal.executed);
    (proposal, took)
}

#[test]
#[ignore = "a measurement of minutes"]
fn blocks_of_silent_audits() {
    for validators in [100, 1_000] {
        let mut w = world(validators);
        let fee = dn(1).mul_div(1, 2).unwrap();
        let mut waiting: Vec<SignedTx> = (0..BATCHES)
            .map(|n| {
                let mut body = w.root("worker", vec![w.line(0, RECEIPTS, Amount::from_atto(1_000_000))]);
                (body.sequence, body.expires_ms) = (n, u64::MAX);
                let mut voucher = w.voucher(0, fee).body;
                voucher.expires_ms = u64::MAX;
                let batch = Signed::sign(body, &key("gateway"));
                let payload =
                    Payload::PostBatch { batch, vouchers: vec![Signed::sign(voucher, &key("spender"))] };
                let tx = w.raw("worker", payload);
                Tx { nonce: tx.nonce + n, expires_height: w.height() + 900, ..tx }.sign(&key("worker"))
            })
            .collect();
        let (mut worst, mut taking, mut blocks, mut settled) = (Duration::ZERO, Duration::ZERO, 0u32, 0u64);
        let mut most = (0, 0);
        while settled < BATCHES {
            let (proposal, took) = block(&mut w, &waiting);
            waiting.drain(..proposal.block.txs.len());
            let events: Vec<_> = proposal.executed.events().map(|(_, event)| event).collect();
            let count = |is: fn(&Event) -> bool| events.iter().filter(|e| is(e)).count();
            settled += count(|e| matches!(e, Event::BatchSettled { .. })) as u64;
            let done = (
                count(|e| matches!(e, Event::AuditAssigned { .. })),
                count(|e| matches!(e, Event::AuditClosed { .. })),
            );
            most = (most.0.max(done.0), most.1.max(done.1));
            blocks += 1;
            let slowest = if proposal.block.txs.is_empty() { &mut worst } else { &mut taking };
            *slowest = (*slowest).max(took);
        }
        println!(
            "{validators} validators, {BATCHES} batches of {RECEIPTS}, {blocks} blocks: at most {most:?} draws and ends in one; \
             the slowest with batches {taking:?}, without {worst:?} of processor time"
        );
        assert!(blocks < 900);
    }
}
