//! The chain on disk: one redb file, one durable transaction a block.

mod archive;
mod check;
mod database;
mod past;
mod prune;
mod restore;
mod unchanged;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dn_core::{BlockHash, Canonical, DecodeError, Hash32, TxId, keccak256};
use redb::{Durability, ReadableTable, TableDefinition};

use crate::block::{Block, Certificate, CertificateError, Header};
use crate::chain::{Chain, Executed};
use crate::events::Event;
use crate::genesis::{Genesis, GenesisError};
use crate::light::LightBlock;
use crate::state::{BASE_RULES, CorruptState, State, VALIDATOR_SETS, check_entry};
use crate::supply::{self, SupplyError};
use crate::upgrades::RULES;
use crate::validators::{NEXT_SET, ValidatorSet};
use crate::views::{BlockView, TxOutcome, TxView};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const STATE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("state");
const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
const CERTIFICATES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("certificates");
const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
const TXS: TableDefinition<'_, &[u8; 32], (u64, u32)> = TableDefinition::new("txs");
/// Validator sets by their hash: headers name no more than that.
const SETS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("validator_sets");

const GENESIS_KEY: &str = "genesis";
const TIP_KEY: &str = "tip";
/// The genesis block as a light client takes it.
const FIRST_KEY: &str = "first";
/// The first height whose block is stored, eight bytes, little-endian; 1 when it is not set.
const HORIZON_KEY: &str = "horizon";

/// A block's events, each with the transaction that caused it.
type BlockEvents = Vec<(Option<TxId>, Event)>;

pub use archive::{ArchiveError, ImportReport};
pub use check::{CheckError, CheckOptions, CheckReport};
use database::Db;
pub use past::PastError;
pub use restore::RestoreError;

/// The file in a data directory.
const FILE_NAME: &str = "ledger.redb";

/// Why the chain on disk cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory cannot be made or read.
    #[error("{path}: {source}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process, or another node of this one, has the directory open.
    #[error("{path} is in use by another node")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The directory belongs to another chain.
    #[error("{path} holds chain {found}; chain {expected} expected")]
    OtherChain {
        /// The file.
        path: PathBuf,
        /// The chain of the configuration.
        expected: u64,
        /// The chain on disk.
        found: u64,
    },
    /// The directory belongs to a chain of the same id with another genesis.
    #[error("{path} starts from genesis {found}; genesis {expected} expected")]
    OtherGenesis {
        /// The file.
        path: PathBuf,
        /// The genesis of the configuration.
        expected: Hash32,
        /// The genesis on disk.
        found: Hash32,
    },
    /// The chain goes by other rules than this software has.
    #[error(
        "{path} holds a chain of rules {}; this software has rules {expected}: use the software that wrote it, or an empty directory",
        .found.map_or("1 or older".to_owned(), |rules| rules.to_string())
    )]
    Rules {
        /// The file.
        path: PathBuf,
        /// Those of this software.
        expected: u32,
        /// Those of the chain; none was recorded before rules 2.
        found: Option<u32>,
    },
    /// The database refuses: a damaged file, a full disk.
    #[error("{path}: {source}")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// The file is damaged in a way that the database gives up on.
    #[error("{path} is damaged: the database cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
    },
    /// The file was not closed, and it cannot be copied to be repaired.
    #[error(
        "{path} was not closed (its node was killed), and is read after a repair, of a copy if it is not to be changed: {bytes} bytes cannot \
         be copied to {scratch}: {source}. Name another directory with --scratch, or start the node once, which repairs the file"
    )]
    NotClosed {
        /// The file.
        path: PathBuf,
        /// How long it is.
        bytes: u64,
        /// Where the copy was to be.
        scratch: PathBuf,
        /// Why it is not there.
        source: std::io::Error,
    },
    /// A record that a block needs is not there.
    #[error("{path} is damaged: no {what} at height {height}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
        /// Where.
        height: u64,
    },
    /// Bytes that are not what they must be.
    #[error("{path} is damaged: {what}: {source}")]
    Decode {
        /// The file.
        path: PathBuf,
        /// What was read.
        what: &'static str,
        /// Why.
        source: DecodeError,
    },
    /// The stored events are not readable.
    #[error("{path} is damaged: events: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The stored genesis is not one.
    #[error("{path} is damaged: {source}")]
    Genesis {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<GenesisError>,
    },
    /// A record of the state that no table wrote.
    #[error("{path} is damaged: {source}")]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        source: CorruptState,
    },
    /// The state is not the one that the tip commits to.
    #[error("{path} is damaged: the state hashes to {found}; block {height} commits to {expected}")]
    Commitment {
        /// The file.
        path: PathBuf,
        /// The tip.
        height: u64,
        /// What the tip says.
        expected: Hash32,
        /// What the records give.
        found: Hash32,
    },
    /// The tip is not certified by a quorum.
    #[error("{path} is damaged: the certificate of block {hash}: {source}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The block.
        hash: BlockHash,
        /// Why.
        source: Box<CertificateError>,
    },
    /// The books do not balance.
    #[error("{path}: {source}")]
    Supply {
        /// The file.
        path: PathBuf,
        /// By how much.
        source: SupplyError,
    },
}

