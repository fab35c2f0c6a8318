//! The choice of the next token: from a rival, or from what is stated about ranges of the vocabulary.

mod leaf;
mod ranges;
mod runs;
mod settings;

use std::ops::Range;

use super::{Bench, Finding, Wrong, wrong_claim, wrong_opening};
use crate::verify::choice::ChoiceParts;
use crate::verify::claim::{Claim, Parts};
use crate::verify::error::RefereeError;

#[cfg(feature = "engine")]
pub(crate) use self::leaf::Weigher;
pub(crate) use self::leaf::ascends;
pub(crate) use self::runs::window;
pub(crate) use self::settings::settings;

/// Which output token a position chooses, from 0.
pub(crate) fn output_index(claim: &Claim) -> Result<u32, RefereeError> {
    let prompt = claim.subject.prompt_tokens;
    let index = (u64::from(claim.position) + 1).checked_sub(prompt.into());
    let index = index.filter(|_| claim.subject.chooses(claim.position));
    index.map(|index| index as u32).ok_or_else(|| {
        wrong_claim("position", u64::from(prompt).saturating_sub(1), u64::from(claim.position))
    })
}

impl Bench<'_> {
    pub(super) fn choice(&self) -> Finding {
        match &self.claim.parts {
            Parts::None => self.rival(),
            Parts::Choice { choice: ChoiceParts::Vocabulary { sampling, largest, cuts, shares } } => {
                self.vocabulary(*sampling, *largest, *cuts, shares)
            }
            Parts::Choice { choice: ChoiceParts::Range { draw, span, shares } } => {
                self.range(draw, span, shares)
            }
            Parts::Choice { choice: ChoiceParts::Leaf { draw, span, seen, bias, banned } } => {
                self.leaf(draw, span, (seen, bias, banned))
            }
            Parts::Choice { choice: ChoiceParts::Counts { penalty_window, seen, counts } } => {
                self.counts(*penalty_window, *seen, counts)
            }
            _ => Err(wrong_claim("kind of parts", 3, 1)),
        }
    }

    /// Where the largest logit alone decides: the chosen token against the picked rival.
    fn rival(&self) -> Finding {
        self.expect_rows(2)?;
        let (token, rival, vocabulary) = (self.claim.value, self.opening.pick, self.geometry.h.vocabulary);
        if rival >= vocabulary {
            return Err(wrong_opening("rival token", u64::from(vocabulary) - 1, rival.into()));
        }
        if token >= vocabulary {
            return Ok(Some(Wrong::Value));
        }
        let logit = |row, t: u32| Ok::<f32, RefereeError>(self.logits(row, t..t + 1)?[0]);
        let (own, other) = (logit(0, token)?, logit(1, rival)?);
        let better = other > own || (other == own && rival < token);
        Ok(better.then_some(Wrong::Value))
    }

    /// Logits of some tokens.
    fn logits(&self, row: usize, tokens: Range<u32>) -> Result<Vec<f32>, RefereeError> {
        let vocabulary = self.geometry.h.vocabulary as usize;
        self.input(row, 0, vocabulary, tokens.start as usize..tokens.end as usize)
    }
}
