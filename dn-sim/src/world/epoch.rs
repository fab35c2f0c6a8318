//! One epoch of the network: routing, work, audits, votes.

use dn_powr::{Offence, SlashParams};

use super::UNIT_OPS;
use super::committee::Urn;
use super::market;
use super::population::{Roster, Worker};
use crate::attack::{Attacker, Ballot, Conduct, WorkerView};
use crate::policy::{Epoch, Policy, Round, ValidatorSeen, VoteSeen, WorkerSeen};
use crate::rng::{Purpose, Stream};
use crate::scenario::Scenario;

/// Published quality of a worker of which nothing is published yet.
const UNKNOWN_QUALITY: f64 = 0.5;

/// The network between epochs, with the room that an epoch needs.
pub(super) struct World<'a> {
    scenario: &'a Scenario,
    seed: u64,
    pub(super) roster: Roster,
    /// Mean of the votes on each worker when it was last scored.
    published: Vec<f64>,
    entry_trust: f64,
    conduct: Vec<Conduct>,
    weights: Vec<f64>,
    room: Vec<f64>,
    shares: Vec<f64>,
    explored: Vec<f64>,
    drawn: Vec<usize>,
}

/// What an epoch cost the attackers besides what they were paid, and how good the users' answers were.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    /// Entry bonds and fees of griefed tasks, in DN.
    pub(super) group: f64,
    /// Quality × work of all delivered tasks that others paid, in units.
    pub(super) quality: f64,
    /// Work of these tasks, in units.
    pub(super) work: f64,
}

