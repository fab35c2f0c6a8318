//! Square roots of 64-bit integers, and the tables of reciprocals that the divisions of this crate start from.
//! Multiplications and shifts only; all factors have 32 bits, so that the lanes of a vector can do it too.
//!
//! `x` is scaled by an even power of two into `[1, 4)`. There the table holds `1/√x` at multiples of 1/256, and a straight line joins
//! its neighbours. The line is too high by at most `(1/256)²/8 · 3/4·x^-2 < 2^-19.4` of the function; the table is lower by as much, so that
//! the line errs downwards only, by at most 2^-19.3. One step of Newton's method turns an error of ε into at most `3/2·ε² + ε³/2`.

/// The 128-bit product as (high, low). Where a shifted product is wanted, shifting the factors so that it is the high half costs less than a
/// shift of 128 bits.
#[inline]
pub(crate) const fn product(a: u64, b: u64) -> (u64, u64) {
    let wide = a as u128 * b as u128;
    ((wide >> 64) as u64, wide as u64)
}

/// The product of two numbers of 32 bits. Bits above are not looked at: so a compiler knows that one narrow multiplication does it.
#[inline(always)]
pub(crate) const fn narrow(a: u64, b: u64) -> u64 {
    (a as u32 as u64) * (b as u32 as u64)
}

/// Rows that are worked on together, step by step: intermediate results stay in the first-level cache, and where a processor has
/// vectors of 64-bit integers a compiler can use them.
pub(crate) const LANES: usize = 64;

/// A number for each row.
pub(crate) type Lanes = [u64; LANES];

/// Entries per unit of `x`.
const STEPS: usize = 256;

/// Straight lines between neighbouring entries: the value in the low half, in the high half how much it falls to the next entry.
type Table<const N: usize> = [u64; N];

/// `1/√x` in Q31 at index `256·x` for `x` from 1 to below 4; the entries below are not used, and spare a subtraction and a bounds check.
static ROOTS: Table<{ 4 * STEPS }> = {
    // 2^31 / √(i / 256) = √(2^70 / i), less the 3·2^-21 by which a line is too high, and what roundings add here and in the argument.
    const fn entry(i: usize) -> u64 {
        let exact = ((1u128 << 70) / i as u128).isqrt() as u64;
        exact - (3 * exact).div_ceil(1 << 21) - 4
    }
    let mut table = [0; 4 * STEPS];
    let mut i = STEPS;
    while i < table.len() {
        table[i] = entry(i) | ((entry(i) - entry(i + 1)) << 32);
        i += 1;
    }
    table
};

/// `1/x` in Q31 at index `256·x` for `x` from 1 to below 2.
static RECIPROCALS: Table<{ 2 * STEPS }> = {
    // A line is too high by at most (1/256)²/8 · 2·x^-3.
    const fn entry(i: usize) -> u64 {
        let exact = (1 << 39) / i as u64;
        exact - exact.div_ceil(1 << 18) - 2
    }
    let mut table = [0; 2 * STEPS];
    let mut i = STEPS;
    while i < table.len() {
        table[i] = entry(i) | ((entry(i) - entry(i + 1)) << 32);
        i += 1;
    }
    table
};

/// The line above `x`: its entry, 24 bits between it and the next.
#[inline(always)]
const fn on_line(line: u64, between: u64) -> u64 {
    (line & 0xffff_ffff) - (narrow(line >> 32, between & 0xff_ffff) >> 24)
}

/// The line of [`reciprocal_root`] for `v` of at least 2^62.
#[inline(always)]
pub(crate) const fn root_line(v: u64) -> u64 {
    ROOTS[(v >> 54) as usize]
}

/// `2^31 / √(v / 2^62)` less at most 2^-19.2 of it, for `v` of at least 2^62 and its line; 0 for 0.
#[inline(always)]
pub(crate) const fn reciprocal_root(v: u64, line: u64) -> u64 {
    on_line(line, v >> 30)
}

/// The line of [`reciprocal`] for `v` of at least 2^63.
#[inline(always)]
pub(crate) const fn reciprocal_line(v: u64) -> u64 {
    RECIPROCALS[(v >> 55) as usize]
}

/// `2^31 / (v / 2^63)` less at most 2^-17 of it, for `v` of at least 2^63 and its line.
#[inline(always)]
pub(crate) const fn reciprocal(v: u64, line: u64) -> u64 {
    on_line(line, v >> 31)
}

/// `⌊√x⌋`.
#[inline]
pub(crate) const fn square_root(x: u64) -> u64 {
    let scale = even_zeros(x);
    finish_root(x, scale, root_line(x << scale))
}

/// [`square_root`] of each number. A processor looks ahead some hundred instructions: with all steps of one root before the next it would wait for
/// products most of the time. The look into the table is a loop of its own: it is the one step that vectors are bad at.
#[inline(always)]
pub(crate) fn square_roots(numbers: &mut Lanes) {
    let (mut lines, mut scales) = ([0; LANES], [0; LANES]);
    for ((line, scale), x) in lines.iter_mut().zip(&mut scales).zip(&*numbers) {
        *scale = even_zeros(*x);
        *line = x << *scale;
    }
    for line in &mut lines {
        *line = root_line(*line);
    }
    for ((x, line), scale) in numbers.iter_mut().zip(&lines).zip(&scales) {
        *x = finish_root(*x, *scale, *line);
    }
}

