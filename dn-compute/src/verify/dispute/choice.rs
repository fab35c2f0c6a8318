//! The steps of a dispute about a choice that follows from more than the largest logit.

use dn_core::Canonical;

use super::steps::{among, count};
use super::{Dispute, Due, MoveError};
use crate::verify::choice::{ChoiceParts, Cuts, Draw, LEAF_TOKENS, SeenToken, Settings, Share, Span, parts};
use crate::verify::claim::{Claim, MAX_BYTES, Parts, RequestSlice};
use crate::verify::error::RefereeError;
use crate::verify::referee::choice::{ascends, output_index, settings, window};
use crate::verify::slice::Slice;

impl Dispute {
    /// The accuser has opened the settings and the chosen token.
    pub(super) fn take_settings(&mut self, request: &RequestSlice, output: &Slice) -> Result<Due, MoveError> {
        let found = request.to_bytes().len() + output.to_bytes().len();
        if found > MAX_BYTES {
            return Err(RefereeError::TooLarge { limit: MAX_BYTES, found }.into());
        }
        let (settings, token) = settings(&self.claim, request, output)?;
        self.claim.value = token;
        let plain = settings.is_plain_greedy();
        self.settings = Some(settings);
        Ok(if plain { Due::Tile } else { Due::Choice })
    }

    /// The worker has stated the ranges of the vocabulary.
    pub(super) fn take_choice(&mut self, cuts: Cuts, shares: Vec<Share>) -> Result<Due, MoveError> {
        let Some(Settings { sampling, .. }) = self.settings else { return Err(NO_SETTINGS) };
        count("ranges", parts(0..self.geometry.h.vocabulary).count() as u64, shares.len())?;
        let largest = self.settings.as_ref().and_then(Settings::largest);
        let choice = ChoiceParts::Vocabulary { sampling, largest, cuts, shares };
        self.claim.parts = Parts::Choice { choice };
        Ok(Due::Range)
    }

    /// The worker has stated the ranges of a range.
    pub(super) fn take_shares(&mut self, stated: Vec<Share>) -> Result<Due, MoveError> {
        let Parts::Choice { choice: ChoiceParts::Range { span, shares, .. } } = &mut self.claim.parts else {
            return Err(NO_SETTINGS);
        };
        count("ranges", parts(span.tokens()).count() as u64, stated.len())?;
        *shares = stated;
        Ok(Due::Range)
    }

    /// The accuser has chosen a range.
    pub(super) fn choose_range(&mut self, index: u32) -> Result<Due, MoveError> {
        let Some(settings) = &self.settings else { return Err(NO_SETTINGS) };
        let (draw, spans) = stated(&self.claim, self.geometry.h.vocabulary).ok_or(NO_SETTINGS)?;
        let span = spans.get(index as usize).ok_or_else(|| among("ranges", spans.len(), index))?;
        let (choice, due) = if span.len > LEAF_TOKENS {
            (ChoiceParts::Range { draw, span: *span, shares: Vec::new() }, Due::Shares)
        } else {
            let (bias, banned) = settings.within(&span.tokens());
            let due = if draw.sampling.penalises() { Due::Seen } else { Due::Tile };
            (ChoiceParts::Leaf { draw, span: *span, seen: Vec::new(), bias, banned }, due)
        };
        self.claim.parts = Parts::Choice { choice };
        Ok(due)
    }

    /// The worker has stated which tokens of the range the penalties see.
    pub(super) fn take_seen(&mut self, stated: Vec<SeenToken>) -> Result<Due, MoveError> {
        let Some(Settings { sampling, .. }) = self.settings else { return Err(NO_SETTINGS) };
        let window = window(&self.claim, sampling.penalty_window)?;
        let Parts::Choice { choice: ChoiceParts::Leaf { span, seen, .. } } = &mut self.claim.parts else {
            return Err(NO_SETTINGS);
        };
        let sum = |of: fn(&SeenToken) -> u32| stated.iter().map(|seen| u64::from(of(seen))).sum::<u64>();
        let fits = ascends(stated.iter().map(|seen| seen.token), &span.tokens())
            && stated.iter().all(|seen| seen.prompt > 0 || seen.output > 0)
            && sum(|seen| seen.prompt) <= window.prompt.len() as u64
            && sum(|seen| seen.output) <= window.output.len() as u64;
        if !fits {
            return Err(MoveError::Form { what: "the list of seen tokens" });
        }
        *seen = stated;
        Ok(Due::Token)
    }

    /// The accuser has chosen a token whose counts it doubts.
    pub(super) fn choose_token(&mut self, index: u32) -> Result<Due, MoveError> {
        let Parts::Choice { choice: ChoiceParts::Leaf { draw, span, seen, .. } } = &self.claim.parts else {
            return Err(NO_SETTINGS);
        };
        if index >= span.len {
            return Err(among("tokens of the range", span.len as usize, index));
        }
        let token = span.first + index;
        let none = SeenToken { token, prompt: 0, output: 0 };
        let seen = seen.iter().find(|seen| seen.token == token).copied().unwrap_or(none);
        let penalty_window = draw.sampling.penalty_window;
        let choice = ChoiceParts::Counts { penalty_window, seen, counts: Vec::new() };
        self.claim.parts = Parts::Choice { choice };
        Ok(Due::Counts)
    }

    /// The worker has stated a token's counts.
    pub(super) fn take_counts(&mut self, stated: Vec<u32>) -> Result<Due, MoveError> {
        let Some(Settings { sampling, .. }) = self.settings else { return Err(NO_SETTINGS) };
        let [prompt, output] = window(&self.claim, sampling.penalty_window)?.runs();
        let Parts::Choice { choice: ChoiceParts::Counts { counts, .. } } = &mut self.claim.parts else {
            return Err(NO_SETTINGS);
        };
        count("runs of tokens", u64::from(prompt) + u64::from(output), stated.len())?;
        *counts = stated;
        Ok(Due::Tile)
    }
}

/// These moves are due only after the settings, with the parts that they add to.
const NO_SETTINGS: MoveError = MoveError::Turn { expected: "the settings of the choice" };

/// What a claim states about ranges: the globals, and each range with the weight before it.
pub(crate) fn stated(claim: &Claim, vocabulary: u32) -> Option<(Draw, Vec<Span>)> {
    let Parts::Choice { choice } = &claim.parts else { return None };
    let (draw, tokens, mut before, shares) = match choice {
        ChoiceParts::Vocabulary { sampling, cuts, shares, .. } => {
            let draw = Draw::of(*sampling, *cuts, shares, output_index(claim).ok()?);
            (draw, 0..vocabulary, 0, shares)
        }
        ChoiceParts::Range { draw, span, shares } => (*draw, span.tokens(), span.before, shares),
        _ => return None,
    };
    let span = |(tokens, share): (std::ops::Range<u32>, &Share)| {
        let span = Span { first: tokens.start, len: tokens.end - tokens.start, before, share: *share };
        before = before.saturating_add(share.kept);
        span
    };
    Some((draw, parts(tokens).zip(shares).map(span).collect()))
}
