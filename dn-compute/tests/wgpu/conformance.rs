//! The conformance suite, with operations of subgroups and without.

use std::num::NonZeroUsize;
use std::time::Instant;

use dn_compute::conformance;
use dn_compute::spec::{Backend, DeviceFault, NumericError};
use dn_compute::wgpu::{Wgpu, WgpuOptions};

use super::device;

#[test]
fn every_case() {
    let Some(device) = device(&WgpuOptions::default()) else { return };
    assert_eq!(device.has_subgroups(), device.adapter().subgroups, "what the driver offers is used");
    suite(&device);
}

#[test]
fn every_case_without_subgroups() {
    let Some(device) = device(&WgpuOptions { without_subgroups: true, ..WgpuOptions::default() }) else {
        return;
    };
    assert!(!device.has_subgroups());
    suite(&device);
}

#[allow(clippy::print_stdout, reason = "says what was compared, and on what")]
fn suite(device: &Wgpu) {
    let started = Instant::now();
    match conformance::run(device) {
        Ok(report) => {
            println!("{:?}: {report:?} in {:.1?}", device.adapter(), started.elapsed());
            assert!(report.outputs > 1_000_000 && report.refusals > 50, "{report:?}");
        }
        Err(mismatch) => panic!("{:?}: {mismatch}", device.adapter()),
    }
}

/// Small limits: every matrix, cache and call in many parts, which go to the device in many pieces, each block of keys with a workgroup of its own.
#[test]
fn parts_give_the_same_bits() {
    let options = WgpuOptions {
        max_binding_bytes: Some(1 << 12),
        max_dispatch_words: Some(1 << 10),
        max_upload_bytes: Some(1 << 10),
        attention_blocks: NonZeroUsize::new(1),
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

#[test]
fn a_device_that_may_use_little_memory_computes_rightly_all_the_same() {
    let options = WgpuOptions { memory_limit: Some(1000), ..WgpuOptions::default() };
    if device(&options).is_none() {
        return;
    }
    let small = Wgpu::qualified(&options).expect("a limit of memory is no wrong bit");
    let full = small.add(&mut [1.0; 500], &[2.0; 500]).unwrap_err();
    assert!(matches!(full, NumericError::Device { fault: DeviceFault::OutOfMemory, .. }), "{full}");
    assert!(small.memory_bytes() <= 1000);
}
