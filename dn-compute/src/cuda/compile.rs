//! From the kernels' text to what a device runs: NVRTC, and a directory that keeps what it made.

use std::ffi::{CString, c_char, c_int};
use std::path::Path;
use std::ptr;

use cudarc::nvrtc::{result, sys};

use super::devices::CudaDevice;
use super::error::CudaError;
use super::kernels::SOURCE;
use crate::cached;

/// Nothing is contracted, flushed or approximated. (The kernels' own arithmetic is explicit about it as well.)
const OPTIONS: [&str; 5] =
    ["--std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true"];
/// More than the largest image.
const MOST_BYTES: u64 = 64 << 20;
/// Functions of NVRTC that this file calls: all are looked for before the first call.
const FUNCTIONS: [&str; 11] = [
    "nvrtcCompileProgram",
    "nvrtcCreateProgram",
    "nvrtcDestroyProgram",
    "nvrtcGetCUBIN",
    "nvrtcGetCUBINSize",
    "nvrtcGetNumSupportedArchs",
    "nvrtcGetPTX",
    "nvrtcGetPTXSize",
    "nvrtcGetProgramLogSize",
    "nvrtcGetSupportedArchs",
    "nvrtcVersion",
];

/// What kernels are compiled for: `10 * major + minor` of a compute capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    /// The device's own: NVRTC makes what it runs.
    Own(u32),
    /// An older one, for a device that NVRTC does not know yet: the driver compiles it to the end.
    Older(u32),
}

impl Architecture {
    /// The best that NVRTC here can do for a device.
    pub(super) fn of(device: &CudaDevice) -> Result<Self, CudaError> {
        let (major, minor) = device.capability;
        Self::choose(10 * major + minor, &supported()?)
            .ok_or_else(|| CudaError::Architecture { device: device.name.clone(), found: device.capability })
    }

    fn choose(own: u32, supported: &[u32]) -> Option<Self> {
        if supported.contains(&own) {
            return Some(Self::Own(own));
        }
        supported.iter().copied().filter(|known| *known < own).max().map(Self::Older)
    }

    /// Whether it has the int8 products of whole tiles that `linear_tiles.cu` uses.
    pub(super) const fn has_tiles(self) -> bool {
        let (Self::Own(number) | Self::Older(number)) = self;
        number >= 80
    }

    fn option(self) -> String {
        match self {
            Self::Own(number) => format!("--gpu-architecture=sm_{number}"),
            Self::Older(number) => format!("--gpu-architecture=compute_{number}"),
        }
    }
}

/// The kernels for an architecture: a cubin, or PTX with a zero behind it.
pub(super) fn image(architecture: &Architecture, cache: Option<&Path>) -> Result<Vec<u8>, CudaError> {
    let key = key(architecture)?;
    let place = cache.map(|dir| dir.join(format!("cuda-{key}.bin")));
    kept(place.as_deref(), || compile(SOURCE, *architecture))
}

