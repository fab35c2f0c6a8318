//! Parameters of the trust formulas: versioned, bounded, set by governance.

use dn_core::canonical_struct;

use crate::evidence::Counts;
use crate::fixed::Unit;

/// Why parameters are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamError {
    /// The version is unknown to this software.
    #[error("parameters have version {found}; this software knows version {expected}")]
    Version {
        /// The version that is known.
        expected: u16,
        /// The version that came.
        found: u16,
    },
    /// A parameter is out of its bounds.
    #[error("{name} is {found}; it must be from {min} to {max}")]
    OutOfBounds {
        /// The field.
        name: &'static str,
        /// Its value in its own unit.
        found: u64,
        /// The least that is allowed.
        min: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// With this memory and this cap on an epoch's weight a count would outgrow its bits.
    #[error("{name} remembers up to {found} units of work; a count holds {max}")]
    Memory {
        /// The field that decides how long is remembered.
        name: &'static str,
        /// Units of work remembered in the steady state.
        found: u64,
        /// Units of work that fit.
        max: u64,
    },
    /// Newcomers would be audited less than others.
    #[error("the audit rate of newcomers ({ceiling} basis points) is below the floor ({floor})")]
    AuditOrder {
        /// Rate at no trust.
        ceiling: u16,
        /// Rate at full trust.
        floor: u16,
    },
}

pub(crate) fn within(name: &'static str, found: u64, min: u64, max: u64) -> Result<(), ParamError> {
    if (min..=max).contains(&found) { Ok(()) } else { Err(ParamError::OutOfBounds { name, found, min, max }) }
}

/// Constants of the trust formulas, the same for workers, validators and models.
///
/// The defaults are for an epoch of one hour: good evidence halves in a week, bad evidence in two.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Version of the formulas.
    pub version: u16,
    /// γ: part of the good evidence that an epoch keeps. Q32.
    pub keep_good: u32,
    /// γ_b: part of the bad evidence that an epoch keeps. Q32.
    pub keep_bad: u32,
    /// ρ: how much more a bad outcome counts. Q16.
    pub bad_weight: u32,
    /// z: standard deviations below the mean of the confidence bound. Q16.
    pub confidence: u32,
    /// Work that weighs one. In verified work units.
    pub work_unit: u64,
    /// Most weight that one identity's events have in an epoch. Q16.
    pub epoch_cap: u32,
    /// How fast stability rises. Q16.
    pub stability_up: u32,
    /// How fast stability falls. Q16.
    pub stability_down: u32,
    /// Stability of a newcomer. Q32.
    pub stability_start: u32,
    /// How fast speed and demand follow the last epoch. Q16.
    pub average_rate: u32,
    /// Speed and demand of a newcomer. Q32.
    pub average_start: u32,
    /// History of a newcomer. Q32.
    pub history_start: u32,
    /// How much of the way to one an audited pass of weight one moves history. Q16.
    pub history_gain: u32,
    /// Part of the history that a failure of weight one takes. Q16.
    pub history_loss: u32,
    /// Part of the history that a proven fraud leaves. Q16.
    pub fraud_keep: u32,
    /// T_min: the least trust.
    pub trust_min: Unit,
}
canonical_struct!(Params {
    version: u16,
    keep_good: u32,
    keep_bad: u32,
    bad_weight: u32,
    confidence: u32,
    work_unit: u64,
    epoch_cap: u32,
    stability_up: u32,
    stability_down: u32,
    stability_start: u32,
    average_rate: u32,
    average_start: u32,
    history_start: u32,
    history_gain: u32,
    history_loss: u32,
    fraud_keep: u32,
    trust_min: Unit,
});

impl Params {
    /// The version that this software computes.
    pub const VERSION: u16 = 1;
}

impl Default for Params {
    fn default() -> Self {
        Self {
            version: Self::VERSION,
            keep_good: 4_277_283_299,            // 2^(−1/168)
            keep_bad: 4_286_116_177,             // 2^(−1/336)
            bad_weight: 2 << 16,                 // 2
            confidence: 107_807,                 // 1.645: one-sided 95 %
            work_unit: 1_000_000_000_000,        // 10^12 operations
            epoch_cap: 2 << 16,                  // 2
            stability_up: 1 << 10,               // 1/64
            stability_down: 1 << 12,             // 1/16
            stability_start: 1 << 31,            // 1/2
            average_rate: 1 << 12,               // 1/16
            average_start: 1 << 31,              // 1/2
            history_start: 1 << 29,              // 1/8
            history_gain: 1 << 8,                // 1/256
            history_loss: 1 << 11,               // 1/32
            fraud_keep: 1 << 15,                 // 1/2
            trust_min: Unit::from_bits(1 << 22), // 1/1024
        }
    }
}

