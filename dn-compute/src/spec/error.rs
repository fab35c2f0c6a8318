//! What can be wrong with a call.

use std::fmt;
use std::sync::Arc;

/// The operation that refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Op {
    /// Product of quantised weights with activations.
    Linear,
    /// Row lookup in a quantised matrix.
    Embed,
    /// Root-mean-square normalisation.
    RmsNorm,
    /// Rotary position embedding.
    Rope,
    /// Appending keys and values to a layer's cache.
    KvAppend,
    /// Attention over cached keys and values.
    Attention,
    /// `silu(gate) * up`.
    SiluMul,
    /// Element-wise addition.
    Add,
    /// Layer normalisation.
    LayerNorm,
    /// `x * Phi(x)`.
    Gelu,
    /// Pooling to one vector of length one.
    Pool,
    /// A decoder's whole layer.
    Layer,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Linear => "linear",
            Self::Embed => "embed",
            Self::RmsNorm => "rms_norm",
            Self::Rope => "rope",
            Self::KvAppend => "kv_append",
            Self::Attention => "attention",
            Self::SiluMul => "silu_mul",
            Self::Add => "add",
            Self::LayerNorm => "layer_norm",
            Self::Gelu => "gelu",
            Self::Pool => "pool",
            Self::Layer => "layer",
        })
    }
}

/// Why an operation was refused. What it was to write holds no meaning afterwards; a cache is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NumericError {
    /// A slice or a shape does not fit the others.
    #[error("{op}: {what} is {found}, expected {expected}")]
    Shape {
        /// The operation.
        op: Op,
        /// What was measured.
        what: &'static str,
        /// What fits.
        expected: usize,
        /// What came.
        found: usize,
    },
    /// A size is outside what the specification proves safe.
    #[error("{op}: {what} is {found}, allowed are {min} to {max}")]
    Limit {
        /// The operation.
        op: Op,
        /// What was measured.
        what: &'static str,
        /// Smallest allowed value.
        min: usize,
        /// Largest allowed value.
        max: usize,
        /// What came.
        found: usize,
    },
    /// An input is NaN or infinite.
    #[error("{op}: {input}[{index}] is not a finite number")]
    NonFinite {
        /// The operation.
        op: Op,
        /// The name of the input.
        input: &'static str,
        /// Index of the first such element.
        index: usize,
    },
    /// A vector holds a magnitude of `2^100` or more and cannot be quantised.
    #[error("{op}: {input}[{index}] has a magnitude of 2^100 or more")]
    Range {
        /// The operation.
        op: Op,
        /// The name of the input.
        input: &'static str,
        /// Index of the first such element.
        index: usize,
    },
    /// An output would be larger than the largest f32.
    #[error("{op}: output[{index}] overflows f32")]
    Overflow {
        /// The operation.
        op: Op,
        /// Index of the first such element.
        index: usize,
    },
    /// A parameter that is a number makes no sense.
    #[error("{op}: {what} must be {expected}")]
    Parameter {
        /// The operation.
        op: Op,
        /// The parameter.
        what: &'static str,
        /// What is allowed.
        expected: &'static str,
    },
    /// A token id is not a row of the embedding.
    #[error("embed: token {token} at index {index} is outside the vocabulary of {rows}")]
    TokenOutOfVocabulary {
        /// Its index in the call.
        index: usize,
        /// The id.
        token: u32,
        /// Rows of the table.
        rows: usize,
    },
    /// A position is beyond the rope table.
    #[error("rope: position {position} at index {index} is outside the table of {positions}")]
    Position {
        /// Its index in the call.
        index: usize,
        /// The position.
        position: u32,
        /// Positions that the table holds.
        positions: usize,
    },
    /// A cache has no room for the new positions.
    #[error("kv_append: the cache holds {len} of {capacity} positions, {adding} more do not fit")]
    CacheFull {
        /// Positions held.
        len: usize,
        /// Positions that fit.
        capacity: usize,
        /// Positions to add.
        adding: usize,
    },
    /// A matrix that another backend prepared.
    #[error("{op}: the matrix was not prepared by the backend `{backend}`")]
    ForeignMatrix {
        /// The operation.
        op: Op,
        /// The backend that was asked.
        backend: &'static str,
    },
    /// A matrix could not be built.
    #[error(transparent)]
    Matrix(#[from] MatrixError),
    /// The device failed. Unlike every other error this says nothing about the call: elsewhere, or later, it may succeed.
    #[error("{op}: the device `{device}` failed: {fault}")]
    Device {
        /// The operation.
        op: Op,
        /// The device's name.
        device: Arc<str>,
        /// How.
        fault: DeviceFault,
    },
}

/// A device of which nothing can be asked any more, until it is opened anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the device `{device}` failed: {fault}")]
pub struct DeviceFailure {
    /// Its name.
    pub device: Arc<str>,
    /// How.
    pub fault: DeviceFault,
}

/// How a device failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceFault {
    /// It is gone, or does not answer.
    #[error("it was lost; restart the program, and see the system's log if it happens again")]
    Lost,
    /// Its memory is used up.
    #[error("out of memory; give it fewer layers, or take a smaller model or context, or another device")]
    OutOfMemory,
    /// Its driver refuses what the backend asks.
    #[error("its driver refuses: {detail}")]
    Refused {
        /// The driver's words.
        detail: Box<str>,
    },
    /// It computes wrongly.
    #[error("it computes wrongly; do not use it, and please report its name and driver")]
    Wrong,
}

/// Why a quantised matrix cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MatrixError {
    /// No rows or columns, or more than the limits.
    #[error("matrix of {rows} x {cols}: allowed are 1 to {max_rows} rows and 1 to {max_cols} columns")]
    Size {
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
        /// Most rows.
        max_rows: usize,
        /// Most columns.
        max_cols: usize,
    },
    /// The data is too short or too long.
    #[error("matrix of {rows} x {cols}: {what} has {found} elements, expected {expected}")]
    Length {
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
        /// Which data.
        what: &'static str,
        /// Elements that the shape needs.
        expected: usize,
        /// Elements that came.
        found: usize,
    },
    /// A format of the file holds whole blocks only.
    #[error("a {format} row has {cols} columns, expected a multiple of {multiple}")]
    Columns {
        /// The format.
        format: &'static str,
        /// Columns.
        cols: usize,
        /// Columns of a block.
        multiple: usize,
    },
    /// Canonical bytes whose first two name no form of blocks.
    #[error("canonical bytes begin with {found:02x?}, expected a block length (0, 16, 32, 128) and 0 or 1")]
    Header {
        /// The two bytes.
        found: [u8; 2],
    },
    /// A weight, or the scale of its block, is NaN or infinite.
    #[error("weight at row {row}, column {col} is not a finite number")]
    NonFinite {
        /// Row.
        row: usize,
        /// Column (the first of the block when its scale is at fault).
        col: usize,
    },
    /// A weight has a magnitude of `2^100` or more.
    #[error("weight at row {row}, column {col} has a magnitude of 2^100 or more")]
    Range {
        /// Row.
        row: usize,
        /// Column.
        col: usize,
    },
    /// A quantised value is -128; the specification allows -127 to 127.
    #[error("quantised weight at row {row}, column {col} is -128, allowed are -127 to 127")]
    Quant {
        /// Row.
        row: usize,
        /// Column.
        col: usize,
    },
    /// The parts of a row are not in their one canonical form.
    #[error("row {row} is not canonical: {what}")]
    NotCanonical {
        /// Row.
        row: usize,
        /// What breaks the form.
        what: &'static str,
    },
}
