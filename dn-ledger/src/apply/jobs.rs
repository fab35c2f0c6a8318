//! Job escrow: DN locked for a long job, claimed with its receipt, or returned at expiry.
//!
//! A claim is a batch of one receipt whose fee comes out of the escrow instead of a channel, so audits, fraud and settlement
//! are those of batches. Without the payer's acceptance the receipt is audited for certain. A bond that the payer asks for leaves the worker's balance with
//! the claim, and the batch holds it until it is settled or voided.

use dn_core::merkle::MerkleTree;
use dn_core::objects::{BatchLine, BatchRoot, JobAcceptance, ModelManifest, Price, Receipt};
use dn_core::{Address, Amount, Canonical, ChannelId, ModelId, Signed};

use super::Step;
use crate::events::Event;
use crate::reject::{ReceiptField, RegistryReject, Reject, SignedObject, TokenKind};
use crate::state::{DUE_JOBS, JOB_CLAIMS, JOBS, JobClaim, JobEscrow, MODELS, OFFERS};
use crate::tx::{MAX_BOND_TIMES, NewJob, Role, escrow_id};

impl Step<'_> {
    pub(super) fn lock_job(&mut self, payer: Address, nonce: u64, new: &NewJob) -> Result<(), Reject> {
        let NewJob { worker, gateway, model, job, price, amount, expires_height, bond } = *new;
        let minimum = self.ctx.params.registry.min_job;
        if amount < minimum {
            return Err(Reject::AmountTooSmall { minimum, found: amount });
        }
        let limit = Amount::from_atto(amount.atto().saturating_mul(MAX_BOND_TIMES));
        if bond > limit {
            return Err(RegistryReject::JobBond { limit, found: bond }.into());
        }
        let min = self.ctx.height.saturating_add(1);
        let max = self.ctx.height.saturating_add(self.ctx.params.registry.max_job_blocks);
        if !(min..=max).contains(&expires_height) {
            return Err(RegistryReject::JobExpiry { min, max, found: expires_height }.into());
        }
        self.check_price(price)?;
        // The payer could take the result and never say that it is right.
        if !self.live_model(model)?.manifest.is_exact() {
            return Err(RegistryReject::JobInexact { model }.into());
        }
        self.active(Role::Gateway, gateway)?;
        if let Some(worker) = worker {
            let identity = self.active(Role::Worker, worker)?;
            self.check_fees(worker, (&identity, bond), 1, amount)?;
            self.served_model(model, worker)?;
            self.check_offer(model, worker, price)?;
        }
        self.debit(payer, amount)?;
        // A nonce is used once, so the id is new.
        let escrow = escrow_id(payer, gateway, nonce);
        let record = JobEscrow { payer, worker, gateway, model, job, price, amount, expires_height, bond };
        JOBS.put(self.state, &escrow, &record);
        DUE_JOBS.put(self.state, &(expires_height, escrow), &true);
        self.events.push(Event::JobLocked {
            escrow,
            payer,
            gateway,
            worker,
            model,
            amount,
            expires_height,
            bond,
        });
        Ok(())
    }

    pub(super) fn claim_job(
        &mut self,
        sender: Address,
        batch: &Signed<BatchRoot>,
        receipt: &Signed<Receipt>,
        acceptance: Option<&Signed<JobAcceptance>>,
    ) -> Result<(), Reject> {
        let escrow = receipt.body.channel;
        let job = JOBS.get(self.state, &escrow).ok_or(RegistryReject::UnknownJob { escrow })?;
        let (expires_height, height) = (job.expires_height, self.ctx.height);
        if height > expires_height {
            return Err(RegistryReject::JobExpired { escrow, expires_height, height }.into());
        }
        if let Some(expected) = job.worker.filter(|worker| *worker != sender) {
            return Err(RegistryReject::JobWorker { escrow, expected, found: sender }.into());
        }
        let identity = self.check_batch(sender, batch, job.bond)?;
        // Taking the offer back, or the model, takes nothing back that was locked before.
        if !OFFERS.contains(self.state, &(job.model, sender)) {
            return Err(Reject::NotOffered { model: job.model, worker: sender });
        }
        receipt
            .verify(self.ctx.chain_id, self.ctx.time_ms)
            .map_err(|error| Reject::of_object(SignedObject::Receipt, receipt.body.worker, error))?;
        let fee = self.check_job_receipt(sender, escrow, &job, &receipt.body)?;
        let expected = batch_of(receipt, &batch.body);
        let (expected, found) = (expected.id(), batch.body.id());
        if expected != found {
            return Err(RegistryReject::JobBatch { expected, found }.into());
        }
        if let Some(acceptance) = acceptance {
            self.check_acceptance(escrow, &job, receipt, acceptance)?;
        }
        // Before the refund, which is no part of what the worker put up even if it is the payer too.
        self.debit(sender, job.bond)?;
        JOBS.remove(self.state, &escrow);
        DUE_JOBS.remove(self.state, &(expires_height, escrow));
        let refund = job.amount.saturating_sub(fee);
        self.credit(job.payer, refund);
        let accepted = acceptance.is_some();
        JOB_CLAIMS.put(self.state, &found, &JobClaim { escrow, accepted });
        let (worker, bond) = (sender, job.bond);
        self.events.push(Event::JobClaimed { escrow, batch: found, worker, fee, refund, accepted, bond });
        self.put_batch(&batch.body, identity, vec![job.payer], fee, bond);
        Ok(())
    }

    /// Returns what is locked for jobs whose time is over, a bounded number in one block.
    pub(super) fn refund_jobs(&mut self) {
        let due: Vec<_> = DUE_JOBS
            .iter(self.state)
            .map(|(key, _)| key)
            .take_while(|(expires_height, _)| *expires_height < self.ctx.height)
            .take(self.ctx.params.registry.max_job_refunds as usize)
            .collect();
        for key in due {
            DUE_JOBS.remove(self.state, &key);
            let escrow = key.1;
            let job = JOBS.get(self.state, &escrow).expect("a claim removes both entries");
            JOBS.remove(self.state, &escrow);
            self.credit(job.payer, job.amount);
            self.events.push(Event::JobRefunded { escrow, payer: job.payer, amount: job.amount });
        }
    }

    /// Whether a worker that hosts the model works for this price.
    fn check_offer(&self, model: ModelId, worker: Address, price: Price) -> Result<(), Reject> {
        let offer = OFFERS.get(self.state, &(model, worker)).ok_or(Reject::NotOffered { model, worker })?;
        let asked = offer.price;
        let tokens = [
            (TokenKind::Prompt, asked.prompt_token, price.prompt_token),
            (TokenKind::Output, asked.output_token, price.output_token),
        ];
        match tokens.into_iter().find(|(_, asked, found)| found < asked) {
            None => Ok(()),
            Some((token, asked, found)) => {
                Err(RegistryReject::JobUnderOffer { model, worker, token, asked, found }.into())
            }
        }
    }

    /// The fee, if the receipt is what the escrow was locked for.
    fn check_job_receipt(
        &self,
        sender: Address,
        escrow: ChannelId,
        job: &JobEscrow,
        receipt: &Receipt,
    ) -> Result<Amount, Reject> {
        let model = MODELS.get(self.state, &job.model).expect("models are never removed");
        let ModelManifest { numeric_spec, .. } = model.manifest;
        let fields = [
            (ReceiptField::Job, receipt.job == job.job),
            (ReceiptField::Domain, receipt.domain == model.domain),
            (ReceiptField::Model, receipt.model == job.model),
            (ReceiptField::NumericSpec, receipt.numeric_spec == numeric_spec),
            (ReceiptField::Price, receipt.price == job.price),
            (ReceiptField::Payer, receipt.payer == job.payer),
            (ReceiptField::Lane, receipt.lane == 0),
            (ReceiptField::Worker, receipt.worker == sender),
            (ReceiptField::Gateway, receipt.gateway == job.gateway),
        ];
        if let Some((field, _)) = fields.into_iter().find(|(_, same)| !same) {
            return Err(RegistryReject::JobReceipt { escrow, field }.into());
        }
        let cost = job.price.fee(receipt.prompt_tokens.into(), receipt.output_tokens.into());
        let limit = cost.map_or(job.amount, |cost| cost.min(job.amount));
        let found = receipt.fee;
        if found.is_zero() || found > limit {
            return Err(RegistryReject::JobFee { escrow, limit, found }.into());
        }
        Ok(found)
    }

    fn check_acceptance(
        &self,
        escrow: ChannelId,
        job: &JobEscrow,
        receipt: &Signed<Receipt>,
        acceptance: &Signed<JobAcceptance>,
    ) -> Result<(), Reject> {
        let (body, expected) = (&acceptance.body, receipt.body.id());
        if (body.escrow, body.receipt, body.payer) != (escrow, expected, job.payer) {
            let found = body.receipt;
            return Err(RegistryReject::JobAcceptance { expected, found }.into());
        }
        acceptance
            .verify(self.ctx.chain_id, self.ctx.time_ms)
            .map_err(|error| Reject::of_object(SignedObject::JobAcceptance, job.payer, error))
    }
}

/// The batch of exactly this receipt, with the head of the one that was sent.
fn batch_of(receipt: &Signed<Receipt>, head: &BatchRoot) -> BatchRoot {
    let body = &receipt.body;
    let line = BatchLine {
        channel: body.channel,
        lane: body.lane,
        model: body.model,
        domain: body.domain,
        receipts: 1,
        prompt_tokens: body.prompt_tokens.into(),
        output_tokens: body.output_tokens.into(),
        fees: body.fee,
    };
    BatchRoot {
        chain_id: head.chain_id,
        worker: body.worker,
        gateway: body.gateway,
        sequence: head.sequence,
        root: MerkleTree::new([receipt.to_bytes()]).root(),
        count: 1,
        lines: vec![line],
        expires_ms: head.expires_ms,
    }
}
