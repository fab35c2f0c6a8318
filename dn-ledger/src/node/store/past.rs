//! Reading the past: blocks and events that may have been pruned.

use super::{BlockEvents, EVENTS, Store, StoreError};
use crate::views::{EventView, EventsView, Pruned};

/// The most blocks that one query for events reads.
const MAX_EVENT_BLOCKS: u64 = 1_000;

/// Why the past cannot be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PastError {
    /// It was pruned.
    #[error(transparent)]
    Pruned(#[from] Pruned),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// The first height to read from: that which is asked for, or the first that is held for 0.
    ///
    /// # Errors
    /// [`PastError::Pruned`] when it lies below what is held.
    pub fn held_from(&self, height: u64) -> Result<u64, PastError> {
        let first_block = self.horizon()?;
        match height {
            0 => Ok(first_block),
            height if height < first_block => Err(Pruned { height, first_block }.into()),
            height => Ok(height),
        }
    }

    /// Whole blocks' events from a height on, until `limit` is reached or the chain ends; from height 0: from the first block that is held.
    ///
    /// # Errors
    /// [`PastError`]: the height is pruned, or the file is damaged.
    pub fn events(&self, from_height: u64, limit: usize, tip: u64) -> Result<EventsView, PastError> {
        let (mut events, mut height) = (Vec::new(), self.held_from(from_height)?);
        let last = tip.min(height.saturating_add(MAX_EVENT_BLOCKS - 1));
        while height <= last && events.len() < limit {
            let Some(block) = self.block_events(height)? else {
                // Pruned since, or damaged.
                self.held_from(height)?;
                return Err(self.missing("events", height).into());
            };
            events.extend((0u32..).zip(block).map(|(index, (tx_id, event))| EventView {
                height,
                index,
                tx_id,
                event,
            }));
            height += 1;
        }
        Ok(EventsView { events, next_height: height })
    }

    pub(super) fn block_events(&self, height: u64) -> Result<Option<BlockEvents>, StoreError> {
        let Some(bytes) = self.row(EVENTS, height)? else { return Ok(None) };
        let json = |source| StoreError::Json { path: self.path.clone(), source };
        serde_json::from_slice(&bytes).map(Some).map_err(json)
    }
}
