//! Why a device cannot be used. Each message names the device and what to do about it.

#[cfg(not(target_arch = "wasm32"))]
use super::AdapterSummary;
use crate::conformance::Mismatch;
#[cfg(not(target_arch = "wasm32"))]
use crate::verdict::Refusal;

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
    /// The device computes other bits than the reference: it is not used at all.
    #[error(
        "`{device}` ({driver}) computes wrongly and is not used ({source}); update its driver, or use the cpu backend"
    )]
    Unqualified {
        /// The device.
        device: String,
        /// Its driver.
        driver: String,
        /// The first difference.
        source: Box<Mismatch>,
    },
    /// The device computed other bits than the reference when it was compared, earlier and with this driver.
    #[error(
        "`{device}` ({driver}) computed wrongly when it was compared and is not used ({difference}); update its driver, or use \
         the cpu backend; `dn backends` compares it again"
    )]
    KnownUnqualified {
        /// The device.
        device: String,
        /// Its driver.
        driver: String,
        /// What differed.
        difference: String,
    },
    /// The device failed while it was compared with the reference: of its bits nothing is known.
    #[error("`{device}` ({driver}) could not be compared with the reference: {source}")]
    Unfinished {
        /// The device.
        device: String,
        /// Its driver.
        driver: String,
        /// How it failed.
        source: Box<Mismatch>,
    },
}

#[cfg(not(target_arch = "wasm32"))]
impl WgpuError {
    pub(super) fn refused(device: &AdapterSummary, refusal: Refusal) -> Self {
        let (device, driver) = (device.name.clone(), device.driver.clone());
        match refusal {
            Refusal::Differs(source) => Self::Unqualified { device, driver, source },
            Refusal::Failed(source) => Self::Unfinished { device, driver, source },
            Refusal::Known(difference) => Self::KnownUnqualified { device, driver, difference },
        }
    }
}