impl Params {
    /// Checks every bound.
    ///
    /// # Errors
    /// [`ParamError`] names the first parameter that is out of bounds.
    pub fn validate(&self) -> Result<(), ParamError> {
        if self.version != Self::VERSION {
            return Err(ParamError::Version { expected: Self::VERSION, found: self.version });
        }
        let half = 1 << 31;
        within("keep_good", self.keep_good.into(), half, u64::from(u32::MAX))?;
        within("keep_bad", self.keep_bad.into(), self.keep_good.into(), u64::from(u32::MAX))?;
        within("bad_weight", self.bad_weight.into(), 1 << 16, 16 << 16)?;
        within("confidence", self.confidence.into(), 0, 2 << 16)?;
        within("work_unit", self.work_unit, 1, u64::MAX)?;
        within("epoch_cap", self.epoch_cap.into(), 1 << 12, 128 << 16)?;
        within("stability_up", self.stability_up.into(), 1, 1 << 16)?;
        within("stability_down", self.stability_down.into(), self.stability_up.into(), 1 << 16)?;
        within("average_rate", self.average_rate.into(), 1, 1 << 16)?;
        within("history_gain", self.history_gain.into(), 1, 1 << 13)?;
        within("history_loss", self.history_loss.into(), self.history_gain.into(), 1 << 15)?;
        within("fraud_keep", self.fraud_keep.into(), 0, 1 << 15)?;
        within("trust_min", self.trust_min.bits(), 1, 1 << 28)?;
        // An epoch moves history by at most its own size: otherwise a cap's worth of passes would overshoot.
        let most = u64::from(self.epoch_cap) * u64::from(self.history_loss.max(self.history_gain));
        within("epoch_cap × history_loss", most, 1, 1 << 32)?;
        self.memory("keep_good", self.keep_good, 1 << 16)?;
        self.memory("keep_bad", self.keep_bad, self.bad_weight)
    }

    /// Steady state of a count at full weight: cap · weight / (1 − keep).
    fn memory(&self, name: &'static str, keep: u32, weight: u32) -> Result<(), ParamError> {
        let forget = (1u128 << 32) - u128::from(keep);
        let bits = ((u128::from(self.epoch_cap) * u128::from(weight)) << 16) / forget;
        if bits > u128::from(Counts::MAX) {
            let found = u64::try_from(bits >> 16).unwrap_or(u64::MAX);
            return Err(ParamError::Memory { name, found, max: u64::from(Counts::MAX >> 16) });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dn_core::Canonical;

    use super::*;

    #[test]
    fn defaults_are_valid_and_pinned() {
        let p = Params::default();
        assert_eq!(p.validate(), Ok(()));
        assert_eq!(Params::from_bytes(&p.to_bytes()), Ok(p.clone()));
        assert_eq!(p.to_bytes().len(), 74);
    }

    /// The decay constants are what they are said to be: 168 and 336 epochs halve a count.
    #[test]
    fn half_lives() {
        let halved =
            |keep: u32, epochs: u32| (0..epochs).fold(1u64 << 32, |x, _| (x * u64::from(keep)) >> 32);
        let p = Params::default();
        for (keep, epochs) in [(p.keep_good, 168), (p.keep_bad, 336)] {
            let left = halved(keep, epochs);
            assert!(left.abs_diff(1 << 31) < 1000, "{left}");
        }
    }

    #[test]
    fn each_bound_is_checked() {
        let bad = |change: fn(&mut Params)| {
            let mut p = Params::default();
            change(&mut p);
            p.validate().expect_err("out of bounds")
        };
        assert_eq!(bad(|p| p.version = 2), ParamError::Version { expected: 1, found: 2 });
        let name = |e| match e {
            ParamError::OutOfBounds { name, .. } | ParamError::Memory { name, .. } => name,
            other => panic!("{other}"),
        };
        assert_eq!(name(bad(|p| p.keep_good = 1)), "keep_good");
        assert_eq!(name(bad(|p| p.keep_bad = p.keep_good - 1)), "keep_bad");
        assert_eq!(name(bad(|p| p.bad_weight = 0)), "bad_weight");
        assert_eq!(name(bad(|p| p.confidence = (2 << 16) + 1)), "confidence");
        assert_eq!(name(bad(|p| p.work_unit = 0)), "work_unit");
        assert_eq!(name(bad(|p| p.epoch_cap = 0)), "epoch_cap");
        assert_eq!(name(bad(|p| p.stability_up = 0)), "stability_up");
        assert_eq!(name(bad(|p| p.stability_down = 1)), "stability_down");
        assert_eq!(name(bad(|p| p.average_rate = 0)), "average_rate");
        assert_eq!(name(bad(|p| p.history_gain = 0)), "history_gain");
        assert_eq!(name(bad(|p| p.history_loss = 1)), "history_loss");
        assert_eq!(name(bad(|p| p.fraud_keep = 1 << 16)), "fraud_keep");
        assert_eq!(name(bad(|p| p.trust_min = Unit::ZERO)), "trust_min");
        assert_eq!(name(bad(|p| p.epoch_cap = 64 << 16)), "epoch_cap × history_loss");
        assert_eq!(name(bad(|p| p.keep_bad = u32::MAX)), "keep_bad");
        assert_eq!(name(bad(|p| (p.keep_good, p.keep_bad) = (u32::MAX, u32::MAX))), "keep_good");
    }
}
