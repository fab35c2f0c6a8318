//! From a chain on disk to a snapshot, and back.

use std::path::{Path, PathBuf};

use dn_core::{Canonical, Hash32};
use redb::{Durability, ReadableTable, TableDefinition};

use super::{
    BLOCKS, CERTIFICATES, Db, EVENTS, FILE_NAME, FIRST_KEY, GENESIS_KEY, HORIZON_KEY, META, SETS, STATE,
    Store, StoreError, TIP_KEY, TXS, first_block,
};
use crate::block::{CertificateError, Header};
use crate::chain::Chain;
use crate::genesis::Genesis;
use crate::node::snapshot::{SnapshotFileError, SnapshotSource};
use crate::snapshot::{Export, Manifest, SnapshotError};
use crate::state::{LeafHash, Tree};

/// Chunks of an unfinished restore that are in the file; the value is always true.
const DONE: TableDefinition<'_, u64, bool> = TableDefinition::new("restored_chunks");
/// Which snapshot an unfinished restore is of.
const RESTORE_KEY: &str = "restore";
const PART_NAME: &str = "ledger.redb.part";
/// Chunks between two times that the file is made durable.
const CHUNKS_PER_SYNC: u64 = 16;

/// Why a snapshot is not restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// There is a chain already.
    #[error("{path} holds a chain; a snapshot is restored into an empty directory")]
    NotEmpty {
        /// The file.
        path: PathBuf,
    },
    /// The snapshot is of another block than the one that was verified.
    #[error("the snapshot is of block {found}; block {expected} was verified")]
    Header {
        /// Height that was verified.
        expected: u64,
        /// The snapshot's.
        found: u64,
    },
    /// Nobody stands for the snapshot's block.
    #[error("the snapshot's certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// The snapshot is wrong.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The snapshot cannot be had.
    #[error(transparent)]
    Source(#[from] SnapshotFileError),
    /// The directory.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// The state at the tip, ready to be written out. Reads one version of the file; blocks go on meanwhile.
    ///
    /// # Errors
    /// [`StoreError`], also when the records are not those that the tip commits to.
    pub fn export(&self) -> Result<Export, StoreError> {
        let (mut tip, mut entries) = (Vec::new(), Vec::new());
        self.read(|tx| {
            tip = tx.open_table(META)?.get(TIP_KEY)?.map(|row| row.value().to_vec()).unwrap_or_default();
            for row in tx.open_table(STATE)?.iter()? {
                let (key, value) = row?;
                entries.push((key.value().to_vec(), value.value().to_vec()));
            }
            Ok(())
        })?;
        let tip: Header = self.decode("tip", &tip)?;
        let (height, expected) = (tip.height, tip.state);
        let block = self.light_block(height)?.ok_or(self.missing("block", height))?;
        let tree = Tree::of_leaves(entries.iter().map(|(key, value)| LeafHash::of(key, value)).collect());
        let found = tree.hash();
        if expected != found {
            return Err(StoreError::Commitment { path: self.path.clone(), height, expected, found });
        }
        Ok(Export::new(block, &tree, entries))
    }

    /// Fills an empty directory with a snapshot of the block of a verified header, then opens it, which checks everything once
    /// more. The chain's file appears only when it is whole; what an interrupted restore had is used by the next one of the same
    /// snapshot.
    ///
    /// # Errors
    /// [`RestoreError`]; a chunk that is refused is not written.
    pub fn restore(
        dir: &Path,
        genesis: &Genesis,
        verified: &Header,
        source: &mut dyn SnapshotSource,
    ) -> Result<(Self, Chain), RestoreError> {
        let path = dir.join(FILE_NAME);
        if path.exists() {
            return Err(RestoreError::NotEmpty { path });
        }
        let io = |source| StoreError::Io { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(io)?;
        let manifest = source.manifest()?;
        let header = &manifest.block.header;
        if header != verified {
            return Err(RestoreError::Header { expected: verified.height, found: header.height });
        }
        manifest.block.certificate.verify(header, &manifest.block.validators)?;
        manifest.verify()?;
        let part = dir.join(PART_NAME);
        let filled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            fill(&part, genesis, &manifest, source)
        }));
        filled.unwrap_or(Err(StoreError::Unreadable { path: part.clone() }.into()))?;
        std::fs::rename(&part, &path).map_err(io)?;
        Ok(Self::open(dir, genesis)?)
    }
}

