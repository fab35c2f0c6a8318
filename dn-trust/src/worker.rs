//! Trust in a worker: completion, accuracy, stability, speed, history.

use dn_core::canonical_struct;

use crate::evidence::{Counts, Tally, Weight};
use crate::fixed::{Trust, Unit};
use crate::history;
use crate::params::Params;

mod batch;
mod sums;

pub use batch::worker_weights;
pub use sums::WorkerSums;

/// What happened to a worker in one epoch. Events may come in any order; each is O(1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WorkerEpoch {
    jobs: Tally,
    audits: Tally,
    #[serde(with = "crate::decimal")]
    #[cfg_attr(feature = "schema", schemars(with = "dn_core::schema::Decimal"))]
    speed_sum: u128,
    #[serde(with = "crate::decimal")]
    #[cfg_attr(feature = "schema", schemars(with = "dn_core::schema::Decimal"))]
    speed_weight: u128,
    probes: Tally,
    frauds: u32,
}
canonical_struct!(WorkerEpoch {
    jobs: Tally,
    audits: Tally,
    speed_sum: u128,
    speed_weight: u128,
    probes: Tally,
    frauds: u32,
});

impl WorkerEpoch {
    /// A job was delivered.
    pub fn completed(&mut self, weight: Weight) {
        self.jobs.good.add(weight);
    }

    /// A job that the worker had accepted was not delivered.
    pub fn failed(&mut self, weight: Weight) {
        self.jobs.bad.add(weight);
    }

    /// An audit found the delivered result exact.
    pub fn audit_passed(&mut self, weight: Weight) {
        self.audits.good.add(weight);
    }

    /// An audit found the result wrong, or the worker did not open its trace in time.
    pub fn audit_failed(&mut self, weight: Weight) {
        self.audits.bad.add(weight);
    }

    /// The referee proved fraud: history is cut once for each; slashing is the ledger's.
    pub fn proven_fraud(&mut self) {
        self.frauds = self.frauds.saturating_add(1);
    }

    /// The worker answered a liveness probe of this epoch.
    pub fn online(&mut self) {
        self.probes.good.add(Weight::ONE);
    }

    /// The worker missed a liveness probe of this epoch.
    pub fn offline(&mut self) {
        self.probes.bad.add(Weight::ONE);
    }

    /// A job took `own_ms` where the median of the worker's class is `class_median_ms`; a class without a median yet (0) says
    /// nothing.
    pub fn latency(&mut self, weight: Weight, class_median_ms: u32, own_ms: u32) {
        if class_median_ms == 0 {
            return;
        }
        let ratio = if own_ms == 0 { Unit::ONE } else { Unit::ratio(class_median_ms.into(), own_ms.into()) };
        // Weights are cut to 2^48 so that 2^47 samples fit.
        let weight = u128::from(weight.bits().min(1 << 48));
        self.speed_sum = self.speed_sum.saturating_add(weight * u128::from(ratio.bits()));
        self.speed_weight = self.speed_weight.saturating_add(weight);
    }

    /// The mean speed of the epoch, if there was a sample.
    fn speed(&self) -> Option<Unit> {
        let mean = self.speed_sum.checked_div(self.speed_weight)?;
        Some(Unit::from_bits(u64::try_from(mean).unwrap_or(u64::MAX)))
    }
}

/// The trust state of a worker: 28 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WorkerTrust {
    completion: Counts,
    accuracy: Counts,
    stability: u32,
    speed: u32,
    history: u32,
}
canonical_struct!(WorkerTrust {
    completion: Counts,
    accuracy: Counts,
    stability: u32,
    speed: u32,
    history: u32,
});

/// The five published indicators of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WorkerIndicators {
    /// C: lower confidence bound of the share of accepted work that was delivered.
    pub completion: Unit,
    /// A: lower confidence bound of the share of audited work that was exact.
    pub accuracy: Unit,
    /// U: leaky counter of time online.
    pub stability: Unit,
    /// S: moving average of min(1, class median ÷ own latency).
    pub speed: Unit,
    /// H: the slow record of audited work.
    pub history: Unit,
}

impl WorkerTrust {
    /// The state of an identity without a record.
    pub fn newcomer(params: &Params) -> Self {
        Self {
            completion: Counts::default(),
            accuracy: Counts::default(),
            stability: params.stability_start,
            speed: params.average_start,
            history: params.history_start,
        }
    }

    /// Folds one epoch into the state: the only place where anything decays.
    pub fn close_epoch(&mut self, params: &Params, epoch: &WorkerEpoch) {
        self.close_sums(params, &epoch.sums(params));
    }

    /// [`close_epoch`](Self::close_epoch) for sums that were taken under the same parameters.
    #[inline]
    pub fn close_sums(&mut self, params: &Params, sums: &WorkerSums) {
        self.completion.close_epoch(params, sums.jobs());
        self.accuracy.close_epoch(params, sums.audits());
        if let Some(online) = sums.online() {
            self.stability =
                history::leak(self.stability, params.stability_up, params.stability_down, online);
        }
        if let Some(speed) = sums.speed() {
            self.speed = history::leak(self.speed, params.average_rate, params.average_rate, speed);
        }
        self.history = history::close_epoch(params, self.history, sums.audits(), sums.frauds());
    }

    /// The same as closing so many epochs without events, one after another: for states that are brought up to date only when
    /// they are next needed. With the default parameters it ends after a few thousand steps.
    pub fn close_idle_epochs(&mut self, params: &Params, epochs: u64) {
        self.completion.close_idle_epochs(params, epochs);
        self.accuracy.close_idle_epochs(params, epochs);
    }

    /// The five indicators.
    pub fn indicators(&self, params: &Params) -> WorkerIndicators {
        WorkerIndicators {
            completion: self.completion.lower_bound(params),
            accuracy: self.accuracy.lower_bound(params),
            stability: Unit::from_fraction(self.stability),
            speed: Unit::from_fraction(self.speed),
            history: Unit::from_fraction(self.history),
        }
    }

    /// `T = max(T_min, H·√(A·√(C·√(U·S))))`.
    pub fn weight(&self, params: &Params) -> Trust {
        self.indicators(params).weight(params)
    }
}

impl WorkerIndicators {
    /// `T = max(T_min, H·√(A·√(C·√(U·S))))`.
    pub fn weight(&self, params: &Params) -> Trust {
        let inner = self.stability.geometric_mean(self.speed);
        Trust::combine(params.trust_min, self.history, self.accuracy, self.completion, inner)
    }
}

#[cfg(test)]
mod tests;
