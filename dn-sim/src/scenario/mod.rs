//! Scenarios: everything that decides a study, read from TOML and checked before anything runs.

mod builtin;
mod distribution;
mod sections;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use builtin::{BUILTIN, FIRST, SUITE};
pub use distribution::{Distribution, Shape};
pub use sections::{
    Demand, Population, PowrOptions, Review, Rewards, Seeds, Validators, Workers, YumaOptions,
};

pub(crate) use sections::{LATENCY_MS, POWER, PRICE, STAKE, UNIT};

use crate::attack::AttackSpec;

/// Most bytes of a scenario document.
pub const MAX_BYTES: usize = 1 << 20;
/// Most policies, and most attacks, of a scenario.
const MAX_LIST: usize = 1_000;
/// Most parts of a dotted path: twice what any value of a scenario has.
const MAX_DEPTH: usize = 8;
/// Most characters of a path or name of somebody's own in an error.
const MAX_SHOWN: usize = 128;
/// Most characters of a parser's message, which may list what is known.
const MAX_MESSAGE: usize = 1_024;

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A number out of range.
    #[error("{found} is out of range; it must be from {min} to {max}")]
    Range {
        /// What was given.
        found: f64,
        /// The least that is allowed.
        min: f64,
        /// The most that is allowed.
        max: f64,
    },
    /// Values and chances that do not pair up.
    #[error("{values} values and {chances} chances; give from 1 to 1000 values and one chance for each")]
    Pairs {
        /// Values given.
        values: usize,
        /// Chances given.
        chances: usize,
    },
    /// Chances that do not add up.
    #[error("the chances add up to {sum}; they must add up to 1")]
    Chances {
        /// What they add up to.
        sum: f64,
    },
    /// A name that is not known.
    #[error("`{found}` is unknown; known: {known}")]
    Unknown {
        /// What was given.
        found: String,
        /// What is known.
        known: String,
    },
    /// The same entry twice.
    #[error("`{name}` is there twice")]
    Twice {
        /// The entry.
        name: String,
    },
    /// A list without entries, or with too many.
    #[error("the list has {found} entries; it must have from 1 to {max}")]
    Length {
        /// Its entries.
        found: usize,
        /// The most.
        max: usize,
    },
    /// A text of the wrong form.
    #[error("`{found}` must be from 1 to {max} letters, digits, `-`, `_` and `.`")]
    Name {
        /// What was given.
        found: String,
        /// The most characters.
        max: usize,
    },
    /// A population that is too large for the size of its tasks.
    #[error(
        "the workers can do {found:.0} tasks of this size in an epoch; at most {max} are played: raise it, or lower workers.power or workers.count"
    )]
    Tasks {
        /// What they can do.
        found: f64,
        /// The most.
        max: f64,
    },
    /// Parameters that the economy refuses.
    #[error("{0}")]
    Trust(#[from] dn_trust::ParamError),
    /// A group that takes everything or nothing.
    #[error(
        "the attackers would be {found} of {of} {what}; at least one must be and at least one must not be"
    )]
    Group {
        /// Members it would have.
        found: usize,
        /// Of how many.
        of: usize,
        /// Of what.
        what: &'static str,
    },
}

/// Why a scenario is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The document is too long.
    #[error("the document has {found} bytes; at most {MAX_BYTES} are read")]
    Size {
        /// Its length.
        found: usize,
    },
    /// The document is not TOML, or a value has the wrong type or an unknown key.
    #[error("{path}: {message}")]
    Parse {
        /// Where in the document.
        path: String,
        /// What the parser says.
        message: String,
    },
    /// A value is not allowed.
    #[error("{path}: {problem}")]
    Invalid {
        /// Where in the document, such as `workers.uptime.mean`.
        path: String,
        /// What is wrong.
        problem: Problem,
    },
    /// The snapshot that the population starts from is refused.
    #[error("population.snapshot: {0}")]
    Snapshot(#[from] crate::import::ImportError),
}

