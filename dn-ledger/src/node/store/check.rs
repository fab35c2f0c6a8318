//! Checking a whole directory without a node.

use std::path::Path;

use super::{Store, StoreError};
use crate::block::{Block, Header, tx_root};
use crate::chain::{BlockError, Chain};
use crate::genesis::Genesis;
use crate::light::LightBlock;
use crate::node::snapshot::{SnapshotFile, SnapshotFileError, SnapshotSource};
use crate::referee::RefereeHandle;
use crate::snapshot::SnapshotError;
use crate::state::State;

/// The first thing that is wrong with a directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The directory holds no chain.
    #[error("the directory holds no chain")]
    Empty,
    /// The file, its tip, or a record.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored block that is not what the blocks around it say.
    #[error("block {height}: {what}")]
    Block {
        /// The block.
        height: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A block that does not give, when it is executed again, what its header says.
    #[error("replay: {0}")]
    Replay(#[from] BlockError),
    /// A snapshot in the directory.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A snapshot's file.
    #[error(transparent)]
    SnapshotFile(#[from] SnapshotFileError),
}

/// What was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckReport {
    /// The tip.
    pub height: u64,
    /// The first block that is stored.
    pub horizon: u64,
    /// Transactions in the stored blocks.
    pub txs: u64,
    /// Records of the state.
    pub records: u64,
    /// The height after whose state the blocks were executed again; none when neither the first block nor a snapshot is there.
    pub replayed_from: Option<u64>,
}

impl Store {
    /// Checks everything that a directory holds: genesis, tip, records, state root and supply; every stored block's place in the chain,
    /// transactions, certificate and events; and, from the genesis or the oldest snapshot, that executing the blocks
    /// again gives the same state, with the referee that the chain names.
    ///
    /// # Errors
    /// [`CheckError`], the first problem.
    pub fn check(dir: &Path, referee: Option<RefereeHandle>) -> Result<CheckReport, CheckError> {
        let genesis = Self::stored_genesis(dir)?.ok_or(CheckError::Empty)?;
        let (store, chain) = Self::open(dir, &genesis)?;
        let horizon = store.horizon()?;
        let mut report = CheckReport {
            height: chain.tip().height,
            horizon,
            txs: 0,
            records: chain.state().len() as u64,
            replayed_from: None,
        };
        let mut replay = store.replay_start(dir, &genesis, horizon, report.height)?;
        if let Some(referee) = referee {
            replay = replay.map(|chain| chain.with_referee(referee));
        }
        report.replayed_from = replay.as_ref().map(|chain| chain.tip().height);
        let mut parent = (horizon == 1).then(|| Chain::new(&genesis).tip().clone());
        for height in horizon..=report.height {
            let block = store.checked_block(height, parent.as_ref())?;
            report.txs += block.txs.len() as u64;
            if let Some(replay) = replay.as_mut().filter(|chain| chain.tip().height + 1 == height) {
                store.replay(replay, &block)?;
            }
            parent = Some(block.header);
        }
        let whole = |replay: &Chain| replay.state() == chain.state() && replay.tip() == chain.tip();
        if replay.as_ref().is_some_and(|replay| !whole(replay)) {
            return Err(CheckError::Block {
                height: report.height,
                what: "executed again it gives another state",
            });
        }
        Ok(report)
    }

    fn checked_block(&self, height: u64, parent: Option<&Header>) -> Result<Block, CheckError> {
        let wrong = |what| CheckError::Block { height, what };
        let block = self.block(height)?.ok_or(self.missing("block", height))?;
        let light = self.light_block(height)?.ok_or(self.missing("block", height))?;
        let LightBlock { header, certificate, validators, .. } = &light;
        if header.height != height {
            return Err(wrong("it is stored at another height"));
        }
        if let Some(parent) = parent {
            if header.parent != parent.hash() || header.chain_id != parent.chain_id {
                return Err(wrong("it does not follow the block before it"));
            }
            if header.time_ms <= parent.time_ms {
                return Err(wrong("it is not later than the block before it"));
            }
            if header.validators != parent.next_validators {
                return Err(wrong("it was decided by another set than the block before it says"));
            }
        }
        if block.parent_certificate.hash() != header.parent_certificate {
            return Err(wrong("its parent's certificate is not the one of its header"));
        }
        if tx_root(&block.txs) != header.tx_root {
            return Err(wrong("its transactions are not those of its header"));
        }
        certificate.verify(header, validators).map_err(|source| StoreError::Certificate {
            path: self.path.clone(),
            hash: header.hash(),
            source: Box::new(source),
        })?;
        self.block_events(height)?.ok_or(self.missing("events", height))?;
        for (index, tx) in (0u32..).zip(&block.txs) {
            let place = self.outcome(tx.id())?.map(|outcome| (outcome.height, outcome.index));
            if place != Some((height, index)) {
                return Err(wrong("one of its transactions is not found by its id"));
            }
        }
        Ok(block)
    }

    fn replay(&self, replay: &mut Chain, block: &Block) -> Result<(), CheckError> {
        let height = block.header.height;
        let executed = replay.validate(block)?;
        let events: Vec<_> = executed.events().map(|(tx, event)| (tx, event.clone())).collect();
        if self.block_events(height)?.as_ref() != Some(&events) {
            return Err(CheckError::Block { height, what: "executed again it gives other events" });
        }
        let certificate = self.certificate(height)?.ok_or(self.missing("certificate", height))?;
        replay.commit(&block.header, certificate, &executed);
        Ok(())
    }

    /// The genesis, or the oldest snapshot from which the stored blocks lead on.
    fn replay_start(
        &self,
        dir: &Path,
        genesis: &Genesis,
        horizon: u64,
        tip: u64,
    ) -> Result<Option<Chain>, CheckError> {
        if horizon == 1 {
            return Ok(Some(Chain::new(genesis)));
        }
        let heights = SnapshotFile::list(dir)?;
        let Some(height) = heights.into_iter().find(|height| (horizon - 1..=tip).contains(height)) else {
            return Ok(None);
        };
        let mut file = SnapshotFile::open(&SnapshotFile::path(dir, height))?;
        let manifest = file.manifest()?;
        manifest.verify()?;
        if let Some(block) = self.block(height)?
            && block.header != manifest.block.header
        {
            return Err(CheckError::Block { height, what: "the snapshot is of another block" });
        }
        let mut entries = std::collections::BTreeMap::new();
        for index in 0..manifest.pieces.len() {
            let chunk = file.chunk(index)?;
            manifest.verify_chunk(index, &chunk)?;
            entries.extend(chunk.entries);
        }
        let LightBlock { header, certificate, .. } = manifest.block;
        Ok(Some(Chain::resume(State::from_entries(entries), header, certificate)))
    }
}
