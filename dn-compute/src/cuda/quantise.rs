//! Activations to integers of 16 bits, on the device: see [`crate::spec::quantise`].

use super::call::Call;
use super::device::Buf;
use crate::spec::{NumericError, Op, quantise::largest, quantise::rebase};

/// Columns to a multiple of which rows of a linear layer are padded: what the tiles take at a time.
pub(super) const CHUNK: usize = 64;

/// Quantised rows on the device: digits of eight bits, the high and the low ones apart.
pub(super) struct Digits {
    /// `[row][word]`: the high digits of four columns.
    pub(super) high: Buf,
    /// As `high`.
    pub(super) low: Buf,
    /// `[row]`.
    pub(super) exponents: Buf,
    /// `[row][word / 4]`: sums of sixteen integers.
    pub(super) sums: Buf,
}

/// Quantises rows of `cols`, each value first multiplied by `factor` where there is one; pads rows to a multiple of `pad`
/// columns, itself a multiple of sixteen.
pub(super) fn quantise(
    call: &Call<'_>,
    x: &Buf,
    rows: usize,
    cols: usize,
    pad: usize,
    factor: Option<f32>,
) -> Result<Digits, NumericError> {
    let words = cols.next_multiple_of(pad) / 4;
    let (high, low) = (call.room(rows * words)?, call.room(rows * words)?);
    let (exponents, sums) = (call.room(rows)?, call.room(rows * words / 4)?);
    let addresses = [x.at(), high.at(), low.at(), exponents.at(), sums.at(), call.fault()];
    let numbers = [cols as u32, words as u32, factor.map_or(0, f32::to_bits)];
    call.launch_rows("quantise", rows, cols, &addresses, &numbers)?;
    Ok(Digits { high, low, exponents, sums })
}

/// The error of the first row that cannot be quantised.
pub(super) fn locate(op: Op, input: &'static str, x: &[f32], cols: usize) -> Result<(), NumericError> {
    x.chunks_exact(cols)
        .enumerate()
        .try_for_each(|(i, x)| largest(op, input, x).map(|_| ()).map_err(|e| rebase(e, i * cols)))
}