/// Checks a number's range; not-a-number is out of every range.
pub(crate) fn number(path: &str, found: f64, min: f64, max: f64) -> Result<(), ScenarioError> {
    if found >= min && found <= max {
        return Ok(());
    }
    Err(ScenarioError::Invalid { path: path.to_owned(), problem: Problem::Range { found, min, max } })
}

/// A study: a population, its demand and rewards, the policies that are compared and the attacks that they meet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// A short name: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Epochs that are measured.
    #[serde(default = "sections::epochs")]
    pub epochs: u32,
    /// Epochs before them, in which everybody behaves.
    #[serde(default = "sections::warmup")]
    pub warmup: u32,
    /// The seeds.
    #[serde(default)]
    pub seeds: Seeds,
    /// The policies, by name.
    #[serde(default = "crate::policy::all_names")]
    pub policies: Vec<String>,
    /// Where the population comes from.
    #[serde(default)]
    pub population: Population,
    /// The workers.
    #[serde(default)]
    pub workers: Workers,
    /// The validators.
    #[serde(default)]
    pub validators: Validators,
    /// What users ask for.
    #[serde(default)]
    pub demand: Demand,
    /// How much is looked at, and by how many.
    #[serde(default)]
    pub review: Review,
    /// What an epoch pays.
    #[serde(default)]
    pub rewards: Rewards,
    /// Constants of PoWR.
    #[serde(default)]
    pub powr: PowrOptions,
    /// Constants of Yuma consensus.
    #[serde(default)]
    pub yuma: YumaOptions,
    /// The attacks.
    pub attacks: Vec<AttackSpec>,
}

/// A reader's message about a number, with what is allowed instead of the name of a type.
fn in_words(message: &str) -> String {
    let whole = |most: u64| format!("expected a whole number from 0 to {most}");
    let kinds = [
        ("expected usize", whole(u64::MAX)),
        ("expected u64", whole(u64::MAX)),
        ("expected u32", whole(u32::MAX.into())),
        ("expected u16", whole(u16::MAX.into())),
        ("expected f64", "expected a number".to_owned()),
        (" as i128", String::new()),
        (" as u128", String::new()),
    ];
    kinds.iter().fold(message.to_owned(), |text, (kind, words)| text.replace(kind, words))
}

impl Scenario {
    /// Reads and checks a scenario.
    ///
    /// # Errors
    /// [`ScenarioError`] with the path inside the document.
    pub fn from_toml(text: &str) -> Result<Self, ScenarioError> {
        if text.len() > MAX_BYTES {
            return Err(ScenarioError::Size { found: text.len() });
        }
        let parse = |path: String, message: &str| {
            let path = if path == "." { "document".to_owned() } else { cut(&path, MAX_SHOWN) };
            ScenarioError::Parse { path, message: cut(&in_words(message.trim_end()), MAX_MESSAGE) }
        };
        let document = toml::Deserializer::parse(text)
            .map_err(|error| parse(position(text, error.span()), error.message()))?;
        let scenario: Self = serde_path_to_error::deserialize(document)
            .map_err(|error| parse(error.path().to_string(), error.inner().message()))?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`ScenarioError::Invalid`] names the first that is not allowed.
    pub fn check(&self) -> Result<(), ScenarioError> {
        name("name", &self.name)?;
        number("epochs", self.epochs.into(), 1.0, 100_000.0)?;
        number("warmup", self.warmup.into(), 0.0, 100_000.0)?;
        self.seeds.check()?;
        unique("policies", self.policies.iter().cloned())?;
        self.workers.check()?;
        self.validators.check()?;
        self.demand.check()?;
        self.review.check(self.validators.count)?;
        self.rewards.check()?;
        self.powr.check()?;
        self.yuma.check()?;
        unique("attacks", self.attacks.iter().map(|a| format!("{} {}", a.kind().name(), a.level())))?;
        for (i, attack) in self.attacks.iter().enumerate() {
            attack.check(&format!("attacks[{i}]"), self)?;
        }
        Ok(())
    }

