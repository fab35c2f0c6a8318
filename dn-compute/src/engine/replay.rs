//! Checking an answer by one pass over prompt and output.

use std::time::Instant;

use dn_core::Hash32;
use dn_core::objects::{FinishReason, TokenLogprobs};

use super::{Answer, Engine, Followed, GenerateError, GenerateRequest, Timings};
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
        let started = Instant::now();
        let request = GenerateRequest { already: &[], ..*request };
        self.check(&request)?;
        let front = self.model.front();
        let answer = Answer::new(front, &request)?;
        let possible = output.iter().take(answer.limit()).take_while(|t| **t < front.vocabulary()).count();
        // The last token is not fed, for it needs no logits after it.
        let fed = possible.min(output.len().saturating_sub(1));
        let known = [request.prompt, &output[..fed]].concat();
        let mut session = self.decoder.session(known.len())?;
        let mut followed = Followed::new(answer, output);
        self.follow(&mut session, &known, request.prompt.len(), &mut followed)?;
        let trace = session.trace().clone();
        let timings =
            Timings { prefill_tokens: known.len() as u32, prefill: started.elapsed(), ..Timings::default() };
        let divergence = divergence(request.prompt.len(), output, finish, &followed);
        let matched = followed.choices.iter().zip(output).filter(|(choice, found)| choice.token == **found);
        let logprobs = matched.filter_map(|(choice, _)| choice.logprobs.clone()).collect();
        Ok(Replay { trace_root: trace.root(), trace, divergence, logprobs, timings })
    }
}

fn divergence(
    prompt: usize,
    output: &[u32],
    finish: FinishReason,
    followed: &Followed<'_, '_>,
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
