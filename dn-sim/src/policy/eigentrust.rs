//! EigenTrust as a policy.

use super::simple::{ByMerit, by_stake};
use super::{Epoch, Payment, Policy};
use crate::scenario::Scenario;

/// Workers are paid by their EigenTrust, where the peers are validators and workers, pretrust is stake, and a validator's local trust in a
/// worker is how many of its results it found good less how many it found bad, at least 0. Validators are paid by stake.
///
/// Workers say nothing of anybody, so they pass their trust on to the pretrusted; and nobody says anything of a validator. The fixed point is then
/// known without iteration: the validators hold `1/(2 − alpha)` of all trust in proportion to pretrust, and what a validator passes on to
/// workers goes by its normalised local trust. The tests compare with [`crate::baseline::eigentrust`].
#[derive(Clone)]
pub struct EigenTrustPolicy {
    /// `(good − bad)` of each validator about each worker.
    local: Vec<Vec<f64>>,
    routing: ByMerit,
}

impl EigenTrustPolicy {
    /// The policy for a scenario's validators.
    pub fn new(scenario: &Scenario) -> Self {
        Self { local: vec![Vec::new(); scenario.validators.count], routing: ByMerit::default() }
    }
}

/// Shares of trust among workers, given each validator's pretrust and local trust.
fn shares(pretrust: &[f64], local: &[Vec<f64>], out: &mut [f64]) {
    for (pretrust, row) in pretrust.iter().zip(local) {
        let sum: f64 = row.iter().map(|s| s.max(0.0)).sum();
        if sum > 0.0 {
            for (share, trust) in out.iter_mut().zip(row) {
                *share += pretrust * trust.max(0.0) / sum;
            }
        }
    }
}

impl Policy for EigenTrustPolicy {
    fn name(&self) -> &str {
        "eigentrust"
    }

    fn join(&mut self, worker: usize) {
        for row in &mut self.local {
            if worker >= row.len() {
                row.resize(worker + 1, 0.0);
            }
            row[worker] = 0.0;
        }
        self.routing.join(worker);
    }

    fn routing(&self, worker: usize) -> f64 {
        self.routing.weight(worker)
    }

    fn close(&mut self, epoch: &Epoch, payment: &mut Payment) {
        for round in epoch.rounds.iter().filter(|r| r.known.is_none()) {
            for vote in epoch.votes(round) {
                let good = if vote.score >= 0.5 { 1.0 } else { -1.0 };
                self.local[vote.validator as usize][round.worker as usize] += good;
            }
        }
        let pretrust: Vec<f64> = epoch.validators.iter().map(|v| v.stake).collect();
        shares(&pretrust, &self.local, &mut payment.workers);
        self.routing.learn(&payment.workers, epoch);
        by_stake(epoch, payment);
    }

    fn fork(&self) -> Option<Box<dyn Policy>> {
        Some(Box::new(self.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::eigentrust::eigentrust;

    /// Two validators and three workers as five peers; the second validator trusts nobody yet.
    #[test]
    fn the_short_way_ends_where_the_iteration_ends() {
        for second in [vec![0.0, 0.0, 0.0], vec![0.0, 4.0, 1.0]] {
            let local = [vec![3.0, 1.0, -2.0], second];
            let pretrust = [0.75, 0.25];
            let mut short = vec![0.0; 3];
            shares(&pretrust, &local, &mut short);
            let mut peers = vec![vec![0.0; 5]; 5];
            for (row, local) in peers.iter_mut().zip(&local) {
                row[2..].copy_from_slice(&local.iter().map(|s| f64::max(*s, 0.0)).collect::<Vec<_>>());
            }
            let long = eigentrust(&[0.75, 0.25, 0.0, 0.0, 0.0], &peers, 0.5).expect("settles");
            let (a, b) = (short.iter().sum::<f64>(), long[2..].iter().sum::<f64>());
            for (short, long) in short.iter().zip(&long[2..]) {
                assert!((short / a - long / b).abs() < 1e-12, "{short} {long}");
            }
        }
    }
}
