//! Grammars by `llguidance`.

use std::fmt;
use std::sync::Arc;

use dn_core::objects::Grammar;
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use serde_json::Value;
use toktrie::{ApproximateTokEnv, InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie};

use super::check::{check_text, parse_schema};
use super::{GrammarError, GrammarFault, limits};
use crate::sampling::Progress;
use crate::tokenizer::Tokenizer;

/// Stack of the thread that compiles: its depth follows the grammar's.
const STACK_BYTES: usize = 64 << 20;
/// Longest text of a refusal that is passed on.
const MAX_REASON_BYTES: usize = 400;

/// What all grammars over one model's tokens share.
pub(crate) struct Constrainer {
    factory: ParserFactory,
}

impl fmt::Debug for Constrainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constrainer").finish_non_exhaustive()
    }
}

impl Constrainer {
    /// For a model with `vocabulary` token ids.
    pub(crate) fn new(
        tokenizer: &Tokenizer,
        vocabulary: u32,
        stop_tokens: &[u32],
    ) -> Result<Self, GrammarError> {
        let env = token_env(tokenizer, vocabulary, stop_tokens)?;
        Self::over(&env, &SlicedBiasComputer::general_slices())
    }

    #[cfg(test)]
    pub(super) fn without_shortcuts(
        tokenizer: &Tokenizer,
        vocabulary: u32,
        stop_tokens: &[u32],
    ) -> Result<Self, GrammarError> {
        Self::over(&token_env(tokenizer, vocabulary, stop_tokens)?, &[])
    }

    fn over(env: &TokEnv, slices: &[String]) -> Result<Self, GrammarError> {
        let mut factory = ParserFactory::new(env, InferenceCapabilities::default(), slices).map_err(fault)?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits {
            max_items_in_row: limits::ROW_ITEMS,
            initial_lexer_fuel: limits::COMPILE_FUEL,
            step_lexer_fuel: limits::STEP_FUEL,
            step_max_items: limits::STEP_ITEMS,
            max_lexer_states: limits::STATES,
            max_grammar_size: limits::SYMBOLS,
            precompute_large_lexemes: true,
            verbose_errors: false,
        };
        Ok(Self { factory })
    }

    /// A grammar before the first token.
    pub(crate) fn start(&self, grammar: &Grammar) -> Result<Constraint, GrammarError> {
        check_text(grammar)?;
        let compiling = || -> Result<Constraint, GrammarError> {
            let grammar = top_level(grammar)?;
            let mut matcher = Matcher::new(self.factory.create_parser(grammar));
            if let Some(error) = matcher.get_error() {
                return Err(GrammarFault::new(&error).into());
            }
            let mask = matcher.compute_mask().map_err(|_| GrammarError::Unsatisfiable)?;
            Ok(Constraint { matcher, mask })
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, compiling);
            // A machine that cannot start a thread must not call a good grammar bad.
            let Ok(thread) = thread else { return compiling() };
            thread.join().unwrap_or_else(|_| Err(GrammarFault::new("the grammar's engine panicked").into()))
        })
    }
}

/// The tokens that grammars may use, by their bytes.
fn token_env(tokenizer: &Tokenizer, vocabulary: u32, stop_tokens: &[u32]) -> Result<TokEnv, GrammarError> {
    if tokenizer.vocabulary() == 0 {
        return Err(GrammarError::NoTokenizer);
    }
    let bytes_of = |token: u32| {
        let bytes = tokenizer.token_bytes(token);
        let usable = bytes.len() <= limits::TOKEN_BYTES && !bytes.contains(&TokTrie::SPECIAL_TOKEN_MARKER);
        if usable && stop_tokens.binary_search(&token).is_err() { bytes.to_vec() } else { Vec::new() }
    };
    let words: Vec<Vec<u8>> = (0..vocabulary).map(bytes_of).collect();
    let found = words.iter().map(Vec::len).sum();
    let limit = limits::VOCABULARY_BYTES;
    if found >= limit {
        return Err(GrammarError::Vocabulary { limit, found });
    }
    let info = TokRxInfo::new(vocabulary, stop_tokens.first().copied().unwrap_or(toktrie::INVALID_TOKEN));
    let mut trie = TokTrie::from(&info, &words);
    if !stop_tokens.is_empty() {
        trie = trie.with_eos_tokens(stop_tokens);
    }
    // It never cuts forced text into tokens: every token is chosen from its logits.
    Ok(Arc::new(ApproximateTokEnv::new(trie)))
}

