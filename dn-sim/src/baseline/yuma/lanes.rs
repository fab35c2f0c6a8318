//! Sums in a fixed order that a processor can compute many terms of at once.

use super::Number;

const LANES: usize = 16;

/// The sum of `term` over two vectors of the same length: sixteen sums of every sixteenth term, then their sum.
#[inline]
pub(super) fn sum_of<N: Number>(left: &[N], right: &[N], term: impl Fn(N, N) -> N) -> N {
    fold_of(left, right, |sum, left, right| sum + term(left, right), |left, right| left + right)
}

/// The largest of a vector, at least zero.
#[inline]
pub(super) fn most<N: Number>(values: &[N]) -> N {
    fold_of(values, values, |most, value, _| most.higher(value), N::higher)
}

/// The largest of those in a vector that are below `high`; zero if there is none.
#[inline]
pub(super) fn most_below<N: Number>(values: &[N], high: N) -> N {
    let below = |value| if value < high { value } else { N::ZERO };
    fold_of(values, values, |most, value, _| most.higher(below(value)), N::higher)
}

#[inline]
fn fold_of<N: Number>(left: &[N], right: &[N], take: impl Fn(N, N, N) -> N, join: impl Fn(N, N) -> N) -> N {
    let mut lanes = [N::ZERO; LANES];
    let (left_chunks, left_rest) = left.as_chunks::<LANES>();
    let (right_chunks, right_rest) = right.as_chunks::<LANES>();
    for (left, right) in left_chunks.iter().zip(right_chunks) {
        for ((lane, left), right) in lanes.iter_mut().zip(left).zip(right) {
            *lane = take(*lane, *left, *right);
        }
    }
    for ((lane, left), right) in lanes.iter_mut().zip(left_rest).zip(right_rest) {
        *lane = take(*lane, *left, *right);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for at in 0..width {
            lanes[at] = join(lanes[at], lanes[at + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// The sum of a vector.
#[inline]
pub(super) fn sum<N: Number>(values: &[N]) -> N {
    sum_of(values, values, |value, _| value)
}

/// Divides a vector by its sum unless that is zero.
#[inline]
pub(super) fn normalize<N: Number>(values: &mut [N]) {
    let divisor = sum(values).divisor();
    values.iter_mut().for_each(|value| *value = value.over(divisor));
}

/// Every value changed by the one beside it.
#[inline]
pub(super) fn each<N: Number>(values: &mut [N], beside: &[N], change: impl Fn(N, N) -> N) {
    for (value, beside) in values.iter_mut().zip(beside) {
        *value = change(*value, *beside);
    }
}
