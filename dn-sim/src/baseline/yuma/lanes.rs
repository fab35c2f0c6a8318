//! Sums in a fixed order that a processor can compute many terms of at once.

use super::Number;

const LANES: usize = 16;

/// How much of `stake` votes at least `least`, and the largest vote below; zero if there is none.
#[inline]
pub(super) fn probe<N: Number>(votes: &[N], stake: &[N], least: N) -> (N, N) {
    let take = |(behind, below): (N, N), vote: N, stake: N| {
        (behind + stake.when(vote, least), below.higher(if vote < least { vote } else { N::ZERO }))
    };
    let join = |left: (N, N), right: (N, N)| (left.0 + right.0, left.1.higher(right.1));
    fold_pairs(votes, stake, take, join)
}

/// How much of `stake` votes at least `left`, and how much at least `right`.
#[inline]
pub(super) fn behind_both<N: Number>(votes: &[N], stake: &[N], left: N, right: N) -> (N, N) {
    let take =
        |sums: (N, N), vote, stake: N| (sums.0 + stake.when(vote, left), sums.1 + stake.when(vote, right));
    fold_pairs(votes, stake, take, |left, right| (left.0 + right.0, left.1 + right.1))
}

/// How much of `stake` votes above zero, and the largest vote.
#[inline]
pub(super) fn survey<N: Number>(votes: &[N], stake: &[N]) -> (N, N) {
    let take =
        |(behind, most): (N, N), vote: N, stake: N| (behind + stake.when(vote, N::LEAST), most.higher(vote));
    let join = |left: (N, N), right: (N, N)| (left.0 + right.0, left.1.higher(right.1));
    fold_pairs(votes, stake, take, join)
}

/// Two folds of the same terms, in the order of [`sum_of`].
#[inline]
fn fold_pairs<N: Number>(
    left: &[N],
    right: &[N],
    take: impl Fn((N, N), N, N) -> (N, N),
    join: impl Fn((N, N), (N, N)) -> (N, N),
) -> (N, N) {
    let (mut first, mut second) = ([N::ZERO; LANES], [N::ZERO; LANES]);
    let (left_chunks, left_rest) = left.as_chunks::<LANES>();
    let (right_chunks, right_rest) = right.as_chunks::<LANES>();
    for (left, right) in left_chunks.iter().zip(right_chunks) {
        for at in 0..LANES {
            (first[at], second[at]) = take((first[at], second[at]), left[at], right[at]);
        }
    }
    for (at, (left, right)) in left_rest.iter().zip(right_rest).enumerate() {
        (first[at], second[at]) = take((first[at], second[at]), *left, *right);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for at in 0..width {
            let (left, right) = ((first[at], second[at]), (first[at + width], second[at + width]));
            (first[at], second[at]) = join(left, right);
        }
        width /= 2;
    }
    (first[0], second[0])
}

/// The sum of `term` over two vectors of the same length: sixteen sums of every sixteenth term, then their sum.
#[inline]
pub(super) fn sum_of<N: Number>(left: &[N], right: &[N], term: impl Fn(N, N) -> N) -> N {
    let mut lanes = [N::ZERO; LANES];
    let (left_chunks, left_rest) = left.as_chunks::<LANES>();
    let (right_chunks, right_rest) = right.as_chunks::<LANES>();
    for (left, right) in left_chunks.iter().zip(right_chunks) {
        for ((lane, left), right) in lanes.iter_mut().zip(left).zip(right) {
            *lane = *lane + term(*left, *right);
        }
    }
    for ((lane, left), right) in lanes.iter_mut().zip(left_rest).zip(right_rest) {
        *lane = *lane + term(*left, *right);
    }
    total(lanes)
}

/// Every value changed by the two beside it into the first that `change` answers; the sum of the second, in the order of [`sum_of`].
#[inline]
pub(super) fn each_sum<N: Number>(
    values: &mut [N],
    left: &[N],
    right: &[N],
    change: impl Fn(N, N, N) -> (N, N),
) -> N {
    let mut lanes = [N::ZERO; LANES];
    let (value_chunks, value_rest) = values.as_chunks_mut::<LANES>();
    let (left_chunks, left_rest) = left.as_chunks::<LANES>();
    let (right_chunks, right_rest) = right.as_chunks::<LANES>();
    let take = |value: &mut N, lane: &mut N, left: &N, right: &N| {
        let (changed, term) = change(*value, *left, *right);
        *value = changed;
        *lane = *lane + term;
    };
    for ((values, left), right) in value_chunks.iter_mut().zip(left_chunks).zip(right_chunks) {
        for (((value, lane), left), right) in values.iter_mut().zip(&mut lanes).zip(left).zip(right) {
            take(value, lane, left, right);
        }
    }
    for (((value, lane), left), right) in value_rest.iter_mut().zip(&mut lanes).zip(left_rest).zip(right_rest)
    {
        take(value, lane, left, right);
    }
    total(lanes)
}

#[inline]
fn total<N: Number>(mut lanes: [N; LANES]) -> N {
    let mut width = LANES / 2;
    while width > 0 {
        for at in 0..width {
            lanes[at] = lanes[at] + lanes[at + width];
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
