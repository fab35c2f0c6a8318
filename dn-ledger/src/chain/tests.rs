use super::*;
use crate::genesis::{Devnet, DevnetValidator};
use crate::params::Params;

pub(crate) fn chain() -> Chain {
    let validator = DevnetValidator {
        address: Address([1; 20]),
        name: "v".into(),
        endpoint: "v".into(),
        stake: dn_core::Amount::from_dn(10_000),
    };
    let devnet = Devnet {
        chain_id: 1,
        time_ms: 1,
        faucet: Address([2; 20]),
        funded: Vec::new(),
        validators: vec![validator],
    };
    Chain::new(&Genesis::devnet(&devnet, Params::devnet()).unwrap())
}

/// What a panic in the middle of the rules leaves.
pub(crate) fn half_done(chain: &mut Chain) {
    chain.state.put(b"half a block".to_vec(), b"done".to_vec());
}

#[test]
fn no_block_builds_on_half_a_block() {
    let clean = chain();
    let mut first = clean.clone();
    let proposal = first.propose(Address([1; 20]), 10, &[]).unwrap();

    let mut chain = clean.clone();
    half_done(&mut chain);
    assert_eq!(chain.propose(Address([1; 20]), 10, &[]).unwrap(), proposal);
    half_done(&mut chain);
    assert_eq!(chain.validate(&proposal.block).unwrap(), proposal.executed);
    half_done(&mut chain);
    chain.commit(&proposal.block.header, Certificate::default(), &proposal.executed);
    first.commit(&proposal.block.header, Certificate::default(), &proposal.executed);
    assert_eq!(chain.state(), first.state());
    assert_eq!(chain.state().commitment().hash(), proposal.block.header.state);

    let mut chain = clean.clone();
    half_done(&mut chain);
    chain.take_back();
    assert_eq!(chain.state(), clean.state());
}
