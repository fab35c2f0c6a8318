//! A reader of JSON documents that somebody wrote by hand or with a script: every value knows where it is, and every refusal says so, as in
//! `weights_per_epoch[2][0]: expected a list of 4, found a list of 3`.
//!
//! Numbers may be JSON numbers or decimal strings anywhere. Keys that nobody asks for are refused, so that a misspelt option cannot pass
//! silently; a key with the value null is as good as absent.
//!
//! ```
//! use dn_sim::document::Node;
//! let document = serde_json::json!({ "stake": [1, "2.5"] });
//! let root = Node::root(&document);
//! root.known(&["stake"])?;
//! let stake = root.field("stake")?;
//! let numbers = stake.items()?.map(|node| node.number(0.0, 9.0)).collect::<Result<Vec<_>, _>>()?;
//! assert_eq!(numbers, [1.0, 2.5]);
//! assert_eq!(stake.number(0.0, 9.0).unwrap_err().to_string(), "stake: expected a number from 0 to 9, found a list of 2");
//! # Ok::<(), dn_sim::document::DocumentError>(())
//! ```

use std::fmt;

use dn_trust::Unit;
use serde_json::{Map, Value};

/// The longest text that is read as a number, in bytes.
pub const MAX_NUMBER_LEN: usize = 64;

/// The most digits behind the point: more than any JSON number has.
const MAX_PLACES: i32 = 400;

/// The most characters of a name or text that an error shows.
const MAX_SHOWN: usize = 64;

/// Why a document is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// A key that is needed is not there.
    #[error("{path}: the key `{name}` is missing")]
    Missing {
        /// Where.
        path: String,
        /// The key.
        name: &'static str,
    },
    /// A key that nobody knows.
    #[error("{path}: unknown key `{name}`; known are {}", known.join(", "))]
    Unknown {
        /// Where.
        path: String,
        /// The key, cut at 64 characters.
        name: String,
        /// The keys that there are.
        known: Vec<&'static str>,
    },
    /// Not exactly one of the keys that exclude each other.
    #[error("{path}: expected exactly one of the keys {}", names.join(", "))]
    OneOf {
        /// Where.
        path: String,
        /// The keys.
        names: &'static [&'static str],
    },
    /// Another kind of value, one out of its range, or a list of another length.
    #[error("{path}: expected {expected}, found {found}")]
    Value {
        /// Where.
        path: String,
        /// What is allowed.
        expected: String,
        /// What is there, cut at 64 characters.
        found: String,
    },
    /// An id that came before.
    #[error("{path}: the id {id} came before, at {first}")]
    Duplicate {
        /// Where.
        path: String,
        /// The id.
        id: String,
        /// Where it came first.
        first: String,
    },
}

/// How a node was reached from its parent.
#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Item(usize),
}

/// A value and the way to it.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    value: &'a Value,
    parent: Option<&'a Node<'a>>,
    step: Step<'a>,
}

/// An exact decimal number, not negative: `digits` ÷ 10^`places`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal {
    /// All digits as one integer.
    pub digits: u128,
    /// How many of them stand behind the point.
    pub places: u32,
}

impl<'a> Node<'a> {
    /// The whole document.
    pub const fn root(value: &'a Value) -> Self {
        Self { value, parent: None, step: Step::Root }
    }

