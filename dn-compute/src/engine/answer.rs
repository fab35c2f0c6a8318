//! One answer as it grows: what comes next, and where it ends.

use std::cell::RefCell;
use std::sync::Arc;

use dn_core::objects::sampling::{MAX_STOP_BYTES, MAX_STOPS};
use dn_core::objects::{FinishReason, SettingsError, TokenLogprobs};

use rayon::prelude::*;

use super::{Ending, GenerateError, GenerateRequest};
use crate::model::ModelFront;
use crate::sampling::{Choice, Progress, Sampler, SamplerError, Scratch};

/// Sampler and ending of one answer. Engine and replay ask the same one.
#[derive(Debug)]
pub(crate) struct Answer {
    ending: Ending,
    sampler: Sampler,
}

impl Answer {
    /// An answer without tokens.
    pub(crate) fn new(front: &Arc<ModelFront>, request: &GenerateRequest<'_>) -> Result<Self, GenerateError> {
        check_stops(request.stop)?;
        let sampler = Sampler::new(front, request.prompt, &request.sampling, request.decoding)?;
        Ok(Self { ending: Ending::new(front, request), sampler })
    }

    /// Most tokens of the answer.
    pub(crate) const fn limit(&self) -> usize {
        self.ending.limit()
    }

    /// Takes the next token; says whether the answer ends with it.
    ///
    /// Where a grammar can go on with nothing though it is not complete, the answer was cut off: its length is its end.
    pub(crate) fn push(&mut self, token: u32) -> Option<FinishReason> {
        let ended = self.ending.push(token);
        if ended == Some(FinishReason::Stop) {
            return ended;
        }
        match self.sampler.accept(token) {
            Progress::Complete => Some(FinishReason::Stop),
            Progress::Stuck => Some(FinishReason::Length),
            Progress::Open | Progress::Refused => ended,
        }
    }
}

fn check_stops(stop: &[String]) -> Result<(), GenerateError> {
    if let Some(index) = stop.iter().position(String::is_empty) {
        return Err(GenerateError::EmptyStop { index });
    }
    let longest = stop.iter().map(String::len).max().unwrap_or(0);
    let lengths = [(MAX_STOPS, stop.len()), (MAX_STOP_BYTES, longest)];
    match lengths.into_iter().find(|(limit, found)| found > limit) {
        Some((limit, found)) => {
            Err(SamplerError::from(SettingsError::Length { field: "stop", limit, found }).into())
        }
        None => Ok(()),
    }
}

/// An answer beside tokens that exist already, or that come one by one.
#[derive(Debug)]
pub(crate) struct Followed {
    answer: Answer,
    /// What the sampler chooses, up to the first place at which the output has something else.
    pub(crate) choices: Vec<Choice>,
    /// Whether the answer ends with each of the output's tokens, up to the same place.
    pub(crate) ends: Vec<Option<FinishReason>>,
    /// Nothing is chosen any more: the output departs from the answer, or has ended.
    over: bool,
}

impl Followed {
    pub(crate) const fn new(answer: Answer) -> Self {
        Self { answer, choices: Vec::new(), ends: Vec::new(), over: false }
    }

    /// Takes rows of logits, of which the first follows `first` tokens of the output. Rows taken before are passed over:
    /// they would say the same.
    pub(crate) fn take(
        &mut self,
        output: &[u32],
        first: usize,
        logits: &[f32],
        vocabulary: usize,
        parallel: bool,
    ) {
        let known = self.choices.len().saturating_sub(first) * vocabulary;
        let logits = logits.get(known..).unwrap_or_default();
        let rows = logits.len() / vocabulary;
        let ahead = if parallel && rows > 1 { self.ahead(output, rows) } else { Vec::new() };
        if ahead.is_empty() {
            for row in logits.chunks_exact(vocabulary) {
                if self.over {
                    return;
                }
                let choice = with_scratch(|scratch| self.answer.sampler.choose(row, scratch));
                self.keep(output, choice);
            }
            return;
        }
        let choose = |(sampler, row): (Sampler, &[f32])| with_scratch(|scratch| sampler.choose(row, scratch));
        let choices: Vec<Choice> =
            ahead.into_par_iter().zip(logits.par_chunks_exact(vocabulary)).map(choose).collect();
        for choice in choices {
            if self.over {
                return;
            }
            self.keep(output, choice);
        }
    }

    /// The sampler before each of the next rows, taking for granted that the output is the answer; none where the
    /// sampler has no copies.
    fn ahead(&self, output: &[u32], rows: usize) -> Vec<Sampler> {
        let mut samplers = Vec::with_capacity(rows);
        let Some(mut next) = self.answer.sampler.fork() else { return samplers };
        for token in output.iter().skip(self.choices.len()).take(rows - 1) {
            let Some(fork) = next.fork() else { break };
            samplers.push(fork);
            next.accept(*token);
        }
        samplers.push(next);
        samplers
    }

    fn keep(&mut self, output: &[u32], choice: Choice) {
        let found = output.get(self.choices.len());
        let matches = found == Some(&choice.token);
        self.over = found.is_some() && !matches;
        self.choices.push(choice);
        if matches {
            self.accept();
        }
    }

    /// What the model thought of each token of the answer, where that was asked for.
    pub(crate) fn into_logprobs(self) -> Vec<TokenLogprobs> {
        self.choices.into_iter().take(self.ends.len()).filter_map(|choice| choice.logprobs).collect()
    }

    /// The last choice becomes part of the answer; says whether it ends with it.
    pub(crate) fn accept(&mut self) -> Option<FinishReason> {
        let end = self.choices.last().and_then(|choice| self.answer.push(choice.token));
        self.ends.push(end);
        self.over = end.is_some();
        end
    }
}

thread_local! {
    /// The sampler's room to work in: as large as the vocabulary, so it is kept.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn with_scratch<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    // Nothing that chooses a token calls back into this.
    SCRATCH.with_borrow_mut(f)
}
