//! A whole run: a population under one policy and one attacker.

use std::sync::atomic::{AtomicBool, Ordering};

use dn_core::Amount;

use super::books::Books;
use super::epoch::{Players, World};
use super::population::Roster;
use crate::attack::{Attacker, Group};
use crate::border::{add, in_dn};
use crate::import::Snapshot;
use crate::policy::{Epoch, Payment, Policy};
use crate::scenario::{Problem, Scenario, ScenarioError};

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
    Scenario(#[from] ScenarioError),
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

/// A run to be played: a population with a seed, and the group in it that may attack.
///
/// ```
/// use dn_sim::{attack::{AttackSpec, Kind}, policy::{self, Policy}, scenario::Scenario, world::Simulation};
/// let scenario = Scenario::from_toml("name = 'mine'\nepochs = 4\nwarmup = 0\nattacks = [{ kind = 'junk' }]").unwrap();
/// let (group, mut junk) = AttackSpec::new(Kind::Junk).build();
/// let mut powr = policy::build("powr", &scenario).unwrap().unwrap();
/// let run = Simulation::new(&scenario, 7).with_group(group).run(&mut junk, powr.as_mut()).unwrap();
/// assert_eq!(run.total.len(), 4);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Simulation<'a> {
    scenario: &'a Scenario,
    seed: u64,
    group: Group,
    snapshot: Option<&'a Snapshot>,
    stop: Option<&'a AtomicBool>,
}

impl<'a> Simulation<'a> {
    /// The scenario's population of this seed, with one worker in the group.
    pub fn new(scenario: &'a Scenario, seed: u64) -> Self {
        Self { scenario, seed, group: Group::new(0.0, 0.0), snapshot: None, stop: None }
    }

    /// With this group.
    #[must_use]
    pub fn with_group(self, group: Group) -> Self {
        Self { group, ..self }
    }

    /// With power, quality and stakes of a snapshot; the scenario must have its counts.
    #[must_use]
    pub fn with_snapshot(self, snapshot: Option<&'a Snapshot>) -> Self {
        Self { snapshot, ..self }
    }

    /// Ended early, with [`RunError::Stopped`], once the flag is set.
    #[must_use]
    pub fn until(self, stop: &'a AtomicBool) -> Self {
        Self { stop: Some(stop), ..self }
    }

    /// That the population can be played; who attacks in it does not matter.
    pub(crate) fn check(&self) -> Result<(), ScenarioError> {
        let roster = Roster::draw(self.scenario, self.snapshot, &self.group, self.seed);
        self.tasks(&roster).map(drop).map_err(|found| ScenarioError::Invalid {
            path: "demand.task".into(),
            problem: Problem::Tasks { found, max: MAX_TASKS },
        })
    }

    /// The tasks that its workers can do in an epoch, or how many too many they are.
    fn tasks(&self, roster: &Roster) -> Result<f64, f64> {
        let tasks = roster.power / self.scenario.demand.task;
        if tasks > MAX_TASKS { Err(tasks) } else { Ok(tasks) }
    }

    /// Plays it.
    ///
    /// # Errors
    /// [`RunError`] when the population is too large, or the policy pays nonsense.
    pub fn run(&self, attacker: &mut dyn Attacker, policy: &mut dyn Policy) -> Result<Trajectory, RunError> {
        let mut game = self.start(policy)?;
        game.play(self.scenario.total_epochs(), attacker, policy)?;
        Ok(game.finish())
    }

    /// The run before its first epoch.
    pub(crate) fn start(&self, policy: &mut dyn Policy) -> Result<Game<'a>, RunError> {
        let scenario = self.scenario;
        let slash = scenario.powr.slash_params()?;
        let roster = Roster::draw(scenario, self.snapshot, &self.group, self.seed);
        self.tasks(&roster).map_err(|found| RunError::Tasks { found })?;
        Ok(Game {
            books: Books::new(scenario, slash, roster.workers.len()),
            world: World::new(scenario, self.seed, roster, policy),
            stop: self.stop,
            trajectory: Trajectory::default(),
            epochs: 0,
            quality: 0.0,
            work: 0.0,
        })
    }
}

/// A run between two epochs: everything but what attacker and policy know.
#[derive(Clone)]
pub(crate) struct Game<'a> {
    world: World<'a>,
    books: Books,
    stop: Option<&'a AtomicBool>,
    trajectory: Trajectory,
    /// Epochs that are played.
    epochs: u32,
    /// Quality × work of what users were given in the measured epochs, in units.
    quality: f64,
    /// Work of it, in units.
    work: f64,
}

impl Game<'_> {
    /// Plays on until so many epochs are played.
    pub(crate) fn play(
        &mut self,
        until: u32,
        attacker: &mut dyn Attacker,
        policy: &mut dyn Policy,
    ) -> Result<(), RunError> {
        let scenario = self.world.scenario;
        let mut players = Players { attacker, policy, measured: None };
        let (mut epoch, mut payment) = (Epoch::default(), Payment::default());
        let sample = (scenario.total_epochs() / 128).max(1);
        while self.epochs < until {
            if self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Err(RunError::Stopped);
            }
            let number = self.epochs;
            epoch.number = number;
            players.measured = number.checked_sub(scenario.warmup);
            let measured = players.measured.is_some();
            let spent = self.world.play(&mut players, &mut epoch);
            payment.start(&epoch);
            players.policy.close(&epoch, &mut payment);
            check(players.policy.name(), number, &payment)?;
            if measured {
                add(&mut self.books.attackers.costs, spent.group);
                self.quality += spent.quality;
                self.work += spent.work;
            }
            let (group, total) = self.books.close(&mut self.world.roster, &epoch, &payment, measured);
            let t = &mut self.trajectory;
            t.group.push(in_dn(group));
            t.total.push(in_dn(total));
            observe(&self.world.roster, players.policy, t);
            let last = number + 1 == scenario.total_epochs();
            let before = t.gini.last().copied().unwrap_or(0.0);
            let due = measured && (number.is_multiple_of(sample) || last);
            t.gini.push(if due { gini(&self.world.roster, &self.books.earned) } else { before });
            self.epochs += 1;
        }
        Ok(())
    }

    /// What was played.
    pub(crate) fn finish(self) -> Trajectory {
        Trajectory {
            attackers: self.books.attackers.into(),
            honest: self.books.honest.into(),
            user_quality: if self.work > 0.0 { self.quality / self.work } else { 0.0 },
            ..self.trajectory
        }
    }
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
    let stake = |all: bool| -> f64 {
        let of = roster.validators.iter().filter(|v| all || v.member.is_some());
        of.fold(0.0, |sum, v| sum + in_dn(v.pool.tokens()))
    };
    let whole = stake(true);
    t.group_stake.push(if whole > 0.0 { stake(false) / whole } else { 0.0 });
}

fn gini(roster: &Roster, earned: &[Amount]) -> f64 {
    let honest: Vec<_> = roster
        .workers
        .iter()
        .zip(earned)
        .filter(|(w, _)| w.member.is_none())
        .map(|(_, e)| in_dn(*e))
        .collect();
    crate::stats::gini(&honest).unwrap_or(0.0)
}