/// A worker's epoch as it is played.
struct Shift<'a> {
    index: usize,
    worker: Worker,
    conduct: Conduct,
    audit_rate: f64,
    /// Part of its tasks that attackers make fail.
    griefed: f64,
    urn: &'a Urn,
    votes: Stream,
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
            roster,
        }
    }

    /// Plays an epoch; `measured` is its number among those in which attackers attack.
    pub(super) fn play(
        &mut self,
        measured: Option<u32>,
        attacker: &mut dyn Attacker,
        policy: &mut dyn Policy,
        epoch: &mut Epoch,
    ) -> Spent {
        let mut spent = Spent::default();
        let griefed = measured.map_or(0.0, |n| attacker.grief(n).clamp(0.0, 1.0));
        self.decide(epoch.number, measured, attacker, policy, &mut spent);
        self.route(epoch, policy);
        let validators = &self.roster.validators;
        epoch.validators.clear();
        epoch
            .validators
            .extend(validators.iter().map(|v| ValidatorSeen { stake: v.stake, ..Default::default() }));
        epoch.rounds.clear();
        epoch.votes.clear();
        let urn = Urn::new(validators.iter().enumerate().map(|(i, v)| policy.voice(i, v.stake)).collect());
        for index in 0..self.roster.workers.len() {
            let worker = self.roster.workers[index];
            let shift = Shift {
                index,
                worker,
                conduct: self.conduct[index],
                audit_rate: policy.audit_rate(index),
                griefed: if worker.member.is_none() { griefed } else { 0.0 },
                urn: &urn,
                votes: Stream::new(self.seed, Purpose::Votes, (epoch.number.into(), worker.stream)),
            };
            self.work(shift, measured.is_some(), attacker, epoch, &mut spent);
        }
        for (seen, worker) in epoch.workers.iter_mut().zip(&self.roster.workers) {
            seen.fees = seen.delivered as f64 / UNIT_OPS * self.scenario.rewards.price * worker.price;
        }
        self.publish(epoch);
        epoch.median_latency_ms = median_latency(epoch);
        spent
    }

    /// The attackers decide; those who take a new name or come late join.
    fn decide(
        &mut self,
        now: u32,
        measured: Option<u32>,
        attacker: &mut dyn Attacker,
        policy: &mut dyn Policy,
        spent: &mut Spent,
    ) {
        let Some(epoch) = measured else { return };
        for (i, worker) in self.roster.workers.iter_mut().enumerate() {
            let Some(index) = worker.member else { continue };
            let fresh = worker.joined.is_none();
            if epoch == 0 && worker.stream >> 32 > 0 {
                // One identity more than the group would have by behaving.
                spent.group += self.scenario.rewards.entry_bond;
            }
            let age = now - *worker.joined.get_or_insert(now);
            let (trust, entry_trust) = (policy.routing(i), self.entry_trust);
            let mut conduct = attacker.work(&WorkerView { epoch, age, trust, entry_trust, index });
            conduct.cheat = conduct.cheat.clamp(0.0, 1.0);
            conduct.wash = conduct.wash.clamp(0.0, 1.0);
            conduct.cheat_quality = conduct.cheat_quality.clamp(0.0, 1.0);
            if conduct.renew {
                worker.joined = Some(now);
                spent.group += self.scenario.rewards.entry_bond;
            }
            if conduct.renew || fresh {
                policy.join(i);
                self.published[i] = UNKNOWN_QUALITY;
            }
            self.conduct[i] = conduct;
        }
    }

    /// Divides the epoch's demand: `explored` by power alone, the rest by the policy's weights; leaves the work of each, in units, in
    /// `shares`.
    fn route(&mut self, epoch: &mut Epoch, policy: &dyn Policy) {
        let demand = &self.scenario.demand;
        epoch.workers.clear();
        for (i, worker) in self.roster.workers.iter().enumerate() {
            let mut stream = Stream::new(self.seed, Purpose::Demand, (epoch.number.into(), worker.stream));
            let online = worker.joined.is_some() && stream.chance(worker.uptime);
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
        for (share, explored) in self.shares.iter_mut().zip(&self.explored) {
            *share += explored;
        }
    }

    fn work(
        &mut self,
        mut shift: Shift<'_>,
        attacked: bool,
        attacker: &mut dyn Attacker,
        epoch: &mut Epoch,
        spent: &mut Spent,
    ) {
        let i = shift.index;
        let task = self.scenario.demand.task;
        let ops = (task * UNIT_OPS) as u64;
        let mut stream = Stream::new(self.seed, Purpose::Work, (epoch.number.into(), shift.worker.stream));
        let mut tasks_in = |work: f64| {
            let tasks = work / task;
            tasks as u64 + u64::from(stream.chance(tasks.fract()))
        };
        let asked = tasks_in(self.shares[i]);
        let spare = (shift.worker.power - self.shares[i]).max(0.0);
        let bought = if epoch.workers[i].online { tasks_in(spare * shift.conduct.wash) } else { 0 };
        let quality = shift.conduct.quality.unwrap_or(shift.worker.quality);
        // Who cheats does so on top of what it never computed honestly.
        let dishonest = 1.0 - shift.worker.honesty * (1.0 - shift.conduct.cheat);
        let wrong_quality = match shift.conduct.cheat > 0.0 {
            true => shift.conduct.cheat_quality,
            false => shift.worker.wrong_quality,
        };
        for n in 0..asked + bought {
            let griefed = n < asked && stream.chance(shift.griefed);
            if griefed {
                spent.group +=
                    task * self.scenario.rewards.price * shift.worker.price * attacker.grief_cost();
            }
            if stream.chance(shift.worker.timeout) || griefed {
                epoch.workers[i].failed += ops;
                continue;
            }
            let wrong = stream.chance(dishonest);
            let truth = if wrong { wrong_quality } else { quality };
            let audited = stream.chance(shift.audit_rate);
            let scored = stream.chance(self.scenario.review.vote_rate);
            let unopened = stream.chance(shift.worker.timeout);
            epoch.workers[i].delivered += ops;
            epoch.workers[i].wrong += u64::from(wrong) * ops;
            if n >= asked {
                epoch.workers[i].bought += ops;
            } else {
                spent.work += task;
                spent.quality += task * truth;
            }
            if audited {
                self.audit(&mut shift, wrong, unopened, ops, attacked, attacker, epoch);
            }
            if scored {
                epoch.workers[i].scored += ops;
                self.score(&mut shift, truth, None, attacked, attacker, epoch);
                let canaries = self.scenario.review.canary_rate;
                if shift.votes.chance(canaries / (1.0 - canaries)) {
                    // Known answers from bad to good, so that no fixed score passes them all.
                    let known = shift.votes.unit();
                    self.score(&mut shift, known, Some(known), attacked, attacker, epoch);
                }
            }
        }
        let latency = shift.worker.latency_ms * shift.conduct.latency_factor.max(0.0);
        epoch.workers[i].latency_ms = latency.clamp(1.0, 4e9) as u32;
    }

    /// Replays a task: one honest auditor in time is enough, since the referee confirms what it reports.
    #[allow(clippy::too_many_arguments)]
    fn audit(
        &mut self,
        shift: &mut Shift<'_>,
        wrong: bool,
        unopened: bool,
        ops: u64,
        attacked: bool,
        attacker: &mut dyn Attacker,
        epoch: &mut Epoch,
    ) {
        shift.urn.draw(self.scenario.review.auditors, &mut shift.votes, &mut self.drawn);
        let mut caught = false;
        for &v in &self.drawn {
            let validator = &self.roster.validators[v];
            let seen = &mut epoch.validators[v];
            if !shift.votes.chance(validator.uptime) {
                seen.missed += 1;
                continue;
            }
            seen.timely += 1;
            let loyal = attacked && validator.member.is_some();
            caught |= wrong && (!loyal || attacker.reports(shift.worker.member.is_some()));
        }
        let worker = &mut epoch.workers[shift.index];
        if caught {
            worker.frauds += 1;
        } else if unopened {
            worker.audits_failed += ops;
        } else {
            worker.audits_passed += ops;
        }
    }

    /// A committee scores a result.
    fn score(
        &mut self,
        shift: &mut Shift<'_>,
        truth: f64,
        known: Option<f64>,
        attacked: bool,
        attacker: &mut dyn Attacker,
        epoch: &mut Epoch,
    ) {
        shift.urn.draw(self.scenario.review.committee, &mut shift.votes, &mut self.drawn);
        let first = epoch.votes.len();
        for &v in &self.drawn {
            let validator = &self.roster.validators[v];
            if !shift.votes.chance(validator.uptime) {
                epoch.validators[v].missed += 1;
                continue;
            }
            epoch.validators[v].timely += 1;
            let truth = (truth + validator.noise * shift.votes.normal()).clamp(0.0, 1.0);
            let recognised = shift.votes.chance(attacker.detects_canaries());
            let score = match validator.member {
                Some(index) if attacked => attacker.vote(&Ballot {
                    friend: shift.worker.member.is_some(),
                    truth,
                    published: self.published[shift.index],
                    canary: known.is_some() && recognised,
                    index,
                }),
                _ => truth,
            };
            epoch.votes.push(VoteSeen {
                validator: v as u32,
                score: if score.is_nan() { 0.0 } else { score.clamp(0.0, 1.0) },
            });
        }
        let count = (epoch.votes.len() - first) as u32;
        epoch.rounds.push(Round { worker: shift.index as u32, known, first: first as u32, count });
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
}

/// A worker's money in an epoch besides emission, in DN.
pub(super) struct Bill {
    /// Its part of others' fees.
    pub(super) fees: f64,
    pub(super) slashed: f64,
    /// What did not come back of fees that it paid itself.
    pub(super) bought: f64,
    pub(super) computing: f64,
    /// What validators get out of its fees.
    pub(super) validators: f64,
}

/// Settles a worker's epoch. A proven fraud or an audit that was not opened voids the epoch's batch: no fees, and a slash.
pub(super) fn settle(
    scenario: &Scenario,
    slash: &SlashParams,
    worker: &mut Worker,
    seen: &WorkerSeen,
) -> Bill {
    let rewards = &scenario.rewards;
    let (split, one) = (dn_powr::FeeSplit::default(), f64::from(dn_powr::BPS));
    let fee = |ops: u64| ops as f64 / UNIT_OPS * rewards.price * worker.price;
    let work = seen.delivered - seen.wrong;
    let computing = fee(work) * rewards.cost + fee(seen.wrong) * rewards.cost * rewards.cheap;
    let bought = fee(seen.bought) * f64::from(split.lost_by_self_payment()) / one;
    if seen.frauds == 0 && seen.audits_failed == 0 {
        let fees = fee(seen.delivered - seen.bought) * f64::from(split.worker) / one;
        let validators = fee(seen.delivered) * f64::from(split.validators) / one;
        return Bill { fees, slashed: 0.0, bought, computing, validators };
    }
    // For an audit that could not be opened the gateway answers, not the worker (docs/adr/0006).
    let (_, collateral) = match seen.frauds {
        0 => (0, 0),
        _ => slash.fractions(Offence::WorkerFraud),
    };
    let slashed = worker.collateral * f64::from(collateral) / one;
    worker.collateral -= slashed;
    Bill { fees: 0.0, slashed, bought, computing, validators: 0.0 }
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
