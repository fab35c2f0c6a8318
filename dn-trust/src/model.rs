//! Trust in a model: success, demand, feedback, audit history.

use dn_core::canonical_struct;

use crate::evidence::{Counts, Tally, Weight};
use crate::fixed::{Trust, Unit};
use crate::history;
use crate::params::Params;

/// What happened to a model in one epoch. Events may come in any order; each is O(1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelEpoch {
    jobs: Tally,
    feedback: Tally,
    audits: Tally,
    #[serde(with = "crate::decimal")]
    #[cfg_attr(feature = "schema", schemars(with = "dn_core::schema::Decimal"))]
    paid_work: u128,
    frauds: u32,
}
canonical_struct!(ModelEpoch { jobs: Tally, feedback: Tally, audits: Tally, paid_work: u128, frauds: u32 });

impl ModelEpoch {
    /// A paid job on this model, of so many verified work units, was delivered.
    pub fn succeeded(&mut self, weight: Weight, vwu: u128) {
        self.jobs.good.add(weight);
        self.paid_work = self.paid_work.saturating_add(vwu);
    }

    /// A job failed for a reason that lies in the model, such as an unloadable package.
    pub fn failed(&mut self, weight: Weight) {
        self.jobs.bad.add(weight);
    }

    /// A payer was content; the caller has checked that the feedback is bound to a paid receipt.
    pub fn liked(&mut self, weight: Weight) {
        self.feedback.good.add(weight);
    }

    /// A payer was not content; the caller has checked that the feedback is bound to a paid receipt.
    pub fn disliked(&mut self, weight: Weight) {
        self.feedback.bad.add(weight);
    }

    /// A committee or benchmark found the model good for its domain's tasks.
    pub fn audit_passed(&mut self, weight: Weight) {
        self.audits.good.add(weight);
    }

    /// A committee or benchmark found the model wanting.
    pub fn audit_failed(&mut self, weight: Weight) {
        self.audits.bad.add(weight);
    }

    /// Verified work units that were paid for.
    pub const fn paid_work(&self) -> u128 {
        self.paid_work
    }

    /// The model was proven not to be what its owner declared, such as a copy passed off as an original.
    pub fn proven_fraud(&mut self) {
        self.frauds = self.frauds.saturating_add(1);
    }
}

/// The trust state of a model: 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelTrust {
    success: Counts,
    feedback: Counts,
    demand: u32,
    history: u32,
}
canonical_struct!(ModelTrust { success: Counts, feedback: Counts, demand: u32, history: u32 });

/// The indicators of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelIndicators {
    /// L: lower confidence bound of the share of jobs that succeeded.
    pub success: Unit,
    /// F: lower confidence bound of the share of content payers.
    pub feedback: Unit,
    /// D: moving average of min(1, paid work ÷ median of the class).
    pub demand: Unit,
    /// H: the slow record of result audits.
    pub history: Unit,
}

impl ModelTrust {
    /// The state of a model without a record.
    pub fn newcomer(params: &Params) -> Self {
        Self {
            success: Counts::default(),
            feedback: Counts::default(),
            demand: params.average_start,
            history: params.history_start,
        }
    }

    /// Folds one epoch into the state; `class_median_work` is the median paid work of the class in this epoch, in
    /// verified work units. A class without demand says nothing about its models.
    pub fn close_epoch(&mut self, params: &Params, epoch: &ModelEpoch, class_median_work: u128) {
        let audits = epoch.audits.capped(params.epoch_cap);
        self.success.close_epoch(params, epoch.jobs.capped(params.epoch_cap));
        self.feedback.close_epoch(params, epoch.feedback.capped(params.epoch_cap));
        if class_median_work > 0 {
            let demand = Unit::ratio(epoch.paid_work, class_median_work);
            self.demand = history::leak(self.demand, params.average_rate, params.average_rate, demand);
        }
        self.history = history::close_epoch(params, self.history, audits, epoch.frauds);
    }

    /// The same as closing so many epochs without events, in `with_demand` of which the class had some, one after another: for states
    /// that are brought up to date only when they are next needed.
    pub fn close_idle_epochs(&mut self, params: &Params, epochs: u64, with_demand: u64) {
        self.success.close_idle_epochs(params, epochs);
        self.feedback.close_idle_epochs(params, epochs);
        for _ in 0..with_demand {
            let before = self.demand;
            self.demand = history::leak(before, params.average_rate, params.average_rate, Unit::ZERO);
            // Nothing is left to fall, or nothing falls.
            if self.demand == before {
                break;
            }
        }
    }

    /// The indicators.
    pub fn indicators(&self, params: &Params) -> ModelIndicators {
        ModelIndicators {
            success: self.success.lower_bound(params),
            feedback: self.feedback.lower_bound(params),
            demand: Unit::from_fraction(self.demand),
            history: Unit::from_fraction(self.history),
        }
    }

    /// `T = max(T_min, H·√(L·√(F·D)))`.
    pub fn weight(&self, params: &Params) -> Trust {
        let i = self.indicators(params);
        Trust::combine(params.trust_min, i.history, i.success, i.feedback, i.demand)
    }
}

#[cfg(test)]
mod tests {
    use dn_core::Canonical;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_indicator_moves_the_weight() {
        let p = Params::default();
        let run = |event: fn(&mut ModelEpoch), median: u128| {
            let mut m = ModelTrust::newcomer(&p);
            for _ in 0..200 {
                let mut e = ModelEpoch::default();
                e.succeeded(Weight::ONE, 100);
                e.liked(Weight::ONE);
                e.audit_passed(Weight::ONE);
                event(&mut e);
                m.close_epoch(&p, &e, median);
            }
            m.weight(&p)
        };
        let good = run(|_| {}, 100);
        assert!(run(|e| e.failed(Weight::ONE), 100) < good);
        assert!(run(|e| e.disliked(Weight::ONE), 100) < good);
        assert!(run(|e| e.audit_failed(Weight::ONE), 100) < good);
        assert!(run(ModelEpoch::proven_fraud, 100) < good);
        assert!(run(|_| {}, 400) < good, "less demand than its class");
    }

    proptest! {
        #[test]
        fn idle_epochs_together_are_idle_epochs_one_by_one(
            demand: Vec<bool>, work in 0u128..300, good in 0u64..1 << 18, bad in 0u64..1 << 17,
        ) {
            let p = Params::default();
            let mut m = ModelTrust::newcomer(&p);
            let mut e = ModelEpoch::default();
            e.succeeded(Weight::from_bits(good), work);
            e.failed(Weight::from_bits(bad));
            e.liked(Weight::from_bits(bad));
            e.disliked(Weight::from_bits(good));
            m.close_epoch(&p, &e, 100);
            let mut each = m;
            for with_demand in &demand {
                each.close_epoch(&p, &ModelEpoch::default(), if *with_demand { 70 } else { 0 });
            }
            let with_demand = demand.iter().filter(|with| **with).count() as u64;
            m.close_idle_epochs(&p, demand.len() as u64, with_demand);
            prop_assert_eq!(m, each);
        }
    }

    #[test]
    fn the_state_is_small_and_round_trips() {
        let m = ModelTrust::newcomer(&Params::default());
        assert_eq!(m.to_bytes().len(), 24);
        assert_eq!(ModelTrust::from_bytes(&m.to_bytes()), Ok(m));
        let mut e = ModelEpoch::default();
        e.succeeded(Weight::ONE, 7);
        assert_eq!(ModelEpoch::from_bytes(&e.to_bytes()), Ok(e));
    }
}
