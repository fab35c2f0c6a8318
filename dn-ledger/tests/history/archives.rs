//! Where archives end, what an import counts, and a peer that has no snapshot.

use std::path::Path;
use std::time::{Duration, Instant};

use dn_ledger::Payload;
use dn_ledger::light::{LightClient, TrustOptions};
use dn_ledger::node::{ArchiveError, JoinError, Node, NodeConfig, Peer, SnapshotFile, Store, join};

use super::common::{START_MS, address, dn, key, params, solo_genesis};
use super::{Stored, holds_no_chain, stored};

/// The directory's chain as an archive.
fn archived(s: Stored) -> (tempfile::TempDir, Vec<u8>) {
    let Stored { store, dir, .. } = s;
    drop(store);
    let mut bytes = Vec::new();
    Store::export_archive(dir.path(), None, &mut bytes).unwrap();
    (dir, bytes)
}

/// A directory that is restored from a snapshot of the tip, and has no block.
fn joined(s: &Stored) -> tempfile::TempDir {
    let path = SnapshotFile::write(s.dir.path(), &s.store.export().unwrap()).unwrap();
    let (dir, mut file) = (tempfile::tempdir().unwrap(), SnapshotFile::open(&path).unwrap());
    drop(Store::restore(dir.path(), &s.w.genesis, s.w.chain.tip(), &mut file).unwrap());
    dir
}

fn pay(s: &mut Stored, amount: u64) {
    s.step("payer", Payload::Transfer { to: address("owner"), amount: dn(amount) });
}

/// An archive ends with its end frame, neither before nor behind it.
#[test]
fn an_archive_has_one_end() {
    let (_dir, bytes) = archived(stored(5));
    let other = tempfile::tempdir().unwrap();
    let import = |bytes: &[u8]| Store::import_archive(other.path(), &mut &*bytes, None);
    for left in [0, 3, 8, 10, 60] {
        let cut = import(&bytes[..left]);
        assert!(matches!(cut, Err(ArchiveError::Truncated { height: 0 })), "{left}: {cut:?}");
    }
    assert!(matches!(import(b"DNA?"), Err(ArchiveError::Magic)));
    assert!(holds_no_chain(other.path()));
    // Without its end frame, of 36 bytes, it has all blocks, and nobody knows that they are all.
    for missing in [1, 35, 36] {
        let cut = import(&bytes[..bytes.len() - missing]);
        assert!(matches!(cut, Err(ArchiveError::Truncated { height: 5 })), "{missing}: {cut:?}");
    }
    for behind in [&b"\0"[..], &b"more"[..], bytes.as_slice()] {
        let long = import(&[bytes.as_slice(), behind].concat());
        assert!(matches!(long, Err(ArchiveError::Trailing { height: 5 })), "{long:?}");
    }
    assert_eq!(import(&bytes).unwrap().height, 5);
}

/// What a directory does not hold is not known to it.
#[test]
fn blocks_below_the_first_that_is_held_are_counted_apart() {
    let mut s = stored(6);
    let joined = joined(&s);
    pay(&mut s, 1);
    pay(&mut s, 2);
    let (dir, bytes) = archived(s);
    let counts = |dir: &Path| {
        let r = Store::import_archive(dir, &mut bytes.as_slice(), None).unwrap();
        (r.known, r.below, r.imported, r.height)
    };
    assert_eq!(counts(joined.path()), (0, 6, 2, 8));
    assert_eq!(counts(joined.path()), (2, 6, 0, 8));
    assert_eq!(counts(dir.path()), (8, 0, 0, 8));
}

/// Of the block of a snapshot the directory has the header, which an archive of another chain does not match.
#[test]
fn an_archive_of_another_chain_is_refused_at_the_snapshots_block() {
    let joined = joined(&stored(6));
    let mut fork = stored(5);
    pay(&mut fork, 77);
    let (_dir, bytes) = archived(fork);
    let refused = Store::import_archive(joined.path(), &mut bytes.as_slice(), None);
    assert!(matches!(refused, Err(ArchiveError::Other { height: 6 })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_without_a_snapshot_is_no_dead_end() {
    let (dir, genesis) = (tempfile::tempdir().unwrap(), solo_genesis(params()));
    let rpc_listen = "127.0.0.1:0".parse().unwrap();
    let config = NodeConfig::alone(dir.path().to_owned(), genesis.clone(), rpc_listen, key("v1"), 20);
    let node = Node::start(config).await.unwrap();
    let url = format!("http://{}", node.rpc_addr());
    let told = tokio::task::spawn_blocking(move || {
        let peer = Peer::new(&url, Instant::now() + Duration::from_secs(60)).unwrap();
        let mut light = LightClient::from_genesis(&genesis, TrustOptions::default());
        let empty = tempfile::tempdir().unwrap();
        match join(empty.path(), &genesis, &peer, &mut light, START_MS) {
            Err(error @ JoinError::NoSnapshot) => error.to_string(),
            other => panic!("{:?}", other.err()),
        }
    });
    let told = told.await.unwrap();
    assert!(told.contains("--snapshot-blocks") && told.contains("dn ledger snapshot"), "{told}");
    node.shutdown().await;
}
