//! Snapshots of real networks: no panic; what is read is within bounds, so that a population can start from it.
#![no_main]

use dn_sim::import::Snapshot;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(snapshot) = Snapshot::from_json(text) {
        assert!(snapshot.workers.len() >= 2 && snapshot.validator_stakes.len() >= 2);
        for worker in &snapshot.workers {
            assert!(worker.power.is_finite() && worker.power >= 0.0);
            assert!((0.0..=1.0).contains(&worker.quality));
        }
        assert!(snapshot.validator_stakes.iter().all(|stake| stake.is_finite() && *stake >= 0.0));
    }
});