fn fill(
    part: &Path,
    genesis: &Genesis,
    manifest: &Manifest,
    source: &mut dyn SnapshotSource,
) -> Result<(), RestoreError> {
    let id = Hash32(manifest.keccak());
    let mut store = match open_part(part, id) {
        Ok(Some(store)) => store,
        // Nothing, another snapshot, or a file that a crash has left unreadable: from the start.
        Ok(None) | Err(_) => start_part(part, id)?,
    };
    let mut done = store.done()?;
    if done.iter().any(|index| *index >= manifest.pieces.len() as u64) {
        store = start_part(part, id)?;
        done.clear();
    }
    for index in 0..manifest.pieces.len() {
        if done.binary_search(&(index as u64)).is_ok() {
            continue;
        }
        let chunk = source.chunk(index)?;
        manifest.verify_chunk(index, &chunk)?;
        store.put_chunk(index as u64, &chunk.entries)?;
    }
    store.finish_restore(genesis, manifest)?;
    Ok(())
}

fn open_part(part: &Path, id: Hash32) -> Result<Option<Store>, StoreError> {
    if !part.exists() {
        return Ok(None);
    }
    let store = Store { db: Db::create(part)?, path: part.to_owned() };
    let same = store.meta(RESTORE_KEY)?.as_deref() == Some(id.0.as_slice());
    Ok(same.then_some(store))
}

fn start_part(part: &Path, id: Hash32) -> Result<Store, StoreError> {
    match std::fs::remove_file(part) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(StoreError::Io { path: part.to_owned(), source });
        }
        _ => {}
    }
    let store = Store { db: Db::create(part)?, path: part.to_owned() };
    store.write(Durability::Immediate, |tx| {
        tx.open_table(DONE)?;
        tx.open_table(STATE)?;
        tx.open_table(META)?.insert(RESTORE_KEY, id.0.as_slice())?;
        Ok(())
    })?;
    Ok(store)
}

impl Store {
    fn done(&self) -> Result<Vec<u64>, StoreError> {
        let mut done = Vec::new();
        self.read(|tx| {
            for row in tx.open_table(DONE)?.iter()? {
                done.push(row?.0.value());
            }
            Ok(())
        })?;
        Ok(done)
    }

    fn put_chunk(&self, index: u64, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<(), StoreError> {
        let sync = (index + 1).is_multiple_of(CHUNKS_PER_SYNC);
        let durability = if sync { Durability::Immediate } else { Durability::None };
        self.write(durability, |tx| {
            let mut state = tx.open_table(STATE)?;
            for (key, value) in entries {
                state.insert(key.as_slice(), value.as_slice())?;
            }
            tx.open_table(DONE)?.insert(index, true)?;
            Ok(())
        })
    }

    fn finish_restore(&self, genesis: &Genesis, manifest: &Manifest) -> Result<(), StoreError> {
        let (block, height) = (&manifest.block, manifest.block.header.height);
        self.write(Durability::Immediate, |tx| {
            tx.delete_table(DONE)?;
            for table in [BLOCKS, EVENTS] {
                tx.open_table(table)?;
            }
            tx.open_table(TXS)?;
            tx.open_table(CERTIFICATES)?.insert(height, block.certificate.to_bytes().as_slice())?;
            let mut sets = tx.open_table(SETS)?;
            for set in [&block.validators, block.next_set()] {
                sets.insert(&set.hash().0, set.to_bytes().as_slice())?;
            }
            let mut meta = tx.open_table(META)?;
            meta.remove(RESTORE_KEY)?;
            meta.insert(GENESIS_KEY, genesis.to_bytes().as_slice())?;
            meta.insert(FIRST_KEY, first_block(&Chain::new(genesis)).to_bytes().as_slice())?;
            meta.insert(TIP_KEY, block.header.to_bytes().as_slice())?;
            meta.insert(HORIZON_KEY, (height + 1).to_bytes().as_slice())?;
            Ok(())
        })
    }

    fn write(
        &self,
        durability: Durability,
        write: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let run = || -> Result<(), redb::Error> {
            let mut tx = self.db.begin_write()?;
            tx.set_durability(durability)?;
            write(&tx)?;
            Ok(tx.commit()?)
        };
        run().map_err(|source| self.database(source))
    }
}
