//! Queries about sessions, proposals and upgrades.

use dn_core::Address;

use super::page::{PageError, page, page_in};
use crate::state::{
    OPEN_PROPOSALS, PROPOSALS, Proposal, ProposalStatus, SESSIONS, Session, State, Tally, UPGRADES,
};
use crate::tally::tally;
use crate::upgrades::SUPPORTED_UPGRADES;
use crate::views::{Page, PageRequest, ProposalView, SessionView, UpgradeView};

/// The sessions of an owner, by key.
///
/// # Errors
/// [`PageError`].
pub fn sessions(
    state: &State,
    owner: Address,
    request: &PageRequest,
) -> Result<Page<SessionView>, PageError> {
    page_in(state, &SESSIONS, &owner, request, |(owner, session), record| {
        Some(session_view(owner, session, record))
    })
}

/// What a key may spend of an owner's.
pub fn session(state: &State, owner: Address, session: Address) -> Option<SessionView> {
    SESSIONS.get(state, &(owner, session)).map(|record| session_view(owner, session, record))
}

fn session_view(owner: Address, session: Address, s: Session) -> SessionView {
    SessionView {
        owner,
        session,
        serial: s.serial,
        until_height: s.until_height,
        per_call: s.per_call,
        total: s.total,
        spent: s.spent,
        models: s.models,
        expires_ms: s.expires_ms,
    }
}

/// A proposal with its votes.
pub fn proposal(state: &State, id: u64) -> Option<ProposalView> {
    PROPOSALS.get(state, &id).map(|record| proposal_view(state, id, record))
}

/// A proposal by its own record alone: running votes, which are those of many pools, are not counted.
pub fn proposal_record(state: &State, id: u64) -> Option<ProposalView> {
    PROPOSALS.get(state, &id).map(|record| {
        let tally = record.tally;
        view_with(id, record, tally)
    })
}

/// Proposals in the order of their numbers; `open` leaves those that something is still to come of.
///
/// # Errors
/// [`PageError`].
pub fn proposals(state: &State, open: bool, request: &PageRequest) -> Result<Page<ProposalView>, PageError> {
    if open {
        return page(state, &OPEN_PROPOSALS, request, |id, _| proposal(state, id));
    }
    page(state, &PROPOSALS, request, |id, record| Some(proposal_view(state, id, record)))
}

fn proposal_view(state: &State, id: u64, record: Proposal) -> ProposalView {
    let running = matches!(record.status, ProposalStatus::Voting { .. });
    let votes = if running { Some(tally(state, id)) } else { record.tally };
    view_with(id, record, votes)
}

fn view_with(id: u64, record: Proposal, tally: Option<Tally>) -> ProposalView {
    ProposalView {
        id,
        proposer: record.proposer,
        title: record.title,
        text: record.text,
        kind: record.kind,
        submitted_height: record.submitted_height,
        needed: record.needed,
        deposit: record.deposit,
        status: record.status,
        rules: record.rules,
        tally,
    }
}

/// The upgrades that were decided, by their first height.
///
/// # Errors
/// [`PageError`].
pub fn upgrades(state: &State, request: &PageRequest) -> Result<Page<UpgradeView>, PageError> {
    page(state, &UPGRADES, request, |height, upgrade| {
        let known = SUPPORTED_UPGRADES
            .iter()
            .any(|(name, version)| *name == upgrade.name && *version == upgrade.version);
        Some(UpgradeView { height, upgrade, supported: known })
    })
}
