//! The parts of a local network, each from its keys and its directory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dn_compute::Engine;
use dn_core::objects::Price;
use dn_core::{Amount, SecretKey};
use dn_ledger::tx::Payload;

use super::cheat::CheatingExecutor;
use super::error::DevnetError;
use super::home::Home;
use super::keys::Keys;
use super::network::DevnetConfig;
use super::roster::first_channel;
use crate::gateway::{Gateway, GatewayConfig, ServedModel};
use crate::ledger::LedgerClient;
use crate::validator::{Auditor, AuditorConfig};
use crate::worker::{EngineExecutor, Executor, Worker, WorkerConfig};

/// What is locked in the payer's channel.
const CHANNEL_DEPOSIT: Amount = Amount::from_dn(1_000);

/// Publishes the model, offers it and opens the payer's channel, as far as that has not happened yet.
pub(super) async fn set_up(
    url: &str,
    keys: &Keys,
    engine: &Arc<Engine>,
    name: &str,
) -> Result<(), DevnetError> {
    let id = engine.model().id();
    let owner = LedgerClient::new(url)?;
    match owner.model(id).await? {
        Some(model) if model.owner != keys.model_owner.address() => {
            return Err(DevnetError::ForeignModel { model: id });
        }
        Some(_) => {}
        None => {
            let manifest = engine.model().manifest().clone();
            let payload = Payload::PublishModel {
                manifest,
                name: name.to_owned(),
                price: price(),
                domain: 0,
                salt: None,
            };
            owner.submit(&keys.model_owner, payload).await?;
        }
    }
    // Each with a client of its own, so that all go into one block.
    let offers = keys.workers.iter().map(|key| async {
        LedgerClient::new(url)?.ensure_offer(key, id, Price::default()).await?;
        Ok::<_, DevnetError>(())
    });
    let channel = async {
        let client = LedgerClient::new(url)?;
        if client.channel(first_channel(keys)).await?.is_none() {
            let (payee, spender) = (keys.gateway.address(), keys.spender.address());
            let payload = Payload::OpenChannel { payee, deposit: CHANNEL_DEPOSIT, spender };
            client.submit(&keys.payer, payload).await?;
        }
        Ok::<_, DevnetError>(())
    };
    let (offers, channel) = tokio::join!(futures_util::future::join_all(offers), channel);
    offers.into_iter().collect::<Result<(), _>>()?;
    channel
}

/// A tenth of a DN for a hundred prompt tokens, and for fifty of output.
pub(super) fn price() -> Price {
    let milli = Amount::from_atto(dn_core::amount::ATTO_PER_DN / 1000);
    Price { prompt_token: milli, output_token: Amount::from_atto(milli.atto() * 2) }
}

pub(super) async fn start_gateway(
    home: &Home,
    keys: &Keys,
    listen: SocketAddr,
    ledger: &LedgerClient,
    engine: &Arc<Engine>,
) -> Result<Gateway, DevnetError> {
    let served = ServedModel { id: engine.model().id(), front: engine.model().front().clone() };
    let dir = home.join("gateway");
    let mut config = GatewayConfig::new(keys.gateway.clone(), listen, ledger.clone(), dir, vec![served]);
    config.refresh_interval = Duration::from_millis(500);
    Ok(Gateway::start(config).await?)
}

pub(super) async fn start_workers(
    home: &Home,
    keys: &Keys,
    ledger_url: &str,
    gateway: &Gateway,
    engine: &Arc<Engine>,
    cheater: &Option<Arc<CheatingExecutor>>,
    config: &DevnetConfig,
) -> Result<Vec<Worker>, DevnetError> {
    let honest: Arc<dyn Executor> = Arc::new(EngineExecutor::new(vec![engine.clone()]));
    let mut workers = Vec::new();
    for (i, key) in keys.workers.iter().enumerate() {
        let executor = match cheater {
            Some(cheater) if i + 1 == keys.workers.len() => cheater.clone() as Arc<dyn Executor>,
            _ => honest.clone(),
        };
        let ledger = LedgerClient::new(ledger_url)?;
        let dir = home.join(&format!("worker-{}", i + 1));
        let mut worker = WorkerConfig::new(key.clone(), ledger, vec![gateway.url()], executor, dir);
        worker.batch_interval = config.batch_interval;
        workers.push(Worker::start(worker).await?);
    }
    Ok(workers)
}

pub(super) async fn start_auditors(
    home: &Home,
    keys: &Keys,
    ledger_url: &str,
    engine: &Arc<Engine>,
    config: &DevnetConfig,
) -> Result<Vec<Auditor>, DevnetError> {
    let mut auditors = Vec::new();
    for (i, key) in keys.validators.iter().enumerate() {
        let key: &SecretKey = key;
        let ledger = LedgerClient::new(ledger_url)?;
        let dir = home.join(&format!("validator-{}", i + 1));
        let mut auditor = AuditorConfig::new(key.clone(), ledger, vec![engine.clone()], dir);
        auditor.poll_interval = config.block_interval;
        auditors.push(Auditor::start(auditor).await?);
    }
    Ok(auditors)
}
