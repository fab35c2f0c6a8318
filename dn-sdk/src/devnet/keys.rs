//! The keys of a local network: one keystore file for each participant, and the password beside them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use dn_core::hexadecimal::to_digits;
use dn_core::keystore::{Kdf, Keystore, KeystoreError};
use dn_core::{Address, SecretKey};
use rand_core::{OsRng, RngCore};

use super::home::{Home, create_private, read_or_none};

/// Validators of a local network.
const VALIDATORS: usize = 2;
/// Workers of a local network.
const WORKERS: usize = 3;

/// Why keys cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The network was made with a key that is not there.
    #[error("{} is missing, and the network in this directory was made with it: put it back or choose another directory", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// A keystore is refused.
    #[error("{}: {source}", path.display())]
    Keystore {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeystoreError,
    },
    /// A keystore that holds another key than the network has.
    #[error("{} holds the key of {found}; the network in this directory has {expected} there", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// Whose key the network has.
        expected: Address,
        /// Whose key the file holds.
        found: Address,
    },
}

/// The keys of all participants.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The validators; the first produces blocks.
    pub validators: Vec<SecretKey>,
    /// The workers.
    pub workers: Vec<SecretKey>,
    /// The gateway.
    pub gateway: SecretKey,
    /// Who published the model.
    pub model_owner: SecretKey,
    /// Who pays for the calls.
    pub payer: SecretKey,
    /// Signs vouchers of the payer's channel for the gateway's API key.
    pub spender: SecretKey,
    /// Holds the DN that nobody else starts with.
    pub faucet: SecretKey,
}

impl Keys {
    /// Opens the keystores in a directory; makes those that are missing.
    ///
    /// The password lies beside them in the file `password`: these keys own nothing outside this machine.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn open(dir: &Path) -> Result<Self, KeysError> {
        Self::all(dir, &open_or_create)
    }

    /// Opens the keystores of a network that exists: a new key would own nothing there.
    ///
    /// # Errors
    /// [`KeysError::Missing`] and the others.
    pub fn existing(dir: &Path) -> Result<Self, KeysError> {
        let path = dir.join("password");
        if !path.exists() {
            return Err(KeysError::Missing { path });
        }
        Self::all(dir, &|dir, name, password| {
            let path = dir.join(format!("{name}.json"));
            open_if_there(&path, password)?.ok_or(KeysError::Missing { path })
        })
    }

    fn all(
        dir: &Path,
        open: &(dyn Fn(&Path, &str, &str) -> Result<SecretKey, KeysError> + Sync),
    ) -> Result<Self, KeysError> {
        let password = password(dir)?;
        let numbered =
            |what: &str, count: usize| (1..=count).map(|i| format!("{what}-{i}")).collect::<Vec<_>>();
        let mut names = numbered("validator", VALIDATORS);
        names.extend(numbered("worker", WORKERS));
        names.extend(["gateway", "model-owner", "payer", "spender", "faucet"].map(str::to_owned));
        let mut keys = at_once(&names, |name| open(dir, name, &password))?.into_iter();
        let mut next = || keys.next().expect("one key for each name");
        Ok(Self {
            validators: (0..VALIDATORS).map(|_| next()).collect(),
            workers: (0..WORKERS).map(|_| next()).collect(),
            gateway: next(),
            model_owner: next(),
            payer: next(),
            spender: next(),
            faucet: next(),
        })
    }

    /// Keys made of small numbers.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        let mut n = 0;
        let mut next = || {
            n += 1;
            SecretKey::from_bytes(&[n; 32]).unwrap()
        };
        Self {
            validators: (0..VALIDATORS).map(|_| next()).collect(),
            workers: (0..WORKERS).map(|_| next()).collect(),
            gateway: next(),
            model_owner: next(),
            payer: next(),
            spender: next(),
            faucet: next(),
        }
    }
}

/// The keys in a network's directory: made with it, and all there ever after.
pub(super) fn keys(home: &Home) -> Result<Keys, KeysError> {
    let dir = home.join("keys");
    if home.holds_network() { Keys::existing(&dir) } else { Keys::open(&dir) }
}

/// Keeps keys that a network has already, each under its name, as [`Keys::open`] keeps those that it makes: in keystores that only their owner
/// may read, with the password beside them. What is there from an earlier start stays.
///
/// # Errors
/// [`KeysError`], [`KeysError::Other`] for a keystore of somebody else among them.
pub fn keep_keys(dir: &Path, keys: &[(String, SecretKey)]) -> Result<(), KeysError> {
    let password = password(dir)?;
    at_once(keys, |(name, key)| {
        let path = dir.join(format!("{name}.json"));
        let Some(there) = open_if_there(&path, &password)? else { return write(&path, key, &password) };
        let (expected, found) = (key.address(), there.address());
        if found == expected { Ok(()) } else { Err(KeysError::Other { path, expected, found }) }
    })?;
    Ok(())
}

