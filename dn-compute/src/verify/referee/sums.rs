//! Rows that are summed: linear layers and norms, range by range.

use super::{Bench, Finding, Wrong, wrong_claim, wrong_opening};
use crate::spec::limits::MAX_EXPONENT;
use crate::spec::linear::exact_sum;
use crate::spec::quantise::{ZERO_EXPONENT, exponent};
use crate::spec::{RmsNormPlan, float};
use crate::tensors::Slot;
use crate::verify::claim::{Parts, RANGE, Sum};
use crate::verify::meter;

/// Exponent of a row whose largest magnitude has these bits; `None` where it cannot be quantised.
pub(crate) fn row_exponent(largest: u32) -> Option<i32> {
    let fits = largest < ((127 + MAX_EXPONENT) as u32) << 23;
    fits.then(|| exponent(float::flush(f32::from_bits(largest))))
}

/// Bits of the largest magnitude.
pub(crate) fn largest(x: &[f32]) -> u32 {
    x.iter().fold(0, |m, v| m.max(v.to_bits() & 0x7fff_ffff))
}

/// Quantises under an exponent that fits.
pub(crate) fn integers(x: &[f32], et: i32) -> Vec<i16> {
    if et == ZERO_EXPONENT {
        return vec![0; x.len()];
    }
    let factor = f32::from_bits(((127 - et) as u32) << 23);
    x.iter().map(|v| (v * factor).round_ties_even() as i16).collect()
}

/// Exponent and exact sum of a row that consists of these ranges.
fn combined(sums: &[Sum]) -> Option<(i32, i64)> {
    meter::steps(sums.len());
    let et = row_exponent(sums.iter().map(|s| s.largest).max()?)?;
    let total = sums.iter().try_fold(0i64, |total, s| total.checked_add(s.sum))?;
    Some((et, total))
}

impl Bench<'_> {
    /// Judges a row of `cols` values from `base` on, in ranges: `share` is a range's exact sum of its integers, `finish` the element
    /// from exponent and total.
    fn summed(
        &self,
        (len, base, cols): (usize, usize, usize),
        share: impl Fn(std::ops::Range<usize>, &[i16]) -> i64,
        finish: impl Fn(i32, i64) -> Option<f32>,
    ) -> Finding {
        let ranges = super::ranges(cols);
        let pick = self.opening.pick as usize;
        if pick >= ranges {
            return Err(wrong_opening("picked range", ranges as u64 - 1, pick as u64));
        }
        let range = pick * RANGE..cols.min((pick + 1) * RANGE);
        let x = self.input(0, 0, len, base + range.start..base + range.end)?;
        let own = |et: i32| {
            meter::steps(3 * x.len());
            Sum { largest: largest(&x), sum: share(range.clone(), &integers(&x, et)) }
        };
        let sums = match (&self.claim.parts, ranges) {
            (Parts::None, 1) => {
                let Some(et) = row_exponent(largest(&x)) else { return Ok(Some(Wrong::Value)) };
                return Ok(match finish(et, own(et).sum) {
                    Some(expected) => self.value(expected),
                    None => Some(Wrong::Value),
                });
            }
            (Parts::Sums { sums }, 2..) if sums.len() == ranges => sums,
            (Parts::Sums { sums }, _) => {
                return Err(wrong_claim("number of ranges", ranges as u64, sums.len() as u64));
            }
            _ => return Err(wrong_claim("number of ranges", ranges as u64, 0)),
        };
        let Some((et, total)) = combined(sums) else { return Ok(Some(Wrong::Combination)) };
        match finish(et, total) {
            Some(expected) if self.value(expected).is_none() => {}
            _ => return Ok(Some(Wrong::Combination)),
        }
        // Checked before the integers: a row's exponent fits every range whose largest magnitude is stated rightly.
        let part = Some(Wrong::Part { index: self.opening.pick });
        if largest(&x) != sums[pick].largest {
            return Ok(part);
        }
        Ok(if own(et) == sums[pick] { None } else { part })
    }

    pub(super) fn linear(&self, weight: Slot) -> Finding {
        self.expect_rows(1)?;
        let (cols, _) = weight.shape(&self.geometry.h);
        let (matrix, row) = self.matrix_row(weight, self.element())?;
        let share = |range: std::ops::Range<usize>, a: &[i16]| exact_sum(matrix.row(row).columns(range), a);
        let er = matrix.row_exponent(row);
        self.summed((cols as usize, 0, cols as usize), share, |et, total| {
            // Beyond this no honest sum goes, and the exponent stays exact.
            (total.unsigned_abs() < 1 << 53).then(|| float::finish(total, er + et))
        })
    }

    pub(super) fn norm(&self, weight: Slot) -> Finding {
        self.expect_rows(2)?;
        let (cols, _) = weight.shape(&self.geometry.h);
        let (cols, element, len) = (cols as usize, self.element(), self.op.len);
        let base = element / cols * cols;
        let eps = f32::from_bits(self.geometry.h.norm_epsilon_bits);
        let plan = RmsNormPlan { tokens: 1, cols, eps };
        let x = self.input(1, 0, len, element..element + 1)?[0];
        let w = self.vector_value(weight, element - base)?;
        let share =
            |_, a: &[i16]| a.iter().map(|a| i64::from(a.unsigned_abs()) * i64::from(a.unsigned_abs())).sum();
        self.summed((len, base, cols), share, |et, total| {
            let sum = u64::try_from(total).ok().filter(|sum| *sum < 1 << 46)?;
            let factor = plan.factor(sum, et).ok()?;
            Some(float::mul(float::mul(x, factor), w))
        })
    }
}

/// The ranges of a row, for whoever has to state them; none where the row cannot be quantised.
#[cfg(feature = "engine")]
pub(crate) fn state(x: &[f32], share: impl Fn(std::ops::Range<usize>, &[i16]) -> i64) -> Vec<Sum> {
    let Some(et) = row_exponent(largest(x)) else { return Vec::new() };
    let range = |(i, part): (usize, &[f32])| Sum {
        largest: largest(part),
        sum: share(i * RANGE..i * RANGE + part.len(), &integers(part, et)),
    };
    x.chunks(RANGE).enumerate().map(range).collect()
}
