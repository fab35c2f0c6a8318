//! Who is there: traits drawn from the scenario's distributions, the attackers' group among them.

use dn_core::Amount;
use dn_powr::StakePool;

use crate::attack::Group;
use crate::border::dn;
use crate::import::Snapshot;
use crate::rng::{Purpose, Stream};
use crate::scenario::{LATENCY_MS, POWER, PRICE, STAKE, Scenario, UNIT};

/// A worker identity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Worker {
    /// What its random numbers depend on, the same whoever else is there.
    pub(crate) stream: u64,
    /// Its place in the attackers' group, if it belongs to it.
    pub(crate) member: Option<usize>,
    /// Most work in an epoch, in units.
    pub(crate) power: f64,
    pub(crate) quality: f64,
    pub(crate) uptime: f64,
    pub(crate) timeout: f64,
    pub(crate) latency_ms: f64,
    pub(crate) honesty: f64,
    pub(crate) wrong_quality: f64,
    /// As a multiple of the reference price.
    pub(crate) price: f64,
    /// Fee of a unit of its work.
    pub(crate) fee: Amount,
    /// What it bonds when it joins, or bonds again.
    pub(crate) bond: Amount,
    /// What slashes left of it.
    pub(crate) collateral: Amount,
    /// Whether too little is left of it to work.
    pub(crate) suspended: bool,
    /// The epoch in which its present name joined; `None` before.
    pub(crate) joined: Option<u32>,
}

impl Worker {
    /// Posts the whole collateral again.
    pub(crate) fn bond_again(&mut self) {
        self.collateral = self.bond;
        self.suspended = false;
    }

    /// The identity that all names of one machine have in common in the random numbers.
    pub(crate) const fn machine(&self) -> u64 {
        self.stream & 0xffff_ffff
    }
}

/// A validator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Validator {
    pub(crate) member: Option<usize>,
    /// Its stake with delegations.
    pub(crate) pool: StakePool,
    pub(crate) noise: f64,
    pub(crate) uptime: f64,
}

/// Everybody.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Roster {
    pub(crate) workers: Vec<Worker>,
    pub(crate) validators: Vec<Validator>,
    /// Power of all workers together, in units.
    pub(crate) power: f64,
}

impl Roster {
    /// The population of a seed with a group of attackers. The traits do not depend on the group, but for its stake, its identities
    /// and when it joins.
    pub(crate) fn draw(scenario: &Scenario, snapshot: Option<&Snapshot>, group: &Group, seed: u64) -> Self {
        let mut workers = draw_workers(scenario, snapshot, seed);
        let members = group.worker_count(workers.len());
        let power = workers.iter().map(|w| w.power).sum();
        let mut split = Vec::with_capacity(workers.len() + members * group.identities as usize);
        for (member, mut worker) in workers.drain(..members).enumerate() {
            worker.member = Some(member);
            worker.power /= f64::from(group.identities.max(1));
            // However small the machine, each of its names must bond enough to work.
            let least = dn(scenario.workers.min_collateral);
            worker.bond =
                Amount::from_atto(worker.bond.atto() / u128::from(group.identities.max(1))).max(least);
            worker.bond_again();
            worker.joined = (!group.late).then_some(0);
            let base = worker.stream;
            split.extend(
                (0..group.identities.max(1)).map(|n| Worker { stream: base | u64::from(n) << 32, ..worker }),
            );
        }
        split.append(&mut workers);
        let validators = draw_validators(scenario, snapshot, group, seed);
        Self { workers: split, validators, power }
    }
}

fn draw_workers(scenario: &Scenario, snapshot: Option<&Snapshot>, seed: u64) -> Vec<Worker> {
    let s = &scenario.workers;
    let mut workers: Vec<_> = (0..s.count)
        .map(|i| {
            let mut stream = Stream::new(seed, Purpose::Population, (0, i as u64));
            let mut worker = Worker {
                stream: i as u64,
                member: None,
                power: s.power.draw(&mut stream, POWER),
                quality: s.quality.draw(&mut stream, UNIT),
                uptime: s.uptime.draw(&mut stream, UNIT),
                timeout: s.timeout.draw(&mut stream, UNIT),
                latency_ms: s.latency_ms.draw(&mut stream, LATENCY_MS),
                honesty: s.honesty.draw(&mut stream, UNIT),
                price: s.price.draw(&mut stream, PRICE),
                fee: Amount::ZERO,
                bond: dn(s.collateral.draw(&mut stream, STAKE).max(s.min_collateral)),
                collateral: Amount::ZERO,
                suspended: false,
                wrong_quality: s.wrong_quality.draw(&mut stream, UNIT),
                joined: Some(0),
            };
            worker.fee = dn(scenario.rewards.price * worker.price);
            worker.bond_again();
            worker
        })
        .collect();
    if let Some(snapshot) = snapshot {
        for (worker, seen) in workers.iter_mut().zip(&snapshot.workers) {
            worker.power = seen.power.clamp(POWER.0, POWER.1);
            worker.quality = seen.quality;
        }
        // Which of a network's workers attack differs from seed to seed.
        shuffle(&mut workers, seed, 2);
    }
    workers
}

fn draw_validators(
    scenario: &Scenario,
    snapshot: Option<&Snapshot>,
    group: &Group,
    seed: u64,
) -> Vec<Validator> {
    let s = &scenario.validators;
    let mut stakes = Vec::with_capacity(s.count);
    let mut validators: Vec<_> = (0..s.count)
        .map(|i| {
            let mut stream = Stream::new(seed, Purpose::Population, (1, i as u64));
            stakes.push(s.stake.draw(&mut stream, STAKE));
            let (noise, uptime) = (s.noise.draw(&mut stream, UNIT), s.uptime.draw(&mut stream, UNIT));
            Validator { member: None, pool: StakePool::default(), noise, uptime }
        })
        .collect();
    if let Some(snapshot) = snapshot {
        for (stake, seen) in stakes.iter_mut().zip(&snapshot.validator_stakes) {
            *stake = seen.clamp(STAKE.0, STAKE.1);
        }
        shuffle(&mut stakes, seed, 3);
    }
    let members = group.validator_count(s.count);
    give_stake(&mut stakes, members, group.stake);
    for (i, (validator, stake)) in validators.iter_mut().zip(stakes).enumerate() {
        validator.member = (i < members).then_some(i);
        // A validator without stake has an empty pool.
        let _ = validator.pool.deposit(dn(stake));
    }
    validators
}

/// The first validators form the group; stakes are scaled so that it has exactly its part and the whole is what it was.
fn give_stake(stakes: &mut [f64], members: usize, part: f64) {
    let whole: f64 = stakes.iter().sum();
    let (own, others) = stakes.split_at_mut(members);
    for (side, part) in [(own, part), (others, 1.0 - part)] {
        let sum: f64 = side.iter().sum();
        side.iter_mut().for_each(|stake| *stake *= whole * part / sum);
    }
}

/// Fisher–Yates.
fn shuffle<T>(items: &mut [T], seed: u64, place: u64) {
    let mut stream = Stream::new(seed, Purpose::Population, (place, 0));
    for i in (1..items.len()).rev() {
        items.swap(i, stream.below(i + 1));
    }
}
