//! AVX2, AVX-VNNI and AVX-512 bodies of the product: tiles of rows by columns whose sums stay in registers.

#![allow(clippy::needless_range_loop, reason = "indices name columns of several arrays at once")]

use std::arch::x86_64::*;

use super::Product;
use crate::cpu::vnni::{add_pairs_256, add_pairs_512};

/// Cuts the columns into tiles of four registers, then two, then one.
macro_rules! tiles {
    ($p:expr, $row:expr, $rows:literal, $lanes:literal, $tile:ident, $high:expr, $low:expr) => {{
        let mut column = 0;
        while column < $p.width {
            // SAFETY: the row and column tiles are inside what the caller checked.
            unsafe {
                match ($p.width - column) / $lanes {
                    4.. => $tile::<$rows, 4>($p, $row, column, $high, $low),
                    2..=3 => $tile::<$rows, 2>($p, $row, column, $high, $low),
                    _ => $tile::<$rows, 1>($p, $row, column, $high, $low),
                }
            }
            column += $lanes
                * match ($p.width - column) / $lanes {
                    4.. => 4,
                    2..=3 => 2,
                    _ => 1,
                };
        }
    }};
}

/// # Safety
/// [`Product::check`] holds for the outputs.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn multiply_avx512(p: &Product<'_>, high: &mut [i32], low: &mut [i32]) {
    let mut row = 0;
    while row < p.rows {
        // Three rows fill the registers; 2 + 2 is better than 3 + 1.
        let rows = match p.rows - row {
            2 | 4 => 2,
            1 => 1,
            _ => 3,
        };
        match rows {
            3 => tiles!(p, row, 3, 16, tile_avx512, high, low),
            2 => tiles!(p, row, 2, 16, tile_avx512, high, low),
            _ => tiles!(p, row, 1, 16, tile_avx512, high, low),
        }
        row += rows;
    }
}

/// `R` rows by `N` registers of sixteen columns.
///
/// # Safety
/// [`Product::check`] holds for the outputs; the tile lies inside the product.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn tile_avx512<const R: usize, const N: usize>(
    p: &Product<'_>,
    row: usize,
    column: usize,
    high: &mut [i32],
    low: &mut [i32],
) {
    let steps = p.steps();
    let mut sum = [[[_mm512_setzero_si512(); N]; 2]; R];
    for step in 0..steps {
        // SAFETY: step, rows and columns are inside the product, whose lengths are checked.
        unsafe {
            let from = p.values.as_ptr().add(2 * (step * p.width + column));
            let mut v = [_mm512_setzero_si512(); N];
            for (n, v) in v.iter_mut().enumerate() {
                *v = _mm512_loadu_si512(from.add(32 * n).cast());
            }
            for (r, sum) in sum.iter_mut().enumerate() {
                let at = (row + r) * steps + step;
                let h = _mm512_set1_epi32(*p.high.get_unchecked(at));
                let l = _mm512_set1_epi32(*p.low.get_unchecked(at));
                for n in 0..N {
                    sum[0][n] = add_pairs_512(sum[0][n], v[n], h);
                    sum[1][n] = add_pairs_512(sum[1][n], v[n], l);
                }
            }
        }
    }
    for (r, sum) in sum.iter().enumerate() {
        for n in 0..N {
            let at = (row + r) * p.width + column + 16 * n;
            // SAFETY: as above.
            unsafe {
                _mm512_storeu_si512(high.as_mut_ptr().add(at).cast(), sum[0][n]);
                _mm512_storeu_si512(low.as_mut_ptr().add(at).cast(), sum[1][n]);
            }
        }
    }
}

/// The 256-bit bodies differ in one instruction.
macro_rules! narrow {
    ($multiply:ident, $tile:ident, $features:literal, $dot:expr) => {
        /// # Safety
        /// [`Product::check`] holds for the outputs.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $multiply(p: &Product<'_>, high: &mut [i32], low: &mut [i32]) {
            for row in 0..p.rows {
                tiles!(p, row, 1, 8, $tile, high, low);
            }
        }

        /// `R` rows by `N` registers of eight columns.
        ///
        /// # Safety
        /// [`Product::check`] holds for the outputs; the tile lies inside the product.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn $tile<const R: usize, const N: usize>(
            p: &Product<'_>,
            row: usize,
            column: usize,
            high: &mut [i32],
            low: &mut [i32],
        ) {
            let steps = p.steps();
            let mut sum = [[[_mm256_setzero_si256(); N]; 2]; R];
            for step in 0..steps {
                // SAFETY: step, rows and columns are inside the product, whose lengths are checked.
                unsafe {
                    let from = p.values.as_ptr().add(2 * (step * p.width + column));
                    let mut v = [_mm256_setzero_si256(); N];
                    for (n, v) in v.iter_mut().enumerate() {
                        *v = _mm256_loadu_si256(from.add(16 * n).cast());
                    }
                    for (r, sum) in sum.iter_mut().enumerate() {
                        let at = (row + r) * steps + step;
                        let h = _mm256_set1_epi32(*p.high.get_unchecked(at));
                        let l = _mm256_set1_epi32(*p.low.get_unchecked(at));
                        for n in 0..N {
                            sum[0][n] = $dot(sum[0][n], v[n], h);
                            sum[1][n] = $dot(sum[1][n], v[n], l);
                        }
                    }
                }
            }
            for (r, sum) in sum.iter().enumerate() {
                for n in 0..N {
                    let at = (row + r) * p.width + column + 8 * n;
                    // SAFETY: as above.
                    unsafe {
                        _mm256_storeu_si256(high.as_mut_ptr().add(at).cast(), sum[0][n]);
                        _mm256_storeu_si256(low.as_mut_ptr().add(at).cast(), sum[1][n]);
                    }
                }
            }
        }
    };
}

#[inline]
#[target_feature(enable = "avx2")]
fn add_pairs(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
}

narrow!(multiply_avx2, tile_avx2, "avx2", add_pairs);
narrow!(multiply_avx_vnni, tile_avx_vnni, "avx2,avxvnni", add_pairs_256);
