//! Vectors whose lanes are miners, and sums in a fixed order.

use super::Number;
use super::pack::Pack;

/// How many miners are computed side by side.
pub(super) const LANES: usize = 16;

/// A number for each of [`LANES`] miners; what fills the lanes beyond the last miner is computed as well and thrown away.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(align(64))]
pub struct Row<N>(pub(super) [N; LANES]);

impl<N: Number> Row<N> {
    pub(super) const ZERO: Self = Self([N::ZERO; LANES]);

    /// Adds lane by lane.
    #[inline(always)]
    pub(super) fn add(&mut self, other: &Self) {
        for lane in 0..LANES {
            self.0[lane] = self.0[lane] + other.0[lane];
        }
    }

    /// The sum of all lanes.
    #[inline(always)]
    pub(super) fn total(mut self) -> N {
        let mut width = LANES / 2;
        while width > 0 {
            for lane in 0..width {
                self.0[lane] = self.0[lane] + self.0[lane + width];
            }
            width /= 2;
        }
        self.0[0]
    }
}

/// How many validators are taken at a time: their sums do not wait for each other.
pub(super) const GROUP: usize = 4;

/// Something of each of [`GROUP`] validators.
pub(super) type Group<T> = [T; GROUP];

/// Puts validators into groups; what is missing in the last is `none`.
pub(super) fn grouped<T: Copy>(all: &[T], none: T) -> Vec<Group<T>> {
    let group = |part: &[T]| std::array::from_fn(|at| part.get(at).copied().unwrap_or(none));
    all.chunks(GROUP).map(group).collect()
}

/// The most partial sums.
const MOST_PARTS: usize = 16;

/// A sum over validators for each miner: [`Number::PARTS`] sums of every so-manieth validator, then their sum.
#[derive(Debug)]
pub(super) struct OverValidators<N: Number, P: Pack<N>>([P::Of; MOST_PARTS]);

impl<N: Number, P: Pack<N>> OverValidators<N, P> {
    #[inline(always)]
    pub(super) fn new(p: P) -> Self {
        Self([p.all(N::ZERO); MOST_PARTS])
    }

    #[inline(always)]
    pub(super) fn add(&mut self, p: P, group: usize, at: usize, numbers: P::Of) {
        let sum = &mut self.0[(group * GROUP + at) % N::PARTS];
        *sum = p.add(*sum, numbers);
    }

    #[inline(always)]
    pub(super) fn total(mut self, p: P) -> P::Of {
        let mut width = N::PARTS / 2;
        while width > 0 {
            for part in 0..width {
                self.0[part] = p.add(self.0[part], self.0[part + width]);
            }
            width /= 2;
        }
        self.0[0]
    }
}

/// The sum of a vector: sixteen sums of every sixteenth term, then their sum.
pub(super) fn sum<N: Number>(values: &[N]) -> N {
    let mut lanes = Row::<N>::ZERO;
    for values in values.chunks(LANES) {
        for (lane, value) in lanes.0.iter_mut().zip(values) {
            *lane = *lane + *value;
        }
    }
    lanes.total()
}

/// Divides a vector by its sum unless that is zero.
pub(super) fn normalize<N: Number>(values: &mut [N]) {
    let divisor = sum(values).divisor();
    values.iter_mut().for_each(|value| *value = value.over(divisor));
}
