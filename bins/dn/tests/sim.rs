//! `dn sim` as researchers use it: files that do not depend on threads or interruptions, errors that say where.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use dn_sim::study::FORMULAS;
use serde_json::Value;

use common::{dn, dn_with, error, json};

/// A study of a second.
const SCENARIO: &str = "name = 'tiny'\nwarmup = 4\nepochs = 8\nseeds = { first = 3, count = 2 }\n\
    policies = ['powr', 'stake']\nattacks = [{ kind = 'junk', stake = 0.4 }]\n\
    workers.count = 6\nvalidators.count = 4\nreview = { committee = 3, auditors = 2 }\n";

/// Every file below a folder and what is in it, by name.
fn files(folder: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn sim_runs_once_and_its_files_do_not_depend_on_threads() {
    let home = tempfile::tempdir().unwrap();
    let scenario = home.path().join("tiny.toml");
    fs::write(&scenario, SCENARIO).unwrap();
    let run = |out: &str, threads: &str| {
        let folder = home.path().join(out);
        let at = [scenario.to_str().unwrap(), "--out", folder.to_str().unwrap(), "--threads", threads];
        let summary = json(&dn(home.path(), &[&["sim", "run"], &at[..], &["--json"]].concat()));
        (summary, files(&folder))
    };
    let (summary, first) = run("one", "1");
    let cells = summary["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 2);
    assert!(cells.iter().all(|cell| cell["seeds"] == 2 && cell["gain"].is_f64()));
    for name in ["report.html", "cells.csv", "series.csv", "summary.csv", "cells.parquet", "runs.jsonl"] {
        assert!(first.get(name).is_some_and(|bytes| !bytes.is_empty()), "{name} of {:?}", first.keys());
    }
    assert!(first.keys().any(|name| name.starts_with("plots/") && name.ends_with(".svg")));
    // The runs are there: nothing is run again, not even in another order.
    assert_eq!(run("one", "2"), (summary.clone(), first.clone()));
    let (other, mut third) = run("three", "3");
    assert_eq!(other, summary);
    // Runs are kept as they end; all else is sorted.
    let runs = |files: &mut std::collections::BTreeMap<String, Vec<u8>>| {
        let text = String::from_utf8(files.remove("runs.jsonl").unwrap()).unwrap();
        text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    let mut first = first;
    assert_eq!(runs(&mut third), runs(&mut first));
    assert!(third == first, "some of {:?} differ", first.keys());

    // A torn last run is run again; a report alone is written of what is left.
    let folder = home.path().join("one");
    fs::remove_file(folder.join("report.html")).unwrap();
    let shown = dn(home.path(), &["sim", "report", folder.to_str().unwrap()]);
    assert!(shown.status.success());
    assert!(String::from_utf8(shown.stdout).unwrap().contains("powr"));
    assert!(fs::read(folder.join("report.html")).unwrap() == first["report.html"]);
    let kept = fs::read(folder.join("runs.jsonl")).unwrap();
    fs::write(folder.join("runs.jsonl"), &kept[..kept.len() - 9]).unwrap();
    let (summary_again, again) = run("one", "1");
    assert_eq!(summary_again, summary);
    assert!(again["runs.jsonl"] == kept && again["report.html"] == first["report.html"]);
    let nothing = dn(home.path(), &["sim", "report", home.path().to_str().unwrap()]);
    assert!(error(&nothing).contains("study.json"));
}

#[test]
fn sim_names_what_is_wrong_with_a_scenario() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s.toml");
    let out = home.path().join("out");
    let at = ["sim", "run", path.to_str().unwrap(), "--out", out.to_str().unwrap()];
    for (text, expected) in [
        (SCENARIO.replace("stake = 0.4", "stake = 4"), "attacks[0].stake: 4 is out of range"),
        (SCENARIO.replace("'stake'", "'steak'"), "policies[1]: `steak` is unknown"),
        (format!("{SCENARIO}[workrs]\n"), "workrs"),
        ("name =".to_owned(), "line 1"),
        (format!("{SCENARIO}population.snapshot = 'none.json'\n"), "population.snapshot: cannot read"),
        (
            format!("{SCENARIO}demand.task = 0.001\nworkers.power = 1000\n"),
            "demand.task: the workers can do 6000000 tasks of this size",
        ),
    ] {
        fs::write(&path, text).unwrap();
        let output = dn(home.path(), &at);
        let text = error(&output);
        assert!(text.contains("scenario: ") && text.contains(expected), "{text}");
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(!out.exists(), "nothing is written for a scenario that is refused");
    }
    let missing = dn(home.path(), &["sim", "run", "/nonexistent/s.toml"]);
    assert!(error(&missing).contains("/nonexistent/s.toml"));
}

#[test]
fn sim_sweeps_over_every_point() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("tiny.toml");
    fs::write(&path, SCENARIO).unwrap();
    let out = home.path().join("sweep");
    let sweep = |set: &str| {
        let at = ["sim", "sweep", path.to_str().unwrap(), "--set", set, "--seeds", "1", "--json"];
        dn(home.path(), &[&at[..], &["--out", out.to_str().unwrap()]].concat())
    };
    let refused = sweep("powr.trust.history_gain=128,-1");
    assert_eq!(refused.status.code(), Some(2));
    let text = error(&refused);
    assert!(
        text.contains("powr.trust.history_gain") && text.contains("a whole number from 0 to 4294967295"),
        "{text}"
    );
    assert!(error(&sweep("epochs=8,8")).contains("the value 8 is there twice"));
    // Too many tasks: seen when the population is drawn.
    let many = home.path().join("many.toml");
    fs::write(&many, format!("{SCENARIO}demand.task = 0.001\n")).unwrap();
    let at = [
        "sim",
        "sweep",
        many.to_str().unwrap(),
        "--set",
        "workers.power=1,1000",
        "--out",
        out.to_str().unwrap(),
    ];
    let refused = dn(home.path(), &at);
    assert!(
        error(&refused).contains("power=1000: scenario: demand.task: the workers can do"),
        "{}",
        error(&refused)
    );
    assert!(!out.exists(), "every point is checked before the first is run");
    let summary = json(&sweep("powr.trust.history_gain=128,512"));
    let levels: Vec<_> =
        summary["cells"].as_array().unwrap().iter().map(|c| c["level"].as_str().unwrap()).collect();
    assert_eq!(levels.len(), 4);
    for value in ["history_gain=128", "history_gain=512"] {
        assert_eq!(levels.iter().filter(|level| level.starts_with(value)).count(), 2, "{levels:?}");
    }
    let files = files(&out);
    for name in ["report.html", "point-0/report.html", "point-1/runs.jsonl"] {
        assert!(files.contains_key(name), "{name} of {:?}", files.keys());
    }
    // An attack's own parameter; the label does not pass for the level of an attack.
    let at =
        ["sim", "sweep", path.to_str().unwrap(), "--set", "attacks[0].stake=0.3", "--seeds", "1", "--json"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_dn"));
    command.args(at).env("DN_HOME", home.path()).current_dir(home.path());
    let output = command.output().unwrap();
    assert_eq!(json(&output)["cells"][0]["level"], "attacks[0].stake=0.3 stake=0.3");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("1 of 1: attacks[0].stake=0.3\n2 runs\n"), "{said}");
    let default_folders = || -> Vec<_> {
        let all =
            fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        all.filter(|name| name.starts_with("sweep-tiny-attacks-0-.stake-")).collect()
    };
    assert_eq!(default_folders().len(), 1);
    let other = at.map(|word| if word == "attacks[0].stake=0.3" { "attacks[0].stake=0.2" } else { word });
    let mut command = Command::new(env!("CARGO_BIN_EXE_dn"));
    assert!(
        command
            .args(other)
            .env("DN_HOME", home.path())
            .current_dir(home.path())
            .output()
            .unwrap()
            .status
            .success()
    );
    assert_eq!(default_folders().len(), 2, "sweeps of other values go elsewhere");

    // Another sweep does not pass for the one that is there, also where its points are the same in another order.
    for set in ["powr.trust.history_gain=128,256", "powr.trust.history_gain=512,128"] {
        let refused = sweep(set);
        assert!(error(&refused).contains("holds another sweep"), "{}", error(&refused));
    }
    assert!(fs::read(out.join("sweep.json")).unwrap() == files["sweep.json"]);

    // The report is written again of what is there; points that were not come to are left out.
    let report = || dn(home.path(), &["sim", "report", out.to_str().unwrap()]);
    fs::remove_file(out.join("report.html")).unwrap();
    assert!(report().status.success());
    assert!(fs::read(out.join("report.html")).unwrap() == files["report.html"]);
    fs::remove_dir_all(out.join("point-1")).unwrap();
    let shown = String::from_utf8(report().stdout).unwrap();
    assert!(shown.contains("history_gain=128") && !shown.contains("history_gain=512"), "{shown}");
}

/// An interruption ends a run in its next epoch, also in a search that has finished nothing yet.
#[cfg(unix)]
#[test]
fn sim_stops_in_the_middle_of_a_run() {
    let home = tempfile::tempdir().unwrap();
    let (scenario, out) = (home.path().join("long.toml"), home.path().join("out"));
    let long =
        ADAPTIVE.replace("epochs = 30", "epochs = 100000").replace("candidates = 2", "candidates = 64");
    fs::write(&scenario, long).unwrap();
    let args = ["sim", "run", scenario.to_str().unwrap(), "--threads", "1", "--out", out.to_str().unwrap()];
    let mut command = Command::new(env!("CARGO_BIN_EXE_dn"));
    command.args(args).env("DN_HOME", home.path()).env("XDG_CONFIG_HOME", home.path());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    // Written right before the first run.
    while !out.join("study.json").exists() {
        assert!(start.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(500));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
            panic!("it plays on");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let text = error(&child.wait_with_output().unwrap());
    assert!(text.contains("stopping") && text.contains("stopped; 0 of 6000 runs"), "{text}");
}

#[test]
fn sim_answers_line_by_line() {
    let home = tempfile::tempdir().unwrap();
    let split = r#"{"id": "a", "op": "split", "in": {"fee": 1000}}"#;
    let median =
        r#"{"id": 3, "op": "weighted_median", "in": {"stake": [1, 1], "values": [1, 2], "support": 1}}"#;
    let output = dn_with(home.path(), &["sim", "eval"], &format!("{split}\r\n}}garbage{{\n{median}"));
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[0]["id"], &lines[0]["out"]["worker"]), (&"a".into(), &"650".into()));
    assert!(lines[1]["id"].is_null() && lines[1]["error"].as_str().unwrap().contains("column 1"));
    assert_eq!((&lines[2]["id"], &lines[2]["out"]["median"]), (&3.into(), &1.0.into()));
}

