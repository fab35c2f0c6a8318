//! Settings of the canonical sampler, in integers so that they hash the same everywhere.
//!
//! What each means is in `docs/numerics.md`; bounds are part of the encoding: what is out of bounds does not decode.

use serde::{Deserialize, Serialize};

use crate::encoding::{Canonical, DecodeError, Reader};
use crate::{canonical_enum, canonical_struct};

/// One, in millionths.
const ONE: u32 = 1_000_000;
/// Least repetition penalty, in millionths.
pub const MIN_REPETITION_MICRO: u32 = 10_000;
/// Largest repetition penalty, in millionths.
pub const MAX_REPETITION_MICRO: u32 = 100_000_000;
/// Largest magnitude of presence and frequency penalties, in millionths.
pub const MAX_PENALTY_MICRO: i32 = 2_000_000;
/// Largest magnitude of a bias, in millionths.
pub const MAX_BIAS_MICRO: i32 = 100_000_000;
/// Most biased, and most banned, tokens.
pub const MAX_LISTED_TOKENS: usize = 1024;
/// Most bytes of a grammar.
pub const MAX_GRAMMAR_BYTES: usize = 64 * 1024;
/// Most alternatives that can be shown for a token.
pub const MAX_TOP_LOGPROBS: u8 = 20;
/// Most stop texts.
pub const MAX_STOPS: usize = 16;
/// Most bytes of a stop text.
pub const MAX_STOP_BYTES: usize = 256;

/// Numbers of the canonical sampler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sampling {
    /// Temperature in millionths; 0 is greedy.
    pub temperature_micro: u32,
    /// Only the `top_k` best tokens; 0 is no limit.
    pub top_k: u32,
    /// Smallest set of best tokens with at least this probability, in millionths; 1,000,000 is no limit.
    pub top_p_micro: u32,
    /// Only tokens with at least this fraction of the best one's probability, in millionths; 0 is no limit.
    pub min_p_micro: u32,
    /// Divides the positive and multiplies the negative logits of tokens in prompt or output, in millionths; 1,000,000 is
    /// none.
    pub repetition_micro: u32,
    /// Taken from the logit of a token that is in the output, in millionths.
    pub presence_micro: i32,
    /// Taken from the logit of a token once for each time that it is in the output, in millionths.
    pub frequency_micro: i32,
    /// The three penalties see only so many of the latest tokens of prompt and output; 0 is all.
    pub penalty_window: u32,
    /// Key of the counter-based randomness.
    pub seed: u64,
}

impl Sampling {
    /// Always the best token.
    pub const GREEDY: Self = Self {
        temperature_micro: 0,
        top_k: 0,
        top_p_micro: ONE,
        min_p_micro: 0,
        repetition_micro: ONE,
        presence_micro: 0,
        frequency_micro: 0,
        penalty_window: 0,
        seed: 0,
    };

    /// Whether any of the three penalties is at work.
    pub const fn penalises(&self) -> bool {
        self.repetition_micro != ONE || self.presence_micro != 0 || self.frequency_micro != 0
    }

    /// Whether the bounds are kept.
    ///
    /// # Errors
    /// [`SettingsError::Range`].
    pub const fn check(&self) -> Result<(), SettingsError> {
        let (least, most) = (MIN_REPETITION_MICRO as i64, MAX_REPETITION_MICRO as i64);
        let limit = MAX_PENALTY_MICRO as i64;
        let fields = [
            ("repetition_micro", self.repetition_micro as i64, least, most),
            ("presence_micro", self.presence_micro as i64, -limit, limit),
            ("frequency_micro", self.frequency_micro as i64, -limit, limit),
        ];
        let mut i = 0;
        while i < fields.len() {
            let (field, found, least, most) = fields[i];
            if found < least || found > most {
                return Err(SettingsError::Range { field, least, most, found });
            }
            i += 1;
        }
        Ok(())
    }
}

/// Added to a token's logit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TokenBias {
    /// The token.
    pub token: u32,
    /// What is added, in millionths.
    pub bias_micro: i32,
}
canonical_struct!(TokenBias { token: u32, bias_micro: i32 });

