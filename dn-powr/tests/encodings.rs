//! Golden bytes of everything that is stored or hashed: written out from the format by hand, little-endian, fields in order.

use dn_core::encoding::{Canonical, DecodeError};
use dn_core::{Address, Amount};
use dn_powr::{
    Consensus, DomainSplit, EmissionParams, FeeBounds, FeeMove, FeeSplit, GenesisSplit, Offence, SlashParams,
    StakePool, Vote, WorkCost, payout,
};
use dn_trust::{AuditParams, ModelTrust, Params, Trust, Unit, ValidatorTrust};

fn golden<T: Canonical + PartialEq + std::fmt::Debug>(value: &T, hex: &str) {
    let text: String = value.to_bytes().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(text, hex.replace(' ', ""), "{value:?}");
    assert_eq!(T::from_bytes(&value.to_bytes()).as_ref(), Ok(value));
    let mut longer = value.to_bytes();
    longer.push(0);
    assert!(matches!(T::from_bytes(&longer), Err(DecodeError::TrailingBytes { .. })));
    longer.truncate(longer.len() - 2);
    assert!(T::from_bytes(&longer).is_err());
}

#[test]
fn golden_bytes() {
    golden(&FeeSplit::default(), "6419 d007 2003 9001 6400 6400 6400");
    golden(&FeeBounds::default(), "8813 3421 f401 ac0d f401 dc05 0000 e803");
    golden(&FeeMove { worker: 1, owner: 2, validators: 3, domain: 4 }, "0100 0200 0300 0400");
    golden(&EmissionParams::default(), "f888000000000000 0080c6a47e8d03000000000000000000");
    golden(&DomainSplit::default(), "8813 d007 e803 dc05 9001 6400");
    golden(&GenesisSplit::default(), "8813 dc05 1405 e803 c800 e803");
    golden(&SlashParams::default(), "1027 d007 6400 e803 f401 c409");
    golden(&Offence::FalseVerdict, "02");
    golden(
        &WorkCost { prefill_ops_per_token: 1, decode_ops_per_token: 256 },
        "0100000000000000 0001000000000000",
    );
    golden(&Vote { score: Unit::ONE, weight: 5 }, "0000000001000000 05000000000000000000000000000000");
    let one = Consensus { low: Unit::ZERO, quality: Unit::from_bits(1), high: Unit::ONE };
    golden(&one, "0000000000000000 0100000000000000 0000000001000000");
    let mut pool = StakePool::default();
    pool.deposit(Amount::from_atto(3)).expect("first deposit");
    pool.reward(Amount::from_atto(1)).expect("has shares");
    golden(&pool, "04000000000000000000000000000000 03000000000000000000000000000000");
}

#[test]
fn golden_bytes_of_trust() {
    let p = Params::default();
    golden(&AuditParams::default(), "8813 f401");
    golden(&Trust::ONE, "0000000001000000");
    // Three pairs of empty counts, history 1/8.
    golden(&ValidatorTrust::newcomer(&p), &format!("{} 00000020", "00".repeat(24)));
    // Two pairs of empty counts, demand 1/2, history 1/8.
    golden(&ModelTrust::newcomer(&p), &format!("{} 00000080 00000020", "00".repeat(16)));
}

/// Addresses are ids like any other: the lower one gets the odd atto.
#[test]
fn a_payout_to_addresses() {
    let ids = [Address([2; 20]), Address([1; 20])];
    let mut out = [Amount::ZERO; 2];
    let carried = payout(Amount::from_atto(5), &ids, &[7, 7], &mut out).expect("fits");
    assert_eq!((out.map(|a| a.atto()), carried), ([2, 3], Amount::ZERO));
}
