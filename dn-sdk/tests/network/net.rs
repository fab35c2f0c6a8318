//! A whole network on loopback: a ledger node, a gateway, workers that run the embedded model, auditors.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dn_compute::{Engine, EngineOptions, Model};
use dn_core::objects::Price;
use dn_core::{Amount, ChannelId, ModelId, SecretKey};
use dn_ledger::genesis::{Devnet, DevnetValidator, Genesis};
use dn_ledger::node::{Node, NodeConfig, free_addrs};
use dn_ledger::params::Params;
use dn_ledger::tx::{Payload, Role, channel_id};
use dn_sdk::client::Client;
use dn_sdk::gateway::{Gateway, GatewayConfig, ServedModel};
use dn_sdk::ledger::LedgerClient;
use dn_sdk::store::StoreError;
use dn_sdk::validator::{Auditor, AuditorConfig};
use dn_sdk::worker::{EngineExecutor, Executor, Worker, WorkerConfig, WorkerError};
use tempfile::TempDir;

pub(crate) const CHAIN: u64 = 31_337;
pub(crate) const MODEL: &str = "tiny-rust";

pub(crate) fn price() -> Price {
    Price { prompt_token: Amount::from_atto(10u128.pow(12)), output_token: Amount::from_atto(10u128.pow(14)) }
}

/// A key for each actor.
pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32]).unwrap()
}

pub(crate) const OWNER: u8 = 1;
pub(crate) const GATEWAY: u8 = 2;
pub(crate) const PAYER: u8 = 3;
pub(crate) const SPENDER: u8 = 4;
pub(crate) const SESSION: u8 = 5;
pub(crate) const WORKER: u8 = 10;
pub(crate) const VALIDATOR: u8 = 20;

/// The embedded model's engine, shared by everybody in the process.
pub(crate) fn engine() -> Arc<Engine> {
    static ENGINE: OnceLock<Arc<Engine>> = OnceLock::new();
    let make = || {
        let model = Model::from_bytes(dn_compute::embedded::tiny_rust()).unwrap();
        let options = EngineOptions { threads: std::num::NonZeroUsize::new(1), ..EngineOptions::default() };
        Arc::new(Engine::new(Arc::new(model), options).unwrap())
    };
    ENGINE.get_or_init(make).clone()
}

pub(crate) fn model_id() -> ModelId {
    engine().model().id()
}

pub(crate) struct Net {
    pub(crate) dir: TempDir,
    _node: Node,
    pub(crate) ledger: LedgerClient,
    pub(crate) gateway: Option<Gateway>,
    pub(crate) listen: SocketAddr,
    pub(crate) channel: ChannelId,
    pub(crate) api_key: String,
    pub(crate) http: reqwest::Client,
}

fn genesis() -> Genesis {
    let actors = [OWNER, GATEWAY, PAYER, WORKER, WORKER + 1, WORKER + 2];
    let funded = actors.map(|n| (key(n).address(), Amount::from_dn(10_000))).to_vec();
    let validator = |n: u8| DevnetValidator {
        address: key(n).address(),
        name: format!("validator-{n}"),
        // The first one's node decides the blocks.
        endpoint: if n == VALIDATOR { "in-process".into() } else { String::new() },
        stake: Amount::from_dn(5_000),
    };
    let devnet = Devnet {
        chain_id: CHAIN,
        time_ms: 1,
        faucet: key(99).address(),
        funded: [
            funded,
            vec![
                (key(VALIDATOR).address(), Amount::from_dn(100)),
                (key(VALIDATOR + 1).address(), Amount::from_dn(100)),
            ],
        ]
        .concat(),
        validators: vec![validator(VALIDATOR), validator(VALIDATOR + 1)],
    };
    let mut params = Params::devnet();
    params.dispute.referee = dn_sdk::referee::REFEREE_RULES;
    params.beacon.required = true;
    Genesis::devnet(&devnet, params).unwrap()
}

impl Net {
    /// Ledger and gateway, no worker yet; a channel with 1 DN and its API key.
    pub(crate) async fn start() -> Self {
        Self::with_deposit(Amount::from_dn(1)).await
    }

