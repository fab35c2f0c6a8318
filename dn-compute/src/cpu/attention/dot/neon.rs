//! NEON body of the product: two rows by sixteen columns of sums in registers, 16-bit multiply-add long.

use std::arch::aarch64::*;

use super::Product;

/// # Safety
/// [`Product::check`] holds for the outputs.
#[target_feature(enable = "neon")]
pub(super) unsafe fn multiply(p: &Product<'_>, high: &mut [i32], low: &mut [i32]) {
    let mut row = 0;
    while row < p.rows {
        for column in (0..p.width).step_by(16) {
            // SAFETY: the tile lies inside what the caller checked.
            unsafe {
                if p.rows - row >= 2 {
                    tile::<2>(p, row, column, high, low);
                } else {
                    tile::<1>(p, row, column, high, low);
                }
            }
        }
        row += 2;
    }
}

/// `R` rows by sixteen columns.
///
/// # Safety
/// [`Product::check`] holds for the outputs; the tile lies inside the product.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn tile<const R: usize>(
    p: &Product<'_>,
    row: usize,
    column: usize,
    high: &mut [i32],
    low: &mut [i32],
) {
    let steps = p.steps();
    let mut sum = [[[vdupq_n_s32(0); 4]; 2]; R];
    for step in 0..steps {
        // SAFETY: step, rows and columns are inside the product, whose lengths are checked.
        unsafe {
            let from = p.values.as_ptr().add(2 * (step * p.width + column));
            // The first and the second half of each pair, eight columns each.
            let (a, b) = (vld2q_s16(from), vld2q_s16(from.add(16)));
            for (r, sum) in sum.iter_mut().enumerate() {
                let at = (row + r) * steps + step;
                let digits = [*p.high.get_unchecked(at), *p.low.get_unchecked(at)];
                for (sum, digits) in sum.iter_mut().zip(digits) {
                    let pair = vreinterpret_s16_s32(vdup_n_s32(digits));
                    for (sum, v) in sum.chunks_exact_mut(2).zip([a, b]) {
                        sum[0] = vmlal_lane_s16::<0>(sum[0], vget_low_s16(v.0), pair);
                        sum[1] = vmlal_high_lane_s16::<0>(sum[1], v.0, pair);
                        sum[0] = vmlal_lane_s16::<1>(sum[0], vget_low_s16(v.1), pair);
                        sum[1] = vmlal_high_lane_s16::<1>(sum[1], v.1, pair);
                    }
                }
            }
        }
    }
    for (r, sum) in sum.iter().enumerate() {
        let at = (row + r) * p.width + column;
        for n in 0..4 {
            // SAFETY: as above.
            unsafe {
                vst1q_s32(high.as_mut_ptr().add(at + 4 * n), sum[0][n]);
                vst1q_s32(low.as_mut_ptr().add(at + 4 * n), sum[1][n]);
            }
        }
    }
}
