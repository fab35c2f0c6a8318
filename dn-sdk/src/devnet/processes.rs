//! The same network as separate processes: one settings file for each.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use dn_compute::{BackendChoice, BackendKind};
use dn_core::{Address, ChannelId};
use dn_ledger::Chain;
use dn_ledger::light::TrustedHash;
use serde::Serialize;

use super::error::DevnetError;
use super::home::{Home, HomeError};
use super::keys::keys;
use super::roster::{CHAIN_ID, first_channel, genesis};
use crate::operator::{ApiKeySettings, GatewaySettings, Trusted, ValidatorSettings, WorkerSettings};

/// What was written, and what has to be known to set the network up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenConfig {
    /// Where it lies.
    pub dir: PathBuf,
    /// Settings files of the validators; the first runs the ledger node.
    pub validators: Vec<PathBuf>,
    /// Settings files of the workers.
    pub workers: Vec<PathBuf>,
    /// Settings file of the gateway.
    pub gateway: PathBuf,
    /// The gateway's address, to which the payer opens its channel.
    pub gateway_address: Address,
    /// The key that signs vouchers of that channel.
    pub spender: Address,
    /// The channel that the payer's first transaction opens.
    pub channel: ChannelId,
    /// Where the gateway writes the API key.
    pub api_key_file: PathBuf,
}

/// Writes keys, genesis and settings files into a directory. Keys and genesis that lie there stay as they are.
///
/// # Errors
/// [`DevnetError::Home`] or [`DevnetError::Keys`].
pub fn write_config(
    dir: &Path,
    listen: SocketAddr,
    ledger_listen: SocketAddr,
    model: Option<&Path>,
    block_interval_ms: u64,
) -> Result<WrittenConfig, DevnetError> {
    let home = Home::open(dir)?;
    let keys = keys(&home)?;
    let url = format!("http://{listen}");
    let genesis = home.genesis(CHAIN_ID, || genesis(&keys, &url, crate::clock::now_ms()))?;
    // Whoever has the genesis knows the first block, and believes no node that shows another chain.
    let trusted = Some(Trusted(TrustedHash { height: 0, hash: Chain::new(&genesis).tip().hash() }));
    let models = vec![model.map_or_else(|| "embedded".into(), Path::to_owned)];
    let ledger = format!("http://{ledger_listen}");
    let keystore = |name: &str| PathBuf::from(format!("keys/{name}.json"));
    let password_file = PathBuf::from("keys/password");

    let mut validators = Vec::new();
    for i in 1..=keys.validators.len() {
        let name = format!("validator-{i}");
        let settings = ValidatorSettings {
            keystore: keystore(&name),
            password_file: password_file.clone(),
            data_dir: PathBuf::from(&name),
            genesis: (i == 1).then(|| "genesis.json".into()),
            ledger_listen,
            block_interval_ms,
            ledger: ledger.clone(),
            trusted,
            audit: true,
            models: models.clone(),
            threads: None,
        };
        validators.push(write(&home, &name, &settings)?);
    }
    let mut workers = Vec::new();
    for i in 1..=keys.workers.len() {
        let name = format!("worker-{i}");
        let settings = WorkerSettings {
            min_prompt_price: None,
            min_output_price: None,
            keystore: keystore(&name),
            password_file: password_file.clone(),
            data_dir: PathBuf::from(&name),
            ledger: ledger.clone(),
            trusted,
            gateways: vec![url.clone()],
            models: models.clone(),
            slots: 2,
            batch_interval_ms: 2_000,
            threads: None,
            backend: BackendChoice::Named(BackendKind::Cpu),
            adapter: None,
            gpu_layers: None,
            device_memory: None,
            name: None,
            collateral: None,
        };
        workers.push(write(&home, &name, &settings)?);
    }
    let channel = first_channel(&keys);
    let settings = GatewaySettings {
        keystore: keystore("gateway"),
        password_file: password_file.clone(),
        data_dir: "gateway".into(),
        ledger,
        trusted,
        listen,
        models,
        name: None,
        public_url: None,
        collateral: None,
        api_keys: vec![ApiKeySettings {
            label: "devnet".into(),
            channel,
            spender_keystore: keystore("spender"),
            password_file,
            file: "api-key".into(),
        }],
    };
    Ok(WrittenConfig {
        gateway: write(&home, "gateway", &settings)?,
        validators,
        workers,
        gateway_address: keys.gateway.address(),
        spender: keys.spender.address(),
        channel,
        api_key_file: home.join("api-key"),
        dir: dir.to_owned(),
    })
}

fn write(home: &Home, name: &str, settings: &impl Serialize) -> Result<PathBuf, HomeError> {
    let file = format!("{name}.toml");
    let text = toml::to_string(settings).expect("settings hold nothing that TOML lacks");
    home.write(&file, &text)?;
    Ok(home.join(&file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::layered;

    #[test]
    fn what_is_written_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let addr = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let written = write_config(dir.path(), addr(8080), addr(8090), None, 250).unwrap();
        let none = toml::Table::new();
        let validator: ValidatorSettings = layered(Some(&written.validators[0]), &none).unwrap();
        assert_eq!(validator.genesis, Some(dir.path().join("genesis.json")));
        let second: ValidatorSettings = layered(Some(&written.validators[1]), &none).unwrap();
        assert_eq!(second.genesis, None);
        let worker: WorkerSettings = layered(Some(&written.workers[2]), &none).unwrap();
        assert!(worker.keystore.is_file() && worker.password_file.is_file());
        let gateway: GatewaySettings = layered(Some(&written.gateway), &none).unwrap();
        assert_eq!(gateway.api_keys[0].channel, written.channel);
        assert!(gateway.api_keys[0].spender_keystore.is_file());
        assert_eq!(gateway.models, [PathBuf::from("embedded")]);
    }
}