/// What an image depends on: the kernels' text, the compiler and its version, what it is told, what it compiles for.
pub(super) fn key(architecture: &Architecture) -> Result<String, CudaError> {
    let (major, minor) = version()?;
    let mut key = blake3::Hasher::new();
    for part in [SOURCE, &OPTIONS.join(" "), &architecture.option(), &format!("{major}.{minor}")] {
        key.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    Ok(key.finalize().to_hex().to_string())
}

/// What a file keeps, if it is whole; else what `make` makes, kept there. A directory that cannot be written costs time only.
fn kept<E>(place: Option<&Path>, make: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Vec<u8>, E> {
    if let Some(image) = place.and_then(|place| cached::read(place, MOST_BYTES)) {
        return Ok(image);
    }
    let image = make()?;
    if let Some(place) = place {
        let _ = cached::write(place, &image);
    }
    Ok(image)
}

/// Loads NVRTC; what it lacks is told instead of met later.
fn start() -> Result<(), CudaError> {
    // SAFETY: loading the library runs its initialisers, which expect nothing of the caller.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::NoCompiler);
    }
    for function in FUNCTIONS {
        // SAFETY: as above; the symbol is only looked for, never called by this type.
        let found = unsafe { sys::culib().get::<unsafe extern "C" fn()>(function.as_bytes()).is_ok() };
        if !found {
            return Err(CudaError::CompilerTooOld { function });
        }
    }
    Ok(())
}

/// NVRTC's version.
fn version() -> Result<(i32, i32), CudaError> {
    start()?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both pointers are to numbers of the right type that outlive the call.
    let asked = unsafe { sys::nvrtcVersion(&mut major, &mut minor) };
    asked.result().map_err(|_| CudaError::CompilerTooOld { function: "nvrtcVersion" })?;
    Ok((major, minor))
}

/// The architectures that NVRTC knows.
pub(super) fn supported() -> Result<Vec<u32>, CudaError> {
    start()?;
    let too_old = |_| CudaError::CompilerTooOld { function: "nvrtcGetSupportedArchs" };
    let mut count: c_int = 0;
    // SAFETY: the pointer is to a number of the right type that outlives the call.
    unsafe { sys::nvrtcGetNumSupportedArchs(&mut count) }.result().map_err(too_old)?;
    let mut numbers = vec![0 as c_int; usize::try_from(count).unwrap_or(0)];
    // SAFETY: there is room for as many numbers as the library said.
    unsafe { sys::nvrtcGetSupportedArchs(numbers.as_mut_ptr()) }.result().map_err(too_old)?;
    Ok(numbers.into_iter().filter_map(|number| u32::try_from(number).ok()).collect())
}

/// A program of NVRTC, destroyed with this.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: created by `compile` and not destroyed before.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

/// Compiles a text: a cubin for a device's own architecture, else PTX with a zero behind it.
pub(super) fn compile(source: &str, architecture: Architecture) -> Result<Vec<u8>, CudaError> {
    compile_with(source, architecture, &OPTIONS)
}

fn compile_with(source: &str, architecture: Architecture, options: &[&str]) -> Result<Vec<u8>, CudaError> {
    start()?;
    let failed = |log: String| CudaError::Compile { architecture: architecture.option(), log };
    let text = CString::new(source).map_err(|_| failed("the text has a zero in it".to_owned()))?;
    let program = result::create_program(&text, Some(c"deepnode.cu")).map_err(|e| failed(e.to_string()))?;
    let program = Program(program);
    let options: Vec<String> =
        options.iter().map(|option| (*option).to_owned()).chain([architecture.option()]).collect();
    // SAFETY: the program was created above and lives to the end of this function.
    if let Err(error) = unsafe { result::compile_program(program.0, &options) } {
        // SAFETY: as above.
        let log = unsafe { result::get_program_log(program.0) };
        let log = log.map_or_else(|_| error.to_string(), |log| text_of(&log));
        return Err(failed(log));
    }
    let (size, get): (Size, Get) = match architecture {
        Architecture::Own(_) => (sys::nvrtcGetCUBINSize, sys::nvrtcGetCUBIN),
        Architecture::Older(_) => (sys::nvrtcGetPTXSize, sys::nvrtcGetPTX),
    };
    let mut length = 0usize;
    // SAFETY: the program is compiled, and the pointer is to a number of the right type.
    unsafe { size(program.0, ptr::from_mut(&mut length)) }.result().map_err(|e| failed(e.to_string()))?;
    let mut image = vec![0u8; length];
    // SAFETY: there is room for as many bytes as the library said.
    unsafe { get(program.0, image.as_mut_ptr().cast::<c_char>()) }
        .result()
        .map_err(|e| failed(e.to_string()))?;
    Ok(image)
}

type Size = unsafe fn(sys::nvrtcProgram, *mut usize) -> sys::nvrtcResult;
type Get = unsafe fn(sys::nvrtcProgram, *mut c_char) -> sys::nvrtcResult;

/// Text up to its zero.
fn text_of(bytes: &[c_char]) -> String {
    let bytes: Vec<u8> = bytes.iter().map(|c| *c as u8).take_while(|c| *c != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests; a skip must be seen")]
mod tests;
