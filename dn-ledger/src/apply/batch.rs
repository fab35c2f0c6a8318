//! Batches: a worker's commitment to receipts, claimed from payers' channels by vouchers.

use dn_core::objects::{BatchLine, BatchRoot, Voucher};
use dn_core::{Address, Amount, ChannelId, Signed, VerifyError};

use super::books::sum;
use super::{Step, store_identity};
use crate::events::Event;
use crate::reject::{Field, Reject, SignedObject};
use crate::signatures::map_signatures;
use crate::state::{
    BATCHES, Batch, BatchStatus, CHANNELS, DUE_BATCHES, Identity, LANES, MODELS, SESSIONS, WORKER_BATCHES,
    WORKER_SEQUENCES,
};
use crate::text::check_size;
use crate::tx::Role;

impl Step<'_> {
    pub(super) fn post_batch(
        &mut self,
        sender: Address,
        signed: &Signed<BatchRoot>,
        vouchers: &[Signed<Voucher>],
    ) -> Result<(), Reject> {
        let identity = self.check_batch(sender, signed, Amount::ZERO)?;
        let body = &signed.body;
        for line in &body.lines {
            self.served_model(line.model, sender)?;
        }
        self.claim_lanes(&body.lines, vouchers)?;
        let payers = self.payers(body)?;
        self.put_batch(body, identity, payers, body.total_fees()?, Amount::ZERO);
        Ok(())
    }

    /// Who sends, who countersigned, and what the lines say, given the bond of a job; the worker's identity.
    pub(super) fn check_batch(
        &mut self,
        sender: Address,
        signed: &Signed<BatchRoot>,
        bond: Amount,
    ) -> Result<Identity, Reject> {
        let body = &signed.body;
        if body.worker != sender {
            return Err(Reject::BatchWorker { worker: body.worker, sender });
        }
        // First, as one that has to wait for the next block should cost this one little.
        self.count_audit_load(body.count)?;
        let identity = self.active(Role::Worker, sender)?;
        self.bonded(Role::Gateway, body.gateway)?;
        signed
            .verify(self.ctx.chain_id, self.ctx.time_ms)
            .map_err(|error| Reject::of_object(SignedObject::BatchRoot, body.gateway, error))?;
        let expected = WORKER_SEQUENCES.get_or_default(self.state, &sender);
        if body.sequence != expected {
            return Err(Reject::BatchSequence { expected, found: body.sequence });
        }
        self.check_lines(body, &identity, bond)?;
        Ok(identity)
    }

    /// Takes a batch whose fees its payers no longer hold, nor the worker the bond of a job.
    pub(super) fn put_batch(
        &mut self,
        body: &BatchRoot,
        mut identity: Identity,
        payers: Vec<Address>,
        fees: Amount,
        bond: Amount,
    ) {
        let (sender, id) = (body.worker, body.id());
        let draw_height = self.ctx.height.saturating_add(self.ctx.params.beacon.delay_blocks);
        let batch = Batch {
            payers,
            escrow: fees,
            status: BatchStatus::Posted,
            posted_height: self.ctx.height,
            window_end_height: draw_height.saturating_add(self.ctx.params.audit_times.window_blocks),
            open_audits: 0,
            passed_audits: 0,
            bond,
            body: body.clone(),
        };
        BATCHES.put(self.state, &id, &batch);
        WORKER_BATCHES.put(self.state, &(sender, body.sequence), &id);
        WORKER_SEQUENCES.put(self.state, &sender, &(body.sequence + 1));
        DUE_BATCHES.put(self.state, &(draw_height, id), &true);
        identity.open_batches += 1;
        store_identity(self.state, Role::Worker, sender, &identity);
        self.events.push(Event::BatchPosted {
            batch: id,
            worker: sender,
            gateway: body.gateway,
            sequence: body.sequence,
            count: body.count,
            fees,
        });
    }

    /// Sizes, order, models and sums of the lines.
    fn check_lines(&self, body: &BatchRoot, identity: &Identity, bond: Amount) -> Result<(), Reject> {
        let params = &self.ctx.params;
        check_size(Field::Lines, body.lines.len(), 1, params.max_batch_lines as usize)?;
        check_size(Field::Receipts, body.count as usize, 1, self.max_receipts(body.worker) as usize)?;
        let order = |l: &BatchLine| (l.channel, l.lane, l.model, l.domain);
        let (mut receipts, mut exact) = (0u64, None);
        for (line, l) in (0u32..).zip(&body.lines) {
            if line > 0 && order(&body.lines[line as usize - 1]) >= order(l) {
                return Err(Reject::LinesUnsorted { line });
            }
            if l.receipts == 0 || l.fees.is_zero() {
                return Err(Reject::LineEmpty { line });
            }
            let model = MODELS.get(self.state, &l.model).ok_or(Reject::UnknownModel { model: l.model })?;
            if model.domain != l.domain {
                let (expected, found) = (model.domain, l.domain);
                return Err(Reject::LineDomain { line, model: l.model, expected, found });
            }
            let found = model.manifest.is_exact();
            if *exact.get_or_insert(found) != found {
                return Err(Reject::LineExactness { line, model: l.model, exact: found });
            }
            // Nobody sees all receipts, so what they may add up to bounds the work and trust that a line counts for.
            let limit = u64::from(l.receipts) * u64::from(model.manifest.hyperparameters.context);
            let found = l.prompt_tokens.saturating_add(l.output_tokens);
            if found > limit {
                return Err(Reject::LineTokens { line, limit, found });
            }
            self.check_fees(body.worker, (identity, bond), l.receipts, l.fees)?;
            // At most 2^10 lines of 2^32 receipts.
            receipts += u64::from(l.receipts);
        }
        if receipts != u64::from(body.count) {
            return Err(Reject::BatchCount { expected: body.count, found: receipts });
        }
        Ok(())
    }

    /// Refuses fees at which cheating would pay, given the worker's collateral, its open batches and a bond.
    pub(super) fn check_fees(
        &self,
        worker: Address,
        (identity, bond): (&Identity, Amount),
        receipts: u32,
        found: Amount,
    ) -> Result<(), Reject> {
        let (collateral, open) = (identity.collateral, identity.open_batches);
        let Some(each) = self.ctx.params.max_mean_fee(collateral, bond, open) else { return Ok(()) };
        match each.checked_mul(receipts.into()) {
            Ok(limit) if found > limit => {
                Err(Reject::FeesOverBond { worker, receipts, collateral, bond, open, limit, found })
            }
            _ => Ok(()),
        }
    }

    /// Moves every lane's fees out of its channel, each covered by one voucher.
    fn claim_lanes(&mut self, lines: &[BatchLine], vouchers: &[Signed<Voucher>]) -> Result<(), Reject> {
        let (chain_id, time_ms) = (self.ctx.chain_id, self.ctx.time_ms);
        let same_lane = |a: &BatchLine, b: &BatchLine| (a.channel, a.lane) == (b.channel, b.lane);
        // Of more than there are lanes no signature is looked at.
        let lanes = lines.chunk_by(same_lane).count();
        let (needed, extra) = vouchers.split_at(lanes.min(vouchers.len()));
        let verified = map_signatures(needed, |voucher| voucher.verify(chain_id, time_ms));
        let mut rest = needed.iter().zip(verified);
        for group in lines.chunk_by(same_lane) {
            let (channel, lane) = (group[0].channel, group[0].lane);
            let (voucher, verified) = rest.next().ok_or(Reject::VoucherMissing { channel, lane })?;
            let found = (voucher.body.channel, voucher.body.lane);
            if found != (channel, lane) {
                // Both lists are sorted: a voucher that comes later leaves this lane without one.
                return Err(if found > (channel, lane) {
                    Reject::VoucherMissing { channel, lane }
                } else {
                    Reject::VoucherUnexpected { channel: found.0, lane: found.1 }
                });
            }
            self.claim(channel, lane, group, voucher, verified)?;
        }
        match extra.first() {
            None => Ok(()),
            Some(Signed { body, .. }) => {
                Err(Reject::VoucherUnexpected { channel: body.channel, lane: body.lane })
            }
        }
    }

    fn claim(
        &mut self,
        id: ChannelId,
        lane: u32,
        lines: &[BatchLine],
        voucher: &Signed<Voucher>,
        verified: Result<(), VerifyError>,
    ) -> Result<(), Reject> {
        let mut channel = CHANNELS.get(self.state, &id).ok_or(Reject::UnknownChannel { channel: id })?;
        let fees = Amount::sum(lines.iter().map(|line| line.fees))?;
        let signer = voucher.body.signer;
        let by_session = signer != channel.spender && signer != channel.payer;
        if by_session && !SESSIONS.contains(self.state, &(channel.payer, signer)) {
            return Err(Reject::VoucherSigner { channel: id, signer });
        }
        verified.map_err(|error| Reject::of_object(SignedObject::Voucher, signer, error))?;
        let held = LANES.get(self.state, &(id, lane));
        let claimed = held.unwrap_or_default();
        let max_claimable = voucher.body.max_claimable;
        let new = claimed.checked_add(fees)?;
        if new > max_claimable {
            return Err(Reject::VoucherTooLow { channel: id, lane, claimed, fees, max_claimable });
        }
        let available = channel.balance();
        if fees > available {
            return Err(Reject::ChannelExhausted { channel: id, available, fees });
        }
        if by_session {
            self.spend_session(id, (channel.payer, signer), lines, fees)?;
        }
        if held.is_none() {
            channel.lanes += 1;
            check_size(Field::Lanes, channel.lanes as usize, 1, self.ctx.params.max_lanes as usize)?;
        }
        channel.claimed = sum(channel.claimed, fees);
        CHANNELS.put(self.state, &id, &channel);
        LANES.put(self.state, &(id, lane), &new);
        Ok(())
    }

    /// Who pays each line; every channel must pay the batch's gateway.
    fn payers(&self, body: &BatchRoot) -> Result<Vec<Address>, Reject> {
        let mut payers = Vec::with_capacity(body.lines.len());
        for (line, l) in (0u32..).zip(&body.lines) {
            let channel =
                CHANNELS.get(self.state, &l.channel).ok_or(Reject::UnknownChannel { channel: l.channel })?;
            if channel.payee != body.gateway {
                let (gateway, payee) = (body.gateway, channel.payee);
                return Err(Reject::LineGateway { line, channel: l.channel, payee, gateway });
            }
            payers.push(channel.payer);
        }
        Ok(payers)
    }
}
