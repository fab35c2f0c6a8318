//! What happens in the simulated network, seen by policies that only look.

use std::cell::RefCell;

use dn_sim::attack::{AttackSpec, Attacker, Conduct, Group, Honest, Kind, Script, WorkerView};
use dn_sim::policy::{Epoch, Payment, Policy};
use dn_sim::scenario::{Distribution, Scenario};
use dn_sim::world::{Simulation, Trajectory};

fn scenario(more: &str) -> Scenario {
    let text = format!(
        "name = 'test'\nwarmup = 5\nepochs = 40\nattacks = [{{ kind = 'junk' }}]\n{more}\n\
         [validators]\ncount = 10\nnoise = 0\nuptime = 1\n"
    );
    Scenario::from_toml(&text).expect("allowed")
}

/// Replays a part of the tasks, pays delivered work, and keeps what it saw.
struct Watch {
    audit_rate: f64,
    seen: RefCell<Vec<Epoch>>,
}

impl Watch {
    fn new(audit_rate: f64) -> Self {
        Self { audit_rate, seen: RefCell::default() }
    }

    fn run(&mut self, scenario: &Scenario, group: Group, attacker: &mut dyn Attacker) -> Trajectory {
        Simulation::new(scenario, 3).with_group(group).run(attacker, self).expect("runs")
    }

    /// A sum over all epochs.
    fn sum(&self, of: impl Fn(&Epoch) -> u64) -> u64 {
        self.seen.borrow().iter().map(of).sum()
    }
}

impl Policy for Watch {
    fn name(&self) -> &str {
        "watch"
    }
    fn audit_rate(&self, _worker: usize) -> f64 {
        self.audit_rate
    }
    fn close(&mut self, epoch: &Epoch, payment: &mut Payment) {
        self.seen.borrow_mut().push(epoch.clone());
        for (points, seen) in payment.workers.iter_mut().zip(&epoch.workers) {
            *points = seen.delivered as f64;
        }
        payment.validators.fill(1.0);
    }
}

/// The scores that a worker's results had in each epoch in which it had any.
fn qualities(watch: &Watch, worker: u32) -> Vec<f64> {
    let mut all = Vec::new();
    for epoch in watch.seen.borrow().iter() {
        let rounds = epoch.rounds.iter().filter(|r| r.worker == worker && r.known.is_none());
        all.extend(rounds.flat_map(|round| epoch.votes(round)).next().map(|vote| vote.score));
    }
    all
}

#[test]
fn quality_drifts_only_where_it_is_said_and_alike_for_every_name() {
    let still = scenario("[workers]\ncount = 12");
    let mut watch = Watch::new(0.0);
    watch.run(&still, Group::new(0.0, 0.0), &mut Honest);
    let before = qualities(&watch, 4);
    assert!(before.len() > 10 && before.iter().all(|q| *q == before[0]), "{before:?}");

    let drifting = scenario("[workers]\ncount = 12\ndrift = 0.1");
    let mut watch = Watch::new(0.0);
    watch.run(&drifting, Group::new(0.0, 0.0), &mut Honest);
    let after = qualities(&watch, 4);
    assert!(after.windows(2).all(|pair| pair[0] != pair[1] || [0.0, 1.0].contains(&pair[0])), "{after:?}");
    assert!(after.iter().all(|q| (0.0..=1.0).contains(q)));
    assert!(after.iter().any(|q| (q - before[0]).abs() > 0.1), "a walk, not a wobble: {after:?}");

    // The first worker under three names, the others after them as they were.
    let mut split = Watch::new(0.0);
    split.run(&drifting, Group { identities: 3, ..Group::new(0.0, 0.0) }, &mut Honest);
    assert_eq!(qualities(&split, 6), after);
    let names = [0, 1, 2].map(|name| split.seen.borrow().iter().map(|e| first(e, name)).collect::<Vec<_>>());
    for (a, b) in names[0].iter().zip(&names[1]) {
        assert!(a.zip(*b).is_none_or(|(a, b)| a == b), "{names:?}");
    }
    for drift in ["-0.01", "0.26", "nan"] {
        let text = format!("name = 't'\nattacks = [{{ kind = 'junk' }}]\nworkers.drift = {drift}");
        let error = Scenario::from_toml(&text).expect_err("out of range").to_string();
        assert!(error.contains("workers.drift"), "{error}");
    }
}

