//! One answer as it grows: what comes next, and where it ends.

use dn_core::objects::FinishReason;
use dn_core::objects::SettingsError;
use dn_core::objects::sampling::{MAX_STOP_BYTES, MAX_STOPS};

use super::{Ending, GenerateError, GenerateRequest};
use crate::model::ModelFront;
use crate::sampling::{Choice, Progress, Sampler, SamplerError, Scratch};

/// Sampler and ending of one answer. Engine and replay ask the same one.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    ending: Ending<'a>,
    sampler: Sampler,
}

impl<'a> Answer<'a> {
    /// An answer without tokens.
    pub(crate) fn new(front: &'a ModelFront, request: &GenerateRequest<'_>) -> Result<Self, GenerateError> {
        check_stops(request.stop).map_err(SamplerError::from)?;
        let sampler = Sampler::new(front, request.prompt, &request.sampling, request.decoding)?;
        Ok(Self { ending: Ending::new(front, request), sampler })
    }

    /// Most tokens of the answer.
    pub(crate) const fn limit(&self) -> usize {
        self.ending.limit()
    }

    /// The next token.
    pub(crate) fn choose(&self, logits: &[f32], scratch: &mut Scratch) -> Choice {
        self.sampler.choose(logits, scratch)
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

fn check_stops(stop: &[String]) -> Result<(), SettingsError> {
    let longest = stop.iter().map(String::len).max().unwrap_or(0);
    let lengths = [(MAX_STOPS, stop.len()), (MAX_STOP_BYTES, longest)];
    match lengths.into_iter().find(|(limit, found)| found > limit) {
        Some((limit, found)) => Err(SettingsError::Length { field: "stop", limit, found }),
        None => Ok(()),
    }
}

/// An answer beside tokens that exist already.
pub(crate) struct Followed<'a, 'b> {
    answer: Answer<'a>,
    output: &'b [u32],
    /// What the sampler chooses, up to the first place at which the output has something else.
    pub(crate) choices: Vec<Choice>,
    /// Whether the answer ends with each of the output's tokens, up to the same place.
    pub(crate) ends: Vec<Option<FinishReason>>,
    scratch: Scratch,
    over: bool,
}

impl<'a, 'b> Followed<'a, 'b> {
    pub(crate) fn new(answer: Answer<'a>, output: &'b [u32]) -> Self {
        let (choices, ends) = (Vec::with_capacity(output.len() + 1), Vec::with_capacity(output.len()));
        Self { answer, output, choices, ends, scratch: Scratch::default(), over: false }
    }

    /// Takes the logits after the prompt and the tokens of the output so far.
    pub(crate) fn step(&mut self, logits: &[f32]) {
        if self.over {
            return;
        }
        let choice = self.answer.choose(logits, &mut self.scratch);
        let found = self.output.get(self.choices.len()).copied();
        self.over = true;
        if found == Some(choice.token) {
            let end = self.answer.push(choice.token);
            self.over = end.is_some();
            self.ends.push(end);
        }
        self.choices.push(choice);
    }

    /// The answer after the output, and room to work in.
    pub(crate) fn into_answer(self) -> (Answer<'a>, Scratch, Vec<Choice>) {
        (self.answer, self.scratch, self.choices)
    }
}
