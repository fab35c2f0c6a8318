//! A choice that can be opened: what follows from logits, settings and the tokens before.

use std::collections::BTreeMap;
use std::ops::Range;

use dn_core::Canonical;
use dn_core::objects::{JobRequest, Sampling, TokenBias};

use crate::sampling::fixed::{EXCLUDED, MICRO, Powers};
use crate::sampling::rules::{needed, ranking, reaches};
use crate::verify::choice::{
    ChoiceParts, Cuts, Draw, Rank, SeenToken, Share, Text, Window, parts, transformed,
};
use crate::verify::claim::{Claim, Opening, Parts, RequestSlice};
use crate::verify::dispute::{Answer, Dispute, Due, Pick, stated};
use crate::verify::referee::choice::Weigher;
use crate::verify::referee::{Verdict, judge};
use crate::verify::slice::Slice;

/// The choice of one output token, as worker and accuser compute it.
#[derive(Debug)]
pub struct ChoiceWitness<'a> {
    request: &'a JobRequest,
    output: &'a [u32],
    index: u32,
    logits: Vec<f32>,
    /// After steps 1 to 4 of the sampler.
    fixed: Vec<i64>,
    window: Window,
    seen: BTreeMap<u32, SeenToken>,
}

impl<'a> ChoiceWitness<'a> {
    /// The choice of `output[index]` from these logits; `None` where there is no such output token.
    pub fn new(request: &'a JobRequest, output: &'a [u32], index: u32, logits: Vec<f32>) -> Option<Self> {
        output.get(index as usize)?;
        let (s, decoding) = (&request.sampling, &request.decoding);
        let window = Window::new(request.prompt.len() as u32, index, s.penalty_window);
        let mut seen = BTreeMap::new();
        if s.penalises() {
            let mut add = |token: u32, [prompt, output]: [u32; 2]| {
                let count = seen.entry(token).or_insert(SeenToken { token, prompt: 0, output: 0 });
                (count.prompt, count.output) = (count.prompt + prompt, count.output + output);
            };
            text(&request.prompt, &window.prompt).iter().for_each(|token| add(*token, [1, 0]));
            text(output, &window.output).iter().for_each(|token| add(*token, [0, 1]));
        }
        let one = |(token, logit): (u32, &f32)| {
            let count = seen.get(&token).map(|seen| seen.count()).unwrap_or_default();
            let bias = decoding.bias.binary_search_by_key(&token, |bias| bias.token);
            let bias = bias.ok().map(|at| decoding.bias[at].bias_micro);
            transformed(*logit, s, count, bias, decoding.banned.binary_search(&token).is_ok())
        };
        let fixed = (0..).zip(&logits).map(one).collect();
        Some(Self { request, output, index, logits, fixed, window, seen })
    }

    /// What the worker has to show, where it is its turn.
    pub fn answer(&self, dispute: &Dispute) -> Option<Answer> {
        let parts = match &dispute.claim().parts {
            Parts::Choice { choice } => Some(choice),
            _ => None,
        };
        Some(match (dispute.due(), parts) {
            (Due::Choice, _) => {
                let draw = self.draw();
                let shares = self.shares(&draw, 0..self.logits.len() as u32);
                Answer::Choice { cuts: draw.cuts, shares }
            }
            (Due::Shares, Some(ChoiceParts::Range { draw, span, .. })) => {
                Answer::Shares { shares: self.shares(draw, span.tokens()) }
            }
            (Due::Seen, Some(ChoiceParts::Leaf { span, .. })) => {
                Answer::Seen { tokens: self.seen.range(span.tokens()).map(|(_, seen)| *seen).collect() }
            }
            (Due::Counts, Some(ChoiceParts::Counts { seen, .. })) => {
                Answer::Counts { counts: self.counts(seen.token) }
            }
            _ => return None,
        })
    }

    /// Where what is stated first departs from this computation, where it is the accuser's turn.
    pub fn pick(&self, dispute: &Dispute) -> Option<Pick> {
        let claim = dispute.claim();
        Some(match dispute.due() {
            Due::Settings => Pick::Settings {
                request: self.settings(),
                output: self.output_slice(self.index..self.index + 1),
            },
            Due::Range => {
                let opening = Opening::default();
                match judge(claim, &opening) {
                    Ok(Verdict::Fraud { .. }) => Pick::Tile { opening },
                    _ => Pick::Index { index: self.first_range(claim)? },
                }
            }
            Due::Token => match self.first_token(claim)? {
                Some(index) => Pick::Index { index },
                None => Pick::Tile { opening: self.tile(claim)? },
            },
            Due::Tile => Pick::Tile { opening: self.tile(claim)? },
            _ => return None,
        })
    }

    /// What the referee needs.
    pub fn tile(&self, claim: &Claim) -> Option<Opening> {
        let mut opening = Opening::default();
        let Parts::Choice { choice } = &claim.parts else {
            let rival = crate::sampling::sample(&self.logits, &Sampling::GREEDY, 0);
            let chosen = claim.value.min(self.logits.len() as u32 - 1);
            opening.rows = [chosen, rival].map(|token| self.logits_slice(token..token + 1)).to_vec();
            opening.pick = rival;
            return Some(opening);
        };
        match choice {
            ChoiceParts::Vocabulary { .. } | ChoiceParts::Range { .. } => {}
            ChoiceParts::Leaf { span, .. } => opening.rows.push(self.logits_slice(span.tokens())),
            ChoiceParts::Counts { seen, counts, .. } => {
                let own = self.counts(seen.token);
                let differs = own.iter().zip(counts).position(|(own, theirs)| own != theirs);
                opening.pick = differs.unwrap_or(0) as u32;
                let (text, range) = self.window.run(opening.pick)?;
                match text {
                    Text::Prompt => {
                        let at = |token: u32| JobRequest::PROMPT_OFFSET + 4 * token as usize;
                        opening.request = Some(self.request_slice(at(range.start)..at(range.end)));
                    }
                    Text::Output => opening.rows.push(self.output_slice(range)),
                }
            }
        }
        Some(opening)
    }

