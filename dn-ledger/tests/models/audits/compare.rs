//! The ledger and the naive specification of audits, table by table; and whatever chance tries.

use std::collections::{BTreeMap, BTreeSet};

use dn_core::{Amount, Hash32};
use dn_ledger::state::{
    AUDIT_TASKS, AUDITS, AuditResult, BATCHES, DISPUTE_DUE, DISPUTE_MOVES, DISPUTES, DRAW_WEIGHTS,
    IDENTITIES, TURNS, VALIDATOR_EPOCHS, WORKER_EPOCHS,
};
use dn_ledger::{Role, supply};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::audits::Both;
use super::audits_records::{Audit, Books, Heard, Place, Task, Turned, Worked};
use super::audits_requests::ops;
use super::audits_world::rules;

impl Both {
    /// Every balance, pool, bond, stake and channel, every batch, audit, task and dispute, all that is heard of anybody.
    pub(super) fn compare(&self) {
        let (state, spec) = (&self.m.state, &self.spec);
        let mut expected = spec.books.clone();
        expected.tidy();
        assert_eq!(Books::read(state), expected, "who has what");
        let batches = BATCHES.iter(state).map(|(id, batch)| {
            let (open, passed) = (batch.open_audits as usize, batch.passed_audits.into());
            (id, (batch.status, open, passed, batch.escrow.atto(), batch.bond.atto()))
        });
        let expected = spec.batches.iter().map(|(id, batch)| {
            let fees: u128 = batch.body.lines.iter().map(|line| line.fees.atto()).sum();
            let (fees, bond) = if batch.end.is_none() { (fees, batch.bond) } else { (0, 0) };
            (
                *id,
                (
                    batch.status(),
                    batch.open(),
                    batch.count(&[AuditResult::Passed, AuditResult::Refuted]),
                    fees,
                    bond,
                ),
            )
        });
        assert_eq!(batches.collect::<BTreeMap<_, _>>(), expected.collect(), "batches");
        for ((role, who), identity) in IDENTITIES.iter(state).filter(|((role, _), _)| *role == Role::Worker) {
            let held = spec.batches.values().filter(|b| b.body.worker == who && b.end.is_none()).count();
            assert_eq!(identity.open_batches, held as u64, "{role:?}");
        }
        self.compare_audits();
        self.compare_disputes();
        self.compare_heard();
    }

    fn audits(&self) -> impl Iterator<Item = (Place, &Audit)> {
        self.spec.batches.iter().flat_map(|(id, batch)| batch.audits.iter().map(|(n, a)| ((*id, *n), a)))
    }

    fn compare_audits(&self) {
        let audits = AUDITS.iter(&self.m.state).map(|(place, a)| {
            let (times, result) = ((a.commit_deadline, a.reveal_deadline), a.result);
            let waiting = result.is_none().then_some((a.waiting as usize, a.uncommitted as usize));
            (place, (a.accuser, a.redraws, times, waiting, result))
        });
        let expected = self.audits().map(|(place, a)| {
            let count = |wanted: fn(&Task) -> bool| a.tasks.values().filter(|task| wanted(task)).count();
            let waiting = (count(Task::waits), count(|task| task.waits() && task.commitment.is_none()));
            let waiting = a.is_open().then_some(waiting);
            (place, (a.accuser, a.replaced, (a.commit_until, a.reveal_until), waiting, a.result))
        });
        assert_eq!(audits.collect::<BTreeMap<_, _>>(), expected.collect(), "audits");
        let tasks = AUDIT_TASKS.iter(&self.m.state).map(|((batch, index, who), t)| {
            ((batch, index, who), (t.phase, t.weight, t.commitment, t.outcome))
        });
        let expected = self.audits().flat_map(|((batch, index), audit)| {
            audit.tasks.iter().map(move |(who, task)| {
                let (weight, commitment) = (Amount::from_atto(task.weight), task.commitment);
                let commitment = commitment.unwrap_or(Hash32::ZERO);
                ((batch, index, *who), (task.phase(), weight, commitment, task.found))
            })
        });
        let (tasks, expected): (Vec<_>, Vec<_>) = (tasks.collect(), expected.collect());
        assert_eq!(tasks, expected, "tasks");
    }

    fn compare_disputes(&self) {
        let state = &self.m.state;
        let disputes = DISPUTES.iter(state).map(|(place, d)| {
            let left = [d.worker_blocks, d.accuser_blocks];
            let stands = d.ending.is_none().then_some((d.receipt, d.turn, d.since_height, d.deadline, left));
            (place, (d.accuser, d.worker, d.moves as usize, d.ending, stands))
        });
        let all = || self.audits().filter_map(|(place, audit)| audit.dispute.as_ref().map(|d| (place, d)));
        let expected = all().map(|(place, d)| {
            let stands = (d.receipt.clone(), d.turn, d.since, d.until, d.left);
            let stands = d.ending.is_none().then_some(stands);
            (place, (d.accuser, d.worker, d.moves.len(), d.ending, stands))
        });
        assert_eq!(disputes.collect::<BTreeMap<_, _>>(), expected.collect(), "disputes");
        let open = || all().filter(|(_, dispute)| dispute.ending.is_none());
        let moves =
            DISPUTE_MOVES.iter(state).map(|((id, index, step), m)| ((id, index), step, m.side, m.bytes.0));
        let expected = open().flat_map(|(place, dispute)| {
            (0u32..).zip(dispute.moves.clone()).map(move |(step, (side, bytes))| (place, step, side, bytes))
        });
        assert_eq!(moves.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "moves");
        let due = DISPUTE_DUE.iter(state).map(|((height, id, index), _)| (height, id, index));
        let expected = open().map(|((id, index), dispute)| (dispute.until + 1, id, index));
        assert_eq!(due.collect::<BTreeSet<_>>(), expected.collect(), "clocks");
    }

