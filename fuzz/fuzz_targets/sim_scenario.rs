//! Scenarios of the simulator: no panic; what is read passes its own check and is the same when it is written and read again.
#![no_main]

use dn_sim::scenario::Scenario;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(scenario) = Scenario::from_toml(text) {
        scenario.check().expect("it was read");
        let written = toml::to_string(&scenario).expect("tables of numbers and strings");
        assert_eq!(Scenario::from_toml(&written).expect("it was read before"), scenario);
    }
});
