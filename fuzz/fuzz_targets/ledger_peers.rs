//! What peers send to consensus: messages and blocks in parts. No panic, nothing forged is accepted, what is read is written the same.
//! `dn-ledger/src/node/consensus/untrusted/tests.rs` tries the same on every test run.
#![no_main]

use dn_ledger::node::untrusted::{try_message, try_parts};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    try_message(input);
    try_parts(input);
});
