//! A whole run: a population under one policy and one attacker.

use std::sync::atomic::{AtomicBool, Ordering};

use dn_powr::SlashParams;

use super::epoch::{self, World};
use super::population::Roster;
use crate::attack::{Attacker, Group};
use crate::import::Snapshot;
use crate::policy::{Epoch, Payment, Policy};
use crate::scenario::Scenario;

/// What one side was paid over the measured epochs, in DN.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Ledger {
    /// What the policy gave its workers.
    pub emission: f64,
    /// What the policy gave its validators.
    pub dividends: f64,
    /// The workers' and the validators' parts of the fees.
    pub fees: f64,
    /// Slashes, entry bonds and fees of tasks that it made fail.
    pub costs: f64,
    /// Fees lost by paying oneself: what did not come back.
    pub bought: f64,
    /// What computing cost.
    pub computing: f64,
}

impl Ledger {
    /// What is left of everything.
    pub fn net(&self) -> f64 {
        self.emission + self.dividends + self.fees - self.costs - self.bought - self.computing
    }
}

/// A run in time; one entry for each epoch, with those before the measured ones.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trajectory {
    /// The attackers' emission, in DN.
    pub group: Vec<f64>,
    /// All emission, in DN.
    pub total: Vec<f64>,
    /// Mean trust weight of the attackers' workers.
    pub group_trust: Vec<f64>,
    /// Mean trust weight of the honest workers.
    pub honest_trust: Vec<f64>,
    /// The attackers' part of all stake.
    pub group_stake: Vec<f64>,
    /// Gini coefficient of the honest workers' emission in the measured epochs so far; sampled, else the value before.
    pub gini: Vec<f64>,
    /// The attackers' books over the measured epochs.
    pub attackers: Ledger,
    /// Everybody else's.
    pub honest: Ledger,
    /// Mean quality of the tasks that users were given in the measured epochs.
    pub user_quality: f64,
}

/// Most tasks that all workers together can do in an epoch.
const MAX_TASKS: f64 = 1_000_000.0;

/// Why a run cannot be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// It was told to stop.
    #[error("stopped")]
    Stopped,
    /// Constants that are refused.
    #[error(transparent)]
    Scenario(#[from] crate::scenario::ScenarioError),
    /// Too much to play.
    #[error(
        "the workers can do {found:.0} tasks in an epoch; at most {MAX_TASKS} are played: raise demand.task or lower workers.power"
    )]
    Tasks {
        /// What they can do.
        found: f64,
    },
    /// A policy paid something that is no amount.
    #[error(
        "the policy `{policy}` gave {what} {index} {found} points in epoch {epoch}; points must be finite and at least 0"
    )]
    Points {
        /// The policy.
        policy: String,
        /// `worker` or `validator`.
        what: &'static str,
        /// Which.
        index: usize,
        /// What it gave.
        found: f64,
        /// When.
        epoch: u32,
    },
    /// A policy wants to pay more than there is, or less than nothing.
    #[error(
        "the policy `{policy}` wants to pay {found} of the pots in epoch {epoch}; it must be from 0 to 1"
    )]
    Part {
        /// The policy.
        policy: String,
        /// What it gave.
        found: f64,
        /// When.
        epoch: u32,
    },
}

/// Simulates a population with a seed.
///
/// # Errors
/// [`RunError`] when the population is too large, or the policy pays nonsense.
pub fn simulate(
    scenario: &Scenario,
    snapshot: Option<&Snapshot>,
    group: &Group,
    attacker: &mut dyn Attacker,
    policy: &mut dyn Policy,
    seed: u64,
) -> Result<Trajectory, RunError> {
    simulate_until(&AtomicBool::new(false), scenario, snapshot, group, attacker, policy, seed)
}

/// The same, ended early by a flag.
#[allow(clippy::too_many_arguments)]
pub(crate) fn simulate_until(
    stop: &AtomicBool,
    scenario: &Scenario,
    snapshot: Option<&Snapshot>,
    group: &Group,
    attacker: &mut dyn Attacker,
    policy: &mut dyn Policy,
    seed: u64,
) -> Result<Trajectory, RunError> {
    let slash = scenario.powr.slash_params()?;
    let roster = Roster::draw(scenario, snapshot, group, seed);
    let tasks = roster.power / scenario.demand.task;
    if tasks > MAX_TASKS {
        return Err(RunError::Tasks { found: tasks });
    }
    let mut world = World::new(scenario, seed, roster, policy);
    let mut t = Trajectory::default();
    let mut epoch = Epoch::default();
    let mut payment = Payment::default();
    let mut earned = vec![0.0; world.roster.workers.len()];
    let (mut quality, mut work) = (0.0, 0.0);
    let sample = (scenario.total_epochs() / 128).max(1);
    for number in 0..scenario.total_epochs() {
        if stop.load(Ordering::Relaxed) {
            return Err(RunError::Stopped);
        }
        epoch.number = number;
        let measured = number.checked_sub(scenario.warmup);
        let spent = world.play(measured, attacker, policy, &mut epoch);
        payment.workers.clear();
        payment.workers.resize(epoch.workers.len(), 0.0);
        payment.validators.clear();
        payment.validators.resize(epoch.validators.len(), 0.0);
        payment.part = 1.0;
        policy.close(&epoch, &mut payment);
        check(policy.name(), number, &payment)?;
        if measured.is_some() {
            t.attackers.costs += spent.group;
            quality += spent.quality;
            work += spent.work;
        }
        pay(&mut world.roster, scenario, &slash, &epoch, &payment, measured.is_some(), &mut t, &mut earned);
        observe(&world.roster, policy, &mut t);
        let last = number + 1 == scenario.total_epochs();
        let before = t.gini.last().copied().unwrap_or(0.0);
        let due = measured.is_some() && (number % sample == 0 || last);
        t.gini.push(if due { gini(&world.roster, &earned) } else { before });
    }
    t.user_quality = if work > 0.0 { quality / work } else { 0.0 };
    Ok(t)
}

