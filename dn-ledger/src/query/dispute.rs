//! Queries about disputes.

use dn_core::{Address, BatchId};

use super::page::{PageError, page_of};
use crate::state::{DISPUTE_DUE, DISPUTE_MOVES, DISPUTES, Dispute, State};
use crate::views::{DisputeMoveView, DisputeView, Page, PageRequest};

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

/// The open disputes, of one party or of all: those that end first come first, at most 16 to a page. One that is answered while pages
/// are read ends later, and may be read twice.
///
/// # Errors
/// [`PageError`].
pub fn disputes(
    state: &State,
    party: Option<Address>,
    request: &PageRequest,
) -> Result<Page<DisputeView>, PageError> {
    page_of(state, &DISPUTE_DUE, vec![DISPUTE_DUE.prefix()], request, MAX_DISPUTES, |(_, batch, index), _| {
        let wanted = |d: &Dispute| party.is_none_or(|party| d.accuser == party || d.worker == party);
        DISPUTES.get(state, &(batch, index)).filter(wanted)?;
        dispute(state, batch, index)
    })
}
