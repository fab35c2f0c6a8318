//! One epoch of the network: who attacks how, who gets work, what becomes known.

use dn_core::Amount;

use super::committee::Urn;
use super::market;
use super::population::Roster;
use super::shift::Shift;
use crate::attack::{Attacker, Conduct, WorkerView};
use crate::border::{add, dn, in_dn};
use crate::policy::{Epoch, Policy, ValidatorSeen, WorkerSeen};
use crate::rng::{Purpose, Stream};
use crate::scenario::Scenario;

/// Published quality of a worker of which nothing is published yet.
const UNKNOWN_QUALITY: f64 = 0.5;

/// The network between epochs, with the room that an epoch needs.
#[derive(Clone)]
pub(super) struct World<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) seed: u64,
    pub(super) roster: Roster,
    /// Mean of the votes on each worker when it was last scored.
    pub(super) published: Vec<f64>,
    pub(super) drawn: Vec<usize>,
    pub(super) verdicts: Vec<(usize, bool)>,
    entry_trust: f64,
    conduct: Vec<Conduct>,
    weights: Vec<f64>,
    /// Work that each could still do, in units.
    room: Vec<f64>,
    shares: Vec<f64>,
    explored: Vec<f64>,
}

/// Who decides: the group that attacks in the measured epochs, and the policy.
pub(super) struct Players<'a> {
    pub(super) attacker: &'a mut dyn Attacker,
    pub(super) policy: &'a mut dyn Policy,
    /// The epoch's number among the measured ones, in which the group attacks.
    pub(super) measured: Option<u32>,
}

/// What an epoch cost the attackers besides what they were paid, and how good the users' answers were.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    /// Entry bonds and fees of griefed tasks.
    pub(super) group: Amount,
    /// Quality × work of all delivered tasks that others paid, in units.
    pub(super) quality: f64,
    /// Work of these tasks, in units.
    pub(super) work: f64,
    /// Work of the jobs that failed, in units.
    pub(super) failed: f64,
}

impl<'a> World<'a> {
    pub(super) fn new(scenario: &'a Scenario, seed: u64, roster: Roster, policy: &mut dyn Policy) -> Self {
        let workers = roster.workers.len();
        (0..workers).for_each(|i| policy.join(i));
        let entry_trust = policy.routing(0);
        Self {
            scenario,
            seed,
            published: vec![UNKNOWN_QUALITY; workers],
            entry_trust,
            conduct: vec![Conduct::HONEST; workers],
            weights: vec![0.0; workers],
            room: vec![0.0; workers],
            shares: Vec::new(),
            explored: Vec::new(),
            drawn: Vec::new(),
            verdicts: Vec::new(),
            roster,
        }
    }

    /// Plays an epoch.
    pub(super) fn play(&mut self, players: &mut Players<'_>, epoch: &mut Epoch) -> Spent {
        let mut spent = Spent::default();
        let griefed = players.measured.map_or(0.0, |n| players.attacker.grief(n).clamp(0.0, 1.0));
        self.drift(epoch.number);
        self.decide(epoch.number, players, &mut spent);
        self.route(epoch, players.policy);
        let validators = &self.roster.validators;
        epoch.validators.clear();
        epoch.validators.extend(validators.iter().map(|v| ValidatorSeen::of(v.pool.tokens())));
        epoch.rounds.clear();
        epoch.votes.clear();
        let voices = epoch.validators.iter().enumerate().map(|(i, v)| players.policy.voice(i, v.stake));
        let urn = Urn::new(voices.collect());
        for again in [false, true] {
            if again {
                let failed = std::mem::take(&mut spent.failed);
                if self.scenario.demand.hosts < 2 || failed <= 0.0 {
                    break;
                }
                market::divide(failed, &self.weights, &self.room, &mut self.shares);
            }
            for index in 0..self.roster.workers.len() {
                let (worker, share) = (self.roster.workers[index], self.shares[index]);
                if again && share <= 0.0 {
                    continue;
                }
                let streams = match again {
                    false => [Purpose::Work, Purpose::Votes],
                    true => [Purpose::Retry, Purpose::RetryVotes],
                };
                let place = (epoch.number.into(), worker.stream);
                let [chance, votes] = streams.map(|purpose| Stream::new(self.seed, purpose, place));
                let conduct = self.conduct[index];
                let spare = if again { 0.0 } else { (self.room[index] - share).max(0.0) };
                let shift = Shift {
                    index,
                    worker,
                    conduct,
                    audit_rate: players.policy.audit_rate(index),
                    griefed: if worker.member.is_none() { griefed } else { 0.0 },
                    urn: &urn,
                    chance,
                    votes,
                };
                let done = self.work(shift, share, spare * conduct.wash, players, epoch, &mut spent);
                self.room[index] = (self.room[index] - done).max(0.0);
            }
        }
        self.publish(epoch);
        self.show(epoch);
        spent
    }

