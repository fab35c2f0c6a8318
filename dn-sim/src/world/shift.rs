//! A worker's jobs of an epoch, one by one: what it delivers, who replays it, who scores it.

use super::UNIT_OPS;
use super::committee::Urn;
use super::epoch::{Players, Spent, World};
use super::population::Worker;
use crate::attack::{Ballot, Conduct};
use crate::border::{add, dn};
use crate::policy::{Epoch, Round, VoteSeen};
use crate::rng::Stream;

/// A worker's epoch as it is played.
pub(super) struct Shift<'a> {
    pub(super) index: usize,
    pub(super) worker: Worker,
    pub(super) conduct: Conduct,
    pub(super) audit_rate: f64,
    /// Part of its jobs that attackers make fail.
    pub(super) griefed: f64,
    pub(super) urn: &'a Urn,
    pub(super) chance: Stream,
    pub(super) votes: Stream,
}

/// A job that was delivered.
#[derive(Clone, Copy)]
struct Job {
    ops: u64,
    /// Quality of its result.
    truth: f64,
    /// Whether it was not computed as declared.
    wrong: bool,
    /// Whether an audit could not open it in time.
    unopened: bool,
}

impl World<'_> {
    /// Plays so much work that others asked for and so much that the group bought, in units; returns how much was begun.
    pub(super) fn work(
        &mut self,
        mut shift: Shift<'_>,
        asked: f64,
        bought: f64,
        players: &mut Players<'_>,
        epoch: &mut Epoch,
        spent: &mut Spent,
    ) -> f64 {
        let i = shift.index;
        let task = self.scenario.demand.task;
        let ops = (task * UNIT_OPS) as u64;
        let mut jobs_in = |work: f64| {
            let jobs = work / task;
            jobs as u64 + u64::from(shift.chance.chance(jobs.fract()))
        };
        let asked = jobs_in(asked);
        let bought = if epoch.workers[i].online { jobs_in(bought) } else { 0 };
        let quality = shift.conduct.quality.unwrap_or(shift.worker.quality);
        // Who cheats does so on top of what it never computed honestly.
        let dishonest = 1.0 - shift.worker.honesty * (1.0 - shift.conduct.cheat);
        let wrong_quality = match shift.conduct.cheat > 0.0 {
            true => shift.conduct.cheat_quality,
            false => shift.worker.wrong_quality,
        };
        for n in 0..asked + bought {
            let griefed = n < asked && shift.chance.chance(shift.griefed);
            if griefed {
                let fee = task * self.scenario.rewards.price * shift.worker.price;
                add(&mut spent.group, dn(fee * players.attacker.grief_cost()));
            }
            if shift.chance.chance(shift.worker.timeout) || griefed {
                epoch.workers[i].failed += ops;
                spent.failed += if n < asked { task } else { 0.0 };
                continue;
            }
            let wrong = shift.chance.chance(dishonest);
            let truth = if wrong { wrong_quality } else { quality };
            let audited = shift.chance.chance(shift.audit_rate);
            let scored = shift.chance.chance(self.scenario.review.vote_rate);
            let unopened = shift.chance.chance(shift.worker.timeout);
            epoch.workers[i].delivered += ops;
            epoch.workers[i].wrong += u64::from(wrong) * ops;
            if n >= asked {
                epoch.workers[i].bought += ops;
            } else {
                spent.work += task;
                spent.quality += task * truth;
            }
            let job = Job { ops, truth, wrong, unopened };
            if audited {
                self.audit(&mut shift, job, players, epoch);
            }
            if scored {
                epoch.workers[i].scored += ops;
                self.score(&mut shift, job.truth, None, players, epoch);
                let canaries = self.scenario.review.canary_rate;
                if shift.votes.chance(canaries / (1.0 - canaries)) {
                    // Known answers from bad to good, so that no fixed score passes them all.
                    let known = shift.votes.unit();
                    self.score(&mut shift, known, Some(known), players, epoch);
                }
            }
        }
        (asked + bought) as f64 * task
    }

    /// Replays a job. One auditor in time that says it is wrong is enough to call the referee, who finds out: either the worker's fraud is proven or the
    /// accusation false.
    fn audit(&mut self, shift: &mut Shift<'_>, job: Job, players: &mut Players<'_>, epoch: &mut Epoch) {
        shift.urn.draw(self.scenario.review.auditors, &mut shift.votes, &mut self.drawn);
        let friend = shift.worker.member.is_some();
        self.verdicts.clear();
        for &v in &self.drawn {
            let validator = &self.roster.validators[v];
            let (there, lie) = (shift.votes.chance(validator.uptime), shift.votes.unit());
            if !there {
                epoch.validators[v].missed += 1;
                continue;
            }
            epoch.validators[v].timely += 1;
            let accuses = match (validator.member.filter(|_| players.measured.is_some()), job.wrong) {
                (None, wrong) => wrong,
                (Some(_), true) => players.attacker.reports(friend),
                (Some(_), false) => lie < players.attacker.accuses(friend),
            };
            self.verdicts.push((v, accuses));
        }
        let accused = self.verdicts.iter().any(|(_, accuses)| *accuses);
        let proven = accused && job.wrong;
        for &(v, accuses) in &self.verdicts {
            let seen = &mut epoch.validators[v];
            if accused && accuses != job.wrong {
                seen.misaligned += 1;
                seen.false_verdicts += u32::from(accuses || self.scenario.review.passes_are_verdicts);
            } else {
                seen.aligned += 1;
            }
        }
        let worker = &mut epoch.workers[shift.index];
        if proven {
            worker.frauds += 1;
            worker.defrauded += job.ops;
        } else if job.unopened {
            worker.audits_failed += job.ops;
        } else {
            worker.audits_passed += job.ops;
        }
    }

    /// A committee scores a result.
    fn score(
        &mut self,
        shift: &mut Shift<'_>,
        truth: f64,
        known: Option<f64>,
        players: &mut Players<'_>,
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
            // Drawn also where nobody attacks, so that what follows is the same for an attack and its twin.
            let (attacks, chance) = (players.measured.is_some(), shift.votes.unit());
            let score = match validator.member {
                Some(index) if attacks => players.attacker.vote(&Ballot {
                    friend: shift.worker.member.is_some(),
                    truth,
                    published: self.published[shift.index],
                    canary: known.is_some() && chance < players.attacker.detects_canaries(),
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
}
