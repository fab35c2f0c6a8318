//! A reader of JSON documents whose every complaint says where in the document: `weights_per_epoch[2][0]: 3 entries, expected 4`.
//!
//! Numbers may be JSON numbers or decimal strings anywhere. Keys that nobody asks for are refused, so that a misspelt option cannot pass silently.
//!
//! ```
//! use dn_sim::document::Node;
//! let document = serde_json::json!({ "stake": [1, "2.5"] });
//! let root = Node::root(&document);
//! root.keys(&["stake"])?;
//! let stake = root.field("stake")?.items()?.map(|node| node.number()).collect::<Result<Vec<_>, _>>()?;
//! assert_eq!(stake, [1.0, 2.5]);
//! assert_eq!(root.field("stake")?.number().unwrap_err().to_string(), "stake: a list, expected a number");
//! # Ok::<(), dn_sim::document::DocumentError>(())
//! ```

use std::fmt;

use serde_json::{Map, Value};
use thiserror::Error;

/// The longest text that is read as a number, in bytes.
pub const MAX_NUMBER_LEN: usize = 64;

/// Why a document was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Something of another kind stands there.
    #[error("{path}: {found}, expected {expected}")]
    Kind {
        /// Where.
        path: Path,
        /// What stands there, such as `a list`.
        found: &'static str,
        /// What should.
        expected: &'static str,
    },
    /// A required key is absent.
    #[error("{path}: missing")]
    Missing {
        /// The key that should be there.
        path: Path,
    },
    /// A key that means nothing here.
    #[error("{path}: unknown key, expected one of {}", .expected.join(", "))]
    Unknown {
        /// The key.
        path: Path,
        /// All keys that mean something.
        expected: Vec<&'static str>,
    },
    /// Text that is no number of the expected form.
    #[error("{path}: {text:?}, expected {expected}")]
    Number {
        /// Where.
        path: Path,
        /// The number or text, cut after 64 bytes.
        text: String,
        /// What was expected, such as `an integer from 0 to 2^128 - 1`.
        expected: &'static str,
    },
    /// A list of another length.
    #[error("{path}: {found} entries, expected {expected}")]
    Length {
        /// Where.
        path: Path,
        /// Its length.
        found: usize,
        /// The length that the rest of the document asks for.
        expected: usize,
    },
    /// A list longer than allowed.
    #[error("{path}: {found} entries, at most {max}")]
    TooLong {
        /// Where.
        path: Path,
        /// Its length.
        found: usize,
        /// The largest allowed.
        max: usize,
    },
    /// A list without entries where at least one is needed.
    #[error("{path}: no entries, expected at least one")]
    Empty {
        /// Where.
        path: Path,
    },
}

/// A place in a document, such as `weights_per_epoch[2][0]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path(String);

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "the document" } else { &self.0 })
    }
}

/// The way from a node's parent to the node.
#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
}

