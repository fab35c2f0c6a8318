//! The database's file: open to be written, or only to be read.

use std::path::Path;

use redb::{Database, DatabaseError, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::StoreError;

/// The database. Closing a damaged file may end in a panic inside it, which goes no further.
pub(super) struct Db(Option<Open>);

enum Open {
    ToWrite(Database),
    ToRead(ReadOnlyDatabase),
}

impl Db {
    /// Opens a file, or starts an empty one, and repairs one that was not closed.
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        Database::create(path).map(|db| Self(Some(Open::ToWrite(db)))).map_err(|error| refused(path, error))
    }

    /// Opens a file without changing it; none if it was not closed, and cannot be read before it is repaired.
    pub(super) fn read_only(path: &Path) -> Result<Option<Self>, StoreError> {
        match ReadOnlyDatabase::open(path) {
            Ok(db) => Ok(Some(Self(Some(Open::ToRead(db))))),
            Err(DatabaseError::RepairAborted) => Ok(None),
            Err(error) => Err(refused(path, error)),
        }
    }

    pub(super) fn begin_read(&self) -> Result<ReadTransaction, redb::Error> {
        match self.open() {
            Open::ToWrite(db) => Ok(db.begin_read()?),
            Open::ToRead(db) => Ok(db.begin_read()?),
        }
    }

    pub(super) fn begin_write(&self) -> Result<WriteTransaction, redb::Error> {
        match self.open() {
            Open::ToWrite(db) => Ok(db.begin_write()?),
            // Whoever opened it so only reads.
            Open::ToRead(_) => Err(redb::Error::Io(std::io::ErrorKind::ReadOnlyFilesystem.into())),
        }
    }

    fn open(&self) -> &Open {
        self.0.as_ref().expect("it is taken only when this is dropped")
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").finish_non_exhaustive()
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        let db = std::panic::AssertUnwindSafe(self.0.take());
        // Whatever was acknowledged is durable already.
        let _ = std::panic::catch_unwind(move || drop(db));
    }
}

fn refused(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.to_owned() },
        other => StoreError::Database { path: path.to_owned(), source: Box::new(other.into()) },
    }
}
