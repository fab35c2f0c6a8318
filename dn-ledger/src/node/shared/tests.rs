use super::*;
use crate::chain::tests::{genesis, half_done};

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
