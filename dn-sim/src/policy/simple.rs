//! The two simplest policies: work alone, stake alone.

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
}

pub(super) fn by_stake(epoch: &Epoch, payment: &mut Payment) {
    for (points, validator) in payment.validators.iter_mut().zip(&epoch.validators) {
        *points = validator.stake;
    }
}