/// A value in a document together with the way to it.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    value: &'a Value,
    above: Option<(&'a Node<'a>, Step<'a>)>,
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
    pub fn root(value: &'a Value) -> Self {
        Self { value, above: None }
    }

    /// Where the node stands.
    pub fn path(&self) -> Path {
        let mut text = match self.above {
            Some((parent, _)) => parent.path().0,
            None => return Path::default(),
        };
        match self.above {
            Some((_, Step::Field(name))) if text.is_empty() => text.push_str(name),
            Some((_, Step::Field(name))) => text.extend([".", name]),
            Some((_, Step::Index(index))) => text.push_str(&format!("[{index}]")),
            None => {}
        }
        Path(text)
    }

    /// The value itself.
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// Refuses every key of the object outside `known`.
    ///
    /// # Errors
    /// The node is no object, or has another key.
    pub fn keys(&self, known: &[&'static str]) -> Result<(), DocumentError> {
        match self.object()?.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => {
                let key = clip(key);
                let path = Node { value: self.value, above: Some((self, Step::Field(&key))) }.path();
                Err(DocumentError::Unknown { path, expected: known.to_vec() })
            }
            None => Ok(()),
        }
    }

    /// The value under a key.
    ///
    /// # Errors
    /// The node is no object, or lacks the key.
    pub fn field<'b>(&'b self, name: &'b str) -> Result<Node<'b>, DocumentError> {
        match self.optional(name)? {
            Some(node) => Ok(node),
            None => {
                let path = Node { value: self.value, above: Some((self, Step::Field(name))) }.path();
                Err(DocumentError::Missing { path })
            }
        }
    }

    /// The value under a key that may be absent.
    ///
    /// # Errors
    /// The node is no object.
    pub fn optional<'b>(&'b self, name: &'b str) -> Result<Option<Node<'b>>, DocumentError> {
        let found = self.object()?.get(name);
        Ok(found.map(|value| Node { value, above: Some((self, Step::Field(name))) }))
    }

    /// The entries of a list.
    ///
    /// # Errors
    /// The node is no list.
    pub fn items<'b>(&'b self) -> Result<impl ExactSizeIterator<Item = Node<'b>>, DocumentError> {
        let Value::Array(items) = self.value else { return Err(self.kind("a list")) };
        let node = |(index, value)| Node { value, above: Some((self, Step::Index(index))) };
        Ok(items.iter().enumerate().map(node))
    }

    /// The entries of a list that must have `expected` of them.
    ///
    /// # Errors
    /// The node is no list or has another length.
    pub fn exactly<'b>(
        &'b self,
        expected: usize,
    ) -> Result<impl ExactSizeIterator<Item = Node<'b>>, DocumentError> {
        let items = self.items()?;
        match items.len() {
            found if found == expected => Ok(items),
            found => Err(DocumentError::Length { path: self.path(), found, expected }),
        }
    }

    /// How many entries a list has: at least one, at most `max`.
    ///
    /// # Errors
    /// The node is no list, is empty or too long.
    pub fn length(&self, max: usize) -> Result<usize, DocumentError> {
        match self.items()?.len() {
            0 => Err(DocumentError::Empty { path: self.path() }),
            found if found > max => Err(DocumentError::TooLong { path: self.path(), found, max }),
            found => Ok(found),
        }
    }

    /// A finite number.
    ///
    /// # Errors
    /// The node is neither a JSON number nor a decimal string, or is beyond what an `f64` holds.
    pub fn number(&self) -> Result<f64, DocumentError> {
        let parsed = match self.value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) if plain(text) => text.parse().ok(),
            Value::String(_) => None,
            _ => return Err(self.kind("a number")),
        };
        parsed.filter(|x: &f64| x.is_finite()).ok_or_else(|| self.refuse("a finite decimal number"))
    }

    /// A finite number between two bounds, both included.
    ///
    /// # Errors
    /// As [`Self::number`], or the number is outside; `expected` names the bounds.
    pub fn number_in(&self, low: f64, high: f64, expected: &'static str) -> Result<f64, DocumentError> {
        let number = self.number()?;
        if number >= low && number <= high { Ok(number) } else { Err(self.refuse(expected)) }
    }

    /// A number exactly as it is written, not negative.
    ///
    /// # Errors
    /// The node is no number, is negative, or has more than 38 digits before and behind the point together.
    pub fn decimal(&self) -> Result<Decimal, DocumentError> {
        let parsed = match self.value {
            Value::Number(number) => parse_decimal(&number.to_string()),
            Value::String(text) if plain(text) => parse_decimal(text),
            Value::String(_) => None,
            _ => return Err(self.kind("a number")),
        };
        parsed.ok_or_else(|| self.refuse("a decimal number, not negative, of at most 38 digits"))
    }

    /// An integer from 0 to 2^128 − 1. One above 2^64 − 1 must be a string: JSON numbers lose their last digits there.
    ///
    /// # Errors
    /// The node is no such integer.
    pub fn integer_u128(&self) -> Result<u128, DocumentError> {
        const EXPECTED: &str = "an integer from 0 to 2^128 - 1";
        let parsed = match self.value {
            Value::Number(number) => number.as_u64().map(u128::from),
            Value::String(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().ok()
            }
            Value::String(_) => None,
            _ => return Err(self.kind(EXPECTED)),
        };
        parsed.ok_or_else(|| self.refuse(EXPECTED))
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// The node is neither.
    pub fn boolean(&self) -> Result<bool, DocumentError> {
        self.value.as_bool().ok_or_else(|| self.kind("true or false"))
    }

    /// A text.
    ///
    /// # Errors
    /// The node is none.
    pub fn text(&self) -> Result<&'a str, DocumentError> {
        self.value.as_str().ok_or_else(|| self.kind("a text"))
    }

    /// The error that this number is not what was expected.
    pub fn refuse(&self, expected: &'static str) -> DocumentError {
        let text = match self.value {
            Value::String(text) => clip(text),
            Value::Number(number) => clip(&number.to_string()),
            _ => return self.kind(expected),
        };
        DocumentError::Number { path: self.path(), text, expected }
    }

    fn object(&self) -> Result<&'a Map<String, Value>, DocumentError> {
        self.value.as_object().ok_or_else(|| self.kind("an object"))
    }

    fn kind(&self, expected: &'static str) -> DocumentError {
        let found = match self.value {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        DocumentError::Kind { path: self.path(), found, expected }
    }
}

/// Whether a text has the letters of a decimal number only: `inf`, `nan` and blanks are none.
fn plain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_NUMBER_LEN
        && text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
}

/// The first bytes of a text, so that an error stays short.
fn clip(text: &str) -> String {
    let mut end = text.len().min(MAX_NUMBER_LEN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
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
    (places <= 38).then(|| Decimal { digits, places: places.unsigned_abs() })
}

#[cfg(test)]
mod tests;
