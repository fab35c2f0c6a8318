//! A strict reader of GGUF headers, versions 2 and 3, little-endian.
//!
//! Everything a file claims is checked before it is believed: no allocation is larger than a small multiple of the
//! header's own bytes, of which there are at most 128 MiB; no tensor reaches over the end of the file, is misaligned or shares
//! bytes with another.
//!
//! # Source
//! The GGUF specification of the ggml project (`docs/gguf.md`), read; no code taken.

mod error;
mod read;
mod value;
mod write;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;

pub use error::{GgufError, UnsupportedType};
pub use read::MAX_HEADER_BYTES;
pub use value::{Array, Metadata, Value, ValueType};
pub use write::GgufWriter;

use read::{Cursor, MAX_KEY_BYTES};

/// Most metadata keys.
const MAX_KEYS: u64 = 1 << 16;
/// Most tensors.
const MAX_TENSORS: u64 = 1 << 20;
/// Longest tensor name, as the format says.
const MAX_NAME_BYTES: u64 = 64;
/// Most dimensions, as the format says.
const MAX_DIMENSIONS: u64 = 4;
const DEFAULT_ALIGNMENT: u32 = 32;

/// The element types of tensors that are read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TensorType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// The upper halves of 32-bit floats.
    Bf16,
    /// Blocks of 32 signed bytes under one f16 scale.
    Q8_0,
    /// Blocks of 32 values of 4 bits under one f16 scale.
    Q4_0,
    /// Blocks of 256 values of 4 bits; per 32 of them six bits of scale and of minimum, per block an f16 of each.
    Q4K,
    /// As Q4_K with values of 5 bits.
    Q5K,
    /// Blocks of 256 values of 6 bits; per 16 of them a signed byte of scale, per block an f16.
    Q6K,
}

impl TensorType {
    /// Every type.
    pub const ALL: [Self; 8] =
        [Self::F32, Self::F16, Self::Bf16, Self::Q8_0, Self::Q4_0, Self::Q4K, Self::Q5K, Self::Q6K];

    /// The number that files carry.
    pub const fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Bf16 => 30,
        }
    }

    fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.id() == id)
    }

    /// Elements and bytes of a block.
    pub const fn block(self) -> (u64, u64) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q4_0 => (32, 18),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        })
    }
}

/// Where a tensor lies and what it is. Its range is inside the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name.
    pub name: String,
    /// Sizes, the fastest first: a matrix is `[columns, rows]`.
    pub shape: Vec<u64>,
    /// The type of its elements.
    pub kind: TensorType,
    /// Offset of its first byte in the file.
    pub start: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// The header of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Gguf {
    /// The version of the format.
    pub version: u32,
    /// The metadata.
    pub metadata: Metadata,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
}

impl Gguf {
    /// Reads a whole file that is in memory.
    ///
    /// # Errors
    /// [`GgufError`].
    pub fn parse(file: &[u8]) -> Result<Self, GgufError> {
        Self::parse_header(file, file.len() as u64)
    }

    /// Reads a header from the first bytes of a file of `file_len` bytes.
    ///
    /// # Errors
    /// [`GgufError`]; [`GgufError::Partial`] when `head` ends too early, although the file goes on.
    pub fn parse_header(head: &[u8], file_len: u64) -> Result<Self, GgufError> {
        let mut c = Cursor::new(head, file_len);
        let version = version(&mut c)?;
        // A tensor's entry takes at least 32 bytes, a key's 13.
        let tensor_count = c.count("number of tensors", 32, MAX_TENSORS)?;
        let key_count = c.count("number of metadata keys", 13, MAX_KEYS)?;
        let metadata = metadata(&mut c, key_count)?;
        let alignment = alignment(&metadata)?;
        let mut tensors = Vec::with_capacity(tensor_count);
        let mut by_name = HashMap::with_capacity(tensor_count);
        for index in 0..tensor_count {
            let tensor = tensor(&mut c, alignment)?;
            if by_name.insert(tensor.name.clone(), index).is_some() {
                return Err(GgufError::DuplicateTensor { name: tensor.name });
            }
            tensors.push(tensor);
        }
        let data = c.position().next_multiple_of(alignment);
        for tensor in &mut tensors {
            tensor.start = tensor.start.saturating_add(data);
            if tensor.start.checked_add(tensor.size).is_none_or(|end| end > file_len) {
                let (name, start, size) = (tensor.name.clone(), tensor.start, tensor.size);
                return Err(GgufError::TensorRange { name, start, size, file: file_len });
            }
        }
        no_overlap(&tensors)?;
        Ok(Self { version, metadata, tensors, by_name })
    }