/// The chain on disk.
#[derive(Debug)]
pub struct Store {
    db: Db,
    path: PathBuf,
}

impl Store {
    /// Opens a data directory, or starts the chain in an empty one, and checks what it holds: genesis, certificate
    /// of the tip, every record of the state, their commitment, and the supply equation.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written when the directory is not this chain's.
    pub fn open(dir: &Path, genesis: &Genesis) -> Result<(Self, Chain), StoreError> {
        let path = dir.join(FILE_NAME);
        std::fs::create_dir_all(dir).map_err(|source| StoreError::Io { path: dir.to_owned(), source })?;
        // The database asserts its own file format: a damaged file may end in a panic inside it.
        let opened = std::panic::catch_unwind(|| Self::open_file(&path, genesis));
        opened.unwrap_or(Err(StoreError::Unreadable { path }))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// The genesis that a data directory was started with; none if it holds no chain.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn stored_genesis(dir: &Path) -> Result<Option<Genesis>, StoreError> {
        let path = dir.join(FILE_NAME);
        if !path.exists() {
            return Ok(None);
        }
        let opened = std::panic::catch_unwind(|| {
            let db = Db::create(&path)?;
            Self { db, path: path.clone() }.genesis()
        });
        opened.unwrap_or(Err(StoreError::Unreadable { path }))
    }

    fn open_file(path: &Path, genesis: &Genesis) -> Result<(Self, Chain), StoreError> {
        let store = Self { db: Db::create(path)?, path: path.to_owned() };
        match store.genesis()? {
            None => {
                let chain = Chain::new(genesis);
                store.check_supply(chain.state())?;
                store.start(genesis, &chain)?;
                Ok((store, chain))
            }
            Some(found) => {
                let path = path.to_owned();
                if found.chain_id != genesis.chain_id {
                    let (expected, found) = (genesis.chain_id, found.chain_id);
                    return Err(StoreError::OtherChain { path, expected, found });
                }
                if found != *genesis {
                    let (expected, found) = (genesis.hash(), found.hash());
                    return Err(StoreError::OtherGenesis { path, expected, found });
                }
                let chain = store.load(genesis)?;
                Ok((store, chain))
            }
        }
    }

    fn genesis(&self) -> Result<Option<Genesis>, StoreError> {
        let Some(bytes) = self.meta(GENESIS_KEY)? else { return Ok(None) };
        // Before anything is read whose form depends on them.
        self.check_rules()?;
        let genesis = self.decode::<Genesis>("genesis", &bytes)?;
        genesis
            .validate()
            .map_err(|source| StoreError::Genesis { path: self.path.clone(), source: Box::new(source) })?;
        Ok(Some(genesis))
    }

    fn start(&self, genesis: &Genesis, chain: &Chain) -> Result<(), StoreError> {
        let write = || -> Result<(), redb::Error> {
            let mut tx = self.db.begin_write()?;
            tx.set_durability(Durability::Immediate)?;
            {
                let mut state = tx.open_table(STATE)?;
                for (key, value) in chain.state().entries() {
                    state.insert(key, value)?;
                }
                for table in [BLOCKS, CERTIFICATES, EVENTS] {
                    tx.open_table(table)?;
                }
                tx.open_table(TXS)?;
                let mut sets = tx.open_table(SETS)?;
                for set in [chain.tip_validators(), chain.validators()] {
                    sets.insert(&set.hash().0, set.to_bytes().as_slice())?;
                }
                let mut meta = tx.open_table(META)?;
                meta.insert(GENESIS_KEY, genesis.to_bytes().as_slice())?;
                meta.insert(FIRST_KEY, first_block(chain).to_bytes().as_slice())?;
                meta.insert(TIP_KEY, chain.tip().to_bytes().as_slice())?;
            }
            Ok(tx.commit()?)
        };
        write().map_err(|source| self.database(source))
    }

    fn check_rules(&self) -> Result<(), StoreError> {
        let key = BASE_RULES.key(&0);
        let found = self.read(|tx| Ok(tx.open_table(STATE)?.get(&*key)?.map(|row| row.value().to_vec())))?;
        let found = found.map(|bytes| self.decode("rules", &bytes)).transpose()?;
        if found == Some(RULES) {
            return Ok(());
        }
        Err(StoreError::Rules { path: self.path.clone(), expected: RULES, found })
    }

