//! What verdicts and disputes come to: the second part of the naive specification of audits.

use dn_core::objects::{AuditOutcome, BatchLine};
use dn_core::{Address, Amount, BatchId};
use dn_ledger::Role;
use dn_ledger::events::{Event, SlashCause};
use dn_ledger::referee::{Ending, Side};
use dn_ledger::state::{AuditResult, IdentityStatus, Pool};

use super::audits_records::{Dispute, Place, Stage, Task};
use super::audits_spec::Spec;

/// One whole, in basis points.
const WHOLE: u128 = 10_000;
/// The work that the reference price is for.
const PRICED_WORK: u128 = 1_000_000_000_000;
/// A worker's part of its collateral for fraud, a gateway's for a receipt that nobody can get, a validator's part of all that stands for it for a false verdict.
const FRAUD: u128 = 20;
const UNAVAILABLE: u128 = 1;
const FALSE_VERDICT: u128 = 10;

fn percent(of: u128, part: u128) -> u128 {
    (of * part).div_ceil(100)
}

impl Spec {
    /// Ends the audit of a receipt.
    pub(super) fn close(&mut self, place: Place, result: AuditResult) {
        self.audit(place).result = Some(result);
        self.told.push(Event::AuditClosed { batch: place.0, index: place.1, result });
    }

    /// The last blocks in which to commit and to reveal.
    pub(super) fn times(&self) -> (u64, u64) {
        let times = &self.params.audit_times;
        (self.height + times.commit_blocks, self.height + times.commit_blocks + times.reveal_blocks)
    }

    /// The accuser has to open a dispute.
    pub(super) fn call(&mut self, place: Place, accuser: Address) {
        let (since, rules) = (self.height, self.params.dispute);
        let dispute = Dispute {
            accuser,
            worker: self.batches[&place.0].body.worker,
            receipt: None,
            turn: Side::Accuser,
            since,
            until: since + rules.open_blocks,
            left: [rules.clock_blocks; 2],
            moves: Vec::new(),
            ending: None,
        };
        let audit = self.audit(place);
        audit.accuser = Some(accuser);
        audit.dispute = Some(dispute);
    }

    /// All validators that took no part in the batch are asked; what the accuser said stands.
    pub(super) fn vote(&mut self, place: Place, accuser: Address) {
        let batch = &self.batches[&place.0];
        let mut called = self.line();
        called.retain(|(who, _)| {
            *who != accuser && !batch.takes_part(*who) && self.is_active(Role::Validator, *who)
        });
        let (commit_until, reveal_until) = self.times();
        let audit = self.audit(place);
        audit.accuser = Some(accuser);
        (audit.commit_until, audit.reveal_until) = (commit_until, reveal_until);
        audit.tasks.extend(called.iter().map(|(who, weight)| (*who, Task::new(*weight))));
        if called.is_empty() {
            self.count_votes(place);
        }
    }

    /// The majority of the weight that was shown decides; of all weight, half has to be.
    pub(super) fn count_votes(&mut self, place: Place) {
        let audit = self.audit(place).clone();
        let sum = |says: fn(Option<AuditOutcome>) -> bool| -> u128 {
            audit.tasks.values().filter(|task| says(task.found)).map(|task| task.weight).sum()
        };
        let wrong = sum(|found| matches!(found, Some(AuditOutcome::Mismatch { .. })));
        let missing = sum(|found| matches!(found, Some(AuditOutcome::Unavailable {})));
        let shown = sum(|found| found.is_some_and(|found| found != AuditOutcome::Unjudged {}));
        let result = if 2 * shown < sum(|_| true) {
            AuditResult::NoAudit
        } else if 2 * wrong > shown {
            if self.has_referee() { AuditResult::Upheld } else { AuditResult::Fraud }
        } else if 2 * (wrong + missing) > shown {
            AuditResult::Unavailable
        } else {
            AuditResult::Refuted
        };
        for (who, task) in &audit.tasks {
            match agrees(result, task.found) {
                Some(true) => self.validator(*who).aligned += 1,
                Some(false) => self.validator(*who).misaligned += 1,
                None => {}
            }
        }
        let accuser = audit.accuser.unwrap();
        self.close(place, result);
        match result {
            AuditResult::Fraud => self.throw_out(place.0, SlashCause::Fraud, accuser),
            AuditResult::Upheld => self.throw_out(place.0, SlashCause::Upheld, accuser),
            AuditResult::Unavailable => self.throw_out(place.0, SlashCause::Unavailable, accuser),
            AuditResult::Refuted => {
                if audit.tasks[&accuser].found == Some(AuditOutcome::Unavailable {}) {
                    self.turns.entry(accuser).or_default().alarms += 1;
                }
                let lies = |task: &Task| matches!(task.found, Some(AuditOutcome::Mismatch { .. }));
                for (liar, _) in audit.tasks.iter().filter(|(_, task)| lies(task)) {
                    // A majority's word is no proof where a tile could have been shown.
                    if !self.has_referee() {
                        self.false_verdict(*liar);
                    }
                }
            }
            _ => {}
        }
    }

