//! Audits: verdicts are committed, then revealed; an accusation calls every validator.
//!
//! Where the chain has a referee, a claimed mismatch calls a [dispute](super::dispute) that ends with one tile. The majority of the
//! validators' weight decides what no tile shows: receipts that are not handed over, ends of answers, choices under a grammar.

use dn_core::objects::{AuditOutcome, Verdict};
use dn_core::{Address, Amount, BatchId, Hash32};
use dn_powr::Offence;
use dn_trust::Weight;

use super::Step;
use super::books::sum;
use crate::events::{Event, SlashCause};
use crate::reject::Reject;
use crate::state::{
    AUDIT_TASKS, AUDITS, Audit, AuditPhase, AuditResult, AuditTask, BATCHES, Batch, BatchStatus, DEADLINES,
    VALIDATOR_EPOCHS,
};

/// Times that an auditor who is silent, or cannot judge, is replaced.
const MAX_REDRAWS: u8 = 1;

impl Step<'_> {
    pub(super) fn audit_commit(
        &mut self,
        sender: Address,
        id: BatchId,
        index: u32,
        commitment: Hash32,
    ) -> Result<(), Reject> {
        let (mut audit, mut task) = self.open_task(sender, id, index)?;
        if task.phase != AuditPhase::Commit {
            return Err(Reject::AlreadyCommitted { batch: id, index });
        }
        let (deadline, height) = (audit.commit_deadline, self.ctx.height);
        if height > deadline {
            return Err(Reject::TooLate { deadline, height });
        }
        task.phase = AuditPhase::Reveal;
        task.commitment = commitment;
        audit.uncommitted -= 1;
        AUDIT_TASKS.put(self.state, &(id, index, sender), &task);
        AUDITS.put(self.state, &(id, index), &audit);
        self.events.push(Event::AuditCommitted { batch: id, index, auditor: sender });
        Ok(())
    }

    pub(super) fn audit_reveal(
        &mut self,
        sender: Address,
        verdict: &Verdict,
        salt: &Hash32,
    ) -> Result<(), Reject> {
        if verdict.auditor != sender {
            return Err(Reject::VerdictAuditor { auditor: verdict.auditor, sender });
        }
        let (id, index, height) = (verdict.batch, verdict.index, self.ctx.height);
        let (mut audit, mut task) = self.open_task(sender, id, index)?;
        match task.phase {
            AuditPhase::Commit => return Err(Reject::NotCommitted { batch: id, index }),
            AuditPhase::Done => return Err(Reject::AlreadyRevealed { batch: id, index }),
            AuditPhase::Reveal | AuditPhase::Missed => {}
        }
        if audit.accuser.is_some() && audit.uncommitted > 0 && height <= audit.commit_deadline {
            return Err(Reject::RevealTooEarly { commit_deadline: audit.commit_deadline, height });
        }
        let deadline = audit.reveal_deadline;
        if height > deadline {
            return Err(Reject::TooLate { deadline, height });
        }
        let found = verdict.commitment(&salt.0);
        if found != task.commitment {
            return Err(Reject::Commitment { expected: task.commitment, found });
        }
        task.phase = AuditPhase::Done;
        task.outcome = Some(verdict.outcome);
        audit.waiting -= 1;
        AUDIT_TASKS.put(self.state, &(id, index, sender), &task);
        AUDITS.put(self.state, &(id, index), &audit);
        let outcome = verdict.outcome;
        if outcome != (AuditOutcome::Unjudged {}) {
            VALIDATOR_EPOCHS.update(self.state, &sender, |epoch| epoch.timely(Weight::ONE));
        }
        self.events.push(Event::AuditRevealed { batch: id, index, auditor: sender, outcome });
        match (audit.accuser, outcome) {
            (None, AuditOutcome::Match {}) => {
                VALIDATOR_EPOCHS.update(self.state, &sender, |epoch| epoch.aligned(Weight::ONE));
                self.close_audit(id, index, AuditResult::Passed);
                self.settle_if_due(id);
            }
            (None, AuditOutcome::Mismatch { .. }) if self.has_disputes() => {
                self.call_dispute(id, index, sender);
            }
            // As good as silence, but said: somebody else is asked, and nobody has missed anything.
            (None, AuditOutcome::Unjudged {}) => self.ask_another(id, index, &audit),
            (None, outcome) => self.open_dispute(id, index, sender, outcome)?,
            (Some(accuser), _) if audit.waiting == 0 => self.resolve_dispute(id, index, accuser),
            (Some(_), _) => {}
        }
        Ok(())
    }

    /// The open audit and the sender's task in it.
    fn open_task(&self, auditor: Address, id: BatchId, index: u32) -> Result<(Audit, AuditTask), Reject> {
        if !BATCHES.contains(self.state, &id) {
            return Err(Reject::UnknownBatch { batch: id });
        }
        let not_assigned = Reject::NotAssigned { batch: id, index, auditor };
        let audit = AUDITS.get(self.state, &(id, index)).filter(|audit| audit.result.is_none());
        let task = AUDIT_TASKS
            .get(self.state, &(id, index, auditor))
            .filter(|task| task.phase != AuditPhase::Missed);
        audit.zip(task).ok_or(not_assigned)
    }

    /// Calls every validator that took no part in the batch. The accuser's verdict stands.
    pub(super) fn open_dispute(
        &mut self,
        id: BatchId,
        index: u32,
        accuser: Address,
        outcome: AuditOutcome,
    ) -> Result<(), Reject> {
        let mut batch = BATCHES.get(self.state, &id).expect("an audit belongs to a batch");
        batch.status = BatchStatus::Disputed;
        BATCHES.put(self.state, &id, &batch);
        self.events.push(Event::DisputeOpened { batch: id, index, accuser, outcome });
        let mut others = self.auditors(&batch);
        others.retain(|(address, _)| *address != accuser && self.is_active_validator(address));
        let (commit_deadline, reveal_deadline) = self.deadlines();
        let count = u32::try_from(others.len()).expect("fewer than 2^32 validators");
        self.count_votes(count)?;
        let before = AUDITS.get(self.state, &(id, index)).expect("the audit is open");
        let audit = Audit {
            accuser: Some(accuser),
            commit_deadline,
            reveal_deadline,
            waiting: count,
            uncommitted: count,
            ..before
        };
        AUDITS.put(self.state, &(id, index), &audit);
        for (address, weight) in others {
            self.assign(id, index, address, weight, &audit);
        }
        if count == 0 {
            self.resolve_dispute(id, index, accuser);
        } else {
            DEADLINES.put(self.state, &(reveal_deadline + 1, id, index), &true);
        }
        Ok(())
    }

    /// Deadlines that passed: silent auditors are noted, replaced once, or counted out.
    pub(super) fn expire_audits(&mut self) {
        let due: Vec<_> = DEADLINES
            .iter(self.state)
            .map(|(key, _)| key)
            .take_while(|(height, _, _)| *height <= self.ctx.height)
            .collect();
        for key in due {
            DEADLINES.remove(self.state, &key);
            let (_, id, index) = key;
            let Some(audit) = AUDITS.get(self.state, &(id, index)) else { continue };
            if audit.result.is_some() || self.in_dispute(id, index) {
                continue;
            }
            let height = self.ctx.height;
            match audit.accuser {
                Some(accuser) if height > audit.reveal_deadline => {
                    self.note_silence(id, index);
                    self.resolve_dispute(id, index, accuser);
                }
                None if height > audit.reveal_deadline
                    || (height > audit.commit_deadline && audit.uncommitted > 0) =>
                {
                    self.note_silence(id, index);
                    self.ask_another(id, index, &audit);
                }
                None if height > audit.commit_deadline => {
                    DEADLINES.put(self.state, &(audit.reveal_deadline + 1, id, index), &true);
                }
                // The entry of an audit that has moved on; its own comes later.
                _ => {}
            }
        }
    }

    /// Draws somebody else for an audit that its auditor did not do, once.
    fn ask_another(&mut self, id: BatchId, index: u32, audit: &Audit) {
        let batch = BATCHES.get(self.state, &id).expect("an audit belongs to a batch");
        let redraws = audit.redraws + 1;
        if redraws > MAX_REDRAWS || !self.redraw_auditor(id, index, &batch, redraws) {
            self.close_audit(id, index, AuditResult::NoAudit);
            self.settle_if_due(id);
        }
    }

    /// Marks every task without a verdict as missed.
    fn note_silence(&mut self, id: BatchId, index: u32) {
        for (auditor, mut task) in self.tasks(id, index) {
            if matches!(task.phase, AuditPhase::Commit | AuditPhase::Reveal) {
                task.phase = AuditPhase::Missed;
                AUDIT_TASKS.put(self.state, &(id, index, auditor), &task);
                VALIDATOR_EPOCHS.update(self.state, &auditor, |epoch| epoch.missed(Weight::ONE));
                self.events.push(Event::AuditMissed { batch: id, index, auditor });
            }
        }
    }

    fn tasks(&self, id: BatchId, index: u32) -> Vec<(Address, AuditTask)> {
        AUDIT_TASKS
            .iter_from(self.state, &(id, index))
            .map(|((_, _, auditor), task)| (auditor, task))
            .collect()
    }

    /// The majority of the revealed weight decides; under half of all weight revealed decides nothing.
    fn resolve_dispute(&mut self, id: BatchId, index: u32, accuser: Address) {
        let tasks = self.tasks(id, index);
        let (mut all, mut mismatch, mut unavailable, mut matched) = Default::default();
        for (_, task) in &tasks {
            all = sum(all, task.weight);
            let side: &mut Amount = match task.outcome {
                Some(AuditOutcome::Mismatch { .. }) => &mut mismatch,
                Some(AuditOutcome::Unavailable {}) => &mut unavailable,
                Some(AuditOutcome::Match {}) => &mut matched,
                Some(AuditOutcome::Unjudged {}) | None => continue,
            };
            *side = sum(*side, task.weight);
        }
        let accused = sum(mismatch, unavailable);
        let revealed = sum(accused, matched);
        let over_half = |part: Amount, whole: Amount| part > whole.saturating_sub(part);
        let result = if revealed < all.saturating_sub(revealed) {
            AuditResult::NoAudit
        } else if over_half(mismatch, revealed) && self.has_disputes() {
            // What a tile shows is not decided here, and a majority's word costs nobody a bond.
            AuditResult::Upheld
        } else if over_half(mismatch, revealed) {
            AuditResult::Fraud
        } else if over_half(accused, revealed) {
            AuditResult::Unavailable
        } else {
            AuditResult::Refuted
        };
        self.note_alignment(&tasks, result);
        let alarm = |(who, task): &(Address, AuditTask)| {
            *who == accuser && task.outcome == Some(AuditOutcome::Unavailable {})
        };
        if result == AuditResult::Refuted && tasks.iter().any(alarm) {
            self.count_false_alarm(accuser);
        }
        self.close_audit(id, index, result);
        let batch = BATCHES.get(self.state, &id).expect("an audit belongs to a batch");
        match result {
            AuditResult::Fraud => self.void(id, batch, SlashCause::Fraud, accuser),
            AuditResult::Upheld => self.void(id, batch, SlashCause::Upheld, accuser),
            AuditResult::Unavailable => self.void(id, batch, SlashCause::Unavailable, accuser),
            // Where a referee judges what a tile shows, a vote is no proof: whoever is outvoted is misaligned, and that is all.
            AuditResult::Refuted if !self.has_disputes() => {
                for (auditor, task) in tasks {
                    if matches!(task.outcome, Some(AuditOutcome::Mismatch { .. })) {
                        VALIDATOR_EPOCHS.update(self.state, &auditor, |epoch| epoch.proven_fraud());
                        let (offence, cause) = (Offence::FalseVerdict, SlashCause::FalseVerdict);
                        self.slash_validator(auditor, offence, cause, None);
                    }
                }
                self.settle_if_due(id);
            }
            _ => self.settle_if_due(id),
        }
    }

    fn note_alignment(&mut self, tasks: &[(Address, AuditTask)], result: AuditResult) {
        for (auditor, task) in tasks {
            let Some(outcome) = task.outcome else { continue };
            let right = match (result, outcome) {
                (AuditResult::NoAudit, _) | (_, AuditOutcome::Unjudged {}) => continue,
                // The gateway may have refused the receipt to this one alone: who asked all others for nothing pays for it, and that is all.
                (
                    AuditResult::Refuted | AuditResult::Fraud | AuditResult::Upheld,
                    AuditOutcome::Unavailable {},
                ) => continue,
                (AuditResult::Fraud | AuditResult::Upheld, AuditOutcome::Mismatch { .. }) => true,
                // Whoever did get the receipt may well have seen a mismatch.
                (AuditResult::Unavailable, AuditOutcome::Mismatch { .. } | AuditOutcome::Unavailable {}) => {
                    true
                }
                (AuditResult::Refuted, AuditOutcome::Match {}) => true,
                _ => false,
            };
            VALIDATOR_EPOCHS.update(self.state, auditor, |epoch| {
                if right { epoch.aligned(Weight::ONE) } else { epoch.misaligned(Weight::ONE) }
            });
        }
    }

    /// What part of a batch's work is evidence: of the audits that ended, those that passed to all. One that nobody did shows nothing.
    pub(super) fn evident_part(&self, id: BatchId, batch: &Batch) -> (u32, u32) {
        let is_open_end = |audit: &Audit| audit.result == Some(AuditResult::NoAudit);
        let ends = AUDITS.iter_from(self.state, &id).filter(|(_, audit)| is_open_end(audit)).count();
        let passed = batch.passed_audits;
        let all = passed.saturating_add(u32::try_from(ends).unwrap_or(u32::MAX));
        // Where none was drawn, nobody doubted.
        if all == 0 { (1, 1) } else { (passed, all) }
    }

    /// Ends the audit of one receipt and counts it out of its batch.
    pub(super) fn close_audit(&mut self, id: BatchId, index: u32, result: AuditResult) {
        let mut audit = AUDITS.get(self.state, &(id, index)).expect("callers close what they opened");
        audit.result = Some(result);
        AUDITS.put(self.state, &(id, index), &audit);
        let mut batch: Batch = BATCHES.get(self.state, &id).expect("an audit belongs to a batch");
        batch.open_audits -= 1;
        if matches!(result, AuditResult::Passed | AuditResult::Refuted) {
            batch.passed_audits += 1;
        }
        let disputed =
            || AUDITS.iter_from(self.state, &id).any(|(_, a)| a.accuser.is_some() && a.result.is_none());
        if batch.status == BatchStatus::Disputed && !disputed() {
            batch.status = BatchStatus::Auditing;
        }
        BATCHES.put(self.state, &id, &batch);
        self.events.push(Event::AuditClosed { batch: id, index, result });
    }
}
