//! What is stated about the choice of a token, and how it is cut into parts.
//!
//! The vocabulary is cut into ranges, these again, down to [`LEAF_TOKENS`]; the tokens before the choice into runs of
//! [`RUN_TOKENS`]. Sums over ranges add up, so that a range is judged alone once the globals ([`Draw`]) are stated.

use std::ops::Range;

use dn_core::objects::{Decoding, Sampling, TokenBias};
use dn_core::{canonical_enum, canonical_struct};

use crate::sampling::fixed::{EXCLUDED, to_fixed};
use crate::sampling::rules::{is_better, target};
use crate::sampling::transform::{Count, biased, penalised};
use crate::verify::error::RefereeError;

/// Tokens of a range that is opened (few in tests, so that small vocabularies have several levels of ranges).
pub const LEAF_TOKENS: u32 = if cfg!(test) { 16 } else { 1024 };

/// Most ranges that are stated at a time.
pub const MAX_SHARES: u32 = if cfg!(test) { 4 } else { 512 };

/// Tokens of prompt or output in which occurrences are counted at a time.
pub const RUN_TOKENS: u32 = if cfg!(test) { 8 } else { 1024 };

/// What the request asks of its sampler: all that decides where there is no grammar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its numbers.
    pub sampling: Sampling,
    /// Added to logits, by ascending token.
    pub bias: Vec<TokenBias>,
    /// Tokens that are never chosen, ascending.
    pub banned: Vec<u32>,
}
canonical_struct!(Settings { sampling: Sampling, bias: Vec<TokenBias>, banned: Vec<u32> });

/// Whether choices under this decoding are judged: those without a grammar.
///
/// # Errors
/// [`RefereeError::Unsupported`]: an accuser who asks before it opens a dispute does not lose it for that.
pub fn is_judged(decoding: &Decoding) -> Result<(), RefereeError> {
    match decoding.grammar.is_none() {
        true => Ok(()),
        false => Err(RefereeError::Unsupported { what: "a choice under a grammar" }),
    }
}

impl Settings {
    /// Whether the largest logit alone decides.
    pub fn is_plain_greedy(&self) -> bool {
        let Self { sampling, bias, banned } = self;
        sampling.temperature_micro == 0 && !sampling.penalises() && bias.is_empty() && banned.is_empty()
    }

    /// The largest token that a list names.
    pub(crate) fn largest(&self) -> Option<u32> {
        self.bias.last().map(|b| b.token).max(self.banned.last().copied())
    }

    /// What the lists say about a range of tokens.
    pub(crate) fn within(&self, tokens: &Range<u32>) -> (Vec<TokenBias>, Vec<u32>) {
        let bias = self.bias.iter().filter(|b| tokens.contains(&b.token)).copied().collect();
        (bias, self.banned.iter().filter(|t| tokens.contains(t)).copied().collect())
    }
}

/// A place in the ranking of tokens: by the logit after penalties and biases, largest first, equals by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    /// The logit in fixed point.
    pub fixed: i64,
    /// The token.
    pub token: u32,
}
canonical_struct!(Rank { fixed: i64, token: u32 });

/// The last tokens that are kept; `None` where nothing is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cuts {
    /// By top-k.
    pub top_k: Option<Rank>,
    /// By top-p, of those.
    pub top_p: Option<Rank>,
}
canonical_struct!(Cuts { top_k: Option<Rank>, top_p: Option<Rank> });

/// The best token of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Best {
    /// Its logit in fixed point, after penalties and biases.
    pub fixed: i64,
    /// Bits of its logit.
    pub logit: u32,
    /// The token.
    pub token: u32,
}
canonical_struct!(Best { fixed: i64, logit: u32, token: u32 });

/// How many tokens of a range are kept, and what they weigh together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many.
    pub count: u32,
    /// Their weight.
    pub weight: u64,
}
canonical_struct!(Tally { count: u32, weight: u64 });

