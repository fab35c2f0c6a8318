//! Feedback of payers, bound to receipts that they paid for; and what it and work do to the trust in models.

use std::collections::BTreeMap;

use dn_core::merkle::InclusionProof;
use dn_core::objects::feedback::{Feedback, MAX_SCORE, MAX_TAG_BYTES};
use dn_core::objects::{BatchLine, Receipt};
use dn_core::{Address, Amount, ModelId, Signed};
use dn_trust::{ModelTrust, Weight};

use super::Step;
use crate::events::Event;
use crate::reject::{Field, Reject, SignedObject};
use crate::state::{
    BATCHES, Batch, BatchStatus, CHANNELS, FEEDBACKS, FeedbackRecord, HEARD, MODEL_EPOCHS, MODEL_REPUTATIONS,
    MODEL_TRUST, MODELS, WORKER_FEEDBACK, WORKER_REPUTATIONS,
};
use crate::text::check_text;

impl Step<'_> {
    /// Anybody may bring feedback; the payer or its channel's spender has to have signed it.
    pub(super) fn feedback(
        &mut self,
        signed: &Signed<Feedback>,
        receipt: &Signed<Receipt>,
        proof: &InclusionProof,
    ) -> Result<(), Reject> {
        let body = &signed.body;
        let (id, index) = (body.batch, body.index);
        check_text(Field::Tag, &body.tag, 0, MAX_TAG_BYTES)?;
        if body.score > MAX_SCORE {
            return Err(Reject::Score { maximum: MAX_SCORE, found: body.score });
        }
        let batch = BATCHES.get(self.state, &id).ok_or(Reject::UnknownBatch { batch: id })?;
        if batch.status != BatchStatus::Settled {
            return Err(Reject::BatchUnsettled { batch: id, status: batch.status });
        }
        if FEEDBACKS.contains(self.state, &(id, index)) {
            return Err(Reject::FeedbackGiven { batch: id, index });
        }
        self.check_receipt(&batch, index, receipt, proof)?;
        let (expected, found) = (receipt.body.id(), body.receipt);
        if expected != found {
            return Err(Reject::FeedbackReceipt { expected, found });
        }
        let payer = payer_of(&batch, &receipt.body).ok_or(Reject::FeedbackLine { batch: id, index })?;
        let spender = CHANNELS.get(self.state, &receipt.body.channel).map(|channel| channel.spender);
        if body.signer != payer && Some(body.signer) != spender {
            return Err(Reject::FeedbackSigner { payer, signer: body.signer });
        }
        let model = receipt.body.model;
        let owner = MODELS.get(self.state, &model).ok_or(Reject::UnknownModel { model })?.owner;
        if payer == receipt.body.worker || payer == owner {
            return Err(Reject::FeedbackSelf { payer });
        }
        signed
            .verify(self.ctx.chain_id, self.ctx.time_ms)
            .map_err(|error| Reject::of_object(SignedObject::Feedback, body.signer, error))?;
        self.take_feedback(body, &receipt.body, payer);
        Ok(())
    }

    fn take_feedback(&mut self, body: &Feedback, receipt: &Receipt, payer: Address) {
        let (batch, index, score) = (body.batch, body.index, body.score);
        let (worker, model, fee) = (receipt.worker, receipt.model, receipt.fee);
        let record = FeedbackRecord {
            worker,
            model,
            payer,
            signer: body.signer,
            fee,
            score,
            tag: body.tag.clone(),
            uri_hash: body.uri_hash,
            height: self.ctx.height,
        };
        FEEDBACKS.put(self.state, &(batch, index), &record);
        let place = WORKER_REPUTATIONS.get_or_default(self.state, &worker).count;
        WORKER_FEEDBACK.put(self.state, &(worker, place), &(batch, index));
        WORKER_REPUTATIONS.update(self.state, &worker, |reputation| reputation.add(score));
        MODEL_REPUTATIONS.update(self.state, &model, |reputation| reputation.add(score));
        let weight = self.hear(model, payer, fee);
        let part = |share: u8| Weight::from_bits(weight * u64::from(share) / u64::from(MAX_SCORE));
        MODEL_EPOCHS.update(self.state, &model, |epoch| {
            epoch.liked(part(score));
            epoch.disliked(part(MAX_SCORE - score));
        });
        self.trusted_from_now(model);
        self.events.push(Event::FeedbackGiven {
            batch,
            index,
            worker,
            model,
            payer,
            score,
            tag: body.tag.clone(),
        });
    }

    /// The weight of feedback on a receipt of this fee, Q16: in proportion to the fee up to one, and no more than one for all that a payer says of a
    /// model in an epoch.
    fn hear(&mut self, model: ModelId, payer: Address, fee: Amount) -> u64 {
        let (one, epoch) = (Weight::ONE.bits(), self.ctx.epoch());
        let full = self.ctx.params.feedback.full_fee.atto();
        let scaled = dn_core::wide::mul_div(fee.atto().min(full), one.into(), full.max(1));
        let weight = scaled.and_then(|weight| u64::try_from(weight).ok()).unwrap_or(one).min(one);
        let mut heard = HEARD.get_or_default(self.state, &(model, payer));
        if heard.epoch != epoch {
            (heard.epoch, heard.weight) = (epoch, 0);
        }
        let counted = weight.min(one.saturating_sub(heard.weight));
        heard.weight += counted;
        HEARD.put(self.state, &(model, payer), &heard);
        counted
    }

    /// Settled work is evidence for its models.
    pub(super) fn note_model_work(&mut self, model: ModelId, work: u128) {
        let weight = Weight::of_work(&self.ctx.params.trust, work);
        MODEL_EPOCHS.update(self.state, &model, |epoch| epoch.succeeded(weight, work));
        self.trusted_from_now(model);
    }

    fn trusted_from_now(&mut self, model: ModelId) {
        if !MODEL_TRUST.contains(self.state, &model) {
            MODEL_TRUST.put(self.state, &model, &ModelTrust::newcomer(&self.ctx.params.trust));
        }
    }

    /// Closes the epoch of every model that ever worked. A model's class is its domain.
    pub(super) fn close_model_trust(&mut self) {
        let models: Vec<_> = MODEL_TRUST.iter(self.state).collect();
        let mut classes = BTreeMap::<u32, Vec<u128>>::new();
        for (id, _) in &models {
            let model = MODELS.get(self.state, id).expect("models are never removed");
            let work = MODEL_EPOCHS.get_or_default(self.state, id).paid_work();
            if work > 0 {
                classes.entry(model.domain).or_default().push(work);
            }
        }
        let medians: BTreeMap<u32, u128> =
            classes.into_iter().map(|(domain, works)| (domain, lower_median(works))).collect();
        let params = &self.ctx.params.trust;
        for (id, mut trust) in models {
            let model = MODELS.get(self.state, &id).expect("models are never removed");
            let before = trust.weight(params);
            let median = medians.get(&model.domain).copied().unwrap_or(0);
            trust.close_epoch(params, &MODEL_EPOCHS.get_or_default(self.state, &id), median);
            MODEL_TRUST.put(self.state, &id, &trust);
            MODEL_EPOCHS.remove(self.state, &id);
            let after = trust.weight(params);
            if after != before {
                self.events.push(Event::ModelTrustChanged { model: id, before, after });
            }
        }
    }
}

/// Who paid for a receipt, by the line of the batch that it belongs to.
fn payer_of(batch: &Batch, receipt: &Receipt) -> Option<Address> {
    let of_line = |line: &BatchLine| {
        (line.channel, line.lane, line.model, line.domain)
            == (receipt.channel, receipt.lane, receipt.model, receipt.domain)
    };
    let line = batch.body.lines.iter().position(of_line)?;
    batch.payers.get(line).copied()
}

fn lower_median(mut values: Vec<u128>) -> u128 {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}
