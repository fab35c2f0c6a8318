//! What can be wrong with a safetensors file.

/// Why bytes are not a safetensors file that this program reads.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The file is shorter than the length of its header.
    #[error("the file has {file} bytes, too few for the length of a header")]
    Short {
        /// Bytes of the file.
        file: u64,
    },
    /// The header is longer than it may be.
    #[error("byte 0: the header is said to have {found} bytes, at most {limit} allowed")]
    HeaderSize {
        /// Its length.
        found: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// The header goes on after the last byte.
    #[error("byte 8: the header has {needed} bytes, {left} are left")]
    Truncated {
        /// Bytes of the header.
        needed: u64,
        /// Bytes that are left.
        left: u64,
    },
    /// The header is no JSON of the format's form.
    #[error("byte 8: the header: {0}")]
    Json(#[source] serde_json::Error),
    /// More tensors or dimensions than anyone needs.
    #[error("{what}: {found}, at most {limit} allowed")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// The count.
        found: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// Two tensors of one name.
    #[error("tensor `{name}` occurs a second time")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A type of elements that the format does not have.
    #[error("tensor `{name}` has elements of type {found}, which safetensors does not have")]
    Dtype {
        /// The tensor.
        name: String,
        /// The type.
        found: String,
    },
    /// A range of bytes that the shape does not ask for.
    #[error("tensor `{name}` of shape {shape:?} takes {expected} bytes, but has the bytes {start} to {end}")]
    Size {
        /// The tensor.
        name: String,
        /// Its sizes.
        shape: Vec<u64>,
        /// Bytes that they take; `u64::MAX` for more than a u64 counts.
        expected: u64,
        /// Where its bytes start in the data.
        start: u64,
        /// Where they end.
        end: u64,
    },
    /// Data that ends after the file.
    #[error("tensor `{name}` ends at byte {end} of {data} bytes of data")]
    Range {
        /// The tensor.
        name: String,
        /// Where it ends.
        end: u64,
        /// Bytes of data in the file.
        data: u64,
    },
    /// Tensors that share bytes, or bytes between tensors: the format has neither.
    #[error("tensor `{name}` starts at byte {found} of the data, expected {expected}")]
    Gap {
        /// The tensor.
        name: String,
        /// Where it starts.
        found: u64,
        /// Where the one before it ends.
        expected: u64,
    },
    /// Bytes after the last tensor.
    #[error("the tensors end at byte {end} of {data} bytes of data")]
    Rest {
        /// Where they end.
        end: u64,
        /// Bytes of data in the file.
        data: u64,
    },
}
