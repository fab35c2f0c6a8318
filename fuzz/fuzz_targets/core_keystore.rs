//! Keystore files: no panic, and what is read is written to a text that reads the same. Nothing is decrypted.
#![no_main]

use dn_core::keystore::Keystore;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(keystore) = Keystore::from_json(text) {
        assert_eq!(Keystore::from_json(&keystore.to_json()).ok(), Some(keystore));
    }
});
