//! From a file to an engine in one pass over the weights.

use std::path::Path;
use std::sync::Arc;

use super::memory::{Workload, available_memory};
use super::{Engine, EngineError, EngineOptions, MemoryNeed};
use crate::model::{Model, ModelBytes, ModelFront, Tensor, layout::Slot};
use crate::runtime::{Decoder, Ready};

impl Engine {
    /// Loads a GGUF file and prepares its weights: as [`Model::load`] and [`Engine::new`], but every weight is read, hashed and
    /// packed once, and nothing of the file stays in memory.
    ///
    /// # Errors
    /// [`EngineError`]; [`EngineError::Memory`] before any weight is read.
    pub fn load(path: &Path, options: EngineOptions) -> Result<Self, EngineError> {
        Self::load_with(options, |begin, visit| Model::load_with(path, begin, visit))
    }

    /// As [`load`](Self::load), of a file in memory.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_bytes(bytes: impl Into<ModelBytes>, options: EngineOptions) -> Result<Self, EngineError> {
        let bytes = bytes.into();
        Self::load_with(options, |begin, visit| Model::from_bytes_with(bytes, begin, visit))
    }

    fn load_with(
        options: EngineOptions,
        load: impl FnOnce(
            &dyn Fn(&ModelFront) -> Result<(), EngineError>,
            &(dyn Fn(Slot, Tensor) -> Result<(), EngineError> + Sync),
        ) -> Result<Model, EngineError>
        + Send,
    ) -> Result<Self, EngineError> {
        let backend = options.backend()?;
        let ready = Ready::default();
        let (mut load, mut model) = (Some(load), None);
        backend.enter(&mut || {
            if let Some(load) = load.take() {
                let begin = |front: &ModelFront| enough_memory(front, &options);
                model = Some(load(&begin, &|slot, tensor| ready.add(backend.as_ref(), slot, tensor)));
            }
        });
        let model = Arc::new(model.expect("the job is run once")?);
        let decoder = Decoder::collect(model.front(), ready, backend)?;
        Ok(Self { model, decoder, chunk: options.prefill_chunk.get() })
    }
}

/// Whether one short request fits: more are the caller's to plan.
fn enough_memory(front: &ModelFront, options: &EngineOptions) -> Result<(), EngineError> {
    let Some(limit) = options.memory_limit.or_else(available_memory) else { return Ok(()) };
    let needed = MemoryNeed::new(front, options, &Workload::default()).peak_bytes();
    if needed <= limit { Ok(()) } else { Err(EngineError::Memory { needed, limit }) }
}
