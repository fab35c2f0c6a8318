//! Amounts, addresses, ids, derivation paths and phrases: no panic, and what parses prints as something equal.
#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use dn_core::mnemonic::{DerivationPath, Mnemonic};
use dn_core::{Address, Amount, Hash32};
use libfuzzer_sys::fuzz_target;

fn round_trip<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse().ok(), Some(value));
    }
}

fuzz_target!(|text: &str| {
    round_trip::<Amount>(text);
    round_trip::<Address>(text);
    round_trip::<Hash32>(text);
    round_trip::<DerivationPath>(text);
    if let Ok(phrase) = Mnemonic::parse(text) {
        assert_eq!(Mnemonic::parse(&phrase.phrase()).map(|again| again.phrase()), Ok(phrase.phrase()));
    }
});
