//! Light blocks, proofs and answers from anywhere: no panic, nothing forged is accepted, and what decodes is canonical.
//! `dn-ledger/tests/light.rs` tries the same laws on every test run.
#![no_main]

use std::sync::OnceLock;

use dn_core::{Address, Amount, Canonical, SecretKey};
use dn_ledger::light::{LightBlock, LightClient, ProofView, Proven, Subject, TrustOptions};
use dn_ledger::state::{ACCOUNTS, StateProof};
use dn_ledger::{Chain, Devnet, DevnetValidator, Genesis, Params};
use libfuzzer_sys::fuzz_target;

fn genesis() -> &'static Genesis {
    static GENESIS: OnceLock<Genesis> = OnceLock::new();
    GENESIS.get_or_init(|| {
        let address = SecretKey::from_bytes(&[5; 32]).expect("in range").address();
        let (name, endpoint, stake) = ("v".into(), "here".into(), Amount::from_dn(1_000));
        let validator = DevnetValidator { address, name, endpoint, stake };
        let funded = (1..40).map(|n| (Address([n; 20]), Amount::from_dn(1))).collect();
        let devnet = Devnet { chain_id: 7, time_ms: 1, faucet: address, funded, validators: vec![validator] };
        Genesis::devnet(&devnet, Params::devnet()).expect("valid")
    })
}

// Bytes are tried as a light block, as a proof, and as an answer in JSON.
fuzz_target!(|input: &[u8]| {
    let chain = Chain::new(genesis());
    let light = LightClient::from_genesis(genesis(), TrustOptions::default());
    if let Ok(block) = LightBlock::from_bytes(input) {
        assert_eq!(block.to_bytes(), input);
        // Nobody here has the validator's key. A day later the genesis would vouch for nothing.
        let accepted = light.clone().update(&block, 80_000_000).is_ok();
        assert!(!accepted || block.header == *chain.tip());
    }
    if let Ok(proof) = StateProof::from_bytes(input) {
        assert_eq!(proof.to_bytes(), input);
        let key = ACCOUNTS.key(&Address([3; 20]));
        let value = chain.state().get(&key).expect("funded");
        let root = chain.tip().state;
        assert!(proof.verify(root, &key, None).is_err());
        assert!(proof.verify(root, &key, Some(value)).is_err() || proof == chain.state().sealed().prove(&key));
    }
    if let Ok(answer) = serde_json::from_slice::<ProofView>(input) {
        let subject = Subject::Account { address: Address([3; 20]) };
        if let Ok(proven) = Proven::open(chain.tip(), &subject, &answer) {
            let key = ACCOUNTS.key(&Address([3; 20]));
            assert_eq!(proven.state().get(&key), chain.state().get(&key));
        }
    }
});
