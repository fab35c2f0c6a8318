//! From the rows of an encoder's last layer to one vector of length one, in integers.
//!
//! 1. Each row is quantised as a linear input: `A[t] * 2^e[t]`. [`Pooling::First`] keeps `N = A[0]`; [`Pooling::Mean`] takes, with
//!    `E` the largest `e`, `N[c] = sum over t of RNE(A[t][c] * 2^16 / 2^(E - e[t]))`. How many rows there are does not
//!    matter for the direction, so nothing is divided.
//! 2. With `top = max |N|` and `s = flog2(top) - 22`: `M = RNE(N * 2^-s)`, so `|M| <= 2^23`; `Q = sum M^2`.
//! 3. `w = isqrt(floor(M^2 * 2^50 / Q))`; the element is `(w + 1) >> 1` with the sign of `M`: the nearest integer to
//!    `2^24 * M / sqrt(Q)`, halves away from zero. A vector of zeros stays zero.
//!
//! `|N| < 2^17 * 2^31 = 2^48` for 131,072 rows; `Q <= 32768 * 2^46 = 2^61`; `M^2 * 2^50 <= 2^96`. Every sum is exact, so neither the order
//! of the rows nor that of the elements matters.

pub use dn_core::objects::Pooling;

use super::error::{NumericError, Op};
use super::exp2::shift_round_i64;
use super::limits::{MAX_COLS, MAX_CONTEXT};
use super::linear::check;
use super::quantise::{quantise, rebase};

/// What 1 is in the integers of a pooled vector: they stand for multiples of `2^-24`, each an exact f32.
pub const ONE: i32 = 1 << 24;

/// Pools rows of `cols` elements and brings the result to length one, in units of `1 / ONE`.
///
/// # Shape
/// `x`: one or more rows of `cols`.
///
/// # Errors
/// Lengths outside the limits; an element that is not finite or of `2^100` and more.
pub fn pool(pooling: Pooling, cols: usize, x: &[f32]) -> Result<Vec<i32>, NumericError> {
    let op = Op::Pool;
    if !(1..=MAX_COLS).contains(&cols) {
        return Err(NumericError::Limit { op, what: "columns", min: 1, max: MAX_COLS, found: cols });
    }
    let rows = x.len() / cols;
    check(op, "elements of x", rows * cols, x.len())?;
    if !(1..=MAX_CONTEXT).contains(&rows) {
        return Err(NumericError::Limit { op, what: "rows", min: 1, max: MAX_CONTEXT, found: rows });
    }
    let used = match pooling {
        Pooling::Mean => rows,
        Pooling::First => 1,
    };
    let mut a = vec![0i16; used * cols];
    let mut exponents = Vec::with_capacity(used);
    for (t, (a, x)) in a.chunks_exact_mut(cols).zip(x.chunks_exact(cols)).enumerate() {
        exponents.push(quantise(op, "x", x, a).map_err(|e| rebase(e, t * cols))?);
    }
    let top = exponents.iter().copied().fold(i32::MIN, i32::max);
    let mut sums = vec![0i64; cols];
    for (row, exponent) in a.chunks_exact(cols).zip(&exponents) {
        let down = top.abs_diff(*exponent);
        for (sum, a) in sums.iter_mut().zip(row) {
            *sum += shift_round_i64(i64::from(*a) << 16, down);
        }
    }
    Ok(normalise(&sums))
}

/// Steps 2 and 3.
fn normalise(sums: &[i64]) -> Vec<i32> {
    let top = sums.iter().map(|n| n.unsigned_abs()).max().unwrap_or(0);
    if top == 0 {
        return vec![0; sums.len()];
    }
    let shift = top.ilog2() as i32 - 22;
    let held = |n: &i64| match shift {
        ..0 => n << -shift,
        _ => shift_round_i64(*n, shift.unsigned_abs()),
    };
    let held: Vec<i64> = sums.iter().map(held).collect();
    let squares: u64 = held.iter().map(|m| m.unsigned_abs().pow(2)).sum();
    let element = |m: &i64| {
        let w = ((u128::from(m.unsigned_abs().pow(2)) << 50) / u128::from(squares)).isqrt();
        // At most 2^25, for no square is above the sum of squares.
        let v = ((w + 1) >> 1) as i32;
        if *m < 0 { -v } else { v }
    };
    held.iter().map(element).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_one_whatever_the_scale() {
        assert_eq!(pool(Pooling::Mean, 2, &[3.0, -4.0]).unwrap(), [10_066_330, -13_421_773]);
        assert_eq!(
            pool(Pooling::Mean, 2, &[3.0 * 2f32.powi(-70), -4.0 * 2f32.powi(-70)]).unwrap()[1],
            -13_421_773
        );
        assert_eq!(pool(Pooling::Mean, 1, &[-1e-9]).unwrap(), [-ONE]);
        assert_eq!(pool(Pooling::Mean, 3, &[0.0, -0.0, 1e-38]).unwrap(), [0, 0, 0]);
        // Opposite rows cancel; the first alone stays.
        let both = [1.0, 2.0, -1.0, -2.0];
        assert_eq!(pool(Pooling::Mean, 2, &both).unwrap(), [0, 0]);
        assert_eq!(pool(Pooling::First, 2, &both).unwrap(), pool(Pooling::First, 2, &[1.0, 2.0]).unwrap());
    }

    #[test]
    fn sums_of_the_most_and_longest_rows_fit() {
        let x = vec![32_639.0f32; MAX_CONTEXT];
        assert_eq!(pool(Pooling::Mean, 1, &x).unwrap(), [ONE]);
        let x = vec![-32_639.0f32; MAX_COLS];
        let v = pool(Pooling::Mean, MAX_COLS, &x).unwrap();
        assert!(v.iter().all(|v| *v == -92_682), "{}", v[0]); // 2^24 / sqrt(2^15) = 92,681.9
    }

    #[test]
    fn what_cannot_be_pooled_is_named() {
        let op = Op::Pool;
        assert_eq!(
            pool(Pooling::Mean, 2, &[1.0, 2.0, 3.0, f32::NAN]),
            Err(NumericError::NonFinite { op, input: "x", index: 3 })
        );
        assert!(matches!(pool(Pooling::Mean, 2, &[]), Err(NumericError::Limit { what: "rows", .. })));
        assert!(matches!(pool(Pooling::Mean, 0, &[]), Err(NumericError::Limit { what: "columns", .. })));
        assert!(matches!(pool(Pooling::Mean, 2, &[1.0; 3]), Err(NumericError::Shape { .. })));
    }
}
