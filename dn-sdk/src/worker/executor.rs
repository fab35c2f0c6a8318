//! The seam between a worker and what computes.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dn_compute::sampling::Choice;
use dn_compute::verify::{Answer, Dispute, WitnessError};
use dn_compute::{
    BatchError, BatchOptions, BatchRequest, CacheScope, Engine, GenerateError, GenerateRequest, Runner,
    Update,
};
use dn_core::objects::{FinishReason, JobRequest};
use dn_core::{Canonical, Hash32, ModelId};

use super::WorkerFailure;

/// How long a job waits for room in the batch's queue.
const QUEUE_WAIT: Duration = Duration::from_secs(30);

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
    /// The batch of jobs cannot take it.
    #[error(transparent)]
    Batch(BatchError),
    /// The computation cannot be opened.
    #[error(transparent)]
    Witness(#[from] WitnessError),
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

    /// Why no job can be computed any more, such as that the device is gone that computes. A worker asks after each job that failed
    /// or panicked; then it takes no more jobs and [ends](super::Worker::broken).
    fn failure(&self) -> Option<WorkerFailure> {
        None
    }

    /// What the worker has to open next in a dispute about this job's output; `None` for an executor that cannot open what it
    /// computed, which loses.
    ///
    /// # Errors
    /// [`ExecuteError`].
    fn answer(
        &self,
        job: &JobRequest,
        output: &[u32],
        dispute: &Dispute,
    ) -> Result<Option<Answer>, ExecuteError> {
        let _ = (job, output, dispute);
        Ok(None)
    }
}

/// The honest executor: one engine for each model, whose jobs run through its layers together.
#[derive(Debug)]
pub struct EngineExecutor {
    served: Vec<Served>,
    options: BatchOptions,
}

/// A model's engine and the batch of its jobs, which starts with the first of them.
#[derive(Debug)]
struct Served {
    engine: Arc<Engine>,
    runner: Mutex<Option<Arc<Runner>>>,
}

impl Served {
    fn runner(&self) -> MutexGuard<'_, Option<Arc<Runner>>> {
        self.runner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its batch was started and has broken off.
    fn has_stopped(&self) -> bool {
        self.runner().as_ref().is_some_and(|runner| runner.has_stopped())
    }
}

impl EngineExecutor {
    /// An executor over these engines.
    pub fn new(engines: Vec<Arc<Engine>>) -> Self {
        Self::with_options(engines, BatchOptions::default())
    }

    /// An executor whose jobs share each engine as told.
    pub fn with_options(engines: Vec<Arc<Engine>>, options: BatchOptions) -> Self {
        let served = engines.into_iter().map(|engine| Served { engine, runner: Mutex::default() }).collect();
        Self { served, options }
    }

    fn served(&self, model: ModelId) -> Result<&Served, ExecuteError> {
        let found = self.served.iter().find(|served| served.engine.model().id() == model);
        found.ok_or(ExecuteError::UnknownModel { model })
    }

    fn runner(&self, model: ModelId) -> Result<Arc<Runner>, ExecuteError> {
        let served = self.served(model)?;
        let mut held = served.runner();
        if let Some(runner) = &*held {
            return Ok(Arc::clone(runner));
        }
        let runner = Runner::start(Arc::clone(&served.engine), self.options).map_err(batch_error)?;
        Ok(Arc::clone(held.insert(Arc::new(runner))))
    }
}

fn batch_error(error: BatchError) -> ExecuteError {
    match error {
        BatchError::Request(error) => engine_error(error),
        other => ExecuteError::Batch(other),
    }
}

/// Jobs share the beginnings of their prompts with others of the same channel only: who pays from it may know what
/// was asked through it.
fn cache_scope(job: &JobRequest) -> CacheScope {
    CacheScope::new(&(job.payer, job.channel).to_bytes())
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
        self.served.iter().map(|served| served.engine.model().id()).collect()
    }

    /// One engine's is enough: the worker offers all of its models, and a new process opens every device anew.
    fn failure(&self) -> Option<WorkerFailure> {
        let device = self.served.iter().find_map(|served| served.engine.failure());
        // A device explains why a thread broke off that uses it.
        device
            .map(WorkerFailure::Device)
            .or_else(|| self.served.iter().any(Served::has_stopped).then_some(WorkerFailure::Stopped))
    }

    fn execute(
        &self,
        job: &JobRequest,
        already: &[u32],
        on_token: TokenSink<'_>,
    ) -> Result<Execution, ExecuteError> {
        let runner = self.runner(job.model)?;
        // The engine checks what exists already: whoever signs for the whole answer must not sign another's cheat.
        let mut request = BatchRequest::new(&generate_request(job, already));
        request.scope = Some(cache_scope(job));
        let ticket = runner.submit_within(request, QUEUE_WAIT).map_err(batch_error)?;
        let (mut kept, mut broken_off) = (already.len(), false);
        let generation = loop {
            match ticket.wait() {
                Update::Token(_) if broken_off => {}
                Update::Token(choice) => {
                    kept += 1;
                    broken_off = on_token(&choice).is_break();
                    if broken_off {
                        ticket.cancel();
                    }
                }
                Update::Done(generation) => break *generation,
                Update::Failed(error) => return Err(batch_error(error)),
            }
        };
        // The batch may have gone on while the sink broke off.
        let generation = if broken_off { generation.cut(kept) } else { generation };
        Ok(Execution {
            tokens: generation.tokens,
            finish: generation.finish,
            trace_root: generation.trace_root,
            elapsed: generation.timings.prefill + generation.timings.decode,
        })
    }

    fn cut(&self, job: &JobRequest, output: &[u32]) -> Result<Hash32, ExecuteError> {
        let engine = &self.served(job.model)?.engine;
        Ok(engine.replay(&generate_request(job, &[]), output, FinishReason::Cancelled)?.trace_root)
    }
    fn answer(
        &self,
        job: &JobRequest,
        output: &[u32],
        dispute: &Dispute,
    ) -> Result<Option<Answer>, ExecuteError> {
        Ok(self.served(job.model)?.engine.witness(job, output)?.answer(dispute)?)
    }
}