fn check(policy: &str, epoch: u32, payment: &Payment) -> Result<(), RunError> {
    let fine = |points: f64| points.is_finite() && points >= 0.0;
    for (what, points) in [("worker", &payment.workers), ("validator", &payment.validators)] {
        if let Some(index) = points.iter().position(|p| !fine(*p)) {
            let (policy, found) = (policy.to_owned(), points[index]);
            return Err(RunError::Points { policy, what, index, found, epoch });
        }
    }
    if !(0.0..=1.0).contains(&payment.part) {
        return Err(RunError::Part { policy: policy.to_owned(), found: payment.part, epoch });
    }
    Ok(())
}

/// Books an epoch: emission by points, fees, slashes; validators stake again.
#[allow(clippy::too_many_arguments)]
fn pay(
    roster: &mut Roster,
    scenario: &Scenario,
    slash: &SlashParams,
    epoch: &Epoch,
    payment: &Payment,
    measured: bool,
    t: &mut Trajectory,
    earned: &mut [f64],
) {
    let rewards = &scenario.rewards;
    let (mut group, mut total, mut fees) = (0.0, 0.0, 0.0);
    let per_point = |pot: f64, points: &[f64]| {
        let sum: f64 = points.iter().sum();
        if sum > 0.0 { pot * payment.part / sum } else { 0.0 }
    };
    let rate = per_point(rewards.workers, &payment.workers);
    for (i, worker) in roster.workers.iter_mut().enumerate() {
        let amount = rate * payment.workers[i];
        let bill = epoch::settle(scenario, slash, worker, &epoch.workers[i]);
        fees += bill.validators;
        total += amount;
        if worker.member.is_some() {
            group += amount;
        }
        if measured {
            earned[i] += amount;
            let books = if worker.member.is_some() { &mut t.attackers } else { &mut t.honest };
            books.emission += amount;
            books.fees += bill.fees;
            books.costs += bill.slashed;
            books.bought += bill.bought;
            books.computing += bill.computing;
        }
    }
    let rate = per_point(rewards.validators, &payment.validators);
    let points_of_all: f64 = payment.validators.iter().sum();
    for (validator, points) in roster.validators.iter_mut().zip(&payment.validators) {
        let amount = rate * points;
        validator.stake += amount * rewards.restake;
        total += amount;
        if validator.member.is_some() {
            group += amount;
        }
        if measured {
            let books = if validator.member.is_some() { &mut t.attackers } else { &mut t.honest };
            books.dividends += amount;
            books.fees += if points_of_all > 0.0 { fees * points / points_of_all } else { 0.0 };
        }
    }
    t.group.push(group);
    t.total.push(total);
}

fn observe(roster: &Roster, policy: &dyn Policy, t: &mut Trajectory) {
    let mean = |member: bool| {
        let (mut sum, mut count) = (0.0, 0u32);
        for (i, worker) in roster.workers.iter().enumerate() {
            if worker.member.is_some() == member && worker.joined.is_some() {
                sum += policy.routing(i);
                count += 1;
            }
        }
        if count > 0 { sum / f64::from(count) } else { 0.0 }
    };
    t.group_trust.push(mean(true));
    t.honest_trust.push(mean(false));
    let stake = |member: Option<bool>| -> f64 {
        let of = roster.validators.iter().filter(|v| member.is_none_or(|m| v.member.is_some() == m));
        of.fold(0.0, |sum, v| sum + v.stake)
    };
    t.group_stake.push(stake(Some(true)) / stake(None));
}

fn gini(roster: &Roster, earned: &[f64]) -> f64 {
    let honest: Vec<_> =
        roster.workers.iter().zip(earned).filter(|(w, _)| w.member.is_none()).map(|(_, e)| *e).collect();
    crate::stats::gini(&honest).unwrap_or(0.0)
}
