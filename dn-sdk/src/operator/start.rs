//! Starting a role from its settings.

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dn_compute::{
    BackendKind, BatchOptions, ComputeSettingsError, Engine, EngineError, EngineOptions, Model, ModelError,
    ModelFront, available_memory,
};
use dn_core::keystore::{Keystore, KeystoreError};
use dn_core::{Amount, SecretKey};
use dn_ledger::node::{Node, NodeConfig, NodeError};
use dn_ledger::tx::{Payload, Role};
use dn_ledger::{Genesis, GenesisError};
use zeroize::Zeroizing;

use super::settings::{
    ApiKeySettings, DN, EMBEDDED, GatewaySettings, Trusted, ValidatorSettings, WorkerSettings,
};
use crate::gateway::{Gateway, GatewayConfig, GatewayError, ServedModel};
use crate::ledger::{LedgerClient, LedgerError};
use crate::validator::{AuditError, Auditor, AuditorConfig};
use crate::worker::{EngineExecutor, Worker, WorkerConfig, WorkerError};

/// How long a role waits for its ledger node to answer when it starts.
const LEDGER_PATIENCE: Duration = Duration::from_secs(60);

/// Why a role cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
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
    /// A keystore is refused.
    #[error("{}: {source}", path.display())]
    Keystore {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeystoreError,
    },
    /// A model file is refused.
    #[error("model {}: {source}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ModelError,
    },
    /// The genesis is refused.
    #[error("{}: {source}", path.display())]
    Genesis {
        /// The file.
        path: PathBuf,
        /// Why.
        source: GenesisError,
    },
    /// Settings of how to compute do not go together.
    #[error("{}: {source}", source.setting())]
    Compute {
        /// Which, and why.
        source: ComputeSettingsError,
    },
    /// The engine cannot run a model.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The ledger cannot be asked, or refuses.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The worker.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The gateway.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The auditor.
    #[error(transparent)]
    Auditor(#[from] AuditError),
    /// The key has no such role and the settings do not say how to register.
    #[error(
        "{address} is not registered as {role}; set `name` (and `collateral`) to register, or use `dn tx register`"
    )]
    NotRegistered {
        /// The key's address.
        address: dn_core::Address,
        /// The role.
        role: Role,
    },
}

/// Opens a keystore with the password in the first line of a file.
///
/// # Errors
/// [`OperatorError::File`] or [`OperatorError::Keystore`].
pub fn open_keystore(keystore: &Path, password_file: &Path) -> Result<SecretKey, OperatorError> {
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|source| OperatorError::File {
            action: "read",
            path: path.to_owned(),
            source,
        })
    };
    let text = read(keystore)?;
    let password = Zeroizing::new(read(password_file)?);
    let password = password.lines().next().unwrap_or_default();
    let opened = Keystore::from_json(&text).and_then(|keystore| keystore.decrypt(password.as_bytes()));
    opened.map_err(|source| OperatorError::Keystore { path: keystore.to_owned(), source })
}

/// Loads a GGUF file; `embedded` is the model inside this program.
///
/// # Errors
/// [`OperatorError::Model`].
pub fn load_model(path: &Path) -> Result<Arc<Model>, OperatorError> {
    let model = if path == Path::new(EMBEDDED) {
        Model::from_bytes(dn_compute::embedded::tiny_rust())
    } else {
        Model::load(path)
    };
    model.map(Arc::new).map_err(|source| OperatorError::Model { path: path.to_owned(), source })
}

fn engines(models: &[PathBuf], options: EngineOptions) -> Result<Vec<Arc<Engine>>, OperatorError> {
    let load = |path: &PathBuf| {
        let loaded = if path == Path::new(EMBEDDED) {
            Engine::load_bytes(dn_compute::embedded::tiny_rust(), options)
        } else {
            Engine::load(path, options)
        };
        loaded.map(Arc::new).map_err(|error| match error {
            EngineError::Model(source) => OperatorError::Model { path: path.clone(), source },
            other => other.into(),
        })
    };
    models.iter().map(load).collect()
}

/// A client of the ledger node that trusts what the settings name.
fn ledger_client(url: &str, trusted: Option<Trusted>) -> Result<LedgerClient, LedgerError> {
    match trusted {
        Some(Trusted(trusted)) => LedgerClient::trusting(url, trusted),
        None => LedgerClient::new(url),
    }
}

