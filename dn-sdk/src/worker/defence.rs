//! Defending receipts: when one is disputed, the worker opens its computation level by level until the referee can judge it.

use std::sync::Arc;
use std::time::Duration;

use dn_compute::verify::Answer;
use dn_ledger::referee::Side;
use dn_ledger::state::BatchStatus;
use dn_ledger::views::DisputeView;
use tokio::sync::watch;

use super::WorkerError;
use super::connection::Shared;
use crate::referee::{answer_payload, dispute_of};

/// How often disputes are looked up.
const POLL: Duration = Duration::from_millis(250);
/// How often it is looked which answers can no longer be disputed.
const PRUNE_POLLS: u32 = 240;

/// Answers until told to stop.
pub(super) async fn run(shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let mut polls = 0u32;
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(POLL) => {}
        }
        if let Err(error) = answer_all(&shared).await {
            tracing::warn!(%error, "disputes will be looked up again");
        }
        polls += 1;
        if polls.is_multiple_of(PRUNE_POLLS)
            && let Err(error) = prune(&shared).await
        {
            tracing::warn!(%error, "old answers will be dropped later");
        }
    }
}

async fn answer_all(shared: &Arc<Shared>) -> Result<(), WorkerError> {
    for view in shared.ledger().disputes(Some(shared.address())).await? {
        let mine = view.worker == shared.address() && view.turn == Side::Worker && view.receipt.is_some();
        if mine && let Err(error) = answer_one(shared, &view).await {
            tracing::warn!(batch = %view.batch, index = view.index, %error, "a dispute is not answered yet");
        }
    }
    Ok(())
}

async fn answer_one(shared: &Arc<Shared>, view: &DisputeView) -> Result<(), WorkerError> {
    let Some(job) = shared.store().served(view.batch, view.index)? else {
        tracing::error!(batch = %view.batch, index = view.index, "the disputed answer is lost: the dispute will be too");
        return Ok(());
    };
    let Some(model) = shared.ledger().model(job.request.model).await? else { return Ok(()) };
    let Some(dispute) = dispute_of(view, &model.manifest) else { return Ok(()) };
    let executor = shared.clone();
    let opened =
        tokio::task::spawn_blocking(move || executor.executor().answer(&job.request, &job.output, &dispute));
    let answer: Option<Answer> = match opened.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            tracing::error!(batch = %view.batch, index = view.index, %error, "cannot open the disputed computation");
            shared.fail_without_executor();
            None
        }
        Err(_panicked) => {
            shared.fail_without_executor();
            None
        }
    };
    let Some(answer) = answer else { return Ok(()) };
    shared.ledger().submit(shared.key(), answer_payload(view, &answer)).await?;
    tracing::info!(batch = %view.batch, index = view.index, step = view.step, "dispute answered");
    Ok(())
}

/// Drops answers that nobody can dispute any more.
async fn prune(shared: &Arc<Shared>) -> Result<(), WorkerError> {
    for (id, asked_until_ms) in shared.store().served_batches()? {
        // What is answered now is not of before it.
        let chain_ms = shared.ledger().verified_header().await.map_or(0, |header| header.time_ms);
        let status = shared.ledger().batch(id).await?.map(|batch| batch.status);
        if is_over(status, asked_until_ms.saturating_add(shared.receipt_validity_ms()), chain_ms) {
            shared.store().drop_served(id)?;
        }
    }
    Ok(())
}

/// Whether a posted batch is settled, thrown out, or so long past that the ledger has forgotten it. One that is not there before its
/// receipts expired may be newer than the answer.
const fn is_over(status: Option<BatchStatus>, receipts_expire_ms: u64, chain_ms: u64) -> bool {
    match status {
        Some(status) => matches!(status, BatchStatus::Settled | BatchStatus::Voided),
        None => chain_ms > receipts_expire_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_over_when_the_ledger_says_so_or_has_forgotten_it() {
        assert!(is_over(Some(BatchStatus::Settled), 9, 0) && is_over(Some(BatchStatus::Voided), 9, 0));
        assert!(!is_over(Some(BatchStatus::Auditing), 9, 10) && !is_over(Some(BatchStatus::Disputed), 9, 10));
        assert!(is_over(None, 9, 10));
        assert!(!is_over(None, 9, 9), "the answer may be older than the batch");
    }
}
