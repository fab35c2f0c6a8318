//! Whether the ranges that are stated make the token, or the range that they are parts of.

use std::ops::Range;

use dn_core::objects::Sampling;

use super::output_index;
use crate::sampling::fixed::{MICRO, Powers};
use crate::sampling::rules::{needed, reaches};
use crate::verify::choice::{Cuts, Draw, LEAF_TOKENS, Share, Span, parts};
use crate::verify::error::RefereeError;
use crate::verify::referee::{Bench, Finding, Wrong, wrong_claim};

/// Whether the ranges of a whole vocabulary make this token the choice.
fn vocabulary_holds(vocabulary: u32, draw: &Draw, shares: &[Share], token: u32) -> bool {
    let s = &draw.sampling;
    let Some(all) = Share::sum(shares) else { return false };
    let Some(best) = all.best else { return false };
    if s.temperature_micro == 0 {
        return best.token == token;
    }
    top_k_holds(s, draw.cuts, &all) && top_p_holds(s, draw, &all) && {
        let ranges = parts(0..vocabulary).zip(shares);
        falls_into(draw.target, 0, ranges, token) == Some(true)
    }
}

/// The cut leaves as many as the setting says, or all of fewer.
fn top_k_holds(s: &Sampling, cuts: Cuts, all: &Share) -> bool {
    match (s.top_k, cuts.top_k) {
        (0, cut) => cut.is_none(),
        (k, Some(_)) => all.top_k.count == k,
        (k, None) => all.top_k.count <= k,
    }
}

/// The cut leaves enough weight, and no token more than that needs.
///
/// The cut need not be the place of a token: a place below the last token that is kept has at most its weight, so that what is
/// left without it is at least as much as without the last token.
fn top_p_holds(s: &Sampling, draw: &Draw, all: &Share) -> bool {
    let Some(cut) = draw.cuts.top_p else { return s.top_p_micro >= MICRO };
    let last = Powers::new(s.temperature_micro).of(draw.max, cut.fixed);
    let needed = needed(all.top_k.weight.into(), s.top_p_micro);
    let shortest = match all.top_p.count {
        0 => false,
        1 => true,
        _ => all.top_p.weight.checked_sub(last).is_some_and(|rest| !reaches(rest.into(), needed)),
    };
    s.top_p_micro < MICRO && reaches(all.top_p.weight.into(), needed) && shortest
}

/// Whether the running sum passes the target in the range that holds the token; `None` where none holds it.
fn falls_into<'a>(
    target: u64,
    before: u64,
    ranges: impl Iterator<Item = (Range<u32>, &'a Share)>,
    token: u32,
) -> Option<bool> {
    let mut sum = u128::from(before);
    for (range, share) in ranges {
        let next = sum + u128::from(share.kept);
        if range.contains(&token) {
            return Some((sum..next).contains(&target.into()));
        }
        sum = next;
    }
    None
}

impl Bench<'_> {
    pub(super) fn vocabulary(
        &self,
        sampling: Sampling,
        largest: Option<u32>,
        cuts: Cuts,
        shares: &[Share],
    ) -> Finding {
        self.expect_rows(0)?;
        let vocabulary = self.geometry.h.vocabulary;
        count("number of ranges", parts(0..vocabulary).count() as u64, shares.len() as u64)?;
        let draw = Draw::of(sampling, cuts, shares, output_index(self.claim)?);
        // A list that names a token that the model lacks: no honest worker serves it.
        let served = largest.is_none_or(|token| token < vocabulary);
        let holds = served && vocabulary_holds(vocabulary, &draw, shares, self.claim.value);
        Ok((!holds).then_some(Wrong::Combination))
    }

    pub(super) fn range(&self, draw: &Draw, span: &Span, shares: &[Share]) -> Finding {
        self.expect_rows(0)?;
        let tokens = self.tokens(span)?;
        count("number of ranges", parts(tokens.clone()).count() as u64, shares.len() as u64)?;
        let ranges = parts(tokens).zip(shares);
        let chance = draw.sampling.temperature_micro != 0;
        let falls = !chance || falls_into(draw.target, span.before, ranges, self.claim.value) != Some(false);
        let holds = Share::sum(shares) == Some(span.share) && falls;
        Ok((!holds).then_some(Wrong::Combination))
    }

    /// The tokens of a range, which are some of the vocabulary's.
    pub(super) fn tokens(&self, span: &Span) -> Result<Range<u32>, RefereeError> {
        let (tokens, vocabulary) = (span.tokens(), self.geometry.h.vocabulary);
        if tokens.is_empty() || tokens.end > vocabulary {
            return Err(wrong_claim("end of the range", vocabulary.into(), tokens.end.into()));
        }
        if !span.first.is_multiple_of(LEAF_TOKENS) {
            let expected = span.first / LEAF_TOKENS * LEAF_TOKENS;
            return Err(wrong_claim("first token of the range", expected.into(), span.first.into()));
        }
        Ok(tokens)
    }
}

pub(super) fn count(what: &'static str, expected: u64, found: u64) -> Result<(), RefereeError> {
    if expected == found { Ok(()) } else { Err(wrong_claim(what, expected, found)) }
}
