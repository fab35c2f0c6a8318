//! The end of a batch: its fees are split, or go back where they came from.

use std::collections::BTreeMap;

use dn_core::objects::ModelManifest;
use dn_core::{Address, Amount, BatchId, ModelId};
use dn_powr::{FeeShares, WorkCost};
use dn_trust::Weight;

use super::books::sum;
use super::{Step, store_identity};
use crate::events::{Event, SlashCause};
use crate::state::{
    AUDITS, AuditResult, BATCHES, Batch, BatchStatus, EPOCH_WORK, IDENTITIES, MODELS, Pool, WORKER_EPOCHS,
};
use crate::tx::Role;

impl Step<'_> {
    /// Splits a batch's fees once its window is over and no audit is open.
    pub(super) fn settle_if_due(&mut self, id: BatchId) {
        let Some(mut batch) = BATCHES.get(self.state, &id) else { return };
        let open = matches!(batch.status, BatchStatus::Auditing | BatchStatus::Disputed);
        if !open || batch.open_audits > 0 || self.ctx.height < batch.window_end_height {
            return;
        }
        let worker = batch.body.worker;
        let (mut total, mut vwu) = (self.ctx.params.fees.split(Amount::ZERO), 0u128);
        let mut owners = BTreeMap::<ModelId, Amount>::new();
        let evident = self.evident_part(id, &batch);
        for line in &batch.body.lines {
            let model = MODELS.get(self.state, &line.model).expect("models are never removed");
            let split = self.fee_split(line.model, line.domain);
            let shares = split.split(line.fees);
            self.pay(worker, line.domain, &shares);
            owners
                .entry(line.model)
                .and_modify(|held| *held = sum(*held, shares.owner))
                .or_insert(shares.owner);
            let work =
                work_cost(&model.manifest).vwu(line.prompt_tokens, line.output_tokens).unwrap_or(u128::MAX);
            let mut counted = self.ctx.params.emission.counted_work(work, line.fees);
            if !model.manifest.is_exact() {
                counted = self.ctx.params.registry.inexact_work(counted);
            }
            vwu = vwu.saturating_add(counted);
            let counted = share_of(counted, evident.0, evident.1);
            self.note_model_work(line.model, counted);
            let key = (self.ctx.epoch(), line.domain, (worker, model.owner));
            let weighted = counted.saturating_mul(split.lost_by_self_payment().into());
            EPOCH_WORK.update(self.state, &key, |held| {
                held.counted = held.counted.saturating_add(counted);
                held.weighted = held.weighted.saturating_add(weighted);
            });
            add_shares(&mut total, &shares);
        }
        for (model, income) in owners {
            self.pay_owners(model, income);
        }
        let escrow = std::mem::take(&mut batch.escrow);
        let bond = std::mem::take(&mut batch.bond);
        batch.status = BatchStatus::Settled;
        self.note_work(&batch, vwu, evident);
        BATCHES.put(self.state, &id, &batch);
        self.batch_ended(id);
        self.release_bond(id, worker, bond, Amount::ZERO);
        self.close_batch_of(worker);
        self.events.push(Event::BatchSettled {
            batch: id,
            worker,
            fees: escrow,
            to_worker: total.worker,
            to_owners: total.owner,
            to_validators: total.validators,
            to_treasuries: total.domain,
            to_foundation: total.foundation,
            burned: total.burn,
            to_emission: total.reinforcement,
        });
    }

    /// Everybody's shares but the owners'.
    fn pay(&mut self, worker: Address, domain: u32, shares: &FeeShares) {
        self.credit(worker, shares.worker);
        self.add_to_pool(Pool::Validators, shares.validators);
        self.add_to_treasury(domain, shares.domain);
        self.add_to_pool(Pool::Foundation, shares.foundation);
        self.add_to_pool(Pool::Burned, shares.burn);
        self.add_to_pool(Pool::Community, shares.reinforcement);
    }

    /// Delivered work that was paid for, as far as it is evidence, and the audited part of it that was exact, are evidence for the worker. Unlike failures,
    /// which weigh what the batch claimed, it counts no more than its fee buys: a batch of one atto is no record.
    fn note_work(&mut self, batch: &Batch, vwu: u128, evident: (u32, u32)) {
        let trust = &self.ctx.params.trust;
        let passed = share_of(vwu, batch.passed_audits, batch.body.count);
        let done = Weight::of_work(trust, share_of(vwu, evident.0, evident.1));
        let exact = Weight::of_work(trust, passed);
        WORKER_EPOCHS.update(self.state, &batch.body.worker, |epoch| {
            epoch.completed(done);
            epoch.online();
            if batch.passed_audits > 0 {
                epoch.audit_passed(exact);
            }
        });
    }

    /// Throws a batch out: fees return to their channels, whoever failed is slashed, its other audits end.
    pub(super) fn void(&mut self, id: BatchId, mut batch: Batch, cause: SlashCause, accuser: Address) {
        let worker = batch.body.worker;
        let open: Vec<u32> = AUDITS
            .iter_from(self.state, &id)
            .filter(|(_, audit)| audit.result.is_none())
            .map(|((_, index), _)| index)
            .collect();
        for index in open {
            self.cancel_dispute(id, index);
            self.close_audit(id, index, AuditResult::Cancelled);
            batch.open_audits -= 1;
        }
        for (line, payer) in batch.body.lines.clone().iter().zip(batch.payers.clone()) {
            self.refund(line.channel, payer, line.fees);
        }
        let fees = std::mem::take(&mut batch.escrow);
        let bond = std::mem::take(&mut batch.bond);
        let mut taken = Amount::ZERO;
        batch.status = BatchStatus::Voided;
        BATCHES.put(self.state, &id, &batch);
        self.batch_ended(id);
        match cause {
            // The gateway countersigned the receipts and serves them: that an auditor cannot get one is its failure. The
            // worker is not paid either, so a gateway of its own is no place to hide a forged answer.
            SlashCause::Unavailable => {
                self.slash(Role::Gateway, batch.body.gateway, cause, Amount::ZERO, accuser);
            }
            _ => {
                let weight = self.batch_weight(&batch);
                WORKER_EPOCHS.update(self.state, &worker, |epoch| epoch.audit_failed(weight));
                if cause == SlashCause::Fraud {
                    WORKER_EPOCHS.update(self.state, &worker, |epoch| epoch.proven_fraud());
                    taken = self.slash(Role::Worker, worker, cause, bond, accuser);
                }
            }
        }
        self.release_bond(id, worker, bond, taken);
        self.close_batch_of(worker);
        self.events.push(Event::BatchVoided { batch: id, worker, fees });
    }

    /// Gives what is left of a job's bond back to the worker; the batch holds none any more.
    fn release_bond(&mut self, batch: BatchId, worker: Address, bond: Amount, taken: Amount) {
        if bond.is_zero() {
            return;
        }
        let returned = bond.saturating_sub(taken);
        self.credit(worker, returned);
        self.events.push(Event::JobBondReleased { batch, worker, taken, returned });
    }

    fn batch_weight(&self, batch: &Batch) -> Weight {
        let work = |line: &dn_core::objects::BatchLine| {
            let model = MODELS.get(self.state, &line.model).expect("models are never removed");
            work_cost(&model.manifest).vwu(line.prompt_tokens, line.output_tokens).unwrap_or(u128::MAX)
        };
        let vwu = batch.body.lines.iter().map(work).fold(0, u128::saturating_add);
        Weight::of_work(&self.ctx.params.trust, vwu)
    }

    fn close_batch_of(&mut self, worker: Address) {
        let key = (Role::Worker, worker);
        let mut identity = IDENTITIES.get(self.state, &key).expect("identities are never removed");
        identity.open_batches = identity.open_batches.saturating_sub(1);
        store_identity(self.state, key.0, key.1, &identity);
    }
}

fn work_cost(manifest: &ModelManifest) -> WorkCost {
    WorkCost {
        prefill_ops_per_token: manifest.prefill_ops_per_token(),
        decode_ops_per_token: manifest.decode_ops_per_token(),
    }
}

/// `⌊whole · part / count⌋`.
fn share_of(whole: u128, part: u32, count: u32) -> u128 {
    dn_core::wide::mul_div(whole, part.into(), count.max(1).into()).unwrap_or(whole)
}

fn add_shares(total: &mut FeeShares, more: &FeeShares) {
    total.worker = sum(total.worker, more.worker);
    total.owner = sum(total.owner, more.owner);
    total.validators = sum(total.validators, more.validators);
    total.domain = sum(total.domain, more.domain);
    total.foundation = sum(total.foundation, more.foundation);
    total.burn = sum(total.burn, more.burn);
    total.reinforcement = sum(total.reinforcement, more.reinforcement);
}
