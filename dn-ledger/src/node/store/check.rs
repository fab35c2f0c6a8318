//! Checking a whole directory without a node.

use std::path::{Path, PathBuf};

use super::unchanged::Unchanged;
use super::{Store, StoreError};
use crate::block::{Block, Header, tx_root};
use crate::chain::{BlockError, Chain};
use crate::genesis::Genesis;
use crate::light::LightBlock;
use crate::node::consensus::{self, ConsensusFilesError, ConsensusReport};
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
    /// What consensus keeps beside the chain.
    #[error(transparent)]
    Consensus(#[from] ConsensusFilesError),
}

/// What a check needs beside the directory.
#[derive(Debug, Clone, Default)]
pub struct CheckOptions {
    /// The referee that the chain names.
    pub referee: Option<RefereeHandle>,
    /// Where a file that was not closed is copied to, since it has to be repaired before it can be read; where the system has its
    /// temporary files if this is not set.
    pub scratch: Option<PathBuf>,
    /// Where it is recorded what the key signed, if that is not in the directory.
    pub sign_guard: Option<PathBuf>,
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
    /// Snapshots, each of which was read whole.
    pub snapshots: u64,
    /// Bytes of the copy that was read instead of a file that was not closed.
    pub copied_bytes: Option<u64>,
    /// What consensus has here.
    pub consensus: ConsensusReport,
}

impl Store {
    /// Checks everything that a directory holds: genesis, tip, records, state root and supply; every stored block's place in the chain,
    /// transactions, certificate and events; every snapshot; from the genesis or the oldest snapshot, that executing the blocks
    /// again gives the same state, with the referee that the chain names; and what consensus keeps, as a start reads it. Nothing in
    /// the directory is changed.
    ///
    /// # Errors
    /// [`CheckError`], the first problem.
    pub fn check(dir: &Path, options: &CheckOptions) -> Result<CheckReport, CheckError> {
        let opened = Self::open_unchanged(dir, options.scratch.as_deref())?.ok_or(CheckError::Empty)?;
        let Unchanged { store, genesis, chain, copied_bytes, .. } = &opened;
        let (horizon, tip) = (store.horizon()?, chain.tip());
        let (snapshots, mut replay) = store.snapshots(dir, genesis, horizon, tip.height)?;
        if let Some(referee) = options.referee.clone() {
            replay = replay.map(|chain| chain.with_referee(referee));
        }
        let (height, replayed_from) = (tip.height, replay.as_ref().map(|chain| chain.tip().height));
        let txs = store.check_blocks(chain, horizon, replay)?;
        Ok(CheckReport {
            height,
            horizon,
            txs,
            records: chain.state().len() as u64,
            replayed_from,
            snapshots,
            copied_bytes: *copied_bytes,
            consensus: consensus::inspect(dir, options.sign_guard.as_deref(), tip.chain_id, height)?,
        })
    }

    /// Checks all blocks, executes them again where that is possible, and counts their transactions.
    fn check_blocks(
        &self,
        chain: &Chain,
        horizon: u64,
        mut replay: Option<Chain>,
    ) -> Result<u64, CheckError> {
        let (tip, mut txs) = (chain.tip().height, 0);
        // From block 1 on the blocks are executed again, and that begins at the genesis block.
        let mut parent = replay.as_ref().filter(|_| horizon == 1).map(|chain| chain.tip().clone());
        for height in horizon..=tip {
            let block = self.checked_block(height, parent.as_ref())?;
            txs += block.txs.len() as u64;
            if let Some(replay) = replay.as_mut().filter(|chain| chain.tip().height + 1 == height) {
                self.replay(replay, &block)?;
            }
            parent = Some(block.header);
        }
        let whole = |replay: &Chain| replay.state() == chain.state() && replay.tip() == chain.tip();
        if replay.as_ref().is_some_and(|replay| !whole(replay)) {
            return Err(CheckError::Block { height: tip, what: "executed again it gives another state" });
        }
        Ok(txs)
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

    /// Reads every snapshot: how many there are, and the genesis, or the oldest snapshot from which the stored blocks lead on.
    fn snapshots(
        &self,
        dir: &Path,
        genesis: &Genesis,
        horizon: u64,
        tip: u64,
    ) -> Result<(u64, Option<Chain>), CheckError> {
        let mut start = (horizon == 1).then(|| Chain::new(genesis));
        let heights = SnapshotFile::list(dir)?;
        for height in &heights {
            let wanted = start.is_none() && (horizon - 1..=tip).contains(height);
            if let Some(chain) = self.snapshot(dir, *height, wanted)? {
                start = Some(chain);
            }
        }
        Ok((heights.len() as u64, start))
    }

    /// Reads a snapshot; the chain that goes on from it, if that is `wanted`.
    fn snapshot(&self, dir: &Path, height: u64, wanted: bool) -> Result<Option<Chain>, CheckError> {
        let path = SnapshotFile::path(dir, height);
        let mut file = SnapshotFile::open(&path)?;
        let manifest = file.manifest()?;
        manifest.verify()?;
        let LightBlock { header, certificate, validators, .. } = &manifest.block;
        certificate.verify(header, validators).map_err(|source| StoreError::Certificate {
            path,
            hash: header.hash(),
            source: Box::new(source),
        })?;
        let another = || CheckError::Block { height, what: "the snapshot is of another block" };
        let held = self.block(height)?;
        if header.height != height || held.is_some_and(|block| block.header != *header) {
            return Err(another());
        }
        let mut entries = std::collections::BTreeMap::new();
        for index in 0..manifest.pieces.len() {
            let chunk = file.chunk(index)?;
            manifest.verify_chunk(index, &chunk)?;
            if wanted {
                entries.extend(chunk.entries);
            }
        }
        let LightBlock { header, certificate, .. } = manifest.block;
        Ok(wanted.then(|| Chain::resume(State::from_entries(entries), header, certificate)))
    }
}
