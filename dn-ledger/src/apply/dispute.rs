//! The dispute about a receipt's computation: an accusation calls it, two sides move in turn, a referee judges the last tile.
//!
//! Each side has a clock for all its moves together, so that a dispute ends within
//! [`DisputeParams::longest_blocks`](crate::params::DisputeParams::longest_blocks), if no block is full of moves; whoever is silent loses. What no tile judges goes to the
//! validators' weight, and then costs no bond.

use dn_core::merkle::InclusionProof;
use dn_core::objects::{AuditOutcome, BatchLine, Receipt};
use dn_core::{Address, BatchId, Canonical, Signed};
use dn_powr::Offence;
use dn_trust::Weight;

use super::Step;
use crate::bytes::Bytes;
use crate::events::{Event, SlashCause};
use crate::referee::{Case, Ending, MAX_MOVES, MoveFault, Played, RefereeHandle, Side, Standing};
use crate::reject::{Reject, SignedObject};
use crate::state::{
    AUDITS, AuditResult, BATCHES, Batch, BatchStatus, DISPUTE_DUE, DISPUTE_LOAD, DISPUTE_MOVES, DISPUTES,
    Dispute, DisputeLoad, MODELS, VALIDATOR_EPOCHS,
};
use crate::tx::Ground;

/// The votes that accusations may ask for in one block.
const MAX_VOTES: u32 = 16_384;
/// The most disputes that end by silence in one block; the others do in the next ones, and nobody can move in them until then.
const MAX_EXPIRED_PER_BLOCK: usize = 256;

