//! Activations to integers of 16 bits, on the device: see [`crate::spec::quantise`].

use super::call::{Buf, Call};
use super::kernels::Kernel;
use crate::spec::{NumericError, Op, quantise::largest, quantise::rebase};

/// Columns of a piece of a row, to a multiple of which rows are padded.
pub(super) const PIECE: usize = 32;

/// Quantised rows on the device.
pub(super) struct Digits {
    /// `[row][word]`: the high digits of four columns, the low digits.
    pub(super) digits: Buf,
    /// `[row]`.
    pub(super) exponents: Buf,
    /// `[row][word / 4]`: sums of sixteen integers.
    pub(super) sums: Buf,
    /// Words of a row: a multiple of four.
    pub(super) words: usize,
}

/// Quantises rows of `cols`, each value first multiplied by `factor` where there is one; pads rows to a multiple of `pad`
/// columns, itself a multiple of sixteen.
pub(super) fn quantise(
    call: &mut Call<'_>,
    x: &Buf,
    rows: usize,
    cols: usize,
    pad: usize,
    factor: Option<f32>,
) -> Digits {
    let words = cols.next_multiple_of(pad) / 4;
    let digits = call.room(2 * rows * words);
    let (exponents, sums, fault) = (call.room(rows), call.room(rows * words / 4), call.fault());
    let params = [rows as u32, cols as u32, words as u32, factor.map_or(0, f32::to_bits)];
    call.dispatch(Kernel::Quantise, &[x, &digits, &exponents, &sums, &fault], &params, rows, 1);
    Digits { digits, exponents, sums, words }
}

/// The error of the first row that cannot be quantised.
pub(super) fn locate(op: Op, input: &'static str, x: &[f32], cols: usize) -> Result<(), NumericError> {
    x.chunks_exact(cols)
        .enumerate()
        .try_for_each(|(i, x)| largest(op, input, x).map(|_| ()).map_err(|e| rebase(e, i * cols)))
}
