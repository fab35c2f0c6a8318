//! What can be wrong with a GGUF file.

use super::{TensorType, ValueType};

/// Why bytes are not a GGUF file that this program reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file does not begin with `GGUF`.
    #[error("byte 0: expected the magic bytes `GGUF`, found {found:02x?}")]
    Magic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// A version that nobody reads here.
    #[error("byte 4: GGUF version {found} is not supported; supported are 2 and 3")]
    Version {
        /// The version.
        found: u32,
    },
    /// The file is big-endian.
    #[error("byte 4: the file is big-endian (version {version}); only little-endian files are read")]
    BigEndian {
        /// Its version, bytes swapped.
        version: u32,
    },
    /// The header goes on after the last byte of the file.
    #[error("byte {at}: the header needs {needed} more bytes for {what}, {left} are left")]
    Truncated {
        /// Offset of what was being read.
        at: u64,
        /// What was being read.
        what: &'static str,
        /// Bytes that it needs at least.
        needed: u64,
        /// Bytes that are left.
        left: u64,
    },
    /// The header goes on after the bytes that were given of the file.
    #[error("byte {at}: for {what} the first {needed} bytes of the file are needed, {have} were given")]
    Partial {
        /// Offset of what was being read.
        at: u64,
        /// What was being read.
        what: &'static str,
        /// First bytes of the file that are needed at least.
        needed: u64,
        /// First bytes that were given.
        have: u64,
    },
    /// The header is longer than any is allowed to be.
    #[error("byte {at}: with {what} the header takes {needed} bytes or more, at most {limit} allowed")]
    HeaderSize {
        /// Offset of what was being read.
        at: u64,
        /// What was being read.
        what: &'static str,
        /// Bytes of the header at least.
        needed: u64,
        /// The most allowed.
        limit: u64,
    },
    /// A count is over the limit of its field.
    #[error("byte {at}: {what} is {found}, at most {limit} allowed")]
    Limit {
        /// Offset of the count.
        at: u64,
        /// What is counted.
        what: &'static str,
        /// The count.
        found: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// Text that is not UTF-8.
    #[error("byte {at}: {what} is not UTF-8")]
    Utf8 {
        /// Offset of the text.
        at: u64,
        /// Which text.
        what: &'static str,
    },
    /// A value type that GGUF does not have.
    #[error("byte {at}: key `{key}` has value type {found}; GGUF has 0 to 12")]
    ValueType {
        /// Offset of the type.
        at: u64,
        /// The key.
        key: String,
        /// The type.
        found: u32,
    },
    /// A boolean that is neither 0 nor 1.
    #[error("byte {at}: key `{key}` holds a boolean of value {found}, expected 0 or 1")]
    Bool {
        /// Offset of the byte.
        at: u64,
        /// The key.
        key: String,
        /// The byte.
        found: u8,
    },
    /// A key that occurs twice.
    #[error("byte {at}: key `{key}` occurs a second time")]
    DuplicateKey {
        /// Offset of the second one.
        at: u64,
        /// The key.
        key: String,
    },
    /// An alignment that is not a power of two in range.
    #[error("`general.alignment` is {found}, expected a power of two from 8 to 65536")]
    Alignment {
        /// The alignment.
        found: u32,
    },
    /// A key that must be there is missing.
    #[error("key `{key}` is missing ({expected} expected)")]
    MissingKey {
        /// The key.
        key: String,
        /// What it holds.
        expected: &'static str,
    },
    /// A key holds another type.
    #[error("key `{key}` holds {found}, expected {expected}")]
    KeyType {
        /// The key.
        key: String,
        /// What it should hold.
        expected: &'static str,
        /// What it holds.
        found: ValueType,
    },
    /// Two tensors of one name.
    #[error("tensor `{name}` occurs a second time")]
    DuplicateTensor {
        /// The name.
        name: String,
    },
    /// A type of weights that is not read.
    #[error(
        "tensor `{name}` has type {found}; supported are F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q5_K and Q6_K"
    )]
    TensorType {
        /// The tensor.
        name: String,
        /// Its type, by name where it has one.
        found: UnsupportedType,
    },
    /// Sizes that make no tensor.
    #[error("tensor `{name}` has the shape {shape:?}: {problem}")]
    TensorShape {
        /// The tensor.
        name: String,
        /// Sizes, the fastest first.
        shape: Vec<u64>,
        /// What is wrong.
        problem: &'static str,
    },
    /// Rows that are no whole number of blocks.
    #[error("tensor `{name}` is {kind} with rows of {columns} elements, expected a multiple of {block}")]
    TensorBlock {
        /// The tensor.
        name: String,
        /// Its type.
        kind: TensorType,
        /// Elements of a row.
        columns: u64,
        /// Elements of a block.
        block: u64,
    },
    /// An offset that is not aligned.
    #[error("tensor `{name}` has the offset {offset}, expected a multiple of {alignment}")]
    TensorAlignment {
        /// The tensor.
        name: String,
        /// Its offset in the data section.
        offset: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// Data that ends after the file.
    #[error("tensor `{name}`: {size} bytes at byte {start}, but the file ends at byte {file}")]
    TensorRange {
        /// The tensor.
        name: String,
        /// Where it starts in the file.
        start: u64,
        /// Its size in bytes.
        size: u64,
        /// The length of the file.
        file: u64,
    },
    /// Two tensors that share bytes.
    #[error("tensors `{first}` and `{second}` overlap at byte {at}")]
    TensorOverlap {
        /// The one that starts first.
        first: String,
        /// The other.
        second: String,
        /// Where the other starts.
        at: u64,
    },
    /// A tensor that must be there is missing.
    #[error("tensor `{name}` is missing")]
    MissingTensor {
        /// The name.
        name: String,
    },
}

/// A tensor type that GGUF defines, or not, and that is not read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnsupportedType(pub u32);

impl std::fmt::Display for UnsupportedType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.0 {
            3 => "Q4_1",
            6 => "Q5_0",
            7 => "Q5_1",
            9 => "Q8_1",
            10 => "Q2_K",
            11 => "Q3_K",
            15 => "Q8_K",
            16 => "IQ2_XXS",
            17 => "IQ2_XS",
            18 => "IQ3_XXS",
            19 => "IQ1_S",
            20 => "IQ4_NL",
            21 => "IQ3_S",
            22 => "IQ2_S",
            23 => "IQ4_XS",
            24 => "I8",
            25 => "I16",
            26 => "I32",
            27 => "I64",
            28 => "F64",
            29 => "IQ1_M",
            34 => "TQ1_0",
            35 => "TQ2_0",
            39 => "MXFP4",
            other => return write!(f, "number {other}"),
        };
        f.write_str(name)
    }
}