impl Tally {
    fn plus(self, other: Self) -> Option<Self> {
        let (count, weight) = (self.count.checked_add(other.count)?, self.weight.checked_add(other.weight)?);
        Some(Self { count, weight })
    }
}

/// What the worker states about a range of tokens. Under temperature 0 only the best one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// The best of those that are not banned, if any.
    pub best: Option<Best>,
    /// What top-k keeps.
    pub top_k: Tally,
    /// What top-p keeps of it.
    pub top_p: Tally,
    /// Weight of what min-p keeps of that.
    pub kept: u64,
}
canonical_struct!(Share { best: Option<Best>, top_k: Tally, top_p: Tally, kept: u64 });

impl Share {
    /// The share of ranges together, which follow one another; `None` where no ranges can have these.
    pub(crate) fn sum(shares: &[Self]) -> Option<Self> {
        shares.iter().try_fold(Self::default(), |sum, share| {
            Some(Self {
                best: better(sum.best, share.best),
                top_k: sum.top_k.plus(share.top_k)?,
                top_p: sum.top_p.plus(share.top_p)?,
                kept: sum.kept.checked_add(share.kept)?,
            })
        })
    }
}

/// The better of the best tokens of two ranges, the second of which has the higher tokens.
pub(crate) fn better(a: Option<Best>, b: Option<Best>) -> Option<Best> {
    let value = |best: &Best| (best.fixed, f32::from_bits(best.logit));
    match (a, b) {
        (Some(a), Some(b)) => Some(if is_better(value(&b), value(&a)) { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// What the weight of a token depends on, beside itself, and where the draw falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// The numbers of the sampler.
    pub sampling: Sampling,
    /// What top-k and top-p cut off.
    pub cuts: Cuts,
    /// The best token's logit in fixed point.
    pub max: i64,
    /// What the running sum of kept weights has to exceed.
    pub target: u64,
}
canonical_struct!(Draw { sampling: Sampling, cuts: Cuts, max: i64, target: u64 });

impl Draw {
    /// What the shares of all ranges say. Where they are no vocabulary's, numbers that [`Share::sum`] will not confirm.
    pub(crate) fn of(sampling: Sampling, cuts: Cuts, shares: &[Share], index: u32) -> Self {
        let max = shares.iter().filter_map(|share| share.best).map(|best| best.fixed).max().unwrap_or(0);
        let total = shares.iter().fold(0u64, |sum, share| sum.saturating_add(share.kept));
        Self { sampling, cuts, max, target: target(sampling.seed, index, total) }
    }
}

/// A range of tokens, as the worker stated it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its first token.
    pub first: u32,
    /// How many.
    pub len: u32,
    /// Kept weight of all tokens before it.
    pub before: u64,
    /// What is stated about it.
    pub share: Share,
}
canonical_struct!(Span { first: u32, len: u32, before: u64, share: Share });

impl Span {
    /// Its tokens; none where they are no tokens.
    pub(crate) fn tokens(&self) -> Range<u32> {
        self.first..self.first.saturating_add(self.len)
    }
}

/// The ranges that a range of `tokens` is cut into.
pub(crate) fn parts(tokens: Range<u32>) -> impl Iterator<Item = Range<u32>> + Clone {
    let len = tokens.end - tokens.start;
    let size = LEAF_TOKENS * len.div_ceil(LEAF_TOKENS * MAX_SHARES).next_power_of_two();
    (0..len.div_ceil(size)).map(move |i| {
        let first = tokens.start + i * size;
        first..(first + size).min(tokens.end)
    })
}

/// How often a token stands in the window of the penalties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenToken {
    /// The token.
    pub token: u32,
    /// How often in the prompt.
    pub prompt: u32,
    /// How often in the output.
    pub output: u32,
}
canonical_struct!(SeenToken { token: u32, prompt: u32, output: u32 });

impl SeenToken {
    /// As the penalties count.
    pub(crate) const fn count(self) -> Count {
        Count { all: self.prompt.saturating_add(self.output), output: self.output }
    }
}

/// Steps 1 to 4 of the sampler for one token.
pub(crate) fn transformed(logit: f32, s: &Sampling, seen: Count, bias_micro: Option<i32>, ban: bool) -> i64 {
    if ban {
        return EXCLUDED;
    }
    let fixed = penalised(to_fixed(logit), s, seen);
    bias_micro.map_or(fixed, |bias_micro| biased(fixed, bias_micro))
}

/// A list of tokens in prompt or output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text {
    Prompt,
    Output,
}

