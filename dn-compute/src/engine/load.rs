//! From a file to an engine in one pass over the weights.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::memory::{DeviceNeed, available_memory};
use super::{Engine, EngineError, EngineOptions};
use crate::model::{Begin, Model, ModelBytes, ModelError, ModelFront, Visit};
use crate::runtime::{Backends, Decoder, Ready};
use crate::spec::Backend;

impl Engine {
    /// Loads a GGUF file and prepares its weights: as [`Model::load`] and [`Engine::new`], but every weight is read, hashed and
    /// packed once, and nothing of the file stays in memory.
    ///
    /// # Errors
    /// [`EngineError`]; [`EngineError::Memory`] before any weight is read.
    pub fn load(path: &Path, options: EngineOptions) -> Result<Self, EngineError> {
        Self::load_checked(path, options, &|_| Ok(()))
    }

    /// As [`load`](Self::load), of a file in memory.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_bytes(bytes: impl Into<ModelBytes>, options: EngineOptions) -> Result<Self, EngineError> {
        Self::load_bytes_checked(bytes, options, &|_| Ok(()))
    }

    /// As [`load`](Self::load); `check` sees what text needs of the model before any weight is read, and may refuse it. So what
    /// a request gets wrong is told at once.
    ///
    /// # Errors
    /// As [`load`](Self::load), and what `check` returns.
    pub fn load_checked<E: From<EngineError> + Send>(
        path: &Path,
        options: EngineOptions,
        check: &(dyn Fn(&Arc<ModelFront>) -> Result<(), E> + Sync),
    ) -> Result<Self, E> {
        Self::load_with(options, check, |begin, visit| Model::load_with(path, begin, visit))
    }

    /// As [`load_checked`](Self::load_checked), of a file in memory.
    ///
    /// # Errors
    /// As there.
    pub fn load_bytes_checked<E: From<EngineError> + Send>(
        bytes: impl Into<ModelBytes>,
        options: EngineOptions,
        check: &(dyn Fn(&Arc<ModelFront>) -> Result<(), E> + Sync),
    ) -> Result<Self, E> {
        let bytes = bytes.into();
        Self::load_with(options, check, |begin, visit| Model::from_bytes_with(bytes, begin, visit))
    }

    fn load_with<E: From<EngineError> + Send>(
        options: EngineOptions,
        check: &(dyn Fn(&Arc<ModelFront>) -> Result<(), E> + Sync),
        load: impl FnOnce(&Begin<'_, Stopped<E>>, &Visit<'_, Stopped<E>>) -> Result<Model, Stopped<E>> + Send,
    ) -> Result<Self, E> {
        let first: Arc<dyn Backend> = options.backend()?.into();
        let ready = Ready::default();
        let (mut load, mut model) = (Some(load), None);
        // Which backend has which layers is known with the model's header.
        let backends = OnceLock::new();
        first.enter(&mut || {
            if let Some(load) = load.take() {
                let begin = |front: &Arc<ModelFront>| {
                    check(front).map_err(Stopped::Check)?;
                    let planned = place(front, &options, &first).map_err(Stopped::Engine)?;
                    backends.get_or_init(|| planned);
                    Ok(())
                };
                let backends = || &backends.get().expect("the header comes before the weights").0;
                let visit = |slot, tensor| ready.add(backends(), slot, tensor).map_err(Stopped::Engine);
                model = Some(load(&begin, &visit));
            }
        });
        let model = match model.expect("the job is run once") {
            Ok(model) => Arc::new(model),
            Err(Stopped::Engine(error)) => return Err(error.into()),
            Err(Stopped::Check(error)) => return Err(error),
        };
        let (backends, unused) = backends.into_inner().expect("a model has a header");
        let decoder = Decoder::collect(model.front(), ready, backends)?;
        Ok(Self { model, decoder, chunk: options.prefill_chunk.get(), unused })
    }
}

/// What ended the loading.
enum Stopped<E> {
    Engine(EngineError),
    Check(E),
}

impl<E> From<ModelError> for Stopped<E> {
    fn from(error: ModelError) -> Self {
        Self::Engine(error.into())
    }
}

/// What computes which part, and the device that is left nothing, if what is planned for fits: more is the caller's to plan.
fn place(
    front: &ModelFront,
    options: &EngineOptions,
    first: &Arc<dyn Backend>,
) -> Result<(Backends, Option<DeviceNeed>), EngineError> {
    let plan = options.plan_on(front, first.as_ref())?;
    if let Some(limit) = options.memory_limit.or_else(available_memory) {
        let needed = plan.host_peak_bytes();
        if needed > limit {
            return Err(EngineError::Memory { needed, limit });
        }
    }
    Ok((options.backends(&plan, Arc::clone(first))?, plan.unused()))
}
