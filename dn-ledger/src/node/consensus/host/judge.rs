//! What others propose: put together, kept, judged.

use std::sync::Arc;

use malachite_channel::app::types::ProposedValue;
use malachite_types::Validity;

use super::{Host, MAX_WAITING};
use crate::apply::Signatures;
use crate::block::Block;
use crate::chain::{BlockError, Executed};
use crate::node::consensus::ConsensusError;
use crate::node::consensus::context::Ctx;
use crate::node::consensus::parts::{Part, Place, Received};
use crate::node::consensus::undecided::Candidate;
use crate::node::shared::now_ms;

/// Why a block cannot follow the tip.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotExecuted {
    /// A transaction that its sender did not sign.
    #[error("it holds a transaction that nobody signed")]
    Unsigned,
    /// The rules refuse it, or panic with it.
    #[error(transparent)]
    Block(#[from] BlockError),
}

impl Host {
    pub(super) fn received(
        &mut self,
        part: Option<Part>,
    ) -> Result<Option<ProposedValue<Ctx>>, ConsensusError> {
        let chunk = match part {
            Some(Part::Chunk(chunk)) => *chunk,
            Some(Part::Txs(txs)) => {
                self.outbound.heard(txs);
                return Ok(None);
            }
            None => return Ok(None),
        };
        let (tip, set, turns) = {
            let chain = self.shared.chain();
            (chain.tip().height, chain.validators(), chain.turn_seed())
        };
        // Of later heights the set may be another one: those are judged when theirs starts.
        let place = chunk.place;
        let now = place.height.0 == tip + 1;
        let round = place.round.as_u32().unwrap_or(u32::MAX);
        if now && set.proposer(self.ctx.chain_id, turns, tip + 1, round) != place.proposer.address() {
            self.shared.metrics.dropped_parts.inc();
            return Ok(None);
        }
        match self.assembly.add(chunk, tip, |id| set.power(id.address()) > 0) {
            Ok(Some(received)) if received.place.height.0 == tip + 1 => self.accept(received, true),
            Ok(Some(received)) => {
                if self.waiting.len() >= MAX_WAITING {
                    self.waiting.pop_front();
                }
                self.waiting.push_back(received);
                Ok(None)
            }
            Ok(None) => Ok(None),
            Err(error) => {
                tracing::debug!(%error, "a part of a block is dropped");
                self.shared.metrics.dropped_parts.inc();
                Ok(None)
            }
        }
    }

    /// Keeps and judges a block that is proposed now (`live`), or was decided by others; none if there is no room for it.
    pub(super) fn accept(
        &mut self,
        received: Received,
        live: bool,
    ) -> Result<Option<ProposedValue<Ctx>>, ConsensusError> {
        let Received { place, publisher, block } = received;
        if let Some(known) = self.undecided.at(&place) {
            let block = Arc::clone(&known.block);
            return self.judge(place, &block, live).map(Some);
        }
        let block = Arc::new(block);
        let executed = self.undecided.block(place.height, place.block).and_then(|c| c.executed.clone());
        let kept = Arc::clone(&block);
        let other = Candidate { place, publisher, block: kept, own: false, old: false, executed };
        if !self.undecided.insert(other, live)? {
            self.shared.metrics.dropped_parts.inc();
            return Ok(None);
        }
        self.judge(place, &block, live).map(Some)
    }

    /// Whether a proposed block may follow the tip. The clock counts only for what is proposed now: what others decided is
    /// decided.
    pub(super) fn judge(
        &mut self,
        place: Place,
        block: &Block,
        live: bool,
    ) -> Result<ProposedValue<Ctx>, ConsensusError> {
        let valid = (!live || self.timely(&place, block)) && self.execute(&place, block).is_ok();
        if !valid {
            self.shared.metrics.invalid_blocks.inc();
        }
        let Place { height, round, valid_round, proposer, block } = place;
        let validity = Validity::from_bool(valid);
        Ok(ProposedValue { height, round, valid_round, proposer, value: block, validity })
    }

    /// Its proposer's turn, and neither from the future nor, when it is new, from the past.
    pub(super) fn timely(&self, place: &Place, block: &Block) -> bool {
        let header = &block.header;
        let Some(round) = place.round.as_u32() else { return false };
        let old = self.undecided.at(place).is_some_and(|candidate| candidate.old);
        let new = place.valid_round.is_nil() && !old;
        if let Err(error) = self.pace.check(header.time_ms, now_ms(), round, new) {
            tracing::warn!(height = header.height, %error, "a proposed block is not timely");
            return false;
        }
        let (set, seed) = {
            let chain = self.shared.chain();
            (chain.validators(), chain.turn_seed())
        };
        let turn = |round| set.proposer(self.ctx.chain_id, seed, header.height, round) == header.proposer;
        // A block that is proposed again keeps its first proposer.
        if place.valid_round.is_nil() { turn(round) } else { (0..=round).any(turn) }
    }

    /// What a block does, or why it cannot follow the tip; a panic in the rules is such a reason.
    pub(super) fn execute(&mut self, place: &Place, block: &Block) -> Result<Arc<Executed>, NotExecuted> {
        if let Some(executed) =
            self.undecided.block(place.height, place.block).and_then(|c| c.executed.clone())
        {
            return Ok(executed);
        }
        let executed = match self.shared.check_block_signatures(block) {
            true => {
                self.shared.chain_mut().validate_with(block, Signatures::Checked).map_err(NotExecuted::from)
            }
            false => Err(NotExecuted::Unsigned),
        };
        let executed = executed.inspect_err(|error| match error {
            NotExecuted::Block(BlockError::Panicked { tx, .. }) => {
                tracing::error!(height = place.height.0, block = %place.block, ?tx, %error, "a bug: a proposed block is refused");
            }
            _ => tracing::warn!(height = place.height.0, %error, "a proposed block is invalid"),
        })?;
        let executed = Arc::new(executed);
        self.undecided.set_executed(place.block, &executed);
        Ok(executed)
    }
}
