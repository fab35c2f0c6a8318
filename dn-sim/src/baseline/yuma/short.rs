//! Vectors of `f32`.

use pulp::Simd;

use super::lanes::{LANES, Row};
use super::number::{Liquid, POWER_OF_TWO, ROUNDING, ShortLiquid};
use super::pack::Pack;

/// On vectors of an instruction set.
#[derive(Debug, Clone, Copy)]
pub struct Short<S>(pub S);

impl<S: Simd> Pack<f32> for Short<S> {
    const PARTS: usize = LANES / S::F32_LANES;
    type Of = S::f32s;
    type Divisors = S::f32s;
    type Mask = S::m32s;
    type Units = S::i32s;

    #[inline(always)]
    fn all(self, number: f32) -> S::f32s {
        self.0.splat_f32s(number)
    }

    #[inline(always)]
    fn load(self, row: &Row<f32>, part: usize) -> S::f32s {
        S::as_simd_f32s(&row.0).0[part]
    }

    #[inline(always)]
    fn store(self, row: &mut Row<f32>, part: usize, numbers: S::f32s) {
        S::as_mut_simd_f32s(&mut row.0).0[part] = numbers;
    }

    #[inline(always)]
    fn add(self, left: S::f32s, right: S::f32s) -> S::f32s {
        self.0.add_f32s(left, right)
    }

    #[inline(always)]
    fn sub(self, left: S::f32s, right: S::f32s) -> S::f32s {
        self.0.sub_f32s(left, right)
    }

    #[inline(always)]
    fn mul(self, left: S::f32s, right: S::f32s) -> S::f32s {
        self.0.mul_f32s(left, right)
    }

    #[inline(always)]
    fn lower(self, left: S::f32s, right: S::f32s) -> S::f32s {
        self.0.min_f32s(left, right)
    }

    #[inline(always)]
    fn higher(self, left: S::f32s, right: S::f32s) -> S::f32s {
        self.0.max_f32s(left, right)
    }

    #[inline(always)]
    fn whole(self, mut numbers: S::f32s) -> S::f32s {
        for number in pulp::bytemuck::cast_slice_mut::<S::f32s, f32>(std::slice::from_mut(&mut numbers)) {
            *number = number.floor();
        }
        numbers
    }

    #[inline(always)]
    fn next(self, numbers: S::f32s) -> S::f32s {
        let s = self.0;
        s.transmute_f32s_u32s(s.add_u32s(s.transmute_u32s_f32s(numbers), s.splat_u32s(1)))
    }

    #[inline(always)]
    fn between(self, low: S::f32s, high: S::f32s) -> S::f32s {
        let s = self.0;
        let sum = s.add_u32s(s.transmute_u32s_f32s(low), s.transmute_u32s_f32s(high));
        s.transmute_f32s_u32s(s.wrapping_dyn_shr_u32s(sum, s.splat_u32s(1)))
    }

    #[inline(always)]
    fn rate(self, liquid: &Liquid<f32>, differences: S::f32s) -> S::f32s {
        let (s, l) = (self.0, ShortLiquid::new(liquid));
        let all = |number: f32| s.splat_f32s(number);
        let differences = s.min_f32s(s.max_f32s(differences, all(l.least)), all(l.most));
        let exponent = s.sub_f32s(all(l.offset), s.mul_f32s(all(l.slope), differences));
        let shifted = s.add_f32s(exponent, all(ROUNDING));
        let rest = s.sub_f32s(exponent, s.sub_f32s(shifted, all(ROUNDING)));
        let mut sum = all(POWER_OF_TWO[0]);
        for factor in &POWER_OF_TWO[1..] {
            sum = s.add_f32s(s.mul_f32s(sum, rest), all(*factor));
        }
        let whole = s.wrapping_dyn_shl_u32s(s.transmute_u32s_f32s(shifted), s.splat_u32s(23));
        let power = s.transmute_f32s_u32s(s.add_u32s(s.transmute_u32s_f32s(sum), whole));
        s.min_f32s(s.add_f32s(all(l.low), s.div_f32s(all(l.range), s.add_f32s(all(1.0), power))), all(l.high))
    }

    #[inline(always)]
    fn divisors(self, numbers: S::f32s) -> S::f32s {
        let s = self.0;
        let (zero, one) = (s.splat_f32s(0.0), s.splat_f32s(1.0));
        s.select_f32s(s.equal_f32s(numbers, zero), one, s.div_f32s(one, numbers))
    }

    #[inline(always)]
    fn all_over(self, divisor: f32) -> S::f32s {
        self.0.splat_f32s(divisor)
    }

    #[inline(always)]
    fn over(self, numbers: S::f32s, divisors: S::f32s) -> S::f32s {
        self.0.mul_f32s(numbers, divisors)
    }

    #[inline(always)]
    fn at_least(self, left: S::f32s, right: S::f32s) -> S::m32s {
        self.0.greater_than_or_equal_f32s(left, right)
    }

    #[inline(always)]
    fn choose(self, mask: S::m32s, yes: S::f32s, no: S::f32s) -> S::f32s {
        self.0.select_f32s(mask, yes, no)
    }

    #[inline(always)]
    fn everywhere(self, mask: S::m32s) -> bool {
        self.0.first_true_m32s(self.0.not_m32s(mask)) == S::M32_LANES
    }

    #[inline(always)]
    fn all_units(self, units: i32) -> S::i32s {
        self.0.splat_i32s(units)
    }

    #[inline(always)]
    fn add_behind(self, sum: S::i32s, units: i32, votes: S::f32s, least: S::f32s) -> S::i32s {
        let s = self.0;
        let mask = s.greater_than_or_equal_f32s(votes, least);
        s.add_i32s(sum, s.select_i32s(mask, s.splat_i32s(units), s.splat_i32s(0)))
    }

    #[inline(always)]
    fn enough(self, units: S::i32s, support: S::i32s) -> S::m32s {
        self.0.greater_than_or_equal_i32s(units, support)
    }

    #[inline(always)]
    fn add_miners(self, sum: &mut Row<f32>, part: usize, numbers: S::f32s) {
        self.store(sum, part, self.0.add_f32s(self.load(sum, part), numbers));
    }
}
