//! Checking an answer by one pass over prompt and output.

use std::fmt;
use std::time::Instant;

use dn_core::Hash32;
use dn_core::objects::{FinishReason, TokenLogprobs};

use super::answer::{Answer, Followed};
use super::feed::Feed;
use super::{Engine, GenerateError, GenerateRequest, Timings, check};
use crate::runtime::Session;
use crate::trace::Trace;

/// The result of replaying an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// The trace commitment that an honest worker has for this prompt and output.
    pub trace_root: Hash32,
    /// What the commitment is made of.
    pub trace: Trace,
    /// The first place where the output is not the model's.
    pub divergence: Option<Divergence>,
    /// What the model thinks of each output token up to the divergence, where the request asks for it.
    pub logprobs: Vec<TokenLogprobs>,
    /// How long it took.
    pub timings: Timings,
}

/// Where an output departs from the model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Divergence {
    /// Position in prompt and output, from 0.
    pub position: u32,
    /// What differs.
    pub kind: DivergenceKind,
}

/// How an output departs from the model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DivergenceKind {
    /// The sampler chooses another token.
    Token {
        /// Its choice.
        expected: u32,
        /// The token in the output.
        found: u32,
    },
    /// The answer ends elsewhere or otherwise. `None` stands for "it goes on".
    End {
        /// How it ends before this position.
        expected: Option<FinishReason>,
        /// How the output ends there.
        found: Option<FinishReason>,
    },
}

impl fmt::Display for DivergenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |end: &Option<FinishReason>| match end {
            None => "goes on",
            Some(FinishReason::Stop) => "ends by a stop token or stop text",
            Some(FinishReason::Length) => "ends by its length",
            Some(FinishReason::Cancelled) => "was cancelled",
        };
        match self {
            Self::Token { expected, found } => {
                write!(f, "the model chooses token {expected}, the answer has {found}")
            }
            Self::End { expected, found } => {
                write!(f, "the model's answer {}, this one {}", end(expected), end(found))
            }
        }
    }
}

/// An answer to be checked.
#[derive(Debug, Clone, Copy)]
pub struct ReplayRequest<'a> {
    /// What was asked; [`GenerateRequest::already`] is ignored.
    pub request: GenerateRequest<'a>,
    /// The tokens that came; may be anything.
    pub output: &'a [u32],
    /// How they are said to end.
    pub finish: FinishReason,
}

/// An answer on its way through a replay.
struct Job<'a> {
    /// Its place among the answers.
    index: usize,
    asked: ReplayRequest<'a>,
    session: Session,
    /// The prompt and the output tokens that can be fed.
    known: Vec<u32>,
    followed: Followed,
}

impl Job<'_> {
    /// Tokens not fed yet.
    fn pending(&self) -> usize {
        self.known.len() - self.session.len()
    }
}

impl Engine {
    /// Recomputes an answer in one pass: its trace commitment, and whether each token is what the sampler chooses and
    /// the answer ends where it must. [`GenerateRequest::already`] is ignored.
    ///
    /// An output may be anything: tokens that do not exist and tokens after the end are divergences, not errors.
    /// The first divergence counts. `trace_root` is of all that could be fed; compare it with the receipt's.
    ///
    /// # Errors
    /// [`GenerateError`] when the request itself cannot be served.
    pub fn replay(
        &self,
        request: &GenerateRequest<'_>,
        output: &[u32],
        finish: FinishReason,
    ) -> Result<Replay, GenerateError> {
        let one = ReplayRequest { request: *request, output, finish };
        self.replay_many(&[one]).pop().expect("one result for each request")
    }

