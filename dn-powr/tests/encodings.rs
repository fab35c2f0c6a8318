//! Golden bytes of everything that is stored or hashed: written out from the format by hand, little-endian, fields in order.

use dn_core::encoding::{Canonical, DecodeError};
use dn_core::{Address, Amount, Hash32};
use dn_powr::{
    Attendance, Consensus, DomainDemand, DomainSplit, EmissionParams, FeeBounds, FeeMove, FeeSplit, Finding,
    GenesisSplit, Offence, Quality, QualitySum, Reveal, ReviewParams, Seal, Settled, Settlement, SlashParams,
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

fn hash(hash: Hash32, hex: &str) {
    assert_eq!(hash.to_string(), format!("0x{hex}"));
}

/// Hashes from a Keccak-256 written for this in another language.
#[test]
fn golden_commitments() {
    let (round, salt, score) = (Hash32([1; 32]), Hash32([3; 32]), Unit::from_bits(1 << 31));
    let reveal = Reveal { round, validator: Address([2; 20]), score, salt };
    let (r, s) = ("01".repeat(32), "03".repeat(32));
    golden(&reveal, &format!("{r} {} 0000008000000000 {s}", "02".repeat(20)));
    hash(reveal.commitment(), "7ec056b0c5edcbdb55cf79e42347b4abb8f4ce4ee3fbef8762e8f784dc3297f2");
    let plain = Seal { round, known: None, salt };
    golden(&plain, &format!("{r} 00 {s}"));
    hash(plain.commitment(), "f83d4eac49fdaeefc01dbbea3ef6b8a6274f4d68311d3f92303fd55bb81c5622");
    let canary = Seal { known: Some(score), ..plain };
    golden(&canary, &format!("{r} 01 0000008000000000 {s}"));
    hash(canary.commitment(), "9658335b52e7e10de4f0f93ab7737bdfde52466f2d34e00186a70387d7981b67");
}

#[test]
fn golden_bytes_of_rounds() {
    golden(&ReviewParams::default(), "0700 f401 9a99991900000000 9a99991900000000");
    let revealed = Attendance::Revealed { score: Unit::ONE };
    let one =
        Settlement { validator: Address([2; 20]), attendance: revealed, finding: Finding::CanaryPassed };
    let hex = format!("{} 00 0000000001000000 03", "02".repeat(20));
    golden(&one, &hex);
    let settled = Settled { known: Some(Unit::ONE), consensus: None, members: vec![one] };
    golden(&settled, &format!("01 0000000001000000 00 01000000 {hex}"));
    for (n, other) in [
        Attendance::NoCommitment {},
        Attendance::LateCommitment {},
        Attendance::NoReveal {},
        Attendance::LateReveal {},
        Attendance::Mismatch {},
    ]
    .into_iter()
    .enumerate()
    {
        golden(&other, &format!("{:02x}", n + 1));
    }
    let mut sum = QualitySum::default();
    sum.add(Unit::from_bits(1 << 31), 3).expect("fits");
    golden(&sum, "00000080010000000000000000000000 03000000000000000000000000000000");
    golden(&Quality { execution: Unit::ONE, result: Unit::ZERO }, "0000000001000000 0000000000000000");
    let demand = DomainDemand { points: 258, fees: FeeSplit::default(), split: DomainSplit::default() };
    let splits = "6419 d007 2003 9001 6400 6400 6400 8813 d007 e803 dc05 9001 6400";
    golden(&demand, &format!("02010000000000000000000000000000 {splits}"));
}
