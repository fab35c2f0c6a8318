//! Feedback of payers, bound to receipts that they paid for; and what it and work do to the trust in models.

use dn_core::merkle::InclusionProof;
use dn_core::objects::feedback::{Feedback, MAX_SCORE, MAX_TAG_BYTES};
use dn_core::objects::{BatchLine, Receipt};
use dn_core::{Address, Amount, ModelId, Signed};
use dn_trust::{ModelTrust, Weight};

use super::Step;
use crate::events::Event;
use crate::reject::{Field, Reject, SignedObject};
use crate::state::{
    BATCHES, BUSY_EPOCHS, Batch, BatchStatus, CHANNELS, FEEDBACKS, FeedbackRecord, HEARD, MODEL_EPOCHS,
    MODEL_REPUTATIONS, MODEL_TRUST, MODELS, TrustedModel, WORKER_FEEDBACK, WORKER_REPUTATIONS,
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
        let (payer, paid) =
            paid_by(&batch, &receipt.body).ok_or(Reject::FeedbackLine { batch: id, index })?;
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
        self.take_feedback(body, &receipt.body, payer, paid);
        Ok(())
    }

    fn take_feedback(&mut self, body: &Feedback, receipt: &Receipt, payer: Address, fee: Amount) {
        let (batch, index, score) = (body.batch, body.index, body.score);
        let (worker, model) = (receipt.worker, receipt.model);
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
        MODEL_EPOCHS.update(self.state, &(self.ctx.epoch(), model), |epoch| {
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
        MODEL_EPOCHS.update(self.state, &(self.ctx.epoch(), model), |epoch| epoch.succeeded(weight, work));
        self.trusted_from_now(model);
    }

    fn trusted_from_now(&mut self, model: ModelId) {
        if !MODEL_TRUST.contains(self.state, &model) {
            let record = MODELS.get(self.state, &model).expect("the caller looked");
            let newcomer = TrustedModel {
                trust: ModelTrust::newcomer(&self.ctx.params.trust),
                from_epoch: self.ctx.epoch(),
                busy_epochs: BUSY_EPOCHS.get_or_default(self.state, &record.domain),
            };
            MODEL_TRUST.put(self.state, &model, &newcomer);
        }
    }
}

/// Who paid for a receipt and how much, by the line of the batch that it belongs to: what the receipt says, and no more than the mean of its line, which is
/// all that anybody has paid for certain.
fn paid_by(batch: &Batch, receipt: &Receipt) -> Option<(Address, Amount)> {
    let at = BatchLine::holding(&batch.body.lines, receipt)?;
    let line = &batch.body.lines[at];
    let mean = Amount::from_atto(line.fees.atto() / u128::from(line.receipts.max(1)));
    Some((*batch.payers.get(at)?, receipt.fee.min(mean)))
}
