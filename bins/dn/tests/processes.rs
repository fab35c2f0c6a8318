//! The network as separate processes, each killed in the middle of a call and started again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// 100,000,000 DN in atto.
const SUPPLY: u128 = 100_000_000 * 10u128.pow(18);

/// Programs of the other packages: built like this one, unless somebody says where they are.
fn build_programs() -> PathBuf {
    if let Some(dir) = std::env::var_os("DN_PROGRAMS") {
        return dir.into();
    }
    let dn = Path::new(env!("CARGO_BIN_EXE_dn"));
    let dir = dn.parent().unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args([
        "build",
        "-p",
        "dn",
        "-p",
        "dn-worker",
        "-p",
        "dn-validator",
        "-p",
        "dn-gateway",
        "--target-dir",
    ]);
    build.arg(dir.parent().unwrap());
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success(), "the programs of the roles do not build");
    dir.to_owned()
}

/// One process of the network.
struct Process {
    name: &'static str,
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
    child: Child,
}

impl Process {
    fn start(programs: &Path, program: &str, dir: &Path, name: &'static str) -> Self {
        let (program, config) = (programs.join(program), dir.join(format!("{name}.toml")));
        let log = dir.join(format!("{name}.log"));
        let child = Self::spawn(&program, &config, &log);
        Self { name, program, config, log, child }
    }

    fn spawn(program: &Path, config: &Path, log: &Path) -> Child {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(program);
        command.arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.spawn().unwrap()
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.child = Self::spawn(&self.program, &self.config, &self.log);
    }

    /// SIGTERM, and the program ends well.
    fn stop(&mut self) {
        let status = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{} ended with {status}: {}", self.name, self.log());
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{} does not stop: {}", self.name, self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Network {
    dir: PathBuf,
    gateway: SocketAddr,
    rpc: String,
    processes: Vec<Process>,
}

impl Network {
    fn start(dir: &Path) -> Self {
        let programs = build_programs();
        let addrs = dn_ledger::node::free_addrs(2).unwrap();
        let (gateway, ledger) = (addrs[0], addrs[1]);
        let rpc = format!("http://{ledger}");
        let (listen, ledger_listen) = (gateway.to_string(), ledger.to_string());
        let at = dir.to_str().unwrap();
        let written =
            run(&["devnet", "--write-config", at, "--listen", &listen, "--ledger-listen", &ledger_listen]);
        let mut network = Self { dir: dir.to_owned(), gateway, rpc, processes: Vec::new() };
        network.processes.push(Process::start(&programs, "dn-validator", dir, "validator-1"));
        network.wait("the ledger", |network| network.try_query(&["status"]).is_some());
        network.set_up(&written);
        network.processes.push(Process::start(&programs, "dn-gateway", dir, "gateway"));
        network.processes.push(Process::start(&programs, "dn-validator", dir, "validator-2"));
        for name in ["worker-1", "worker-2", "worker-3"] {
            network.processes.push(Process::start(&programs, "dn-worker", dir, name));
        }
        network
    }

    /// Runs the two commands that `--write-config` printed for the payer and the model's owner.
    fn set_up(&self, written: &str) {
        let commands: Vec<&str> = written.lines().filter(|line| line.starts_with("dn tx ")).collect();
        assert_eq!(commands.len(), 2, "{written}");
        for command in commands {
            let args: Vec<&str> = command.split(' ').skip(1).collect();
            run(&args);
        }
    }