    /// One side of a dispute lost it.
    pub(super) fn end_dispute(&mut self, place: Place, ending: Ending) {
        let dispute = self.audit(place).dispute.as_mut().unwrap();
        dispute.ending = Some(ending);
        let accuser = dispute.accuser;
        self.told.push(Event::DisputeEnded { batch: place.0, index: place.1, outcome: ending });
        match ending {
            Ending::WorkerSilent {} | Ending::Fraud { .. } | Ending::Impossible {} => {
                self.validator(accuser).aligned += 1;
                self.close(place, AuditResult::Fraud);
                self.throw_out(place.0, SlashCause::Fraud, accuser);
            }
            Ending::AccuserSilent {} | Ending::Refuted {} => {
                self.validator(accuser).misaligned += 1;
                self.close(place, AuditResult::Refuted);
                self.false_verdict(accuser);
            }
        }
    }

    /// Fees go back where they came from, and nothing else about the batch is decided any more.
    fn throw_out(&mut self, id: BatchId, cause: SlashCause, reporter: Address) {
        let open: Vec<u32> = self.batches[&id]
            .audits
            .iter()
            .filter(|(_, audit)| audit.is_open())
            .map(|(index, _)| *index)
            .collect();
        for index in open {
            // Nobody loses a dispute that goes on.
            self.audit((id, index)).dispute = None;
            self.close((id, index), AuditResult::Cancelled);
        }
        let batch = self.batches.get_mut(&id).unwrap();
        assert!(batch.end.is_none(), "fees go back once");
        batch.end = Some(Stage::Voided);
        let batch = batch.clone();
        for (line, payer) in batch.body.lines.iter().zip(&batch.payers) {
            match self.books.channels.get_mut(&line.channel) {
                Some(deposit) => *deposit += line.fees.atto(),
                None => self.give(*payer, line.fees.atto()),
            }
        }
        let worker = batch.body.worker;
        // What a worker put up for a job that is not its fault goes back.
        let (taken, kept) = if cause == SlashCause::Fraud { (batch.bond, 0) } else { (0, batch.bond) };
        self.give(worker, kept);
        match cause {
            // The gateway has the answers.
            SlashCause::Unavailable => {
                self.slash(Role::Gateway, batch.body.gateway, UNAVAILABLE, 0, cause, reporter);
            }
            _ => {
                let claimed: u128 = batch.body.lines.iter().map(|line| self.work(line)).sum();
                let failed = self.weight_of(claimed);
                let worked = self.worked.entry(worker).or_default();
                worked.failed += failed;
                if cause == SlashCause::Fraud {
                    worked.frauds += 1;
                    self.slash(Role::Worker, worker, FRAUD, taken, cause, reporter);
                }
            }
        }
    }

    /// A part of the collateral and all of the bond; a quarter goes to the reporter, the rest is burned.
    fn slash(
        &mut self,
        role: Role,
        who: Address,
        part: u128,
        bond: u128,
        cause: SlashCause,
        reporter: Address,
    ) {
        let collateral = &mut self.books.bonds.get_mut(&(role, who)).unwrap().0;
        let cut = percent(*collateral, part);
        *collateral -= cut;
        let taken = cut + bond;
        self.give(reporter, taken / 4);
        self.fill(Pool::Burned, taken - taken / 4);
        self.tell_slash((role, who), cause, taken, Some((reporter, taken / 4)));
        self.suspend(role, who);
    }

    /// Everything that stands for a validator's word is cut, and all of it burned: there is nobody to reward.
    fn false_verdict(&mut self, who: Address) {
        self.validator(who).frauds += 1;
        let collateral = &mut self.books.bonds.get_mut(&(Role::Validator, who)).unwrap().0;
        let mut taken = percent(*collateral, FALSE_VERDICT);
        *collateral -= taken;
        // What is free by now is out of reach.
        let epoch = self.height / self.params.epoch_blocks;
        let leaving = self.books.leaving.iter_mut().filter(|((of, free), _)| *of == who && *free > epoch);
        for held in self.books.stakes.get_mut(&who).into_iter().chain(leaving.map(|(_, held)| held)) {
            // The last atto stays, so that shares are worth something.
            let cut = percent(*held, FALSE_VERDICT).min(held.saturating_sub(1));
            *held -= cut;
            taken += cut;
        }
        self.fill(Pool::Burned, taken);
        self.tell_slash((Role::Validator, who), SlashCause::FalseVerdict, taken, None);
        self.suspend(Role::Validator, who);
    }

