//! `dn ledger local`: what becomes of the network when processes of it die.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(90);

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

fn height(rpc: &str) -> Option<u64> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "dn_status" }).to_string();
    let mut stream = TcpStream::connect(rpc.strip_prefix("http://")?).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let length = body.len();
    let request =
        format!("POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let answer: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
    answer["result"]["height"].as_u64()
}

fn wait_for(rpc: &str, above: u64) -> u64 {
    let began = Instant::now();
    loop {
        match height(rpc) {
            Some(height) if height > above => return height,
            _ => assert!(began.elapsed() < PATIENCE, "no block after {above} at {rpc}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The process of a validator, by what its command line says.
fn process_of(parent: u32, validator: usize) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    let mut children = children.split_whitespace().map(|id| id.parse::<u32>().unwrap());
    let key = format!("--local-key\0{validator}\0");
    let runs = |id: &u32| std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap().contains(&key);
    children.find(runs).unwrap()
}

/// A network of four, and what it says on standard output, line by line.
fn start(dir: &Path) -> (Killed, impl FnMut() -> Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dn"));
    command.args(["ledger", "local", "--json", "--interval-ms", "100", "--data-dir"]).arg(dir);
    command.env("DN_HOME", dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut network = Killed(command.spawn().unwrap());
    let mut lines = BufReader::new(network.0.stdout.take().unwrap()).lines();
    (network, move || serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap())
}

/// The program as a line that it printed calls it.
fn printed(line: &Value) -> Command {
    let mut words = line.as_str().unwrap().split(' ');
    assert_eq!(words.next(), Some("dn"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_dn"));
    command.args(words).stdin(Stdio::null()).env("XDG_CONFIG_HOME", env!("CARGO_TARGET_TMPDIR"));
    command
}

fn kill(process: u32) {
    assert!(Command::new("kill").args(["-9", &process.to_string()]).status().unwrap().success());
}

#[cfg(target_os = "linux")]
#[test]
fn a_network_is_used_and_mended_with_the_lines_that_it_prints() {
    let dir = tempfile::tempdir().unwrap();
    let (network, mut line) = start(dir.path());
    let up = line();
    let rpc: Vec<String> = serde_json::from_value(up["rpc"].clone()).unwrap();
    let keys = dir.path().join("keys");
    assert_eq!(up["keys"], keys.to_str().unwrap());
    for name in ["password", "faucet.json", "validator-0.json", "validator-3.json"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(keys.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let sent = printed(&up["first_tx"]).output().unwrap();
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));

    // Of the transfer of 1 DN and of what every validator starts with.
    let genesis = std::fs::read_to_string(dir.path().join("genesis.json")).unwrap();
    let genesis: Value = serde_json::from_str(&genesis).unwrap();
    let hundred = Value::from("100000000000000000000");
    let free = |address: &Value| {
        let mut accounts = genesis["accounts"].as_array().unwrap().iter();
        accounts.any(|account| account["address"] == *address && account["balance"] == hundred)
    };
    let validators = genesis["identities"].as_array().unwrap();
    assert!(validators.len() == 4 && validators.iter().all(|identity| free(&identity["address"])));
    let first = up["first_tx"].as_str().unwrap().split(' ').rev().nth(1).unwrap();
    let query = Value::from(format!("dn query --rpc {} --json account {first}", rpc[0]));
    let account = printed(&query).output().unwrap();
    let account: Value = serde_json::from_slice(&account.stdout).unwrap();
    assert_eq!(account["balance"], "101000000000000000000");

    // One is killed and started again alone: it goes on, and counts, so that another one may die.
    kill(process_of(network.0.id(), 2));
    let mut again = printed(&line()["restart"]);
    let mut again = Killed(again.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let before = wait_for(&rpc[0], 1);
    wait_for(&rpc[2], before);
    kill(process_of(network.0.id(), 1));
    assert!(line()["restart"].is_string());
    let before = wait_for(&rpc[0], 1);
    wait_for(&rpc[2], before + 3);
    assert!(again.0.try_wait().unwrap().is_none());
}

#[cfg(target_os = "linux")]
#[test]
fn one_of_four_dies_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut network, mut line) = start(dir.path());
    let id = network.0.id();
    let up = line();
    let rpc: Vec<String> = serde_json::from_value(up["rpc"].clone()).unwrap();
    let before = wait_for(&rpc[0], 1);

    let genesis = std::fs::read_to_string(dir.path().join("genesis.json")).unwrap();
    let params = serde_json::from_str::<Value>(&genesis).unwrap()["params"].clone();
    assert_eq!(params["beacon"]["required"], true);
    assert_eq!(params["dispute"]["referee"], 1);
    assert!(params["quality"]["max_rounds"].as_u64().unwrap() > 0);

    kill(process_of(id, 2));
    let ended = line();
    assert_eq!((&ended["ended"], ended["status"].as_str().unwrap()), (&json!(2), "signal: 9 (SIGKILL)"));
    assert!(Path::new(ended["log"].as_str().unwrap()).exists());
    wait_for(&rpc[0], before + 5);
    wait_for(&rpc[3], before + 5);

    // Half is no quorum: it ends and says why.
    kill(process_of(id, 1));
    let ended = line();
    assert_eq!((&ended["ended"], &ended["restart"]), (&json!(1), &Value::Null));
    let status = network.0.wait().unwrap();
    let mut said = String::new();
    network.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("validator-2, validator-1 ended by itself; too few"), "{said}");
    assert!(said.contains("validator-2 has ended by itself (signal: 9 (SIGKILL))"), "{said}");
}
