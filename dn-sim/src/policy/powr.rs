//! PoWR itself, by the functions that the ledger calls.

use dn_core::Amount;
use dn_powr::{
    Attendance, Consensus, EmissionParams, FeeSplit, Finding, Quality, QualitySum, ReviewParams, Vote, score,
    vote_weight,
};
use dn_trust::{
    AuditParams, Params, Trust, Unit, ValidatorEpoch, ValidatorTrust, Weight, WorkerEpoch, WorkerTrust,
    audit_rate,
};

use super::{Epoch, Payment, Policy, Round, VoteSeen};
use crate::scenario::{Scenario, ScenarioError};

/// Verified work × result quality × historical reputation.
///
/// Work counts as far as its fees pay for it, and if no fraud was proven in the epoch; quality is the weighted lower median of the committee,
/// averaged over the epoch's scored work, half of which replaces what was remembered; trust is [`WorkerTrust`]. Validators are paid by what their votes weigh, `min(stake, cap) × trust`, for the part of their duties
/// that they did in time.
pub struct PowrPolicy {
    trust: Params,
    audit: AuditParams,
    emission: EmissionParams,
    pot: Amount,
    stake_cap: Amount,
    review: ReviewParams,
    workers: Vec<Record>,
    validators: Vec<(ValidatorTrust, Trust)>,
}

/// What PoWR remembers of a worker.
#[derive(Clone, Copy)]
struct Record {
    state: WorkerTrust,
    trust: Trust,
    /// Quality of its results: half of it from the last epoch in which some were scored.
    quality: Unit,
}

/// A number between 0 and 1 in Q32, rounded down.
pub(super) fn unit(value: f64) -> Unit {
    Unit::from_bits((value.clamp(0.0, 1.0) * Unit::ONE.bits() as f64) as u64)
}

/// A Q32 number as a float, without loss.
pub(super) fn float(value: Unit) -> f64 {
    value.bits() as f64 / Unit::ONE.bits() as f64
}

/// An amount of DN, to the nano; more than the supply is the supply.
fn dn(value: f64) -> Amount {
    Amount::from_atto((value.clamp(0.0, 1e8) * 1e9) as u128 * 1_000_000_000)
}

impl PowrPolicy {
    /// PoWR with a scenario's constants.
    ///
    /// # Errors
    /// [`ScenarioError`] when the parameters of trust are refused.
    pub fn new(scenario: &Scenario) -> Result<Self, ScenarioError> {
        let options = &scenario.powr;
        let cap = if options.stake_cap > 0.0 { options.stake_cap } else { f64::MAX };
        let params = options.trust_params()?;
        Ok(Self {
            audit: options.audit_params()?,
            emission: EmissionParams {
                reference_price: dn(scenario.rewards.price),
                ..EmissionParams::default()
            },
            // Workers get half of a domain's emission by the default split.
            pot: dn(2.0 * scenario.rewards.workers),
            stake_cap: dn(cap),
            review: review(scenario),
            workers: Vec::new(),
            validators: vec![
                {
                    let state = ValidatorTrust::newcomer(&params);
                    (state, state.weight(&params))
                };
                scenario.validators.count
            ],
            trust: params,
        })
    }

    fn weight(&self, validator: u32, stake: f64) -> u128 {
        vote_weight(dn(stake), self.stake_cap, self.validators[validator as usize].1)
    }

    /// Settles a round: the agreed quality for the worker, and what it says about the validators. A canary judges validators and is
    /// no word about any worker.
    fn settle(&self, epoch: &Epoch, round: &Round, events: &mut [ValidatorEpoch]) -> Option<Unit> {
        let votes = epoch.votes(round);
        if let Some(known) = round.known {
            judge(votes, events, |vote| Finding::of_canary(vote, unit(known), &self.review));
            return None;
        }
        let weigh = |v: &VoteSeen| Vote {
            score: unit(v.score),
            weight: self.weight(v.validator, epoch.validators[v.validator as usize].stake),
        };
        let quality = Consensus::of(&mut votes.iter().map(weigh).collect::<Vec<_>>()).ok()?.quality;
        judge(votes, events, |vote| Finding::of_vote(vote, quality, &self.review));
        Some(quality)
    }