    /// The scenario with one value replaced, for sweeps: `path` is dotted, such as `powr.trust.epoch_cap` or, in a list, `attacks[0].stake`, and may name
    /// a key that the document leaves at its default.
    ///
    /// # Errors
    /// [`ScenarioError`] when the path leads through something that is no table, or no entry of a list, or the new scenario is not allowed.
    pub fn with_value(text: &str, path: &str, value: &toml::Value) -> Result<String, ScenarioError> {
        let error =
            |message: &str| ScenarioError::Parse { path: cut(path, MAX_SHOWN), message: message.to_owned() };
        // Deep tables would be written and dropped by recursion.
        if path.split('.').count() > MAX_DEPTH {
            return Err(error("the path has more parts than that of any value"));
        }
        let mut document: toml::Table = text.parse().map_err(|e: toml::de::Error| ScenarioError::Parse {
            path: position(text, e.span()),
            message: e.message().to_owned(),
        })?;
        let mut place = &mut document;
        let (parents, last) = match path.rsplit_once('.') {
            Some((parents, last)) => (parents.split('.').collect(), last),
            None => (Vec::new(), path),
        };
        if last.contains(['[', ']']) {
            return Err(error(
                "a list's entry is no value of its own; name one inside, such as `attacks[0].stake`",
            ));
        }
        for part in parents {
            let (key, entry) = match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
                Some((key, at)) => (key, Some(at)),
                None => (part, None),
            };
            let next = match entry {
                None => place.entry(key).or_insert_with(|| toml::Value::Table(toml::Table::new())),
                Some(at) => place
                    .get_mut(key)
                    .and_then(toml::Value::as_array_mut)
                    .and_then(|list| list.get_mut(index(at)?))
                    .ok_or_else(|| {
                        error("the path leads to an entry that the document's list does not have")
                    })?,
            };
            place = next
                .as_table_mut()
                .ok_or_else(|| error("the path leads through a value that is no table"))?;
        }
        place.insert(last.to_owned(), value.clone());
        let text = document.to_string();
        Self::from_toml(&text)?;
        Ok(text)
    }

    /// All epochs: those that everybody behaves in and those that are measured.
    pub fn total_epochs(&self) -> u32 {
        self.warmup + self.epochs
    }
}

/// Every value that a scenario may set, with its default, as a scenario.
pub fn defaults() -> String {
    let attack = AttackSpec::new(crate::attack::Kind::Junk);
    let scenario = Scenario {
        name: "defaults".into(),
        epochs: sections::epochs(),
        warmup: sections::warmup(),
        seeds: Seeds::default(),
        policies: crate::policy::all_names(),
        population: Population::default(),
        workers: Workers::default(),
        validators: Validators::default(),
        demand: Demand::default(),
        review: Review::default(),
        rewards: Rewards::default(),
        powr: PowrOptions::default(),
        yuma: YumaOptions::default(),
        attacks: vec![attack],
    };
    toml::to_string(&scenario).expect("tables of numbers and strings")
}

/// A place in a list as paths write it: one way for each.
fn index(text: &str) -> Option<usize> {
    text.parse().ok().filter(|at: &usize| at.to_string() == text)
}

fn position(text: &str, span: Option<std::ops::Range<usize>>) -> String {
    let before = text.get(..span.map_or(0, |s| s.start)).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    format!("line {line}")
}

pub(crate) fn name(path: &str, found: &str) -> Result<(), ScenarioError> {
    const MAX: usize = 64;
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if (1..=MAX).contains(&found.len()) && found.chars().all(fits) {
        return Ok(());
    }
    let problem = Problem::Name { found: cut(found, MAX_SHOWN), max: MAX };
    Err(ScenarioError::Invalid { path: path.to_owned(), problem })
}

/// The first characters of a text, so that errors stay short.
fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn unique(path: &str, names: impl ExactSizeIterator<Item = String>) -> Result<(), ScenarioError> {
    let error = |problem| Err(ScenarioError::Invalid { path: path.to_owned(), problem });
    if !(1..=MAX_LIST).contains(&names.len()) {
        return error(Problem::Length { found: names.len(), max: MAX_LIST });
    }
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name.clone()) {
            return error(Problem::Twice { name: cut(name.trim_end(), MAX_SHOWN) });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