    /// The globals; the target is of no account for shares.
    fn draw(&self) -> Draw {
        let max = self.fixed.iter().copied().max().unwrap_or(0);
        Draw { sampling: self.request.sampling, cuts: self.cuts(max), max, target: 0 }
    }

    /// Steps 7 and 8.
    fn cuts(&self, max: i64) -> Cuts {
        let (s, mut cuts) = (&self.request.sampling, Cuts::default());
        if s.temperature_micro == 0 || (s.top_k == 0 && s.top_p_micro >= MICRO) {
            return cuts;
        }
        let ranked = (0..).zip(&self.fixed).filter(|(_, fixed)| **fixed != EXCLUDED);
        let mut ranked: Vec<(i64, u32)> = ranked.map(|(token, fixed)| (*fixed, token)).collect();
        ranked.sort_unstable_by(|a, b| ranking(*a, *b));
        let last =
            |ranked: &[(i64, u32)]| ranked.last().map(|(fixed, token)| Rank { fixed: *fixed, token: *token });
        if s.top_k > 0 && (s.top_k as usize) < ranked.len() {
            ranked.truncate(s.top_k as usize);
            cuts.top_k = last(&ranked);
        }
        if s.top_p_micro < MICRO {
            let powers = Powers::new(s.temperature_micro);
            let weight = |(fixed, _): &(i64, u32)| u128::from(powers.of(max, *fixed));
            let needed = needed(ranked.iter().map(weight).sum(), s.top_p_micro);
            let mut sum = 0;
            let enough = |kept: &(i64, u32)| {
                sum += weight(kept);
                reaches(sum, needed)
            };
            let kept = ranked.iter().position(enough).map_or(ranked.len(), |at| at + 1);
            cuts.top_p = last(&ranked[..kept]);
        }
        cuts
    }

    /// The shares of the ranges that tokens are cut into.
    fn shares(&self, draw: &Draw, tokens: Range<u32>) -> Vec<Share> {
        let weigher = Weigher::new(draw);
        let share = |tokens: Range<u32>| {
            let range = tokens.start as usize..tokens.end as usize;
            weigher.sum(tokens.start, &self.logits[range.clone()], &self.fixed[range])
        };
        parts(tokens).map(share).collect()
    }

    /// The first range whose best token is not as stated, else the first that is not as stated, else the chosen token's.
    fn first_range(&self, claim: &Claim) -> Option<u32> {
        let (draw, spans) = stated(claim, self.logits.len() as u32)?;
        let (first, last) = (spans.first()?, spans.last()?);
        let own = self.shares(&draw, first.first..last.tokens().end);
        let differs = |differs: fn(&Share, &Share) -> bool| {
            spans.iter().zip(&own).position(|(span, own)| differs(&span.share, own))
        };
        let chosen = || spans.iter().position(|span| span.tokens().contains(&claim.value));
        let index = differs(|theirs, own| theirs.best != own.best).or_else(|| differs(|a, b| a != b));
        Some(index.or_else(chosen).unwrap_or(0) as u32)
    }

    /// The first token of a range whose counts are not as stated.
    fn first_token(&self, claim: &Claim) -> Option<Option<u32>> {
        let Parts::Choice { choice: ChoiceParts::Leaf { span, seen, .. } } = &claim.parts else {
            return None;
        };
        let theirs =
            |token: u32| seen.binary_search_by_key(&token, |seen| seen.token).ok().map(|at| seen[at]);
        let differs = |token: &u32| theirs(*token) != self.seen.get(token).copied();
        Some(span.tokens().find(differs).map(|token| token - span.first))
    }

    /// How often a token stands in each run of the window.
    fn counts(&self, token: u32) -> Vec<u32> {
        let run = |at| {
            let (of, range) = self.window.run(at)?;
            let tokens = match of {
                Text::Prompt => text(&self.request.prompt, &range),
                Text::Output => text(self.output, &range),
            };
            Some(tokens.iter().filter(|other| **other == token).count() as u32)
        };
        (0..).map_while(run).collect()
    }

    fn logits_slice(&self, tokens: Range<u32>) -> Slice {
        let bytes: Vec<u8> = self.logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
        Slice::cut(&bytes, 4 * tokens.start as usize..4 * tokens.end as usize)
    }

    fn output_slice(&self, tokens: Range<u32>) -> Slice {
        let bytes: Vec<u8> = self.output.iter().flat_map(|token| token.to_le_bytes()).collect();
        Slice::cut(&bytes, 4 * tokens.start as usize..4 * tokens.end as usize)
    }

    fn request_slice(&self, range: Range<usize>) -> RequestSlice {
        let bytes = self.request.to_bytes();
        RequestSlice { len: bytes.len() as u32, slice: Slice::cut(&bytes, range) }
    }

    /// The request from the sampler's numbers to the kind of its grammar.
    fn settings(&self) -> RequestSlice {
        let (start, decoding) =
            (JobRequest::PROMPT_OFFSET + 4 * self.request.prompt.len(), &self.request.decoding);
        let lists = 8 + TokenBias::MIN_LEN * decoding.bias.len() + u32::MIN_LEN * decoding.banned.len();
        self.request_slice(start..start + Sampling::MIN_LEN + lists + 1)
    }
}

fn text<'a>(tokens: &'a [u32], range: &Range<u32>) -> &'a [u32] {
    &tokens[range.start as usize..range.end as usize]
}
