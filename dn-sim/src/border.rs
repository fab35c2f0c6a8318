//! The border between the simulator's floats and the protocol's integers: crossed here, and nowhere else.

use dn_core::Amount;
use dn_trust::Unit;

/// DN in one nano.
const NANO: f64 = 1e9;

/// An amount of DN, to the nano; more than the supply is the supply, less than nothing or not a number is nothing.
pub(crate) fn dn(value: f64) -> Amount {
    Amount::from_atto((value.clamp(0.0, 1e8) * NANO) as u128 * 1_000_000_000)
}

/// An amount in DN, to a unit in the last place.
pub(crate) fn in_dn(amount: Amount) -> f64 {
    amount.atto() as f64 / 1e18
}

/// A number between 0 and 1 in Q32, rounded down.
pub(crate) fn unit(value: f64) -> Unit {
    Unit::from_bits((value.clamp(0.0, 1.0) * Unit::ONE.bits() as f64) as u64)
}

/// A Q32 number as a float, without loss.
pub(crate) fn float(value: Unit) -> f64 {
    value.bits() as f64 / Unit::ONE.bits() as f64
}

/// A share (0 to 1) of an amount, rounded down.
pub(crate) fn share(amount: Amount, share: f64) -> Amount {
    // At most the whole, so it fits.
    amount.mul_div(unit(share).bits().into(), Unit::ONE.bits().into()).unwrap_or(amount)
}

/// A sum that stays at 2^128 − 1 atto where it would not fit; scenarios with far more DN than there can be get there.
pub(crate) fn add(sum: &mut Amount, part: Amount) {
    *sum = Amount::from_atto(sum.atto().saturating_add(part.atto()));
}

/// Points as integers in the same proportions, for [`dn_powr::payout`]: all times the power of two that gives the largest 63 or 64 bits, rounded
/// down. Whole points below 2^53, such as PoWR's scores, keep their proportions to the bit.
///
/// `points` are finite and at least 0.
pub(crate) fn whole(points: &[f64], out: &mut Vec<u128>) {
    let most = points.iter().fold(0.0, |most, p| f64::max(most, *p));
    out.clear();
    if most == 0.0 {
        out.resize(points.len(), 0);
        return;
    }
    let shift = 63 - libm::ilogb(most);
    out.extend(points.iter().map(|p| libm::scalbn(*p, shift) as u128));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_shares() {
        assert_eq!(dn(1.5), Amount::from_atto(1_500_000_000_000_000_000));
        assert_eq!([dn(-1.0), dn(f64::NAN)], [Amount::ZERO; 2]);
        assert_eq!(dn(1e9), Amount::from_dn(100_000_000));
        assert_eq!(in_dn(Amount::from_dn(20_000)), 20_000.0);
        assert!((in_dn(Amount::from_dn(25_000)) - 25_000.0).abs() < 1e-11);
        assert_eq!(share(Amount::from_atto(1_001), 0.5).atto(), 500);
        assert_eq!(share(Amount::from_atto(u128::MAX), 1.0).atto(), u128::MAX);
        let mut sum = Amount::from_atto(u128::MAX - 1);
        add(&mut sum, Amount::from_dn(1));
        assert_eq!(sum.atto(), u128::MAX);
    }

    #[test]
    fn whole_points_keep_their_proportions() {
        let mut out = Vec::new();
        whole(&[3.0, 1.0, 0.0], &mut out);
        assert_eq!(out, [3 << 62, 1 << 62, 0]);
        for most in [f64::MIN_POSITIVE / 4.0, 1e-300, 1.0, 1e300, f64::MAX] {
            whole(&[most, most / 4.0], &mut out);
            assert!((1 << 63..=1 << 64).contains(&out[0]) && out[0] == 4 * out[1], "{most}: {out:?}");
        }
        whole(&[0.0, 0.0], &mut out);
        assert_eq!(out, [0, 0]);
    }
}
