//! Data directories: private to their owner, bound to one chain, role and identity, and used by one process at a time.

use std::fs;
use std::path::{Path, PathBuf};

use dn_core::encoding::Canonical;
use dn_core::{Address, canonical_struct};
use redb::{Database, DatabaseError, ReadableTable, TableDefinition};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const OWNER: &str = "owner";
const FORMAT: u16 = 1;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process uses it.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The database file.
        path: PathBuf,
    },
    /// It belongs to another chain.
    #[error("{} belongs to chain {found}; this is chain {expected}", path.display())]
    OtherChain {
        /// The database file.
        path: PathBuf,
        /// The chain that was asked for.
        expected: u64,
        /// The chain of the data.
        found: u64,
    },
    /// It belongs to another identity or role.
    #[error("{} belongs to {role} {found}; this is {expected}", path.display())]
    OtherIdentity {
        /// The database file.
        path: PathBuf,
        /// Who asks.
        expected: Address,
        /// Whose it is.
        found: Address,
        /// In which role.
        role: String,
    },
    /// Its format is newer.
    #[error("{} has format {found}; this version reads {FORMAT}", path.display())]
    Format {
        /// The database file.
        path: PathBuf,
        /// Its format.
        found: u16,
    },
    /// A record cannot be read.
    #[error("a record of table {table} is damaged: {source}")]
    Record {
        /// The table.
        table: &'static str,
        /// What is wrong.
        source: dn_core::DecodeError,
    },
    /// Files cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no database, is damaged, or cannot be created.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// The database fails.
    #[error("database: {0}")]
    Database(Box<redb::Error>),
}

macro_rules! from_redb {
    ($($t:ty),*) => {$(
        impl From<$t> for StoreError {
            fn from(error: $t) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}
from_redb!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    format: u16,
    chain_id: u64,
    address: Address,
    role: String,
}
canonical_struct!(Owner { format: u16, chain_id: u64, address: Address, role: String });

/// Opens or creates `role.redb` in a directory that only its owner can read.
pub(crate) fn open(
    dir: &Path,
    role: &'static str,
    chain_id: u64,
    address: Address,
) -> Result<Database, StoreError> {
    private_dir(dir)?;
    let path = dir.join(format!("{role}.redb"));
    let database = match Database::create(&path) {
        Ok(database) => database,
        Err(DatabaseError::DatabaseAlreadyOpen) => return Err(StoreError::InUse { path }),
        Err(error) => return Err(StoreError::Open { path, source: Box::new(error.into()) }),
    };
    private_file(&path)?;
    let expected = Owner { format: FORMAT, chain_id, address, role: role.to_owned() };
    let write = database.begin_write()?;
    {
        let mut meta = write.open_table(META)?;
        let found = meta.get(OWNER)?.map(|bytes| Owner::from_bytes(bytes.value()));
        match found {
            None => {
                meta.insert(OWNER, expected.to_bytes().as_slice())?;
            }
            Some(Err(source)) => return Err(StoreError::Record { table: "meta", source }),
            Some(Ok(found)) => check_owner(path, &expected, found)?,
        }
    }
    write.commit()?;
    Ok(database)
}

fn check_owner(path: PathBuf, expected: &Owner, found: Owner) -> Result<(), StoreError> {
    if found.format != FORMAT {
        return Err(StoreError::Format { path, found: found.format });
    }
    if found.chain_id != expected.chain_id {
        return Err(StoreError::OtherChain { path, expected: expected.chain_id, found: found.chain_id });
    }
    if (found.address, &found.role) != (expected.address, &expected.role) {
        let (expected, role) = (expected.address, found.role);
        return Err(StoreError::OtherIdentity { path, expected, found: found.address, role });
    }
    Ok(())
}

/// Decodes a record.
pub(crate) fn record<T: Canonical>(table: &'static str, bytes: &[u8]) -> Result<T, StoreError> {
    T::from_bytes(bytes).map_err(|source| StoreError::Record { table, source })
}

fn private_dir(dir: &Path) -> Result<(), StoreError> {
    let io = |source| StoreError::Io { path: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(io)?;
    restrict(dir, 0o700).map_err(io)
}

fn private_file(path: &Path) -> Result<(), StoreError> {
    restrict(path, 0o600).map_err(|source| StoreError::Io { path: path.to_owned(), source })
}

#[cfg(unix)]
fn restrict(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn restrict(_path: &Path, _mode: u32) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_belongs_to_one_chain_and_identity_and_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (Address([1; 20]), Address([2; 20]));
        let first = open(dir.path(), "gateway", 7, a).unwrap();
        assert!(matches!(open(dir.path(), "gateway", 7, a), Err(StoreError::InUse { .. })));
        drop(first);
        assert!(matches!(
            open(dir.path(), "gateway", 8, a),
            Err(StoreError::OtherChain { expected: 8, found: 7, .. })
        ));
        let other = open(dir.path(), "gateway", 7, b);
        assert!(
            matches!(other, Err(StoreError::OtherIdentity { expected, found, .. }) if (expected, found) == (b, a))
        );
        drop(open(dir.path(), "gateway", 7, a).unwrap());
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path(), "worker", 7, Address::ZERO).unwrap());
        let path = dir.path().join("worker.redb");
        let whole = fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() / 2], &[0x5a; 4096]] {
            fs::write(&path, damaged).unwrap();
            let error = open(dir.path(), "worker", 7, Address::ZERO).unwrap_err();
            assert!(matches!(&error, StoreError::Open { path: named, .. } if *named == path), "{error}");
            assert!(error.to_string().contains("worker.redb"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("keys");
        drop(open(&inner, "gateway", 7, Address::ZERO).unwrap());
        assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(inner.join("gateway.redb")).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
