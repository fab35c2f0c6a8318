//! Bytes from anywhere: as transactions and payloads on a ledger where everything is under way, and as blocks.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::LazyLock;

use common::prepared::Prepared;
use proptest::prelude::*;

static PREPARED: LazyLock<Prepared> = LazyLock::new(Prepared::new);
static SAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| PREPARED.samples());

/// What is prepared is there: almost every kind of payload is taken as it is.
#[test]
fn the_prepared_ledger_takes_what_it_should() {
    for sample in SAMPLES.iter() {
        let results = PREPARED.try_bytes(sample);
        assert!(results.first().is_some_and(Result::is_ok), "{sample:?}: {results:?}");
    }
    let mut kinds: Vec<u8> = SAMPLES.iter().map(|sample| sample[1]).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert!(kinds.len() >= 30, "{kinds:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_change_of_a_payload_is_taken_or_refused_as_a_whole(
        which in any::<prop::sample::Index>(),
        who in prop::option::of(0u8..9),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![Just(0u8), Just(255), any::<u8>()]), 0..4),
    ) {
        let mut bytes = which.get(&SAMPLES).clone();
        for (at, byte) in changes {
            *at.get_mut(&mut bytes) = byte;
        }
        bytes[0] = who.unwrap_or(bytes[0]);
        PREPARED.try_bytes(&bytes);
    }

    #[test]
    fn any_bytes_are_a_block_or_not(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        PREPARED.try_block(&bytes);
    }

    #[test]
    fn any_change_of_a_block_is_refused_and_changes_nothing(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = PREPARED.block();
        for (at, byte) in changes {
            *at.get_mut(&mut bytes) = byte;
        }
        PREPARED.try_block(&bytes);
    }
}