    /// The tensors in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// A tensor by its name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|i| &self.tensors[*i])
    }
}

fn version(c: &mut Cursor<'_>) -> Result<u32, GgufError> {
    let mut found = [0; 4];
    found.copy_from_slice(c.take("the magic bytes", 4)?);
    if found != *b"GGUF" {
        return Err(GgufError::Magic { found });
    }
    match c.u32("the version")? {
        version @ (2 | 3) => Ok(version),
        found if (1..=255).contains(&found.swap_bytes()) => {
            Err(GgufError::BigEndian { version: found.swap_bytes() })
        }
        found => Err(GgufError::Version { found }),
    }
}

fn metadata(c: &mut Cursor<'_>, count: usize) -> Result<Metadata, GgufError> {
    let mut metadata = Metadata::default();
    for _ in 0..count {
        let at = c.position();
        let key = c.string("a key", MAX_KEY_BYTES)?;
        let value = c.value(&key)?;
        if metadata.0.contains_key(&key) {
            return Err(GgufError::DuplicateKey { at, key });
        }
        metadata.0.insert(key, value);
    }
    Ok(metadata)
}

fn alignment(metadata: &Metadata) -> Result<u64, GgufError> {
    let found = metadata.u32("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
    if found.is_power_of_two() && (8..=65_536).contains(&found) {
        Ok(found.into())
    } else {
        Err(GgufError::Alignment { found })
    }
}

/// One entry; its `start` is still relative to the data section.
fn tensor(c: &mut Cursor<'_>, alignment: u64) -> Result<TensorInfo, GgufError> {
    let name = c.string("a tensor's name", MAX_NAME_BYTES)?;
    let at = c.position();
    let dimensions = u64::from(c.u32("a tensor's number of dimensions")?);
    if dimensions > MAX_DIMENSIONS {
        let (what, limit) = ("a tensor's number of dimensions", MAX_DIMENSIONS);
        return Err(GgufError::Limit { at, what, found: dimensions, limit });
    }
    let mut shape = Vec::with_capacity(4);
    for _ in 0..dimensions {
        shape.push(c.u64("a tensor's size")?);
    }
    let kind = c.u32("a tensor's type")?;
    let start = c.u64("a tensor's offset")?;
    let Some(kind) = TensorType::from_id(kind) else {
        return Err(GgufError::TensorType { name, found: UnsupportedType(kind) });
    };
    let problem = |name, shape, problem| Err(GgufError::TensorShape { name, shape, problem });
    let Some(columns) = shape.first().copied() else {
        return problem(name, shape, "no dimensions");
    };
    let Some(elements) = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d)) else {
        return problem(name, shape, "more elements than a u64 counts");
    };
    if elements == 0 {
        return problem(name, shape, "a size is zero");
    }
    let (block, bytes) = kind.block();
    if !columns.is_multiple_of(block) {
        return Err(GgufError::TensorBlock { name, kind, columns, block });
    }
    let Some(size) = (elements / block).checked_mul(bytes) else {
        return problem(name, shape, "more bytes than a u64 counts");
    };
    if !start.is_multiple_of(alignment) {
        return Err(GgufError::TensorAlignment { name, offset: start, alignment });
    }
    Ok(TensorInfo { name, shape, kind, start, size })
}

fn no_overlap(tensors: &[TensorInfo]) -> Result<(), GgufError> {
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_by_key(|t| t.start);
    for pair in order.windows(2) {
        // No overflow: both ranges are inside the file.
        if pair[0].start + pair[0].size > pair[1].start {
            let (first, second) = (pair[0].name.clone(), pair[1].name.clone());
            return Err(GgufError::TensorOverlap { first, second, at: pair[1].start });
        }
    }
    Ok(())
}
