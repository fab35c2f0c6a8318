//! Matrices from the quantised blocks of GGUF files.
//!
//! Each decoder writes the small integers of a block, and its scales and minima as exact numbers. What they have in common is
//! the row's exponent, 16 bits per scale, and that a scale's sign moves into the integers.
//!
//! # Source
//! The block layouts of the ggml project, read as a format description; no code taken.

use super::{BlockLength, Blocks, MatrixError, QuantMatrix, check_len, check_size};

/// What a decoder found in a block and no matrix can hold, with the column inside the block.
enum Fault {
    NonFinite,
    Quant(usize),
}

/// Takes the bytes of a block; writes its integers, scales and minima.
type Decode = fn(&[u8], &mut [i8], &mut [f64], &mut [f64]) -> Result<(), Fault>;

/// One of GGUF's block formats.
struct Format {
    name: &'static str,
    /// Columns of a block of the file.
    columns: usize,
    /// Bytes of a block of the file.
    bytes: usize,
    blocks: Blocks,
    decode: Decode,
}

const Q8_0: Format =
    Format { name: "Q8_0", columns: 32, bytes: 34, blocks: Blocks::plain(BlockLength::B32), decode: q8_0 };
const Q4_0: Format =
    Format { name: "Q4_0", columns: 32, bytes: 18, blocks: Blocks::plain(BlockLength::B32), decode: q4_0 };
const Q4_K: Format = Format {
    name: "Q4_K",
    columns: 256,
    bytes: 144,
    blocks: Blocks::with_minima(BlockLength::B32),
    decode: q4_k,
};
const Q5_K: Format = Format {
    name: "Q5_K",
    columns: 256,
    bytes: 176,
    blocks: Blocks::with_minima(BlockLength::B32),
    decode: q5_k,
};
const Q6_K: Format =
    Format { name: "Q6_K", columns: 256, bytes: 210, blocks: Blocks::plain(BlockLength::B16), decode: q6_k };

impl QuantMatrix {
    /// Takes a matrix apart into blocks of GGUF's Q8_0: per 32 columns an f16 scale and 32 signed bytes.
    ///
    /// Exact while a block's scale is within `2^5` of the largest of its row; the rest is rounded to nearest
    /// even, by at most `2^-16` of the largest.
    ///
    /// # Errors
    /// A size, a column count or a byte count that does not fit; a scale that is not finite; a value of -128.
    pub fn from_q8_0(rows: usize, cols: usize, bytes: &[u8]) -> Result<Self, MatrixError> {
        take_apart(rows, cols, bytes, &Q8_0)
    }

    /// Takes a matrix apart into blocks of GGUF's Q4_0: per 32 columns an f16 scale and 32 values of -8 to 7.
    ///
    /// Exact as [`from_q8_0`](Self::from_q8_0) is. Under a negative scale the values become -7 to 8.
    ///
    /// # Errors
    /// As there, but that no value is refused.
    pub fn from_q4_0(rows: usize, cols: usize, bytes: &[u8]) -> Result<Self, MatrixError> {
        take_apart(rows, cols, bytes, &Q4_0)
    }

    /// Takes a matrix apart into blocks of GGUF's Q4_K: per 256 columns an f16 scale and an f16 minimum, per 32 of them six
    /// bits of each, and values of 0 to 15.
    ///
    /// The products of 17 bits are rounded to nearest even: a scale by at most `2^-16` of the larger of the row's
    /// largest scale and an eighth of its largest minimum, a minimum by `2^-12` of the same.
    ///
    /// # Errors
    /// As [`from_q4_0`](Self::from_q4_0).
    pub fn from_q4_k(rows: usize, cols: usize, bytes: &[u8]) -> Result<Self, MatrixError> {
        take_apart(rows, cols, bytes, &Q4_K)
    }

    /// Takes a matrix apart into blocks of GGUF's Q5_K: as [`from_q4_k`](Self::from_q4_k), with values of 0 to 31.
    ///
    /// # Errors
    /// As there.
    pub fn from_q5_k(rows: usize, cols: usize, bytes: &[u8]) -> Result<Self, MatrixError> {
        take_apart(rows, cols, bytes, &Q5_K)
    }

    /// Takes a matrix apart into blocks of GGUF's Q6_K: per 256 columns an f16 scale, per 16 of them a signed byte that
    /// multiplies it, and values of -32 to 31.
    ///
    /// The products of 18 bits are rounded to nearest even, by at most `2^-16` of the row's largest.
    ///
    /// # Errors
    /// As [`from_q4_0`](Self::from_q4_0).
    pub fn from_q6_k(rows: usize, cols: usize, bytes: &[u8]) -> Result<Self, MatrixError> {
        take_apart(rows, cols, bytes, &Q6_K)
    }
}

