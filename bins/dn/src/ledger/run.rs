//! `dn ledger run`: one node.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dn_core::SecretKey;
use dn_ledger::Genesis;
use dn_ledger::node::{History, NetworkConfig, Node, NodeConfig, ServiceLimits};
use dn_sdk::operator::stop_signal;

use super::local;
use crate::error::CliError;
use crate::home::{Config, data_dir};
use crate::out;
use crate::wallet::KeystoreArgs;

/// Blocks from one snapshot to the next: about three quarters of an hour without transactions, and, at a million accounts, a core for some
/// seconds. It reads one version of the chain's file, and no block waits for it.
const SNAPSHOT_BLOCKS: u64 = 10_000;
/// Snapshots that a node keeps.
const KEPT_SNAPSHOTS: usize = 2;
/// How long after its genesis a chain's validators start for the first time.
const FIRST_STARTS: Duration = Duration::from_secs(24 * 3_600);

/// What `dn ledger run` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The chain's genesis (JSON), as `dn genesis build` writes it.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// Where the chain is kept [default: `ledger` in the data directory].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where JSON-RPC, events and metrics are served; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8090")]
    rpc_listen: SocketAddr,
    /// Where other nodes reach this one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:26656")]
    listen: SocketAddr,
    /// Where another node listens; repeat it for each.
    #[arg(long = "peer", value_name = "ADDR")]
    peers: Vec<SocketAddr>,
    /// Take connections of --peer nodes only.
    #[arg(long)]
    closed: bool,
    /// Follow the chain without a key.
    #[arg(long, conflicts_with_all = ["key", "local_key"])]
    follow: bool,
    /// The validator's key: name in the keystore directory, address, or path of a keystore file.
    #[arg(long, env = "DN_KEY", value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    keystore: KeystoreArgs,
    /// The key of this validator of `dn ledger local`: everybody knows it.
    #[arg(long, value_name = "N", hide = true, conflicts_with = "key")]
    local_key: Option<usize>,
    /// Time between blocks while no transaction waits; otherwise a quarter of it.
    #[arg(long, value_name = "MS", default_value_t = 250)]
    interval_ms: u64,
    /// Longest wait for a proposal after its block is due, before the next validator's turn.
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    propose_timeout_ms: u64,
    /// The key never signed for this chain. Without this, a key that has no record of what it signed first watches others
    /// decide; with it and untrue, the validator may sign twice and be slashed. It counts for a directory without blocks, in the first day of
    /// the chain, and once others were heard for some seconds that know no block with a signature of the key.
    #[arg(long)]
    first_start: bool,
    /// A key that has no record of what it signed signed nothing for this height or a later one. For a chain that stands still because its
    /// validators lost their records; it counts only while this is the next height, and nobody is asked whether it is true.
    #[arg(long, value_name = "HEIGHT")]
    unsigned_from: Option<u64>,
    /// Where it is recorded what the key signed [default: in the data directory]. On another disk it also protects from
    /// restoring an old copy of the data directory.
    #[arg(long, value_name = "FILE")]
    sign_guard: Option<PathBuf>,
    /// Blocks behind the tip that are kept [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    keep_blocks: Option<u64>,
    /// Write a snapshot, for others to join from (`dn ledger join`), whenever so many blocks have passed; the newest two stay. 0 writes none.
    #[arg(long, value_name = "N", default_value_t = SNAPSHOT_BLOCKS)]
    snapshot_blocks: u64,
    /// Connections that JSON-RPC takes at once.
    #[arg(long, value_name = "N", default_value_t = ServiceLimits::default().connections)]
    max_connections: usize,
    /// How many of them one address may have; this machine's own are not counted.
    #[arg(long, value_name = "N", default_value_t = ServiceLimits::default().connections_per_address)]
    max_connections_per_address: usize,
    /// Print one line of JSON once the node is up.
    #[arg(long)]
    json: bool,
}

impl Args {
    /// What the node keeps of the past.
    fn history(&self) -> History {
        History {
            keep_blocks: self.keep_blocks,
            snapshot_blocks: (self.snapshot_blocks > 0).then_some(self.snapshot_blocks),
            keep_snapshots: KEPT_SNAPSHOTS,
        }
    }
}