/// Stretching the password takes a while for each file: does it for all of them at once.
fn at_once<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, KeysError> + Sync,
) -> Result<Vec<R>, KeysError> {
    let work = &work;
    thread::scope(|scope| {
        let tasks: Vec<_> = items.iter().map(|item| scope.spawn(move || work(item))).collect();
        tasks.into_iter().map(|task| task.join().expect("opening a keystore does not panic")).collect()
    })
}

/// The password of the keystores in a directory; made of 128 random bits at first.
fn password(dir: &Path) -> Result<String, KeysError> {
    let path = dir.join("password");
    let file = |action| {
        let path = path.clone();
        move |source| KeysError::File { action, path, source }
    };
    if let Some(text) = read_or_none(&path).map_err(file("read"))? {
        return Ok(text.trim().to_owned());
    }
    fs::create_dir_all(dir).map_err(file("create the directory of"))?;
    let mut bytes = [0; 16];
    OsRng.fill_bytes(&mut bytes);
    let password = to_digits(&bytes);
    create_private(&path, format!("{password}\n").as_bytes()).map_err(file("write"))?;
    Ok(password)
}

fn open_if_there(path: &Path, password: &str) -> Result<Option<SecretKey>, KeysError> {
    let unread = |source| KeysError::File { action: "read", path: path.to_owned(), source };
    let Some(text) = read_or_none(path).map_err(unread)? else { return Ok(None) };
    let opened = Keystore::from_json(&text).and_then(|store| store.decrypt(password.as_bytes()));
    opened.map(Some).map_err(|source| KeysError::Keystore { path: path.to_owned(), source })
}

fn open_or_create(dir: &Path, name: &str, password: &str) -> Result<SecretKey, KeysError> {
    let path = dir.join(format!("{name}.json"));
    if let Some(key) = open_if_there(&path, password)? {
        return Ok(key);
    }
    let key = SecretKey::random(&mut OsRng);
    write(&path, &key, password)?;
    Ok(key)
}

fn write(path: &Path, key: &SecretKey, password: &str) -> Result<(), KeysError> {
    let keystore = |source| KeysError::Keystore { path: path.to_owned(), source };
    let encrypted = Keystore::encrypt(key, password.as_bytes(), Kdf::scrypt_light(), &mut OsRng);
    let text = encrypted.map_err(keystore)?.to_json();
    let unwritten = |source| KeysError::File { action: "write", path: path.to_owned(), source };
    create_private(path, text.as_bytes()).map_err(unwritten)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_the_same_and_a_wrong_password_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let first = Keys::open(dir.path()).unwrap();
        let again = Keys::open(dir.path()).unwrap();
        assert_eq!(first.payer.address(), again.payer.address());
        assert_eq!(first.workers[2].address(), again.workers[2].address());
        assert_ne!(first.workers[0].address(), first.workers[1].address());
        assert_eq!(Keys::existing(dir.path()).unwrap().faucet.address(), first.faucet.address());
        let payer = dir.path().join("payer.json");
        let text = fs::read(&payer).unwrap();
        fs::remove_file(&payer).unwrap();
        let error = Keys::existing(dir.path()).unwrap_err();
        assert!(matches!(&error, KeysError::Missing { path } if *path == payer), "{error}");
        assert!(!payer.exists(), "nothing is made in its place");
        fs::write(&payer, text).unwrap();
        fs::write(dir.path().join("password"), "another\n").unwrap();
        let error = Keys::open(dir.path()).unwrap_err();
        assert!(matches!(error, KeysError::Keystore { source: KeystoreError::WrongPassword, .. }), "{error}");
    }

    #[test]
    fn keys_that_are_there_already_are_kept_for_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let key = |n: u8| SecretKey::from_bytes(&[n; 32]).unwrap();
        let named = |n: u8| [("faucet".to_owned(), key(n)), ("validator-0".to_owned(), key(n + 1))];
        keep_keys(dir.path(), &named(1)).unwrap();
        let password = password(dir.path()).unwrap();
        let path = dir.path().join("validator-0.json");
        let opened = open_if_there(&path, &password).unwrap().unwrap();
        assert_eq!(opened.address(), key(2).address());
        #[cfg(unix)]
        for name in ["faucet.json", "validator-0.json", "password"] {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let before = fs::read(&path).unwrap();
        keep_keys(dir.path(), &named(1)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), before, "what is there stays");
        let error = keep_keys(dir.path(), &named(7)).unwrap_err();
        assert!(matches!(&error, KeysError::Other { found, .. } if *found == key(1).address()), "{error}");
    }
}
