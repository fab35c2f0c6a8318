//! Loading the model that a command works with.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dn_compute::hub::{self, HubModel, HubOptions};
use dn_compute::{
    BackendChoice, ByteSize, ComputeSettings, ComputeSettingsError, Engine, EngineError, EngineOptions, Isa,
    Model, ModelError, ModelFront, devices,
};

use crate::error::CliError;
use crate::home::Config;
use crate::out;

/// Which model, and how to compute it. The way of computing changes the speed, never a bit of the result.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ModelArgs {
    /// GGUF file, model package, directory of safetensors, or `org/name[@revision][:file]` on the Hugging Face hub; without
    /// it the small demonstration model inside this program.
    #[arg(long, env = "DN_MODEL", value_name = "MODEL")]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
}

/// How to compute. It changes the speed, never a bit of the result.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ComputeArgs {
    /// How to compute: `auto`, the fastest that is right on this machine (`dn backends` shows which, and why); `cpu`; `reference`, the
    /// plain definition, slow; `wgpu`, a graphics card; `cuda`, an NVIDIA card. A card is compared with the reference before it is used.
    #[arg(long, value_name = "BACKEND", default_value_t)]
    pub(crate) backend: BackendChoice,
    /// Instruction set of the `cpu` backend; one that is named means that backend.
    #[arg(long, value_enum, default_value_t = IsaArg::Auto)]
    pub(crate) isa: IsaArg,
    /// Device of the `wgpu` or `cuda` backend, by a part of its name; without it the best. `dn backends` lists them.
    #[arg(long, value_name = "NAME")]
    pub(crate) adapter: Option<String>,
    /// How many of the model's first layers the device computes, the CPU the rest; without it as many as its memory takes.
    #[arg(long, value_name = "N")]
    pub(crate) gpu_layers: Option<u32>,
    /// Bytes of the device's memory to use, such as `6G` (K, M and G are powers of 1024); without it what its driver tells.
    #[arg(long, value_name = "BYTES")]
    pub(crate) device_memory: Option<ByteSize>,
    /// Positions of a request, prompt and answer, for which the device's memory is shared out [default: 1024].
    #[arg(long, value_name = "N", value_parser = positions)]
    pub(crate) context: Option<NonZeroU32>,
    /// Threads; without it one per core.
    #[arg(long, env = "DN_THREADS", value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<NonZeroUsize>,
}

fn threads(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "a number of threads, at least 1, expected".to_owned())
}

fn positions(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| format!("a number of positions, 1 to {}, expected", u32::MAX))
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
    /// 256-bit vectors with VNNI.
    AvxVnni,
    /// 512-bit vectors.
    Avx512,
    /// 512-bit vectors and AMX tiles.
    Amx,
    /// 128-bit vectors of ARM.
    Neon,
    /// The same with products of four bytes.
    NeonDot,
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
        let compute = ComputeArgs {
            backend: BackendChoice::Auto,
            isa: IsaArg::Auto,
            adapter: None,
            gpu_layers: None,
            device_memory: None,
            context: None,
            threads: None,
        };
        Self { model: None, compute }
    }

    /// What text needs of the model, and how it is to be computed; no weight is read.
    pub(crate) fn front(&self, config: &Config) -> Result<(String, ModelFront, EngineOptions), CliError> {
        let options = self.compute.options(config)?;
        let (name, path) = find(self.model.as_ref().or(config.model.as_ref()))?;
        let front = match path {
            Some(path) => ModelFront::load(&path),
            None => ModelFront::from_bytes(dn_compute::embedded::tiny_rust()),
        };
        match front {
            Ok(front) => Ok((name, front, options)),
            Err(source) => Err(refused(name, source)),
        }
    }

    /// Loads the model and prepares its weights.
    pub(crate) fn load(&self, config: &Config) -> Result<Loaded, CliError> {
        self.load_checked(config, &|_| Ok(()))
    }

    /// The same; `check` sees what text needs of the model before any weight is read, and may refuse.
    pub(crate) fn load_checked(
        &self,
        config: &Config,
        check: &(dyn Fn(&Arc<ModelFront>) -> Result<(), CliError> + Sync),
    ) -> Result<Loaded, CliError> {
        let started = Instant::now();
        let (path, options) = (self.model.as_ref().or(config.model.as_ref()), self.compute.options(config)?);
        let (name, path) = find(path)?;
        let engine = match path {
            Some(path) => Engine::load_checked(&path, options, check),
            None => Engine::load_bytes_checked(dn_compute::embedded::tiny_rust(), options, check),
        };
        match engine {
            Ok(engine) => {
                if let Some(device) = engine.unused_device() {
                    out::note(format_args!(
                        "note: the CPU computes all of the model: `{device}` has room for none of its layers, or is to have none"
                    ));
                }
                Ok(Loaded { name, engine, options, load: started.elapsed() })
            }
            Err(CliError::Engine(EngineError::Model(source))) => Err(refused(name, source)),
            Err(error) => Err(error),
        }
    }
}