#[test]
fn sim_prints_scenarios_that_run() {
    let home = tempfile::tempdir().unwrap();
    let read = |output: &Output| {
        assert!(output.status.success());
        dn_sim::scenario::Scenario::from_toml(std::str::from_utf8(&output.stdout).unwrap()).unwrap()
    };
    assert_eq!(read(&dn(home.path(), &["sim", "scenario", "first"])).name, "first");
    assert_eq!(read(&dn(home.path(), &["sim", "defaults"])).name, "defaults");
    let unknown = dn(home.path(), &["sim", "scenario", "frist"]);
    assert!(error(&unknown).contains("known: suite, first"));

    let path = home.path().join("net.json");
    let columns =
        r#"{"stake": [9, 5, 0, 0, 0], "validator_permit": [1, 1, 0, 0, 0], "incentive": [0, 0, 2, 1, 1]}"#;
    fs::write(&path, columns).unwrap();
    let output = dn(home.path(), &["sim", "import", path.to_str().unwrap()]);
    assert_eq!(read(&output).population.snapshot.as_deref(), Some(&*path));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("# 3 workers") && text.ends_with("\n[review]\ncommittee = 2\nauditors = 2\n"),
        "{text}"
    );
    fs::write(home.path().join("net.toml"), text).unwrap();
    let at = ["sim", "run", "net.toml", "--seeds", "1", "--json", "--out", "net"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_dn"));
    let output = command.args(at).env("DN_HOME", home.path()).current_dir(home.path()).output().unwrap();
    assert!(output.status.success(), "two validators make a committee: {}", error(&output));
    fs::write(&path, "[{}, 3]").unwrap();
    let wrong = error(&dn(home.path(), &["sim", "import", path.to_str().unwrap()]));
    assert!(wrong.contains("net.json: [1]: an object"), "{wrong}");
}

