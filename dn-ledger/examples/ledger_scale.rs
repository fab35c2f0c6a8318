//! What a state of many accounts costs: blocks, proofs, start-up, snapshots.
//!
//! `cargo run --release -p dn-ledger --features node --example ledger_scale -- [accounts] [transfers] [blocks] [--jmt]`
//!
//! `--jmt` measures the same number of changes on the crate `jmt` (docs/adr/0015-authenticated-state.md).
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring program")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use dn_core::{Address, Amount, Canonical, SecretKey, keccak256};
use dn_ledger::block::Certificate;
use dn_ledger::light::{LightBlock, ProofView, Proven, Subject};
use dn_ledger::node::{SnapshotFile, Store};
use dn_ledger::{Chain, Devnet, DevnetValidator, Genesis, Params, Payload, SignedTx, Tx};

const CHAIN_ID: u64 = 7;

fn key(n: u64) -> SecretKey {
    SecretKey::from_bytes(&keccak256(&[b"scale", &n.to_le_bytes()])).unwrap()
}

fn address(n: u64) -> Address {
    let hash = keccak256(&[b"account", &n.to_le_bytes()]);
    Address(hash[..20].try_into().unwrap())
}

fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = run();
    println!("{what}: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    result
}

/// Memory of this process, in MiB.
fn resident_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4 / 1024
}

fn genesis(accounts: u64, senders: &[SecretKey]) -> Genesis {
    let mut funded: Vec<_> = (0..accounts).map(|n| (address(n), Amount::from_atto(1_000_000_000))).collect();
    funded.extend(senders.iter().map(|key| (key.address(), Amount::from_dn(100))));
    let validator = DevnetValidator {
        address: key(0).address(),
        name: "v".into(),
        endpoint: "here".into(),
        stake: Amount::from_dn(10_000),
    };
    let faucet = key(1).address();
    let mut params = Params::devnet();
    params.max_block_txs = params.max_block_txs.max(u32::try_from(senders.len()).unwrap());
    let devnet = Devnet { chain_id: CHAIN_ID, time_ms: 1, faucet, funded, validators: vec![validator] };
    Genesis::devnet(&devnet, params).unwrap()
}

