//! The header's bytes, one bounds-checked read at a time.

use super::GgufError;
use super::value::{Array, Value, ValueType};

/// Longest key, as the format says.
pub(super) const MAX_KEY_BYTES: u64 = 65_535;
/// Deepest nesting of arrays.
const MAX_ARRAY_DEPTH: u32 = 4;
/// Longest header: several times that of the largest vocabularies. Its values take up to eight times as much.
pub const MAX_HEADER_BYTES: u64 = 128 << 20;

/// A position in the header.
pub(super) struct Cursor<'a> {
    /// The file's first bytes.
    bytes: &'a [u8],
    /// Bytes of the file.
    file: u64,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8], file: u64) -> Self {
        Self { bytes, file, at: 0 }
    }

    pub(super) const fn position(&self) -> u64 {
        self.at as u64
    }

    /// Whether the next `needed` bytes are there; if not, whether they could be.
    const fn check(&self, what: &'static str, needed: u64) -> Result<(), GgufError> {
        let at = self.position();
        let left = self.file.saturating_sub(at);
        if needed > left {
            return Err(GgufError::Truncated { at, what, needed, left });
        }
        // No overflow: the file goes on for so long.
        let end = at + needed;
        if end > MAX_HEADER_BYTES {
            return Err(GgufError::HeaderSize { at, what, needed: end, limit: MAX_HEADER_BYTES });
        }
        let have = self.bytes.len() as u64;
        if end > have {
            return Err(GgufError::Partial { at, what, needed: end, have });
        }
        Ok(())
    }

    pub(super) fn take(&mut self, what: &'static str, n: u64) -> Result<&'a [u8], GgufError> {
        self.check(what, n)?;
        let out = &self.bytes[self.at..self.at + n as usize];
        self.at += n as usize;
        Ok(out)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(what, N as u64)?);
        Ok(out)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A count of items of at least `min_bytes` each: refused when the rest of the header cannot hold them, so
    /// that it is safe to allocate for.
    pub(super) fn count(
        &mut self,
        what: &'static str,
        min_bytes: u64,
        limit: u64,
    ) -> Result<usize, GgufError> {
        let at = self.position();
        let found = self.u64(what)?;
        if found > limit {
            return Err(GgufError::Limit { at, what, found, limit });
        }
        self.check(what, found.saturating_mul(min_bytes))?;
        Ok(found as usize)
    }

    pub(super) fn string(&mut self, what: &'static str, limit: u64) -> Result<String, GgufError> {
        let at = self.position();
        let len = self.count(what, 1, limit)?;
        let bytes = self.take(what, len as u64)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(GgufError::Utf8 { at: at + 8, what }),
        }
    }

    fn kind(&mut self, key: &str) -> Result<ValueType, GgufError> {
        let at = self.position();
        let found = self.u32("a value type")?;
        ValueType::from_id(found).ok_or_else(|| GgufError::ValueType { at, key: key.to_owned(), found })
    }

    pub(super) fn value(&mut self, key: &str) -> Result<Value, GgufError> {
        Ok(match self.kind(key)? {
            kind @ (ValueType::U8 | ValueType::U16 | ValueType::U32 | ValueType::U64) => {
                Value::Unsigned(kind, self.unsigned(kind)?)
            }
            kind @ (ValueType::I8 | ValueType::I16 | ValueType::I32 | ValueType::I64) => {
                Value::Signed(kind, self.signed(kind)?)
            }
            ValueType::F32 => Value::F32(self.array("an f32").map(f32::from_le_bytes)?),
            ValueType::F64 => Value::F64(self.array("an f64").map(f64::from_le_bytes)?),
            ValueType::Bool => Value::Bool(self.boolean(key)?),
            ValueType::String => Value::String(self.string("a string", u64::MAX)?),
            ValueType::Array => Value::Array(self.items(key, MAX_ARRAY_DEPTH)?),
        })
    }

    fn unsigned(&mut self, kind: ValueType) -> Result<u64, GgufError> {
        Ok(match kind {
            ValueType::U8 => self.array::<1>("a u8")?[0].into(),
            ValueType::U16 => self.array("a u16").map(u16::from_le_bytes)?.into(),
            ValueType::U32 => self.u32("a u32")?.into(),
            _ => self.u64("a u64")?,
        })
    }

    fn signed(&mut self, kind: ValueType) -> Result<i64, GgufError> {
        Ok(match kind {
            ValueType::I8 => i8::from_le_bytes(self.array("an i8")?).into(),
            ValueType::I16 => self.array("an i16").map(i16::from_le_bytes)?.into(),
            ValueType::I32 => self.array("an i32").map(i32::from_le_bytes)?.into(),
            _ => self.array("an i64").map(i64::from_le_bytes)?,
        })
    }

    fn boolean(&mut self, key: &str) -> Result<bool, GgufError> {
        let at = self.position();
        match self.array::<1>("a boolean")?[0] {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(GgufError::Bool { at, key: key.to_owned(), found }),
        }
    }

    fn items(&mut self, key: &str, depth: u32) -> Result<Array, GgufError> {
        let kind = self.kind(key)?;
        let n = self.count("an array", kind.min_bytes(), u64::MAX)?;
        Ok(match kind {
            ValueType::U8 | ValueType::U16 | ValueType::U32 | ValueType::U64 => {
                Array::Unsigned(kind, self.collect(n, |c| c.unsigned(kind))?)
            }
            ValueType::I8 | ValueType::I16 | ValueType::I32 | ValueType::I64 => {
                Array::Signed(kind, self.collect(n, |c| c.signed(kind))?)
            }
            ValueType::F32 => Array::F32(self.collect(n, |c| c.array("an f32").map(f32::from_le_bytes))?),
            ValueType::F64 => Array::F64(self.collect(n, |c| c.array("an f64").map(f64::from_le_bytes))?),
            ValueType::Bool => Array::Bool(self.collect(n, |c| c.boolean(key))?),
            ValueType::String => Array::String(self.collect(n, |c| c.string("a string", u64::MAX))?),
            ValueType::Array => {
                if depth == 1 {
                    let (at, limit) = (self.position(), u64::from(MAX_ARRAY_DEPTH));
                    return Err(GgufError::Limit { at, what: "depth of arrays", found: limit + 1, limit });
                }
                Array::Array(self.collect(n, |c| c.items(key, depth - 1))?)
            }
        })
    }

    /// `n` items; [`count`](Self::count) has checked that the header can hold them.
    fn collect<T>(
        &mut self,
        n: usize,
        mut one: impl FnMut(&mut Self) -> Result<T, GgufError>,
    ) -> Result<Vec<T>, GgufError> {
        let mut out = Vec::with_capacity(n);
        for _ in 0..n {
            out.push(one(self)?);
        }
        Ok(out)
    }
}
