//! Starting and stopping the engine: the one place that knows its configuration.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dn_core::{SecretKey, keccak256};
use malachite_channel::app::config::{ConsensusConfig, NodeConfig, P2pConfig, ValuePayload, ValueSyncConfig};
use malachite_channel::app::net::Multiaddr;
use malachite_channel::app::types::Keypair;
use malachite_channel::app::types::codec::Codec;
use malachite_channel::{
    Channels, ConsensusContext, EngineHandle, NetworkContext, NetworkIdentity, RequestContext, SyncContext,
    WalContext, start_engine,
};
use malachite_signing::Signer;

use super::codec::Wire;
use super::context::{Ctx, Id, NOBODY};
use super::guard::Guard;
use super::parts::MAX_PART_BYTES;
use super::signer::{Checker, Keeper};

/// How often the tip is told to others, so that those behind ask for blocks.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait for the answer to a request for blocks.
pub(super) const SYNC_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the engine does not start.
#[derive(Debug, thiserror::Error)]
#[error("the consensus engine does not start: {0}")]
pub struct EngineError(String);

impl EngineError {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// Where the engine talks to others.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) listen: SocketAddr,
    pub(crate) peers: Vec<SocketAddr>,
    /// Only those in `peers` may connect.
    pub(crate) closed: bool,
    #[cfg(feature = "faults")]
    pub(crate) fault: Option<super::Fault>,
}

/// Who the engine is.
#[derive(Debug, Clone)]
pub(crate) enum Identity {
    /// Signs when it is in the validator set.
    Signing { key: SecretKey, guard: Arc<Mutex<Guard>> },
    /// Follows and signs nothing. Its address is nobody's.
    Following { seed: [u8; 32] },
}

#[derive(Clone)]
struct Config {
    name: String,
    consensus: ConsensusConfig,
    sync: ValueSyncConfig,
}

impl NodeConfig for Config {
    fn moniker(&self) -> &str {
        &self.name
    }

    fn consensus(&self) -> &ConsensusConfig {
        &self.consensus
    }

    fn consensus_mut(&mut self) -> &mut ConsensusConfig {
        &mut self.consensus
    }

    fn value_sync(&self) -> &ValueSyncConfig {
        &self.sync
    }

    fn value_sync_mut(&mut self) -> &mut ValueSyncConfig {
        &mut self.sync
    }
}

/// The file of the engine's log.
pub(crate) const LOG_FILE: &str = "engine.wal";
/// Its file while the node only follows: the engine then empties it at every height, and the other one must tell what was signed.
const FOLLOWER_LOG_FILE: &str = "follower.wal";

fn multiaddr(address: SocketAddr) -> Multiaddr {
    let family = if address.is_ipv4() { "ip4" } else { "ip6" };
    let text = format!("/{family}/{}/tcp/{}", address.ip(), address.port());
    text.parse().expect("an address and a port are a multiaddress")
}

/// The engine's configuration has sizes of a type that only parses.
fn byte_size<T: std::str::FromStr<Err: std::fmt::Debug>>(bytes: usize) -> T {
    format!("{bytes}B").parse().expect("a number of bytes is a size")
}

fn config(name: String, network: &Network, max_block_bytes: usize) -> Config {
    let mut p2p = P2pConfig {
        listen_addr: multiaddr(network.listen),
        persistent_peers: network.peers.iter().copied().map(multiaddr).collect(),
        persistent_peers_only: network.closed,
        ..P2pConfig::default()
    };
    // A part with its signature, and votes, are far smaller; certificates of a thousand validators too.
    p2p.pubsub_max_size = byte_size(4 * MAX_PART_BYTES);
    p2p.rpc_max_size = byte_size((4 * max_block_bytes).max(16 * 1024 * 1024));
    // Nodes behind one address, such as tests and local networks, are not attackers.
    p2p.discovery.max_connections_per_ip = 64;
    p2p.discovery.ip_throttle_duration = Duration::ZERO;
    let sync = ValueSyncConfig {
        status_update_interval: STATUS_INTERVAL,
        request_timeout: SYNC_TIMEOUT,
        max_response_size: byte_size((2 * max_block_bytes).max(8 * 1024 * 1024)),
        batch_size: 16,
        ..ValueSyncConfig::default()
    };
    let value_payload = ValuePayload::ProposalAndParts;
    Config { name, consensus: ConsensusConfig { p2p, value_payload, ..ConsensusConfig::default() }, sync }
}

fn keypair(seed: &[u8], place: &[u8]) -> Keypair {
    let seed = keccak256(&[b"DeepNode peer key v1", seed, place]);
    Keypair::ed25519_from_bytes(seed).expect("every 32 bytes are an ed25519 key")
}

/// Starts the engine on the current runtime.
pub(crate) async fn start(
    ctx: Ctx,
    dir: &Path,
    network: &Network,
    identity: &Identity,
    max_block_bytes: usize,
) -> Result<(Channels<Ctx>, EngineHandle), EngineError> {
    let error = |reason: &dyn std::fmt::Display| EngineError(reason.to_string());
    let checker = Box::new(Checker { chain_id: ctx.chain_id });
    let (name, peer, log, consensus) = match identity {
        Identity::Signing { key, guard } => {
            let keeper = Keeper { chain_id: ctx.chain_id, key: key.clone(), guard: Arc::clone(guard) };
            // The same validator elsewhere is another peer.
            let place = network.listen.to_string();
            let keys = keypair(&key.to_bytes()[..], place.as_bytes());
            let id = Id::from(key.address());
            let peer_id = keys.public().to_peer_id().to_bytes();
            let proof = keeper.sign_validator_proof(id.0.to_vec(), peer_id).await;
            let proof = Wire.encode(&proof.map_err(|e| error(&e))?).map_err(|e| error(&e))?;
            let peer = NetworkIdentity::new_validator(id.to_string(), keys, id.to_string(), proof);
            let consensus = ConsensusContext::new_validator(id, checker, Box::new(keeper));
            (id.to_string(), peer, LOG_FILE, consensus)
        }
        Identity::Following { seed } => {
            // Whatever it holds is of no use; what cannot be read would keep the engine from starting.
            let _ = std::fs::remove_file(dir.join(FOLLOWER_LOG_FILE));
            let peer = NetworkIdentity::new("follower".to_owned(), keypair(seed, b""), None);
            let consensus = ConsensusContext::new_full_node(NOBODY, checker);
            ("follower".to_owned(), peer, FOLLOWER_LOG_FILE, consensus)
        }
    };
    #[cfg(not(feature = "faults"))]
    let wire = Wire;
    #[cfg(feature = "faults")]
    let wire = super::fault::Spoiled::new(network.fault);
    start_engine(
        ctx,
        config(name, network, max_block_bytes),
        WalContext::new(dir.join(log), Wire),
        NetworkContext::new(peer, wire),
        consensus,
        SyncContext::new(Wire),
        RequestContext::new(16),
    )
    .await
    .map_err(|report| error(&format_args!("{report:#}")))
}
