//! Yuma consensus as a policy.

use dn_powr::{Finding, ReviewParams};
use dn_trust::{Params, ValidatorEpoch, ValidatorTrust, Weight};

use super::powr::{judge, review};
use super::simple::ByMerit;
use super::{Epoch, Payment, Policy};
use crate::baseline::yuma::{self, Matrix, Version, Yuma};
use crate::border::{float, unit};
use crate::scenario::Scenario;

/// Validators weigh workers by what they saw of them, quality × work, and Yuma turns weights and stake into incentives and dividends.
///
/// A validator's opinion of a worker is a moving average of its scores; one that has not scored a worker yet gives it nothing. With
/// canaries a validator's stake counts as stake × trust, where trust comes from known answers alone, as in PoWR.
#[derive(Clone)]
pub struct YumaPolicy {
    name: String,
    yuma: Yuma<f64>,
    memory: f64,
    /// `opinions[validator][worker]`; absent until the validator has scored the worker.
    opinions: Vec<Vec<Option<f64>>>,
    canaries: Option<Canaries>,
    routing: ByMerit,
}

/// Trust in validators from known answers.
#[derive(Clone)]
struct Canaries {
    params: Params,
    review: ReviewParams,
    validators: Vec<ValidatorTrust>,
}

impl YumaPolicy {
    /// The policy of this name: `yuma1`, `yuma2`, `yuma3` or `yuma3-canaries`.
    pub fn new(name: &str, scenario: &Scenario) -> Self {
        let o = &scenario.yuma;
        let params = yuma::Params {
            version: match name {
                "yuma1" => Version::One,
                "yuma2" => Version::Two,
                _ => Version::Three,
            },
            kappa: o.kappa,
            bond_penalty: o.bond_penalty,
            bonds_moving_average: 1.0 - o.alpha,
            liquid_alpha: o.liquid_alpha,
            alpha_low: o.alpha_low,
            alpha_high: o.alpha_high,
            alpha_steepness: o.alpha_steepness,
            reveal_lag_epochs: o.reveal_lag as usize,
            ..yuma::Params::default()
        };
        let trust = Params::default();
        let newcomer = ValidatorTrust::newcomer(&trust);
        let canaries = name.ends_with("-canaries").then(|| Canaries {
            params: trust,
            review: review(scenario),
            validators: vec![newcomer; scenario.validators.count],
        });
        Self {
            name: name.to_owned(),
            yuma: Yuma::new(params).expect("a checked scenario has these in range"),
            memory: o.memory,
            opinions: vec![Vec::new(); scenario.validators.count],
            canaries,
            routing: ByMerit::default(),
        }
    }

    fn observe(&mut self, epoch: &Epoch) {
        let workers = epoch.workers.len();
        let mut sums = vec![(0.0, 0u32); self.opinions.len() * workers];
        for round in epoch.rounds.iter().filter(|r| r.known.is_none()) {
            for vote in epoch.votes(round) {
                let (sum, count) = &mut sums[vote.validator as usize * workers + round.worker as usize];
                *sum += vote.score;
                *count += 1;
            }
        }
        for (opinion, (sum, count)) in self.opinions.iter_mut().flatten().zip(sums) {
            if count > 0 {
                let mean = sum / f64::from(count);
                let before = opinion.unwrap_or(mean);
                *opinion = Some(before + self.memory * (mean - before));
            }
        }
    }
}

impl Canaries {
    fn observe(&mut self, epoch: &Epoch) {
        let mut events = vec![ValidatorEpoch::default(); self.validators.len()];
        for round in &epoch.rounds {
            let Some(known) = round.known else { continue };
            let votes = epoch.votes(round);
            judge(votes, &mut events, |vote| Finding::of_canary(vote, unit(known), &self.review));
        }
        for (state, event) in self.validators.iter_mut().zip(&mut events) {
            // Nothing but canaries is judged here.
            event.aligned(Weight::ONE);
            event.timely(Weight::ONE);
            state.close_epoch(&self.params, event);
        }
    }
}

impl Policy for YumaPolicy {
    fn name(&self) -> &str {
        &self.name
    }

    fn join(&mut self, worker: usize) {
        for opinions in &mut self.opinions {
            if worker >= opinions.len() {
                opinions.resize(worker + 1, None);
            }
            opinions[worker] = None;
        }
        self.yuma.reset_miner(worker);
        self.routing.join(worker);
    }

    fn routing(&self, worker: usize) -> f64 {
        self.routing.weight(worker)
    }

    fn voice(&self, validator: usize, stake: f64) -> f64 {
        let trust = self.canaries.as_ref().map(|c| float(c.validators[validator].weight(&c.params).value()));
        stake * trust.unwrap_or(1.0)
    }

    fn close(&mut self, epoch: &Epoch, payment: &mut Payment) {
        self.observe(epoch);
        let stake: Vec<f64> =
            epoch.validators.iter().enumerate().map(|(v, seen)| self.voice(v, seen.stake)).collect();
        let rows: Vec<Vec<f64>> = self
            .opinions
            .iter()
            .map(|opinions| {
                let weight = |(opinion, worker): (&Option<f64>, &super::WorkerSeen)| {
                    // In units of 10^12 operations: rows are normalised anyway.
                    opinion.unwrap_or(0.0) * worker.delivered as f64 / 1e12
                };
                opinions.iter().zip(&epoch.workers).map(weight).collect()
            })
            .collect();
        if let Some(canaries) = &mut self.canaries {
            canaries.observe(epoch);
        }
        // Not a number: the run ends with an error rather than with nobody paid.
        payment.part = f64::NAN;
        let Ok(weights) = Matrix::from_rows(&rows) else { return };
        let Ok(found) = self.yuma.step(&stake, &weights) else { return };
        payment.part = 1.0;
        payment.workers.copy_from_slice(&found.incentive);
        self.routing.learn(&found.incentive, epoch);
        payment.validators.copy_from_slice(&found.dividends);
    }

    fn fork(&self) -> Option<Box<dyn Policy>> {
        Some(Box::new(self.clone()))
    }
}