fn first(epoch: &Epoch, worker: u32) -> Option<f64> {
    let mut rounds = epoch.rounds.iter().filter(|r| r.worker == worker && r.known.is_none());
    rounds.next().and_then(|round| epoch.votes(round).first()).map(|vote| vote.score)
}

/// The referee refutes whoever accuses the honest: the accuser loses a tenth of its stake each time, the accused nothing.
#[test]
fn false_accusations_cost_the_accuser_and_nobody_else() {
    let scenario = scenario("[workers]\ncount = 12\ntimeout = 0\n[rewards]\nrestake = 0\njob_bond = 3");
    let (group, script) = AttackSpec::new(Kind::FalseAccusation).build();
    let (mut watch, mut twin) = (Watch::new(0.5), Watch::new(0.5));
    let run = watch.run(&scenario, group, &mut script.clone());
    let fair = twin.run(&scenario, group, &mut Honest);
    let accused = watch.sum(|e| e.validators.iter().map(|v| u64::from(v.false_verdicts)).sum());
    assert!(accused > 3, "{accused}");
    assert_eq!(accused, watch.sum(|e| e.validators.iter().map(|v| u64::from(v.misaligned)).sum()));
    assert_eq!(
        watch.sum(|e| e.workers.iter().map(|w| u64::from(w.frauds)).sum()),
        0,
        "the referee finds no fraud"
    );
    // Two validators hold a fifth of the stake; each false verdict leaves 0.9 of its own.
    let seen = watch.seen.borrow();
    let start: Vec<f64> = seen[0].validators.iter().map(|v| v.stake).collect();
    let mut left = 0.0;
    for (i, start) in start.iter().enumerate().take(2) {
        let times: u32 = seen.iter().map(|e| e.validators[i].false_verdicts).sum();
        left += start * 0.9f64.powi(times as i32);
    }
    let lost = start[0] + start[1] - left;
    assert!((run.attackers.costs - lost).abs() < 1e-6 * lost, "{} {lost}", run.attackers.costs);
    assert_eq!(fair.attackers.costs, 0.0);
    // Points here do not depend on stake: the honest, their bonds and their fees are as they were.
    assert_eq!(run.honest, fair.honest);
    assert!(run.group_stake.last() < fair.group_stake.last());
}

/// With the least part of its collateral gone a worker stops, unless it bonds again.
#[test]
fn a_slashed_worker_stops_until_it_bonds_again() {
    let scenario = scenario("[workers]\ncount = 12\ntimeout = 0\nuptime = 1");
    let group = Group::new(0.25, 0.0);
    let cheat = Script { cheat: 1.0, ..Script::default() };
    let worked = |watch: &Watch, i: usize| -> Vec<bool> {
        watch.seen.borrow().iter().map(|e| e.workers[i].delivered > 0).collect()
    };
    let mut watch = Watch::new(1.0);
    let run = watch.run(&scenario, group, &mut cheat.clone());
    let frauds = watch.sum(|e| e.workers.iter().map(|w| u64::from(w.frauds > 0)).sum());
    // 25,000 · 0.8^8 = 4,194: below 5,000 after eight.
    assert_eq!(frauds, 3 * 8);
    for i in 0..3 {
        let epochs = worked(&watch, i);
        assert!(epochs[..13].iter().all(|w| *w) && !epochs[13..].iter().any(|w| *w), "{epochs:?}");
        assert!(!watch.seen.borrow()[20].workers[i].online);
    }
    let lost = 3.0 * 25_000.0 * (1.0 - 0.8f64.powi(8));
    assert!((run.attackers.costs - lost).abs() < 1e-6 * lost, "{} {lost}", run.attackers.costs);

    let mut again = Watch::new(1.0);
    let run = again.run(&scenario, group, &mut Script { rebond: true, ..cheat });
    assert!(worked(&again, 0).iter().all(|w| *w));
    // 40 epochs: five times eight frauds.
    assert!((run.attackers.costs - 5.0 * lost).abs() < 1e-6 * lost, "{} {lost}", run.attackers.costs);

    let mut renamed = Watch::new(1.0);
    let run = renamed.run(&scenario, group, &mut Script { renew_below: 1e-9, ..cheat });
    assert!(worked(&renamed, 0).iter().all(|w| *w), "a new name has a whole collateral");
    // The same, and four entry bonds for each of three.
    assert!(
        (run.attackers.costs - 5.0 * lost - 12_000.0).abs() < 1e-6 * lost,
        "{} {lost}",
        run.attackers.costs
    );
}

