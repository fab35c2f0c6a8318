//! How an engine computes.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::EngineError;
use super::memory::{MemoryPlan, Workload};
use crate::cpu::{Cpu, Isa};
use crate::model::ModelFront;
use crate::reference::Reference;
use crate::runtime::{Backends, Split};
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
    /// Bytes of the device's memory that may be used; `None` takes what its driver says it has.
    pub device_memory: Option<u64>,
    /// How many of the model's first layers the device computes, the CPU the rest; more than there are means all. `None`: as many
    /// as fit.
    pub device_layers: Option<u32>,
    /// What is planned for, when layers are shared out.
    pub work: Workload,
    /// Directory that keeps what can be found out again: compiled kernels, whether a device computes rightly, how fast. `None`:
    /// that is done each time, in seconds.
    pub cache: Option<&'static Path>,
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
            device_memory: None,
            device_layers: None,
            work: Workload::default(),
            cache: None,
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
            BackendKind::Wgpu => wgpu::open(self, true),
            BackendKind::Cuda => cuda::open(self, true),
            BackendKind::Cpu => self.cpu(),
        }
    }

    pub(crate) fn cpu(&self) -> Result<Box<dyn Backend>, EngineError> {
        let threads = self.threads.map_or_else(|| self.thread_count(), NonZeroUsize::get);
        Ok(Box::new(Cpu::new(self.isa, threads)?))
    }

    /// What a model would take, and where. A device is opened for that, but not compared with the reference.
    ///
    /// # Errors
    /// [`EngineError`] as loading would give it.
    pub fn plan(&self, front: &ModelFront) -> Result<MemoryPlan, EngineError> {
        match self.backend {
            BackendKind::Wgpu => self.plan_on(front, wgpu::open(self, false)?.as_ref()),
            BackendKind::Cuda => self.plan_on(front, cuda::open(self, false)?.as_ref()),
            BackendKind::Cpu | BackendKind::Reference => MemoryPlan::new(front, self, None),
        }
    }

    /// The plan for a backend that is open.
    pub(super) fn plan_on(
        &self,
        front: &ModelFront,
        backend: &dyn Backend,
    ) -> Result<MemoryPlan, EngineError> {
        MemoryPlan::new(front, self, backend.device_memory())
    }

    /// The backend with the CPU beside it where the plan leaves it something, or in its place where it leaves it everything.
    pub(super) fn backends(
        &self,
        plan: &MemoryPlan,
        first: Arc<dyn Backend>,
    ) -> Result<Backends, EngineError> {
        if plan.device.is_none() || plan.is_whole() {
            return Ok(first.into());
        }
        let cpu: Arc<dyn Backend> = self.cpu()?.into();
        Ok(if plan.split == Split::NONE { cpu.into() } else { Backends::split(first, cpu, plan.split) })
    }
}

#[cfg(feature = "wgpu")]
mod wgpu {
    use super::{Backend, EngineError, EngineOptions, Path};
    use crate::wgpu::{Wgpu, WgpuOptions};

    pub(super) fn open(options: &EngineOptions, compare: bool) -> Result<Box<dyn Backend>, EngineError> {
        let options = WgpuOptions {
            adapter: options.adapter.map(str::to_owned),
            memory_limit: options.device_memory,
            cache: options.cache.map(Path::to_owned),
            ..WgpuOptions::default()
        };
        Ok(Box::new(if compare { Wgpu::qualified(&options)? } else { Wgpu::unchecked(&options)? }))
    }
}

#[cfg(not(feature = "wgpu"))]
mod wgpu {
    use super::{Backend, BackendKind, EngineError, EngineOptions};

    pub(super) const fn open(_: &EngineOptions, _: bool) -> Result<Box<dyn Backend>, EngineError> {
        Err(EngineError::NotBuilt { backend: BackendKind::Wgpu })
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use super::{Backend, EngineError, EngineOptions, Path};
    use crate::cuda::{Cuda, CudaOptions};

    pub(super) fn open(options: &EngineOptions, compare: bool) -> Result<Box<dyn Backend>, EngineError> {
        let options = CudaOptions {
            device: options.adapter.map(str::to_owned),
            memory_limit: options.device_memory,
            cache: options.cache.map(Path::to_owned),
            ..CudaOptions::default()
        };
        Ok(Box::new(if compare { Cuda::qualified(&options)? } else { Cuda::unchecked(&options)? }))
    }
}

#[cfg(not(feature = "cuda"))]
mod cuda {
    use super::{Backend, BackendKind, EngineError, EngineOptions};

    pub(super) const fn open(_: &EngineOptions, _: bool) -> Result<Box<dyn Backend>, EngineError> {
        Err(EngineError::NotBuilt { backend: BackendKind::Cuda })
    }
}
