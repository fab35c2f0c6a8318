//! Feeding many sequences in one step, and choosing their next tokens.

use rayon::prelude::*;

use super::Engine;
use super::answer::Followed;
use crate::runtime::{LogitsRow, Part, Session, StepError};
use crate::spec::NumericError;

/// What is fed to one sequence, and what takes its logits.
pub(super) struct Feed<'a> {
    pub(super) session: &'a mut Session,
    /// At least one token.
    pub(super) tokens: &'a [u32],
    /// The position after which the first output token is chosen: the prompt's last.
    pub(super) from: usize,
    /// The output as far as it is known.
    pub(super) output: &'a [u32],
    pub(super) followed: &'a mut Followed,
}

/// The step was given up; no sequence has changed.
pub(super) struct Aborted;

/// Whether a sequence was fed. One that failed is as it was before.
pub(super) type Fed = Result<(), NumericError>;

/// Where one sequence's rows of logits go.
struct Taker<'a> {
    from: usize,
    output: &'a [u32],
    followed: &'a mut Followed,
}

impl Taker<'_> {
    fn take(&mut self, rows: &[LogitsRow], logits: &[f32], vocabulary: usize, parallel: bool) {
        if let Some(row) = rows.first() {
            self.followed.take(self.output, row.position as usize - self.from, logits, vocabulary, parallel);
        }
    }
}

impl Engine {
    /// Feeds all in one step. A sequence that fails fails alone: the others are as if it had not been there.
    pub(super) fn feed_many(
        &self,
        feeds: &mut [Feed<'_>],
        abort: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Fed>, Aborted> {
        match self.feed_once(feeds, abort) {
            Ok(()) => Ok(vec![Ok(()); feeds.len()]),
            Err(StepError::Aborted) => Err(Aborted),
            Err(StepError::Numeric(error)) if feeds.len() == 1 => Ok(vec![Err(error)]),
            // Rows of logits that came before the failure were right, and are passed over when they come again.
            Err(StepError::Numeric(_)) => feeds
                .iter_mut()
                .map(|feed| match self.feed_once(std::slice::from_mut(feed), &|| false) {
                    Ok(()) => Ok(Ok(())),
                    Err(StepError::Numeric(error)) => Ok(Err(error)),
                    Err(StepError::Aborted) => Err(Aborted),
                })
                .collect(),
        }
    }

    fn feed_once(&self, feeds: &mut [Feed<'_>], abort: &(dyn Fn() -> bool + Sync)) -> Result<(), StepError> {
        let vocabulary = self.model.front().vocabulary() as usize;
        let parallel = self.info().threads > 1;
        let (mut parts, mut takers) = (Vec::with_capacity(feeds.len()), Vec::with_capacity(feeds.len()));
        for Feed { session, tokens, from, output, followed } in feeds {
            parts.push(Part { session, tokens, logits_from: *from });
            takers.push(Taker { from: *from, output, followed });
        }
        self.decoder.step(&mut parts, abort, &mut |rows, mut logits| {
            // Rows come in the order of the parts.
            let mut shares = Vec::with_capacity(takers.len());
            let mut groups = rows.chunk_by(|a, b| a.part == b.part).peekable();
            for (part, taker) in takers.iter_mut().enumerate() {
                if let Some(rows) = groups.next_if(|rows| rows[0].part == part) {
                    let own;
                    (own, logits) = logits.split_at(rows.len() * vocabulary);
                    shares.push((taker, rows, own));
                }
            }
            if parallel && shares.len() > 1 {
                let one = |(taker, rows, own): (&mut Taker<'_>, &[LogitsRow], &[f32])| {
                    taker.take(rows, own, vocabulary, true);
                };
                shares.into_par_iter().for_each(one);
            } else {
                shares.into_iter().for_each(|(taker, rows, own)| taker.take(rows, own, vocabulary, parallel));
            }
        })
    }
}
