//! The quality of a worker's epoch out of many rounds: an exact mean, and the two factors that score work.

use dn_core::canonical_struct;
use dn_core::encoding::{Canonical, DecodeError, Reader};
use dn_trust::Unit;

/// Why a round cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MeanError {
    /// Too much work.
    #[error("{found} more work units than the {held} held would exceed 2^95")]
    Overflow {
        /// Work held.
        held: u128,
        /// Work to be added.
        found: u128,
    },
}

/// Qualities of rounds, each weighted by the round's work. Sums do not depend on order, and nothing is rounded before the mean is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QualitySum {
    /// Σ quality · work, in 2^-32 work units: at most `work` · 2^32.
    #[serde(with = "dn_trust::decimal")]
    #[cfg_attr(feature = "schema", schemars(with = "dn_core::schema::Decimal"))]
    weighted: u128,
    /// Σ work.
    #[serde(with = "dn_trust::decimal")]
    #[cfg_attr(feature = "schema", schemars(with = "dn_core::schema::Decimal"))]
    work: u128,
}

impl QualitySum {
    /// The most work that a sum holds: 2^95 operations, which a machine of 10^18 operations a second needs a thousand years for.
    pub const MAX_WORK: u128 = 1 << 95;

    /// Adds a round of so much work.
    ///
    /// # Errors
    /// [`MeanError::Overflow`]; the sum is then unchanged.
    pub fn add(&mut self, quality: Unit, work: u128) -> Result<(), MeanError> {
        let overflow = MeanError::Overflow { held: self.work, found: work };
        let total = self.work.checked_add(work).filter(|total| *total <= Self::MAX_WORK).ok_or(overflow)?;
        self.work = total;
        self.weighted += u128::from(quality.bits()) * work; // at most 2^127
        Ok(())
    }

    /// Work of all rounds.
    ///
    /// # Units
    /// Verified work units.
    pub const fn work(&self) -> u128 {
        self.work
    }

    /// `⌊Σ quality·work / Σ work⌋`; none when no work was judged.
    pub fn mean(&self) -> Option<Unit> {
        let bits = self.weighted.checked_div(self.work)?;
        Some(Unit::from_bits(u64::try_from(bits).unwrap_or(u64::MAX)))
    }

    fn checked(weighted: u128, work: u128) -> Option<Self> {
        (work <= Self::MAX_WORK && weighted <= work << 32).then_some(Self { weighted, work })
    }
}

impl Canonical for QualitySum {
    const MIN_LEN: usize = 32;
    fn encode(&self, out: &mut Vec<u8>) {
        self.weighted.encode(out);
        self.work.encode(out);
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = r.position();
        let (weighted, work) = <(u128, u128)>::decode(r)?;
        let what = "a sum of qualities is over its work, or its work over 2^95";
        Self::checked(weighted, work).ok_or(DecodeError::Invalid { at, what })
    }
}

impl<'de> serde::Deserialize<'de> for QualitySum {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            #[serde(with = "dn_trust::decimal")]
            weighted: u128,
            #[serde(with = "dn_trust::decimal")]
            work: u128,
        }
        let f = Fields::deserialize(d)?;
        Self::checked(f.weighted, f.work).ok_or_else(|| {
            serde::de::Error::custom(
                "expected a weighted sum of at most 2^32 times its work, and work of at most 2^95",
            )
        })
    }
}

/// The two factors of quality, kept apart: workers earn by the product, owners by the result alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// Whether this worker computed the model exactly.
    pub execution: Unit,
    /// How good the model is for the domain's tasks.
    pub result: Unit,
}
canonical_struct!(Quality { execution: Unit, result: Unit });

