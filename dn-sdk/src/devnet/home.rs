//! The directory of a local network: one process at a time, everything in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use dn_ledger::{Genesis, GenesisError};

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process runs a network there.
    #[error("{} is in use by another process; stop that one or choose another directory", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// There is a ledger and no genesis file.
    #[error("{} is missing, and the ledger in this directory starts from it: put it back or choose another directory", path.display())]
    NoGenesis {
        /// Where it should be.
        path: PathBuf,
    },
    /// The genesis file is refused.
    #[error("{}: {source}", path.display())]
    Genesis {
        /// The file.
        path: PathBuf,
        /// Why.
        source: GenesisError,
    },
    /// The directory holds another chain.
    #[error("{} holds chain {found}; chain {expected} expected: choose another directory", path.display())]
    OtherChain {
        /// The directory.
        path: PathBuf,
        /// The chain that was to be run.
        expected: u64,
        /// The chain that lies there.
        found: u64,
    },
}

/// The directory, locked for this process.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    _lock: File,
}

impl Home {
    /// Creates the directory if needed and locks it until this value is dropped.
    ///
    /// # Errors
    /// [`HomeError::InUse`] or [`HomeError::File`].
    pub fn open(path: &Path) -> Result<Self, HomeError> {
        let file = |action, at: &Path| {
            let path = at.to_owned();
            move |source| HomeError::File { action, path, source }
        };
        fs::create_dir_all(path).map_err(file("create", path))?;
        let at = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&at)
            .map_err(file("open", &at))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(HomeError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(file("lock", &at)(source)),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in the directory.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether a network was made here.
    pub fn holds_network(&self) -> bool {
        self.join("genesis.json").exists()
    }

    /// The genesis that lies there, or this one, which then does.
    ///
    /// # Errors
    /// [`HomeError`]: not a genesis, or that of another chain.
    pub fn genesis(
        &self,
        chain_id: u64,
        make: impl FnOnce() -> Result<Genesis, GenesisError>,
    ) -> Result<Genesis, HomeError> {
        let path = self.join("genesis.json");
        let refused = |source| HomeError::Genesis { path: path.clone(), source };
        if let Some(text) = self.read("genesis.json")? {
            let genesis = Genesis::from_json(&text).map_err(refused)?;
            let found = genesis.chain_id;
            return if found == chain_id {
                Ok(genesis)
            } else {
                Err(HomeError::OtherChain { path: self.path.clone(), expected: chain_id, found })
            };
        }
        if self.join("ledger").exists() {
            return Err(HomeError::NoGenesis { path });
        }
        let genesis = make().map_err(refused)?;
        self.write("genesis.json", &genesis.to_json())?;
        Ok(genesis)
    }

    /// The text of a file, if there is one.
    ///
    /// # Errors
    /// [`HomeError::File`].
    pub fn read(&self, name: &str) -> Result<Option<String>, HomeError> {
        let path = self.join(name);
        read_or_none(&path).map_err(|source| HomeError::File { action: "read", path, source })
    }

    /// Writes a new file, private and complete or not at all.
    ///
    /// # Errors
    /// [`HomeError::File`].
    pub fn write(&self, name: &str, text: &str) -> Result<(), HomeError> {
        let path = self.join(name);
        create_private(&path, text.as_bytes()).map_err(|source| HomeError::File {
            action: "write",
            path,
            source,
        })
    }
}

/// The text of a file, if there is one.
pub(super) fn read_or_none(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file that only its owner can read: first under another name, so that it is complete whenever it is there.
pub(crate) fn create_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&partial)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&partial, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devnet::keys::Keys;
    use crate::devnet::roster::{CHAIN_ID, genesis};

    #[test]
    fn a_directory_in_use_or_of_another_chain_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        assert!(matches!(Home::open(dir.path()), Err(HomeError::InUse { .. })));
        let make = || genesis(&Keys::for_tests(), "http://127.0.0.1:1", 5);
        let first = home.genesis(CHAIN_ID, make).unwrap();
        assert_eq!(home.genesis(CHAIN_ID, || unreachable!("it is there")).unwrap(), first);
        let other = home.genesis(CHAIN_ID + 1, || unreachable!("it is there"));
        assert!(matches!(other, Err(HomeError::OtherChain { found: CHAIN_ID, .. })));
        fs::remove_file(home.join("genesis.json")).unwrap();
        fs::create_dir(home.join("ledger")).unwrap();
        assert!(matches!(home.genesis(CHAIN_ID, make), Err(HomeError::NoGenesis { .. })));
        assert!(!home.holds_network(), "no other genesis is made for that ledger");
        drop(home);
        assert!(Home::open(dir.path()).is_ok());
    }
}
