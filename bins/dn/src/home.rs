//! Where files live, and the configuration file.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::CliError;

/// The configuration file of `dn`. Every key is optional; flags and environment variables beat it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Base URL of a ledger node's JSON-RPC.
    pub(crate) rpc: Option<String>,
    /// A block of the chain, as height:hash, from which answers are proven.
    pub(crate) trusted: Option<String>,
    /// Directory of keystore files.
    pub(crate) keystore_dir: Option<PathBuf>,
    /// GGUF file used where a command takes a model and none is named.
    pub(crate) model: Option<PathBuf>,
    /// Threads for inference.
    pub(crate) threads: Option<usize>,
    /// Data directory of `dn devnet`.
    pub(crate) devnet_dir: Option<PathBuf>,
}

impl Config {
    /// Reads the named file, or `dn.toml` in the configuration directory if there is one.
    pub(crate) fn read(named: Option<&Path>) -> Result<Self, CliError> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => match directory("XDG_CONFIG_HOME", ".config") {
                Some(path) => path.join("dn.toml"),
                None => return Ok(Self::default()),
            },
        };
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text)
                .map_err(|error| CliError::Config { path, reason: reason(&text, &error) }),
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(CliError::File { action: "read", path, source }),
        }
    }

    /// The keystore directory, unless a flag names another.
    pub(crate) fn keystore_dir(&self) -> PathBuf {
        self.keystore_dir.clone().unwrap_or_else(|| data_dir().join("keystore"))
    }
}

/// What is wrong and in which line. The line itself is not repeated: a file named by mistake may hold a secret.
fn reason(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map(|before| format!("line {}: ", before.matches('\n').count() + 1));
    format!("{}{}", line.unwrap_or_default(), error.message())
}

/// The directory for data: `DN_HOME`, or `deepnode` where the system keeps a user's data, or here.
pub(crate) fn data_dir() -> PathBuf {
    match env::var_os("DN_HOME") {
        Some(home) if !home.is_empty() => home.into(),
        _ => directory("XDG_DATA_HOME", ".local/share").unwrap_or_else(|| "deepnode".into()),
    }
}

fn directory(variable: &str, under_home: &str) -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set(variable).or_else(|| Some(set("HOME")?.join(under_home)))?;
    Some(base.join("deepnode"))
}

/// Reads a text file of at most `limit` bytes. A pipe or a device is read no further.
pub(crate) fn read_text(path: &Path, limit: usize) -> Result<String, CliError> {
    use std::io::Read;
    let (mut text, most) = (Vec::new(), limit as u64 + 1);
    let read = fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut text));
    read.map_err(CliError::file("read", path))?;
    if text.len() > limit {
        return Err(CliError::Other(format!("{} has more than {limit} bytes", path.display())));
    }
    String::from_utf8(text).map_err(|_| CliError::Other(format!("{} is not UTF-8", path.display())))
}

/// Creates a file that must not exist yet, readable by its owner only, with these contents, durably.
pub(crate) fn create_private(path: &Path, contents: &[u8]) -> Result<(), CliError> {
    use std::io::Write;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(CliError::file("create", parent))?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(CliError::file("create", path))?;
    file.write_all(contents).and_then(|()| file.sync_all()).map_err(CliError::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dn.toml");
        fs::write(&path, "rpcc = \"http://localhost\"\n").unwrap();
        let error = Config::read(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("rpcc") && error.contains("line 1"), "{error}");
        assert!(Config::read(Some(&dir.path().join("absent.toml"))).is_err());
        fs::write(&path, "\nhunter2 secret\n").unwrap();
        let error = Config::read(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_text_is_read_up_to_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        fs::write(&path, "é").unwrap();
        assert_eq!(read_text(&path, 2).unwrap(), "é");
        assert!(read_text(&path, 1).unwrap_err().to_string().contains("more than 1 bytes"));
        fs::write(&path, [0xff]).unwrap();
        assert!(read_text(&path, 2).unwrap_err().to_string().contains("not UTF-8"));
        #[cfg(unix)]
        assert!(read_text(Path::new("/dev/zero"), 100).is_err());
    }

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/key.json");
        create_private(&path, b"1").unwrap();
        assert!(create_private(&path, b"2").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"1");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
