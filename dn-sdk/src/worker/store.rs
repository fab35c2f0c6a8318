//! Receipts that are not settled yet, and the one batch that is on its way. Everything here survives `kill -9`.

use std::path::Path;

use dn_core::encoding::Canonical;
use dn_core::objects::{BatchRoot, Receipt, Voucher};
use dn_core::{Address, ReceiptId, Signed, canonical_struct};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::served::{self, ANSWERS, SERVED, ServedJob};
use crate::store::{self, StoreError, record};

/// Receipts that wait: gateway and receipt id → canonical signed receipt.
const PENDING: TableDefinition<'_, ([u8; 20], [u8; 32]), &[u8]> = TableDefinition::new("pending");
/// The batch on its way, under the key 0.
const OPEN: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("open");
/// Receipts that nobody will pay: receipt id → reason and canonical signed receipt.
const UNPAID: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("unpaid");

/// A countersigned batch that may or may not stand on the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OpenBatch {
    pub(super) batch: Signed<BatchRoot>,
    pub(super) vouchers: Vec<Signed<Voucher>>,
    pub(super) receipts: Vec<ReceiptId>,
}
canonical_struct!(OpenBatch {
    batch: Signed<BatchRoot>,
    vouchers: Vec<Signed<Voucher>>,
    receipts: Vec<ReceiptId>,
});

#[derive(Debug, Clone, PartialEq, Eq)]
struct Unpaid {
    reason: String,
    receipt: Signed<Receipt>,
}
canonical_struct!(Unpaid { reason: String, receipt: Signed<Receipt> });

#[derive(Debug)]
pub(super) struct WorkerStore(Database);

impl WorkerStore {
    pub(super) fn open(dir: &Path, chain_id: u64, worker: Address) -> Result<Self, StoreError> {
        let database = store::open(dir, "worker", chain_id, worker)?;
        let write = database.begin_write()?;
        write.open_table(PENDING)?;
        write.open_table(OPEN)?;
        write.open_table(UNPAID)?;
        write.open_table(ANSWERS)?;
        write.open_table(SERVED)?;
        write.commit()?;
        Ok(Self(database))
    }

    pub(super) const fn database(&self) -> &Database {
        &self.0
    }

    /// Keeps a receipt and what it stands for, in place of an earlier one for the same job if there is one.
    pub(super) fn add(
        &self,
        receipt: &Signed<Receipt>,
        job: &ServedJob,
        instead_of: Option<ReceiptId>,
    ) -> Result<(), StoreError> {
        let write = self.0.begin_write()?;
        served::keep(&write, receipt.body.id(), job, instead_of)?;
        {
            let mut pending = write.open_table(PENDING)?;
            let gateway = receipt.body.gateway.0;
            if let Some(old) = instead_of {
                pending.remove((gateway, old.0))?;
            }
            pending.insert((gateway, receipt.body.id().0), receipt.to_bytes().as_slice())?;
        }
        Ok(write.commit()?)
    }

    /// Forgets receipts that were never settled.
    pub(super) fn forget(&self, gateway: Address, receipts: &[ReceiptId]) -> Result<(), StoreError> {
        let write = self.0.begin_write()?;
        served::forget(&write, receipts)?;
        {
            let mut pending = write.open_table(PENDING)?;
            for id in receipts {
                pending.remove((gateway.0, id.0))?;
            }
        }
        Ok(write.commit()?)
    }

    /// Keeps receipts that cannot be paid, with the reason, and takes them out of the way.
    pub(super) fn set_aside(
        &self,
        reason: &str,
        unpaid: impl Fn(&Receipt) -> bool,
    ) -> Result<usize, StoreError> {
        let write = self.0.begin_write()?;
        let count = {
            let mut pending = write.open_table(PENDING)?;
            let mut table = write.open_table(UNPAID)?;
            let mut keys = Vec::new();
            for entry in pending.iter()? {
                let (key, value) = entry?;
                let receipt: Signed<Receipt> = record("pending", value.value())?;
                if unpaid(&receipt.body) {
                    keys.push((key.value(), Unpaid { reason: reason.to_owned(), receipt }));
                }
            }
            let ids: Vec<_> = keys.iter().map(|(key, _)| ReceiptId(key.1)).collect();
            served::forget(&write, &ids)?;
            for (key, unpaid) in &keys {
                pending.remove(key)?;
                table.insert(key.1, unpaid.to_bytes().as_slice())?;
            }
            keys.len()
        };
        write.commit()?;
        Ok(count)
    }

    /// Shows the receipts of one gateway that wait.
    pub(super) fn each_pending(
        &self,
        gateway: Address,
        mut show: impl FnMut(&Receipt),
    ) -> Result<(), StoreError> {
        self.pending(gateway, usize::MAX, |receipt| {
            show(receipt);
            false
        })?;
        Ok(())
    }

    /// Receipts of one gateway that wait and that are wanted, at most `limit`.
    pub(super) fn pending(
        &self,
        gateway: Address,
        limit: usize,
        mut wanted: impl FnMut(&Receipt) -> bool,
    ) -> Result<Vec<Signed<Receipt>>, StoreError> {
        let read = self.0.begin_read()?;
        let table = read.open_table(PENDING)?;
        let (from, to) = ((gateway.0, [0; 32]), (gateway.0, [0xff; 32]));
        let mut receipts = Vec::new();
        for entry in table.range(from..=to)? {
            if receipts.len() == limit {
                break;
            }
            let receipt: Signed<Receipt> = record("pending", entry?.1.value())?;
            if wanted(&receipt.body) {
                receipts.push(receipt);
            }
        }
        Ok(receipts)
    }

    /// Number of receipts that wait.
    pub(super) fn pending_count(&self) -> Result<usize, StoreError> {
        let count = self.0.begin_read()?.open_table(PENDING)?.len()?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// The batch on its way.
    pub(super) fn open_batch(&self) -> Result<Option<OpenBatch>, StoreError> {
        let table = self.0.begin_read()?.open_table(OPEN)?;
        table.get(0)?.map(|bytes| record("open", bytes.value())).transpose()
    }

    /// Remembers the batch before it is sent to the ledger.
    pub(super) fn set_open_batch(&self, open: &OpenBatch) -> Result<(), StoreError> {
        let write = self.0.begin_write()?;
        write.open_table(OPEN)?.insert(0, open.to_bytes().as_slice())?;
        Ok(write.commit()?)
    }

    /// The batch stands on the ledger (`posted`: its receipts are done with), or never will (they wait again).
    pub(super) fn close_batch(&self, open: &OpenBatch, posted: bool) -> Result<(), StoreError> {
        let write = self.0.begin_write()?;
        {
            write.open_table(OPEN)?.remove(0)?;
            let mut pending = write.open_table(PENDING)?;
            for id in open.receipts.iter().filter(|_| posted) {
                pending.remove((open.batch.body.gateway.0, id.0))?;
            }
        }
        if posted {
            served::move_to_batch(&write, open.batch.body.id(), &open.receipts)?;
        }
        Ok(write.commit()?)
    }
}
