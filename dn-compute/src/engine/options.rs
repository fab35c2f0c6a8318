//! How an engine computes.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::str::FromStr;

use super::EngineError;
use crate::cpu::{Cpu, Isa};
use crate::reference::Reference;
use crate::spec::Backend;

/// Tokens fed at a time, unless told otherwise.
const PREFILL_CHUNK: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum BackendKind {
    /// The CPU with its vector instructions and threads.
    #[default]
    Cpu,
    /// The meaning of the spec, written plainly: one thread, slow.
    Reference,
    /// A graphics card, through Vulkan, Metal or Direct3D 12 (feature `wgpu`). A device is compared with the reference before
    /// it is used, and refused for one wrong bit.
    Wgpu,
    /// A card of NVIDIA's, through CUDA (feature `cuda`). Compared and refused in the same way.
    Cuda,
}

impl BackendKind {
    /// Every backend.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Reference, Self::Wgpu, Self::Cuda];

    /// Whether this program was built with it.
    pub const fn is_built(self) -> bool {
        match self {
            Self::Cpu | Self::Reference => true,
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Cuda => cfg!(feature = "cuda"),
        }
    }

    /// Its name on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Reference => "reference",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
        }
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no backend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is no backend, expected cpu, reference, wgpu or cuda")]
pub struct ParseBackendError {
    /// What came.
    pub found: String,
}

impl FromStr for BackendKind {
    type Err = ParseBackendError;

    fn from_str(text: &str) -> Result<Self, ParseBackendError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| ParseBackendError { found: text.to_owned() })
    }
}

/// How an engine computes. None of it changes a bit of any result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// What computes.
    pub backend: BackendKind,
    /// Instruction set of the CPU backend.
    pub isa: Isa,
    /// Part of the name of the device of the wgpu or cuda backend; `None` is the best one.
    pub adapter: Option<&'static str>,
    /// Directory for the compiled kernels of the cuda backend; `None` compiles them each time.
    pub kernel_cache: Option<&'static Path>,
    /// Threads of the CPU backend; `None` is one per core.
    pub threads: Option<NonZeroUsize>,
    /// Most tokens fed at a time.
    pub prefill_chunk: NonZeroUsize,
    /// Bytes that [`Engine::load`](super::Engine::load) may count on; `None` asks the system what is left.
    pub memory_limit: Option<u64>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            backend: BackendKind::default(),
            isa: Isa::default(),
            adapter: None,
            kernel_cache: None,
            threads: None,
            prefill_chunk: PREFILL_CHUNK,
            memory_limit: None,
        }
    }
}

impl EngineOptions {
    pub(crate) fn backend(&self) -> Result<Box<dyn Backend>, EngineError> {
        match self.backend {
            BackendKind::Reference => Ok(Box::new(Reference)),
            BackendKind::Wgpu => device(self.adapter),
            BackendKind::Cuda => cuda(self.adapter, self.kernel_cache),
            BackendKind::Cpu => {
                let threads = self.threads.map_or_else(|| self.thread_count(), NonZeroUsize::get);
                Ok(Box::new(Cpu::new(self.isa, threads)?))
            }
        }
    }
}

#[cfg(feature = "wgpu")]
fn device(adapter: Option<&str>) -> Result<Box<dyn Backend>, EngineError> {
    use crate::wgpu::{Wgpu, WgpuOptions};
    let options = WgpuOptions { adapter: adapter.map(str::to_owned), ..WgpuOptions::default() };
    Ok(Box::new(Wgpu::qualified(&options)?))
}

#[cfg(not(feature = "wgpu"))]
const fn device(_: Option<&str>) -> Result<Box<dyn Backend>, EngineError> {
    Err(EngineError::NotBuilt { backend: BackendKind::Wgpu })
}

#[cfg(feature = "cuda")]
fn cuda(adapter: Option<&str>, cache: Option<&Path>) -> Result<Box<dyn Backend>, EngineError> {
    use crate::cuda::{Cuda, CudaOptions};
    let (device, cache) = (adapter.map(str::to_owned), cache.map(Path::to_owned));
    Ok(Box::new(Cuda::qualified(&CudaOptions { device, cache, ..CudaOptions::default() })?))
}

#[cfg(not(feature = "cuda"))]
const fn cuda(_: Option<&str>, _: Option<&Path>) -> Result<Box<dyn Backend>, EngineError> {
    Err(EngineError::NotBuilt { backend: BackendKind::Cuda })
}
