//! Starting and stopping a whole network.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dn_compute::{Engine, EngineOptions, Model};
use dn_core::{ChannelId, ModelId, ReceiptId};
use dn_ledger::Genesis;
use dn_ledger::node::{Node, NodeConfig};

use super::cheat::CheatingExecutor;
use super::error::{DevnetError, DevnetFailure};
use super::home::Home;
use super::keys::{Keys, keys};
use super::parts::{set_up, start_auditors, start_gateway, start_workers};
use super::roster::{CHAIN_ID, Roster, first_channel, genesis};
use crate::gateway::Gateway;
use crate::ledger::LedgerClient;
use crate::validator::Auditor;
use crate::worker::Worker;

/// How long a network may take to come up.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The model of a local network.
#[derive(Debug, Clone)]
pub struct DevnetModel {
    /// The name that calls use.
    pub name: String,
    /// The model.
    pub model: Arc<Model>,
}

/// What a local network is made of.
#[derive(Debug, Clone)]
pub struct DevnetConfig {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where the gateway listens; port 0 takes a free one, which stays the network's from then on.
    pub listen: SocketAddr,
    /// Where the ledger node answers; port 0 takes a free one.
    pub ledger_listen: SocketAddr,
    /// The model that the workers run.
    pub model: DevnetModel,
    /// How the model is computed.
    pub engine: EngineOptions,
    /// Time between blocks.
    pub block_interval: Duration,
    /// How often workers settle.
    pub batch_interval: Duration,
    /// Weights in fewer bits for the last worker, which then cheats when it is told to.
    pub cheaper: Option<Arc<Model>>,
}

impl DevnetConfig {
    /// A network in this directory with four blocks a second, on the usual ports.
    pub fn new(data_dir: impl Into<PathBuf>, model: DevnetModel) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            ledger_listen: SocketAddr::from(([127, 0, 0, 1], 8090)),
            model,
            engine: EngineOptions::default(),
            block_interval: Duration::from_millis(250),
            batch_interval: Duration::from_secs(2),
            cheaper: None,
        }
    }
}

/// A running network. Dropping it stops it at once; [`shutdown`](Self::shutdown) lets calls end first.
#[derive(Debug)]
pub struct Devnet {
    keys: Keys,
    roster: Roster,
    genesis: Genesis,
    model: ModelId,
    model_name: String,
    engine: Arc<Engine>,
    channel: ChannelId,
    api_key: String,
    ledger: LedgerClient,
    cheater: Option<Arc<CheatingExecutor>>,
    workers: Vec<Worker>,
    auditors: Vec<Auditor>,
    gateway: Gateway,
    node: Node,
    home: Home,
}

impl Devnet {
    /// Starts everything, or goes on where the directory's network stopped.
    ///
    /// # Errors
    /// [`DevnetError`].
    pub async fn start(config: DevnetConfig) -> Result<Self, DevnetError> {
        let home = Home::open(&config.data_dir)?;
        let keys = keys(&home)?;
        let listen = gateway_address(&home, config.listen)?;
        let wanted = format!("http://{listen}");
        let genesis = home.genesis(CHAIN_ID, || genesis(&keys, &wanted, crate::clock::now_ms()))?;
        let registered =
            genesis.identities.iter().find(|identity| identity.address == keys.gateway.address());
        if let Some(identity) = registered.filter(|identity| identity.endpoint != wanted) {
            return Err(DevnetError::GatewayMoved { registered: identity.endpoint.clone(), wanted });
        }
        let alone = NodeConfig::alone(
            home.join("ledger"),
            genesis.clone(),
            config.ledger_listen,
            keys.validators[0].clone(),
            config.block_interval.as_millis() as u64,
        );
        let node =
            Node::start(NodeConfig { referee: Some(crate::referee::TileReferee::handle()), ..alone }).await?;
        let ledger_url = format!("http://{}", node.rpc_addr());
        let ledger = LedgerClient::new(&ledger_url)?;
        let engine = Arc::new(Engine::new(config.model.model.clone(), config.engine)?);
        let model = engine.model().id();
        set_up(&ledger_url, &keys, &engine, &config.model.name).await?;

        let channel = first_channel(&keys);
        let gateway = start_gateway(&home, &keys, listen, &ledger, &engine).await?;
        let api_key = match home.read("api-key")? {
            Some(text) if gateway.knows_key(text.trim()).await? => text.trim().to_owned(),
            _ => {
                let text = gateway.add_key(channel, &keys.spender, "devnet").await?;
                home.write("api-key", &format!("{text}\n"))?;
                text
            }
        };
        let cheater = match &config.cheaper {
            None => None,
            Some(cheaper) => {
                let cheaper = Arc::new(Engine::new(cheaper.clone(), config.engine)?);
                Some(Arc::new(CheatingExecutor::new(engine.clone(), cheaper)))
            }
        };
        let workers = start_workers(&home, &keys, &ledger_url, &gateway, &engine, &cheater, &config).await?;
        let auditors = start_auditors(&home, &keys, &ledger_url, &engine, &config).await?;
        let devnet = Self {
            roster: Roster::new(&keys),
            keys,
            genesis,
            model,
            model_name: config.model.name,
            engine,
            channel,
            api_key,
            ledger,
            cheater,
            workers,
            auditors,
            gateway,
            node,
            home,
        };
        devnet.wait_until_ready().await?;
        Ok(devnet)
    }