    /// The quality of each machine's results moves by a little, the same whatever name it has.
    fn drift(&mut self, now: u32) {
        let drift = self.scenario.workers.drift;
        if drift <= 0.0 {
            return;
        }
        for worker in &mut self.roster.workers {
            let mut stream = Stream::new(self.seed, Purpose::Drift, (now.into(), worker.machine()));
            worker.quality = (worker.quality + drift * stream.normal()).clamp(0.0, 1.0);
        }
    }

    /// The attackers decide; those who take a new name, come late, or bond again do.
    fn decide(&mut self, now: u32, players: &mut Players<'_>, spent: &mut Spent) {
        let Some(epoch) = players.measured else { return };
        let entry_bond = dn(self.scenario.rewards.entry_bond);
        for (i, worker) in self.roster.workers.iter_mut().enumerate() {
            let Some(index) = worker.member else { continue };
            let fresh = worker.joined.is_none();
            if epoch == 0 && worker.stream >> 32 > 0 {
                // One identity more than the group would have by behaving.
                add(&mut spent.group, entry_bond);
            }
            let age = now - *worker.joined.get_or_insert(now);
            let (trust, entry_trust) = (players.policy.routing(i), self.entry_trust);
            let suspended = worker.suspended;
            let view = WorkerView { epoch, age, trust, entry_trust, suspended, index };
            let mut conduct = players.attacker.work(&view);
            conduct.cheat = conduct.cheat.clamp(0.0, 1.0);
            conduct.wash = conduct.wash.clamp(0.0, 1.0);
            conduct.cheat_quality = conduct.cheat_quality.clamp(0.0, 1.0);
            if conduct.renew {
                worker.joined = Some(now);
                add(&mut spent.group, entry_bond);
            }
            if conduct.renew || conduct.rebond && suspended {
                worker.bond_again();
            }
            if conduct.renew || fresh {
                players.policy.join(i);
                self.published[i] = UNKNOWN_QUALITY;
            }
            self.conduct[i] = conduct;
        }
    }

    /// Divides the epoch's demand: `explored` by power alone, the rest by the policy's weights; leaves the work of each, in units, in
    /// `shares`, and its power, if it is there, in `room`.
    fn route(&mut self, epoch: &mut Epoch, policy: &dyn Policy) {
        let demand = &self.scenario.demand;
        epoch.workers.clear();
        for (i, worker) in self.roster.workers.iter().enumerate() {
            let mut stream = Stream::new(self.seed, Purpose::Demand, (epoch.number.into(), worker.stream));
            let there = worker.joined.is_some() && !worker.suspended;
            let online = there && stream.chance(worker.uptime);
            epoch.workers.push(WorkerSeen { online, ..WorkerSeen::default() });
            let cheap =
                if demand.elasticity == 0.0 { 1.0 } else { libm::pow(worker.price, -demand.elasticity) };
            self.room[i] = if online { worker.power } else { 0.0 };
            self.weights[i] = policy.routing(i).max(0.0) * worker.power * cheap;
        }
        let hour = f64::from(epoch.number % 24) / 24.0;
        let swing = 1.0 + demand.swing * libm::sin(hour * std::f64::consts::TAU);
        let asked = self.roster.power * (demand.load * swing).min(1.0);
        market::divide(asked * demand.explore, &self.room, &self.room, &mut self.explored);
        let placed: f64 = self.explored.iter().sum();
        for (room, explored) in self.room.iter_mut().zip(&self.explored) {
            *room -= explored;
        }
        market::divide(asked - placed, &self.weights, &self.room, &mut self.shares);
        for ((share, room), explored) in self.shares.iter_mut().zip(&mut self.room).zip(&self.explored) {
            *share += explored;
            *room += explored;
        }
    }

    /// The mean vote on each worker becomes known, as copiers need it.
    fn publish(&mut self, epoch: &Epoch) {
        let mut sums = vec![(0.0, 0u32); self.published.len()];
        for round in epoch.rounds.iter().filter(|r| r.known.is_none()) {
            let (sum, count) = &mut sums[round.worker as usize];
            for vote in epoch.votes(round) {
                *sum += vote.score;
                *count += 1;
            }
        }
        for (published, (sum, count)) in self.published.iter_mut().zip(sums) {
            if count > 0 {
                *published = sum / f64::from(count);
            }
        }
    }

    /// What the network sees of each worker besides its tasks: fees and latency.
    fn show(&self, epoch: &mut Epoch) {
        for (i, (seen, worker)) in epoch.workers.iter_mut().zip(&self.roster.workers).enumerate() {
            seen.paid = super::books::fee(worker, seen.delivered);
            seen.fees = in_dn(seen.paid);
            let latency = worker.latency_ms * self.conduct[i].latency_factor.max(0.0);
            seen.latency_ms = latency.clamp(1.0, 4e9) as u32;
        }
        epoch.median_latency_ms = median_latency(epoch);
    }
}

fn median_latency(epoch: &Epoch) -> u32 {
    let mut latencies: Vec<_> =
        epoch.workers.iter().filter(|w| w.delivered > 0).map(|w| w.latency_ms).collect();
    if latencies.is_empty() {
        return 0;
    }
    let middle = latencies.len() / 2;
    *latencies.select_nth_unstable(middle).1
}
