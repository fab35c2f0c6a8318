//! Forgetting old blocks.

use dn_core::Canonical;
use redb::Durability;

use super::{BLOCKS, CERTIFICATES, EVENTS, HORIZON_KEY, META, Store, StoreError, TXS};

/// The most blocks that one call forgets, so that block production never waits long for the database.
const MAX_BLOCKS: u64 = 1_000;

impl Store {
    /// Forgets blocks, certificates, events and places of transactions below a height, at most a thousand blocks at a time, in one
    /// durable transaction. The state is not touched. Returns the first height that is still stored.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is forgotten then.
    pub fn prune(&self, below: u64) -> Result<u64, StoreError> {
        let from = self.horizon()?;
        let to = below.min(from.saturating_add(MAX_BLOCKS));
        if to <= from {
            return Ok(from);
        }
        let mut ids = Vec::new();
        for height in from..to {
            let block = self.block(height)?.ok_or(self.missing("block", height))?;
            ids.extend(block.txs.iter().map(|tx| tx.id()));
        }
        let write = || -> Result<(), redb::Error> {
            let mut tx = self.db.begin_write()?;
            tx.set_durability(Durability::Immediate)?;
            {
                for table in [BLOCKS, CERTIFICATES, EVENTS] {
                    let mut table = tx.open_table(table)?;
                    for height in from..to {
                        table.remove(height)?;
                    }
                }
                let mut txs = tx.open_table(TXS)?;
                for id in &ids {
                    txs.remove(&id.0)?;
                }
                tx.open_table(META)?.insert(HORIZON_KEY, to.to_bytes().as_slice())?;
            }
            Ok(tx.commit()?)
        };
        write().map_err(|source| self.database(source))?;
        Ok(to)
    }
}
