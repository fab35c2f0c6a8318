//! Blocks from anywhere, on a ledger where everything is under way: no panic, and none but the one that follows is valid.
//! `dn-ledger/tests/bytes.rs` tries the same on every test run.
#![no_main]

#[path = "../../dn-ledger/tests/common/mod.rs"]
mod common;

use std::sync::OnceLock;

use common::prepared::Prepared;
use libfuzzer_sys::fuzz_target;

fn prepared() -> &'static Prepared {
    static PREPARED: OnceLock<Prepared> = OnceLock::new();
    PREPARED.get_or_init(Prepared::new)
}

fuzz_target!(|input: &[u8]| prepared().try_block(input));
