//! Snapshots and archives from anywhere: no panic, nothing wrong is accepted.
//! `dn-ledger/tests/history.rs` tries the same laws on every test run.
#![no_main]

use dn_core::Canonical;
use dn_ledger::node::Store;
use dn_ledger::snapshot::{Chunk, Manifest};
use libfuzzer_sys::fuzz_target;

// Bytes are tried as a manifest (the rest of them as its chunks) and as an archive.
fuzz_target!(|input: &[u8]| {
    if let Ok(chunk) = Chunk::from_bytes(input) {
        assert_eq!(chunk.to_bytes(), input);
    }
    let (head, rest) = input.split_at(input.len() / 2);
    for bytes in [input, head] {
        let Ok(manifest) = Manifest::from_bytes(bytes) else { continue };
        assert_eq!(manifest.to_bytes(), bytes);
        let _ = manifest.verify();
        if let Ok(chunk) = Chunk::from_bytes(rest) {
            for index in 0..=manifest.pieces.len().min(4) {
                let _ = manifest.verify_chunk(index, &chunk);
            }
        }
    }
    let dir = std::env::temp_dir().join(format!("dn-fuzz-history-{}", std::process::id()));
    let _ = Store::import_archive(&dir, &mut &*input, None);
    let _ = std::fs::remove_dir_all(&dir);
});
