//! Decoding and applying transactions on a ledger where everything is under way: no panic; what decodes is canonical; a refusal changes no byte; DN only move.
//! `dn-ledger/tests/bytes.rs` tries the same on every test run.
#![no_main]

#[path = "../../dn-ledger/tests/common/mod.rs"]
mod common;

use std::sync::OnceLock;

use common::prepared::Prepared;
use dn_core::Canonical;
use dn_ledger::SignedTx;
use libfuzzer_sys::fuzz_target;

fn prepared() -> &'static Prepared {
    static PREPARED: OnceLock<Prepared> = OnceLock::new();
    PREPARED.get_or_init(Prepared::new)
}

// Bytes are tried as a signed transaction, and as a payload that somebody of this ledger signs.
fuzz_target!(|input: &[u8]| {
    if let Ok(tx) = SignedTx::from_untrusted(input) {
        assert_eq!(tx.to_bytes(), input);
        let _ = prepared().try_tx(&tx);
    }
    prepared().try_bytes(input);
});