/// Adaptive attackers against three policies, many short runs.
const ADAPTIVE: &str = "name = 'adaptive'\nwarmup = 20\nepochs = 30\nseeds = { first = 3, count = 2000 }\n\
    policies = ['powr', 'work', 'stake']\nattacks = [{ kind = 'adaptive', candidates = 2 }]\n\
    workers.count = 6\nvalidators.count = 4\nreview = { committee = 3, auditors = 2 }\n";

/// What adaptive attackers found is written when a study is interrupted, and stays when one goes on that need not search again.
#[cfg(unix)]
#[test]
fn sim_keeps_what_adaptive_attackers_found_over_an_interruption() {
    let home = tempfile::tempdir().unwrap();
    let (scenario, out) = (home.path().join("adaptive.toml"), home.path().join("out"));
    fs::write(&scenario, ADAPTIVE).unwrap();
    let args = ["sim", "run", scenario.to_str().unwrap(), "--threads", "1", "--out", out.to_str().unwrap()];
    let mut command = Command::new(env!("CARGO_BIN_EXE_dn"));
    command.args(args).env("DN_HOME", home.path()).env("XDG_CONFIG_HOME", home.path());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let runs = || fs::read_to_string(out.join("runs.jsonl")).unwrap_or_default();
    let finished = |policy: &str| runs().contains(&format!("{{\"key\":{{\"policy\":\"{policy}\""));
    let start = Instant::now();
    while !["powr", "work", "stake"].into_iter().all(finished) {
        assert!(start.elapsed() < Duration::from_secs(300) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let output = child.wait_with_output().unwrap();
    assert!(error(&output).contains("stopped; "));
    let found = fs::read_to_string(out.join("adaptive.txt")).unwrap();
    for policy in ["powr", "stake", "work"] {
        assert!(
            found.contains(&format!("adaptive candidates=2 against {policy}: the search chose ")),
            "{found}"
        );
    }

    // All runs of the first seed are there: nobody searches again.
    fs::remove_file(out.join("adaptive.txt")).unwrap();
    let again = dn(home.path(), &[&args[..], &["--seeds", "1"]].concat());
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(fs::read_to_string(out.join("adaptive.txt")).unwrap(), found);
}

/// Runs that other formulas played are not mixed with this program's; what is there can still be shown.
#[test]
fn sim_refuses_to_go_on_from_other_formulas() {
    let home = tempfile::tempdir().unwrap();
    let (scenario, out) = (home.path().join("tiny.toml"), home.path().join("out"));
    fs::write(&scenario, SCENARIO).unwrap();
    let args = ["sim", "run", scenario.to_str().unwrap(), "--out", out.to_str().unwrap()];
    assert!(dn(home.path(), &args).status.success());
    for name in ["runs.jsonl", "study.json"] {
        let text = fs::read_to_string(out.join(name)).unwrap();
        fs::write(out.join(name), text.replacen(FORMULAS, "0123abcd", 1)).unwrap();
    }
    let refused = error(&dn(home.path(), &args));
    assert!(refused.contains("0123abcd") && refused.contains("another folder"), "{refused}");
    assert!(dn(home.path(), &["sim", "report", out.to_str().unwrap()]).status.success());
}