    /// The value itself.
    pub const fn value(&self) -> &'a Value {
        self.value
    }

    /// The way to it, such as `in.nodes[3].work`; `document` for the root.
    pub fn path(&self) -> String {
        match self.step {
            Step::Root => "document".to_owned(),
            _ => self.to_string(),
        }
    }

    /// What the reader of the error needs, of a value of a wrong kind or range.
    pub fn refuse(&self, expected: impl Into<String>) -> DocumentError {
        DocumentError::Value { path: self.path(), expected: expected.into(), found: shown(self.value) }
    }

    /// The refusal of one of its keys.
    pub(crate) fn unknown(&self, name: &str, known: Vec<&'static str>) -> DocumentError {
        DocumentError::Unknown { path: self.path(), name: cut(name), known }
    }

    /// Checks that it is an object without keys but these.
    ///
    /// # Errors
    /// [`DocumentError::Value`] or [`DocumentError::Unknown`].
    pub fn known(&self, names: &[&'static str]) -> Result<(), DocumentError> {
        match self.object()?.keys().find(|key| !names.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(self.unknown(key, names.to_vec())),
        }
    }

    /// The value of a key that must be there.
    ///
    /// # Errors
    /// [`DocumentError::Value`] or [`DocumentError::Missing`].
    pub fn field<'s>(&'s self, name: &'static str) -> Result<Node<'s>, DocumentError> {
        self.optional(name)?.ok_or_else(|| DocumentError::Missing { path: self.path(), name })
    }

    /// The value of a key that may be missing or null.
    ///
    /// # Errors
    /// [`DocumentError::Value`] when this is no object.
    pub fn optional<'s>(&'s self, name: &'static str) -> Result<Option<Node<'s>>, DocumentError> {
        let value = self.object()?.get(name).filter(|value| !value.is_null());
        Ok(value.map(|value| Node { value, parent: Some(self), step: Step::Field(name) }))
    }

    /// The value of the one key of these that is there, and which one it is.
    ///
    /// # Errors
    /// [`DocumentError::Value`] or [`DocumentError::OneOf`].
    pub fn one_of<'s>(&'s self, names: &'static [&'static str]) -> Result<(usize, Node<'s>), DocumentError> {
        let mut found = None;
        for (at, name) in names.iter().enumerate() {
            match (self.optional(name)?, &found) {
                (Some(node), None) => found = Some((at, node)),
                (Some(_), Some(_)) => return Err(DocumentError::OneOf { path: self.path(), names }),
                (None, _) => {}
            }
        }
        found.ok_or_else(|| DocumentError::OneOf { path: self.path(), names })
    }

    /// The entries of a list.
    ///
    /// # Errors
    /// [`DocumentError::Value`].
    pub fn items<'s>(&'s self) -> Result<impl ExactSizeIterator<Item = Node<'s>>, DocumentError> {
        let list = self.value.as_array().ok_or_else(|| self.refuse("a list"))?;
        let node = move |(at, value)| Node { value, parent: Some(self), step: Step::Item(at) };
        Ok(list.iter().enumerate().map(node))
    }

    /// The entries of a list of this length.
    ///
    /// # Errors
    /// [`DocumentError::Value`].
    pub fn exactly<'s>(
        &'s self,
        length: usize,
    ) -> Result<impl ExactSizeIterator<Item = Node<'s>>, DocumentError> {
        let items = self.items()?;
        if items.len() == length { Ok(items) } else { Err(self.refuse(format!("a list of {length}"))) }
    }

    /// How many entries a list has, which must be from `min` to `max`.
    ///
    /// # Errors
    /// [`DocumentError::Value`].
    pub fn length(&self, min: usize, max: usize) -> Result<usize, DocumentError> {
        let found = self.items()?.len();
        match (min..=max).contains(&found) {
            true => Ok(found),
            false => Err(self.refuse(format!("a list of {min} to {max}"))),
        }
    }

    /// The keys and values of an object.
    ///
    /// # Errors
    /// [`DocumentError::Value`].
    pub fn entries<'s>(&'s self) -> Result<impl Iterator<Item = (&'s str, Node<'s>)>, DocumentError> {
        let node = move |(key, value): (&'s String, &'s Value)| {
            (key.as_str(), Node { value, parent: Some(self), step: Step::Field(key) })
        };
        Ok(self.object()?.iter().map(node))
    }

    /// A text.
    ///
    /// # Errors
    /// [`DocumentError::Value`].
    pub fn text(&self) -> Result<&'a str, DocumentError> {
        self.value.as_str().ok_or_else(|| self.refuse("a string"))
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// [`DocumentError::Value`].
    pub fn boolean(&self) -> Result<bool, DocumentError> {
        self.value.as_bool().ok_or_else(|| self.refuse("true or false"))
    }

    /// An integer from `min` to `max`, as a JSON integer or a string of digits. Over 2^64 − 1 a JSON number is not exact, so there it must be
    /// a string.
    ///
    /// # Errors
    /// [`DocumentError::Value`].
    pub fn integer(&self, min: u128, max: u128) -> Result<u128, DocumentError> {
        let found = match self.value {
            Value::Number(n) => n.as_u64().or_else(|| n.as_f64().and_then(whole)).map(u128::from),
            Value::String(s) if s.len() <= MAX_NUMBER_LEN && s.bytes().all(|b| b.is_ascii_digit()) => {
                s.parse().ok()
            }
            _ => None,
        };
        found.filter(|n| (min..=max).contains(n)).ok_or_else(|| {
            let form = match max > u128::from(u64::MAX) {
                true => " (over 18446744073709551615 as a decimal string)",
                false => "",
            };
            self.refuse(format!("an integer from {min} to {max}{form}"))
        })
    }

    /// Any integer of 128 bits; see [`integer`](Self::integer).
    ///
    /// # Errors
    /// [`DocumentError::Value`].
    pub fn u128(&self) -> Result<u128, DocumentError> {
        self.integer(0, u128::MAX)
    }

    /// A number from `min` to `max`, as a JSON number or a decimal string such as `"0.25"`.
    ///
    /// # Errors
    /// [`DocumentError::Value`].
    pub fn number(&self, min: f64, max: f64) -> Result<f64, DocumentError> {
        self.float(min, max).ok_or_else(|| self.refuse(format!("a number from {min} to {max}")))
    }

    /// A number from `min` to `max` that an error has other words for.
    ///
    /// # Errors
    /// [`DocumentError::Value`].
    pub fn number_as(&self, min: f64, max: f64, expected: &str) -> Result<f64, DocumentError> {
        self.float(min, max).ok_or_else(|| self.refuse(expected))
    }

    fn float(&self, min: f64, max: f64) -> Option<f64> {
        let found = match self.value {
            Value::Number(n) => n.as_f64(),
            Value::String(s) if plain(s) => s.parse().ok(),
            _ => None,
        };
        found.filter(|x| x.is_finite() && (min..=max).contains(x))
    }

    /// A number exactly as it is written, not negative.
    ///
    /// # Errors
    /// [`DocumentError::Value`], also for more than 38 digits from the first that is not zero to the last, or from there to the point.
    pub fn decimal(&self) -> Result<Decimal, DocumentError> {
        let found = match self.value {
            Value::Number(n) => parse_decimal(&n.to_string()),
            Value::String(s) if plain(s) => parse_decimal(s),
            _ => None,
        };
        found.ok_or_else(|| self.refuse("a decimal number, not negative, of at most 38 digits"))
    }

    /// A number from 0 to 1, rounded up to a multiple of 2^-32: a product with it that is rounded down, such as ⌊10 · 0.7⌋, is that of the decimal number.
    ///
    /// # Errors
    /// [`DocumentError::Value`].
    pub fn unit(&self) -> Result<Unit, DocumentError> {
        // A power of two changes no digit; the product is from 0 to 2^32.
        Ok(Unit::from_bits((self.number(0.0, 1.0)? * 4_294_967_296.0).ceil() as u64))
    }

    fn object(&self) -> Result<&'a Map<String, Value>, DocumentError> {
        self.value.as_object().ok_or_else(|| self.refuse("an object"))
    }
}

