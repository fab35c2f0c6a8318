//! The GPU backend against the reference, on whatever device this machine has: in CI the software driver. `DN_REQUIRE_WGPU=1`
//! makes a missing driver a failure; without it the tests then say that they were skipped.

mod conformance;
mod layer;
#[cfg(feature = "embedded-model")]
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
