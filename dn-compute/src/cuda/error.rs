//! Why a device cannot be used. Each message names the device and what to do about it.

use super::CudaDevice;
use crate::conformance::Mismatch;
use crate::spec::DeviceFault;
use crate::verdict::Refusal;

/// Why the backend cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// There is no driver.
    #[error(
        "no NVIDIA driver was found; install it (`nvidia-smi` must list the card), or use another backend"
    )]
    NoDriver,
    /// The driver is older than the backend.
    #[error("the NVIDIA driver lacks `{function}`; update it to one for CUDA 12 or later")]
    DriverTooOld {
        /// What is missing.
        function: &'static str,
    },
    /// The driver does not start.
    #[error("the NVIDIA driver does not start: {fault}; `nvidia-smi` may say more")]
    Start {
        /// What it says.
        fault: DeviceFault,
    },
    /// The driver knows no device.
    #[error("the NVIDIA driver sees no device; look at CUDA_VISIBLE_DEVICES and `nvidia-smi`")]
    NoDevice,
    /// No device has this name.
    #[error("no device's name contains `{wanted}`; found: {}", .found.join(", "))]
    UnknownDevice {
        /// What was asked for.
        wanted: String,
        /// The names that there are.
        found: Vec<String>,
    },
    /// The device can do less than the kernels need.
    #[error(
        "`{device}` has compute capability {}.{}, {}.{} is needed; use another device or the wgpu backend",
        .found.0, .found.1, .needed.0, .needed.1
    )]
    Capability {
        /// The device.
        device: String,
        /// What it has.
        found: (u32, u32),
        /// What the kernels need.
        needed: (u32, u32),
    },
    /// There is no compiler for the kernels.
    #[error(
        "NVRTC, which compiles the kernels, was not found; install the CUDA toolkit, or the Python package nvidia-cuda-nvrtc-cu12 and put its `lib` directory into LD_LIBRARY_PATH"
    )]
    NoCompiler,
    /// The compiler is older than the backend.
    #[error("NVRTC lacks `{function}`; install that of CUDA 12 or later")]
    CompilerTooOld {
        /// What is missing.
        function: &'static str,
    },
    /// The compiler knows no architecture that the device can run.
    #[error("NVRTC cannot compile for `{device}`, compute capability {}.{}; install another version of it", .found.0, .found.1)]
    Architecture {
        /// The device.
        device: String,
        /// Its compute capability.
        found: (u32, u32),
    },
    /// The compiler refuses the kernels.
    #[error("NVRTC does not compile the kernels for {architecture}; please report it:\n{log}")]
    Compile {
        /// What they were to be compiled for.
        architecture: String,
        /// What it says.
        log: String,
    },
    /// The driver refuses to open the device.
    #[error("`{device}` cannot be opened: {fault}; close what else uses it, or update its driver")]
    Open {
        /// The device.
        device: String,
        /// What it says.
        fault: DeviceFault,
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

impl CudaError {
    pub(super) fn refused(device: &CudaDevice, refusal: Refusal) -> Self {
        let (device, driver) = (device.name.clone(), device.driver.clone());
        match refusal {
            Refusal::Differs(source) => Self::Unqualified { device, driver, source },
            Refusal::Failed(source) => Self::Unfinished { device, driver, source },
            Refusal::Known(difference) => Self::KnownUnqualified { device, driver, difference },
        }
    }
}
