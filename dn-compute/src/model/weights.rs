//! From the bytes of a tensor to its values.

use std::borrow::Cow;

use super::layout::{Entry, Form};
use super::{ModelError, Recipe, Tensor};
use crate::formats::gguf::TensorType;
use crate::spec::matrix::MIN_SHIFT;
use crate::spec::{BlockLength, Blocks, MatrixError, QuantMatrix, embed::dequantise_row, float};

/// The blocks of a matrix that comes from tensors of a type.
pub(super) const fn blocks(kind: TensorType) -> Blocks {
    match kind {
        TensorType::F32 | TensorType::F16 | TensorType::Bf16 | TensorType::Q8_0 | TensorType::Q4_0 => {
            Blocks::plain(BlockLength::B32)
        }
        TensorType::Q4K | TensorType::Q5K => Blocks::with_minima(BlockLength::B32),
        TensorType::Q6K => Blocks::plain(BlockLength::B16),
    }
}

/// The values of a tensor of GGUF or safetensors; floats are quantised in blocks of `block`, or of 32.
pub(super) fn tensor(entry: &Entry, bytes: &[u8], block: Option<BlockLength>) -> Result<Tensor, ModelError> {
    let name = || entry.name.clone();
    let wrong = |source| ModelError::Matrix { name: name(), source };
    let (kind, bytes) = match entry.form {
        Form::Stored(kind) => (kind, Cow::Borrowed(bytes)),
        Form::Halves { kind, heads } => {
            let unit = bytes.len() / entry.rows.unwrap_or(entry.cols);
            (kind, Cow::Owned(pairs(bytes, unit, heads)))
        }
        Form::Packed(_) => unreachable!("packages derive their tensors themselves"),
    };
    let Some(rows) = entry.rows else {
        let values = vector(kind, entry.cols, &bytes).map_err(wrong)?;
        return match values.iter().position(|v| !v.is_finite()) {
            Some(index) => Err(ModelError::NonFinite { name: name(), index }),
            None => Ok(Tensor::Vector(values)),
        };
    };
    let length = block.unwrap_or(BlockLength::B32);
    matrix(kind, rows, entry.cols, &bytes, length).map(Tensor::Matrix).map_err(wrong)
}

/// Rows of `unit` bytes, per head in two halves, as pairs: row `2i + s` of a head is its row `s * size / 2 + i`.
fn pairs(bytes: &[u8], unit: usize, heads: usize) -> Vec<u8> {
    let size = bytes.len() / unit / heads;
    let mut out = Vec::with_capacity(bytes.len());
    for head in bytes.chunks_exact(size * unit) {
        let (first, second) = head.split_at(size / 2 * unit);
        for (a, b) in first.chunks_exact(unit).zip(second.chunks_exact(unit)) {
            out.extend_from_slice(a);
            out.extend_from_slice(b);
        }
    }
    out
}

/// What a recipe makes of a matrix.
pub(super) fn remade(matrix: QuantMatrix, recipe: Recipe) -> Result<QuantMatrix, MatrixError> {
    let wanted = recipe.block.unwrap_or(matrix.blocks().length);
    match recipe.coarse_bits {
        Some(bits) => coarsen(&matrix, bits, wanted),
        None if matrix.blocks() == Blocks::plain(wanted) || recipe.block.is_none() => Ok(matrix),
        // All eight bits.
        None => coarsen(&matrix, 8, wanted),
    }
}

/// A matrix from the bytes of a tensor.
pub(crate) fn matrix(
    kind: TensorType,
    rows: usize,
    cols: usize,
    bytes: &[u8],
    length: BlockLength,
) -> Result<QuantMatrix, MatrixError> {
    match kind {
        TensorType::F32 | TensorType::F16 | TensorType::Bf16 => {
            QuantMatrix::from_f32_blocks(rows, cols, length, &floats(kind, bytes))
        }
        TensorType::Q8_0 => QuantMatrix::from_q8_0(rows, cols, bytes),
        TensorType::Q4_0 => QuantMatrix::from_q4_0(rows, cols, bytes),
        TensorType::Q4K => QuantMatrix::from_q4_k(rows, cols, bytes),
        TensorType::Q5K => QuantMatrix::from_q5_k(rows, cols, bytes),
        TensorType::Q6K => QuantMatrix::from_q6_k(rows, cols, bytes),
    }
}

/// A vector from the bytes of a tensor: floats as they are, blocks as a matrix of one row holds them.
pub(crate) fn vector(kind: TensorType, len: usize, bytes: &[u8]) -> Result<Vec<f32>, MatrixError> {
    match kind {
        TensorType::F32 | TensorType::F16 | TensorType::Bf16 => {
            Ok(floats(kind, bytes).into_iter().map(float::flush).collect())
        }
        blocks => {
            let mut out = vec![0.0; len];
            dequantise_row(matrix(blocks, 1, len, bytes, BlockLength::B32)?.row(0), &mut out);
            Ok(out)
        }
    }
}

/// The numbers of a tensor of floats.
fn floats(kind: TensorType, bytes: &[u8]) -> Vec<f32> {
    let halves = |to: fn([u8; 2]) -> f32| bytes.chunks_exact(2).map(|b| to([b[0], b[1]])).collect();
    match kind {
        TensorType::F16 => halves(|b| half::f16::from_le_bytes(b).to_f32()),
        TensorType::Bf16 => halves(|b| half::bf16::from_le_bytes(b).to_f32()),
        _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    }
}

/// Rounds every `q` to a multiple of `2^(8 - bits)`, half away from zero, and quantises the result in blocks of `length`.
fn coarsen(matrix: &QuantMatrix, bits: u32, length: BlockLength) -> Result<QuantMatrix, MatrixError> {
    let step = 1i32 << (8 - bits);
    let mut values = Vec::with_capacity(matrix.rows() * matrix.cols());
    for row in 0..matrix.rows() {
        let row = matrix.row(row);
        for (block, m, n) in row.blocks() {
            let minimum = i32::from(n) << MIN_SHIFT;
            values.extend(block.iter().map(|q| {
                let q = i32::from(*q);
                let coarse = ((q.abs() + step / 2) / step * step).min(127) * q.signum();
                // At most 24 bits, so exact.
                float::scale((coarse * i32::from(m) - minimum) as f32, row.er)
            }));
        }
    }
    QuantMatrix::from_f32_blocks(matrix.rows(), matrix.cols(), length, &values)
}
