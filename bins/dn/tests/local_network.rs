//! `dn ledger local`: what becomes of the network when processes of it die.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
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

#[cfg(target_os = "linux")]
#[test]
fn one_of_four_dies_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dn"));
    command.args(["ledger", "local", "--json", "--interval-ms", "100", "--data-dir"]).arg(dir.path());
    command.env("DN_HOME", dir.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut network = Killed(command.spawn().unwrap());
    let id = network.0.id();
    let mut lines = BufReader::new(network.0.stdout.take().unwrap()).lines();
    let mut line = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    let up = line();
    let rpc: Vec<String> = serde_json::from_value(up["rpc"].clone()).unwrap();
    let before = wait_for(&rpc[0], 1);

    let genesis = std::fs::read_to_string(dir.path().join("genesis.json")).unwrap();
    let params = serde_json::from_str::<Value>(&genesis).unwrap()["params"].clone();
    assert_eq!(params["beacon"]["required"], true);
    assert_eq!(params["dispute"]["referee"], 1);
    assert!(params["quality"]["max_rounds"].as_u64().unwrap() > 0);

    let kill = |validator| {
        let victim = process_of(id, validator).to_string();
        assert!(Command::new("kill").args(["-9", &victim]).status().unwrap().success());
    };
    kill(2);
    let ended = line();
    assert_eq!((&ended["ended"], ended["status"].as_str().unwrap()), (&json!(2), "signal: 9 (SIGKILL)"));
    assert!(std::path::Path::new(ended["log"].as_str().unwrap()).exists());
    wait_for(&rpc[0], before + 5);
    wait_for(&rpc[3], before + 5);

    // Half is no quorum: it ends and says why.
    kill(1);
    assert_eq!(line()["ended"], 1);
    let status = network.0.wait().unwrap();
    let mut said = String::new();
    network.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("validator-2, validator-1 ended by itself; too few"), "{said}");
    assert!(said.contains("validator-2 has ended by itself (signal: 9 (SIGKILL))"), "{said}");
}
