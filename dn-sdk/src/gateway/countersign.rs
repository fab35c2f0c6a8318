//! Batches: the gateway signs a worker's batch when it holds exactly receipts that were charged here and that no other
//! batch can bring to the ledger besides.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use dn_core::objects::{BatchRoot, Voucher};
use dn_core::{Address, BatchId, ChannelId, ReceiptId, Signed};

use super::shared::Shared;
use super::store::{Assignment, BatchRecord, ReceiptRecord};
use crate::batch::{batch_lines, receipts_root};
use crate::clock::now_ms;
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
    let ledger = shared.ledger();
    let dead = dead(earlier, |sequence| ledger.batch_at(worker, sequence));
    let dead = dead.await.map_err(|error| {
        tracing::warn!(%worker, %error, "what became of the worker's earlier batches is not known");
        CountersignReason::Unavailable
    })?;
    let held = records.iter().filter(|record| {
        others(record).iter().any(|assignment| !dead.contains(&(assignment.sequence, assignment.batch)))
    });
    Ok(held.map(|record| record.receipt.body.id()).collect())
}

/// Those of a worker's batches that can never stand: their sequences were taken by others.
///
/// `taken_by` must say what was proven, of any block: a sequence that was taken once is taken for ever by the same batch, so an old
/// proof is as good as a new one. A list of the worker's batches would not do: the node may leave some out.
async fn dead<E, F: Future<Output = Result<Option<BatchId>, E>>>(
    earlier: BTreeSet<(u64, BatchId)>,
    taken_by: impl Fn(u64) -> F,
) -> Result<BTreeSet<(u64, BatchId)>, E> {
    let sequences: BTreeSet<u64> = earlier.iter().map(|(sequence, _)| *sequence).collect();
    let mut standing = BTreeMap::new();
    for sequence in sequences {
        if let Some(id) = taken_by(sequence).await? {
            standing.insert(sequence, id);
        }
    }
    let is_dead = |(sequence, id): &(u64, BatchId)| standing.get(sequence).is_some_and(|by| by != id);
    Ok(earlier.into_iter().filter(is_dead).collect())
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
    use super::*;

    const fn id(n: u8) -> BatchId {
        BatchId([n; 32])
    }

    /// Sequence 0 was taken by batch 7, sequence 200 by batch 8, and 201 is the next.
    async fn taken_by(sequence: u64) -> Result<Option<BatchId>, &'static str> {
        Ok(match sequence {
            0 => Some(id(7)),
            200 => Some(id(8)),
            _ => None,
        })
    }

    #[tokio::test]
    async fn receipts_of_a_batch_that_was_paid_long_ago_are_never_free_again() {
        let (paid, lost) = ((0, id(7)), (0, id(6)));
        let (latest, waiting, ahead) = ((200, id(8)), (201, id(9)), (300, id(10)));
        let earlier = BTreeSet::from([paid, lost, latest, waiting, ahead]);
        assert_eq!(dead(earlier, taken_by).await, Ok(BTreeSet::from([lost])));
    }

    #[tokio::test]
    async fn nothing_is_free_when_the_ledger_cannot_be_asked() {
        let silent = |_| std::future::ready(Err("nobody answers"));
        assert_eq!(dead(BTreeSet::from([(0, id(6))]), silent).await, Err("nobody answers"));
        // Without earlier batches nobody is asked.
        assert_eq!(dead(BTreeSet::new(), silent).await, Ok(BTreeSet::new()));
    }
}
