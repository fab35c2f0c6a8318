//! Verdicts and their salts: on disk before the commitment is sent, so that a restart can still reveal.

use std::path::Path;

use dn_core::encoding::Canonical;
use dn_core::objects::Verdict;
use dn_core::{Address, BatchId, Hash32, canonical_struct};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::opening::Opening;
use crate::store::{self, StoreError, record};

/// Openings that were found wrong: what the accuser needs in the dispute that follows.
const ACCUSED: TableDefinition<'_, ([u8; 32], u32), &[u8]> = TableDefinition::new("accused");
const VERDICTS: TableDefinition<'_, ([u8; 32], u32), &[u8]> = TableDefinition::new("verdicts");

/// A verdict that is committed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) verdict: Verdict,
    pub(super) salt: Hash32,
    pub(super) judged_ms: u64,
}
canonical_struct!(Kept { verdict: Verdict, salt: Hash32, judged_ms: u64 });

#[derive(Debug)]
pub(super) struct AuditStore(Database);

impl AuditStore {
    pub(super) fn open(dir: &Path, chain_id: u64, auditor: Address) -> Result<Self, StoreError> {
        let database = store::open(dir, "validator", chain_id, auditor)?;
        let write = database.begin_write()?;
        write.open_table(VERDICTS)?;
        write.open_table(ACCUSED)?;
        write.commit()?;
        Ok(Self(database))
    }

    pub(super) fn kept(&self, batch: BatchId, index: u32) -> Result<Option<Kept>, StoreError> {
        let table = self.0.begin_read()?.open_table(VERDICTS)?;
        table.get((batch.0, index))?.map(|bytes| record("verdicts", bytes.value())).transpose()
    }

    pub(super) fn keep(&self, kept: &Kept) -> Result<(), StoreError> {
        let write = self.0.begin_write()?;
        let key = (kept.verdict.batch.0, kept.verdict.index);
        write.open_table(VERDICTS)?.insert(key, kept.to_bytes().as_slice())?;
        Ok(write.commit()?)
    }

    /// Keeps an opening that was found wrong.
    pub(super) fn accuse(&self, batch: BatchId, index: u32, opening: &Opening) -> Result<(), StoreError> {
        let write = self.0.begin_write()?;
        write.open_table(ACCUSED)?.insert((batch.0, index), opening.to_bytes().as_slice())?;
        Ok(write.commit()?)
    }

    /// The opening that was found wrong.
    pub(super) fn accused(&self, batch: BatchId, index: u32) -> Result<Option<Opening>, StoreError> {
        let table = self.0.begin_read()?.open_table(ACCUSED)?;
        table.get((batch.0, index))?.map(|bytes| record("accused", bytes.value())).transpose()
    }

    /// Drops verdicts from before this time: their deadlines are long over.
    pub(super) fn prune(&self, before_ms: u64) -> Result<(), StoreError> {
        let write = self.0.begin_write()?;
        {
            let mut table = write.open_table(VERDICTS)?;
            let mut old = Vec::new();
            for entry in table.iter()? {
                let (key, value) = entry?;
                let kept: Kept = record("verdicts", value.value())?;
                if kept.judged_ms < before_ms {
                    old.push(key.value());
                }
            }
            let mut accused = write.open_table(ACCUSED)?;
            for key in old {
                table.remove(key)?;
                accused.remove(key)?;
            }
        }
        Ok(write.commit()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dn_core::objects::AuditOutcome;

    #[test]
    fn salts_survive_a_restart_until_they_are_old() {
        let dir = tempfile::tempdir().unwrap();
        let auditor = Address([3; 20]);
        let verdict = Verdict { batch: BatchId([1; 32]), index: 4, auditor, outcome: AuditOutcome::Match {} };
        let kept = Kept { verdict, salt: Hash32([9; 32]), judged_ms: 50 };
        AuditStore::open(dir.path(), 7, auditor).unwrap().keep(&kept).unwrap();
        let store = AuditStore::open(dir.path(), 7, auditor).unwrap();
        assert_eq!(store.kept(BatchId([1; 32]), 4).unwrap(), Some(kept));
        assert_eq!(store.kept(BatchId([1; 32]), 5).unwrap(), None);
        store.prune(50).unwrap();
        assert!(store.kept(BatchId([1; 32]), 4).unwrap().is_some());
        store.prune(51).unwrap();
        assert_eq!(store.kept(BatchId([1; 32]), 4).unwrap(), None);
    }
}