fn fault(error: impl fmt::Display) -> GrammarError {
    GrammarFault::new(&error.to_string()).into()
}

impl GrammarFault {
    /// The first line or so of what the engine says.
    pub(super) fn new(reason: &str) -> Self {
        let reason = reason.split("\n<").next().unwrap_or_default().trim();
        let end = (0..=reason.len().min(MAX_REASON_BYTES)).rev().find(|at| reason.is_char_boundary(*at));
        Self(reason[..end.unwrap_or(0)].to_owned())
    }
}

fn top_level(grammar: &Grammar) -> Result<TopLevelGrammar, GrammarError> {
    Ok(match grammar {
        Grammar::None => return Err(GrammarFault::new("there is no grammar").into()),
        Grammar::JsonObject => json(serde_json::json!({ "type": "object" })),
        Grammar::JsonSchema { schema } => json(parse_schema(schema)?),
        Grammar::Regex { pattern } => TopLevelGrammar::from_regex(pattern),
        Grammar::Lark { grammar } => TopLevelGrammar::from_lark(grammar.clone()),
    })
}

fn json(mut schema: Value) -> TopLevelGrammar {
    if schema.is_object() && schema.get("x-guidance").is_none() {
        let blanks = format!(r"[ \n\r\t]{{1,{}}}", limits::JSON_BLANKS);
        let options =
            JsonCompileOptions { whitespace_pattern: Some(blanks), ..JsonCompileOptions::default() };
        options.apply_to(&mut schema);
    }
    TopLevelGrammar::from_json_schema(schema)
}

/// A grammar after some tokens.
pub(crate) struct Constraint {
    matcher: Matcher,
    /// What is allowed next.
    mask: SimpleVob,
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constraint").field("allowed", &self.mask.num_set()).finish_non_exhaustive()
    }
}

impl Constraint {
    /// Whether a token is allowed that is not in this ascending list.
    pub(crate) fn allows_any(&self, but: &[u32]) -> bool {
        let banned = but.iter().filter(|t| self.mask.is_allowed(**t)).count();
        self.mask.num_set() > banned
    }

    /// Marks the tokens that are not allowed.
    pub(crate) fn exclude(&self, fixed: &mut [i64], mark: i64) {
        let words = self.mask.as_slice();
        for (at, part) in fixed.chunks_mut(32).enumerate() {
            match words.get(at).copied().unwrap_or(0) {
                0 => part.fill(mark),
                u32::MAX => {}
                word => {
                    let off = part.iter_mut().enumerate().filter(|(bit, _)| (word >> bit) & 1 == 0);
                    off.for_each(|(_, l)| *l = mark);
                }
            }
        }
    }

    /// Takes one more token.
    pub(crate) fn accept(&mut self, token: u32) -> Progress {
        if !self.mask.is_allowed(token) {
            self.mask.set_all(false);
            return Progress::Refused;
        }
        if self.matcher.consume_token(token).is_err() {
            self.mask.set_all(false);
            return Progress::Stuck;
        }
        if self.matcher.is_stopped() {
            self.mask.set_all(false);
            return Progress::Complete;
        }
        match self.matcher.compute_mask() {
            Ok(mask) => {
                self.mask = mask;
                Progress::Open
            }
            Err(_) => {
                self.mask.set_all(false);
                Progress::Stuck
            }
        }
    }

    #[cfg(test)]
    pub(super) const fn mask(&self) -> &SimpleVob {
        &self.mask
    }
}
