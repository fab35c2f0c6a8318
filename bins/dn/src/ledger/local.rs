//! `dn ledger local`: a chain of several validators, each a process of this program.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dn_core::{Address, Amount, SecretKey, keccak256};
use dn_ledger::node::free_addrs;
use dn_ledger::{Devnet, DevnetValidator, Genesis, Params};
use dn_sdk::operator::stop_signal;
use serde::Deserialize;

use crate::error::CliError;
use crate::out;

mod hints;

/// The chain of local networks.
pub(crate) const CHAIN_ID: u64 = 31_742;
/// Lines of a log that are shown of a process that ended.
const SHOWN_LINES: usize = 12;
/// What each validator holds free: fees of what it sends are paid out of it, not out of bond and stake.
const FREE_DN: u64 = 100;
/// Longest wait for an answer of a port of this machine.
const CONNECT_WAIT: Duration = Duration::from_millis(200);
/// Longest wait for a process to end by itself.
const END_WAIT: Duration = Duration::from_secs(8);

/// What `dn ledger local` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Validators.
    #[arg(long, value_name = "N", default_value_t = 4)]
    validators: usize,
    /// Where the chain is kept, with the keys of its accounts; it goes on there at the next start. Without it the chain is thrown away at the end.
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
    mut funded: Vec<(Address, Amount)>,
) -> Result<Genesis, CliError> {
    funded.extend((0..validators).map(|index| (key(index).address(), Amount::from_dn(FREE_DN))));
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

/// A validator's process.
struct Process {
    child: Child,
    /// What it says of itself.
    log: PathBuf,
    ended: Option<ExitStatus>,
}

/// A process that ended by itself.
pub(crate) struct Ended {
    /// Which validator's.
    pub(crate) index: usize,
    status: ExitStatus,
    log: PathBuf,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { index, status, log } = self;
        write!(f, "validator-{index} has ended by itself ({status}); {}", log.display())?;
        let text = fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        match lines.len().checked_sub(SHOWN_LINES) {
            _ if lines.is_empty() => write!(f, " is empty"),
            Some(left_out @ 1..) => write!(f, " ends:\n{}", lines[left_out..].join("\n")),
            _ => write!(f, " says:\n{}", lines.join("\n")),
        }
    }
}

