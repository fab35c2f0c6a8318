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

/// The faucet's transfers, the third one to where the rules have a bug.
fn with_a_trap(chain: &Chain) -> Vec<SignedTx> {
    let faucet = SecretKey::from_bytes(&[2; 32]).unwrap();
    let to = |nonce| if nonce == 2 { fault::TRAP } else { Address([9; 20]) };
    let tx = |nonce| crate::tx::Tx {
        chain_id: 1,
        sender: faucet.address(),
        nonce,
        expires_height: chain.tip.height + 50,
        fee: dn_core::Amount::from_dn(1),
        payload: crate::tx::Payload::Transfer { to: to(nonce), amount: dn_core::Amount::from_dn(1) },
    };
    (0..5).map(|nonce| tx(nonce).sign(&faucet)).collect()
}

fn funded() -> Chain {
    let mut genesis = genesis();
    let faucet = genesis.accounts.iter_mut().find(|account| account.address == Address([2; 20])).unwrap();
    faucet.address = SecretKey::from_bytes(&[2; 32]).unwrap().address();
    Chain::new(&genesis)
}

/// A transaction with which the rules panic ends nothing: a block with it is refused, and one's own is built without it.
#[test]
fn a_panic_is_kept_to_its_transaction() {
    let clean = funded();
    let txs = with_a_trap(&clean);
    let whole = clean.clone().propose(Address([1; 20]), 10, &txs).unwrap();
    assert_eq!((whole.block.txs.len(), whole.rejected.len()), (5, 0), "without the bug");

    fault::set(fault::Trap::InTx);
    let mut chain = clean.clone();
    let (height, tx, message) = (1, Some(txs[2].id()), "a bug in the rules".to_owned());
    assert_eq!(chain.validate(&whole.block), Err(BlockError::Panicked { height, tx, message }));
    assert_eq!((chain.state(), chain.state().commitment()), (clean.state(), clean.state().commitment()));
    assert_eq!(chain.try_tx(&txs[0], Signatures::Check), Ok(()));
    let proposal = chain.propose(Address([1; 20]), 10, &txs).unwrap();
    assert_eq!(proposal.block.txs, txs[..2]);
    assert_eq!(proposal.rejected[0], (txs[2].clone(), Reject::Bug {}));
    assert!(matches!(proposal.rejected[1..], [(_, Reject::Nonce { .. }), (_, Reject::Nonce { .. })]));
    assert_eq!(chain.validate(&proposal.block).unwrap(), proposal.executed);
    chain.commit(&proposal.block.header, Certificate::default(), &proposal.executed);
    assert_eq!(chain.try_tx(&txs[2], Signatures::Check), Err(Reject::Bug {}));
    assert_eq!(chain.state().commitment().hash(), chain.tip.state);

    // A panic after the transactions, or books that do not add up: the block ends before the one that leads to it.
    for (trapped, trap) in (0..5).flat_map(|n| [(n, fault::Trap::InEnd), (n, fault::Trap::Mint)]) {
        fault::set(trap);
        let mut txs = txs.clone();
        let faucet = SecretKey::from_bytes(&[2; 32]).unwrap();
        for (nonce, tx) in txs.iter_mut().enumerate() {
            let to = if nonce == trapped { fault::TRAP } else { Address([9; 20]) };
            let amount = dn_core::Amount::from_dn(1);
            tx.tx.payload = crate::tx::Payload::Transfer { to, amount };
            *tx = tx.tx.clone().sign(&faucet);
        }
        let mut chain = clean.clone();
        let proposal = chain.propose(Address([1; 20]), 10, &txs).unwrap();
        assert_eq!(proposal.block.txs, txs[..trapped]);
        assert_eq!(proposal.rejected, [(txs[trapped].clone(), Reject::Bug {})]);
        assert_eq!(chain.validate(&proposal.block).unwrap(), proposal.executed);
        assert_eq!(chain.state(), clean.state());
    }

    // Nothing can be built then.
    fault::set(fault::Trap::Always);
    let mut chain = clean.clone();
    let refused = chain.propose(Address([1; 20]), 10, &txs).unwrap_err();
    let message = "a bug at the end of a block".to_owned();
    assert_eq!(refused, BlockError::Panicked { height, tx: None, message });
    assert_eq!(chain.state(), clean.state());
    fault::set(fault::Trap::Off);
}
