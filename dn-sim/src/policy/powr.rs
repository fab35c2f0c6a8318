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
use crate::border::{dn, float, unit};
use crate::scenario::{Scenario, ScenarioError};

/// Verified work × result quality × historical reputation.
///
/// Work counts as far as its fees pay for it, and if no audit of the epoch failed; quality is [`Quality::of_epoch`] of what the committees agreed on; trust is
/// [`WorkerTrust`]. Validators are paid by what their votes weigh, `min(stake, cap) × trust`.
#[derive(Clone)]
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
    /// Mean quality of its results in the last epoch in which some were scored.
    quality: Option<Unit>,
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

    fn weight(&self, validator: u32, stake: Amount) -> u128 {
        vote_weight(stake, self.stake_cap, self.validators[validator as usize].1)
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
            weight: self.weight(v.validator, epoch.validators[v.validator as usize].held),
        };
        let quality = Consensus::of(&mut votes.iter().map(weigh).collect::<Vec<_>>()).ok()?.quality;
        judge(votes, events, |vote| Finding::of_vote(vote, quality, &self.review));
        Some(quality)
    }

    /// Gives each worker its score as points; returns their sum.
    fn pay_workers(
        &mut self,
        epoch: &Epoch,
        scored: &[QualitySum],
        domain: &QualitySum,
        payment: &mut Payment,
    ) -> u128 {
        let unknown = domain.mean().unwrap_or(Unit::from_bits(self.trust.average_start.into()));
        let mut total = 0u128;
        for (i, seen) in epoch.workers.iter().enumerate() {
            let record = &mut self.workers[i];
            // An epoch is one batch, which an audit that failed voids whatever else passed.
            let mut execution = QualitySum::default();
            let failed = seen.frauds > 0 || seen.audits_failed > 0;
            let (found, work) = if failed { (Unit::ZERO, 1) } else { (Unit::ONE, seen.audits_passed.into()) };
            // 64 bits of work fit.
            let _ = execution.add(found, work);
            let quality = Quality::of_epoch(&execution, &scored[i], record.quality.unwrap_or(unknown));
            record.quality = scored[i].mean().or(record.quality);
            let work = self.emission.counted_work(seen.delivered.into(), seen.paid);
            let points = score(work, quality.for_worker(), record.trust);
            total += points;
            payment.workers[i] = points as f64;
        }
        total
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
        let entry = Record { state, trust, quality: None };
        if worker >= self.workers.len() {
            self.workers.resize(worker + 1, entry);
        }
        self.workers[worker] = entry;
    }

    fn routing(&self, worker: usize) -> f64 {
        float(self.workers[worker].trust.value())
    }

    fn voice(&self, validator: usize, stake: f64) -> f64 {
        self.weight(validator as u32, dn(stake)) as f64
    }

    fn audit_rate(&self, worker: usize) -> f64 {
        f64::from(audit_rate(&self.audit, self.workers[worker].trust)) / 10_000.0
    }

    fn close(&mut self, epoch: &Epoch, payment: &mut Payment) {
        let mut events = vec![ValidatorEpoch::default(); epoch.validators.len()];
        let mut scored = vec![QualitySum::default(); epoch.workers.len()];
        let mut domain = QualitySum::default();
        for round in &epoch.rounds {
            if let Some(quality) = self.settle(epoch, round, &mut events) {
                // Tasks are of the same work, and an epoch has far fewer than 2^95 of them.
                let _ = scored[round.worker as usize].add(quality, 1).and_then(|()| domain.add(quality, 1));
            }
        }
        let total = self.pay_workers(epoch, &scored, &domain, payment);
        payment.part = (self.emission.wash_bound(total, &FeeSplit::default()).atto() as f64
            / self.pot.atto().max(1) as f64)
            .min(1.0);
        for (i, seen) in epoch.validators.iter().enumerate() {
            payment.validators[i] = self.weight(i as u32, seen.held) as f64;
            (0..seen.timely).for_each(|_| events[i].timely(Weight::ONE));
            (0..seen.missed).for_each(|_| events[i].missed(Weight::ONE));
            (0..seen.aligned).for_each(|_| events[i].aligned(Weight::ONE));
            (0..seen.misaligned).for_each(|_| events[i].misaligned(Weight::ONE));
            (0..seen.false_verdicts).for_each(|_| events[i].proven_fraud());
        }
        self.close_workers(epoch);
        for ((state, trust), events) in self.validators.iter_mut().zip(&events) {
            state.close_epoch(&self.trust, events);
            *trust = state.weight(&self.trust);
        }
    }

    fn fork(&self) -> Option<Box<dyn Policy>> {
        Some(Box::new(self.clone()))
    }
}
