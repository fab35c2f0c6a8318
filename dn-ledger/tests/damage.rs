//! A damaged file is refused with a typed error; it never yields a chain that differs from the written one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{World, address, dn, genesis, params};
use dn_core::Hash32;
use dn_ledger::Payload;
use dn_ledger::node::{Store, StoreError};

/// A directory with a few blocks; the file's bytes and the tip's state commitment.
fn written() -> (tempfile::TempDir, Vec<u8>, Hash32) {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut chain) = Store::open(dir.path(), &genesis(params())).unwrap();
    let mut w = World::bare();
    for n in 0..5 {
        let tx = w.tx("payer", Payload::Transfer { to: address("owner"), amount: dn(n + 1) });
        let proposal = w.block(&[tx]);
        let certificate = common::certificate(&proposal.block.header, &chain.validators());
        store.commit(&proposal.block, &certificate, &proposal.executed).unwrap();
        chain.commit(&proposal.block.header, certificate, &proposal.executed);
    }
    assert_eq!(chain.state(), w.state());
    let state = chain.tip().state;
    drop(store);
    let bytes = std::fs::read(dir.path().join("ledger.redb")).unwrap();
    (dir, bytes, state)
}

#[test]
fn a_written_chain_opens_again() {
    let (dir, _, state) = written();
    let (_store, chain) = Store::open(dir.path(), &genesis(params())).unwrap();
    assert_eq!((chain.tip().height, chain.tip().state), (5, state));
}

#[test]
fn flipped_bits_never_pass_for_another_state() {
    let (dir, bytes, state) = written();
    let path = dir.path().join("ledger.redb");
    std::panic::set_hook(Box::new(|_| {}));
    let (mut refused, mut passed, mut seed) = (0, Vec::new(), 12_345u64);
    for _ in 0..150 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut damaged = bytes.clone();
        let used = damaged.iter().rposition(|b| *b != 0).unwrap() + 1;
        let at = (seed >> 20) as usize % used;
        damaged[at] ^= 1 << (seed >> 60 & 7);
        std::fs::write(&path, &damaged).unwrap();
        match Store::open(dir.path(), &genesis(params())) {
            Err(_) => refused += 1,
            // Bytes that hold nothing live may be anything.
            Ok((_, chain)) => passed.push((at, chain.tip().height, chain.tip().state)),
        }
    }
    let _ = std::panic::take_hook();
    for (at, height, found) in passed {
        assert_eq!((height, found), (5, state), "byte {at}");
    }
    assert!(refused > 0, "no flip was noticed");
}

#[test]
fn other_files_are_refused() {
    let (dir, bytes, _) = written();
    let path = dir.path().join("ledger.redb");
    for other in [&b"not a database"[..], &bytes[..bytes.len() / 2], &bytes[..100]] {
        std::fs::write(&path, other).unwrap();
        let opened = Store::open(dir.path(), &genesis(params()));
        let refused = matches!(opened, Err(StoreError::Database { .. } | StoreError::Unreadable { .. }));
        assert!(refused, "{:?}", opened.err());
    }
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    assert!(matches!(Store::open(&file, &genesis(params())), Err(StoreError::Io { .. })));
}
