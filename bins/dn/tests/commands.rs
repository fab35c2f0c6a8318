//! The commands as programs use them: JSON out, exit codes, errors that say how to go on.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use common::{dn, dn_with, error, json};
use dn_ledger::{Chain, Genesis};

#[test]
fn every_way_of_computing_gives_the_same_bits() {
    let home = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| {
        let input = [
            "infer",
            "--chat",
            "What is a trait?",
            "--max-tokens",
            "12",
            "--temperature",
            "0.8",
            "--seed",
            "5",
        ];
        json(&dn(home.path(), &[&input, more, &["--json"]].concat()))
    };
    let best = run(&[]);
    assert_eq!(best["tokens"].as_array().unwrap().len(), 12);
    assert!(!best["text"].as_str().unwrap().is_empty());
    assert!(best["timings"]["prefill_tok_per_s"].as_f64().unwrap() > 0.0);
    for more in [&["--backend", "reference"][..], &["--isa", "scalar"], &["--threads", "1"]] {
        let other = run(more);
        for key in ["tokens", "text", "trace_root", "model_id"] {
            assert_eq!(other[key], best[key], "{key} with {more:?}");
        }
    }
}

#[test]
fn logits_of_every_position_are_written() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("logits.safetensors");
    let at = path.to_str().unwrap();
    let run = |max_tokens| {
        let args =
            ["infer", "--tokens", "0,10,20,30", "--max-tokens", max_tokens, "--logits-out", at, "--json"];
        json(&dn(home.path(), &args))
    };
    let answer = run("3");
    let bytes = fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let logits = tensors.tensor("logits").unwrap();
    assert_eq!((logits.dtype(), logits.shape()), (safetensors::Dtype::F32, &[6, 4096][..]));
    // Greedy: each generated token is the best of the row before it.
    let value = |i: usize| f32::from_le_bytes(logits.data()[4 * i..4 * i + 4].try_into().unwrap());
    for (i, token) in answer["tokens"].as_array().unwrap().iter().enumerate() {
        let row: Vec<f32> = (0..4096).map(|t| value((3 + i) * 4096 + t)).collect();
        let best = (0..4096).rev().max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
        assert_eq!(token.as_u64(), Some(best as u64));
    }
    run("0");
    let bytes = fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("logits").unwrap().shape(), [4, 4096]);
}

#[test]
fn keys_are_made_imported_and_found_again() {
    let home = tempfile::tempdir().unwrap();
    let (right, wrong) = (home.path().join("right"), home.path().join("wrong"));
    fs::write(&right, "correct horse\n").unwrap();
    fs::write(&wrong, "battery staple\n").unwrap();
    let (right, wrong) = (right.to_str().unwrap(), wrong.to_str().unwrap());
    let new = ["wallet", "new", "--name", "alice", "--kdf", "pbkdf2", "--password-file", right, "--json"];
    let made = json(&dn(home.path(), &new));
    let phrase = "test test test test test test test test test test test junk\n";
    let import = ["wallet", "import", "--name", "bob", "--kdf", "pbkdf2", "--password-file", right, "--json"];
    let imported = json(&dn_with(home.path(), &import, phrase));
    assert_eq!(imported["address"], "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
    let list = json(&dn(home.path(), &["wallet", "list", "--json"]));
    assert_eq!(list["keys"].as_array().unwrap().len(), 2);
    let address = dn(home.path(), &["wallet", "address", "alice"]);
    assert_eq!(String::from_utf8(address.stdout).unwrap().trim(), made["address"]);

    let export = |password| {
        dn(home.path(), &["wallet", "export-public", "bob", "--password-file", password, "--json"])
    };
    assert!(json(&export(right))["public_key"].as_str().unwrap().starts_with("0x03"));
    assert!(error(&export(wrong)).contains("wrong password"));
    assert!(error(&dn(home.path(), &new)).contains("never overwritten"));
    assert!(error(&dn(home.path(), &["wallet", "new"])).contains("--password-file"));
    let secret = "0xzz0102030405060708";
    let refused = error(&dn_with(home.path(), &["wallet", "import", "--password-file", right], secret));
    assert!(!refused.contains("0102"), "{refused}");
}

#[test]
fn the_doctor_finds_nothing_wrong_and_names_what_is_not_there() {
    let home = tempfile::tempdir().unwrap();
    let report = json(&dn(home.path(), &["doctor", "--json"]));
    let backends = report["backends"].as_array().unwrap();
    // A device that is here computes rightly, or the row says what is wrong.
    for backend in ["wgpu", "cuda"] {
        let device = backends.iter().find(|row| row["backend"] == backend).unwrap();
        let note = device["note"].as_str().unwrap();
        assert_eq!(device["available"] == true, note.contains("qualified"), "{note}");
    }
    let cuda = backends.iter().find(|row| row["backend"] == "cuda").unwrap();
    assert!(cuda["available"] == true || cuda["note"].as_str().unwrap().contains("NV"), "{cuda}");
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.iter().any(|check| check["name"] == "verified inference" && check["status"] == "ok"));
}

