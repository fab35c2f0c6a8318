//! The cards of this machine, as the CUDA driver lists them; the driver is loaded when it is first asked.

use cudarc::driver::{DriverError, result, sys};

use super::CudaError;
use super::compile::{self, Architecture};
use crate::alike::{placed, tell_apart};
use crate::spec::DeviceFault;
use crate::verdict::{CODE, Subject};

/// What the kernels need: products of four bytes.
const NEEDED: (u32, u32) = (6, 1);
/// Functions of the driver that this backend calls: all are looked for before the first call.
const FUNCTIONS: [&str; 31] = [
    "cuCtxSetCurrent",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuGraphAddKernelNode_v2",
    "cuGraphCreate",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuGraphExecKernelNodeSetParams_v2",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuInit",
    "cuLaunchKernel",
    "cuMemAlloc_v2",
    "cuMemFreeHost",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuStreamCreate",
    "cuStreamSynchronize",
];

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaDevice {
    /// Its name; of several with the same its place is a part of it.
    pub name: String,
    /// Its place on the PCI bus: domain, bus and device, as `nvidia-smi` writes them.
    pub bus: String,
    /// The driver's version and that of CUDA which it knows.
    pub driver: String,
    /// Its compute capability.
    pub capability: (u32, u32),
    /// Its memory.
    ///
    /// # Units
    /// Bytes.
    pub memory_bytes: u64,
    /// Whether its memory is the host's too.
    pub is_integrated: bool,
    /// The capability in one word, as [`BackendInfo`](crate::spec::BackendInfo) has it.
    pub isa: &'static str,
    /// Its number in the driver's order.
    pub(super) ordinal: i32,
}

impl CudaDevice {
    /// What a verdict about it is about; the compiler has its part in it.
    pub(crate) fn subject(&self) -> Result<Subject, CudaError> {
        let compiled = compile::key(&Architecture::of(self)?)?;
        Ok(Subject {
            backend: "cuda",
            device: self.identity(),
            driver: self.driver.clone(),
            code: format!("{CODE} {compiled}"),
        })
    }

    /// Its name and its place: what no other card of this machine has.
    fn identity(&self) -> String {
        placed(&self.name, &self.bus)
    }
}

/// The devices of this machine, in the driver's order.
///
/// # Errors
/// No driver, one that does not start or is too old, or one that sees no device.
pub fn devices() -> Result<Vec<CudaDevice>, CudaError> {
    start()?;
    let fail = |error| CudaError::Start { fault: start_fault(error) };
    let count = result::device::get_count().map_err(fail)?;
    let driver = driver_version().map_err(fail)?;
    let devices: Result<Vec<_>, _> = (0..count).map(|ordinal| summary(ordinal, &driver)).collect();
    let mut devices = devices.map_err(fail)?;
    tell_apart(&mut devices, |device| &mut device.name, |device| device.bus.clone());
    if devices.is_empty() { Err(CudaError::NoDevice) } else { Ok(devices) }
}

/// The first device, or the one called `wanted`, or the first whose name contains it (upper and lower case alike).
pub(super) fn choose(wanted: Option<&str>) -> Result<CudaDevice, CudaError> {
    let devices = devices()?;
    let is_called = |device: &&CudaDevice| wanted.is_some_and(|wanted| device.name == wanted);
    let fits = |device: &&CudaDevice| {
        // Every name contains an empty one.
        wanted.is_none_or(|wanted| {
            !wanted.is_empty() && device.name.to_lowercase().contains(&wanted.to_lowercase())
        })
    };
    // A whole name may be a part of another.
    let Some(device) = devices.iter().find(is_called).or_else(|| devices.iter().find(fits)) else {
        let found = devices.into_iter().map(|device| device.name).collect();
        return Err(CudaError::UnknownDevice { wanted: wanted.unwrap_or_default().to_owned(), found });
    };
    if device.capability < NEEDED {
        let (device, found) = (device.name.clone(), device.capability);
        return Err(CudaError::Capability { device, found, needed: NEEDED });
    }
    Ok(device.clone())
}

