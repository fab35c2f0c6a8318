//! Settings of the role programs. Flags beat environment variables beat the file beat defaults.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use dn_compute::{BackendChoice, BackendKind, ByteSize, ComputeSettings, devices};
use dn_core::objects::Price;
use dn_core::{Amount, ChannelId};
use dn_ledger::light::{ParseTrustedError, TrustedHash};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{}: {}", path.display(), source.to_string().trim_end())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: toml::de::Error,
    },
    /// A setting is missing, unknown or of another type.
    #[error("settings ({}): {}", origin(from.as_deref()), source.message())]
    Field {
        /// The file, if there was one.
        from: Option<PathBuf>,
        /// Which, and what is wrong.
        source: toml::de::Error,
    },
    /// The flags have no TOML form.
    #[error("flags: {source}")]
    Flags {
        /// Why.
        source: toml::ser::Error,
    },
}

fn origin(file: Option<&Path>) -> String {
    file.map_or_else(
        || "flags and environment; --config FILE names a file with settings".to_owned(),
        |path| format!("flags, environment and {}", path.display()),
    )
}

/// Settings that a file may hold.
pub trait Settings: DeserializeOwned {
    /// Keys whose values are paths; relative ones are relative to the file that names them.
    const PATHS: &'static [&'static str];
}

/// The settings of a file with others laid over it: whatever `over` holds wins.
///
/// # Errors
/// [`SettingsError`].
pub fn layered<S: Settings>(file: Option<&Path>, over: &impl Serialize) -> Result<S, SettingsError> {
    let mut table = match file {
        None => Table::new(),
        Some(path) => {
            let read = |source| SettingsError::Read { path: path.to_owned(), source };
            let syntax = |source| SettingsError::Syntax { path: path.to_owned(), source };
            let mut table: Table = fs::read_to_string(path).map_err(read)?.parse().map_err(syntax)?;
            anchor(&mut table, S::PATHS, path.parent().unwrap_or(Path::new("")));
            table
        }
    };
    table.extend(Table::try_from(over).map_err(|source| SettingsError::Flags { source })?);
    let from = file.map(Path::to_owned);
    S::deserialize(Value::Table(table)).map_err(|source| SettingsError::Field { from, source })
}

/// Makes relative paths relative to a directory, in nested tables too.
fn anchor(table: &mut Table, keys: &[&str], dir: &Path) {
    for (key, value) in table.iter_mut() {
        match value {
            Value::Table(inner) => anchor(inner, keys, dir),
            Value::Array(items) if keys.contains(&key.as_str()) => {
                items.iter_mut().for_each(|item| anchor_value(item, dir));
            }
            Value::Array(items) => {
                items.iter_mut().filter_map(Value::as_table_mut).for_each(|inner| anchor(inner, keys, dir));
            }
            value if keys.contains(&key.as_str()) => anchor_value(value, dir),
            _ => {}
        }
    }
}

fn anchor_value(value: &mut Value, dir: &Path) {
    if let Value::String(text) = value
        && text != EMBEDDED
    {
        *text = dir.join(&*text).to_string_lossy().into_owned();
    }
}

/// The name of the model inside the program, where a file is expected otherwise.
pub(super) const EMBEDDED: &str = "embedded";

/// An amount that settings write as decimal DN, such as `"250"` or `"0.5"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DN(pub Amount);

impl Serialize for DN {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DN {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map(Self).map_err(D::Error::custom)
    }
}

