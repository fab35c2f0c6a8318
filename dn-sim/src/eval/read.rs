//! Reading a document that somebody wrote by hand or with a script: every value knows where it is, and every refusal says so.

use std::fmt;

use dn_trust::Unit;
use serde_json::{Map, Value};

/// Why a value is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
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
    /// Another kind of value, or one out of its range.
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
    pub fn refuse(&self, expected: impl Into<String>) -> ReadError {
        ReadError::Value { path: self.path(), expected: expected.into(), found: shown(self.value) }
    }

    /// Checks that it is an object without keys but these.
    ///
    /// # Errors
    /// [`ReadError::Value`] or [`ReadError::Unknown`].
    pub fn known(&self, names: &[&'static str]) -> Result<(), ReadError> {
        match self.object()?.keys().find(|key| !names.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => {
                let name = key.chars().take(64).collect();
                Err(ReadError::Unknown { path: self.path(), name, known: names.to_vec() })
            }
        }
    }

    /// The value of a key that must be there.
    ///
    /// # Errors
    /// [`ReadError::Value`] or [`ReadError::Missing`].
    pub fn field<'s>(&'s self, name: &'static str) -> Result<Node<'s>, ReadError> {
        self.optional(name)?.ok_or_else(|| ReadError::Missing { path: self.path(), name })
    }

    /// The value of a key that may be missing or null.
    ///
    /// # Errors
    /// [`ReadError::Value`] when this is no object.
    pub fn optional<'s>(&'s self, name: &'static str) -> Result<Option<Node<'s>>, ReadError> {
        let value = self.object()?.get(name).filter(|value| !value.is_null());
        Ok(value.map(|value| Node { value, parent: Some(self), step: Step::Field(name) }))
    }

    /// The value of the one key of these that is there, and which one it is.
    ///
    /// # Errors
    /// [`ReadError::Value`] or [`ReadError::OneOf`].
    pub fn one_of<'s>(&'s self, names: &'static [&'static str]) -> Result<(usize, Node<'s>), ReadError> {
        let mut found = None;
        for (at, name) in names.iter().enumerate() {
            match (self.optional(name)?, &found) {
                (Some(node), None) => found = Some((at, node)),
                (Some(_), Some(_)) => return Err(ReadError::OneOf { path: self.path(), names }),
                (None, _) => {}
            }
        }
        found.ok_or_else(|| ReadError::OneOf { path: self.path(), names })
    }

    /// The elements of a list.
    ///
    /// # Errors
    /// [`ReadError::Value`].
    pub fn items<'s>(&'s self) -> Result<impl ExactSizeIterator<Item = Node<'s>> + Clone, ReadError> {
        let list = self.value.as_array().ok_or_else(|| self.refuse("a list"))?;
        let node = move |(at, value)| Node { value, parent: Some(self), step: Step::Item(at) };
        Ok(list.iter().enumerate().map(node))
    }

    /// The keys and values of an object.
    ///
    /// # Errors
    /// [`ReadError::Value`].
    pub fn entries<'s>(&'s self) -> Result<impl Iterator<Item = (&'s str, Node<'s>)>, ReadError> {
        let node = move |(key, value): (&'s String, &'s Value)| {
            (key.as_str(), Node { value, parent: Some(self), step: Step::Field(key) })
        };
        Ok(self.object()?.iter().map(node))
    }

    /// A text.
    ///
    /// # Errors
    /// [`ReadError::Value`].
    pub fn text(&self) -> Result<&'a str, ReadError> {
        self.value.as_str().ok_or_else(|| self.refuse("a string"))
    }

    /// An integer from `min` to `max`, as a JSON integer or a decimal string. Over 2^64 − 1 a JSON number is not exact, so there it must be
    /// a string.
    ///
    /// # Errors
    /// [`ReadError::Value`].
    pub fn integer(&self, min: u128, max: u128) -> Result<u128, ReadError> {
        let found = match self.value {
            Value::Number(n) => n.as_u64().map(u128::from),
            Value::String(s) if s.bytes().all(|b| b.is_ascii_digit()) => s.parse().ok(),
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
    /// [`ReadError::Value`].
    pub fn u128(&self) -> Result<u128, ReadError> {
        self.integer(0, u128::MAX)
    }

    /// A number from `min` to `max`, as a JSON number or a decimal string such as `"0.25"`.
    ///
    /// # Errors
    /// [`ReadError::Value`].
    pub fn number(&self, min: f64, max: f64) -> Result<f64, ReadError> {
        // Words such as `nan` and `inf` are numbers to the standard library.
        let decimal =
            |s: &str| s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'));
        let found = match self.value {
            Value::Number(n) => n.as_f64(),
            Value::String(s) if decimal(s) => s.parse().ok(),
            _ => None,
        };
        let within = |x: &f64| (min..=max).contains(x);
        found.filter(within).ok_or_else(|| self.refuse(format!("a number from {min} to {max}")))
    }

    /// A number from 0 to 1, rounded down to a multiple of 2^-32.
    ///
    /// # Errors
    /// [`ReadError::Value`].
    pub fn unit(&self) -> Result<Unit, ReadError> {
        // A power of two changes no digit; the product is from 0 to 2^32.
        Ok(Unit::from_bits((self.number(0.0, 1.0)? * 4_294_967_296.0) as u64))
    }

    fn object(&self) -> Result<&'a Map<String, Value>, ReadError> {
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
    match text.char_indices().nth(64) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn says<T: fmt::Debug>(result: Result<T, ReadError>) -> String {
        result.expect_err("refused").to_string()
    }

    #[test]
    fn values_and_paths() {
        let doc = json!({"a": [{"b": 7}, {"b": "12"}], "x": 0.25, "y": "0.5", "n": null});
        let root = Node::root(&doc);
        let a = root.field("a").expect("there");
        let b: Vec<u128> =
            a.items().expect("list").map(|n| n.field("b").and_then(|b| b.u128()).expect("integer")).collect();
        assert_eq!(b, [7, 12]);
        assert_eq!(root.field("x").and_then(|x| x.number(0.0, 1.0)), Ok(0.25));
        assert_eq!(root.field("y").and_then(|y| y.unit()), Ok(Unit::from_bits(1 << 31)));
        assert!(root.optional("n").expect("object").is_none());
        let second = a.items().expect("list").nth(1).expect("two");
        assert_eq!(
            says(second.field("b").and_then(|b| b.integer(0, 9))),
            "a[1].b: expected an integer from 0 to 9, found \"12\""
        );
        assert_eq!(says(second.field("c").map(|_| ())), "a[1]: the key `c` is missing");
        assert_eq!(says(second.known(&["c", "d"])), "a[1]: unknown key `b`; known are c, d");
        assert_eq!(says(root.items().map(|_| ())), "document: expected a list, found an object of 4 keys");
        assert_eq!(
            says(root.one_of(&["x", "y"]).map(|_| ())),
            "document: expected exactly one of the keys x, y"
        );
        assert_eq!(root.one_of(&["q", "y"]).map(|(at, _)| at), Ok(1));
        assert!(root.one_of(&["q", "n"]).is_err());
    }

    #[test]
    fn integers_are_exact_or_refused() {
        let read = |value: Value| Node::root(&value).u128().ok();
        assert_eq!(read(json!(9_007_199_254_740_993u64)), Some(9_007_199_254_740_993));
        assert_eq!(read(json!(u64::MAX)), Some(u64::MAX.into()));
        assert_eq!(read(json!(u128::MAX.to_string())), Some(u128::MAX));
        let big: Value = serde_json::from_str("18446744073709551616").expect("JSON");
        assert!(says(Node::root(&big).u128()).contains("as a decimal string"));
        for value in [
            json!(1.0),
            json!(1.5),
            json!(1e3),
            json!(-1),
            json!(""),
            json!("+1"),
            json!("1.0"),
            json!(" 1"),
            json!(true),
        ] {
            assert_eq!(read(value.clone()), None, "{value}");
        }
        assert_eq!(read(json!(format!("{}0", u128::MAX))), None);
    }

    #[test]
    fn numbers_are_finite_and_in_range() {
        let read = |value: Value| Node::root(&value).number(0.0, 2.0).ok();
        assert_eq!(read(json!("1e-1")), Some(0.1));
        assert_eq!(read(json!(2)), Some(2.0));
        for value in [
            json!("nan"),
            json!("inf"),
            json!("infinity"),
            json!("-0.1"),
            json!(2.1),
            json!("1e999"),
            json!([]),
            json!("0x1"),
            json!(""),
        ] {
            assert_eq!(read(value.clone()), None, "{value}");
        }
    }
}
