//! The seam between a worker and what computes.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use dn_compute::sampling::Choice;
use dn_compute::{Engine, GenerateError, GenerateRequest};
use dn_core::objects::{FinishReason, JobRequest};
use dn_core::{Hash32, ModelId};

/// Takes each new token, with its log-probabilities where the job asks for them; may break off.
pub type TokenSink<'a> = &'a mut dyn FnMut(&Choice) -> ControlFlow<()>;

/// What a job gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// All output tokens, those that existed before included.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: FinishReason,
    /// The trace commitment over prompt and output.
    pub trace_root: Hash32,
    /// Time of computing.
    pub elapsed: Duration,
}

/// Why a job cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecuteError {
    /// The model is not loaded here.
    #[error("model {model} is not loaded")]
    UnknownModel {
        /// The model.
        model: ModelId,
    },
    /// The output to continue is not this model's.
    #[error("the output to continue departs from the model at position {position}")]
    Diverges {
        /// First position of prompt and output that differs.
        position: u32,
    },
    /// The engine refuses.
    #[error(transparent)]
    Engine(#[from] GenerateError),
}

/// Computes jobs. Called on threads that may block; several at a time.
pub trait Executor: Send + Sync + 'static {
    /// The models that are loaded.
    fn models(&self) -> Vec<ModelId>;

    /// Does a job, of which `already` exists, calling `on_token` with each new token.
    ///
    /// # Errors
    /// [`ExecuteError`].
    fn execute(
        &self,
        job: &JobRequest,
        already: &[u32],
        on_token: TokenSink<'_>,
    ) -> Result<Execution, ExecuteError>;

    /// The trace commitment of a job that ends, cancelled, after these output tokens.
    ///
    /// # Errors
    /// [`ExecuteError`].
    fn cut(&self, job: &JobRequest, output: &[u32]) -> Result<Hash32, ExecuteError>;
}

/// The honest executor: one engine for each model.
#[derive(Debug)]
pub struct EngineExecutor {
    engines: Vec<Arc<Engine>>,
}

impl EngineExecutor {
    /// An executor over these engines.
    pub const fn new(engines: Vec<Arc<Engine>>) -> Self {
        Self { engines }
    }

    fn engine(&self, model: ModelId) -> Result<&Engine, ExecuteError> {
        let found = self.engines.iter().find(|engine| engine.model().id() == model);
        found.map(AsRef::as_ref).ok_or(ExecuteError::UnknownModel { model })
    }
}

fn engine_error(error: GenerateError) -> ExecuteError {
    match error {
        GenerateError::AlreadyDiverges { position, .. }
        | GenerateError::AlreadyTooLong { length: position, .. } => {
            ExecuteError::Diverges { position: u32::try_from(position).unwrap_or(u32::MAX) }
        }
        other => ExecuteError::Engine(other),
    }
}

/// The engine's view of a job.
pub(crate) fn generate_request<'a>(job: &'a JobRequest, already: &'a [u32]) -> GenerateRequest<'a> {
    GenerateRequest {
        prompt: &job.prompt,
        already,
        sampling: job.sampling,
        decoding: &job.decoding,
        max_tokens: job.max_tokens,
        stop: &job.stop,
    }
}

impl Executor for EngineExecutor {
    fn models(&self) -> Vec<ModelId> {
        self.engines.iter().map(|engine| engine.model().id()).collect()
    }

    fn execute(
        &self,
        job: &JobRequest,
        already: &[u32],
        on_token: TokenSink<'_>,
    ) -> Result<Execution, ExecuteError> {
        let engine = self.engine(job.model)?;
        // The engine checks what exists already: whoever signs for the whole answer must not sign another's cheat.
        let generation =
            engine.generate_choices(&generate_request(job, already), on_token).map_err(engine_error)?;
        Ok(Execution {
            tokens: generation.tokens,
            finish: generation.finish,
            trace_root: generation.trace_root,
            elapsed: generation.timings.prefill + generation.timings.decode,
        })
    }

    fn cut(&self, job: &JobRequest, output: &[u32]) -> Result<Hash32, ExecuteError> {
        let engine = self.engine(job.model)?;
        Ok(engine.replay(&generate_request(job, &[]), output, FinishReason::Cancelled)?.trace_root)
    }
}
