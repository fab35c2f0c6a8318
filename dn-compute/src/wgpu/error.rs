//! Why a device cannot be used. Each message names the device and what to do about it.

#[cfg(not(target_arch = "wasm32"))]
use crate::Refusal;

/// Why the backend cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WgpuError {
    /// No driver was found.
    #[error(
        "no graphics driver was found; install the vendor's Vulkan driver (without a graphics card: mesa-vulkan-drivers)"
    )]
    NoAdapter,
    /// No device has this name.
    #[error("no device's name contains `{wanted}`; found: {}", .found.join(", "))]
    UnknownAdapter {
        /// What was asked for.
        wanted: String,
        /// The names that there are.
        found: Vec<String>,
    },
    /// The device can do less than the kernels need.
    #[error(
        "`{device}` allows {what} of {found}, {needed} are needed; choose another device or update its driver"
    )]
    Limit {
        /// The device.
        device: String,
        /// What was measured.
        what: &'static str,
        /// What the kernels need.
        needed: u64,
        /// What the device has.
        found: u64,
    },
    /// The driver refuses to open the device.
    #[error("`{device}` cannot be opened; close what else uses it, or update its driver")]
    Open {
        /// The device.
        device: String,
        /// Why.
        source: ::wgpu::RequestDeviceError,
    },
    /// The device is not used: it computes otherwise than the reference, or failed while it was compared.
    #[cfg(not(target_arch = "wasm32"))]
    #[error(transparent)]
    Refused(#[from] Refusal),
}