    fn load(&self, genesis: &Genesis) -> Result<Chain, StoreError> {
        let bytes = self.meta(TIP_KEY)?.ok_or(self.missing("tip", 0))?;
        let tip = self.decode::<Header>("tip", &bytes)?;
        let mut decided = Certificate::default();
        if tip.height == 0 {
            let first = Chain::new(genesis);
            if *first.tip() != tip {
                return Err(self.missing("genesis block", 0));
            }
        } else {
            let block = self.block(tip.height)?.map(|block| block.header);
            // A restored chain has no block up to the snapshot's.
            if block.as_ref() != Some(&tip) && (block.is_some() || self.horizon()? <= tip.height) {
                return Err(self.missing("block of the tip", tip.height));
            }
            decided = self.certificate(tip.height)?.ok_or(self.missing("certificate", tip.height))?;
        }
        let mut entries = BTreeMap::new();
        self.read(|tx| {
            for row in tx.open_table(STATE)?.iter()? {
                let (key, value) = row?;
                entries.insert(key.value().to_vec(), value.value().to_vec());
            }
            Ok(())
        })?;
        let path = || self.path.clone();
        for (key, value) in &entries {
            check_entry(key, value).map_err(|source| StoreError::State { path: path(), source })?;
        }
        let state = State::from_entries(entries);
        let (expected, found) = (tip.state, state.commitment().hash());
        if expected != found {
            return Err(StoreError::Commitment { path: path(), height: tip.height, expected, found });
        }
        self.check_supply(&state)?;
        let chain = Chain::resume(state, tip, decided);
        let (tip, certificate) = (chain.tip(), chain.certificate());
        if tip.height > 0 {
            certificate.verify(tip, &chain.tip_validators()).map_err(|source| StoreError::Certificate {
                path: path(),
                hash: tip.hash(),
                source: Box::new(source),
            })?;
        }
        Ok(chain)
    }

    fn check_supply(&self, state: &State) -> Result<(), StoreError> {
        supply::check_all(state).map_err(|source| StoreError::Supply { path: self.path.clone(), source })
    }

