//! Raising disputes: after an accusation, the auditor opens the dispute and leads it to the first value that differs from its own.

use std::sync::Arc;

use dn_compute::Engine;
use dn_ledger::referee::Side;
use dn_ledger::tx::{Ground, Payload};
use dn_ledger::views::DisputeView;

use super::AuditError;
use super::auditor::{Shared, Working};
use crate::opening::Opening;
use crate::referee::{dispute_of, ground_of, pick_payload};

/// Starts the move that is due in each dispute of this accuser, unless it is under way.
pub(super) async fn start_due(shared: &Arc<Shared>, working: &mut Working) -> Result<(), AuditError> {
    let own = shared.address();
    for view in shared.config.ledger.disputes(Some(own)).await? {
        let due = view.accuser == own && view.turn == Side::Accuser;
        if due && working.busy.insert((view.batch, view.index)) {
            let shared = shared.clone();
            working.tasks.spawn(async move {
                let place = (view.batch, view.index);
                (place, act(&shared, view).await)
            });
        }
    }
    Ok(())
}

async fn act(shared: &Arc<Shared>, view: DisputeView) -> Result<(), AuditError> {
    let (batch, index) = (view.batch, view.index);
    let Some(opening) = shared.store.accused(batch, index)? else {
        tracing::error!(%batch, index, "what was accused is lost: the dispute will be too");
        return Ok(());
    };
    let model = opening.receipt.body.model;
    let engine = shared.config.engines.iter().find(|engine| engine.model().id() == model).cloned();
    let Some(engine) = engine else {
        if view.receipt.is_none() {
            // It was accused without being replayed, as no line of its batch can hold it: whatever the ground, the ledger sees that at once.
            let payload = open_payload(&view, &opening, Ground::Rest);
            shared.config.ledger.submit(&shared.config.key, payload).await?;
            return Ok(());
        }
        tracing::error!(%model, %batch, index, "cannot dispute: the model is not loaded here");
        return Ok(());
    };
    let turn = shared.judging.acquire().await.map_err(|_| AuditError::Interrupted)?;
    let next = tokio::task::spawn_blocking(move || next_move(&engine, &opening, &view)).await;
    drop(turn);
    let Some(payload) = next.map_err(|_| AuditError::Interrupted)?? else { return Ok(()) };
    shared.config.ledger.submit(&shared.config.key, payload).await?;
    Ok(())
}

fn open_payload(view: &DisputeView, opening: &Opening, ground: Ground) -> Payload {
    let (batch, index) = (view.batch, view.index);
    let (receipt, proof) = (opening.receipt.clone(), opening.proof.clone());
    Payload::DisputeOpen { batch, index, receipt, proof, ground }
}

/// The opening of the dispute, or the next pick.
fn next_move(engine: &Engine, opening: &Opening, view: &DisputeView) -> Result<Option<Payload>, AuditError> {
    let Opening { receipt, request, output, .. } = opening;
    if view.receipt.is_none() {
        // What cannot be opened here cannot be shown by a tile either.
        let ground = ground_of(engine, request, output, receipt.body.trace_root).unwrap_or_else(|error| {
            tracing::warn!(batch = %view.batch, index = view.index, %error, "the validators' weight has to decide");
            Ground::Rest
        });
        return Ok(Some(open_payload(view, opening, ground)));
    }
    let Some(dispute) = dispute_of(view, engine.model().manifest()) else { return Ok(None) };
    let pick = engine.witness(request, output)?.pick(&dispute)?;
    Ok(pick.map(|pick| pick_payload(view, &pick)))
}