impl Quality {
    /// The factors of an epoch.
    ///
    /// Execution that nobody audited is whole: unaudited work counts only past its audit window, nothing was found against it, and that little is
    /// known of a worker is in its trust already. A result that no committee scored takes `neutral`: the worker's last known mean on this
    /// model, or else the domain's mean of this epoch. Then nobody gains or loses by not being drawn; with a neutral of one, junk would gain.
    pub fn of_epoch(execution: &QualitySum, result: &QualitySum, neutral: Unit) -> Self {
        Self { execution: execution.mean().unwrap_or(Unit::ONE), result: result.mean().unwrap_or(neutral) }
    }

    /// What a worker's work is scored with: `execution · result`, rounded down.
    pub const fn for_worker(&self) -> Unit {
        self.execution.times(self.result)
    }

    /// What a model's owner is scored with: the result; who ran it badly is not the owner's fault.
    pub const fn for_owner(&self) -> Unit {
        self.result
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn percent(p: u64) -> Unit {
        Unit::from_bits((p << 32) / 100)
    }

    #[test]
    fn a_mean_by_hand() {
        let mut sum = QualitySum::default();
        assert_eq!(sum.mean(), None);
        // (300 · ½ + 100 · 1) / 400 = 0.625.
        sum.add(percent(50), 300).expect("fits");
        sum.add(Unit::ONE, 100).expect("fits");
        assert_eq!((sum.mean(), sum.work()), (Some(Unit::from_bits(5 << 29)), 400));
        sum.add(percent(10), 0).expect("no work, no weight");
        assert_eq!(sum.mean(), Some(Unit::from_bits(5 << 29)));
    }

    #[test]
    fn factors_by_hand() {
        let (none, mut half) = (QualitySum::default(), QualitySum::default());
        half.add(percent(50), 1).expect("fits");
        let unknown = Quality::of_epoch(&none, &none, percent(25));
        assert_eq!((unknown.execution, unknown.result), (Unit::ONE, percent(25)));
        let both = Quality::of_epoch(&half, &half, Unit::ONE);
        assert_eq!((both.for_worker(), both.for_owner()), (percent(25), percent(50)));
    }

    #[test]
    fn too_much_work_is_refused() {
        let mut sum = QualitySum::default();
        sum.add(Unit::ONE, QualitySum::MAX_WORK).expect("just fits");
        let before = sum;
        let e = MeanError::Overflow { held: QualitySum::MAX_WORK, found: 1 };
        assert_eq!(sum.add(Unit::ONE, 1), Err(e));
        assert!(sum.add(Unit::ONE, u128::MAX).is_err());
        assert_eq!((sum, sum.mean()), (before, Some(Unit::ONE)));
        let over = (1u128 << 33, 1u128).to_bytes();
        assert!(matches!(QualitySum::from_bytes(&over), Err(DecodeError::Invalid { at: 0, .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn exact_ordered_and_between_the_extremes(
            (a, b) in prop::collection::vec((0..=1u64 << 32, 0..=1u128 << 90), 1..20)
                .prop_flat_map(|v| (Just(v.clone()), Just(v).prop_shuffle())),
        ) {
            let sum = |rounds: &[(u64, u128)]| {
                let mut sum = QualitySum::default();
                rounds.iter().for_each(|(q, w)| sum.add(Unit::from_bits(*q), *w).expect("fits"));
                sum
            };
            let s = sum(&a);
            prop_assert_eq!(s, sum(&b));
            prop_assert_eq!(QualitySum::from_bytes(&s.to_bytes()), Ok(s));
            if let Some(mean) = s.mean() {
                // The definition of a floor: mean · Σw ≤ Σqw < (mean + 1) · Σw.
                let exact: u128 = a.iter().map(|(q, w)| u128::from(*q) * w).sum();
                let mean = u128::from(mean.bits());
                prop_assert!(mean * s.work() <= exact && exact < (mean + 1) * s.work());
                let heard = || a.iter().filter(|x| x.1 > 0).map(|x| u128::from(x.0));
                prop_assert!(heard().min() <= Some(mean) && Some(mean) <= heard().max());
            }
        }
    }
}