/// Validators that run as processes; those that still run are killed when this is dropped.
pub(crate) struct Processes {
    processes: Vec<Process>,
    /// Where each answers.
    pub(crate) rpc: Vec<String>,
    /// Where each listens for the others.
    listen: Vec<SocketAddr>,
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
        let ports = free_addrs(validators).map_err(CliError::file("listen on", "127.0.0.1"))?;
        let mut network = Self { processes: Vec::new(), rpc: Vec::new(), listen: ports.clone() };
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
                command.args(["--unsigned-from", "1"]);
            }
            let path = dir.join(format!("validator-{index}.log"));
            let log = fs::OpenOptions::new().create(true).append(true).open(&path);
            let log = log.map_err(CliError::file("write", &path))?;
            let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn();
            let child = started.map_err(CliError::file("start", &program))?;
            network.processes.push(Process { child, log: path, ended: None });
        }
        for index in 0..validators {
            let rpc = network.wait_for(index)?;
            network.rpc.push(rpc);
        }
        Ok(network)
    }

    fn wait_for(&mut self, index: usize) -> Result<String, CliError> {
        let Process { child, log, .. } = &mut self.processes[index];
        let stdout = child.stdout.take().expect("it is piped");
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        read.map_err(CliError::file("read from", format!("validator-{index}")))?;
        if let Ok(up) = serde_json::from_str::<Up>(&line) {
            return Ok(up.rpc);
        }
        let status = child.wait().map_err(CliError::file("wait for", format!("validator-{index}")))?;
        Err(CliError::Other(Ended { index, status, log: log.clone() }.to_string()))
    }

    /// The processes that ended since this was asked last.
    pub(crate) fn ended(&mut self) -> Vec<Ended> {
        let running = self.processes.iter_mut().enumerate().filter(|(_, process)| process.ended.is_none());
        let ended = running.filter_map(|(index, process)| {
            process.ended = process.child.try_wait().ok().flatten();
            Some(Ended { index, status: process.ended?, log: process.log.clone() })
        });
        ended.collect()
    }

    /// Whether those that run can decide blocks: all have the same stake. One that was started again by hand answers where its process did.
    pub(crate) fn has_quorum(&self) -> bool {
        let processes = self.processes.iter().zip(&self.rpc);
        let running = processes.filter(|(process, rpc)| process.ended.is_none() || answers(rpc)).count();
        3 * running > 2 * self.processes.len()
    }

    /// CPU seconds that the processes used so far, where the system tells.
    pub(crate) fn cpu_seconds(&self) -> Option<f64> {
        self.processes.iter().map(|process| cpu_seconds(process.child.id())).sum()
    }

    /// Asks all that run to end, and waits.
    pub(crate) fn stop(mut self) {
        self.ended();
        for process in self.processes.iter().filter(|process| process.ended.is_none()) {
            // There is no portable way in the standard library to ask a process to end.
            let _ = Command::new("kill").args(["-TERM", &process.child.id().to_string()]).status();
        }
        let began = Instant::now();
        while began.elapsed() < END_WAIT
            && self.processes.iter_mut().any(|process| matches!(process.child.try_wait(), Ok(None)))
        {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for Process { child, .. } in &mut self.processes {
            if matches!(child.try_wait(), Ok(None)) {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
    }
}

/// Whether somebody listens where a validator answered.
fn answers(rpc: &str) -> bool {
    let address = rpc.strip_prefix("http://").and_then(|address| address.parse().ok());
    address.is_some_and(|address| TcpStream::connect_timeout(&address, CONNECT_WAIT).is_ok())
}

/// User and system time of a process from `/proc`, in ticks of a hundredth of a second.
fn cpu_seconds(process: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<ExitCode, CliError> {
    if args.validators == 0 {
        return Err(CliError::argument("--validators", "at least 1 expected"));
    }
    let temporary = tempfile::tempdir().map_err(CliError::file("create", std::env::temp_dir()))?;
    let dir = args.data_dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let genesis = genesis(args.validators, Params::local(), Vec::new())?;
    hints::keep_keys(&dir, args.validators)?;
    let mut network = Processes::start(&dir, &genesis, args.validators, args.interval_ms)?;
    let hints = hints::Hints { dir: &dir, interval_ms: args.interval_ms };
    let first_tx = hints.first_tx(&network);
    if args.json {
        let keys = hints.keys();
        let up =
            serde_json::json!({ "rpc": network.rpc, "data_dir": dir, "keys": keys, "first_tx": first_tx });
        out::json_line(&up);
    } else {
        out::line(format_args!("{} validators decide a chain on this machine.\n", args.validators));
        for (index, rpc) in network.rpc.iter().enumerate() {
            out::line(format_args!("validator-{index}  {rpc}"));
        }
        out::line(format_args!("data         {}\nkeys         {}\n", dir.display(), hints.keys().display()));
        out::line(format_args!("The faucet holds the free DN. A first transaction:\n\n{first_tx}\n"));
        out::line("Ctrl-C stops them. Of one that ends by itself the line that starts it again is shown.");
    }
    let ended = crate::runtime()?.block_on(watch(&mut network, &hints, args.json));
    let quorum = network.has_quorum();
    network.stop();
    let names = ended.iter().map(|index| format!("validator-{index}")).collect::<Vec<_>>().join(", ");
    match (ended.is_empty(), quorum) {
        (true, _) => Ok(ExitCode::SUCCESS),
        (false, true) => {
            Err(CliError::Other(format!("{names} ended by itself; the others ran on until now")))
        }
        (false, false) => {
            Err(CliError::Other(format!("{names} ended by itself; too few are left to decide blocks")))
        }
    }
}

/// Watches the processes until the user stops them or too few are left. Returns which ended by themselves.
async fn watch(network: &mut Processes, hints: &hints::Hints<'_>, json: bool) -> Vec<usize> {
    let (mut stop, mut gone) = (std::pin::pin!(stop_signal()), Vec::new());
    while network.has_quorum() {
        tokio::select! {
            () = &mut stop => return gone,
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
        for ended in network.ended() {
            let (index, status, log) = (ended.index, ended.status.to_string(), &ended.log);
            out::note(&ended);
            // Where too few are left all of them end.
            let restart = network.has_quorum().then(|| hints.restart(network, index));
            if let Some(restart) = &restart {
                out::note(format_args!("It starts again with\n\n{restart}\n"));
            }
            if json {
                let line =
                    serde_json::json!({ "ended": index, "status": status, "log": log, "restart": restart });
                out::json_line(&line);
            }
            gone.push(index);
        }
    }
    gone
}
