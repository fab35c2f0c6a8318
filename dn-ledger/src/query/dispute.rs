//! Queries about disputes.

use dn_core::{Address, BatchId};

use super::MAX_LIST;
use crate::state::{DISPUTE_DUE, DISPUTE_MOVES, DISPUTES, State};
use crate::views::{DisputeMoveView, DisputeView};

/// The most disputes with all their moves that a list answers with.
const MAX_DISPUTES: usize = 16;

/// The dispute about a receipt, if there is or was one.
pub fn dispute(state: &State, batch: BatchId, index: u32) -> Option<DisputeView> {
    let dispute = DISPUTES.get(state, &(batch, index))?;
    let moves = DISPUTE_MOVES.iter_from(state, &(batch, index));
    Some(DisputeView {
        batch,
        index,
        accuser: dispute.accuser,
        worker: dispute.worker,
        receipt: dispute.receipt,
        turn: dispute.turn,
        deadline: dispute.deadline,
        worker_blocks: dispute.worker_blocks,
        accuser_blocks: dispute.accuser_blocks,
        step: dispute.moves,
        moves: moves.map(|(_, played)| DisputeMoveView { side: played.side, bytes: played.bytes }).collect(),
        outcome: dispute.ending,
    })
}

/// The open disputes, of one party or of all: those that end first come first, at most 16.
pub fn disputes(state: &State, party: Option<Address>) -> Vec<DisputeView> {
    let due = DISPUTE_DUE.iter(state).take(MAX_LIST).map(|((_, batch, index), _)| (batch, index));
    let of_party = due.filter(|key| {
        let Some(party) = party else { return true };
        DISPUTES.get(state, key).is_some_and(|d| d.accuser == party || d.worker == party)
    });
    of_party.filter_map(|(batch, index)| dispute(state, batch, index)).take(MAX_DISPUTES).collect()
}