impl std::str::FromStr for DN {
    type Err = dn_core::amount::ParseAmountError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A block to trust, written as `HEIGHT:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trusted(pub TrustedHash);

impl Serialize for Trusted {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Trusted {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map(Self).map_err(D::Error::custom)
    }
}

impl std::str::FromStr for Trusted {
    type Err = ParseTrustedError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

fn embedded() -> Vec<PathBuf> {
    vec![EMBEDDED.into()]
}

/// A worker's bond hangs on every bit: it computes on a device when its operator says so.
fn cpu() -> BackendChoice {
    BackendChoice::Named(BackendKind::Cpu)
}

fn two() -> u16 {
    2
}

fn ledger_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8090))
}

fn gateway_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

fn block_interval_ms() -> u64 {
    500
}

fn batch_interval_ms() -> u64 {
    5_000
}

fn local_ledger() -> String {
    "http://127.0.0.1:8090".to_owned()
}

fn yes() -> bool {
    true
}

/// Settings of a validator: keeps a ledger node, audits, or both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidatorSettings {
    /// Keystore file of the validator's key.
    pub keystore: PathBuf,
    /// File with the keystore's password in its first line.
    pub password_file: PathBuf,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Genesis file. With it this program runs a ledger node and produces blocks; without it `ledger` is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<PathBuf>,
    /// Where the ledger node answers JSON-RPC.
    #[serde(default = "ledger_listen")]
    pub ledger_listen: SocketAddr,
    /// Milliseconds between blocks.
    #[serde(default = "block_interval_ms")]
    pub block_interval_ms: u64,
    /// URL of the ledger node to ask when there is none here.
    #[serde(default = "local_ledger")]
    pub ledger: String,
    /// A block of the chain to trust, as `HEIGHT:HASH`: what the ledger node says has to follow from it. Without it the first block
    /// that the node shows is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted: Option<Trusted>,
    /// Whether to audit.
    #[serde(default = "yes")]
    pub audit: bool,
    /// GGUF files of the models that can be replayed; `embedded` is the one in this program.
    #[serde(default = "embedded")]
    pub models: Vec<PathBuf>,
    /// Threads for replays; without it one per core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<std::num::NonZeroUsize>,
}

impl Settings for ValidatorSettings {
    const PATHS: &'static [&'static str] = &["keystore", "password_file", "data_dir", "genesis", "models"];
}

/// Settings of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerSettings {
    /// Keystore file of the worker's key.
    pub keystore: PathBuf,
    /// File with the keystore's password in its first line.
    pub password_file: PathBuf,
    /// Where receipts wait for their batch.
    pub data_dir: PathBuf,
    /// URL of a ledger node.
    #[serde(default = "local_ledger")]
    pub ledger: String,
    /// A block of the chain to trust, as `HEIGHT:HASH`: what the ledger node says has to follow from it. Without it the first block
    /// that the node shows is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted: Option<Trusted>,
    /// URLs of the gateways to serve.
    pub gateways: Vec<String>,
    /// GGUF files of the models to run; `embedded` is the one in this program.
    #[serde(default = "embedded")]
    pub models: Vec<PathBuf>,
    /// Jobs at a time.
    #[serde(default = "two")]
    pub slots: u16,
    /// The least DN for a prompt token that it works for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_prompt_price: Option<DN>,
    /// The least DN for a generated token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_output_price: Option<DN>,
    /// Milliseconds between batches.
    #[serde(default = "batch_interval_ms")]
    pub batch_interval_ms: u64,
    /// Threads for inference; without it one per core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<std::num::NonZeroUsize>,
    /// How to compute: `cpu`, `wgpu`, `cuda`, `reference`, or `auto`, the fastest that is right.
    #[serde(default = "cpu")]
    pub backend: BackendChoice,
    /// Device of the backend wgpu or cuda, by a part of its name; without it the best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// How many of a model's first layers the device computes, the CPU the rest; without it as many as its memory takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_layers: Option<u32>,
    /// How much of the device's memory each model may use, such as `"6G"`; without it what the driver says there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_memory: Option<ByteSize>,
    /// Registers under this name if the key is not registered as a worker yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The bond to register with; without it the smallest that the chain takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collateral: Option<DN>,
}

impl WorkerSettings {
    /// The least that it works for.
    pub fn min_price(&self) -> Price {
        let amount = |price: Option<DN>| price.map_or(Amount::ZERO, |DN(amount)| amount);
        Price { prompt_token: amount(self.min_prompt_price), output_token: amount(self.min_output_price) }
    }

    /// How it computes.
    pub fn compute(&self) -> ComputeSettings {
        ComputeSettings {
            backend: self.backend,
            adapter: self.adapter.clone(),
            gpu_layers: self.gpu_layers,
            device_memory: self.device_memory,
            threads: self.threads,
            cache: devices::user_cache(),
            ..ComputeSettings::default()
        }
    }
}

impl Settings for WorkerSettings {
    const PATHS: &'static [&'static str] = &["keystore", "password_file", "data_dir", "models"];
}

/// Settings of a gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewaySettings {
    /// Keystore file of the gateway's key.
    pub keystore: PathBuf,
    /// File with the keystore's password in its first line.
    pub password_file: PathBuf,
    /// Where keys, vouchers and receipts are kept.
    pub data_dir: PathBuf,
    /// URL of a ledger node.
    #[serde(default = "local_ledger")]
    pub ledger: String,
    /// A block of the chain to trust, as `HEIGHT:HASH`: what the ledger node says has to follow from it. Without it the first block
    /// that the node shows is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted: Option<Trusted>,
    /// Where to serve the API.
    #[serde(default = "gateway_listen")]
    pub listen: SocketAddr,
    /// GGUF files of the models to serve; only their tokenizers and templates are used.
    #[serde(default = "embedded")]
    pub models: Vec<PathBuf>,
    /// Registers under this name if the key is not registered as a gateway yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The URL under which auditors reach this gateway; without it the address it listens on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// The bond to register with; without it the smallest that the chain takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collateral: Option<DN>,
    /// API keys to give out.
    #[serde(default)]
    pub api_keys: Vec<ApiKeySettings>,
}

impl Settings for GatewaySettings {
    const PATHS: &'static [&'static str] =
        &["keystore", "password_file", "data_dir", "models", "spender_keystore", "file"];
}

/// An API key that spends from a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeySettings {
    /// A name for the operator.
    pub label: String,
    /// The channel, once it is open.
    pub channel: ChannelId,
    /// Keystore file of the channel's spending key.
    pub spender_keystore: PathBuf,
    /// File with that keystore's password in its first line.
    pub password_file: PathBuf,
    /// Where the key's text is written, once; an existing file means that the key was given out.
    pub file: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_beat_the_file_and_its_paths_are_its_neighbours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker.toml");
        let text = "keystore = \"w.json\"\npassword_file = \"/p\"\ndata_dir = \"d\"\ngateways = [\"http://a\"]\n\
            slots = 3\nmodels = [\"embedded\", \"m.gguf\"]\ncollateral = \"0.5\"\n";
        fs::write(&path, text).unwrap();
        let over: Table = "slots = 5".parse().unwrap();
        let settings: WorkerSettings = layered(Some(&path), &over).unwrap();
        assert_eq!(settings.slots, 5);
        assert_eq!(settings.keystore, dir.path().join("w.json"));
        assert_eq!(settings.password_file, Path::new("/p"));
        assert_eq!(settings.models, [PathBuf::from("embedded"), dir.path().join("m.gguf")]);
        assert_eq!(settings.ledger, "http://127.0.0.1:8090");
        assert_eq!(settings.collateral, Some(DN("0.5".parse().unwrap())));
    }

    #[test]
    fn a_trusted_block_is_read_or_refused_by_name() {
        let base = "keystore = \"w\"\npassword_file = \"p\"\ndata_dir = \"d\"\ngateways = []\n";
        let hash = format!("0x{}", "ab".repeat(32));
        let over: Table = format!("{base}trusted = \"7:{hash}\"").parse().unwrap();
        let settings: WorkerSettings = layered(None, &over).unwrap();
        let trusted = settings.trusted.unwrap();
        assert_eq!((trusted.0.height, trusted.0.to_string()), (7, format!("7:{hash}")));
        // What is written is read again.
        let again: WorkerSettings = layered(None, &settings).unwrap();
        assert_eq!(again, settings);
        for bad in ["7", "7:0xab", "tip:0x00"] {
            let over: Table = format!("{base}trusted = \"{bad}\"").parse().unwrap();
            let error = layered::<WorkerSettings>(None, &over).unwrap_err().to_string();
            assert!(error.contains(bad) && error.contains("height"), "{error}");
        }
    }

    #[test]
    fn how_a_worker_computes_is_read_or_refused_by_name() {
        let base = "keystore = \"w\"\npassword_file = \"p\"\ndata_dir = \"d\"\ngateways = []\n";
        let read = |more: &str| {
            let over: Table = format!("{base}{more}").parse().unwrap();
            layered::<WorkerSettings>(None, &over).map_err(|error| error.to_string())
        };
        // Without a word it is the CPU, whatever devices there are.
        let options = read("").unwrap().compute().options().unwrap();
        assert_eq!((options.backend, options.threads), (BackendKind::Cpu, None));
        let all =
            "backend = \"cuda\"\nadapter = \"H200\"\ngpu_layers = 7\ndevice_memory = \"6G\"\nthreads = 3";
        let settings = read(all).unwrap();
        assert_eq!(
            layered::<WorkerSettings>(None, &settings).unwrap(),
            settings,
            "what is written is read again"
        );
        let options = settings.compute().options().unwrap();
        assert_eq!((options.backend, options.adapter), (BackendKind::Cuda, Some("H200")));
        assert_eq!((options.device_layers, options.device_memory), (Some(7), Some(6 << 30)));
        assert_eq!(options.threads, std::num::NonZeroUsize::new(3));
        let bytes = read("backend = \"wgpu\"\ndevice_memory = 1000000").unwrap();
        assert_eq!(bytes.device_memory, Some(ByteSize(1_000_000)));
        for (bad, expected) in [
            ("backend = \"gpu\"", "auto, cpu, reference, wgpu or cuda"),
            ("backend = 1", "expected a string"),
            ("device_memory = \"6 GB\"", "`6 GB` is no number of bytes"),
            ("device_memory = -1", "`-1` is no number of bytes"),
            ("gpu_layers = -1", "-1"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(expected), "{bad}: {error}");
        }
    }

    #[test]
    fn unknown_and_missing_settings_are_named() {
        let unknown: Table = "slotz = 5".parse().unwrap();
        let error = layered::<WorkerSettings>(None, &unknown).unwrap_err().to_string();
        assert!(error.contains("slotz"), "{error}");
        let error = layered::<WorkerSettings>(None, &Table::new()).unwrap_err().to_string();
        assert!(error.contains("keystore"), "{error}");
    }
}
