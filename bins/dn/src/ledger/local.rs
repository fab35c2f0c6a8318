//! `dn ledger local`: a chain of several validators, each a process of this program.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dn_core::{Address, Amount, SecretKey, keccak256};
use dn_ledger::{Devnet, DevnetValidator, Genesis, Params};
use dn_sdk::operator::stop_signal;
use serde::Deserialize;

use crate::error::CliError;
use crate::out;

/// The chain of local networks.
pub(crate) const CHAIN_ID: u64 = 31_742;
/// Longest wait for a process to end by itself.
const END_WAIT: Duration = Duration::from_secs(8);

/// What `dn ledger local` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Validators.
    #[arg(long, value_name = "N", default_value_t = 4)]
    validators: usize,
    /// Where the chain is kept; it goes on there at the next start. Without it the chain is thrown away at the end.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Time between blocks while no transaction waits; otherwise a quarter of it.
    #[arg(long, value_name = "MS", default_value_t = 250)]
    interval_ms: u64,
    /// Print one line of JSON once the network is up.
    #[arg(long)]
    json: bool,
}

/// A key of a local network. It follows from its number: everybody knows it, and it is worth nothing elsewhere.
pub(crate) fn key(index: usize) -> SecretKey {
    secret("validator", index)
}

/// The key that holds the free DN of a local network; as well known as the validators'.
pub(crate) fn faucet() -> SecretKey {
    secret("faucet", 0)
}

/// A key of this purpose and number.
pub(crate) fn secret(purpose: &str, index: usize) -> SecretKey {
    let seed = keccak256(&[b"dn ledger local", purpose.as_bytes(), &(index as u64).to_le_bytes()]);
    SecretKey::from_bytes(&seed).expect("a hash is a key but for one in 2^128")
}

/// A genesis of equal validators and these accounts.
pub(crate) fn genesis(
    validators: usize,
    params: Params,
    funded: Vec<(Address, Amount)>,
) -> Result<Genesis, CliError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let validator = |index| DevnetValidator {
        address: key(index).address(),
        name: format!("validator-{index}"),
        endpoint: format!("validator-{index}.local"),
        stake: Amount::from_dn(10_000),
    };
    let devnet = Devnet {
        chain_id: CHAIN_ID,
        time_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        faucet: faucet().address(),
        funded,
        validators: (0..validators).map(validator).collect(),
    };
    Genesis::devnet(&devnet, params).map_err(|e| CliError::argument("--validators", e.to_string()))
}

/// Validators that run as processes; those that still run are killed when this is dropped.
pub(crate) struct Processes {
    children: Vec<Child>,
    /// Where each answers.
    pub(crate) rpc: Vec<String>,
}

#[derive(Deserialize)]
struct Up {
    rpc: String,
}

impl Processes {
    /// Starts a process for each validator and waits until all answer. `dir` holds `genesis.json`, or gets it.
    pub(crate) fn start(
        dir: &Path,
        genesis: &Genesis,
        validators: usize,
        interval_ms: u64,
    ) -> Result<Self, CliError> {
        let file = dir.join("genesis.json");
        let fresh = !file.exists();
        if fresh {
            fs::create_dir_all(dir).map_err(CliError::file("create", dir))?;
            fs::write(&file, genesis.to_json()).map_err(CliError::file("write", &file))?;
        }
        let program = std::env::current_exe().map_err(CliError::file("find", "this program"))?;
        let ports = free_ports(validators)?;
        let mut network = Self { children: Vec::new(), rpc: Vec::new() };
        for index in 0..validators {
            let mut command = Command::new(&program);
            command.args(["ledger", "run", "--json", "--rpc-listen", "127.0.0.1:0", "--local-key"]);
            command.arg(index.to_string()).args(["--interval-ms", &interval_ms.to_string()]);
            command.arg("--genesis").arg(&file).arg("--data-dir").arg(dir.join(format!("validator-{index}")));
            command.arg("--listen").arg(ports[index].to_string());
            for (_, peer) in ports.iter().enumerate().filter(|(other, _)| *other != index) {
                command.arg("--peer").arg(peer.to_string());
            }
            if fresh {
                command.arg("--first-start");
            }
            let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
            network.children.push(started.map_err(CliError::file("start", &program))?);
        }
        for index in 0..validators {
            let rpc = network.wait_for(index)?;
            network.rpc.push(rpc);
        }
        Ok(network)
    }

    fn wait_for(&mut self, index: usize) -> Result<String, CliError> {
        let stdout = self.children[index].stdout.take().expect("it is piped");
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        read.map_err(CliError::file("read from", format!("validator-{index}")))?;
        let up: Result<Up, _> = serde_json::from_str(&line);
        up.map(|up| up.rpc)
            .map_err(|_| CliError::Other(format!("validator-{index} did not start: see above")))
    }

    /// The first process that ended.
    pub(crate) fn ended(&mut self) -> Option<usize> {
        self.children.iter_mut().position(|child| matches!(child.try_wait(), Ok(Some(_))))
    }

    /// CPU seconds that the processes used so far, where the system tells.
    pub(crate) fn cpu_seconds(&self) -> Option<f64> {
        self.children.iter().map(|child| cpu_seconds(child.id())).sum()
    }

    /// Asks all to end, and waits.
    pub(crate) fn stop(mut self) {
        for child in &self.children {
            // There is no portable way in the standard library to ask a process to end.
            let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        }
        let began = Instant::now();
        while began.elapsed() < END_WAIT
            && self.children.iter_mut().any(|child| matches!(child.try_wait(), Ok(None)))
        {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.children {
            if matches!(child.try_wait(), Ok(None)) {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
    }
}

/// User and system time of a process from `/proc`, in ticks of a hundredth of a second.
fn cpu_seconds(process: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

fn free_ports(count: usize) -> Result<Vec<SocketAddr>, CliError> {
    let bind = |_| TcpListener::bind("127.0.0.1:0").and_then(|l| Ok((l.local_addr()?, l)));
    let bound = (0..count).map(bind).collect::<Result<Vec<_>, _>>();
    let bound = bound.map_err(CliError::file("listen on", "127.0.0.1"))?;
    Ok(bound.iter().map(|(address, _)| *address).collect())
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<ExitCode, CliError> {
    if args.validators == 0 {
        return Err(CliError::argument("--validators", "at least 1 expected"));
    }
    let temporary = tempfile::tempdir().map_err(CliError::file("create", std::env::temp_dir()))?;
    let dir = args.data_dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let genesis = genesis(args.validators, Params::devnet(), Vec::new())?;
    let mut network = Processes::start(&dir, &genesis, args.validators, args.interval_ms)?;
    if args.json {
        out::json_line(&serde_json::json!({ "rpc": network.rpc, "data_dir": dir }));
    } else {
        out::line(format_args!("{} validators decide a chain on this machine.\n", args.validators));
        for (index, rpc) in network.rpc.iter().enumerate() {
            out::line(format_args!("validator-{index}  {rpc}"));
        }
        out::line(format_args!("data         {}\n\nCtrl-C stops them.", dir.display()));
    }
    let ended = crate::runtime()?.block_on(async {
        loop {
            tokio::select! {
                () = stop_signal() => return None,
                () = tokio::time::sleep(Duration::from_millis(500)) => {
                    if let Some(index) = network.ended() {
                        return Some(index);
                    }
                }
            }
        }
    });
    network.stop();
    match ended {
        None => Ok(ExitCode::SUCCESS),
        Some(index) => {
            Err(CliError::Other(format!("validator-{index} has ended by itself: see its log above")))
        }
    }
}
