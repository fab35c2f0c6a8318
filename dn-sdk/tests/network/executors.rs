//! Executors that misbehave.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dn_compute::verify::{Answer, Dispute};
use dn_core::objects::JobRequest;
use dn_core::{Hash32, ModelId};
use dn_sdk::worker::{EngineExecutor, ExecuteError, Execution, Executor, TokenSink};

use crate::net::engine;

fn honest() -> EngineExecutor {
    EngineExecutor::new(vec![engine()])
}

/// Honest, with a pause after each token, so that a test can act in the middle of an answer.
pub(crate) struct Slow(pub(crate) Duration);

impl Executor for Slow {
    fn models(&self) -> Vec<ModelId> {
        honest().models()
    }
    fn execute(
        &self,
        job: &JobRequest,
        already: &[u32],
        on_token: TokenSink<'_>,
    ) -> Result<Execution, ExecuteError> {
        honest().execute(job, already, &mut |choice| {
            std::thread::sleep(self.0);
            on_token(choice)
        })
    }
    fn cut(&self, job: &JobRequest, output: &[u32]) -> Result<Hash32, ExecuteError> {
        honest().cut(job, output)
    }
}

/// Gives up after three tokens.
pub(crate) struct Dying;

impl Executor for Dying {
    fn models(&self) -> Vec<ModelId> {
        honest().models()
    }
    fn execute(
        &self,
        job: &JobRequest,
        already: &[u32],
        on_token: TokenSink<'_>,
    ) -> Result<Execution, ExecuteError> {
        let mut left = 3;
        honest().execute(job, already, &mut |choice| {
            left -= 1;
            if left < 0 { ControlFlow::Break(()) } else { on_token(choice) }
        })?;
        Err(ExecuteError::UnknownModel { model: job.model })
    }
    fn cut(&self, job: &JobRequest, output: &[u32]) -> Result<Hash32, ExecuteError> {
        honest().cut(job, output)
    }
}

/// Changes the third token of every answer.
pub(crate) struct Cheating;

impl Executor for Cheating {
    fn models(&self) -> Vec<ModelId> {
        honest().models()
    }
    fn execute(
        &self,
        job: &JobRequest,
        already: &[u32],
        on_token: TokenSink<'_>,
    ) -> Result<Execution, ExecuteError> {
        let mut tokens = already.to_vec();
        let mut execution = honest().execute(job, already, &mut |choice| {
            let mut altered = choice.clone();
            altered.token ^= u32::from(tokens.len() == 2);
            tokens.push(altered.token);
            on_token(&altered)
        })?;
        execution.tokens = tokens;
        Ok(execution)
    }
    fn cut(&self, job: &JobRequest, output: &[u32]) -> Result<Hash32, ExecuteError> {
        honest().cut(job, output)
    }
    fn answer(
        &self,
        job: &JobRequest,
        output: &[u32],
        dispute: &Dispute,
    ) -> Result<Option<Answer>, ExecuteError> {
        honest().answer(job, output, dispute)
    }
}

/// Honest, but stops in the middle of an answer until it is let go.
#[derive(Default)]
pub(crate) struct Gated {
    pub(crate) open: Arc<AtomicBool>,
}

impl Executor for Gated {
    fn models(&self) -> Vec<ModelId> {
        honest().models()
    }
    fn execute(
        &self,
        job: &JobRequest,
        already: &[u32],
        on_token: TokenSink<'_>,
    ) -> Result<Execution, ExecuteError> {
        let mut count = 0;
        honest().execute(job, already, &mut |choice| {
            count += 1;
            let flow = on_token(choice);
            while count == 5 && flow.is_continue() && !self.open.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            flow
        })
    }
    fn cut(&self, job: &JobRequest, output: &[u32]) -> Result<Hash32, ExecuteError> {
        honest().cut(job, output)
    }
}
