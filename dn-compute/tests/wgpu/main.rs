//! The GPU backend against the reference, on whatever device this machine has: in CI the software driver. `DN_REQUIRE_WGPU=1`
//! makes a missing driver a failure; without it the tests then say that they were skipped.

mod conformance;
mod layer;
#[cfg(feature = "embedded-model")]
#[path = "../common/model.rs"]
mod model;

use dn_compute::wgpu::{Wgpu, WgpuError, WgpuOptions};

/// The device, or `None` where there is no driver and none is required.
#[allow(clippy::print_stdout, reason = "a skip must be seen")]
fn device(options: &WgpuOptions) -> Option<Wgpu> {
    match Wgpu::unchecked(options) {
        Ok(device) => Some(device),
        Err(error @ WgpuError::NoAdapter) => {
            let required = std::env::var_os("DN_REQUIRE_WGPU").is_some_and(|value| value == "1");
            assert!(!required, "DN_REQUIRE_WGPU is set: {error}");
            println!("SKIPPED: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn an_unknown_device_is_named() {
    let wanted = "no such device".to_owned();
    let options = WgpuOptions { adapter: Some(wanted.clone()), ..WgpuOptions::default() };
    match Wgpu::unchecked(&options).map(|_| ()) {
        Err(WgpuError::UnknownAdapter { wanted: said, .. }) => assert_eq!(said, wanted),
        Err(WgpuError::NoAdapter) => {}
        other => panic!("{other:?}"),
    }
}

/// The first start compares the device, later ones believe what is kept: of this device, this driver and these kernels.
#[test]
fn a_device_is_compared_once() {
    if device(&WgpuOptions::default()).is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let options = WgpuOptions { cache: Some(dir.path().to_owned()), ..WgpuOptions::default() };
    let kept = || {
        let entries = std::fs::read_dir(dir.path()).unwrap();
        entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect::<Vec<_>>()
    };
    let started = std::time::Instant::now();
    let first = Wgpu::qualified(&options).expect("a driver that computes rightly");
    let compared = started.elapsed();
    assert_eq!(kept().len(), 1);
    assert!(first.traffic().submissions > 100, "it was asked");
    let second = Wgpu::qualified(&options).unwrap();
    assert_eq!(second.traffic().submissions, 0, "it was not asked again");
    let anew = Wgpu::qualified_anew(&options).unwrap();
    assert!(anew.traffic().submissions > 100, "it was asked, since somebody wanted that ({compared:.1?})");
    // Garbage is no verdict.
    let path = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let whole = kept();
    std::fs::write(&path, b"right").unwrap();
    assert!(Wgpu::qualified(&options).unwrap().traffic().submissions > 100);
    assert_eq!(kept(), whole);
}

#[cfg(feature = "embedded-model")]
#[test]
fn the_embedded_model_answers_as_on_the_cpu() {
    use dn_compute::{BackendKind, Engine, EngineOptions};

    if device(&WgpuOptions::default()).is_none() {
        return;
    }
    let options = EngineOptions { backend: BackendKind::Wgpu, ..EngineOptions::default() };
    model::answers_as_on_the_cpu(|model| Engine::new(model, options), [12, 4]);
}