/// What an answer has to be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Grammar {
    /// Anything.
    #[default]
    None,
    /// A JSON object.
    JsonObject,
    /// A JSON value that a schema describes.
    JsonSchema {
        /// The schema, as JSON text.
        schema: String,
    },
    /// A text that a regular expression matches from beginning to end.
    Regex {
        /// The expression.
        pattern: String,
    },
    /// A text of a context-free grammar.
    Lark {
        /// The grammar in Lark's notation.
        grammar: String,
    },
}
canonical_enum!(Grammar {
    0 => None {},
    1 => JsonObject {},
    2 => JsonSchema { schema: String },
    3 => Regex { pattern: String },
    4 => Lark { grammar: String },
});

impl Grammar {
    /// True where anything goes.
    pub const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Schema, expression or grammar; empty where there is none.
    pub fn text(&self) -> &str {
        match self {
            Self::None | Self::JsonObject => "",
            Self::JsonSchema { schema: text }
            | Self::Regex { pattern: text }
            | Self::Lark { grammar: text } => text,
        }
    }
}

/// What decoding is asked for beside the sampler's numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Decoding {
    /// Added to logits; by ascending token, each once.
    pub bias: Vec<TokenBias>,
    /// Tokens that are never chosen; ascending, each once.
    pub banned: Vec<u32>,
    /// What the answer has to be.
    pub grammar: Grammar,
    /// Show the log-probability of each output token, and of so many of the best alternatives.
    pub logprobs: Option<u8>,
}

static PLAIN: Decoding =
    Decoding { bias: Vec::new(), banned: Vec::new(), grammar: Grammar::None, logprobs: None };

impl Decoding {
    /// Nothing is asked for.
    pub const fn plain() -> &'static Self {
        &PLAIN
    }

    /// Whether the bounds are kept and the lists are in order.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn check(&self) -> Result<(), SettingsError> {
        let ascending = |mut tokens: std::slice::Windows<'_, u32>| tokens.all(|pair| pair[0] < pair[1]);
        let biased: Vec<u32> = self.bias.iter().map(|b| b.token).collect();
        for (field, list) in [("bias", &biased), ("banned", &self.banned)] {
            let found = list.len();
            if found > MAX_LISTED_TOKENS {
                return Err(SettingsError::Length { field, limit: MAX_LISTED_TOKENS, found });
            }
            if !ascending(list.windows(2)) {
                return Err(SettingsError::Order { field });
            }
        }
        let most = i64::from(MAX_BIAS_MICRO);
        let extreme = self.bias.iter().map(|b| i64::from(b.bias_micro)).find(|b| b.abs() > most);
        if let Some(found) = extreme {
            return Err(SettingsError::Range { field: "bias", least: -most, most, found });
        }
        let found = self.grammar.text().len();
        if found > MAX_GRAMMAR_BYTES {
            return Err(SettingsError::Length { field: "grammar", limit: MAX_GRAMMAR_BYTES, found });
        }
        let most = i64::from(MAX_TOP_LOGPROBS);
        match self.logprobs.map(i64::from) {
            Some(found) if found > most => {
                Err(SettingsError::Range { field: "logprobs", least: 0, most, found })
            }
            _ => Ok(()),
        }
    }
}

/// Why settings are not those of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A number is out of bounds.
    #[error("`{field}` is {found}, expected {least} to {most}")]
    Range {
        /// The field.
        field: &'static str,
        /// The least allowed.
        least: i64,
        /// The most allowed.
        most: i64,
        /// What it is.
        found: i64,
    },
    /// A list or text is too long.
    #[error("`{field}` has a length of {found}, at most {limit} allowed")]
    Length {
        /// The field.
        field: &'static str,
        /// The most allowed.
        limit: usize,
        /// Its length.
        found: usize,
    },
    /// A list is not ascending, or names a token twice.
    #[error("`{field}` is not in ascending order of tokens, each once")]
    Order {
        /// The field.
        field: &'static str,
    },
}

impl SettingsError {
    const fn brief(&self) -> &'static str {
        match self {
            Self::Range { .. } => "a sampler setting is out of bounds",
            Self::Length { .. } => "a list or text of the sampler is too long",
            Self::Order { .. } => "a list of the sampler is not ascending",
        }
    }
}