    async fn wait_until_ready(&self) -> Result<(), DevnetError> {
        let expected = self.workers.len();
        until("all workers being connected to the gateway", START_TIMEOUT, || async {
            Ok((self.gateway.status().workers.len() >= expected).then_some(()))
        })
        .await
    }

    /// The base URL for clients of the OpenAI API: ends with `/v1`.
    pub fn base_url(&self) -> String {
        format!("{}/v1", self.gateway.url())
    }

    /// The gateway's URL.
    pub fn gateway_url(&self) -> String {
        self.gateway.url()
    }

    /// The API key, bound to the payer's channel.
    pub fn api_key(&self) -> &str {
        &self.api_key
    }

    /// The name of the model that calls use.
    pub fn model_name(&self) -> &str {
        &self.model_name
    }

    /// The model.
    pub const fn model(&self) -> ModelId {
        self.model
    }

    /// Runs the model, as workers and auditors do.
    pub const fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The payer's channel.
    pub const fn channel(&self) -> ChannelId {
        self.channel
    }

    /// Asks the ledger node.
    pub const fn ledger(&self) -> &LedgerClient {
        &self.ledger
    }

    /// Everybody who takes part.
    pub const fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Everybody's keys.
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Where the chain started.
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// A receipt with its request and output, as the gateway hands it to whoever paid for it.
    ///
    /// # Errors
    /// [`DevnetError::Http`].
    pub async fn receipt_json(&self, id: ReceiptId) -> Result<String, DevnetError> {
        let url = format!("{}/receipts/{id}", self.base_url());
        let answer = reqwest::Client::new().get(url).bearer_auth(&self.api_key).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// The directory.
    pub const fn home(&self) -> &Home {
        &self.home
    }

    /// The gateway.
    pub const fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// The workers; the last one is the cheat, where there is one.
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// The auditing validators.
    pub fn auditors(&self) -> &[Auditor] {
        &self.auditors
    }

    /// The last worker's executor, where it may cheat.
    pub const fn cheater(&self) -> Option<&Arc<CheatingExecutor>> {
        self.cheater.as_ref()
    }

    /// Returns when a part can no longer work, such as on a full disk, and says which. A network that is started again goes on.
    pub async fn broken(&self) -> DevnetFailure {
        let workers = self.workers.iter().map(|worker| Box::pin(worker.broken()));
        tokio::select! {
            () = self.node.production_ended() => DevnetFailure::Ledger,
            (failure, ..) = futures_util::future::select_all(workers) => DevnetFailure::Worker(failure),
        }
    }

    /// Lets running calls end and stops everything. The workers go first: they take no more jobs, and the gateway still
    /// delivers what they finish.
    pub async fn shutdown(self) {
        futures_util::future::join_all(self.workers.into_iter().map(Worker::shutdown)).await;
        self.gateway.shutdown().await;
        futures_util::future::join_all(self.auditors.into_iter().map(Auditor::shutdown)).await;
        self.node.shutdown().await;
    }
}

/// Polls until there is a value, at most for this long.
pub(super) async fn until<T, F>(
    what: &'static str,
    limit: Duration,
    mut poll: impl FnMut() -> F,
) -> Result<T, DevnetError>
where
    F: Future<Output = Result<Option<T>, DevnetError>>,
{
    let started = Instant::now();
    loop {
        if let Some(value) = poll().await? {
            return Ok(value);
        }
        if started.elapsed() > limit {
            return Err(DevnetError::Timeout { what, waited: limit });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The gateway's address, with the port that this network has taken once and for all.
fn gateway_address(home: &Home, wanted: SocketAddr) -> Result<SocketAddr, DevnetError> {
    let listening = |addr| move |source| DevnetError::Listen { what: "gateway", addr, source };
    let stored = home.read("gateway-port")?.and_then(|text| text.trim().parse::<u16>().ok());
    let addr = match (wanted.port(), stored) {
        (0, Some(port)) => SocketAddr::new(wanted.ip(), port),
        _ => wanted,
    };
    // Bound and let go: the genesis names the port before the gateway runs.
    let bound =
        TcpListener::bind(addr).and_then(|listener| listener.local_addr()).map_err(listening(addr))?;
    if stored.is_none() {
        home.write("gateway-port", &format!("{}\n", bound.port()))?;
    }
    Ok(bound)
}