#[test]
fn wrong_input_is_named() {
    let home = tempfile::tempdir().unwrap();
    let broken = home.path().join("broken.gguf");
    fs::write(&broken, b"GGUF but not really").unwrap();
    let cases: [(&[&str], &str); 7] = [
        (&["infer"], "--prompt"),
        (&["infer", "--prompt", "x", "--temperature", "3"], "--temperature"),
        (&["infer", "--tokens", "99999"], "99999"),
        (&["infer", "--prompt", "x", "--model", broken.to_str().unwrap()], "broken.gguf"),
        (&["infer", "--prompt", "x", "--backend", "reference", "--isa", "avx2"], "--isa"),
        (&["query", "status", "--rpc", "http://127.0.0.1:1"], "cannot reach the ledger"),
        (&["verify", broken.to_str().unwrap()], "is not a receipt"),
    ];
    for (args, expected) in cases {
        let error = error(&dn(home.path(), args));
        assert!(error.contains(expected), "dn {args:?}: {error}");
        assert!(!error.contains("panicked"), "{error}");
    }
    fs::create_dir(home.path().join("deepnode")).unwrap();
    fs::write(home.path().join("deepnode/dn.toml"), "rpcc = 1\n").unwrap();
    assert!(error(&dn(home.path(), &["backends"])).contains("rpcc"));
}

#[test]
fn options_that_would_be_ignored_and_files_that_cannot_be_written_are_refused_before_the_work() {
    let home = tempfile::tempdir().unwrap();
    let infer =
        |more: &[&str]| dn(home.path(), &[&["infer", "--prompt", "x", "--max-tokens", "2"], more].concat());
    for (more, expected) in [
        (&["--system", "y"][..], "cannot be used with"),
        (&["--threads", "0"], "at least 1"),
        (&["--temperature", "-1"], "0..=2"),
        (&["--logits-out", "/nonexistent/l.safetensors"], "/nonexistent/l.safetensors"),
        (&["--logits-out", "/"], "is a directory"),
    ] {
        let output = infer(more);
        let text = error(&output);
        assert!(output.stdout.is_empty(), "{more:?}: nothing was computed");
        assert!(text.contains(expected), "{more:?}: {text}");
    }
    let file = home.path().join("l.safetensors");
    let output = infer(&["--logits-out", file.to_str().unwrap()]);
    assert!(output.status.success() && file.is_file());
    assert!(!home.path().join("l.safetensors.partial").exists());
}

#[test]
#[cfg(target_os = "linux")]
fn output_that_does_not_arrive_is_a_failure() {
    let home = tempfile::tempdir().unwrap();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dn"));
    command.arg("backends").env("DN_HOME", home.path()).env("XDG_CONFIG_HOME", home.path());
    let output = command.stdout(Stdio::from(full)).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains("standard output"));
}