    /// Recomputes many answers together: each result is that of [`replay`](Self::replay), in the order of the answers.
    ///
    /// Short answers share the steps of a pass, which pays as long as an answer alone is shorter than a step's tokens
    /// ([`EngineOptions::prefill_chunk`](super::EngineOptions::prefill_chunk)). Only the sequences of the step at hand take memory. `timings.prefill` is the
    /// time from the end of the answer before.
    pub fn replay_many(&self, asked: &[ReplayRequest<'_>]) -> Vec<Result<Replay, GenerateError>> {
        let mut results: Vec<_> = asked.iter().map(|_| None).collect();
        let mut left = asked.iter().enumerate();
        let mut jobs: Vec<Job<'_>> = Vec::new();
        let mut since = Instant::now();
        loop {
            let mut room = self.chunk.saturating_sub(jobs.iter().map(Job::pending).sum());
            while room > 0 {
                let Some((index, asked)) = left.next() else { break };
                match self.replay_job(index, *asked) {
                    Ok(job) => {
                        room = room.saturating_sub(job.pending());
                        jobs.push(job);
                    }
                    Err(error) => results[index] = Some(Err(error)),
                }
            }
            if jobs.is_empty() {
                break;
            }
            for (index, failed) in self.replay_step(&mut jobs) {
                results[index] = Some(Err(failed));
            }
            let ended;
            (ended, jobs) = jobs.into_iter().partition(|job| job.pending() == 0);
            for job in ended {
                let index = job.index;
                if results[index].is_none() {
                    results[index] = Some(Ok(self.replayed(job, &mut since)));
                }
            }
        }
        results.into_iter().map(|result| result.expect("every answer was fed or failed")).collect()
    }

    fn replay_job<'a>(&self, index: usize, asked: ReplayRequest<'a>) -> Result<Job<'a>, GenerateError> {
        let asked = ReplayRequest { request: GenerateRequest { already: &[], ..asked.request }, ..asked };
        check::tokens(self.model.front(), &asked.request)?;
        let front = self.model.front();
        let answer = Answer::new(front, &asked.request)?;
        let possible =
            asked.output.iter().take(answer.limit()).take_while(|t| **t < front.vocabulary()).count();
        // The last token is not fed, for it needs no logits after it.
        let fed = possible.min(asked.output.len().saturating_sub(1));
        let known = [asked.request.prompt, &asked.output[..fed]].concat();
        let session = self.decoder.session(known.len())?;
        Ok(Job { index, asked, session, known, followed: Followed::new(answer) })
    }

    /// Feeds as many tokens of the jobs as a step takes, in their order. Those that fail are not fed again.
    fn replay_step(&self, jobs: &mut [Job<'_>]) -> Vec<(usize, GenerateError)> {
        let mut room = self.chunk;
        let mut fed = Vec::new();
        let mut feeds = Vec::new();
        for (at, job) in jobs.iter_mut().enumerate() {
            let first = job.session.len();
            let share = room.min(job.known.len() - first);
            if share == 0 {
                break;
            }
            room -= share;
            fed.push(at);
            feeds.push(Feed {
                session: &mut job.session,
                tokens: &job.known[first..first + share],
                from: job.asked.request.prompt.len() - 1,
                output: job.asked.output,
                followed: &mut job.followed,
            });
        }
        let Ok(results) = self.feed_many(&mut feeds, &|| false) else { unreachable!("nobody gave it up") };
        let mut failed = Vec::new();
        for (at, result) in fed.into_iter().zip(results) {
            if let Err(error) = result {
                let job = &mut jobs[at];
                job.known.truncate(job.session.len());
                failed.push((job.index, error.into()));
            }
        }
        failed
    }

    fn replayed(&self, job: Job<'_>, since: &mut Instant) -> Replay {
        let ReplayRequest { request, output, finish } = job.asked;
        let divergence = divergence(request.prompt.len(), output, finish, &job.followed);
        let matched = job.followed.choices.into_iter().zip(output).filter(|(c, found)| c.token == **found);
        let logprobs = matched.filter_map(|(choice, _)| choice.logprobs).collect();
        let trace = job.session.into_trace();
        let now = Instant::now();
        let prefill = now.duration_since(std::mem::replace(since, now));
        let timings = Timings { prefill_tokens: job.known.len() as u32, prefill, ..Timings::default() };
        Replay { trace_root: trace.root(), trace, divergence, logprobs, timings }
    }
}

fn divergence(
    prompt: usize,
    output: &[u32],
    finish: FinishReason,
    followed: &Followed,
) -> Option<Divergence> {
    let at = |index: usize, kind| {
        let position = u32::try_from(prompt + index).unwrap_or(u32::MAX);
        Some(Divergence { position, kind })
    };
    let mut expected = None;
    for (index, found) in output.iter().enumerate() {
        if expected.is_some() {
            return at(index, DivergenceKind::End { expected, found: None });
        }
        // There is a choice for every token up to the first that differs, could not be fed, or ends the answer.
        let choice = followed.choices[index].token;
        if choice != *found {
            return at(index, DivergenceKind::Token { expected: choice, found: *found });
        }
        expected = followed.ends[index];
    }
    let fits = match expected {
        Some(reason) => reason == finish,
        None => finish == FinishReason::Cancelled && !output.is_empty(),
    };
    if fits { None } else { at(output.len(), DivergenceKind::End { expected, found: Some(finish) }) }
}
