//! The operations of an epoch on several miners at once, and how they are done: on arrays, which the compiler turns into vectors as it can, or
//! on vectors. The bits are the same.

use std::fmt::Debug;

use super::lanes::{LANES, Row};
use super::number::{Liquid, Number};

/// Does to a part of a row what Yuma needs.
pub trait Pack<N: Number>: Copy + Debug {
    /// How many parts a row has.
    const PARTS: usize;
    /// The numbers of a part.
    type Of: Copy + Debug;
    /// What divides each of them.
    type Divisors: Copy + Debug;
    /// Which of them.
    type Mask: Copy + Debug;
    /// Units of stake for each of them.
    type Units: Copy + Debug;

    /// The same in all lanes.
    fn all(self, number: N) -> Self::Of;
    /// Part `part` of a row.
    fn load(self, row: &Row<N>, part: usize) -> Self::Of;
    /// Writes part `part` of a row.
    fn store(self, row: &mut Row<N>, part: usize, numbers: Self::Of);
    /// Sums.
    fn add(self, left: Self::Of, right: Self::Of) -> Self::Of;
    /// Differences.
    fn sub(self, left: Self::Of, right: Self::Of) -> Self::Of;
    /// Products.
    fn mul(self, left: Self::Of, right: Self::Of) -> Self::Of;
    /// The smaller of two.
    fn lower(self, left: Self::Of, right: Self::Of) -> Self::Of;
    /// The larger of two.
    fn higher(self, left: Self::Of, right: Self::Of) -> Self::Of;
    /// Without fractions.
    fn whole(self, numbers: Self::Of) -> Self::Of;
    /// The next larger numbers.
    fn next(self, numbers: Self::Of) -> Self::Of;
    /// The numbers halfway, counted in numbers that the type has.
    fn between(self, low: Self::Of, high: Self::Of) -> Self::Of;
    /// [`Number::rate`].
    fn rate(self, liquid: &Liquid<N>, differences: Self::Of) -> Self::Of;
    /// Prepares divisions.
    fn divisors(self, numbers: Self::Of) -> Self::Divisors;
    /// The same division in all lanes.
    fn all_over(self, divisor: N::Divisor) -> Self::Divisors;
    /// Quotients.
    fn over(self, numbers: Self::Of, divisors: Self::Divisors) -> Self::Of;
    /// Where `left` is at least `right`.
    fn at_least(self, left: Self::Of, right: Self::Of) -> Self::Mask;
    /// `yes` where the mask is, `no` else.
    fn choose(self, mask: Self::Mask, yes: Self::Of, no: Self::Of) -> Self::Of;
    /// Whether the mask is everywhere.
    fn everywhere(self, mask: Self::Mask) -> bool;
    /// The same units in all lanes.
    fn all_units(self, units: N::Units) -> Self::Units;
    /// Adds `units` where the vote is at least `least`.
    fn add_behind(self, sum: Self::Units, units: N::Units, votes: Self::Of, least: Self::Of) -> Self::Units;
    /// Where units are at least `support`.
    fn enough(self, units: Self::Units, support: Self::Units) -> Self::Mask;
    /// Adds miners to a sum over miners: in their order, or lane by lane.
    fn add_miners(self, sum: &mut Row<N>, part: usize, numbers: Self::Of);
}

/// On arrays.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

#[inline(always)]
fn map<A: Copy, B: Copy>(numbers: [A; LANES], change: impl Fn(A) -> B) -> [B; LANES] {
    let mut changed = [change(numbers[0]); LANES];
    for lane in 1..LANES {
        changed[lane] = change(numbers[lane]);
    }
    changed
}

#[inline(always)]
fn zip<A: Copy, B: Copy, C: Copy>(
    left: [A; LANES],
    right: [B; LANES],
    join: impl Fn(A, B) -> C,
) -> [C; LANES] {
    let mut joined = [join(left[0], right[0]); LANES];
    for lane in 1..LANES {
        joined[lane] = join(left[lane], right[lane]);
    }
    joined
}

impl<N: Number> Pack<N> for Plain {
    const PARTS: usize = 1;
    type Of = [N; LANES];
    type Divisors = [N::Divisor; LANES];
    type Mask = [bool; LANES];
    type Units = [N::Units; LANES];

