//! A damaged file is refused with a typed error; it never yields a chain that differs from the written one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use common::{World, address, dn, genesis, params};
use dn_core::Hash32;
use dn_ledger::node::{ArchiveError, CheckError, CheckOptions, SnapshotFile, Store, StoreError};
use dn_ledger::{Chain, Payload};

/// A directory with a few blocks, open.
fn opened() -> (tempfile::TempDir, Store, Chain) {
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
    (dir, store, chain)
}

/// A directory with a few blocks; the file's bytes and the tip's state commitment.
fn written() -> (tempfile::TempDir, Vec<u8>, Hash32) {
    let (dir, store, chain) = opened();
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

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn scratch_in(dir: &Path) -> CheckOptions {
    CheckOptions { scratch: Some(dir.to_owned()), ..CheckOptions::default() }
}

/// The file of a node that was killed is one that is still open: it is repaired in a copy, and stays as it is.
#[test]
fn a_check_and_an_export_leave_a_killed_nodes_file_as_it_is() {
    let (dir, store, _) = opened();
    let in_use = Store::check(dir.path(), &CheckOptions::default());
    assert!(matches!(in_use, Err(CheckError::Store(StoreError::InUse { .. }))), "{in_use:?}");
    let (killed, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = killed.path().join("ledger.redb");
    std::fs::copy(dir.path().join("ledger.redb"), &path).unwrap();
    drop(store);
    let before = std::fs::read(&path).unwrap();
    let report = Store::check(killed.path(), &scratch_in(scratch.path())).unwrap();
    assert_eq!((report.height, report.copied_bytes), (5, Some(before.len() as u64)));
    let mut archive = Vec::new();
    assert_eq!(Store::export_archive(killed.path(), Some(scratch.path()), &mut archive).unwrap(), 5);
    assert!(std::fs::read(&path).unwrap() == before, "the file was changed");
    assert_eq!(names(killed.path()), ["ledger.redb"]);
    assert!(names(scratch.path()).is_empty(), "the copy is left behind");

    let nowhere = scratch.path().join("nowhere");
    let refused = Store::check(killed.path(), &scratch_in(&nowhere)).unwrap_err();
    assert!(refused.to_string().contains("--scratch"), "{refused}");
    let CheckError::Store(StoreError::NotClosed { bytes, .. }) = refused else { panic!("{refused}") };
    assert_eq!(bytes, before.len() as u64);
    let refused = Store::export_archive(killed.path(), Some(&nowhere), &mut Vec::new());
    assert!(matches!(refused, Err(ArchiveError::Store(StoreError::NotClosed { .. }))), "{refused:?}");

    // The repair that a start makes is of the same chain.
    let (_, chain) = Store::open(killed.path(), &genesis(params())).unwrap();
    assert_eq!(chain.tip().height, 5);
}

/// A file that was closed needs neither a copy nor the right to write.
#[test]
fn a_closed_file_is_only_read() {
    let (dir, bytes, _) = written();
    let path = dir.path().join("ledger.redb");
    let nowhere = dir.path().join("nowhere");
    let report = Store::check(dir.path(), &scratch_in(&nowhere)).unwrap();
    assert_eq!((report.height, report.copied_bytes), (5, None));
    assert!(std::fs::read(&path).unwrap() == bytes, "the file was changed");
    // What holds no chain is not made to hold one.
    let empty = tempfile::tempdir().unwrap();
    let nothing = Store::check(&empty.path().join("typo"), &CheckOptions::default());
    assert!(matches!(nothing, Err(CheckError::Empty)), "{nothing:?}");
    assert!(names(empty.path()).is_empty());
}

#[cfg(unix)]
#[test]
fn a_directory_that_cannot_be_written_is_checked() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;
    let (dir, ..) = written();
    let path = dir.path().join("ledger.redb");
    set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
    set_permissions(dir.path(), Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(dir.path().join("probe"), b"").is_ok() {
        println!("skipped: this user may write everywhere");
    } else {
        let report = Store::check(dir.path(), &CheckOptions::default()).unwrap();
        assert_eq!((report.height, report.copied_bytes), (5, None));
        assert_eq!(Store::export_archive(dir.path(), None, &mut Vec::new()).unwrap(), 5);
    }
    set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
}

/// Every snapshot is read, also where the blocks are executed from the genesis on.
#[test]
fn a_damaged_snapshot_is_found() {
    let (dir, store, _) = opened();
    let path = SnapshotFile::write(dir.path(), &store.export().unwrap()).unwrap();
    drop(store);
    assert_eq!(Store::check(dir.path(), &CheckOptions::default()).unwrap().snapshots, 1);
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let found = Store::check(dir.path(), &CheckOptions::default()).unwrap_err();
    assert!(matches!(found, CheckError::Snapshot(_) | CheckError::SnapshotFile(_)), "{found}");
}
