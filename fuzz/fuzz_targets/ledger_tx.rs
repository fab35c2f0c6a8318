//! Decoding and applying transactions: no panic; what decodes is canonical; a refusal changes no byte; books balance.
//! `dn-ledger/tests/laws.rs` tries the same laws on every test run.
#![no_main]

use std::sync::OnceLock;

use dn_core::amount::SUPPLY_CAP;
use dn_core::{Address, Amount, Canonical, SecretKey};
use dn_ledger::{Chain, Devnet, DevnetValidator, Genesis, Params, Payload, SignedTx, Tx, apply, supply};
use libfuzzer_sys::fuzz_target;

const CHAIN_ID: u64 = 7;

fn key() -> SecretKey {
    SecretKey::from_bytes(&[5; 32]).expect("in range")
}

fn chain() -> &'static Chain {
    static CHAIN: OnceLock<Chain> = OnceLock::new();
    CHAIN.get_or_init(|| {
        let validator = DevnetValidator {
            address: key().address(),
            name: "v".into(),
            endpoint: "here".into(),
            stake: Amount::from_dn(1_000),
        };
        let devnet = Devnet {
            chain_id: CHAIN_ID,
            time_ms: 1,
            faucet: key().address(),
            funded: vec![(Address([1; 20]), Amount::from_dn(1))],
            validators: vec![validator],
        };
        Chain::new(&Genesis::devnet(&devnet, Params::devnet()).expect("valid"))
    })
}

// Bytes are tried as a signed transaction, and as a payload that a funded sender signs.
fuzz_target!(|input: &[u8]| {
    let signed = SignedTx::from_untrusted(input);
    if let Ok(tx) = &signed {
        assert_eq!(tx.to_bytes(), input);
    }
    let own = Payload::from_bytes(input).map(|payload| {
        let (sender, fee) = (key().address(), Params::devnet().min_tx_fee);
        Tx { chain_id: CHAIN_ID, sender, nonce: 0, expires_height: 9, fee, payload }.sign(&key())
    });
    for tx in [signed, own].into_iter().flatten() {
        let mut state = chain().state().clone();
        let ctx = chain().next_context(10);
        if apply(&mut state, &tx, &ctx).is_err() {
            assert_eq!(&state, chain().state());
        }
        assert_eq!(supply::supply(&state).total(), SUPPLY_CAP);
    }
});