/// Waits until the ledger node answers, so that the processes of a network may start in any order.
async fn wait_for_ledger(ledger: &LedgerClient) -> Result<(), OperatorError> {
    let started = std::time::Instant::now();
    loop {
        match ledger.status().await {
            Ok(_) => return Ok(()),
            Err(LedgerError::Transport { .. }) if started.elapsed() < LEDGER_PATIENCE => {
                tracing::info!(url = ledger.url(), "waiting for the ledger");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Registers the key in a role unless it is already.
async fn register(
    ledger: &LedgerClient,
    key: &SecretKey,
    role: Role,
    name: Option<&str>,
    collateral: Option<DN>,
    endpoint: &str,
) -> Result<(), OperatorError> {
    let address = key.address();
    if ledger.identity(address, role).await?.is_some() {
        return Ok(());
    }
    let name = name.ok_or(OperatorError::NotRegistered { address, role })?.to_owned();
    let minimum = ledger.params().await?.collateral.of(role);
    let collateral = collateral.map_or(minimum, |DN(amount): DN| -> Amount { amount });
    ledger.submit(key, Payload::Register { role, collateral, name, endpoint: endpoint.to_owned() }).await?;
    Ok(())
}

/// A validator's parts.
#[derive(Debug)]
pub struct RunningValidator {
    /// The ledger node, if it runs here.
    pub node: Option<Node>,
    /// The auditor, if it audits.
    pub auditor: Option<Auditor>,
}

impl RunningValidator {
    /// Returns when a ledger node that runs here produces no more blocks, such as on a full disk.
    pub async fn broken(&self) {
        match &self.node {
            Some(node) => node.production_ended().await,
            None => std::future::pending().await,
        }
    }

    /// Stops after the audit that runs; no acknowledged transaction is lost.
    pub async fn shutdown(self) {
        if let Some(auditor) = self.auditor {
            auditor.shutdown().await;
        }
        if let Some(node) = self.node {
            node.shutdown().await;
        }
    }
}

/// Starts a validator.
///
/// # Errors
/// [`OperatorError`].
pub async fn start_validator(settings: &ValidatorSettings) -> Result<RunningValidator, OperatorError> {
    let key = open_keystore(&settings.keystore, &settings.password_file)?;
    let node = match &settings.genesis {
        None => None,
        Some(path) => {
            let text = fs::read_to_string(path);
            let text =
                text.map_err(|source| OperatorError::File { action: "read", path: path.clone(), source })?;
            let genesis = Genesis::from_json(&text)
                .map_err(|source| OperatorError::Genesis { path: path.clone(), source })?;
            let config = NodeConfig::alone(
                settings.data_dir.join("ledger"),
                genesis,
                settings.ledger_listen,
                key.clone(),
                settings.block_interval_ms,
            );
            let referee = Some(crate::referee::TileReferee::handle());
            Some(Node::start(NodeConfig { referee, ..config }).await?)
        }
    };
    let url =
        node.as_ref().map_or_else(|| settings.ledger.clone(), |node| format!("http://{}", node.rpc_addr()));
    let auditor = if settings.audit {
        let ledger = ledger_client(&url, settings.trusted)?;
        wait_for_ledger(&ledger).await?;
        let options = EngineOptions { threads: settings.threads, ..EngineOptions::default() };
        let engines = engines(&settings.models, options)?;
        let config = AuditorConfig::new(key, ledger, engines, settings.data_dir.join("auditor"));
        Some(Auditor::start(config).await?)
    } else {
        None
    };
    Ok(RunningValidator { node, auditor })
}

/// How a worker computes. A device's layers are shared out for all of its jobs at a time.
fn worker_options(settings: &WorkerSettings) -> Result<EngineOptions, OperatorError> {
    let mut options = settings.compute().options().map_err(|source| OperatorError::Compute { source })?;
    if matches!(options.backend, BackendKind::Wgpu | BackendKind::Cuda) {
        options.work.requests = settings.slots.max(1).into();
        let device = options.adapter.unwrap_or("the best");
        tracing::info!(backend = %options.backend, device, "computing on a device");
    }
    Ok(options)
}

/// Starts a worker: registers it and offers its models where that has not happened yet.
///
/// # Errors
/// [`OperatorError`].
pub async fn start_worker(settings: &WorkerSettings) -> Result<Worker, OperatorError> {
    let key = open_keystore(&settings.keystore, &settings.password_file)?;
    let engines = engines(&settings.models, worker_options(settings)?)?;
    let ledger = ledger_client(&settings.ledger, settings.trusted)?;
    wait_for_ledger(&ledger).await?;
    register(&ledger, &key, Role::Worker, settings.name.as_deref(), settings.collateral, "").await?;
    for engine in &engines {
        let model = engine.model().id();
        if let Some(device) = engine.unused_device() {
            tracing::warn!(%model, device, "the CPU computes all of this model: the device has room for none of its layers, or is to have none");
        }
        match ledger.model(model).await? {
            Some(_) => {
                ledger.ensure_offer(&key, model, settings.min_price()).await?;
            }
            None => tracing::warn!(%model, "this model is not published; nobody can ask for it yet"),
        }
    }
    let defaults = BatchOptions::default();
    let options = BatchOptions {
        slots: NonZeroUsize::new(settings.slots.into()).unwrap_or(defaults.slots),
        // What the weights leave, halved: the rest is the prefix cache's, the ledger's and the system's.
        kv_bytes: available_memory().map_or(defaults.kv_bytes, |free| free / 2),
        prefix_cache_bytes: available_memory()
            .map_or(defaults.prefix_cache_bytes, |free| defaults.prefix_cache_bytes.min(free / 8)),
        ..defaults
    };
    let executor = Arc::new(EngineExecutor::with_options(engines, options));
    let gateways = settings.gateways.clone();
    let mut config = WorkerConfig::new(key, ledger, gateways, executor, &settings.data_dir);
    config.slots = settings.slots;
    config.min_price = settings.min_price();
    config.batch_interval = Duration::from_millis(settings.batch_interval_ms);
    Ok(Worker::start(config).await?)
}

/// Starts a gateway: registers it and gives out its API keys where that has not happened yet.
///
/// # Errors
/// [`OperatorError`].
pub async fn start_gateway(settings: &GatewaySettings) -> Result<Gateway, OperatorError> {
    let key = open_keystore(&settings.keystore, &settings.password_file)?;
    let ledger = ledger_client(&settings.ledger, settings.trusted)?;
    wait_for_ledger(&ledger).await?;
    let url = settings.public_url.clone().unwrap_or_else(|| format!("http://{}", settings.listen));
    register(&ledger, &key, Role::Gateway, settings.name.as_deref(), settings.collateral, &url).await?;
    let models = settings.models.iter().map(|path| {
        // The id covers the weights, so the whole file is read once; only the front is kept.
        let model = load_model(path)?;
        let front: Arc<ModelFront> = model.front().clone();
        Ok::<_, OperatorError>(ServedModel { id: model.id(), front })
    });
    let models = models.collect::<Result<Vec<_>, _>>()?;
    let config = GatewayConfig::new(key, settings.listen, ledger, &settings.data_dir, models);
    let gateway = Gateway::start(config).await?;
    for api_key in &settings.api_keys {
        give_out(&gateway, api_key).await?;
    }
    Ok(gateway)
}

/// Makes an API key and writes its text to its file, unless a key of this gateway lies there.
async fn give_out(gateway: &Gateway, api_key: &ApiKeySettings) -> Result<(), OperatorError> {
    match fs::read_to_string(&api_key.file) {
        Ok(text) if gateway.knows_key(text.trim()).await? => return Ok(()),
        Ok(_) => {
            tracing::warn!(file = %api_key.file.display(), "replacing an API key that this gateway does not know");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => {
            return Err(OperatorError::File { action: "read", path: api_key.file.clone(), source });
        }
    }
    let spender = open_keystore(&api_key.spender_keystore, &api_key.password_file)?;
    let text = gateway.add_key(api_key.channel, &spender, &api_key.label).await?;
    crate::devnet::create_private(&api_key.file, format!("{text}\n").as_bytes())
        .map_err(|source| OperatorError::File { action: "write", path: api_key.file.clone(), source })
}

/// Returns when the process is asked to stop: SIGTERM, or Ctrl-C.
pub async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    // Without handlers the system's default applies, which stops the process just as well.
    let _ = tokio::signal::ctrl_c().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::layered;

    /// The same words as `dn` has for them, with the setting's name before.
    #[test]
    fn what_a_worker_cannot_combine_is_named() {
        let base = "keystore = \"w\"\npassword_file = \"p\"\ndata_dir = \"d\"\ngateways = []\nslots = 5\n";
        let with = |more: &str| {
            let table: toml::Table = format!("{base}{more}").parse().unwrap();
            worker_options(&layered::<WorkerSettings>(None, &table).unwrap())
        };
        for (bad, expected) in [
            ("adapter = \"x\"", "adapter: only the backends wgpu and cuda"),
            ("backend = \"cpu\"\ngpu_layers = 1", "gpu_layers: only the backends wgpu and cuda"),
            ("backend = \"auto\"\ndevice_memory = \"1G\"", "device_memory: only the backends wgpu and cuda"),
        ] {
            let error = with(bad).unwrap_err();
            assert!(matches!(error, OperatorError::Compute { .. }), "{error:?}");
            assert!(error.to_string().starts_with(expected), "{error}");
        }
        let on = |backend| with(&format!("backend = \"{backend}\"")).unwrap();
        assert_eq!((on("cuda").backend, on("cuda").work.requests), (BackendKind::Cuda, 5));
        // The CPU takes memory as it goes.
        assert_eq!(on("cpu").work, EngineOptions::default().work);
    }
}
