//! The confidence bound by 64-bit arithmetic, for one count and for many.
//!
//! `y = √(ab/(n+1))` is estimated to 2^-36: `1/√(ab(n+1))` from the table, times `ab`, and one step of Newton's method by the exact rest
//! `ab − y²(n+1)`, which is so small that it is right modulo 2^64. Then one division, by the table and two exact rests. What remains is an interval in
//! which the bound lies: where a whole number of 2^-24 is in it, the definition decides.

use super::{Counts, ONE};
use crate::params::Params;
use crate::root::{
    LANES, Lanes, even_zeros, narrow, reciprocal, reciprocal_line, reciprocal_root, root_line,
};

/// By how much numbers are scaled up, so that they start in their first bit, or in their first two.
#[derive(Clone, Copy)]
struct Scales {
    /// `ab`. Even.
    ab: u64,
    /// The product of the high half of that and `n + 1`. Even, at most the scale of `ab`.
    radicand: u64,
    n: u64,
}

/// What the bound of a count is made of: `(a, n, ab)`.
#[inline(always)]
const fn parts(good: u32, bad: u32) -> (u64, u64, u64) {
    let (a, b) = (good as u64 + ONE, bad as u64 + ONE);
    (a, a + b, narrow(a, b))
}

/// The radicand, scaled to at least 2^62; `n`, scaled to at least 2^63; and how they are scaled.
#[inline(always)]
const fn scaled(good: u32, bad: u32) -> (u64, u64, Scales) {
    let (_, n, ab) = parts(good, bad);
    let up = even_zeros(ab);
    let product = narrow((ab << up) >> 32, n + ONE);
    let scales = Scales { ab: up, radicand: even_zeros(product), n: n.leading_zeros() as u64 };
    (product << scales.radicand, n << scales.n, scales)
}

/// The bound over 24 bits, and whether there is doubt about its last one, from the two reciprocals of [`scaled`]. `z` is the confidence.
#[inline(always)]
const fn bound(good: u32, bad: u32, z: u32, scales: Scales, r: u64, t: u64) -> (u64, bool) {
    let (a, n, ab) = parts(good, bad);
    // y in 2^-e: 2^21 and a little less to 2^24, low by at most 2^-18.8 of it. 7 ≤ e ≤ 16.
    let y = narrow((ab << scales.ab) >> 32, r) >> 39;
    let e = 7 + (scales.ab - scales.radicand) / 2;
    // (ab − y²(n+1)) in 2^-2e, at least 0 and below 2^62; scaled, 2^-17.8 of 2^78.
    let rest = (ab << (2 * e)).wrapping_sub(narrow(y, y).wrapping_mul(n + ONE)) << scales.radicand;
    // y in 2^-(e+20).
    let y = (y << 20) + (narrow(rest >> 29, r) >> 37);
    // z·2^24·√(ab/(n+1)) in the Q16 scale of `a`: below 2^48, by the bounds on z and the counts.
    let deviation = y.wrapping_mul(z as u64) >> (4 + e);
    let error = (deviation >> 36) + 2;
    // The exact value lies between `low` and `low + 2·error`. Where it is negative, both are below n: the error is below 2^13, n at least 2^17.
    let low = (a << 24).saturating_sub(deviation + error);
    // low/n is below 2^24. The reciprocal is low by at most 2^-17 of it: so is the quotient, by at most 2^8 + 2.
    let first = narrow(low >> 24, t) >> (70 - scales.n);
    let rest = low - narrow(first, n);
    let second = narrow(rest >> 8, t) >> (86 - scales.n);
    let rest = rest - narrow(second, n);
    // Now by at most one.
    let short = rest >= n;
    let rest = if short { rest - n } else { rest };
    (first + second + short as u64, rest + 2 * error >= n)
}

/// Marks a bound that is in doubt; bounds have 32 bits.
const DOUBT: u64 = 1 << 32;

/// The bound in Q32, if there is no doubt about it.
#[inline]
pub(super) const fn quick(Counts { good, bad }: Counts, params: &Params) -> Option<u32> {
    let (radicand, n, scales) = scaled(good, bad);
    let (r, t) = (reciprocal_root(radicand, root_line(radicand)), reciprocal(n, reciprocal_line(n)));
    let (bound, doubt) = bound(good, bad, params.confidence, scales, r, t);
    if doubt { None } else { Some((bound << 8) as u32) }
}

/// [`Counts::lower_bound`] of many, as Q32; each step is taken for all before the next.
#[inline(always)]
pub(crate) fn lower_bounds(good: &[u32; LANES], bad: &[u32; LANES], params: &Params, bounds: &mut Lanes) {
    let (mut roots, mut quotients) = ([0; LANES], [0; LANES]);
    let (mut ab, mut radicand, mut n) = ([0; LANES], [0; LANES], [0; LANES]);
    for row in 0..LANES {
        let scales;
        (roots[row], quotients[row], scales) = scaled(good[row], bad[row]);
        (ab[row], radicand[row], n[row]) = (scales.ab, scales.radicand, scales.n);
    }
    let (mut root_lines, mut lines) = ([0; LANES], [0; LANES]);
    for row in 0..LANES {
        (root_lines[row], lines[row]) = (root_line(roots[row]), reciprocal_line(quotients[row]));
    }
    let mut doubts = 0;
    for row in 0..LANES {
        let scales = Scales { ab: ab[row], radicand: radicand[row], n: n[row] };
        let (r, t) = (reciprocal_root(roots[row], root_lines[row]), reciprocal(quotients[row], lines[row]));
        let (found, doubt) = bound(good[row], bad[row], params.confidence, scales, r, t);
        bounds[row] = (found << 8) | (doubt as u64 * DOUBT);
        doubts |= bounds[row];
    }
    if doubts >= DOUBT {
        for (row, bound) in bounds.iter_mut().enumerate().filter(|(_, bound)| **bound >= DOUBT) {
            *bound = Counts { good: good[row], bad: bad[row] }.exact_bound(params).bits();
        }
    }
}