/// Loads the driver and starts it, once; what it lacks is told instead of met later.
fn start() -> Result<(), CudaError> {
    // SAFETY: loading the driver's library runs its initialisers, which expect nothing of the caller.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::NoDriver);
    }
    for function in FUNCTIONS {
        // SAFETY: as above; the symbol is only looked for, never called by this type.
        let found = unsafe { sys::culib().get::<unsafe extern "C" fn()>(function.as_bytes()).is_ok() };
        if !found {
            return Err(CudaError::DriverTooOld { function });
        }
    }
    match result::init() {
        Ok(()) => Ok(()),
        Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => Err(CudaError::NoDevice),
        Err(error) => Err(CudaError::Start { fault: start_fault(error) }),
    }
}

fn driver_version() -> Result<String, DriverError> {
    let mut version = 0;
    // SAFETY: the pointer is to a number of the right type that outlives the call.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result()?;
    let cuda = format!("CUDA {}.{}", version / 1000, version % 1000 / 10);
    Ok(match kernel_module() {
        Some(module) => format!("{module}, {cuda}"),
        None => cuda,
    })
}

/// The version of the kernel's part of the driver, where the system tells.
fn kernel_module() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    module_version(&text)
}

/// The version in `NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue ...`.
fn module_version(text: &str) -> Option<String> {
    let numbers = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.lines().next()?.split_whitespace().find(numbers).map(str::to_owned)
}

fn summary(ordinal: i32, driver: &str) -> Result<CudaDevice, DriverError> {
    use sys::CUdevice_attribute as Attribute;
    let device = result::device::get(ordinal)?;
    let name = result::device::get_name(device)?;
    let attribute = |which| {
        // SAFETY: `device` came from the driver.
        let value = unsafe { result::device::get_attribute(device, which) };
        value.map(|value| u32::try_from(value).unwrap_or(0))
    };
    let capability = (
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    );
    let is_integrated = attribute(Attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED)? != 0;
    let [domain, bus, slot] = [
        Attribute::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID,
        Attribute::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID,
        Attribute::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID,
    ]
    .map(attribute);
    let bus = format!("{:04x}:{:02x}:{:02x}", domain?, bus?, slot?);
    // SAFETY: `device` came from the driver.
    let memory_bytes = unsafe { result::device::total_mem(device) }? as u64;
    Ok(CudaDevice {
        name,
        bus,
        driver: driver.to_owned(),
        capability,
        memory_bytes,
        is_integrated,
        isa: isa(capability),
        ordinal,
    })
}

/// The usual word for a compute capability.
const fn isa(capability: (u32, u32)) -> &'static str {
    match capability {
        (6, 1) => "sm_61",
        (7, 0) => "sm_70",
        (7, 5) => "sm_75",
        (8, 0) => "sm_80",
        (8, 6) => "sm_86",
        (8, 9) => "sm_89",
        (9, 0) => "sm_90",
        (10, 0) => "sm_100",
        (12, 0) => "sm_120",
        _ => "sm",
    }
}

/// What a failed call means.
pub(super) fn fault(error: DriverError) -> DeviceFault {
    match error.0 {
        code if is_lasting(code) => DeviceFault::Lost,
        _ => start_fault(error),
    }
}

/// What an error means before the device was ever used: it cannot have been lost, and the error's name says what to do.
pub(super) fn start_fault(error: DriverError) -> DeviceFault {
    match error.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => DeviceFault::OutOfMemory,
        _ => refused(error),
    }
}

/// The errors after which nothing works any more on the device, in this process. Whatever else the driver refuses is the one
/// call's.
const fn is_lasting(code: sys::CUresult) -> bool {
    use sys::CUresult as R;
    matches!(
        code,
        // A kernel broke the context.
        R::CUDA_ERROR_ILLEGAL_ADDRESS
            | R::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | R::CUDA_ERROR_MISALIGNED_ADDRESS
            | R::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | R::CUDA_ERROR_INVALID_PC
            | R::CUDA_ERROR_HARDWARE_STACK_ERROR
            | R::CUDA_ERROR_ASSERT
            | R::CUDA_ERROR_LAUNCH_FAILED
            | R::CUDA_ERROR_LAUNCH_TIMEOUT
            // The card is broken or gone.
            | R::CUDA_ERROR_ECC_UNCORRECTABLE
            | R::CUDA_ERROR_NVLINK_UNCORRECTABLE
            | R::CUDA_ERROR_EXTERNAL_DEVICE
            | R::CUDA_ERROR_NO_DEVICE
            | R::CUDA_ERROR_INVALID_DEVICE
            | R::CUDA_ERROR_DEVICE_NOT_LICENSED
            | R::CUDA_ERROR_DEVICE_UNAVAILABLE
            // The context is gone.
            | R::CUDA_ERROR_INVALID_CONTEXT
            | R::CUDA_ERROR_CONTEXT_IS_DESTROYED
            | R::CUDA_ERROR_NOT_INITIALIZED
            | R::CUDA_ERROR_DEINITIALIZED
            // The driver is not what it was when the process began, or what serves it is not there.
            | R::CUDA_ERROR_SYSTEM_NOT_READY
            | R::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
            | R::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE
            | R::CUDA_ERROR_MPS_CONNECTION_FAILED
            | R::CUDA_ERROR_MPS_RPC_FAILURE
            | R::CUDA_ERROR_MPS_SERVER_NOT_READY
            | R::CUDA_ERROR_MPS_MAX_CLIENTS_REACHED
            | R::CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED
            | R::CUDA_ERROR_MPS_CLIENT_TERMINATED
            | R::CUDA_ERROR_UNKNOWN
    )
}

