use super::*;
use crate::chain::tests::half_done;
use crate::genesis::{Devnet, DevnetValidator, Genesis};
use crate::params::Params;

fn shared(dir: &std::path::Path) -> Shared {
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
    let genesis = Genesis::devnet(&devnet, Params::devnet()).unwrap();
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
