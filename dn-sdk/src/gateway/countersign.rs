//! Batches: the gateway signs a worker's batch when it holds exactly receipts that were charged here and that no other
//! batch can bring to the ledger besides.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use dn_core::objects::{BatchRoot, Voucher};
use dn_core::{Address, BatchId, ChannelId, ReceiptId, Signed};

use super::shared::Shared;
use super::store::{Assignment, BatchRecord, ReceiptRecord};
use crate::batch::{batch_lines, receipts_root};
use crate::clock::now_ms;
use crate::ledger::{LedgerClient, LedgerError};
use crate::store::StoreError;
use crate::wire::{CountersignReason, MAX_BATCH_RECEIPTS, ToWorker};

/// The longest that a countersigned batch may be posted.
const MAX_VALIDITY_MS: u64 = 24 * 3_600_000;

/// Answers a worker's request.
pub(crate) async fn countersign(
    shared: &Arc<Shared>,
    worker: Address,
    batch: BatchRoot,
    receipts: Vec<ReceiptId>,
) -> ToWorker {
    let sequence = batch.sequence;
    match check(shared, worker, batch, receipts).await {
        Ok(answer) => answer,
        Err(reason) => {
            tracing::warn!(%worker, sequence, ?reason, "batch not countersigned");
            ToWorker::CountersignRefused { sequence, reason }
        }
    }
}

async fn check(
    shared: &Arc<Shared>,
    worker: Address,
    batch: BatchRoot,
    ids: Vec<ReceiptId>,
) -> Result<ToWorker, CountersignReason> {
    let now = now_ms();
    let terms = batch.chain_id == shared.chain_id
        && batch.worker == worker
        && batch.gateway == shared.address()
        && (now..=now + MAX_VALIDITY_MS).contains(&batch.expires_ms);
    let distinct: HashSet<_> = ids.iter().collect();
    if !terms || ids.is_empty() || ids.len() > MAX_BATCH_RECEIPTS || distinct.len() != ids.len() {
        return Err(CountersignReason::Terms);
    }
    let loading = {
        let (shared, ids) = (shared.clone(), ids.clone());
        move || load(&shared, worker, &ids)
    };
    let (records, refused) = blocking(loading).await?;
    if !refused.is_empty() {
        return Err(CountersignReason::Receipts { refused });
    }
    let held = held_elsewhere(shared, worker, &batch, &records).await?;
    if !held.is_empty() {
        return Err(CountersignReason::Receipts { refused: held });
    }
    let signed: Vec<_> = records.iter().map(|record| record.receipt.clone()).collect();
    let lines = batch_lines(signed.iter().map(|receipt| &receipt.body));
    let content = lines.as_ref() == Ok(&batch.lines)
        && batch.count as usize == signed.len()
        && batch.root == receipts_root(&signed);
    if !content {
        return Err(CountersignReason::Content);
    }
    let shared = shared.clone();
    blocking(move || sign(&shared, batch, ids)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, CountersignReason> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            tracing::error!(%error, "store");
            Err(CountersignReason::Unavailable)
        }
        Err(_) => Err(CountersignReason::Unavailable),
    }
}

fn load(
    shared: &Shared,
    worker: Address,
    ids: &[ReceiptId],
) -> Result<(Vec<ReceiptRecord>, Vec<ReceiptId>), StoreError> {
    let (mut records, mut refused) = (Vec::new(), Vec::new());
    for id in ids {
        match shared.store.receipt(*id)? {
            Some(record) if record.receipt.body.worker == worker => records.push(record),
            _ => refused.push(*id),
        }
    }
    Ok((records, refused))
}

/// Receipts that an earlier batch of another number holds or may still bring to the ledger. Batches of the same number
/// exclude each other there.
async fn held_elsewhere(
    shared: &Shared,
    worker: Address,
    batch: &BatchRoot,
    records: &[ReceiptRecord],
) -> Result<Vec<ReceiptId>, CountersignReason> {
    let others = |record: &ReceiptRecord| -> Vec<Assignment> {
        record.assignments.iter().filter(|a| a.sequence != batch.sequence).copied().collect()
    };
    let earlier: BTreeSet<_> = records.iter().flat_map(&others).map(|a| (a.sequence, a.batch)).collect();
    if earlier.is_empty() {
        return Ok(Vec::new());
    }
    let dead = dead(shared.ledger(), worker, earlier).await.map_err(|_| CountersignReason::Unavailable)?;
    let held = records.iter().filter(|record| {
        others(record).iter().any(|assignment| !dead.contains(&(assignment.sequence, assignment.batch)))
    });
    Ok(held.map(|record| record.receipt.body.id()).collect())
}