impl ComputeArgs {
    /// The same for the library.
    pub(crate) fn options(&self, config: &Config) -> Result<EngineOptions, CliError> {
        let isa = match self.isa {
            IsaArg::Auto => Isa::Auto,
            IsaArg::Scalar => Isa::Scalar,
            IsaArg::Avx2 => Isa::Avx2,
            IsaArg::AvxVnni => Isa::AvxVnni,
            IsaArg::Avx512 => Isa::Avx512,
            IsaArg::Amx => Isa::Amx,
            IsaArg::Neon => Isa::Neon,
            IsaArg::NeonDot => Isa::NeonDot,
        };
        let settings = ComputeSettings {
            backend: self.backend,
            isa,
            adapter: self.adapter.clone(),
            gpu_layers: self.gpu_layers,
            device_memory: self.device_memory,
            threads: self.threads.or(config.threads.and_then(NonZeroUsize::new)),
            cache: devices::user_cache(),
        };
        let mut options =
            settings.options().map_err(|error| CliError::argument(flag(&error), error.to_string()))?;
        if let Some(context) = self.context {
            options.work.context = context.get();
        }
        Ok(options)
    }
}

/// The flag of a setting.
fn flag(error: &ComputeSettingsError) -> &'static str {
    match error.setting() {
        "isa" => "--isa",
        "adapter" => "--adapter",
        "gpu_layers" => "--gpu-layers",
        _ => "--device-memory",
    }
}

/// Where a model is: its name, and its path unless it is the embedded one. One that is no file here and is called
/// like one on the hub is fetched.
pub(crate) fn find(model: Option<&PathBuf>) -> Result<(String, Option<PathBuf>), CliError> {
    let Some(path) = model else { return Ok(("embedded".to_owned(), None)) };
    let name = path.display().to_string();
    // A link that leads nowhere is there too: opening it says what is wrong.
    if path.symlink_metadata().is_ok() {
        return Ok((name, Some(path.clone())));
    }
    let on_hub = match path.to_str().map(str::parse::<HubModel>) {
        Some(Ok(model)) if !means_a_file(path) => model,
        _ => return Err(CliError::NoModel { name }),
    };
    let bar = out::download();
    let options = HubOptions::from_env()?;
    let fetched = hub::fetch(&options, &on_hub, &mut |progress| {
        bar.set_message(progress.file.clone());
        bar.set_length(progress.size);
        bar.set_position(progress.have);
    });
    bar.finish_and_clear();
    Ok((name, Some(fetched?)))
}

/// Whether a name that could be one on the hub as well means a file: it ends like one, or begins with a directory that is here.
/// With a revision or a file of a repository it cannot be mistaken.
fn means_a_file(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let ends = path.extension().is_some_and(|end| {
        ["gguf", "safetensors", "dnm", "json"].iter().any(|known| end.eq_ignore_ascii_case(known))
    });
    !text.contains(['@', ':']) && (ends || path.parent().is_some_and(Path::is_dir))
}

/// Loads a model, or the embedded one.
pub(crate) fn load(path: Option<&PathBuf>) -> Result<(String, Arc<Model>), CliError> {
    let (name, path) = find(path)?;
    let model = match path {
        Some(path) => Model::load(&path),
        None => Model::from_bytes(dn_compute::embedded::tiny_rust()),
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
