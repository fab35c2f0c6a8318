//! The CUDA backend on a card. `DN_REQUIRE_CUDA=1` makes a missing one a failure; without it the tests then say that they were
//! skipped. (What needs no card is tested over an emulated one, in the library.)

use std::time::Instant;

use dn_compute::conformance;
use dn_compute::cuda::{Cuda, CudaError, CudaOptions};

/// The device, or `None` where there is none and none is required.
#[allow(clippy::print_stdout, reason = "a skip must be seen")]
fn device(options: &CudaOptions) -> Option<Cuda> {
    match Cuda::unchecked(options) {
        Ok(device) => Some(device),
        Err(error @ (CudaError::NoDriver | CudaError::NoDevice | CudaError::NoCompiler)) => {
            let required = std::env::var_os("DN_REQUIRE_CUDA").is_some_and(|value| value == "1");
            assert!(!required, "DN_REQUIRE_CUDA is set: {error}");
            println!("SKIPPED: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn every_case() {
    let Some(device) = device(&CudaOptions::default()) else { return };
    let started = Instant::now();
    match conformance::run(&device) {
        Ok(report) => {
            println!("{:?}: {report:?} in {:.1?}", device.device(), started.elapsed());
            assert!(report.outputs > 1_000_000 && report.refusals > 50 && report.layers > 10, "{report:?}");
        }
        Err(mismatch) => panic!("{:?}: {mismatch}", device.device()),
    }
}

/// Small limits: every call in many parts.
#[test]
fn parts_give_the_same_bits() {
    let options = CudaOptions { max_launch_words: Some(1 << 10), ..CudaOptions::default() };
    let Some(device) = device(&options) else { return };
    if let Err(mismatch) = conformance::sample(&device, 5) {
        panic!("{mismatch}");
    }
}

#[test]
fn the_device_qualifies() {
    let Some(device) = device(&CudaOptions::default()) else { return };
    let report = device.qualify().expect("a device that computes rightly");
    assert!(report.calls > 150 && report.refusals > 5, "{report:?}");
}

#[test]
fn an_unknown_device_is_named() {
    let wanted = "no such device".to_owned();
    let options = CudaOptions { device: Some(wanted.clone()), ..CudaOptions::default() };
    match Cuda::unchecked(&options).map(|_| ()) {
        Err(CudaError::UnknownDevice { wanted: said, .. }) => assert_eq!(said, wanted),
        Err(CudaError::NoDriver | CudaError::NoDevice) => {}
        other => panic!("{other:?}"),
    }
}

#[cfg(feature = "embedded-model")]
#[path = "../common/model.rs"]
mod model;

#[cfg(feature = "embedded-model")]
#[test]
fn the_embedded_model_answers_as_on_the_cpu() {
    use dn_compute::{BackendKind, Engine, EngineOptions};

    if device(&CudaOptions::default()).is_none() {
        return;
    }
    let options = EngineOptions { backend: BackendKind::Cuda, ..EngineOptions::default() };
    model::answers_as_on_the_cpu(|model| Engine::new(model, options), [60, 60]);
}