    fn try_query(&self, args: &[&str]) -> Option<Value> {
        let args = [&["query", "--rpc", &self.rpc, "--json"], args].concat();
        let output = dn(&args);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    fn wait(&self, what: &str, mut ready: impl FnMut(&Self) -> bool) {
        let started = Instant::now();
        while !ready(self) {
            let logs =
                || self.processes.iter().map(|process| format!("{}:\n{}", process.name, process.log()));
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "{what} does not come up\n{}",
                logs().collect::<Vec<_>>().join("\n")
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn api_key(&self) -> Option<String> {
        fs::read_to_string(self.dir.join("api-key")).ok().map(|text| text.trim().to_owned())
    }

    /// Opens a streamed call; the answer's body is left to be read.
    fn call(&self, max_tokens: u32) -> Option<BufReader<TcpStream>> {
        let key = self.api_key()?;
        let body = serde_json::json!({
            "model": "tiny-rust", "stream": true, "max_tokens": max_tokens, "temperature": 1.0,
            "messages": [{"role": "user", "content": "What is a trait?"}],
        })
        .to_string();
        let mut stream = TcpStream::connect(self.gateway).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(
            stream,
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.gateway,
            body.len()
        )
        .ok()?;
        let mut reader = BufReader::new(stream);
        let mut status = String::new();
        reader.read_line(&mut status).ok()?;
        status.contains(" 200 ").then_some(reader)
    }

    /// Makes a whole call; true if it came with a receipt.
    fn call_works(&self) -> bool {
        let Some(mut reader) = self.call(8) else { return false };
        let mut body = String::new();
        reader.read_to_string(&mut body).is_ok() && body.contains("\"receipt_id\"") && body.contains("[DONE]")
    }

    /// Kills a process when the first words of a long answer have come, then starts it again.
    fn kill_in_the_middle_of_a_call(&mut self, at: usize) {
        let mut reader = self.call(200).expect("a call can be made before anything is killed");
        let mut line = String::new();
        while !line.contains("\"content\"") {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "the answer ends before it begins");
        }
        self.processes[at].kill();
        // Whatever is left of the answer: the rest from another worker, an error, or nothing.
        let _ = reader.read_to_string(&mut String::new());
        self.processes[at].restart();
        let name = self.processes[at].name;
        self.wait(&format!("calls after killing {name}"), |network| {
            network.try_query(&["status"]).is_some() && network.call_works()
        });
        self.check_books(name);
    }

    /// Every holding adds up to the supply.
    fn check_books(&self, killed: &str) {
        let balances = self.try_query(&["balances"]).unwrap();
        let amount = |value: &Value| value.as_str().unwrap().parse::<u128>().unwrap();
        let lists = balances.as_object().unwrap().values().filter_map(Value::as_array).flatten();
        let total = lists.map(|entry| amount(&entry["amount"])).sum::<u128>() + amount(&balances["burned"]);
        assert_eq!(total, SUPPLY, "after killing {killed}");
    }
}

fn dn(args: &[&str]) -> Output {
    let home = std::env::temp_dir().join("dn-test-home");
    Command::new(env!("CARGO_BIN_EXE_dn")).args(args).env("DN_HOME", home).output().unwrap()
}

fn run(args: &[&str]) -> String {
    let output = dn(args);
    assert!(output.status.success(), "dn {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_process_may_be_killed_in_the_middle_of_a_call() {
    let dir = tempfile::tempdir().unwrap();
    let mut network = Network::start(dir.path());
    network.wait("the first call", Network::call_works);
    let height = network.try_query(&["status"]).unwrap()["height"].as_u64().unwrap();
    for at in 0..network.processes.len() {
        network.kill_in_the_middle_of_a_call(at);
    }
    let status = network.try_query(&["status"]).unwrap();
    assert!(status["height"].as_u64().unwrap() > height, "the chain goes on");
    // Receipts from before the kills are settled after them.
    network.wait("a settled batch", |network| {
        let events = network.try_query(&["events", "--limit", "10000"]).unwrap();
        events["events"].as_array().unwrap().iter().any(|event| event["event"]["event"] == "batch_settled")
    });
    let events = network.try_query(&["events", "--limit", "10000"]).unwrap();
    let slashed =
        events["events"].as_array().unwrap().iter().any(|event| event["event"]["event"] == "slashed");
    assert!(!slashed, "nobody cheated, so nobody may be slashed: {events}");
    network.check_books("everything");
    for process in network.processes.iter_mut().rev() {
        process.stop();
    }
}
