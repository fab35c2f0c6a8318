//! Trust in a validator: canary results, alignment, timeliness, history.

use dn_core::canonical_struct;

use crate::evidence::{Counts, Tally, Weight};
use crate::fixed::{Trust, Unit};
use crate::history;
use crate::params::Params;

/// What happened to a validator in one epoch. Events may come in any order; each is O(1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ValidatorEpoch {
    votes: Tally,
    reveals: Tally,
    canaries: Tally,
    frauds: u32,
}
canonical_struct!(ValidatorEpoch { votes: Tally, reveals: Tally, canaries: Tally, frauds: u32 });

impl ValidatorEpoch {
    /// A vote or verdict agreed with the settled outcome.
    pub fn aligned(&mut self, weight: Weight) {
        self.votes.good.add(weight);
    }

    /// A vote or verdict disagreed with the settled outcome.
    pub fn misaligned(&mut self, weight: Weight) {
        self.votes.bad.add(weight);
    }

    /// An assigned audit was committed and revealed in time.
    pub fn timely(&mut self, weight: Weight) {
        self.reveals.good.add(weight);
    }

    /// An assigned audit was late or missing.
    pub fn missed(&mut self, weight: Weight) {
        self.reveals.bad.add(weight);
    }

    /// A task with a known answer, not to be told from others, was judged rightly.
    pub fn canary_passed(&mut self, weight: Weight) {
        self.canaries.good.add(weight);
    }

    /// A task with a known answer was judged wrongly.
    pub fn canary_failed(&mut self, weight: Weight) {
        self.canaries.bad.add(weight);
    }

    /// The referee proved a verdict false, or equivocation was proven.
    pub fn proven_fraud(&mut self) {
        self.frauds = self.frauds.saturating_add(1);
    }
}

/// The trust state of a validator: 28 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ValidatorTrust {
    canary: Counts,
    alignment: Counts,
    timeliness: Counts,
    history: u32,
}
canonical_struct!(ValidatorTrust { canary: Counts, alignment: Counts, timeliness: Counts, history: u32 });

/// The indicators of a validator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ValidatorIndicators {
    /// K: lower confidence bound of the share of canaries judged rightly.
    pub canary: Unit,
    /// G: lower confidence bound of agreement with settled outcomes.
    pub alignment: Unit,
    /// M: lower confidence bound of the share of audits revealed in time.
    pub timeliness: Unit,
    /// H: the slow record of canaries, the only tasks whose truth no majority can move.
    pub history: Unit,
}

impl ValidatorTrust {
    /// The state of an identity without a record.
    pub fn newcomer(params: &Params) -> Self {
        Self {
            canary: Counts::default(),
            alignment: Counts::default(),
            timeliness: Counts::default(),
            history: params.history_start,
        }
    }

    /// Folds one epoch into the state.
    pub fn close_epoch(&mut self, params: &Params, epoch: &ValidatorEpoch) {
        let canaries = epoch.canaries.capped(params.epoch_cap);
        self.canary.close_epoch(params, canaries);
        self.alignment.close_epoch(params, epoch.votes.capped(params.epoch_cap));
        self.timeliness.close_epoch(params, epoch.reveals.capped(params.epoch_cap));
        self.history = history::close_epoch(params, self.history, canaries, epoch.frauds);
    }

    /// The same as closing so many epochs without events, one after another.
    pub fn close_idle_epochs(&mut self, params: &Params, epochs: u64) {
        for counts in [&mut self.canary, &mut self.alignment, &mut self.timeliness] {
            counts.close_idle_epochs(params, epochs);
        }
    }

    /// The indicators.
    pub fn indicators(&self, params: &Params) -> ValidatorIndicators {
        ValidatorIndicators {
            canary: self.canary.lower_bound(params),
            alignment: self.alignment.lower_bound(params),
            timeliness: self.timeliness.lower_bound(params),
            history: Unit::from_fraction(self.history),
        }
    }

    /// `T = max(T_min, H·√(K·√(G·M)))`.
    pub fn weight(&self, params: &Params) -> Trust {
        let i = self.indicators(params);
        Trust::combine(params.trust_min, i.history, i.canary, i.alignment, i.timeliness)
    }
}

#[cfg(test)]
mod tests {
    use dn_core::Canonical;

    use super::*;

    #[test]
    fn canaries_and_frauds_decide() {
        let p = Params::default();
        let run = |canary_ok: bool, fraud: bool| {
            let mut v = ValidatorTrust::newcomer(&p);
            for n in 0..400 {
                let mut e = ValidatorEpoch::default();
                e.aligned(Weight::ONE);
                e.timely(Weight::ONE);
                if canary_ok {
                    e.canary_passed(Weight::ONE)
                } else {
                    e.canary_failed(Weight::ONE)
                }
                if fraud && n == 399 {
                    e.proven_fraud();
                }
                v.close_epoch(&p, &e);
            }
            v.weight(&p).value().bits()
        };
        let (honest, fraud, copier) = (run(true, false), run(true, true), run(false, false));
        assert!(honest > Unit::ONE.bits() * 3 / 4, "{honest}");
        // Halved, but for the last bit.
        assert!(fraud.abs_diff(honest / 2) <= 2);
        assert_eq!(copier, p.trust_min.bits());
    }

    #[test]
    fn lateness_and_disagreement_cost() {
        let p = Params::default();
        let run = |event: fn(&mut ValidatorEpoch)| {
            let mut v = ValidatorTrust::newcomer(&p);
            for _ in 0..100 {
                let mut e = ValidatorEpoch::default();
                e.canary_passed(Weight::ONE);
                e.aligned(Weight::ONE);
                e.timely(Weight::ONE);
                event(&mut e);
                v.close_epoch(&p, &e);
            }
            v.weight(&p)
        };
        let good = run(|_| {});
        assert!(run(|e| e.missed(Weight::ONE)) < good);
        assert!(run(|e| e.misaligned(Weight::ONE)) < good);
        assert!(run(|e| e.canary_failed(Weight::ONE)) < good);
    }

    #[test]
    fn the_state_is_small_and_round_trips() {
        let v = ValidatorTrust::newcomer(&Params::default());
        assert_eq!(v.to_bytes().len(), 28);
        assert_eq!(ValidatorTrust::from_bytes(&v.to_bytes()), Ok(v));
        let mut e = ValidatorEpoch::default();
        e.missed(Weight::ONE);
        let (mut one, mut all) = (v, v);
        one.close_epoch(&Params::default(), &e);
        all.close_epoch(&Params::default(), &e);
        (0..50).for_each(|_| one.close_epoch(&Params::default(), &ValidatorEpoch::default()));
        all.close_idle_epochs(&Params::default(), 50);
        assert_eq!(one, all);
        assert_eq!(ValidatorEpoch::from_bytes(&e.to_bytes()), Ok(e));
    }
}