    #[inline(always)]
    fn all(self, number: N) -> [N; LANES] {
        [number; LANES]
    }

    #[inline(always)]
    fn load(self, row: &Row<N>, _: usize) -> [N; LANES] {
        row.0
    }

    #[inline(always)]
    fn store(self, row: &mut Row<N>, _: usize, numbers: [N; LANES]) {
        row.0 = numbers;
    }

    #[inline(always)]
    fn add(self, left: [N; LANES], right: [N; LANES]) -> [N; LANES] {
        zip(left, right, |left, right| left + right)
    }

    #[inline(always)]
    fn sub(self, left: [N; LANES], right: [N; LANES]) -> [N; LANES] {
        zip(left, right, |left, right| left - right)
    }

    #[inline(always)]
    fn mul(self, left: [N; LANES], right: [N; LANES]) -> [N; LANES] {
        zip(left, right, |left, right| left * right)
    }

    #[inline(always)]
    fn lower(self, left: [N; LANES], right: [N; LANES]) -> [N; LANES] {
        zip(left, right, N::lower)
    }

    #[inline(always)]
    fn higher(self, left: [N; LANES], right: [N; LANES]) -> [N; LANES] {
        zip(left, right, N::higher)
    }

    #[inline(always)]
    fn whole(self, numbers: [N; LANES]) -> [N; LANES] {
        map(numbers, N::whole)
    }

    #[inline(always)]
    fn next(self, numbers: [N; LANES]) -> [N; LANES] {
        map(numbers, N::next)
    }

    #[inline(always)]
    fn between(self, low: [N; LANES], high: [N; LANES]) -> [N; LANES] {
        zip(low, high, N::between)
    }

    #[inline(always)]
    fn rate(self, liquid: &Liquid<N>, differences: [N; LANES]) -> [N; LANES] {
        map(differences, |difference| N::rate(difference, liquid))
    }

    #[inline(always)]
    fn divisors(self, numbers: [N; LANES]) -> [N::Divisor; LANES] {
        map(numbers, N::divisor)
    }

    #[inline(always)]
    fn all_over(self, divisor: N::Divisor) -> [N::Divisor; LANES] {
        [divisor; LANES]
    }

    #[inline(always)]
    fn over(self, numbers: [N; LANES], divisors: [N::Divisor; LANES]) -> [N; LANES] {
        zip(numbers, divisors, N::over)
    }

    #[inline(always)]
    fn at_least(self, left: [N; LANES], right: [N; LANES]) -> [bool; LANES] {
        zip(left, right, |left, right| left >= right)
    }

    #[inline(always)]
    fn choose(self, mask: [bool; LANES], yes: [N; LANES], no: [N; LANES]) -> [N; LANES] {
        zip(mask, zip(yes, no, |yes, no| (yes, no)), |yes, (this, that)| if yes { this } else { that })
    }

    #[inline(always)]
    fn everywhere(self, mask: [bool; LANES]) -> bool {
        mask.into_iter().fold(true, |all, one| all & one)
    }

    #[inline(always)]
    fn all_units(self, units: N::Units) -> [N::Units; LANES] {
        [units; LANES]
    }

    #[inline(always)]
    fn add_behind(
        self,
        sum: [N::Units; LANES],
        units: N::Units,
        votes: [N; LANES],
        least: [N; LANES],
    ) -> [N::Units; LANES] {
        let behind = zip(votes, least, |vote, least| N::when(units, vote, least));
        zip(sum, behind, |sum, behind| sum + behind)
    }

    #[inline(always)]
    fn enough(self, units: [N::Units; LANES], support: [N::Units; LANES]) -> [bool; LANES] {
        zip(units, support, |units, support| units >= support)
    }

    #[inline(always)]
    fn add_miners(self, sum: &mut Row<N>, _: usize, numbers: [N; LANES]) {
        if N::MINERS_IN_ORDER {
            sum.0[0] = numbers.into_iter().fold(sum.0[0], |sum, number| sum + number);
        } else {
            sum.add(&Row(numbers));
        }
    }
}