fn transfers(chain: &Chain, senders: &[SecretKey], accounts: u64) -> Vec<SignedTx> {
    let (height, fee) = (chain.tip().height, Params::devnet().min_tx_fee);
    let sign = |(n, key): (usize, &SecretKey)| {
        let to = address((n as u64 * 7_919 + height * 104_729) % accounts);
        let payload = Payload::Transfer { to, amount: Amount::from_atto(5) };
        let (chain_id, sender, nonce, expires_height) = (CHAIN_ID, key.address(), height, height + 10);
        Tx { chain_id, sender, nonce, expires_height, fee, payload }.sign(key)
    };
    senders.iter().enumerate().map(sign).collect()
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| args.get(at).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (accounts, count, blocks) = (number(0, 1_000_000), number(1, 1_000), number(2, 10));
    let senders: Vec<_> = (0..count).map(|n| key(1_000 + n)).collect();
    let genesis = genesis(accounts, &senders);
    let dir = std::env::temp_dir().join(format!("ledger-scale-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    println!("{accounts} accounts, {count} transfers a block; {} MiB before", resident_mib());
    let (store, mut chain) = timed("first start", || Store::open(&dir, &genesis).unwrap());
    println!(
        "{} records, {} tree nodes; {} MiB",
        chain.state().len(),
        chain.state().sealed().nodes(),
        resident_mib()
    );
    run_blocks(&store, &mut chain, &senders, accounts, blocks);
    proofs(&chain);
    snapshot(&dir, &store, &genesis);
    drop((store, chain));
    let (_, chain) = timed("start again", || Store::open(&dir, &genesis).unwrap());
    println!("tip {}; {} MiB", chain.tip().height, resident_mib());
    let _ = std::fs::remove_dir_all(&dir);
    if args.iter().any(|arg| arg == "--jmt") {
        jmt_tree::measure(accounts, 2 * count + 2, blocks);
    }
}

fn run_blocks(store: &Store, chain: &mut Chain, senders: &[SecretKey], accounts: u64, blocks: u64) {
    let mut rows: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for _ in 0..blocks {
        let txs = transfers(chain, senders, accounts);
        let mut lap = Instant::now();
        let mut note = |what: &'static str| {
            rows.entry(what).or_default().push(lap.elapsed());
            lap = Instant::now();
        };
        assert!(txs.iter().all(|tx| tx.verify_signature().is_ok()));
        note("of which signatures");
        let proposal = chain.propose(key(0).address(), chain.tip().time_ms + 1_000, &txs).unwrap();
        assert_eq!((proposal.block.txs.len(), proposal.rejected.len()), (senders.len(), 0));
        note("1 execute, sign checks, root");
        let certificate = Certificate::sign(&proposal.block.header, 0, [&key(0)]);
        lap = Instant::now();
        store.commit(&proposal.block, &certificate, &proposal.executed).unwrap();
        rows.entry("2 durable write").or_default().push(lap.elapsed());
        lap = Instant::now();
        let before = chain.commit(&proposal.block.header, certificate, &proposal.executed);
        rows.entry("3 commit in memory").or_default().push(lap.elapsed());
        // As a node does, which does not wait for it.
        let freeing = std::thread::spawn(move || drop(before));
        lap = Instant::now();
        let changes = proposal.executed.changes.iter();
        let tree =
            chain.state().sealed().update(changes.map(|(key, value)| (key.as_slice(), value.as_deref())));
        assert_eq!(tree.hash(), chain.tip().state);
        rows.entry("of which root").or_default().push(lap.elapsed());
        freeing.join().unwrap();
    }
    for (what, mut times) in rows {
        times.sort();
        let ms = |at: usize| times[at].as_secs_f64() * 1e3;
        println!(
            "{what}: p50 {:.1} ms, best {:.1} ms, worst {:.1} ms",
            ms(times.len() / 2),
            ms(0),
            ms(times.len() - 1)
        );
    }
}

fn proofs(chain: &Chain) {
    let block = LightBlock::new(
        chain.tip().clone(),
        chain.certificate().clone(),
        chain.tip_validators(),
        chain.validators(),
    );
    let subject = Subject::Account { address: address(3) };
    let view = timed("prove an account", || ProofView::answer(&subject, chain.state(), block));
    let proof = &view.entries[0].proof;
    let json = serde_json::to_vec(&view).unwrap().len();
    println!(
        "proof: {} siblings, {} bytes; whole answer as JSON {json} bytes",
        proof.siblings.len(),
        proof.to_bytes().len()
    );
    let start = Instant::now();
    for _ in 0..100 {
        Proven::open(chain.tip(), &subject, &view).unwrap();
    }
    println!("verify an account's proof: {:.3} ms", start.elapsed().as_secs_f64() * 10.0);
}

fn snapshot(dir: &Path, store: &Store, genesis: &Genesis) {
    let export = timed("snapshot: cut up", || store.export().unwrap());
    let path = timed("snapshot: write", || SnapshotFile::write(dir, &export).unwrap());
    let header = export.manifest.block.header.clone();
    let largest = export.chunks().map(|bytes| bytes.len()).max().unwrap_or(0);
    let size = std::fs::metadata(&path).unwrap().len();
    println!("snapshot: {} chunks, {size} bytes, largest {largest} bytes", export.manifest.pieces.len());
    drop(export);
    let other = dir.join("joined");
    let mut file = SnapshotFile::open(&path).unwrap();
    let (_, chain) = timed("snapshot: restore, verify, open", || {
        Store::restore(&other, genesis, &header, &mut file).unwrap()
    });
    assert_eq!(*chain.tip(), header);
}

/// The same changes on the crate `jmt`, with its nodes in memory.
mod jmt_tree {
    use std::cell::RefCell;

    use jmt::storage::{LeafNode, Node, NodeKey, TreeReader, TreeUpdateBatch};
    use jmt::{JellyfishMerkleTree, KeyHash, OwnedValue, Version};
    use sha3::Keccak256;

    use super::{BTreeMap, Instant, resident_mib};

    #[derive(Default)]
    struct Nodes(RefCell<BTreeMap<NodeKey, Node>>);

    impl TreeReader for Nodes {
        fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
            Ok(self.0.borrow().get(key).cloned())
        }
        fn get_value_option(&self, _: Version, _: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
            Ok(None)
        }
        fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
            Ok(None)
        }
    }

    impl Nodes {
        fn apply(&self, batch: &TreeUpdateBatch) {
            let mut nodes = self.0.borrow_mut();
            for stale in &batch.stale_node_index_batch {
                nodes.remove(&stale.node_key);
            }
            nodes.extend(batch.node_batch.nodes().iter().map(|(key, node)| (key.clone(), node.clone())));
        }
    }

    pub(super) fn measure(accounts: u64, changes: u64, blocks: u64) {
        let nodes = Nodes::default();
        let key = |n: u64| KeyHash::with::<Keccak256>(n.to_le_bytes());
        let start = Instant::now();
        for part in 0..20 {
            let range = part * accounts / 20..(part + 1) * accounts / 20;
            let set = range.map(|n| (key(n), Some(vec![1; 24])));
            let tree = JellyfishMerkleTree::<_, Keccak256>::new(&nodes);
            nodes.apply(&tree.put_value_set(set, part).unwrap().1);
        }
        let held = nodes.0.borrow().len();
        println!(
            "jmt: built in {:.1} s, {held} nodes; {} MiB",
            start.elapsed().as_secs_f64(),
            resident_mib()
        );
        for block in 0..blocks {
            let set = (0..changes).map(|n| (key((n * 7_919 + block * 13) % accounts), Some(vec![2; 24])));
            let start = Instant::now();
            let tree = JellyfishMerkleTree::<_, Keccak256>::new(&nodes);
            let (_, batch) = tree.put_value_set(set, 20 + block).unwrap();
            let ms = start.elapsed().as_secs_f64() * 1e3;
            let (new, stale) = (batch.node_batch.nodes().len(), batch.stale_node_index_batch.len());
            println!("jmt: root of {changes} changes {ms:.1} ms; {new} nodes to write, {stale} to delete");
            nodes.apply(&batch);
        }
    }
}