/// Runs the command.
pub(crate) fn run(args: Args, config: &Config) -> Result<ExitCode, CliError> {
    let path = &args.genesis;
    let text = fs::read_to_string(path).map_err(CliError::file("read", path))?;
    let genesis =
        Genesis::from_json(&text).map_err(|e| CliError::Other(format!("{}: {e}", path.display())))?;
    let key = match (args.follow, args.local_key, &args.key) {
        (true, ..) => None,
        (false, Some(index), _) => Some(local::key(index)),
        (false, None, Some(key)) => Some(args.keystore.open(key, config)?),
        (false, None, None) => {
            return Err(CliError::argument(
                "--key",
                "a validator's key, or --follow for a node without one, expected",
            ));
        }
    };
    crate::runtime()?.block_on(serve(args, genesis, key))
}

/// Whether a first start is one of the chain: who comes later, perhaps with a lost disk and a flag that was left in a unit file, watches the
/// others, who can decide without it.
fn starts_now(genesis: &Genesis, now: Duration) -> bool {
    now <= Duration::from_millis(genesis.time_ms).saturating_add(FIRST_STARTS)
}

async fn serve(args: Args, genesis: Genesis, key: Option<SecretKey>) -> Result<ExitCode, CliError> {
    let history = args.history();
    let network = NetworkConfig { listen: args.listen, peers: args.peers, closed: args.closed };
    let data_dir = args.data_dir.unwrap_or_else(|| data_dir().join("ledger"));
    let limits = ServiceLimits {
        connections: args.max_connections,
        connections_per_address: args.max_connections_per_address,
        ..ServiceLimits::default()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let first_start = args.first_start && starts_now(&genesis, now);
    if args.first_start && !first_start && args.unsigned_from.is_none() && !data_dir.exists() {
        let message = format!(
            "the genesis is of {} ms since 1970, more than a day ago, so a first start counts for nothing. If the chain runs already, leave \
             the flag away: this node watches others before it signs. If nobody has started it yet, give `--unsigned-from 1` to all",
            genesis.time_ms
        );
        return Err(CliError::argument("--first-start", message));
    }
    let config = NodeConfig {
        key,
        history,
        limits,
        network: Some(network),
        propose_timeout_ms: args.propose_timeout_ms,
        first_start,
        unsigned_from: args.unsigned_from,
        sign_guard: args.sign_guard,
        referee: Some(dn_sdk::referee::TileReferee::handle()),
        ..NodeConfig::following(data_dir, genesis, args.rpc_listen, args.interval_ms)
    };
    let node = Node::start(config).await.map_err(|e| CliError::Other(e.to_string()))?;
    let rpc = format!("http://{}", node.rpc_addr());
    if args.json {
        out::json_line(&serde_json::json!({ "rpc": rpc, "height": node.height() }));
    } else {
        out::line(format_args!("rpc     {rpc}\nheight  {}\nCtrl-C stops it.", node.height()));
    }
    let ended = tokio::select! {
        () = stop_signal() => false,
        () = node.production_ended() => true,
    };
    let reason = node.failure().map(ToString::to_string);
    node.shutdown().await;
    if ended {
        let reason = reason.unwrap_or_else(|| "see its log".to_owned());
        Err(CliError::Other(format!("the node has stopped by itself: {reason}")))
    } else {
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// Who starts nodes as the guide says can be joined.
    #[test]
    fn nodes_write_snapshots_unless_they_are_told_not_to() {
        let history = |more: &[&str]| {
            let line = [&["run", "--genesis", "g.json"][..], more].concat();
            <Line as clap::Parser>::parse_from(line).args.history()
        };
        assert_eq!(history(&[]).snapshot_blocks, Some(SNAPSHOT_BLOCKS));
        assert_eq!(history(&["--snapshot-blocks", "7"]).snapshot_blocks, Some(7));
        assert_eq!(history(&["--snapshot-blocks", "0"]).snapshot_blocks, None);
        assert!(history(&[]).keep_snapshots > 0);
    }

    #[test]
    fn a_first_start_is_one_of_the_chain() {
        let plan = dn_ledger::Devnet {
            chain_id: 7,
            time_ms: 1_700_000_000_000,
            faucet: dn_core::Address([9; 20]),
            funded: Vec::new(),
            validators: vec![dn_ledger::DevnetValidator {
                address: dn_core::Address([1; 20]),
                name: "v".into(),
                endpoint: "v".into(),
                stake: dn_core::Amount::from_dn(10_000),
            }],
        };
        let genesis = Genesis::devnet(&plan, dn_ledger::Params::devnet()).unwrap();
        let after = |hours: u64| Duration::from_millis(genesis.time_ms) + Duration::from_secs(hours * 3_600);
        assert!(starts_now(&genesis, Duration::ZERO) && starts_now(&genesis, after(24)));
        assert!(!starts_now(&genesis, after(25)));
    }
}
