//! 256-bit intermediates for exact integer proportions.

/// `⌊a · b / c⌋`, or `None` when `c` is 0 or the quotient does not fit 128 bits.
pub fn mul_div(a: u128, b: u128, c: u128) -> Option<u128> {
    mul_div_rem(a, b, c).map(|(quotient, _)| quotient)
}

/// `(⌊a · b / c⌋, a · b mod c)`, or `None` when `c` is 0 or the quotient does not fit 128 bits.
pub fn mul_div_rem(a: u128, b: u128, c: u128) -> Option<(u128, u128)> {
    let (hi, lo) = mul(a, b);
    if c == 0 || hi >= c {
        return None;
    }
    if hi == 0 {
        return Some((lo / c, lo % c));
    }
    // Long division bit by bit; the remainder stays below `c`, its overflow bit in `carry`.
    let (mut rem, mut quotient) = (hi, 0u128);
    for bit in (0..128).rev() {
        let carry = rem >> 127 == 1;
        rem = (rem << 1) | ((lo >> bit) & 1);
        quotient <<= 1;
        if carry || rem >= c {
            rem = rem.wrapping_sub(c);
            quotient |= 1;
        }
    }
    Some((quotient, rem))
}

/// The 256-bit product as (high, low).
pub const fn mul(a: u128, b: u128) -> (u128, u128) {
    const MASK: u128 = u64::MAX as u128;
    let (a1, a0, b1, b0) = (a >> 64, a & MASK, b >> 64, b & MASK);
    let (low, mid1, mid2, high) = (a0 * b0, a1 * b0, a0 * b1, a1 * b1);
    let carry = (low >> 64) + (mid1 & MASK) + (mid2 & MASK);
    let lo = (carry << 64) | (low & MASK);
    (high + (mid1 >> 64) + (mid2 >> 64) + (carry >> 64), lo)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// quotient · c + remainder = a · b, with remainder < c.
        #[test]
        fn division_inverts_multiplication(a: u128, b: u128, c in 1u128..) {
            if let Some((q, r)) = mul_div_rem(a, b, c) {
                let (hi, lo) = mul(q, c);
                let (lo, carry) = lo.overflowing_add(r);
                prop_assert_eq!((hi + u128::from(carry), lo), mul(a, b));
                prop_assert!(r < c);
            } else {
                prop_assert!(mul(a, b).0 >= c);
            }
        }

        #[test]
        fn small_products_agree_with_plain_arithmetic(a: u64, b: u64, c in 1u64..) {
            let (a, b, c) = (u128::from(a), u128::from(b), u128::from(c));
            prop_assert_eq!(mul_div(a, b, c), Some(a * b / c));
        }
    }
}
