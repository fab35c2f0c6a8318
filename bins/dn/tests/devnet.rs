//! The local network that stays up: its state survives both ways of ending it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

struct Running {
    child: Child,
    at: Value,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dn"));
    command.args([
        "devnet",
        "--json",
        "--listen",
        "127.0.0.1:0",
        "--ledger-listen",
        "127.0.0.1:0",
        "--data-dir",
    ]);
    command.arg(dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

/// Starts a network; its first line says where it is.
fn start(dir: &Path) -> Running {
    let mut child = command(dir).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let at = serde_json::from_str(&line).unwrap_or_else(|_| panic!("`{line}` is not JSON"));
    Running { child, at }
}

impl Running {
    fn text(&self, key: &str) -> &str {
        self.at[key].as_str().unwrap()
    }

    fn call(&self) -> Value {
        let address = self.text("base_url").strip_prefix("http://").unwrap().strip_suffix("/v1").unwrap();
        let body = serde_json::json!({
            "model": self.text("model"), "max_tokens": 6, "seed": 7,
            "messages": [{"role": "user", "content": "What is a slice?"}],
        })
        .to_string();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let (key, length) = (self.text("api_key"), body.len());
        write!(
            stream,
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        let json = &body[body.find('{').unwrap()..=body.rfind('}').unwrap()];
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    fn query(&self, args: &[&str]) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dn"));
        let output =
            command.args(["query", "--json", "--rpc", self.text("ledger_url")]).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn wait_for_end(child: &mut Child) -> bool {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.success();
        }
        assert!(started.elapsed() < Duration::from_secs(30), "it does not stop");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_network_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = start(dir.path());
    let answer = first.call();
    assert_eq!(answer["usage"]["completion_tokens"], 6);

    let mut second = command(dir.path()).stderr(Stdio::piped()).spawn().unwrap();
    let mut error = String::new();
    second.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert!(!wait_for_end(&mut second) && error.contains("in use"), "{error}");

    // Killed, then stopped in order: the same network each time.
    let known =
        |running: &Running| ["base_url", "api_key", "model_id"].map(|key| running.text(key).to_owned());
    let before = (known(&first), first.query(&["status"])["height"].as_u64().unwrap());
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let mut again = start(dir.path());
    assert_eq!(known(&again), before.0);
    assert!(again.query(&["status"])["height"].as_u64().unwrap() >= before.1);
    let same = again.call();
    assert_eq!(
        same["choices"][0]["message"], answer["choices"][0]["message"],
        "the same bits after the restart"
    );

    let pid = again.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(wait_for_end(&mut again.child), "it ends well when it is asked to");
    let last = start(dir.path());
    assert_eq!(known(&last), before.0);
    let supply = last.query(&["supply"]);
    assert_eq!(supply["total"], supply["supply"]);
}