impl fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Documents are at most as deep as the JSON reader allows.
        if let Some(parent) = self.parent {
            fmt::Display::fmt(parent, f)?;
        }
        let inner = self.parent.is_some_and(|p| !matches!(p.step, Step::Root));
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) if inner => write!(f, ".{}", cut(name)),
            Step::Field(name) => f.write_str(&cut(name)),
            Step::Item(at) => write!(f, "[{at}]"),
        }
    }
}

/// A value in an error: short ones as they are, large ones by their kind.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(s) => format!("{:?}", cut(s)),
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(map) => format!("an object of {} keys", map.len()),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// A number with a fraction of zero, as some programs write integers: `1000.0`, `1e3`. Up to 2^53, where every integer is a float.
fn whole(number: f64) -> Option<u64> {
    ((0.0..=9_007_199_254_740_992.0).contains(&number) && number.fract() == 0.0).then_some(number as u64)
}

/// Whether a text has the letters of a decimal number only: words such as `nan` and `inf` are numbers to the standard library.
fn plain(text: &str) -> bool {
    text.len() <= MAX_NUMBER_LEN && text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))
}

fn parse_decimal(text: &str) -> Option<Decimal> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let mantissa = mantissa.strip_prefix('+').unwrap_or(mantissa);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut digits = 0_u128;
    for byte in whole.bytes().chain(fraction.bytes()) {
        let digit = byte.is_ascii_digit().then(|| u128::from(byte - b'0'))?;
        digits = digits.checked_mul(10)?.checked_add(digit)?;
    }
    let mut places = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    if digits == 0 {
        return Some(Decimal { digits, places: 0 });
    }
    while places > 0 && digits.is_multiple_of(10) {
        (digits, places) = (digits / 10, places - 1);
    }
    if places < 0 {
        digits = digits.checked_mul(10_u128.checked_pow(places.unsigned_abs())?)?;
        places = 0;
    }
    (places <= MAX_PLACES).then(|| Decimal { digits, places: places.unsigned_abs() })
}

#[cfg(test)]
mod tests;