fn take_apart(rows: usize, cols: usize, bytes: &[u8], format: &Format) -> Result<QuantMatrix, MatrixError> {
    check_size(rows, cols)?;
    if !cols.is_multiple_of(format.columns) {
        return Err(MatrixError::Columns { format: format.name, cols, multiple: format.columns });
    }
    let row_bytes = cols / format.columns * format.bytes;
    check_len(rows, cols, "bytes", rows * row_bytes, bytes.len())?;
    let mut out = QuantMatrix::zeros(rows, cols, format.blocks);
    let length = format.blocks.length.columns(cols);
    let per = format.columns / length;
    let mut scales = vec![0f64; cols / length];
    let mut minima = vec![0f64; if format.blocks.minima { scales.len() } else { 0 }];
    for (row, data) in bytes.chunks_exact(row_bytes).enumerate() {
        let q = &mut out.q[row * cols..][..cols];
        for (b, block) in data.chunks_exact(format.bytes).enumerate() {
            let minima = if format.blocks.minima { &mut minima[b * per..][..per] } else { &mut [] };
            let first = b * format.columns;
            (format.decode)(block, &mut q[first..][..format.columns], &mut scales[b * per..][..per], minima)
                .map_err(|fault| match fault {
                    Fault::NonFinite => MatrixError::NonFinite { row, col: first },
                    Fault::Quant(col) => MatrixError::Quant { row, col: first + col },
                })?;
        }
        for (q, scale) in q.chunks_exact_mut(length).zip(&mut scales) {
            if q.iter().all(|q| *q == 0) {
                *scale = 0.0; // a scale without values carries nothing
            } else if *scale < 0.0 {
                *scale = -*scale;
                q.iter_mut().for_each(|q| *q = -*q);
            }
        }
        out.set_scales(row, &scales, &minima);
    }
    out.measure();
    Ok(out)
}

/// The f16 at the start of some bytes, if it is finite.
fn f16(bytes: &[u8]) -> Result<f64, Fault> {
    let value = half::f16::from_le_bytes([bytes[0], bytes[1]]);
    if value.is_finite() { Ok(value.to_f64()) } else { Err(Fault::NonFinite) }
}

fn q8_0(block: &[u8], q: &mut [i8], scales: &mut [f64], _: &mut [f64]) -> Result<(), Fault> {
    scales[0] = f16(block)?;
    for (q, byte) in q.iter_mut().zip(&block[2..]) {
        *q = *byte as i8;
    }
    match q.iter().position(|q| *q == i8::MIN) {
        Some(col) => Err(Fault::Quant(col)),
        None => Ok(()),
    }
}

/// A byte holds columns `i` and `i + 16`, the first in its low half, each 8 more than its value.
fn q4_0(block: &[u8], q: &mut [i8], scales: &mut [f64], _: &mut [f64]) -> Result<(), Fault> {
    scales[0] = f16(block)?;
    let (low, high) = q.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(&block[2..]) {
        *low = (byte & 15) as i8 - 8;
        *high = (byte >> 4) as i8 - 8;
    }
    Ok(())
}

/// Scales and minima of eight blocks of 32, six bits each in twelve bytes: the first four scales are the low six bits of
/// bytes 0 to 3, the first four minima those of bytes 4 to 7; bytes 8 to 11 hold the low four bits of the other scales (low
/// half) and minima (high half), whose upper two bits are the top bits of bytes 0 to 3 and 4 to 7.
fn k_scales(block: &[u8], scales: &mut [f64], minima: &mut [f64]) -> Result<(), Fault> {
    let (d, least) = (f16(block)?, f16(&block[2..])?);
    let s = &block[4..16];
    for j in 0..4 {
        let upper = |byte: u8| byte >> 6 << 4;
        scales[j] = d * f64::from(s[j] & 63);
        minima[j] = least * f64::from(s[j + 4] & 63);
        scales[j + 4] = d * f64::from(s[j + 8] & 15 | upper(s[j]));
        minima[j + 4] = least * f64::from(s[j + 8] >> 4 | upper(s[j + 4]));
    }
    Ok(())
}

/// 32 bytes hold 64 columns, the first 32 in the low halves.
fn q4_k(block: &[u8], q: &mut [i8], scales: &mut [f64], minima: &mut [f64]) -> Result<(), Fault> {
    k_scales(block, scales, minima)?;
    for (q, bytes) in q.chunks_exact_mut(64).zip(block[16..].chunks_exact(32)) {
        let (low, high) = q.split_at_mut(32);
        for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
            *low = (byte & 15) as i8;
            *high = (byte >> 4) as i8;
        }
    }
    Ok(())
}

/// As Q4_K; the fifth bit of column `i` of block `b` is bit `b` of byte `i` of the 32 before.
fn q5_k(block: &[u8], q: &mut [i8], scales: &mut [f64], minima: &mut [f64]) -> Result<(), Fault> {
    k_scales(block, scales, minima)?;
    let fifth = &block[16..48];
    for (pair, (q, bytes)) in q.chunks_exact_mut(64).zip(block[48..].chunks_exact(32)).enumerate() {
        let (low, high) = q.split_at_mut(32);
        for (((low, high), byte), fifth) in low.iter_mut().zip(high).zip(bytes).zip(fifth) {
            let fifth = fifth >> (2 * pair);
            *low = (byte & 15 | (fifth & 1) << 4) as i8;
            *high = (byte >> 4 | (fifth & 2) << 3) as i8;
        }
    }
    Ok(())
}

/// Two halves of 128 columns: 64 bytes of low fours (columns 0 to 31 and 32 to 63 in low halves, 64 to 95 and 96 to 127 in
/// high ones) and 32 bytes of upper twos, two bits for each of the four.
fn q6_k(block: &[u8], q: &mut [i8], scales: &mut [f64], _: &mut [f64]) -> Result<(), Fault> {
    let d = f16(&block[208..])?;
    for (scale, byte) in scales.iter_mut().zip(&block[192..208]) {
        *scale = d * f64::from(*byte as i8);
    }
    let halves = block[..128].chunks_exact(64).zip(block[128..192].chunks_exact(32));
    for (q, (fours, twos)) in q.chunks_exact_mut(128).zip(halves) {
        for (part, q) in q.chunks_exact_mut(32).enumerate() {
            let fours = &fours[part % 2 * 32..][..32];
            for ((q, four), two) in q.iter_mut().zip(fours).zip(twos) {
                let four = four >> (part / 2 * 4) & 15;
                let two = two >> (2 * part) & 3;
                *q = (four | two << 4) as i8 - 32;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
