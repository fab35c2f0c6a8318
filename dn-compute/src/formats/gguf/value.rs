//! Metadata values and typed access to them.

use std::collections::BTreeMap;
use std::fmt;

use super::GgufError;

/// The types of metadata values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueType {
    /// `u8`.
    U8,
    /// `i8`.
    I8,
    /// `u16`.
    U16,
    /// `i16`.
    I16,
    /// `u32`.
    U32,
    /// `i32`.
    I32,
    /// `f32`.
    F32,
    /// `bool`.
    Bool,
    /// Text.
    String,
    /// An array.
    Array,
    /// `u64`.
    U64,
    /// `i64`.
    I64,
    /// `f64`.
    F64,
}

impl ValueType {
    pub(super) const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    pub(super) fn from_id(id: u32) -> Option<Self> {
        Self::ALL.get(id as usize).copied()
    }

    /// The fewest bytes a value of this type takes.
    pub(super) const fn min_bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::String => 8,
            Self::Array => 12,
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::U8 => "a u8",
            Self::I8 => "an i8",
            Self::U16 => "a u16",
            Self::I16 => "an i16",
            Self::U32 => "a u32",
            Self::I32 => "an i32",
            Self::F32 => "an f32",
            Self::Bool => "a boolean",
            Self::String => "a string",
            Self::Array => "an array",
            Self::U64 => "a u64",
            Self::I64 => "an i64",
            Self::F64 => "an f64",
        })
    }
}

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any unsigned integer.
    Unsigned(ValueType, u64),
    /// Any signed integer.
    Signed(ValueType, i64),
    /// An `f32`.
    F32(f32),
    /// An `f64`.
    F64(f64),
    /// A boolean.
    Bool(bool),
    /// Text.
    String(String),
    /// An array.
    Array(Array),
}

/// An array, its elements as wide as the widest type they are read as.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Unsigned integers of a type.
    Unsigned(ValueType, Vec<u64>),
    /// Signed integers of a type.
    Signed(ValueType, Vec<i64>),
    /// `f32`s.
    F32(Vec<f32>),
    /// `f64`s.
    F64(Vec<f64>),
    /// Booleans.
    Bool(Vec<bool>),
    /// Texts.
    String(Vec<String>),
    /// Arrays.
    Array(Vec<Array>),
}

impl Value {
    /// The type in the file.
    pub const fn kind(&self) -> ValueType {
        match self {
            Self::Unsigned(kind, _) | Self::Signed(kind, _) => *kind,
            Self::F32(_) => ValueType::F32,
            Self::F64(_) => ValueType::F64,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array(_) => ValueType::Array,
        }
    }
}

/// The metadata of a file, by key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata(pub(super) BTreeMap<String, Value>);

impl Metadata {
    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// All keys and values in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    fn read<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        pick: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        match pick(value) {
            Some(picked) => Ok(Some(picked)),
            None => Err(GgufError::KeyType { key: key.to_owned(), expected, found: value.kind() }),
        }
    }

    /// A text, if the key is there.
    ///
    /// # Errors
    /// [`GgufError::KeyType`], like every reader here.
    pub fn string(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.read(key, "a string", |v| match v {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A whole number from 0 to `u32::MAX` of any integer type.
    ///
    /// # Errors
    /// [`GgufError::KeyType`].
    pub fn u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.read(key, "an integer from 0 to 2^32 - 1", |v| match v {
            Value::Unsigned(_, n) => u32::try_from(*n).ok(),
            Value::Signed(_, n) => u32::try_from(*n).ok(),
            _ => None,
        })
    }

    /// An `f32` (or an `f64` that is one).
    ///
    /// # Errors
    /// [`GgufError::KeyType`].
    pub fn f32(&self, key: &str) -> Result<Option<f32>, GgufError> {
        self.read(key, "an f32", |v| match v {
            Value::F32(x) => Some(*x),
            Value::F64(x) if f64::from(*x as f32) == *x => Some(*x as f32),
            _ => None,
        })
    }

    /// A boolean.
    ///
    /// # Errors
    /// [`GgufError::KeyType`].
    pub fn bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.read(key, "a boolean", |v| match v {
            Value::Bool(b) => Some(*b),
            _ => None,
        })
    }

    /// An array of texts.
    ///
    /// # Errors
    /// [`GgufError::KeyType`].
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>, GgufError> {
        self.read(key, "an array of strings", |v| match v {
            Value::Array(Array::String(items)) => Some(items.as_slice()),
            _ => None,
        })
    }

    /// An array of `f32`.
    ///
    /// # Errors
    /// [`GgufError::KeyType`].
    pub fn f32s(&self, key: &str) -> Result<Option<&[f32]>, GgufError> {
        self.read(key, "an array of f32", |v| match v {
            Value::Array(Array::F32(items)) => Some(items.as_slice()),
            _ => None,
        })
    }

    /// An array of integers, each from 0 to `u32::MAX`.
    ///
    /// # Errors
    /// [`GgufError::KeyType`].
    pub fn u32s(&self, key: &str) -> Result<Option<Vec<u32>>, GgufError> {
        self.read(key, "an array of integers from 0 to 2^32 - 1", |v| match v {
            Value::Array(Array::Unsigned(_, items)) => items.iter().map(|n| u32::try_from(*n).ok()).collect(),
            Value::Array(Array::Signed(_, items)) => items.iter().map(|n| u32::try_from(*n).ok()).collect(),
            _ => None,
        })
    }

    /// The value of a key that must be there.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`].
    pub fn need<T>(&self, key: &str, expected: &'static str, value: Option<T>) -> Result<T, GgufError> {
        value.ok_or_else(|| GgufError::MissingKey { key: key.to_owned(), expected })
    }
}
