use super::*;
use crate::genesis::{Devnet, DevnetValidator};
use crate::params::Params;

pub(crate) fn chain() -> Chain {
    Chain::new(&genesis())
}

/// One validator, nothing else.
pub(crate) fn genesis() -> Genesis {
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
    Genesis::devnet(&devnet, Params::devnet()).unwrap()
}

/// The equation is checked at every block, in every build, over what the block changes and over all that there is.
#[test]
fn no_block_follows_from_books_that_are_off() {
    let honest = chain();
    let pool = crate::state::Pool::Reserve;
    for (off, made) in [(1u128, true), (5, false)] {
        let mut entries: std::collections::BTreeMap<_, _> =
            honest.state.entries().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        let key = crate::state::POOLS.key(&pool);
        let before = dn_core::Amount::from_bytes(&entries[&key]).unwrap().atto();
        let after = if made { before + off } else { before - off };
        entries.insert(key, dn_core::Amount::from_atto(after).to_bytes());
        let state = State::from_entries(entries);
        let tip = Header { state: state.commitment().hash(), ..honest.tip.clone() };
        let mut chain = Chain::resume(state, tip, Certificate::default());
        let found =
            dn_core::Amount::from_atto(SUPPLY_CAP.atto() + off * u128::from(made) - off * u128::from(!made));
        let refused = chain.propose(Address([1; 20]), 10, &[]).unwrap_err();
        let source = SupplyError { expected: SUPPLY_CAP, found };
        assert_eq!(refused, BlockError::Supply { height: 1, source });
    }
    // What a block would make or lose.
    let mut state = honest.state.clone();
    state.put(crate::state::POOLS.key(&pool), dn_core::Amount::from_atto(7).to_bytes());
    let error = supply::check_changes(&supply::changed_holdings(&state.pending())).unwrap_err();
    assert_eq!(error.found, dn_core::Amount::from_atto(7));
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