/// Those of a worker's batches that can never stand: their numbers are used, by others.
///
/// Each is looked up by its id. The ledger lists only a worker's latest batches, so one that is missing there may well
/// have been paid long ago.
async fn dead(
    ledger: &LedgerClient,
    worker: Address,
    earlier: BTreeSet<(u64, BatchId)>,
) -> Result<BTreeSet<(u64, BatchId)>, LedgerError> {
    // The numbers first: what is used by now, and not on the ledger afterwards, never will be.
    let latest = ledger.batches(worker).await?;
    let next = latest.iter().map(|batch| batch.sequence + 1).max().unwrap_or(0);
    let mut dead = BTreeSet::new();
    for (sequence, id) in earlier.into_iter().filter(|(sequence, _)| *sequence < next) {
        if ledger.batch(id).await?.is_none() {
            dead.insert((sequence, id));
        }
    }
    Ok(dead)
}

fn sign(shared: &Shared, batch: BatchRoot, receipts: Vec<ReceiptId>) -> Result<ToWorker, StoreError> {
    let lanes: BTreeSet<(ChannelId, u32)> =
        batch.lines.iter().map(|line| (line.channel, line.lane)).collect();
    let states = shared.store.lanes()?;
    let vouchers: Vec<Signed<Voucher>> = lanes
        .into_iter()
        .filter_map(|(channel, lane)| {
            let state = states.iter().find(|state| (state.channel, state.lane) == (channel, lane));
            state.and_then(|state| state.voucher.clone())
        })
        .collect();
    let record = BatchRecord { batch: Signed::sign(batch, shared.key()), receipts };
    shared.store.add_batch(&record)?;
    Ok(ToWorker::Countersigned { batch: record.batch, vouchers })
}

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use axum::{Json, Router};
    use dn_core::{Amount, Hash32};
    use dn_ledger::state::BatchStatus;
    use dn_ledger::views::BatchView;
    use serde_json::{Value, json};

    use super::*;

    fn view(id: BatchId, sequence: u64) -> BatchView {
        BatchView {
            id,
            worker: Address([1; 20]),
            gateway: Address([2; 20]),
            sequence,
            root: Hash32::ZERO,
            count: 1,
            lines: Vec::new(),
            fees: Amount::ZERO,
            escrow: Amount::ZERO,
            status: BatchStatus::Settled,
            posted_height: 1,
            window_end_height: 2,
            audits: Vec::new(),
        }
    }

    /// A ledger with two batches of the worker, numbers 0 and 200, that lists only the latest.
    async fn ledger() -> LedgerClient {
        let answer = |Json(call): Json<Value>| async move {
            let (old, new) = (view(BatchId([7; 32]), 0), view(BatchId([8; 32]), 200));
            let result = match (call["method"].as_str(), &call["params"]["id"]) {
                (Some("dn_batches"), _) => json!([new]),
                (_, id) if *id == json!(old.id) => json!(old),
                (_, id) if *id == json!(new.id) => json!(new),
                _ => Value::Null,
            };
            Json(json!({ "jsonrpc": "2.0", "id": call["id"], "result": result }))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(answer))).await });
        LedgerClient::new(&url).unwrap()
    }

    #[tokio::test]
    async fn receipts_of_a_batch_that_was_paid_long_ago_are_never_free_again() {
        let (paid, lost, waiting) = ((0, BatchId([7; 32])), (0, BatchId([6; 32])), (201, BatchId([9; 32])));
        let earlier = BTreeSet::from([paid, lost, waiting]);
        let dead = dead(&ledger().await, Address([1; 20]), earlier).await.unwrap();
        assert_eq!(dead, BTreeSet::from([lost]));
    }
}
