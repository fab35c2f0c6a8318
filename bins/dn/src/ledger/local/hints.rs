//! What a user of a local network needs to go on: the keys of its accounts, a first transaction, how a validator starts again.

use std::path::{Path, PathBuf};

use super::{Processes, faucet, key};
use crate::error::CliError;

/// Where the keystores are, in the network's directory.
fn keys_dir(dir: &Path) -> PathBuf {
    dir.join("keys")
}

/// Keeps the keys of the faucet and the validators as keystores, with their password beside them, for `dn tx` and `dn ledger run`.
pub(super) fn keep_keys(dir: &Path, validators: usize) -> Result<(), CliError> {
    let validators = (0..validators).map(|index| (format!("validator-{index}"), key(index)));
    let keys: Vec<_> = std::iter::once(("faucet".to_owned(), faucet())).chain(validators).collect();
    Ok(dn_sdk::devnet::keep_keys(&keys_dir(dir), &keys)?)
}

/// Lines for a shell, of a network that runs.
pub(super) struct Hints<'a> {
    pub(super) dir: &'a Path,
    pub(super) interval_ms: u64,
}

impl Hints<'_> {
    /// Where the keystores are.
    pub(super) fn keys(&self) -> PathBuf {
        keys_dir(self.dir)
    }

    /// The arguments that open a key.
    fn key(&self, name: &str) -> String {
        let keys = self.keys();
        let (key, password) = (keys.join(format!("{name}.json")), keys.join("password"));
        format!("--key {} --password-file {}", shell(&key), shell(&password))
    }

    /// A transfer from the faucet to the first validator.
    pub(super) fn first_tx(&self, network: &Processes) -> String {
        let (rpc, key, to) = (&network.rpc[0], self.key("faucet"), key(0).address());
        format!("dn tx --rpc {rpc} {key} transfer {to} 1")
    }

    /// What starts a validator again where it was, when its process has ended.
    pub(super) fn restart(&self, network: &Processes, index: usize) -> String {
        let name = format!("validator-{index}");
        let (genesis, data) = (shell(&self.dir.join("genesis.json")), shell(&self.dir.join(&name)));
        let rpc = network.rpc[index].trim_start_matches("http://");
        let mut line = format!("dn ledger run --genesis {genesis} --data-dir {data} {}", self.key(&name));
        line.push_str(&format!(" --interval-ms {} --rpc-listen {rpc}", self.interval_ms));
        line.push_str(&format!(" --listen {}", network.listen[index]));
        for (_, peer) in network.listen.iter().enumerate().filter(|(other, _)| *other != index) {
            line.push_str(&format!(" --peer {peer}"));
        }
        line
    }
}

/// A path as a shell reads it as one word.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_ready_for_a_shell() {
        let listen = [7001, 7002, 7003].map(|port| ([127, 0, 0, 1], port).into()).to_vec();
        let rpc = [8001, 8002, 8003].map(|port| format!("http://127.0.0.1:{port}")).to_vec();
        let network = Processes { processes: Vec::new(), rpc, listen };
        let hints = Hints { dir: Path::new("my net"), interval_ms: 100 };
        assert_eq!(
            hints.restart(&network, 1),
            "dn ledger run --genesis 'my net/genesis.json' --data-dir 'my net/validator-1' \
             --key 'my net/keys/validator-1.json' --password-file 'my net/keys/password' --interval-ms 100 \
             --rpc-listen 127.0.0.1:8002 --listen 127.0.0.1:7002 --peer 127.0.0.1:7001 --peer 127.0.0.1:7003"
        );
        let to = key(0).address();
        assert_eq!(
            hints.first_tx(&network),
            format!(
                "dn tx --rpc http://127.0.0.1:8001 --key 'my net/keys/faucet.json' --password-file 'my net/keys/password' \
                 transfer {to} 1"
            )
        );
        assert_eq!(shell(Path::new("it's")), r"'it'\''s'");
    }
}