fn refused(error: DriverError) -> DeviceFault {
    let name = error.error_name().map(|name| name.to_string_lossy().into_owned());
    DeviceFault::Refused { detail: name.unwrap_or_else(|_| format!("{:?}", error.0)).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drivers_version_is_found_in_the_systems_line() {
        let line = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version: 12.2.0";
        assert_eq!(module_version(line).as_deref(), Some("550.54.15"));
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build";
        assert_eq!(module_version(open).as_deref(), Some("580.65.06"));
        for text in ["", "\n", "NVRM version: none", "1 . 2"] {
            assert!(module_version(text).is_none_or(|found| found == "."), "{text}");
        }
    }

    #[test]
    fn a_failure_is_told_by_what_helps() {
        use sys::CUresult as R;
        let of = |code| fault(DriverError(code));
        assert_eq!(of(R::CUDA_ERROR_OUT_OF_MEMORY), DeviceFault::OutOfMemory);
        for lasting in [
            R::CUDA_ERROR_ILLEGAL_ADDRESS,
            R::CUDA_ERROR_ASSERT,
            R::CUDA_ERROR_LAUNCH_TIMEOUT,
            R::CUDA_ERROR_NO_DEVICE,
            R::CUDA_ERROR_INVALID_CONTEXT,
            R::CUDA_ERROR_CONTEXT_IS_DESTROYED,
            R::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH,
            R::CUDA_ERROR_MPS_CONNECTION_FAILED,
            R::CUDA_ERROR_MPS_CLIENT_TERMINATED,
        ] {
            assert!(is_lasting(lasting), "{lasting:?}");
            assert_eq!(of(lasting), DeviceFault::Lost, "{lasting:?}");
        }
        // The next call may well succeed. (Their names only a driver knows, so `fault` is not asked here.)
        for one_call in [
            R::CUDA_ERROR_OUT_OF_MEMORY,
            R::CUDA_ERROR_INVALID_VALUE,
            R::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
            R::CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE,
        ] {
            assert!(!is_lasting(one_call), "{one_call:?}");
        }
    }

    /// Two cards of one kind are two devices, each with a verdict of its own; a second one changes nothing for the first.
    #[test]
    fn two_cards_of_a_kind_are_two() {
        let card = |bus: &str| CudaDevice {
            name: "NVIDIA H200".into(),
            bus: bus.into(),
            driver: "550.54.15, CUDA 12.4".into(),
            capability: (9, 0),
            memory_bytes: 1,
            is_integrated: false,
            isa: "sm_90",
            ordinal: 0,
        };
        let alone = card("0000:1b:00");
        let mut both = [card("0000:1b:00"), card("0000:1c:00")];
        tell_apart(&mut both, |device| &mut device.name, |device| device.bus.clone());
        assert_eq!(both[1].name, "NVIDIA H200 (0000:1c:00)");
        assert_eq!(both[0].identity(), alone.identity());
        assert_ne!(both[0].identity(), both[1].identity());
    }

    /// On a machine with a driver it lists devices; on one without it says so, and the process lives.
    #[test]
    fn a_machine_without_a_card_is_told_apart() {
        match devices() {
            Ok(devices) => assert!(!devices.is_empty()),
            Err(error) => assert!(error.to_string().contains("NVIDIA"), "{error}"),
        }
    }
}
