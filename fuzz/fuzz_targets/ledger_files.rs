//! What a crash or a bad disk leaves of consensus' files: undecided blocks, the record of signatures, the engine's log. No panic, and
//! nothing is signed twice.
//! `dn-ledger/src/node/consensus/untrusted/tests.rs` tries the same on every test run.
#![no_main]

use dn_ledger::node::untrusted::try_files;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let dir = std::env::temp_dir().join(format!("dn-fuzz-files-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    try_files(&dir, input).expect("the disk works");
});