/// The log-probability that the model gives a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TokenLogprob {
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability, times `2^24`.
    pub logprob_q24: i64,
}
canonical_struct!(TokenLogprob { token: u32, logprob_q24: i64 });

/// What the model thought of one place of an answer, before penalties, temperature or grammar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TokenLogprobs {
    /// The token that was chosen.
    pub chosen: TokenLogprob,
    /// The best ones, as many as were asked for.
    pub top: Vec<TokenLogprob>,
}
canonical_struct!(TokenLogprobs { chosen: TokenLogprob, top: Vec<TokenLogprob> });

/// The canonical form of a struct with bounds: its fields in order, then the check.
macro_rules! checked_struct {
    ($name:ident { $($field:ident : $ty:ty),+ $(,)? }) => {
        impl Canonical for $name {
            const MIN_LEN: usize = 0 $(+ <$ty as Canonical>::MIN_LEN)+;
            fn encode(&self, out: &mut Vec<u8>) {
                let Self { $($field),+ } = self;
                $($field.encode(out);)+
            }
            fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let at = r.position();
                $(let $field = <$ty>::decode(r)?;)+
                let value = Self { $($field),+ };
                value.check().map_err(|error| DecodeError::Invalid { at, what: error.brief() })?;
                Ok(value)
            }
        }
    };
}
checked_struct!(Sampling {
    temperature_micro: u32,
    top_k: u32,
    top_p_micro: u32,
    min_p_micro: u32,
    repetition_micro: u32,
    presence_micro: i32,
    frequency_micro: i32,
    penalty_window: u32,
    seed: u64,
});
checked_struct!(Decoding {
    bias: Vec<TokenBias>,
    banned: Vec<u32>,
    grammar: Grammar,
    logprobs: Option<u8>,
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_bounds_is_refused_and_does_not_decode() {
        let bad = [
            Sampling { repetition_micro: 0, ..Sampling::GREEDY },
            Sampling { repetition_micro: MAX_REPETITION_MICRO + 1, ..Sampling::GREEDY },
            Sampling { presence_micro: -2_000_001, ..Sampling::GREEDY },
            Sampling { frequency_micro: i32::MIN, ..Sampling::GREEDY },
        ];
        for sampling in bad {
            assert!(matches!(sampling.check(), Err(SettingsError::Range { .. })), "{sampling:?}");
            assert!(matches!(
                Sampling::from_bytes(&sampling.to_bytes()),
                Err(DecodeError::Invalid { at: 0, .. })
            ));
        }
        let bias = |token, bias_micro| TokenBias { token, bias_micro };
        let long = || (0..=MAX_LISTED_TOKENS as u32).collect::<Vec<_>>();
        let plain = Decoding::plain;
        let bad = [
            (Decoding { bias: vec![bias(2, 1), bias(2, 1)], ..plain().clone() }, "order"),
            (Decoding { bias: vec![bias(2, 1), bias(1, 1)], ..plain().clone() }, "order"),
            (Decoding { banned: vec![7, 7], ..plain().clone() }, "order"),
            (Decoding { banned: long(), ..plain().clone() }, "length"),
            (Decoding { bias: long().iter().map(|t| bias(*t, 0)).collect(), ..plain().clone() }, "length"),
            (Decoding { bias: vec![bias(0, MAX_BIAS_MICRO + 1)], ..plain().clone() }, "range"),
            (Decoding { logprobs: Some(21), ..plain().clone() }, "range"),
            (
                Decoding { grammar: Grammar::Regex { pattern: "a".repeat(65_537) }, ..plain().clone() },
                "length",
            ),
        ];
        for (decoding, expected) in bad {
            let found = match decoding.check() {
                Err(SettingsError::Range { .. }) => "range",
                Err(SettingsError::Length { .. }) => "length",
                Err(SettingsError::Order { .. }) => "order",
                Ok(()) => "fine",
            };
            assert_eq!(found, expected);
            assert!(matches!(Decoding::from_bytes(&decoding.to_bytes()), Err(DecodeError::Invalid { .. })));
        }
        assert_eq!(plain().check(), Ok(()));
        assert_eq!(plain(), &Decoding::default());
    }
}
