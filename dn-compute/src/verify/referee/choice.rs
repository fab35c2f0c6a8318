//! The choice of the next token.

use dn_core::Canonical;
use dn_core::encoding::Reader;
use dn_core::objects::{JobRequest, Sampling};

use super::{Bench, Finding, Wrong, wrong_opening};
use crate::verify::error::RefereeError;

impl Bench<'_> {
    /// Greedy choice: the chosen token against the picked rival.
    pub(super) fn choice(&self) -> Finding {
        self.no_parts()?;
        self.expect_rows(3)?;
        let subject = &self.claim.subject;
        let index = (u64::from(self.claim.position) + 1).checked_sub(subject.prompt_tokens.into());
        let index = index.ok_or_else(|| {
            super::wrong_claim("position", u64::from(subject.prompt_tokens) - 1, self.claim.position.into())
        })?;
        let token = self.output(0, index as u32)?;
        let token = u32::from_le_bytes([token[0], token[1], token[2], token[3]]);
        self.is_greedy()?;
        let vocabulary = self.geometry.h.vocabulary;
        let rival = self.opening.pick;
        if rival >= vocabulary {
            return Err(wrong_opening("rival token", u64::from(vocabulary) - 1, rival.into()));
        }
        if token >= vocabulary {
            return Ok(Some(Wrong::Value));
        }
        let logit = |row, t: u32| {
            let range = t as usize..t as usize + 1;
            Ok::<f32, RefereeError>(self.input(row, 0, vocabulary as usize, range)?[0])
        };
        let (own, other) = (logit(1, token)?, logit(2, rival)?);
        let better = other > own || (other == own && rival < token);
        Ok(better.then_some(Wrong::Value))
    }

    /// Refuses a request whose choices follow from more than the two logits.
    fn is_greedy(&self) -> Result<(), RefereeError> {
        let at = JobRequest::PROMPT_OFFSET + 4 * self.claim.subject.prompt_tokens as usize;
        // After the numbers of the sampler: the counts of biases and bans, and the grammar's tag.
        let bytes = self.request(at..at + Sampling::MIN_LEN + 9)?;
        let mut r = Reader::new(bytes);
        let sampling = Sampling::decode(&mut r).map_err(RefereeError::OpeningEncoding)?;
        let plain = r.take(9).is_ok_and(|rest| rest.iter().all(|byte| *byte == 0));
        match sampling.temperature_micro == 0 && !sampling.penalises() && plain {
            true => Ok(()),
            false => Err(RefereeError::Unsupported { what: "a choice by more than the largest logit" }),
        }
    }
}
