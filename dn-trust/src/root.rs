//! Wide products, and square roots of 64-bit integers: a table of the reciprocal root, one step of Newton's method, and an exact correction.
//! Multiplications and shifts only.
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

/// Entries per unit of `x`.
const STEPS: usize = 256;

/// `1/√x` in Q31 and how much it falls to the next entry, at index `256·x` for `x` from 1 to below 4; the entries below are not used,
/// and spare a subtraction and a bounds check.
static TABLE: [(u32, u32); 4 * STEPS] = table();

const fn table() -> [(u32, u32); 4 * STEPS] {
    // 2^31 / √(i / 256) = √(2^70 / i), less the 3·2^-21 by which a line is too high, and what roundings add.
    const fn entry(i: usize) -> u32 {
        let exact = ((1u128 << 70) / i as u128).isqrt() as u64;
        (exact - (3 * exact).div_ceil(1 << 21) - 2) as u32
    }
    let mut table = [(0, 0); 4 * STEPS];
    let mut i = STEPS;
    while i < table.len() {
        let (here, next) = (entry(i), entry(i + 1));
        table[i] = (here, here - next);
        i += 1;
    }
    table
}

/// `2^31 / √(v / 2^62)` less at most 2^-19.3 of it, for `v` of at least 2^62.
#[inline]
const fn coarse(v: u64) -> u64 {
    let (start, fall) = TABLE[(v >> 54) as usize];
    let between = (v >> 30) & 0xff_ffff;
    start as u64 - ((fall as u64 * between) >> 24)
}

/// `2^40 / √(v / 2^62)` to a relative error of 2^-37, for `v` of at least 2^62.
#[inline]
pub(crate) const fn reciprocal_root(v: u64) -> u64 {
    let r = coarse(v);
    // 1 − x·r² in Q60: below 2^42 in size.
    let error = (1i64 << 60) - product(v, r * r).0 as i64;
    // r + r·error/2 in Q40; the product of Q31 and Q48 stays below 2^61.
    ((r << 9) as i64 + ((r as i64 * (error >> 12)) >> 40)) as u64
}

/// `⌊√x⌋`. Zero takes the same way as the rest: an early return would let the compiler count leading zeros by an instruction that
/// waits for the last user of its target register, here the root before.
#[inline]
pub(crate) const fn square_root(x: u64) -> u64 {
    HalfWay::of(x).root(x)
}

/// [`square_root`] of each number, at most [`LANES`] of them. A processor looks ahead some hundred instructions: with all steps of one
/// root before the next it would wait for products most of the time.
#[inline]
pub(crate) fn square_roots(numbers: &mut [u64]) {
    let mut half = [HalfWay::default(); LANES];
    for (half, x) in half.iter_mut().zip(&*numbers) {
        *half = HalfWay::of(*x);
    }
    for (x, half) in numbers.iter_mut().zip(&half) {
        *x = half.root(*x);
    }
}

/// Rows that are worked on together, step by step: intermediate results stay in the first-level cache.
pub(crate) const LANES: usize = 64;

/// A root before the step of Newton's method.
#[derive(Clone, Copy, Default)]
struct HalfWay {
    /// The root of the scaled number, too low by at most 2^-19 of it.
    s: u32,
    r: u32,
    /// Even; 0 for 0.
    shift: u32,
}

impl HalfWay {
    #[inline]
    const fn of(x: u64) -> Self {
        let shift = x.leading_zeros() & 62;
        let v = x << shift;
        let r = coarse(v);
        // s = v·r is √v·(1 − ε) with ε > 0, also where bits are cut off.
        let s = ((v >> 32) * r) >> 30;
        Self { s: s as u32, r: r as u32, shift }
    }

    #[inline]
    const fn root(self, x: u64) -> u64 {
        let (v, s) = (x << self.shift, self.s as u64);
        // s + (v − s²)·r/2 is √v·(1 − 3/2·ε² + …): too low, by less than one.
        let step = (((v - s * s) >> 16) * self.r as u64) >> 47;
        let root = (s + step) >> (self.shift / 2);
        root + (x - root * root > 2 * root) as u64
    }
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

    /// The error that `Counts::lower_bound` relies on, by exact arithmetic: r(1 − 2^-37) ≤ R ≤ r(1 + 2^-37), squared.
    fn reciprocal_is_close(v: u64) -> bool {
        // R² · v / 2^142 = 1 ± 2^-36, but for 2^-74.
        let r = u128::from(reciprocal_root(v));
        let (high, low) = dn_core::wide::mul(r * r, u128::from(v));
        let scaled = (high << 64) | (low >> 64); // in 2^-78
        scaled.abs_diff(1 << 78) <= (1 << 42) + (1 << 4)
    }

    #[test]
    fn reciprocals_at_the_table_s_ends_and_middles() {
        for v in (STEPS as u64..4 * STEPS as u64).map(|i| i << 54) {
            for inside in [0, 1, 1 << 53, (1 << 54) - 1] {
                assert!(reciprocal_is_close(v + inside), "{v} + {inside}");
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
        fn roots_together_are_roots(x in prop::collection::vec(any::<u64>(), 0..=LANES), shift in 0..64u32) {
            let mut roots: Vec<_> = x.iter().map(|x| x >> shift).collect();
            square_roots(&mut roots);
            let single: Vec<_> = x.iter().map(|x| (x >> shift).isqrt()).collect();
            prop_assert_eq!(roots, single);
        }

        #[test]
        fn reciprocals_are_close(v in 1u64 << 62..) {
            prop_assert!(reciprocal_is_close(v));
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
            fn reciprocals_are_close(v in 1u64 << 62..) {
                prop_assert!(reciprocal_is_close(v));
            }
        }
    }
}