#[test]
fn a_package_is_written_inspected_and_verified() {
    let home = tempfile::tempdir().unwrap();
    let package = home.path().join("tiny.dnm");
    let path = package.to_str().unwrap();
    let written = json(&dn(home.path(), &["model", "convert", "-o", path, "--json"]));
    let id = written["model_id"].as_str().unwrap();
    let shown = json(&dn(home.path(), &["model", "inspect", path, "--tensors", "--json"]));
    assert_eq!(shown["model_id"], written["model_id"]);
    assert_eq!(shown["manifest"]["hyperparameters"]["layers"], 5);
    assert!(shown["tensors"].as_array().unwrap().iter().any(|t| t["form"] == "blocks of 32"));
    let text = dn(home.path(), &["model", "inspect", path]);
    assert!(String::from_utf8(text.stdout).unwrap().contains(id));
    let verified = json(&dn(home.path(), &["model", "verify", path, "--id", id, "--json"]));
    assert_eq!(verified["verified"], true);
    let infer = |model: &[&str]| {
        let ask = ["infer", "--chat", "Hello!", "--max-tokens", "5", "--json"];
        json(&dn(home.path(), &[&ask[..], model].concat()))
    };
    let (packed, embedded) = (infer(&["--model", path]), infer(&[]));
    for key in ["tokens", "trace_root", "model_id"] {
        assert_eq!(packed[key], embedded[key], "{key}");
    }
    let coarse = home.path().join("out");
    fs::create_dir(&coarse).unwrap();
    let other = json(&dn(
        home.path(),
        &["model", "convert", path, "--block", "row", "-o", coarse.to_str().unwrap(), "--json"],
    ));
    assert_eq!(other["path"], coarse.join("tiny.dnm").to_str().unwrap());
    assert_ne!(other["model_id"], written["model_id"]);
    assert!(
        error(&dn(home.path(), &["model", "convert", path, "--block", "64", "-o", path]))
            .contains("32, 128 or row")
    );
    let onto_itself = dn(home.path(), &["model", "convert", path, "--block", "row", "-o", path]);
    assert!(error(&onto_itself).contains("overwritten"));
    let wrong = dn(home.path(), &["model", "verify", coarse.join("tiny.dnm").to_str().unwrap(), "--id", id]);
    assert!(error(&wrong).contains("--id"));
    let mut bytes = fs::read(&package).unwrap();
    let at = bytes.len() - 100_000;
    bytes[at] ^= 1;
    fs::write(&package, bytes).unwrap();
    let message = error(&dn(home.path(), &["model", "verify", path]));
    assert!(message.contains("tensor `blk.4.") && message.contains("rows"), "{message}");
}

/// As the operators' guide starts one, with a key of its own from a keystore.
#[test]
fn a_node_runs_with_its_key() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("pw"), "a password\n").unwrap();
    let new =
        ["wallet", "new", "--name", "node", "--kdf", "pbkdf2", "--password-file", &path("pw"), "--json"];
    let keystore = json(&dn(home.path(), &new))["path"].as_str().unwrap().to_owned();
    fs::write(path("plan.toml"), dn(home.path(), &["genesis", "example"]).stdout).unwrap();
    let built = dn(home.path(), &["genesis", "build", &path("plan.toml"), "--out", &path("g.json")]);
    assert!(built.status.success());
    for key in ["node", &keystore] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dn"));
        command.env("DN_HOME", home.path()).env("XDG_CONFIG_HOME", home.path());
        command.args(["ledger", "run", "--genesis", &path("g.json"), "--key", key]);
        command.args(["--password-file", &path("pw"), "--data-dir", &path("chain"), "--json"]);
        command.args(["--rpc-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"]);
        let mut node = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(node.stdout.take().unwrap()).read_line(&mut line).unwrap();
        node.kill().unwrap();
        let said = String::from_utf8_lossy(&node.wait_with_output().unwrap().stderr).into_owned();
        assert!(line.contains("\"rpc\""), "{line}{said}");
    }
    let without = dn(home.path(), &["ledger", "run", "--genesis", &path("g.json")]);
    assert!(error(&without).contains("--follow"));

    // A genesis of long ago: a first start would wait for others for ever.
    let plan = fs::read_to_string(path("plan.toml")).unwrap();
    let now = plan.lines().find(|line| line.starts_with("time_ms = ")).unwrap();
    fs::write(path("plan.toml"), plan.replace(now, "time_ms = 1_700_000_000_000")).unwrap();
    assert!(
        dn(home.path(), &["genesis", "build", &path("plan.toml"), "--out", &path("old.json")])
            .status
            .success()
    );
    let late = [
        "ledger",
        "run",
        "--genesis",
        &path("old.json"),
        "--key",
        "node",
        "--password-file",
        &path("pw"),
        "--data-dir",
        &path("late"),
        "--first-start",
    ];
    let said = error(&dn(home.path(), &late));
    assert!(said.contains("--first-start") && said.contains("--unsigned-from 1"), "{said}");
    assert!(!fs::exists(path("late")).unwrap());
}