/// Leading zeros; of an odd number one less, and 0 of zero, which takes the same way as the rest: an early return would be a branch.
#[inline(always)]
pub(crate) const fn even_zeros(x: u64) -> u64 {
    x.leading_zeros() as u64 & 62
}

#[inline(always)]
const fn finish_root(x: u64, scale: u64, line: u64) -> u64 {
    let v = x << scale;
    let r = reciprocal_root(v, line);
    // s = v·r is √v·(1 − ε) with ε > 0, also where bits are cut off.
    let s = narrow(v >> 32, r) >> 30;
    // s + (v − s²)·r/2 is √v·(1 − 3/2·ε² + …): too low, by less than one.
    let step = narrow((v - narrow(s, s)) >> 16, r) >> 47;
    let root = (s + step) >> (scale / 2);
    root + (x - narrow(root, root) > 2 * root) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every square, and what is just below and above it, at both ends of every entry of the table and next to powers of two.
    #[test]
    fn roots_next_to_squares() {
        let near = |root: u64| root.saturating_sub(2)..=(root + 2).min(u64::from(u32::MAX));
        let entries = (STEPS..=4 * STEPS).map(|i| ((i as u128) << 54).isqrt() as u64);
        for root in entries.chain((0..32).map(|k| 1 << k)).flat_map(near) {
            for x in [(root * root).saturating_sub(1), root * root, root * root + 2 * root] {
                assert_eq!(square_root(x), x.isqrt(), "{x}");
            }
        }
        (0..=70_000)
            .chain(u64::MAX - 1000..=u64::MAX)
            .for_each(|x| assert_eq!(square_root(x), x.isqrt(), "{x}"));
    }

    /// `2^31 / √(v / 2^62)`: low, by less than 2^-19.2 of it. Squares, so that numbers stay whole: (1 − 2^-19.2)² > 1 − 2^-18.2 > 1 − 14/2^22.
    fn root_is_low_and_near(v: u64) -> bool {
        let r = reciprocal_root(v, root_line(v));
        // r²·v / 2^124, in 2^-60. As far as an argument that is low by 2^-31 of itself lets it: less than one.
        let scaled = |v: u64| (u128::from(r * r) * u128::from(v)) >> 64;
        scaled(v) > (1 << 60) - (14 << 38) && scaled(v + (v >> 31)) < 1 << 60
    }

    /// `2^31 / (v / 2^63)`: low, by less than 2^-17 of it.
    fn reciprocal_is_low_and_near(v: u64) -> bool {
        let scaled = (u128::from(reciprocal(v, reciprocal_line(v))) * u128::from(v)) >> 64; // in 2^-30
        scaled > (1 << 30) - (1 << 13) && scaled < 1 << 30
    }

    #[test]
    fn reciprocals_at_the_tables_ends_and_middles() {
        for v in (STEPS as u64..4 * STEPS as u64).map(|i| i << 54) {
            for inside in [0, 1, 1 << 53, (1 << 53) + 1, (1 << 54) - 1] {
                // The tests' larger argument would be beyond the table at its very end.
                let v = (v + inside).min(u64::MAX - (1 << 34));
                assert!(root_is_low_and_near(v), "{v}");
                assert!(v < 1 << 63 || reciprocal_is_low_and_near(v), "{v}");
            }
        }
    }

    fn root_is_exact(x: u64, root: u32) -> Result<(), TestCaseError> {
        let square = u64::from(root).pow(2);
        prop_assert_eq!(square_root(x), x.isqrt());
        prop_assert_eq!(square_root(square), u64::from(root));
        prop_assert_eq!(square_root(square.saturating_sub(1)), square.saturating_sub(1).isqrt());
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn roots_are_exact(x: u64, shift in 0..64u32, root: u32) {
            root_is_exact(x >> shift, root)?;
        }

        #[test]
        fn roots_together_are_roots(x in prop::collection::vec(any::<u64>(), LANES), shift in 0..64u32) {
            let mut roots: Lanes = std::array::from_fn(|row| x[row] >> shift);
            square_roots(&mut roots);
            prop_assert_eq!(roots, std::array::from_fn(|row| (x[row] >> shift).isqrt()));
        }

        #[test]
        fn reciprocals_are_low_and_near(v in 1u64 << 62..u64::MAX - (1 << 34)) {
            prop_assert!(root_is_low_and_near(v));
            prop_assert!(reciprocal_is_low_and_near(v | 1 << 63));
        }
    }

    mod long {
        use super::*;

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(5_000_000))]

            #[test]
            #[ignore = "long: cargo test --release -p dn-trust -- --ignored"]
            fn roots_are_exact(x: u64, shift in 0..64u32, root: u32) {
                root_is_exact(x >> shift, root)?;
            }

            #[test]
            #[ignore = "long: cargo test --release -p dn-trust -- --ignored"]
            fn reciprocals_are_low_and_near(v in 1u64 << 62..u64::MAX - (1 << 34)) {
                prop_assert!(root_is_low_and_near(v));
                prop_assert!(reciprocal_is_low_and_near(v | 1 << 63));
            }
        }
    }
}
