//! Which receipts are audited, and by whom.
//!
//! The randomness is the hash of the block that holds the batch, mixed with the batch's id: known only once the batch
//! stands, but grindable by whoever produces that block. A beacon of a later issue replaces it.

use dn_core::{Address, Amount, BatchId, keccak256};
use dn_trust::audit_rate;

use super::Step;
use super::books::sum;
use crate::events::Event;
use crate::power::voting_power;
use crate::state::{
    AUDIT_TASKS, AUDITS, Audit, AuditPhase, AuditTask, BATCHES, Batch, BatchStatus, DEADLINES, DUE_BATCHES,
    IDENTITIES, IdentityStatus, WORKER_TRUST,
};
use crate::tx::Role;

/// Basis points in one.
const BASIS: u64 = 10_000;

impl Step<'_> {
    /// Draws the audits of batches of the block before, and settles batches whose window closed.
    pub(super) fn process_due_batches(&mut self) {
        let due: Vec<_> = DUE_BATCHES
            .iter(self.state)
            .map(|(key, _)| key)
            .take_while(|(height, _)| *height <= self.ctx.height)
            .collect();
        for key in due {
            DUE_BATCHES.remove(self.state, &key);
            let id = key.1;
            let Some(batch) = BATCHES.get(self.state, &id) else { continue };
            match batch.status {
                BatchStatus::Posted => self.draw_audits(id, batch),
                _ => self.settle_if_due(id),
            }
        }
    }

    fn draw_audits(&mut self, id: BatchId, mut batch: Batch) {
        let params = &self.ctx.params;
        let trust = WORKER_TRUST
            .get(self.state, &batch.body.worker)
            .expect("a worker has a trust record from its registration on")
            .weight(&params.trust);
        let rate = u64::from(audit_rate(&params.audit_rate, trust));
        let seed = keccak256(&[b"DeepNode audit draw v1", &self.ctx.parent.0, &id.0]);
        let mut drawn: Vec<(u128, u32)> = (0..batch.body.count)
            .map(|index| (draw(&seed, index, "index"), index))
            .filter(|(hash, _)| hash % u128::from(BASIS) < u128::from(rate))
            .collect();
        // Over the limit the hashes choose, so that no place in a batch is safer than another.
        drawn.sort_unstable_by_key(|(hash, index)| (hash / u128::from(BASIS), *index));
        drawn.truncate(params.audit_times.max_per_batch as usize);
        drawn.sort_unstable_by_key(|(_, index)| *index);
        batch.status = BatchStatus::Auditing;
        let eligible = self.eligible_auditors(&batch);
        for (_, index) in drawn {
            let ticket = draw(&seed, index, "auditor 0");
            if let Some((auditor, weight)) = pick(&eligible, ticket) {
                batch.open_audits += 1;
                self.open_audit(id, index, 0, auditor, weight);
            }
        }
        DUE_BATCHES.put(self.state, &(batch.window_end_height, id), &true);
        BATCHES.put(self.state, &id, &batch);
    }

    /// Replaces a silent auditor, if anybody else is there.
    pub(super) fn redraw_auditor(&mut self, id: BatchId, index: u32, batch: &Batch, redraws: u8) -> bool {
        let mut eligible = self.eligible_auditors(batch);
        eligible.retain(|(address, _)| !AUDIT_TASKS.contains(self.state, &(id, index, *address)));
        let seed = keccak256(&[b"DeepNode audit draw v1", &self.ctx.parent.0, &id.0]);
        let ticket = draw(&seed, index, "auditor 1");
        let Some((auditor, weight)) = pick(&eligible, ticket) else { return false };
        self.open_audit(id, index, redraws, auditor, weight);
        true
    }

    fn open_audit(&mut self, id: BatchId, index: u32, redraws: u8, auditor: Address, weight: Amount) {
        let (commit_deadline, reveal_deadline) = self.deadlines();
        let audit = Audit {
            accuser: None,
            redraws,
            commit_deadline,
            reveal_deadline,
            waiting: 1,
            uncommitted: 1,
            result: None,
        };
        AUDITS.put(self.state, &(id, index), &audit);
        self.assign(id, index, auditor, weight, &audit);
        DEADLINES.put(self.state, &(commit_deadline + 1, id, index), &true);
    }

    pub(super) fn assign(
        &mut self,
        id: BatchId,
        index: u32,
        auditor: Address,
        weight: Amount,
        audit: &Audit,
    ) {
        let task =
            AuditTask { phase: AuditPhase::Commit, weight, commitment: Default::default(), outcome: None };
        AUDIT_TASKS.put(self.state, &(id, index, auditor), &task);
        self.events.push(Event::AuditAssigned {
            batch: id,
            index,
            auditor,
            commit_deadline: audit.commit_deadline,
            reveal_deadline: audit.reveal_deadline,
        });
    }

    /// Last heights to commit and to reveal at, for an audit that opens now.
    pub(super) fn deadlines(&self) -> (u64, u64) {
        let times = &self.ctx.params.audit_times;
        let commit = self.ctx.height.saturating_add(times.commit_blocks);
        (commit, commit.saturating_add(times.reveal_blocks))
    }

    /// Active validators with voting power, except those who took part in the batch.
    pub(super) fn eligible_auditors(&self, batch: &Batch) -> Vec<(Address, Amount)> {
        let involved = |address: &Address| {
            *address == batch.body.worker || *address == batch.body.gateway || batch.payers.contains(address)
        };
        IDENTITIES
            .iter_from(self.state, &Role::Validator)
            .filter(|((_, address), identity)| {
                identity.status == IdentityStatus::Active && !involved(address)
            })
            .map(|((_, address), _)| (address, voting_power(self.state, &self.ctx.params, address)))
            .filter(|(_, power)| !power.is_zero())
            .collect()
    }
}

/// A number that nobody knew before the batch stood.
fn draw(seed: &[u8; 32], index: u32, purpose: &str) -> u128 {
    let hash = keccak256(&[seed, &index.to_le_bytes(), purpose.as_bytes()]);
    u128::from_le_bytes(hash[..16].try_into().expect("16 of 32 bytes"))
}

/// One of the weighted entries. The bias of the remainder is below total weight / 2^128 < 2^-40.
fn pick(entries: &[(Address, Amount)], ticket: u128) -> Option<(Address, Amount)> {
    let total = entries.iter().fold(Amount::ZERO, |total, (_, weight)| sum(total, *weight));
    let mut left = ticket.checked_rem(total.atto())?;
    for entry in entries {
        match left.checked_sub(entry.1.atto()) {
            Some(rest) => left = rest,
            None => return Some(*entry),
        }
    }
    None
}