#[test]
fn a_plan_becomes_the_same_genesis_everywhere() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let example = dn(home.path(), &["genesis", "example"]);
    fs::write(path("plan.toml"), &example.stdout).unwrap();
    for name in ["a.json", "b.json"] {
        let built = dn(home.path(), &["genesis", "build", &path("plan.toml"), "--out", &path(name)]);
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        assert!(built.stderr.is_empty(), "the example is nothing to warn of");
        assert!(String::from_utf8_lossy(&built.stdout).contains("--trusted 0:0x"));
    }
    assert_eq!(fs::read(path("a.json")).unwrap(), fs::read(path("b.json")).unwrap());
    let shown = json(&dn(home.path(), &["genesis", "show", &path("a.json"), "--json"]));
    assert_eq!(shown["validators"]["members"].as_array().unwrap().len(), 4);
    // What `--trusted` takes is the hash of the first block, not that of the genesis.
    let genesis = Genesis::from_json(&fs::read_to_string(path("a.json")).unwrap()).unwrap();
    let trusted = format!("0:{}", Chain::new(&genesis).tip().hash());
    assert_eq!(shown["trusted"], trusted);
    assert_eq!(shown["hash"], genesis.hash().to_string());
    let shown = dn(home.path(), &["genesis", "show", &path("a.json")]);
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(text.contains("25.0 %") && text.contains(&format!("--trusted {trusted}\n")), "{text}");

    // What is there is left alone; what is wrong is named with its place.
    let again = error(&dn(home.path(), &["genesis", "build", &path("plan.toml"), "--out", &path("a.json")]));
    assert!(again.contains("a.json") && again.contains("exists"), "{again}");
    let plan = String::from_utf8(example.stdout).unwrap();
    // Validators that could pay for nothing are told of, and the genesis is made.
    fs::write(path("plan.toml"), plan.replace("amount = \"100\"", "amount = \"0.5\"")).unwrap();
    let poor = dn(home.path(), &["genesis", "build", &path("plan.toml"), "--out", &path("poor.json")]);
    let said = String::from_utf8(poor.stderr).unwrap();
    assert!(
        poor.status.success() && said.matches("has 0.5 DN free, and at least 1 DN").count() == 4,
        "{said}"
    );
    for (from, to, said) in [
        ("stake = \"50000\"", "stake = \"much\"", "much"),
        ("preset = \"main\"", "preset = \"moon\"", "moon"),
        ("chain_id = 7", "chain_id = 7\nchain_name = \"x\"", "chain_name"),
        ("stake = \"50000\"", "stake = \"50000000\"", "team"),
    ] {
        fs::write(path("plan.toml"), plan.replacen(from, to, 1)).unwrap();
        let refused =
            error(&dn(home.path(), &["genesis", "build", &path("plan.toml"), "--out", &path("c.json")]));
        assert!(refused.contains("plan.toml") && refused.contains(said), "{refused}");
    }
    fs::write(path("a.json"), "{}").unwrap();
    assert!(error(&dn(home.path(), &["genesis", "show", &path("a.json")])).contains("chain_id"));
}
