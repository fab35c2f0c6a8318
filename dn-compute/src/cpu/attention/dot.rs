//! The product that attention needs twice, scores and weighted sums: rows of two digits times 16-bit integers.

use crate::cpu::isa::Level;

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod x86;

/// Columns come in multiples of this.
pub(super) const LANES: usize = 16;

/// Rows of digits times one matrix: `out[row][column] = sum over steps and halves of digit * value`.
///
/// A digit is at most 255 in magnitude beside values of 32,639 over 64 of them, or 128 over 256: the sums stay below `2^31`.
pub(super) struct Product<'a> {
    /// `[step][column][half]`.
    pub(super) values: &'a [i16],
    /// Columns, a multiple of 16.
    pub(super) width: usize,
    /// Rows of digits.
    pub(super) rows: usize,
    /// `[row][step]`: the higher digits of two halves as the halves of an i32, the even one low.
    pub(super) high: &'a [i32],
    /// The same of the lower digits.
    pub(super) low: &'a [i32],
}

impl Product<'_> {
    fn steps(&self) -> usize {
        self.values.len() / (2 * self.width)
    }

    fn check(&self, out_high: &[i32], out_low: &[i32]) {
        let (steps, outputs) = (self.steps(), self.rows * self.width);
        assert!(self.width.is_multiple_of(LANES) && self.values.len() == steps * 2 * self.width);
        assert!(self.high.len() >= self.rows * steps && self.low.len() >= self.rows * steps);
        assert!(out_high.len() >= outputs && out_low.len() >= outputs);
    }
}

/// Computes a [`Product`] into `[row][column]`.
pub(super) fn multiply(level: Level, p: &Product<'_>, out_high: &mut [i32], out_low: &mut [i32]) {
    p.check(out_high, out_low);
    match level {
        Level::Scalar => {
            for row in 0..p.rows {
                scalar(p, row, p.high, &mut out_high[row * p.width..][..p.width]);
                scalar(p, row, p.low, &mut out_low[row * p.width..][..p.width]);
            }
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX2; the lengths are checked above.
        Level::Avx2(_) => unsafe { x86::multiply_avx2(p, out_high, out_low) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves AVX2 and AVX-VNNI; the lengths are checked above.
        Level::AvxVnni(_) => unsafe { x86::multiply_avx_vnni(p, out_high, out_low) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves these features; the lengths are checked above.
        Level::Avx512(_) | Level::Amx(_) => unsafe { x86::multiply_avx512(p, out_high, out_low) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: the token proves NEON; the lengths are checked above.
        Level::Neon(_) | Level::NeonDot(_) => unsafe { neon::multiply(p, out_high, out_low) },
    }
}

fn scalar(p: &Product<'_>, row: usize, digits: &[i32], out: &mut [i32]) {
    out.fill(0);
    let steps = p.values.chunks_exact(2 * p.width);
    for (values, two) in steps.zip(&digits[row * p.steps()..]) {
        let (even, odd) = (i32::from(*two as i16), *two >> 16);
        for (out, v) in out.iter_mut().zip(values.chunks_exact(2)) {
            *out += i32::from(v[0]) * even + i32::from(v[1]) * odd;
        }
    }
}
