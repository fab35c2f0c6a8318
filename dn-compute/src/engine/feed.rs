//! Feeding many sequences in one step, and choosing their next tokens.

use dn_core::objects::Sampling;
use rayon::prelude::*;

use super::Engine;
use crate::runtime::{LogitsRow, Part, Session, StepError};
use crate::sampling::sample;
use crate::spec::NumericError;

/// What is fed to one sequence, and what its choices depend on.
pub(super) struct Feed<'a> {
    pub(super) session: &'a mut Session,
    /// At least one token.
    pub(super) tokens: &'a [u32],
    /// The position after which the first output token is chosen: the prompt's last.
    pub(super) from: usize,
    pub(super) sampling: &'a Sampling,
}

/// The step was given up; no sequence has changed.
pub(super) struct Aborted;

/// What the sampler chose after each position fed that has a choice, or why the sequence failed and is as before.
pub(super) type Choices = Result<Vec<u32>, NumericError>;

impl Engine {
    /// Feeds all in one step. A sequence that fails fails alone: the others are as if it had not been there.
    pub(super) fn feed_many(
        &self,
        feeds: &mut [Feed<'_>],
        abort: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Choices>, Aborted> {
        match self.feed_once(feeds, abort) {
            Ok(choices) => Ok(choices.into_iter().map(Ok).collect()),
            Err(StepError::Aborted) => Err(Aborted),
            Err(StepError::Numeric(error)) if feeds.len() == 1 => Ok(vec![Err(error)]),
            Err(StepError::Numeric(_)) => feeds
                .iter_mut()
                .map(|feed| match self.feed_once(std::slice::from_mut(feed), &|| false) {
                    Ok(mut choices) => Ok(Ok(choices.pop().unwrap_or_default())),
                    Err(StepError::Numeric(error)) => Ok(Err(error)),
                    Err(StepError::Aborted) => Err(Aborted),
                })
                .collect(),
        }
    }

    fn feed_once(
        &self,
        feeds: &mut [Feed<'_>],
        abort: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Vec<u32>>, StepError> {
        let vocabulary = self.model.front().vocabulary() as usize;
        let parallel = self.info().threads > 1;
        let mut choices = vec![Vec::new(); feeds.len()];
        let settings: Vec<(usize, &Sampling)> = feeds.iter().map(|f| (f.from, f.sampling)).collect();
        let mut parts: Vec<Part<'_>> = feeds
            .iter_mut()
            .map(|f| Part { session: &mut *f.session, tokens: f.tokens, logits_from: f.from })
            .collect();
        self.decoder.step(&mut parts, abort, &mut |rows, logits| {
            let one = |(row, logits): (&LogitsRow, &[f32])| {
                let (from, sampling) = settings[row.part];
                sample(logits, sampling, row.position - from as u32)
            };
            let chosen: Vec<u32> = if parallel && rows.len() > 1 {
                rows.par_iter().zip(logits.par_chunks_exact(vocabulary)).map(one).collect()
            } else {
                rows.iter().zip(logits.chunks_exact(vocabulary)).map(one).collect()
            };
            for (row, choice) in rows.iter().zip(chosen) {
                choices[row.part].push(choice);
            }
        })?;
        Ok(choices)
    }
}
