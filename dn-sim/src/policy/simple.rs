//! The simplest policies, work alone and stake alone; audits for any policy; routing for policies that say nothing of it.

use super::{Epoch, Payment, Policy};

/// Pays delivered work, whatever it was worth; validators by stake.
#[derive(Debug, Clone, Copy, Default)]
pub struct WorkOnly;

impl Policy for WorkOnly {
    fn name(&self) -> &str {
        "work"
    }

    fn close(&mut self, epoch: &Epoch, payment: &mut Payment) {
        for (points, worker) in payment.workers.iter_mut().zip(&epoch.workers) {
            *points = worker.delivered as f64;
        }
        by_stake(epoch, payment);
    }

    fn fork(&self) -> Option<Box<dyn Policy>> {
        Some(Box::new(*self))
    }
}

/// Another policy with audits: one task in ten is replayed, and who is found out, or cannot open what was asked for, gets nothing for
/// the epoch. No record is kept.
pub struct Audited {
    inner: Box<dyn Policy>,
    name: String,
}

impl Audited {
    /// The policy with audits; its name says so.
    pub fn new(inner: impl Policy + 'static) -> Self {
        Self { name: format!("{}-audits", inner.name()), inner: Box::new(inner) }
    }
}

impl Policy for Audited {
    fn name(&self) -> &str {
        &self.name
    }

    fn join(&mut self, worker: usize) {
        self.inner.join(worker);
    }

    fn routing(&self, worker: usize) -> f64 {
        self.inner.routing(worker)
    }

    fn voice(&self, validator: usize, stake: f64) -> f64 {
        self.inner.voice(validator, stake)
    }

    fn audit_rate(&self, _worker: usize) -> f64 {
        0.1
    }

    fn close(&mut self, epoch: &Epoch, payment: &mut Payment) {
        self.inner.close(epoch, payment);
        for (points, seen) in payment.workers.iter_mut().zip(&epoch.workers) {
            if seen.frauds > 0 || seen.audits_failed > 0 {
                *points = 0.0;
            }
        }
    }

    fn fork(&self) -> Option<Box<dyn Policy>> {
        Some(Box::new(Self { inner: self.inner.fork()?, name: self.name.clone() }))
    }
}

/// Pays those whom stake holders score well, each worker by the stake-weighted mean of its scores whatever it worked; validators by stake.
/// Votes are not clipped: who has the stake has the say.
#[derive(Debug, Clone, Copy, Default)]
pub struct StakeOnly;

impl Policy for StakeOnly {
    fn name(&self) -> &str {
        "stake"
    }

    fn close(&mut self, epoch: &Epoch, payment: &mut Payment) {
        let mut weights = vec![0.0; epoch.workers.len()];
        for round in &epoch.rounds {
            let worker = round.worker as usize;
            for vote in epoch.votes(round) {
                let stake = epoch.validators[vote.validator as usize].stake;
                payment.workers[worker] += stake * vote.score;
                weights[worker] += stake;
            }
        }
        for (points, weight) in payment.workers.iter_mut().zip(weights) {
            *points = if weight > 0.0 { *points / weight } else { 0.0 };
        }
        by_stake(epoch, payment);
    }

    fn fork(&self) -> Option<Box<dyn Policy>> {
        Some(Box::new(*self))
    }
}

/// Routing for policies that say nothing of it: a worker's weight is its points for a unit of work ÷ those of the mean worker, at most 1 and at
/// least a hundredth; a tenth of it follows the last epoch. A new worker has 1.
#[derive(Debug, Clone, Default)]
pub(super) struct ByMerit(Vec<f64>);

impl ByMerit {
    pub(super) fn join(&mut self, worker: usize) {
        if worker >= self.0.len() {
            self.0.resize(worker + 1, 1.0);
        }
        self.0[worker] = 1.0;
    }

    pub(super) fn weight(&self, worker: usize) -> f64 {
        self.0[worker]
    }

    pub(super) fn learn(&mut self, points: &[f64], epoch: &Epoch) {
        let work: f64 = epoch.workers.iter().map(|w| w.delivered as f64).sum();
        let all: f64 = points.iter().sum();
        if all <= 0.0 || work <= 0.0 {
            return;
        }
        for ((weight, points), seen) in self.0.iter_mut().zip(points).zip(&epoch.workers) {
            if seen.delivered > 0 {
                let merit = (points / all * work / seen.delivered as f64).clamp(0.01, 1.0);
                *weight += 0.1 * (merit - *weight);
            }
        }
    }
}

pub(super) fn by_stake(epoch: &Epoch, payment: &mut Payment) {
    for (points, validator) in payment.validators.iter_mut().zip(&epoch.validators) {
        *points = validator.stake;
    }
}
