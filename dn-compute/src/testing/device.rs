//! The graphics device of this machine, for tests that need one.

use crate::wgpu::{Wgpu, WgpuError, WgpuOptions};

/// The device, or `None` where there is no driver and none is required.
#[allow(clippy::print_stdout, reason = "a skip must be seen")]
pub(crate) fn device(options: &WgpuOptions) -> Option<Wgpu> {
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
