use dn_core::Amount;

use super::*;
use crate::chain::tests::{genesis, half_done};
use crate::tx::Tx;

fn shared(dir: &std::path::Path) -> Shared {
    let genesis = genesis();
    let (store, chain) = Store::open(dir, &genesis).unwrap();
    Shared::new(chain, store, genesis.hash(), None, false)
}

#[test]
fn what_a_panic_left_half_done_is_seen_by_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let shared = shared(dir.path());
    let state = shared.chain().state().clone();
    for reads_first in [true, false] {
        std::thread::scope(|scope| {
            let broken = scope.spawn(|| {
                let mut chain = shared.chain_mut();
                half_done(&mut chain);
                panic!("a bug in the rules");
            });
            assert!(broken.join().is_err());
        });
        if reads_first {
            assert_eq!(*shared.chain().state(), state);
        } else {
            assert_eq!(*shared.chain_mut().state(), state);
        }
    }
}

#[test]
fn what_only_a_block_refuses_waits_for_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let shared = shared(dir.path());
    let key = dn_core::SecretKey::from_bytes(&[2; 32]).unwrap();
    let (sender, fee, payload) = (key.address(), Amount::ZERO, Payload::Withdraw {});
    let tx = |nonce| Tx { chain_id: 1, sender, nonce, expires_height: 9, fee, payload: payload.clone() };
    let txs = [tx(0).sign(&key), tx(1).sign(&key)];
    for tx in &txs {
        shared.pool().take_in(tx, tx.id(), Account::default()).unwrap();
    }
    let later = (txs[1].clone(), Reject::Nonce { expected: 0, found: 1 });
    for busy in [
        Reject::AuditsBusy { limit: 4, height: 1, held: 4, load: 2 },
        Reject::DisputesBusy { limit: 4, height: 1 },
    ] {
        shared.reject(&[(txs[0].clone(), busy), later.clone()]);
        assert_eq!(shared.pool().mempool.len(), 2);
    }
    shared.reject(&[(txs[0].clone(), Reject::NothingToChange {}), later]);
    assert_eq!(shared.pool().mempool.len(), 0);
}
