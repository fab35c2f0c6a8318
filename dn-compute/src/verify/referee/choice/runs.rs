//! How often a token stands in the window of the penalties, from runs of prompt and output.

use dn_core::objects::JobRequest;

use super::output_index;
use super::ranges::count;
use crate::verify::choice::{SeenToken, Text, Window};
use crate::verify::claim::Claim;
use crate::verify::error::RefereeError;
use crate::verify::referee::{Bench, Finding, Wrong, wrong_opening};

/// The tokens that the penalties of a choice see.
pub(crate) fn window(claim: &Claim, penalty_window: u32) -> Result<Window, RefereeError> {
    Ok(Window::new(claim.subject.prompt_tokens, output_index(claim)?, penalty_window))
}

impl Bench<'_> {
    pub(super) fn counts(&self, penalty_window: u32, seen: SeenToken, counts: &[u32]) -> Finding {
        let window = window(self.claim, penalty_window)?;
        let [prompt, output] = window.runs();
        count("number of runs", u64::from(prompt) + u64::from(output), counts.len() as u64)?;
        let pick = self.opening.pick;
        let Some((text, range)) = window.run(pick) else {
            return Err(wrong_opening("picked run", counts.len().saturating_sub(1) as u64, pick.into()));
        };
        let bytes = match text {
            Text::Prompt => {
                self.expect_rows(0)?;
                let at = |token: u32| JobRequest::PROMPT_OFFSET + 4 * token as usize;
                self.request(at(range.start)..at(range.end))?
            }
            Text::Output => {
                self.expect_rows(1)?;
                self.output(0, range)?
            }
        };
        let sum = |counts: &[u32]| counts.iter().map(|count| u64::from(*count)).sum::<u64>();
        let (in_prompt, in_output) = counts.split_at(prompt as usize);
        if sum(in_prompt) != u64::from(seen.prompt) || sum(in_output) != u64::from(seen.output) {
            return Ok(Some(Wrong::Combination));
        }
        let token = seen.token.to_le_bytes();
        let found = bytes.chunks_exact(4).filter(|bytes| **bytes == token).count();
        let holds = found as u64 == u64::from(counts[pick as usize]);
        Ok((!holds).then_some(Wrong::Part { index: pick }))
    }
}