#[test]
fn the_bond_of_a_job_is_lost_with_it() {
    let base = scenario("[workers]\ncount = 12\ntimeout = 0");
    let bonded = Scenario {
        rewards: dn_sim::scenario::Rewards { job_bond: 2.5, ..base.rewards.clone() },
        ..base.clone()
    };
    let mut cheat = Script { cheat: 0.3, ..Script::default() };
    let (mut watch, group) = (Watch::new(1.0), Group::new(0.25, 0.0));
    let without = watch.run(&base, group, &mut cheat);
    let with = watch.run(&bonded, group, &mut cheat);
    let jobs = watch.sum(|e| e.workers.iter().map(|w| u64::from(w.frauds)).sum()) / 2;
    let bonds = 2.5 * jobs as f64 * base.demand.task * base.rewards.price;
    let more = with.attackers.costs - without.attackers.costs;
    assert!(jobs > 10 && (more - bonds).abs() < 1e-6 * bonds, "{more} {bonds}");
    assert_eq!(with.honest, without.honest);
}

/// Who passes what the referee then finds wrong has given a false verdict.
#[test]
fn to_pass_a_proven_fraud_is_a_false_verdict_where_the_scenario_says_so() {
    let mut passed = Vec::new();
    for rule in [true, false] {
        let mut scenario = scenario("[workers]\ncount = 12");
        scenario.review.passes_are_verdicts = rule;
        let mut watch = Watch::new(1.0);
        let script = Script { cheat: 1.0, rebond: true, ..Script::default() };
        watch.run(&scenario, Group::new(0.25, 0.4), &mut script.clone());
        let verdicts = watch.sum(|e| e.validators.iter().map(|v| u64::from(v.false_verdicts)).sum());
        let wrong = watch.sum(|e| e.validators.iter().map(|v| u64::from(v.misaligned)).sum());
        assert!(wrong > 10, "the group's auditors spare their own");
        assert_eq!(verdicts, if rule { wrong } else { 0 });
        passed.push(wrong);
    }
    assert!(4 * passed[0] < passed[1], "who has lost its stake is not drawn any more: {passed:?}");
}

/// A job that a worker fails goes to another one; griefed twice, it is lost.
#[test]
fn failed_jobs_are_asked_for_again() {
    struct Griefer;
    impl Attacker for Griefer {
        fn work(&mut self, _: &WorkerView) -> Conduct {
            Conduct::HONEST
        }
        fn grief(&mut self, _: u32) -> f64 {
            0.2
        }
    }
    let mut delivered = Vec::new();
    for (hosts, griefed) in [(1, false), (1, true), (2, true)] {
        let mut scenario = scenario("[workers]\ncount = 12\ntimeout = 0\nuptime = 1\npower = 8");
        (scenario.demand.hosts, scenario.warmup) = (hosts, 0);
        scenario.workers.honesty = Distribution::Constant(1.0);
        let mut watch = Watch::new(0.0);
        let group = Group::new(0.1, 0.0);
        if griefed {
            watch.run(&scenario, group, &mut Griefer)
        } else {
            watch.run(&scenario, group, &mut Honest)
        };
        delivered.push(watch.sum(|e| e.workers.iter().map(|w| w.delivered / 125_000_000_000).sum()) as f64);
    }
    // The group is one of twelve: it fails nothing of its own.
    let lost = |n: usize| 1.0 - delivered[n] / delivered[0];
    assert!((lost(1) - 0.2 * 11.0 / 12.0).abs() < 0.02, "{}", lost(1));
    assert!((lost(2) - (0.2 * 11.0f64 / 12.0).powi(2)).abs() < 0.02, "{}", lost(2));
}
