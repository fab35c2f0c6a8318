//! Why a device cannot be used. Each message names the device and what to do about it.

use crate::Refusal;
use crate::spec::DeviceFault;

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
    /// The device is not used: it computes otherwise than the reference, or failed while it was compared.
    #[error(transparent)]
    Refused(#[from] Refusal),
}
