//! The conformance suite.

use std::time::Instant;

use dn_compute::conformance;
use dn_compute::wgpu::WgpuOptions;

use super::device;

#[test]
#[allow(clippy::print_stdout, reason = "says what was compared, and on what")]
fn every_case() {
    let Some(device) = device(&WgpuOptions::default()) else { return };
    let started = Instant::now();
    match conformance::run(&device) {
        Ok(report) => {
            println!("{:?}: {report:?} in {:.1?}", device.adapter(), started.elapsed());
            assert!(report.outputs > 1_000_000 && report.refusals > 50, "{report:?}");
        }
        Err(mismatch) => panic!("{:?}: {mismatch}", device.adapter()),
    }
}

/// Small limits: every matrix, cache and call in many parts.
#[test]
fn parts_give_the_same_bits() {
    let options = WgpuOptions {
        max_binding_bytes: Some(1 << 12),
        max_dispatch_words: Some(1 << 10),
        ..WgpuOptions::default()
    };
    let Some(device) = device(&options) else { return };
    if let Err(mismatch) = conformance::sample(&device, 5) {
        panic!("{mismatch}");
    }
}

#[test]
fn the_device_qualifies() {
    let Some(device) = device(&WgpuOptions::default()) else { return };
    let report = device.qualify().expect("a device that computes rightly");
    assert!(report.calls > 150 && report.refusals > 5, "{report:?}");
}