    fn compare_heard(&self) {
        let (state, spec) = (&self.m.state, &self.spec);
        let validators =
            VALIDATOR_EPOCHS.iter(state).map(|(who, epoch)| (who, serde_json::to_value(epoch).unwrap()));
        let expected = spec.heard.iter().map(|(who, heard)| (*who, of_validator(heard)));
        assert_eq!(validators.collect::<BTreeMap<_, _>>(), expected.collect(), "of validators");
        let workers =
            WORKER_EPOCHS.iter(state).map(|(who, epoch)| (who, serde_json::to_value(epoch).unwrap()));
        let expected = spec.worked.iter().map(|(who, worked)| (*who, of_worker(worked)));
        assert_eq!(workers.collect::<BTreeMap<_, _>>(), expected.collect(), "of workers");
        let turns = TURNS
            .iter(state)
            .map(|(who, t)| (who, Turned { made: t.made, missed: t.missed, alarms: t.alarms }));
        assert_eq!(turns.collect::<BTreeMap<_, _>>(), spec.turns, "turns");
        let weights = DRAW_WEIGHTS.iter(state).map(|(who, weight)| (who, weight.at(spec.height).atto()));
        let weights: Vec<_> = weights.filter(|(_, weight)| *weight > 0).collect();
        assert_eq!(weights, spec.line(), "weights");
    }
}

/// A count of good and of bad events, each of one unit.
fn units(good: u64, bad: u64) -> Value {
    json!({ "good": good << 16, "bad": bad << 16 })
}

fn of_validator(heard: &Heard) -> Value {
    json!({
        "votes": units(heard.aligned, heard.misaligned),
        "reveals": units(heard.timely, heard.missed),
        "canaries": units(0, 0),
        "frauds": heard.frauds,
    })
}

fn of_worker(worked: &Worked) -> Value {
    json!({
        "jobs": { "good": worked.done, "bad": 0 },
        "audits": { "good": worked.exact, "bad": worked.failed },
        "speed_sum": "0",
        "speed_weight": "0",
        "probes": units(worked.batches, 0),
        "frauds": worked.frauds,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn audits_are_as_specified(kind in 0u8..6, seed: u8, ops in prop::collection::vec(ops(), 30..120)) {
        let mut both = Both::new(rules(kind), seed);
        ops.iter().for_each(|op| both.step(op));
        // Whatever is open comes to an end.
        (0..40).for_each(|_| both.next_block());
        prop_assert!(both.spec.batches.values().all(|batch| batch.end.is_some()));
        supply::check_all(&both.m.state).unwrap();
    }
}

/// The property above is worth something only if most of what it tries happens, and is refused, too.
#[test]
fn the_specification_of_audits_is_fed() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::<String, u32>::new();
    for n in 0..42u8 {
        let ops = prop::collection::vec(ops(), 140..180).new_tree(&mut runner).unwrap().current();
        let mut both = Both::new(rules(n % 6), n);
        ops.iter().for_each(|op| both.step(op));
        for (what, times) in both.seen {
            *seen.entry(what).or_default() += times;
        }
    }
    let kinds = ["audit_commit", "audit_reveal", "dispute_open", "dispute_pick", "dispute_answer"];
    let both_ways = kinds.iter().flat_map(|kind| [format!("took {kind}"), format!("refused {kind}")]);
    let happens = [
        "Passed alone",
        "NoAudit alone",
        "NoAudit by vote",
        "Fraud by vote",
        "Upheld by vote",
        "Unavailable by vote",
        "Refuted by vote",
        "Fraud in dispute",
        "Refuted in dispute",
        "Cancelled alone",
        "Cancelled accused",
        "somebody else is asked",
        "audit_missed",
        "dispute_called",
        "dispute_opened",
        "ends worker_silent",
        "ends accuser_silent",
        "ends fraud",
        "ends impossible",
        "ends refuted",
        "slashed for Fraud",
        "slashed for Unavailable",
        "slashed for FalseVerdict",
        "suspended",
        "batch_settled",
        "batch_voided",
        "a bond is taken",
        "a doubted job",
        "an accepted job",
        "charged in full",
        "charged what there is",
        "an alarm is charged",
        "a job is thrown out",
        "fees go back to a payer",
    ];
    for what in both_ways.chain(happens.map(str::to_owned)) {
        assert!(seen.get(&what).is_some_and(|n| *n >= 3), "{what}: {seen:#?}");
    }
}
