//! A directory that is read and not changed: for checks and archives, also of a medium that cannot be written.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::database::Db;
use super::{FILE_NAME, Store, StoreError};
use crate::chain::Chain;
use crate::genesis::Genesis;

/// Directories in use that are passed over before none is made.
const MAX_SCRATCH: u32 = 1_000;

/// A chain on disk that is only read.
pub(super) struct Unchanged {
    pub(super) store: Store,
    pub(super) genesis: Genesis,
    pub(super) chain: Chain,
    /// Bytes of the copy, if one was needed.
    pub(super) copied_bytes: Option<u64>,
    // Dropped after the store that is in it.
    _copy: Option<Repaired>,
}

/// A copy in a directory of its own, which goes with it.
struct Repaired {
    path: PathBuf,
    bytes: u64,
    _dir: Scratch,
    /// No node opens the original meanwhile.
    _locked: File,
}

/// A directory that goes with what is in it.
struct Scratch(PathBuf);

impl Scratch {
    fn make_in(parent: &Path) -> io::Result<Self> {
        for n in 0..MAX_SCRATCH {
            let path = parent.join(format!("dn-ledger-{}-{n}", std::process::id()));
            // What is there is somebody else's, or left of a check that was killed.
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Whoever gave the directory can remove it too.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Store {
    /// Opens a directory as [`open`](Self::open) does, with the same checks, and changes nothing in it; none if it holds no chain. A file
    /// that was not closed, since its node was killed, has to be repaired before it can be read: that happens to a copy in `scratch`,
    /// or where the system has its temporary files.
    pub(super) fn open_unchanged(
        dir: &Path,
        scratch: Option<&Path>,
    ) -> Result<Option<Unchanged>, StoreError> {
        let path = dir.join(FILE_NAME);
        let length = match path.metadata() {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(source) => return Err(StoreError::Io { path, source }),
        };
        if length == 0 {
            return Ok(None);
        }
        // The database asserts its own file format: a damaged file may end in a panic inside it.
        let opened = std::panic::catch_unwind(|| Self::read_unchanged(&path, scratch));
        opened.unwrap_or(Err(StoreError::Unreadable { path }))
    }

    fn read_unchanged(path: &Path, scratch: Option<&Path>) -> Result<Option<Unchanged>, StoreError> {
        let (db, copy) = match Db::read_only(path)? {
            Some(db) => (db, None),
            None => {
                let copy = copy(path, scratch)?;
                let db = Db::create(&copy.path).map_err(|error| told_of(path, error))?;
                (db, Some(copy))
            }
        };
        // Errors name the original.
        let store = Self { db, path: path.to_owned() };
        let Some(genesis) = store.genesis()? else { return Ok(None) };
        let chain = store.load(&genesis)?;
        let copied_bytes = copy.as_ref().map(|copy| copy.bytes);
        Ok(Some(Unchanged { store, genesis, chain, copied_bytes, _copy: copy }))
    }
}

fn copy(path: &Path, scratch: Option<&Path>) -> Result<Repaired, StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    let mut original = File::open(path).map_err(io)?;
    match original.try_lock_shared() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path: path.to_owned() }),
        // A file system without locks: the database does not insist on them either.
        Err(TryLockError::Error(_)) => {}
    }
    let bytes = original.metadata().map_err(io)?.len();
    let scratch = scratch.map_or_else(std::env::temp_dir, Path::to_owned);
    let (dir, copy) = copy_into(&mut original, &scratch).map_err(|source| StoreError::NotClosed {
        path: path.to_owned(),
        bytes,
        scratch,
        source,
    })?;
    Ok(Repaired { path: copy, bytes, _dir: dir, _locked: original })
}

fn copy_into(original: &mut File, scratch: &Path) -> io::Result<(Scratch, PathBuf)> {
    let dir = Scratch::make_in(scratch)?;
    let copy = dir.0.join(FILE_NAME);
    // Not with the original's permissions, which may forbid the repair.
    io::copy(original, &mut File::create(&copy)?)?;
    Ok((dir, copy))
}

/// The error of a copy, in terms of the original.
fn told_of(original: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Database { source, .. } => StoreError::Database { path: original.to_owned(), source },
        other => other,
    }
}