    pub(crate) async fn with_deposit(deposit: Amount) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let alone = NodeConfig::alone(
            dir.path().join("ledger"),
            genesis(),
            (Ipv4Addr::LOCALHOST, 0).into(),
            key(VALIDATOR),
            100,
        );
        let node = Node::start(NodeConfig { referee: Some(dn_sdk::referee::TileReferee::handle()), ..alone })
            .await
            .unwrap();
        let ledger = LedgerClient::new(&format!("http://{}", node.rpc_addr())).unwrap();
        let listen = free_addrs(1).unwrap()[0];
        let channel = populate(&ledger, listen, deposit).await;
        let mut net = Self {
            dir,
            _node: node,
            ledger,
            gateway: None,
            listen,
            channel,
            api_key: String::new(),
            http: reqwest::Client::new(),
        };
        net.start_gateway(|_| {}).await;
        net.api_key = net.gateway().add_key(channel, &key(SPENDER), "test").await.unwrap();
        net
    }

    pub(crate) fn gateway_config(&self) -> GatewayConfig {
        let front = engine().model().front().clone();
        let models = vec![ServedModel { id: model_id(), front }];
        let dir = self.dir.path().join("gateway");
        let mut config = GatewayConfig::new(key(GATEWAY), self.listen, self.ledger.clone(), dir, models);
        config.refresh_interval = Duration::from_millis(200);
        config
    }

    pub(crate) async fn start_gateway(&mut self, change: impl FnOnce(&mut GatewayConfig)) {
        let mut config = self.gateway_config();
        change(&mut config);
        self.gateway = Some(Gateway::start(config).await.unwrap());
    }

    pub(crate) fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    pub(crate) fn client(&self) -> Client {
        let front = engine().model().front().clone();
        Client::new(&self.url(), &self.api_key).unwrap().with_chain(CHAIN).with_front(model_id(), front)
    }

    /// An honest worker, connected.
    pub(crate) async fn worker(&self, n: u8) -> Worker {
        self.worker_with(n, Arc::new(EngineExecutor::new(vec![engine()]))).await
    }

    pub(crate) async fn worker_with(&self, n: u8, executor: Arc<dyn Executor>) -> Worker {
        self.worker_for(n, executor, Price::default()).await
    }

    /// A worker that works for these prices and no less.
    pub(crate) async fn worker_for(&self, n: u8, executor: Arc<dyn Executor>, least: Price) -> Worker {
        let dir = self.dir.path().join(format!("worker-{n}"));
        let began = Instant::now();
        let worker = loop {
            let (ledger, gateways) = (self.ledger.clone(), vec![self.url()]);
            let mut config = WorkerConfig::new(key(n), ledger, gateways, executor.clone(), dir.clone());
            // Calls are small here, and are to be settled at once.
            config.small_batch_interval = Duration::ZERO;
            config.batch_interval = Duration::from_millis(300);
            config.min_price = least;
            match Worker::start(config).await {
                Ok(worker) => break worker,
                // One that was dropped lets go of its store when its last task has ended.
                Err(WorkerError::Store(StoreError::InUse { .. }))
                    if began.elapsed() < Duration::from_secs(20) =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("the worker does not start: {error}"),
            }
        };
        let address = key(n).address();
        eventually("the worker is connected", || {
            self.gateway().status().workers.iter().any(|worker| worker.address == address)
        })
        .await;
        worker
    }

    pub(crate) async fn auditor(&self, n: u8) -> Auditor {
        let dir = self.dir.path().join(format!("validator-{n}"));
        let mut config = AuditorConfig::new(key(n), self.ledger.clone(), vec![engine()], dir);
        config.poll_interval = Duration::from_millis(100);
        Auditor::start(config).await.unwrap()
    }

    pub(crate) fn post(&self, path: &str, body: &serde_json::Value) -> reqwest::RequestBuilder {
        self.http.post(format!("{}{path}", self.url())).bearer_auth(&self.api_key).json(body)
    }

    pub(crate) fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.get(format!("{}{path}", self.url()))
    }

    /// What was charged on the channel, over all lanes.
    pub(crate) fn charged(&self) -> Amount {
        Amount::sum(self.gateway().lanes(self.channel).unwrap().iter().map(|lane| lane.charged)).unwrap()
    }
}

/// Registers everybody, publishes the model and opens the channel.
async fn populate(ledger: &LedgerClient, listen: SocketAddr, deposit: Amount) -> ChannelId {
    let register = |n: u8, role: Role, collateral: u64, endpoint: String| {
        let payload = Payload::Register {
            role,
            collateral: Amount::from_dn(collateral),
            name: format!("{role}-{n}"),
            endpoint,
        };
        async move { ledger.submit(&key(n), payload).await.unwrap() }
    };
    let open =
        Payload::OpenChannel { payee: key(GATEWAY).address(), deposit, spender: key(SPENDER).address() };
    tokio::join!(
        register(GATEWAY, Role::Gateway, 100, format!("http://{listen}")),
        register(OWNER, Role::ModelOwner, 10, String::new()),
        register(WORKER, Role::Worker, 100, String::new()),
        register(WORKER + 1, Role::Worker, 100, String::new()),
        register(WORKER + 2, Role::Worker, 100, String::new()),
    );
    let manifest = engine().model().manifest().clone();
    let publish =
        Payload::PublishModel { manifest, name: MODEL.into(), price: price(), domain: 0, salt: None };
    let (owner, payer) = (key(OWNER), key(PAYER));
    let (published, opened) = tokio::join!(ledger.submit(&owner, publish), ledger.submit(&payer, open));
    published.unwrap();
    opened.unwrap();
    channel_id(key(PAYER).address(), key(GATEWAY).address(), 0)
}

/// Waits, at most 20 s, until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