    fn close_workers(&mut self, epoch: &Epoch) {
        let weight = |work: u64| Weight::of_work(&self.trust, work.into());
        for (seen, Record { state, trust, .. }) in epoch.workers.iter().zip(&mut self.workers) {
            let mut events = WorkerEpoch::default();
            events.completed(weight(seen.delivered));
            events.failed(weight(seen.failed));
            events.audit_passed(weight(seen.audits_passed));
            events.audit_failed(weight(seen.audits_failed));
            (0..seen.frauds).for_each(|_| events.proven_fraud());
            if seen.online {
                events.online();
            } else {
                events.offline();
            }
            events.latency(weight(seen.delivered), epoch.median_latency_ms, seen.latency_ms);
            state.close_epoch(&self.trust, &events);
            *trust = state.weight(&self.trust);
        }
    }
}

/// The constants of committees that a scenario names; the others do not matter to findings.
pub(super) fn review(scenario: &Scenario) -> ReviewParams {
    ReviewParams {
        tolerance: unit(scenario.review.alignment_tolerance),
        canary_tolerance: unit(scenario.review.canary_tolerance),
        ..ReviewParams::default()
    }
}

/// Adds what a round says about each validator that voted.
pub(super) fn judge(votes: &[VoteSeen], events: &mut [ValidatorEpoch], find: impl Fn(Attendance) -> Finding) {
    for vote in votes {
        let finding = find(Attendance::Revealed { score: unit(vote.score) });
        finding.fold(Weight::ONE, &mut events[vote.validator as usize]);
    }
}

impl Policy for PowrPolicy {
    fn name(&self) -> &str {
        "powr"
    }

    fn join(&mut self, worker: usize) {
        let state = WorkerTrust::newcomer(&self.trust);
        let trust = state.weight(&self.trust);
        let entry = Record { state, trust, quality: Unit::from_bits(self.trust.average_start.into()) };
        if worker >= self.workers.len() {
            self.workers.resize(worker + 1, entry);
        }
        self.workers[worker] = entry;
    }

    fn routing(&self, worker: usize) -> f64 {
        float(self.workers[worker].trust.value())
    }

    fn voice(&self, validator: usize, stake: f64) -> f64 {
        self.weight(validator as u32, stake) as f64
    }

    fn audit_rate(&self, worker: usize) -> f64 {
        f64::from(audit_rate(&self.audit, self.workers[worker].trust)) / 10_000.0
    }

    fn close(&mut self, epoch: &Epoch, payment: &mut Payment) {
        let mut events = vec![ValidatorEpoch::default(); epoch.validators.len()];
        let mut scored = vec![QualitySum::default(); epoch.workers.len()];
        for round in &epoch.rounds {
            if let Some(quality) = self.settle(epoch, round, &mut events) {
                // Tasks are of the same work, and an epoch has far fewer than 2^95 of them.
                let _ = scored[round.worker as usize].add(quality, 1);
            }
        }
        let mut total = 0u128;
        for (i, seen) in epoch.workers.iter().enumerate() {
            let record = &mut self.workers[i];
            if let Some(mean) = scored[i].mean() {
                record.quality = Unit::from_bits((record.quality.bits() + mean.bits()) / 2);
            }
            // Who failed an audit is not paid for the epoch; who passed, or was not drawn, is.
            let failed = seen.frauds > 0 || seen.audits_failed > 0;
            let execution = if failed { Unit::ZERO } else { Unit::ONE };
            let quality = Quality { execution, result: record.quality };
            let work = self.emission.counted_work(seen.delivered.into(), dn(seen.fees));
            let points = score(work, quality.for_worker(), record.trust);
            total += points;
            payment.workers[i] = points as f64;
        }
        payment.part = (self.emission.wash_bound(total, &FeeSplit::default()).atto() as f64
            / self.pot.atto().max(1) as f64)
            .min(1.0);
        for (i, seen) in epoch.validators.iter().enumerate() {
            let duties = f64::from(seen.timely + seen.missed);
            let done = if duties > 0.0 { f64::from(seen.timely) / duties } else { 1.0 };
            payment.validators[i] = self.voice(i, seen.stake) * done;
            (0..seen.timely).for_each(|_| events[i].timely(Weight::ONE));
            (0..seen.missed).for_each(|_| events[i].missed(Weight::ONE));
        }
        self.close_workers(epoch);
        for ((state, trust), events) in self.validators.iter_mut().zip(&events) {
            state.close_epoch(&self.trust, events);
            *trust = state.weight(&self.trust);
        }
    }
}
