//! How much of an identity's work is audited.

use dn_core::canonical_struct;

use crate::fixed::{Trust, Unit};
use crate::params::{ParamError, within};

/// Basis points in one.
const WHOLE: u16 = 10_000;

/// Bounds of the audit rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AuditParams {
    /// Rate at no trust, in basis points.
    pub ceiling: u16,
    /// Rate at full trust, in basis points: never less than this is audited.
    pub floor: u16,
}
canonical_struct!(AuditParams { ceiling: u16, floor: u16 });

impl Default for AuditParams {
    /// Half of a newcomer's work, 5 % of anybody's.
    fn default() -> Self {
        Self { ceiling: 5_000, floor: 500 }
    }
}

impl AuditParams {
    /// Checks the bounds.
    ///
    /// # Errors
    /// [`ParamError`]: rates over one, a floor of less than 10 basis points, or a ceiling under the floor.
    pub fn validate(&self) -> Result<(), ParamError> {
        within("ceiling", self.ceiling.into(), 10, WHOLE.into())?;
        within("floor", self.floor.into(), 10, WHOLE.into())?;
        if self.ceiling < self.floor {
            return Err(ParamError::AuditOrder { ceiling: self.ceiling, floor: self.floor });
        }
        Ok(())
    }
}

/// The share of work to audit: `floor + (ceiling − floor)·(1 − T)²`, rounded up.
///
/// # Units
/// Basis points.
pub fn audit_rate(params: &AuditParams, trust: Trust) -> u16 {
    let doubt = trust.value().complement();
    let range = u64::from(params.ceiling.saturating_sub(params.floor));
    let above = (range * doubt.times(doubt).bits()).div_ceil(Unit::ONE.bits());
    // `above` is at most the range, which has 16 bits.
    params.floor.saturating_add(above as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_by_hand() {
        let p = AuditParams::default();
        let at = |permille: u64| audit_rate(&p, Trust::new(Unit::from_bits((permille << 32) / 1000)));
        assert_eq!(at(0), 5000);
        assert_eq!(at(7), 4938); // 500 + 4500 · 0.993² = 4937.2
        assert_eq!(at(500), 1625); // 500 + 4500 / 4
        assert_eq!(at(790), 699); // 500 + 4500 · 0.21² = 698.5
        assert_eq!(at(1000), 500);
    }

    #[test]
    fn bounds() {
        assert_eq!(AuditParams::default().validate(), Ok(()));
        let e = AuditParams { ceiling: 100, floor: 200 }.validate();
        assert_eq!(e, Err(ParamError::AuditOrder { ceiling: 100, floor: 200 }));
        assert!(AuditParams { ceiling: 10_001, floor: 200 }.validate().is_err());
        assert!(AuditParams { ceiling: 100, floor: 0 }.validate().is_err());
    }

    proptest! {
        #[test]
        fn falls_with_trust_and_stays_in_bounds(a in 0..=1u64 << 32, b in 0..=1u64 << 32) {
            let p = AuditParams::default();
            let (low, high) = (Trust::new(Unit::from_bits(a.min(b))), Trust::new(Unit::from_bits(a.max(b))));
            prop_assert!(audit_rate(&p, low) >= audit_rate(&p, high));
            prop_assert!((p.floor..=p.ceiling).contains(&audit_rate(&p, high)));
        }
    }
}
