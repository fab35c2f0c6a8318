//! A worker that cheats on command: what audits exist for.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dn_compute::sampling::Choice;
use dn_compute::verify::{Answer, Dispute};
use dn_compute::{Engine, GenerateRequest};
use dn_core::objects::JobRequest;
use dn_core::{Hash32, JobId, ModelId};

use crate::worker::{EngineExecutor, ExecuteError, Execution, Executor, TokenSink, WorkerFailure};

/// How a cheating worker cheats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cheat {
    /// Not at all.
    Honest,
    /// It runs weights that cost it less and sells their answer as the model's.
    CheaperWeights,
    /// It computes honestly and then changes one token of the answer.
    AlteredToken,
}

const CHEATS: [Cheat; 3] = [Cheat::Honest, Cheat::CheaperWeights, Cheat::AlteredToken];

/// An executor that cheats as it is told. Its receipts are signed and consistent: nothing but a replay tells.
#[derive(Debug)]
pub struct CheatingExecutor {
    engine: Arc<Engine>,
    cheaper: Arc<Engine>,
    honest: EngineExecutor,
    mode: AtomicU8,
    cheated: AtomicU64,
    jobs: Mutex<Vec<(JobId, Cheat)>>,
}

impl CheatingExecutor {
    /// An executor that is honest until told otherwise. `cheaper` runs the model's weights in fewer bits.
    pub fn new(engine: Arc<Engine>, cheaper: Arc<Engine>) -> Self {
        let honest = EngineExecutor::new(vec![engine.clone()]);
        let (mode, cheated, jobs) = (AtomicU8::new(0), AtomicU64::new(0), Mutex::new(Vec::new()));
        Self { engine, cheaper, honest, mode, cheated, jobs }
    }

    /// Says how to do the jobs that come from now on.
    pub fn set(&self, cheat: Cheat) {
        self.mode.store(cheat as u8, Ordering::SeqCst);
    }

    /// How many answers it has forged.
    pub fn cheated(&self) -> u64 {
        self.cheated.load(Ordering::SeqCst)
    }

    /// The forged answers, in the order in which they were given.
    pub fn forged(&self) -> Vec<(JobId, Cheat)> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn mode(&self) -> Cheat {
        CHEATS[usize::from(self.mode.load(Ordering::SeqCst)) % CHEATS.len()]
    }

    fn forge(
        &self,
        cheat: Cheat,
        job: &JobRequest,
        already: &[u32],
        on_token: TokenSink<'_>,
    ) -> Result<Execution, ExecuteError> {
        let request = GenerateRequest {
            prompt: &job.prompt,
            already,
            sampling: job.sampling,
            decoding: &job.decoding,
            max_tokens: job.max_tokens,
            stop: &job.stop,
        };
        let generation = match cheat {
            Cheat::CheaperWeights => self.cheaper.generate_choices(&request, on_token)?,
            _ => {
                let mut generation = self.engine.generate(&request, &mut |_| ControlFlow::Continue(()))?;
                let middle = already.len() + (generation.tokens.len() - already.len()) / 2;
                if let Some(token) = generation.tokens.get_mut(middle) {
                    *token = another(*token, &self.engine);
                }
                for (at, &token) in generation.tokens.iter().enumerate().skip(already.len()) {
                    // The altered token's log-probabilities are made to name it.
                    let mut logprobs = generation.logprobs.get(at).cloned();
                    if let Some(shown) = &mut logprobs {
                        shown.chosen.token = token;
                    }
                    if on_token(&Choice { token, logprobs }).is_break() {
                        break;
                    }
                }
                // A careful cheat: the trace is the honest one of what it claims to have generated.
                let plain = GenerateRequest { already: &[], ..request };
                let replay = self.engine.replay(&plain, &generation.tokens, generation.finish)?;
                generation.trace_root = replay.trace_root;
                generation
            }
        };
        self.cheated.fetch_add(1, Ordering::SeqCst);
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).push((job.id(), cheat));
        Ok(Execution {
            tokens: generation.tokens,
            finish: generation.finish,
            trace_root: generation.trace_root,
            elapsed: generation.timings.prefill + generation.timings.decode,
        })
    }
}

/// A neighbouring token id that ends nothing.
fn another(token: u32, engine: &Engine) -> u32 {
    let front = engine.model().front();
    let next = |token: u32| (token + 1) % front.vocabulary().max(1);
    let mut other = next(token);
    while front.stop_tokens().contains(&other) && other != token {
        other = next(other);
    }
    other
}

impl Executor for CheatingExecutor {
    fn models(&self) -> Vec<ModelId> {
        self.honest.models()
    }

    fn failure(&self) -> Option<WorkerFailure> {
        self.honest.failure().or_else(|| self.cheaper.failure().map(WorkerFailure::Device))
    }

    fn execute(
        &self,
        job: &JobRequest,
        already: &[u32],
        on_token: TokenSink<'_>,
    ) -> Result<Execution, ExecuteError> {
        match self.mode() {
            Cheat::Honest => self.honest.execute(job, already, on_token),
            cheat => self.forge(cheat, job, already, on_token),
        }
    }

    fn cut(&self, job: &JobRequest, output: &[u32]) -> Result<Hash32, ExecuteError> {
        self.honest.cut(job, output)
    }
    /// Opens what it computed: a forged answer as consistently as it can be.
    fn answer(
        &self,
        job: &JobRequest,
        output: &[u32],
        dispute: &Dispute,
    ) -> Result<Option<Answer>, ExecuteError> {
        let cheaper = (job.id(), Cheat::CheaperWeights);
        let engine = if self.forged().contains(&cheaper) { &self.cheaper } else { &self.engine };
        Ok(engine.witness(job, output)?.answer(dispute)?)
    }
}