/// The tokens that the penalties see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) prompt: Range<u32>,
    pub(crate) output: Range<u32>,
}

impl Window {
    /// The last `len` tokens of a prompt and `output` output tokens; 0 is all.
    pub(crate) fn new(prompt: u32, output: u32, len: u32) -> Self {
        let skipped = match len {
            0 => 0,
            len => prompt.saturating_add(output).saturating_sub(len),
        };
        Self { prompt: skipped.min(prompt)..prompt, output: skipped.saturating_sub(prompt)..output }
    }

    /// In how many runs of prompt and output it is counted.
    pub(crate) fn runs(&self) -> [u32; 2] {
        [&self.prompt, &self.output].map(|range| match range.is_empty() {
            true => 0,
            false => range.end.div_ceil(RUN_TOKENS) - range.start / RUN_TOKENS,
        })
    }

    /// One of these runs, those of the prompt first.
    pub(crate) fn run(&self, at: u32) -> Option<(Text, Range<u32>)> {
        let [prompt, output] = self.runs();
        let (text, range, at) = match at.checked_sub(prompt) {
            None => (Text::Prompt, &self.prompt, at),
            Some(at) if at < output => (Text::Output, &self.output, at),
            Some(_) => return None,
        };
        let first = (range.start / RUN_TOKENS + at) * RUN_TOKENS;
        Some((text, first.max(range.start)..first.saturating_add(RUN_TOKENS).min(range.end)))
    }
}

/// What the worker states a choice to be made of, as far as the accuser has pointed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChoiceParts {
    /// All ranges of the vocabulary.
    Vocabulary {
        /// The numbers of the sampler.
        sampling: Sampling,
        /// The largest token that is biased or banned.
        largest: Option<u32>,
        /// What top-k and top-p cut off.
        cuts: Cuts,
        /// The ranges.
        shares: Vec<Share>,
    },
    /// All ranges of a range.
    Range {
        /// What the weights depend on.
        draw: Draw,
        /// The range.
        span: Span,
        /// The ranges in it.
        shares: Vec<Share>,
    },
    /// A range that is opened.
    Leaf {
        /// What the weights depend on.
        draw: Draw,
        /// The range.
        span: Span,
        /// Its tokens that stand in the window of the penalties, ascending.
        seen: Vec<SeenToken>,
        /// Its biases, ascending.
        bias: Vec<TokenBias>,
        /// Its banned tokens, ascending.
        banned: Vec<u32>,
    },
    /// A token in the window of the penalties.
    Counts {
        /// The setting.
        penalty_window: u32,
        /// How often it is said to stand there.
        seen: SeenToken,
        /// How often in each run of prompt and output.
        counts: Vec<u32>,
    },
}
canonical_enum!(ChoiceParts {
    0 => Vocabulary { sampling: Sampling, largest: Option<u32>, cuts: Cuts, shares: Vec<Share> },
    1 => Range { draw: Draw, span: Span, shares: Vec<Share> },
    2 => Leaf { draw: Draw, span: Span, seen: Vec<SeenToken>, bias: Vec<TokenBias>, banned: Vec<u32> },
    3 => Counts { penalty_window: u32, seen: SeenToken, counts: Vec<u32> },
});
