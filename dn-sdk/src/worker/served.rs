//! Answers that can still be disputed: request and output of every receipt until its batch is settled.

use dn_core::encoding::Canonical;
use dn_core::objects::JobRequest;
use dn_core::{BatchId, ReceiptId, canonical_struct};
use redb::{ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::store::WorkerStore;
use crate::store::{StoreError, record};

/// Answers whose receipt waits for a batch, by receipt id.
pub(super) const ANSWERS: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("answers");
/// Answers of posted batches, by batch and the receipt's place in it.
pub(super) const SERVED: TableDefinition<'_, ([u8; 32], u32), &[u8]> = TableDefinition::new("served");

/// What a receipt stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServedJob {
    pub(super) request: JobRequest,
    pub(super) output: Vec<u32>,
}
canonical_struct!(ServedJob { request: JobRequest, output: Vec<u32> });

/// The batch stands: its answers can be disputed under its id.
pub(super) fn move_to_batch(
    write: &WriteTransaction,
    batch: BatchId,
    receipts: &[ReceiptId],
) -> Result<(), StoreError> {
    let mut answers = write.open_table(ANSWERS)?;
    let mut served = write.open_table(SERVED)?;
    for (index, receipt) in (0u32..).zip(receipts) {
        if let Some(bytes) = answers.remove(receipt.0)? {
            served.insert((batch.0, index), bytes.value())?;
        }
    }
    Ok(())
}

impl WorkerStore {
    /// The answer behind a receipt of a posted batch.
    pub(super) fn served(&self, batch: BatchId, index: u32) -> Result<Option<ServedJob>, StoreError> {
        let table = self.database().begin_read()?.open_table(SERVED)?;
        table.get((batch.0, index))?.map(|bytes| record("served", bytes.value())).transpose()
    }

    /// The batches with answers that are kept, each with the time at which its first request expired, in milliseconds.
    pub(super) fn served_batches(&self) -> Result<Vec<(BatchId, u64)>, StoreError> {
        let table = self.database().begin_read()?.open_table(SERVED)?;
        let mut batches: Vec<(BatchId, u64)> = Vec::new();
        for entry in table.iter()? {
            let (key, bytes) = entry?;
            let batch = BatchId(key.value().0);
            if batches.last().is_none_or(|(last, _)| *last != batch) {
                let job: ServedJob = record("served", bytes.value())?;
                batches.push((batch, job.request.expires_ms));
            }
        }
        Ok(batches)
    }

    /// Forgets a batch's answers: nobody can dispute them any more.
    pub(super) fn drop_served(&self, batch: BatchId) -> Result<(), StoreError> {
        let write = self.database().begin_write()?;
        let range = (batch.0, 0)..=(batch.0, u32::MAX);
        write.open_table(SERVED)?.retain_in(range, |_, _| false)?;
        Ok(write.commit()?)
    }
}

/// Keeps an answer until its receipt is in a batch.
pub(super) fn keep(
    write: &WriteTransaction,
    receipt: ReceiptId,
    job: &ServedJob,
    instead_of: Option<ReceiptId>,
) -> Result<(), StoreError> {
    let mut answers = write.open_table(ANSWERS)?;
    if let Some(old) = instead_of {
        answers.remove(old.0)?;
    }
    answers.insert(receipt.0, job.to_bytes().as_slice())?;
    Ok(())
}

/// Forgets the answers of receipts that never come into a batch.
pub(super) fn forget(write: &WriteTransaction, receipts: &[ReceiptId]) -> Result<(), StoreError> {
    let mut answers = write.open_table(ANSWERS)?;
    for receipt in receipts {
        answers.remove(receipt.0)?;
    }
    Ok(())
}
