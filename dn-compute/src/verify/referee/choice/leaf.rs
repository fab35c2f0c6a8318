//! A range of tokens from its logits.

use dn_core::objects::TokenBias;

use super::ranges::count;
use crate::sampling::fixed::{EXCLUDED, Powers};
use crate::sampling::rules::{least_weight, ranking};
use crate::verify::choice::{
    Best, Draw, LEAF_TOKENS, Rank, SeenToken, Share, Span, Tally, better, transformed,
};
use crate::verify::referee::{Bench, Finding, Wrong, wrong_claim};

/// Weighs tokens under what is stated about all.
pub(crate) struct Weigher {
    /// `None` under temperature 0.
    powers: Option<Powers>,
    least: u64,
    draw: Draw,
}

impl Weigher {
    pub(crate) fn new(draw: &Draw) -> Self {
        let s = &draw.sampling;
        let powers = (s.temperature_micro != 0).then(|| Powers::new(s.temperature_micro));
        Self { powers, least: least_weight(s.min_p_micro), draw: *draw }
    }

    /// What one token adds to its range.
    pub(crate) fn share(&self, token: u32, logit: f32, fixed: i64) -> Share {
        if fixed == EXCLUDED {
            return Share::default();
        }
        let best = Some(Best { fixed, logit: logit.to_bits(), token });
        let Some(powers) = &self.powers else { return Share { best, ..Share::default() } };
        let keeps =
            |cut: Option<Rank>| cut.is_none_or(|cut| ranking((fixed, token), (cut.fixed, cut.token)).is_le());
        let weight = powers.of(self.draw.max, fixed);
        let tally = |kept: bool| if kept { Tally { count: 1, weight } } else { Tally::default() };
        let top_k = keeps(self.draw.cuts.top_k);
        let top_p = top_k && keeps(self.draw.cuts.top_p);
        let kept = if top_p && weight >= self.least { weight } else { 0 };
        Share { best, top_k: tally(top_k), top_p: tally(top_p), kept }
    }

    /// What neighbouring tokens from `first` on add up to: logits, and these in fixed point.
    pub(crate) fn sum(&self, first: u32, logits: &[f32], fixed: &[i64]) -> Share {
        let mut sum = Share::default();
        for ((token, logit), fixed) in (first..).zip(logits).zip(fixed) {
            let one = self.share(token, *logit, *fixed);
            sum.best = better(sum.best, one.best);
            for (sum, one) in [(&mut sum.top_k, one.top_k), (&mut sum.top_p, one.top_p)] {
                // A vocabulary has at most 2^23 tokens, a token a weight of at most 2^40.
                sum.count += one.count;
                sum.weight += one.weight;
            }
            sum.kept += one.kept;
        }
        sum
    }
}

impl Bench<'_> {
    pub(super) fn leaf(
        &self,
        draw: &Draw,
        span: &Span,
        lists: (&[SeenToken], &[TokenBias], &[u32]),
    ) -> Finding {
        self.expect_rows(1)?;
        let tokens = self.tokens(span)?;
        count(
            "tokens of the range",
            u64::from(LEAF_TOKENS.min(self.geometry.h.vocabulary - span.first)),
            u64::from(span.len),
        )?;
        let (seen, bias, banned) = lists;
        let ascends = ascends(seen.iter().map(|seen| seen.token), &tokens)
            && ascends(bias.iter().map(|bias| bias.token), &tokens)
            && ascends(banned.iter().copied(), &tokens);
        if !ascends {
            return Err(wrong_claim("number of lists in order", 3, 0));
        }
        let logits = self.logits(0, tokens.clone())?;
        let fixed: Vec<i64> = tokens
            .clone()
            .zip(&logits)
            .map(|(token, logit)| {
                let seen = seen.binary_search_by_key(&token, |seen| seen.token).map(|at| seen[at].count());
                let bias = bias.binary_search_by_key(&token, |bias| bias.token).map(|at| bias[at].bias_micro);
                let banned = banned.binary_search(&token).is_ok();
                transformed(*logit, &draw.sampling, seen.unwrap_or_default(), bias.ok(), banned)
            })
            .collect();
        let weigher = Weigher::new(draw);
        if weigher.sum(span.first, &logits, &fixed) != span.share {
            return Ok(Some(Wrong::Part { index: span.first / LEAF_TOKENS }));
        }
        let chosen = self.claim.value;
        if draw.sampling.temperature_micro == 0 || !tokens.contains(&chosen) {
            return Ok(None);
        }
        let at = (chosen - span.first) as usize;
        let start =
            u128::from(span.before) + u128::from(weigher.sum(span.first, &logits[..at], &fixed[..at]).kept);
        let own = weigher.share(chosen, logits[at], fixed[at]).kept;
        let falls = (start..start + u128::from(own)).contains(&draw.target.into());
        Ok((!falls).then_some(Wrong::Value))
    }
}

/// Whether tokens are some of a range, ascending.
pub(crate) fn ascends(tokens: impl Iterator<Item = u32> + Clone, range: &std::ops::Range<u32>) -> bool {
    let next = tokens.clone().skip(1);
    tokens.clone().all(|token| range.contains(&token)) && tokens.zip(next).all(|(a, b)| a < b)
}
