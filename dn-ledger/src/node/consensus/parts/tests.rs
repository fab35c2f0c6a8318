use dn_core::keccak256;

use super::*;
use crate::genesis::{Devnet, DevnetValidator, Genesis};
use crate::params::Params;
use crate::tx::{Payload, Tx};
use crate::{Chain, SignedTx};

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&keccak256(&[b"parts test", &[n]])).unwrap()
}

/// A block of several parts, and its place.
fn sample() -> (Place, Block) {
    let validator = DevnetValidator {
        address: key(0).address(),
        name: "zero".into(),
        endpoint: "here".into(),
        stake: dn_core::Amount::from_dn(1_000),
    };
    let devnet = Devnet {
        chain_id: 9,
        time_ms: 1,
        faucet: key(1).address(),
        funded: vec![],
        validators: vec![validator],
    };
    let mut chain = Chain::new(&Genesis::devnet(&devnet, Params::devnet()).unwrap());
    let fee = Params::devnet().min_tx_fee;
    let tx = |nonce| -> SignedTx {
        let payload = Payload::Transfer { to: key(2).address(), amount: dn_core::Amount::from_atto(1) };
        let sender = key(1).address();
        Tx { chain_id: 9, sender, nonce, expires_height: 100, fee, payload }.sign(&key(1))
    };
    let txs: Vec<_> = (0..800).map(tx).collect();
    let block = chain.propose(key(0).address(), 5, &txs).unwrap().block;
    assert!(block.to_bytes().len() > MAX_PART_BYTES, "one part tests nothing");
    let (height, round) = (Height(1), Round::new(0));
    let proposer = key(0).address().into();
    (Place { height, round, valid_round: Round::Nil, proposer, block: block.header.hash().into() }, block)
}

fn assembly() -> Assembly {
    Assembly::new(9, 4 * 1024 * 1024)
}

#[test]
fn parts_in_any_order_and_twice_give_the_block() {
    let (place, block) = sample();
    let mut chunks = cut(9, place, &block.to_bytes(), &key(0));
    chunks.reverse();
    let last = chunks.pop().unwrap();
    let mut assembly = assembly();
    for chunk in chunks.iter().chain(&chunks) {
        assert_eq!(assembly.add(chunk.clone(), 0, |_| true), Ok(None));
    }
    let received = assembly.add(last, 0, |_| true).unwrap().unwrap();
    assert_eq!((received.block, received.publisher), (block, key(0).address().into()));
    assert!(assembly.open.is_empty());
}

#[test]
fn strangers_forgers_and_garbage_are_refused() {
    let (place, block) = sample();
    let chunks = cut(9, place, &block.to_bytes(), &key(0));
    let mut assembly = assembly();
    assert_eq!(assembly.add(chunks[0].clone(), 0, |_| false), Err(PartError::Signature));
    let mut changed = chunks[0].clone();
    changed.bytes[9] ^= 1;
    assert_eq!(assembly.add(changed, 0, |_| true), Err(PartError::Signature));
    let other_chain = cut(8, place, &block.to_bytes(), &key(0));
    assert_eq!(assembly.add(other_chain[0].clone(), 0, |_| true), Err(PartError::Signature));
    let mut long = chunks[0].clone();
    long.count = 1_000;
    assert!(matches!(assembly.add(long, 0, |_| true), Err(PartError::Shape { .. })));
    assert!(matches!(assembly.add(chunks[0].clone(), 1, |_| true), Err(PartError::Height { .. })));
    let far = Place { height: Height(6), ..place };
    let far = cut(9, far, &block.to_bytes(), &key(0));
    assert!(matches!(assembly.add(far[0].clone(), 1, |_| true), Err(PartError::Height { .. })));

    // Somebody else's parts do not mix with these.
    let mut bytes = block.to_bytes();
    *bytes.last_mut().unwrap() ^= 1;
    let spoiled = cut(9, place, &bytes, &key(3));
    let mut results: Vec<_> = spoiled.into_iter().map(|c| assembly.add(c, 0, |_| true)).collect();
    assert_eq!(results.pop(), Some(Err(PartError::Content)));
    let mut results: Vec<_> = chunks.into_iter().map(|c| assembly.add(c, 0, |_| true)).collect();
    assert_eq!(results.pop().unwrap().unwrap().unwrap().block, block);
}

#[test]
fn what_one_publisher_leaves_open_is_bounded() {
    let (place, block) = sample();
    let mut assembly = assembly();
    for round in 0..10 {
        let place = Place { round: Round::new(round), ..place };
        let chunks = cut(9, place, &block.to_bytes(), &key(0));
        assert_eq!(assembly.add(chunks[0].clone(), 0, |_| true), Ok(None));
    }
    assert_eq!(assembly.open.len(), MAX_OPEN_PER_PUBLISHER);
    assembly.prune(1);
    assert!(assembly.open.is_empty());
}