impl Step<'_> {
    /// Whether accusations call a dispute, or the validators' weight at once.
    pub(super) const fn has_disputes(&self) -> bool {
        self.ctx.params.dispute.referee != 0
    }

    /// The accuser has to open the dispute.
    pub(super) fn call_dispute(&mut self, id: BatchId, index: u32, accuser: Address) {
        let mut batch = BATCHES.get(self.state, &id).expect("an audit belongs to a batch");
        batch.status = BatchStatus::Disputed;
        BATCHES.put(self.state, &id, &batch);
        let mut audit = AUDITS.get(self.state, &(id, index)).expect("the audit is open");
        audit.accuser = Some(accuser);
        AUDITS.put(self.state, &(id, index), &audit);
        let params = &self.ctx.params.dispute;
        let deadline = self.ctx.height.saturating_add(params.open_blocks);
        let dispute = Dispute {
            accuser,
            worker: batch.body.worker,
            receipt: None,
            turn: Side::Accuser,
            since_height: self.ctx.height,
            deadline,
            worker_blocks: params.clock_blocks,
            accuser_blocks: params.clock_blocks,
            moves: 0,
            ending: None,
        };
        DISPUTES.put(self.state, &(id, index), &dispute);
        DISPUTE_DUE.put(self.state, &(deadline + 1, id, index), &true);
        self.events.push(Event::DisputeCalled { batch: id, index, accuser, deadline });
    }

    pub(super) fn dispute_open(
        &mut self,
        sender: Address,
        id: BatchId,
        index: u32,
        opened: (&Signed<Receipt>, &InclusionProof, Ground),
    ) -> Result<(), Reject> {
        let (signed, proof, ground) = opened;
        let mut dispute = self.open_dispute_of(id, index)?;
        if sender != dispute.accuser {
            return Err(Reject::DisputeParty { batch: id, index, expected: dispute.accuser, found: sender });
        }
        if dispute.receipt.is_some() {
            return Err(Reject::DisputeOpened { batch: id, index });
        }
        self.check_deadline(dispute.deadline)?;
        // First, as one that has to wait for the next block should cost this one little.
        if ground != Ground::Rest {
            self.count_move()?;
        }
        let batch = BATCHES.get(self.state, &id).expect("a dispute belongs to a batch");
        self.check_receipt(&batch, index, signed, proof)?;
        if BatchLine::holding(&batch.body.lines, &signed.body).is_none() {
            self.end_dispute(id, index, dispute, Ending::Impossible {});
            return Ok(());
        }
        let model = signed.body.model;
        let manifest = MODELS.get(self.state, &model).ok_or(Reject::UnknownModel { model })?.manifest;
        if ground == Ground::Rest {
            self.end_record(id, index, dispute, None);
            return self.open_dispute(id, index, sender, AuditOutcome::Mismatch { position: 0 });
        }
        let referee = self.referee();
        if !referee.judges(&manifest) {
            return Err(Reject::DisputeUnjudged { model });
        }
        let standing = referee.open(Case { receipt: &signed.body, manifest: &manifest });
        dispute.receipt = Some(signed.body.clone());
        self.go_on(id, index, dispute, standing, false);
        Ok(())
    }

    /// Checks that the receipt stands at this place of the batch.
    pub(super) fn check_receipt(
        &self,
        batch: &Batch,
        index: u32,
        signed: &Signed<Receipt>,
        proof: &InclusionProof,
    ) -> Result<(), Reject> {
        let (expected, found) = ((u64::from(index), u64::from(batch.body.count)), (proof.index, proof.count));
        if expected != found {
            return Err(Reject::ProofPlace {
                index: expected.0,
                count: expected.1,
                found_index: found.0,
                found_count: found.1,
            });
        }
        proof
            .verify(batch.body.root, &signed.to_bytes())
            .map_err(|_| Reject::Proof { root: batch.body.root })?;
        let receipt = &signed.body;
        if receipt.worker != batch.body.worker {
            return Err(Reject::ReceiptWorker { expected: batch.body.worker, found: receipt.worker });
        }
        signed
            .verify_any_time(self.ctx.chain_id)
            .map_err(|error| Reject::of_object(SignedObject::Receipt, receipt.worker, error))
    }

    pub(super) fn dispute_move(
        &mut self,
        sender: Address,
        (id, index, step): (BatchId, u32, u32),
        side: Side,
        bytes: &Bytes,
    ) -> Result<(), Reject> {
        let mut dispute = self.open_dispute_of(id, index)?;
        let expected = dispute.party(side);
        if sender != expected {
            return Err(Reject::DisputeParty { batch: id, index, expected, found: sender });
        }
        let Some(receipt) = dispute.receipt.clone() else {
            return Err(Reject::DisputeNotOpened { batch: id, index });
        };
        if dispute.turn != side || dispute.moves != step {
            let (turn, expected) = (dispute.turn, dispute.moves);
            return Err(Reject::DisputeTurn { batch: id, index, turn, step: expected, found: step });
        }
        self.check_deadline(dispute.deadline)?;
        let fault = |fault| Reject::DisputeMove { batch: id, index, step, fault };
        if dispute.moves >= MAX_MOVES {
            return Err(fault(MoveFault::TooLarge));
        }
        self.count_move()?;
        let model = MODELS.get(self.state, &receipt.model).expect("models are never removed");
        let moves: Vec<Played> = self.moves(id, index).into_iter().map(|(_, played)| played).collect();
        let case = Case { receipt: &receipt, manifest: &model.manifest };
        let standing = self.referee().play(case, &moves, side, &bytes.0).map_err(fault)?;
        DISPUTE_MOVES.put(self.state, &(id, index, step), &Played { side, bytes: bytes.clone() });
        dispute.moves += 1;
        let used = (self.ctx.height - dispute.since_height).max(1);
        let (crowded, enough) = (self.is_crowded(), self.ctx.params.dispute.open_blocks);
        let clock = dispute.clock(side);
        *clock = clock.saturating_sub(used);
        if crowded {
            // Full blocks may have used its clock up.
            *clock = (*clock).max(enough);
        }
        self.go_on(id, index, dispute, standing, true);
        Ok(())
    }

    /// Takes note of where a dispute stands, or ends it.
    fn go_on(&mut self, id: BatchId, index: u32, mut dispute: Dispute, standing: Standing, moved: bool) {
        let (step, by) = (dispute.moves, dispute.turn);
        let turn = match standing {
            Standing::Turn(turn) => turn,
            Standing::Ended(ending) => return self.end_dispute(id, index, dispute, ending),
        };
        DISPUTE_DUE.remove(self.state, &(dispute.deadline + 1, id, index));
        dispute.turn = turn;
        dispute.since_height = self.ctx.height;
        let left = *dispute.clock(turn);
        dispute.deadline = self.ctx.height.saturating_add(left);
        let deadline = dispute.deadline;
        DISPUTES.put(self.state, &(id, index), &dispute);
        DISPUTE_DUE.put(self.state, &(deadline + 1, id, index), &true);
        self.events.push(if moved {
            Event::DisputeMoved { batch: id, index, step: step - 1, by, turn, deadline }
        } else {
            Event::DisputeStarted { batch: id, index, turn, deadline }
        });
    }

    /// Clocks that ran out. None does soon after a block that was full of moves: who is silent may only have found no room.
    pub(super) fn expire_disputes(&mut self) {
        if self.is_crowded() {
            return;
        }
        let due: Vec<_> = DISPUTE_DUE
            .iter(self.state)
            .map(|(key, _)| key)
            .take_while(|(height, ..)| *height <= self.ctx.height)
            .take(MAX_EXPIRED_PER_BLOCK)
            .collect();
        for (height, id, index) in due {
            DISPUTE_DUE.remove(self.state, &(height, id, index));
            // Another receipt's fraud may have ended it in this very block.
            let open = DISPUTES.get(self.state, &(id, index)).filter(|dispute| dispute.ending.is_none());
            let Some(dispute) = open else { continue };
            let ending = Ending::silence_of(dispute.turn);
            self.end_dispute(id, index, dispute, ending);
        }
    }

    /// One side loses: the worker its batch and a part of its bond, or the accuser a part of its own.
    fn end_dispute(&mut self, id: BatchId, index: u32, dispute: Dispute, ending: Ending) {
        let accuser = dispute.accuser;
        self.end_record(id, index, dispute, Some(ending));
        self.events.push(Event::DisputeEnded { batch: id, index, outcome: ending });
        if ending.loser() == Side::Worker {
            VALIDATOR_EPOCHS.update(self.state, &accuser, |epoch| epoch.aligned(Weight::ONE));
            self.close_audit(id, index, AuditResult::Fraud);
            let batch = BATCHES.get(self.state, &id).expect("an audit belongs to a batch");
            self.void(id, batch, SlashCause::Fraud, accuser);
            return;
        }
        VALIDATOR_EPOCHS.update(self.state, &accuser, |epoch| {
            epoch.misaligned(Weight::ONE);
            epoch.proven_fraud();
        });
        self.close_audit(id, index, AuditResult::Refuted);
        self.slash_validator(accuser, Offence::FalseVerdict, SlashCause::FalseVerdict, None);
        self.settle_if_due(id);
    }

    /// Ends an open dispute that the end of its batch makes void: nobody loses it.
    pub(super) fn cancel_dispute(&mut self, id: BatchId, index: u32) {
        let open = DISPUTES.get(self.state, &(id, index)).filter(|dispute| dispute.ending.is_none());
        if let Some(dispute) = open {
            self.end_record(id, index, dispute, None);
        }
    }

    /// Drops what only an open dispute needs; what is left says how it ended. Without an ending nothing is left.
    fn end_record(&mut self, id: BatchId, index: u32, mut dispute: Dispute, ending: Option<Ending>) {
        DISPUTE_DUE.remove(self.state, &(dispute.deadline + 1, id, index));
        for (step, _) in self.moves(id, index) {
            DISPUTE_MOVES.remove(self.state, &(id, index, step));
        }
        if ending.is_none() {
            DISPUTES.remove(self.state, &(id, index));
            return;
        }
        (dispute.receipt, dispute.ending) = (None, ending);
        DISPUTES.put(self.state, &(id, index), &dispute);
    }

    /// Whether the audit is in the hands of the two sides, and no deadline of auditors applies.
    pub(super) fn in_dispute(&self, id: BatchId, index: u32) -> bool {
        DISPUTES.get(self.state, &(id, index)).is_some_and(|dispute| dispute.ending.is_none())
    }

    fn open_dispute_of(&self, id: BatchId, index: u32) -> Result<Dispute, Reject> {
        let open = DISPUTES.get(self.state, &(id, index)).filter(|dispute| dispute.ending.is_none());
        open.ok_or(Reject::UnknownDispute { batch: id, index })
    }

    fn moves(&self, id: BatchId, index: u32) -> Vec<(u32, Played)> {
        DISPUTE_MOVES
            .iter_from(self.state, &(id, index))
            .map(|((_, _, step), played)| (step, played))
            .collect()
    }

    fn check_deadline(&self, deadline: u64) -> Result<(), Reject> {
        let height = self.ctx.height;
        if height > deadline && !self.is_crowded() {
            Err(Reject::TooLate { deadline, height })
        } else {
            Ok(())
        }
    }

    /// Whether a block took all the moves that a block takes, no longer ago than there is for opening a dispute: so long all who wait for room have
    /// to find some.
    fn is_crowded(&self) -> bool {
        let full_height = DISPUTE_LOAD.get_or_default(self.state, &0).full_height;
        full_height > 0 && full_height.saturating_add(self.ctx.params.dispute.open_blocks) >= self.ctx.height
    }

    /// Each move makes the referee play all of its dispute: a block takes only so many.
    fn count_move(&mut self) -> Result<(), Reject> {
        let (height, limit) = (self.ctx.height, self.ctx.params.dispute.max_moves_per_block);
        let mut load = self.dispute_load();
        if load.moves >= limit {
            return Err(Reject::DisputesBusy { limit, height });
        }
        load.moves += 1;
        if load.moves == limit {
            load.full_height = height;
        }
        DISPUTE_LOAD.put(self.state, &0, &load);
        Ok(())
    }

    /// What goes to a vote asks every validator: a block asks for only so many votes, and for those of one receipt always.
    pub(super) fn count_votes(&mut self, votes: u32) -> Result<(), Reject> {
        let (height, limit) = (self.ctx.height, MAX_VOTES);
        let mut load = self.dispute_load();
        let (held, after) = (load.votes, load.votes.saturating_add(votes));
        if held > 0 && after > limit {
            return Err(Reject::VotesBusy { limit, height, held, votes });
        }
        load.votes = after;
        DISPUTE_LOAD.put(self.state, &0, &load);
        Ok(())
    }

    /// Of this block.
    fn dispute_load(&self) -> DisputeLoad {
        let height = self.ctx.height;
        let load = DISPUTE_LOAD.get_or_default(self.state, &0);
        if load.height == height { load } else { DisputeLoad { height, moves: 0, votes: 0, ..load } }
    }

    fn referee(&self) -> RefereeHandle {
        let referee = self.ctx.referee.clone();
        referee.expect("a chain with disputes executes no block without its referee")
    }
}

#[cfg(test)]
mod tests;
