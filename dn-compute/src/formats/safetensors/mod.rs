//! A strict reader of safetensors headers.
//!
//! Everything a file claims is checked before it is believed: sizes follow from shapes, the tensors cover the data without
//! gap or overlap, no name occurs twice, and nothing larger than the header is allocated.
//!
//! # Source
//! The format's description in the `safetensors` project's README, read; no code taken.

mod error;
mod parse;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;

pub use error::SafetensorsError;

/// Longest header, as the format says.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Most tensors.
const MAX_TENSORS: usize = 1 << 20;
/// Most dimensions.
const MAX_DIMENSIONS: usize = 8;

/// The element types of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names say it")]
pub enum Dtype {
    Bool,
    U8,
    I8,
    F8E5M2,
    F8E4M3,
    I16,
    U16,
    F16,
    Bf16,
    I32,
    U32,
    F32,
    F64,
    I64,
    U64,
}

impl Dtype {
    /// Every type.
    pub const ALL: [Self; 15] = [
        Self::Bool,
        Self::U8,
        Self::I8,
        Self::F8E5M2,
        Self::F8E4M3,
        Self::I16,
        Self::U16,
        Self::F16,
        Self::Bf16,
        Self::I32,
        Self::U32,
        Self::F32,
        Self::F64,
        Self::I64,
        Self::U64,
    ];

    /// The name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::U8 => "U8",
            Self::I8 => "I8",
            Self::F8E5M2 => "F8_E5M2",
            Self::F8E4M3 => "F8_E4M3",
            Self::I16 => "I16",
            Self::U16 => "U16",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::I32 => "I32",
            Self::U32 => "U32",
            Self::F32 => "F32",
            Self::F64 => "F64",
            Self::I64 => "I64",
            Self::U64 => "U64",
        }
    }

    /// Bytes of an element.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Bool | Self::U8 | Self::I8 | Self::F8E5M2 | Self::F8E4M3 => 1,
            Self::I16 | Self::U16 | Self::F16 | Self::Bf16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name() == name)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a tensor lies and what it is. Its range is inside the file and as long as its shape asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafeTensor {
    /// The name.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Sizes, the slowest first: a matrix is `[rows, columns]`.
    pub shape: Vec<u64>,
    /// Offset of its first byte in the file.
    pub start: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// The header of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Safetensors {
    tensors: Vec<SafeTensor>,
    by_name: HashMap<String, usize>,
}

impl Safetensors {
    /// Reads a whole file that is in memory.
    ///
    /// # Errors
    /// [`SafetensorsError`].
    pub fn parse(file: &[u8]) -> Result<Self, SafetensorsError> {
        Self::parse_header(file, file.len() as u64)
    }

    /// Bytes of a file up to the end of its header, from its first eight.
    ///
    /// # Errors
    /// [`SafetensorsError::HeaderSize`], [`SafetensorsError::Truncated`].
    pub fn header_bytes(first: [u8; 8], file_len: u64) -> Result<u64, SafetensorsError> {
        let (found, limit) = (u64::from_le_bytes(first), MAX_HEADER_BYTES);
        if found > limit {
            return Err(SafetensorsError::HeaderSize { found, limit });
        }
        let left = file_len.saturating_sub(8);
        if found > left {
            return Err(SafetensorsError::Truncated { needed: found, left });
        }
        Ok(8 + found)
    }

    /// Reads a header from the first bytes of a file of `file_len` bytes.
    ///
    /// # Errors
    /// [`SafetensorsError`]; [`SafetensorsError::Truncated`] also when `head` ends too early, although the file goes on.
    pub fn parse_header(head: &[u8], file_len: u64) -> Result<Self, SafetensorsError> {
        let Some(first) = head.first_chunk::<8>() else {
            return Err(SafetensorsError::Short { file: file_len });
        };
        let end = Self::header_bytes(*first, file_len)?;
        let json = usize::try_from(end).ok().and_then(|end| head.get(8..end));
        let Some(json) = json else {
            let (needed, left) = (end - 8, head.len() as u64 - 8);
            return Err(SafetensorsError::Truncated { needed, left });
        };
        parse::header(json, end, file_len - end)
    }

    /// The tensors in the order of the header.
    pub fn tensors(&self) -> &[SafeTensor] {
        &self.tensors
    }

    /// A tensor by its name.
    pub fn tensor(&self, name: &str) -> Option<&SafeTensor> {
        self.by_name.get(name).map(|i| &self.tensors[*i])
    }
}