    fn tell_slash(
        &mut self,
        (role, address): (Role, Address),
        cause: SlashCause,
        taken: u128,
        reporter: Option<(Address, u128)>,
    ) {
        let reward = reporter.map_or(0, |(_, reward)| reward);
        let [amount, reward, burned] = [taken, reward, taken - reward].map(Amount::from_atto);
        let reporter = reporter.map(|(who, _)| who);
        self.told.push(Event::Slashed { address, role, cause, amount, reporter, reward, burned });
    }

    /// Too little collateral for the role.
    fn suspend(&mut self, role: Role, who: Address) {
        let least = self.params.collateral.of(role).atto();
        let (collateral, status) = self.books.bonds.get_mut(&(role, who)).unwrap();
        if *collateral < least && *status == IdentityStatus::Active {
            *status = IdentityStatus::Suspended;
        }
    }

    /// Batches whose window is over, and about which nothing is open, are paid.
    pub(super) fn settle_due(&mut self) {
        let window = self.params.beacon.delay_blocks + self.params.audit_times.window_blocks;
        let due = |batch: &super::audits_records::Batch| {
            batch.end.is_none() && batch.drawn && batch.open() == 0 && self.height >= batch.posted + window
        };
        let due: Vec<BatchId> = self.batches.iter().filter(|(_, b)| due(b)).map(|(id, _)| *id).collect();
        due.into_iter().for_each(|id| self.settle(id));
    }

    fn settle(&mut self, id: BatchId) {
        let batch = self.batches.get_mut(&id).unwrap();
        batch.end = Some(Stage::Settled);
        let batch = batch.clone();
        let worker = batch.body.worker;
        self.give(worker, batch.bond);
        let fees = self.params.fees;
        let mut work = 0;
        for line in &batch.body.lines {
            let (fee, (owner, manifest)) = (line.fees.atto(), self.models[&line.model].clone());
            let parts = [
                (Pool::Validators, fees.validators),
                (Pool::Domain { domain: line.domain }, fees.domain),
                (Pool::Foundation, fees.foundation),
                (Pool::Burned, fees.burn),
                (Pool::Community, fees.reinforcement),
            ];
            let owners = fee * u128::from(fees.owner) / WHOLE;
            let mut rest = fee - owners;
            for (pool, bps) in parts {
                let part = fee * u128::from(bps) / WHOLE;
                self.fill(pool, part);
                rest -= part;
            }
            self.give(owner, owners);
            self.give(worker, rest);
            let bought = fee * PRICED_WORK / self.params.emission.reference_price.atto();
            let counted = self.work(line).min(bought);
            let part =
                if manifest.numeric_spec == 0 { self.params.registry.inexact_work_bps } else { 10_000 };
            work += counted * u128::from(part) / WHOLE;
        }
        // Of the work that was to be audited counts the part that was; exact is what was looked at.
        let passed = batch.count(&[AuditResult::Passed, AuditResult::Refuted]);
        let asked = passed + batch.count(&[AuditResult::NoAudit]);
        let done = self.weight_of((work * passed).checked_div(asked).unwrap_or(work));
        let exact = self.weight_of(work * passed / u128::from(batch.body.count));
        let worked = self.worked.entry(worker).or_default();
        worked.batches += 1;
        worked.done += done;
        worked.exact += exact;
    }

    /// What a line claims: its tokens' operations.
    fn work(&self, line: &BatchLine) -> u128 {
        let manifest = &self.models[&line.model].1;
        u128::from(line.prompt_tokens) * u128::from(manifest.prefill_ops_per_token())
            + u128::from(line.output_tokens) * u128::from(manifest.decode_ops_per_token())
    }

    /// In 2⁻¹⁶ units of work, rounded up.
    fn weight_of(&self, work: u128) -> u64 {
        u64::try_from((work << 16).div_ceil(self.params.trust.work_unit.into())).unwrap()
    }
}

/// Whether a verdict is on the side of what was decided. Who could not judge, and where nothing was decided, nobody is; and who got no receipt that others
/// got may have been refused it alone.
fn agrees(result: AuditResult, found: Option<AuditOutcome>) -> Option<bool> {
    let was_wrong = matches!(result, AuditResult::Fraud | AuditResult::Upheld);
    match (result, found?) {
        (AuditResult::NoAudit, _) | (_, AuditOutcome::Unjudged {}) => None,
        (AuditResult::Unavailable, AuditOutcome::Unavailable {}) => Some(true),
        (_, AuditOutcome::Unavailable {}) => None,
        // Who did get a receipt that most did not may well be right about it.
        (_, AuditOutcome::Mismatch { .. }) => Some(was_wrong || result == AuditResult::Unavailable),
        (_, AuditOutcome::Match {}) => Some(result == AuditResult::Refuted),
    }
}
