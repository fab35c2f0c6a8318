//! Loading the model that a command works with.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dn_compute::{BackendKind, Engine, EngineError, EngineOptions, Isa, Model, ModelError};

use crate::error::CliError;
use crate::home::Config;

/// Which model, and how to compute it. The way of computing changes the speed, never a bit of the result.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ModelArgs {
    /// GGUF file of the Llama family; without it the small demonstration model inside this program.
    #[arg(long, env = "DN_MODEL", value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
}

/// How to compute. It changes the speed, never a bit of the result.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ComputeArgs {
    /// How to compute.
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    pub(crate) backend: Backend,
    /// Instruction set of the `cpu` backend.
    #[arg(long, value_enum, default_value_t = IsaArg::Auto)]
    pub(crate) isa: IsaArg,
    /// Threads; without it one per core.
    #[arg(long, env = "DN_THREADS", value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<NonZeroUsize>,
}

fn threads(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "a number of threads, at least 1, expected".to_owned())
}

/// The ways to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Backend {
    /// The fastest that works here.
    Auto,
    /// Threads and vector instructions.
    Cpu,
    /// The plain scalar definition: slow, and right by being simple.
    Reference,
}

/// The instruction sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum IsaArg {
    /// The best of this machine.
    Auto,
    /// Portable code.
    Scalar,
    /// 256-bit vectors.
    Avx2,
    /// 512-bit vectors.
    Avx512,
}

/// A model ready to run.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) name: String,
    pub(crate) engine: Engine,
    pub(crate) options: EngineOptions,
    pub(crate) load: Duration,
}

impl ModelArgs {
    /// The embedded model, computed in the fastest way.
    pub(crate) fn automatic() -> Self {
        let compute = ComputeArgs { backend: Backend::Auto, isa: IsaArg::Auto, threads: None };
        Self { model: None, compute }
    }

    /// Loads the model and prepares its weights.
    pub(crate) fn load(&self, config: &Config) -> Result<Loaded, CliError> {
        let started = Instant::now();
        let (path, options) = (self.model.as_ref().or(config.model.as_ref()), self.compute.options(config)?);
        let (name, engine) = match path {
            Some(path) => (path.display().to_string(), Engine::load(path, options)),
            None => ("embedded".to_owned(), Engine::load_bytes(dn_compute::embedded::tiny_rust(), options)),
        };
        match engine {
            Ok(engine) => Ok(Loaded { name, engine, options, load: started.elapsed() }),
            Err(EngineError::Model(source)) => Err(refused(name, source)),
            Err(error) => Err(error.into()),
        }
    }
}

impl ComputeArgs {
    /// The same for the library.
    pub(crate) fn options(&self, config: &Config) -> Result<EngineOptions, CliError> {
        let backend = match self.backend {
            Backend::Auto | Backend::Cpu => BackendKind::Cpu,
            Backend::Reference => BackendKind::Reference,
        };
        let isa = match self.isa {
            IsaArg::Auto => Isa::Auto,
            IsaArg::Scalar => Isa::Scalar,
            IsaArg::Avx2 => Isa::Avx2,
            IsaArg::Avx512 => Isa::Avx512,
        };
        if backend == BackendKind::Reference && !matches!(isa, Isa::Auto | Isa::Scalar) {
            return Err(CliError::argument("--isa", "the reference backend is scalar; leave --isa away"));
        }
        let threads = self.threads.or(config.threads.and_then(NonZeroUsize::new));
        Ok(EngineOptions { backend, isa, threads, ..EngineOptions::default() })
    }
}

/// Loads a GGUF file, or the embedded model.
pub(crate) fn load(path: Option<&PathBuf>) -> Result<(String, Arc<Model>), CliError> {
    let (name, model) = match path {
        Some(path) => (path.display().to_string(), Model::load(path)),
        None => ("embedded".to_owned(), Model::from_bytes(dn_compute::embedded::tiny_rust())),
    };
    match model {
        Ok(model) => Ok((name, Arc::new(model))),
        Err(source) => Err(refused(name, source)),
    }
}

fn refused(name: String, source: ModelError) -> CliError {
    match source {
        ModelError::Read { path, source, .. } => {
            CliError::File { action: "read the model file", path: path.into(), source }
        }
        source => CliError::Model { name, source },
    }
}