    /// Writes a block with its certificate, events, changed records and the new tip in one durable transaction: all of it is on
    /// disk when this returns, or, after a crash, none of it.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn commit(
        &self,
        block: &Block,
        certificate: &Certificate,
        executed: &Executed,
    ) -> Result<(), StoreError> {
        let height = block.header.height;
        let events: Vec<_> = executed.events().collect();
        let events = serde_json::to_vec(&events).expect("events have only string keys");
        let write = || -> Result<(), redb::Error> {
            let mut tx = self.db.begin_write()?;
            tx.set_durability(Durability::Immediate)?;
            {
                let mut state = tx.open_table(STATE)?;
                for (key, value) in &executed.changes {
                    match value {
                        Some(value) => state.insert(key.as_slice(), value.as_slice())?,
                        None => state.remove(key.as_slice())?,
                    };
                }
                if let Some(Some(set)) = executed.changes.get(&VALIDATOR_SETS.key(&NEXT_SET)) {
                    tx.open_table(SETS)?.insert(&keccak256(&[set]), set.as_slice())?;
                }
                tx.open_table(BLOCKS)?.insert(height, block.to_bytes().as_slice())?;
                tx.open_table(CERTIFICATES)?.insert(height, certificate.to_bytes().as_slice())?;
                tx.open_table(EVENTS)?.insert(height, events.as_slice())?;
                let mut txs = tx.open_table(TXS)?;
                for (index, outcome) in (0u32..).zip(&executed.outcomes) {
                    txs.insert(&outcome.tx_id.0, (height, index))?;
                }
                tx.open_table(META)?.insert(TIP_KEY, block.header.to_bytes().as_slice())?;
            }
            Ok(tx.commit()?)
        };
        write().map_err(|source| self.database(source))
    }

    /// A block.
    ///
    /// # Errors
    /// [`StoreError`] when the file is damaged.
    pub fn block(&self, height: u64) -> Result<Option<Block>, StoreError> {
        let bytes = self.row(BLOCKS, height)?;
        bytes.map(|bytes| self.decode("block", &bytes)).transpose()
    }

    /// A block's certificate.
    ///
    /// # Errors
    /// [`StoreError`] when the file is damaged.
    pub fn certificate(&self, height: u64) -> Result<Option<Certificate>, StoreError> {
        let bytes = self.row(CERTIFICATES, height)?;
        bytes.map(|bytes| self.decode("certificate", &bytes)).transpose()
    }

    /// The first height whose block is stored: 1, or later after pruning or a restore from a snapshot.
    ///
    /// # Errors
    /// [`StoreError`] when the file is damaged.
    pub fn horizon(&self) -> Result<u64, StoreError> {
        let Some(bytes) = self.meta(HORIZON_KEY)? else { return Ok(1) };
        self.decode("horizon", &bytes)
    }

    /// The header of a height with what proves it; none above the tip, nor below the horizon but for the genesis.
    ///
    /// # Errors
    /// [`StoreError`] when the file is damaged.
    pub fn light_block(&self, height: u64) -> Result<Option<LightBlock>, StoreError> {
        if height == 0 {
            let bytes = self.meta(FIRST_KEY)?;
            return bytes.map(|bytes| self.decode("genesis block", &bytes)).transpose();
        }
        let tip = self.meta(TIP_KEY)?.map(|bytes| self.decode::<Header>("tip", &bytes)).transpose()?;
        let header = match (self.block(height)?, tip) {
            (Some(block), _) => block.header,
            (None, Some(tip)) if tip.height == height => tip,
            _ => return Ok(None),
        };
        let certificate = self.certificate(height)?.ok_or(self.missing("certificate", height))?;
        let validators = self.validator_set(header.validators, height)?;
        let next = self.validator_set(header.next_validators, height)?;
        Ok(Some(LightBlock::new(header, certificate, validators, next)))
    }

    fn validator_set(&self, hash: Hash32, height: u64) -> Result<ValidatorSet, StoreError> {
        let bytes = self.read(|tx| Ok(tx.open_table(SETS)?.get(&hash.0)?.map(|row| row.value().to_vec())))?;
        let bytes = bytes.ok_or(self.missing("validator set", height))?;
        self.decode("validator set", &bytes)
    }

    /// A block as clients see it.
    ///
    /// # Errors
    /// [`StoreError`] when the file is damaged.
    pub fn block_view(&self, height: u64) -> Result<Option<BlockView>, StoreError> {
        let Some(block) = self.block(height)? else { return Ok(None) };
        let certificate = self.certificate(height)?.ok_or(self.missing("certificate", height))?;
        let txs = block.txs.iter().map(|tx| tx.id()).collect();
        Ok(Some(BlockView {
            hash: block.header.hash(),
            header: block.header,
            certificate,
            parent_certificate: block.parent_certificate,
            txs,
        }))
    }

    /// Where a transaction is and what it did, if some block holds it.
    ///
    /// # Errors
    /// [`StoreError`] when the file is damaged.
    pub fn outcome(&self, tx_id: TxId) -> Result<Option<TxOutcome>, StoreError> {
        let place = self.read(|tx| Ok(tx.open_table(TXS)?.get(&tx_id.0)?.map(|row| row.value())))?;
        let Some((height, index)) = place else { return Ok(None) };
        let events = self.block_events(height)?.ok_or(self.missing("events", height))?;
        let own = events.into_iter().filter(|(by, _)| *by == Some(tx_id)).map(|(_, event)| event);
        Ok(Some(TxOutcome { tx_id, height, index, events: own.collect() }))
    }

    /// A transaction with what it did, if some block holds it.
    ///
    /// # Errors
    /// [`StoreError`] when the file is damaged.
    pub fn tx(&self, tx_id: TxId) -> Result<Option<TxView>, StoreError> {
        let Some(outcome) = self.outcome(tx_id)? else { return Ok(None) };
        let height = outcome.height;
        let block = self.block(height)?.ok_or(self.missing("block", height))?;
        let tx = block.txs.into_iter().nth(outcome.index as usize);
        Ok(Some(TxView { tx: tx.ok_or(self.missing("transaction", height))?, outcome }))
    }

    fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|tx| match tx.open_table(META) {
            Ok(table) => Ok(table.get(key)?.map(|row| row.value().to_vec())),
            // An empty file has no tables.
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        })
    }

    fn row(
        &self,
        table: TableDefinition<'_, u64, &'static [u8]>,
        height: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|tx| Ok(tx.open_table(table)?.get(height)?.map(|row| row.value().to_vec())))
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let tx = self.db.begin_read().map_err(|source| self.database(source))?;
        read(&tx).map_err(|source| self.database(source))
    }

    fn decode<T: Canonical>(&self, what: &'static str, bytes: &[u8]) -> Result<T, StoreError> {
        T::from_bytes(bytes).map_err(|source| StoreError::Decode { path: self.path.clone(), what, source })
    }

    fn database(&self, source: redb::Error) -> StoreError {
        StoreError::Database { path: self.path.clone(), source: Box::new(source) }
    }

    fn missing(&self, what: &'static str, height: u64) -> StoreError {
        StoreError::Missing { path: self.path.clone(), what, height }
    }
}

/// The genesis block of a chain that is at it.
fn first_block(chain: &Chain) -> LightBlock {
    let (tip, certificate) = (chain.tip().clone(), chain.certificate().clone());
    LightBlock::new(tip, certificate, chain.tip_validators(), chain.validators())
}

#[cfg(test)]
mod tests;
