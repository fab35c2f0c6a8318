//! The demo, run as a person runs it, and its report, checked by somebody who trusts none of its own checks.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// 100,000,000 DN in atto.
const SUPPLY: u128 = 100_000_000 * 10u128.pow(18);

fn dn(args: &[&str]) -> Output {
    let home = std::env::temp_dir().join("dn-test-home");
    Command::new(env!("CARGO_BIN_EXE_dn")).args(args).env("DN_HOME", home).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn amount(value: &Value) -> u128 {
    value.as_str().unwrap_or_else(|| panic!("{value} is no amount")).parse().unwrap()
}

/// Adds up whatever one line of balances holds, without knowing more of it than that holdings have an `amount`.
fn sum(line: &Value) -> u128 {
    let lists = line.as_object().unwrap().values().filter_map(Value::as_array).flatten();
    lists.map(|entry| amount(&entry["amount"])).sum::<u128>() + amount(&line["burned"])
}

#[test]
fn the_demo_catches_the_cheat_and_its_books_add_up_in_every_block() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    let output = dn(&["devnet", "--demo", "--report", at]);
    assert!(output.status.success(), "{}", text(&output));

    let report = read(&dir.path().join("report.json"));
    let calls = report["calls"].as_array().unwrap();
    assert!(calls.len() >= 10, "{} calls", calls.len());
    assert!(calls.iter().any(|call| call["streamed"] == true));
    check_balances(dir.path(), &report);
    check_slashes(&report);
    check_receipts(dir.path(), calls);
}

fn check_balances(dir: &Path, report: &Value) {
    let lines = fs::read_to_string(dir.join("balances.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() as u64 > report["height"].as_u64().unwrap());
    for (height, line) in lines.iter().enumerate() {
        assert_eq!(line["height"], height);
        assert_eq!(sum(line), SUPPLY, "block {height}");
        assert_eq!(amount(&line["supply"]), SUPPLY, "block {height}");
    }
    let burned: Vec<u128> = lines.iter().map(|line| amount(&line["burned"])).collect();
    assert!(burned.is_sorted() && burned.last() > burned.first(), "slashes and fees burn something");
}

fn check_slashes(report: &Value) {
    let slashed: BTreeSet<&str> =
        report["slashes"].as_array().unwrap().iter().map(|slash| slash["who"].as_str().unwrap()).collect();
    assert_eq!(slashed, BTreeSet::from(["worker-3"]));
    let refunded: u128 =
        report["refunds"].as_array().unwrap().iter().map(|refund| amount(&refund["fees"])).sum();
    let forged = report["calls"].as_array().unwrap().iter().filter(|call| !call["forged"].is_null());
    assert!(forged.clone().count() >= 2);
    // Whole batches are thrown out, so honest answers in them are refunded too.
    assert!(refunded > 0);
}

fn check_receipts(dir: &Path, calls: &[Value]) {
    let mut seen = BTreeSet::new();
    for forged in [false, true] {
        let call = calls.iter().find(|call| call["forged"].is_null() != forged).unwrap();
        let id = call["receipt_id"].as_str().unwrap();
        let path = dir.join("receipts").join(format!("{id}.json"));
        let output = dn(&["verify", path.to_str().unwrap(), "--json"]);
        let verdict: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
        assert_eq!(output.status.success(), !forged, "{verdict}");
        assert_eq!(verdict["valid"], !forged);
        check_openings(&path, forged);
        seen.insert(id.to_owned());
    }
    // A flipped digit in a receipt is found without any replay.
    let path = dir.join("receipts").join(format!("{}.json", seen.first().unwrap()));
    let mut receipt = read(&path);
    let tokens = receipt["receipt"]["body"]["output_tokens"].as_u64().unwrap();
    receipt["receipt"]["body"]["output_tokens"] = (tokens ^ 1).into();
    let flipped = dir.join("flipped.json");
    fs::write(&flipped, receipt.to_string()).unwrap();
    let output = dn(&["verify", flipped.to_str().unwrap()]);
    assert!(!output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("WRONG"), "{}", text(&output));
    check_what_lies_beside(&path, dir);
}

/// What a file says beside the receipt is checked, or said not to be, or refused.
fn check_what_lies_beside(path: &Path, dir: &Path) {
    let receipt = read(path);
    let changed = |change: &dyn Fn(&mut Value), more: &[&str]| {
        let mut receipt = receipt.clone();
        change(&mut receipt);
        let file = dir.join("changed.json");
        fs::write(&file, receipt.to_string()).unwrap();
        dn(&[&["verify", file.to_str().unwrap()], more].concat())
    };
    let other = |receipt: &mut Value| receipt["id"] = receipt["receipt"]["body"]["trace_root"].clone();
    let output = changed(&other, &[]);
    assert!(!output.status.success() && text(&output).contains("another receipt's"), "{}", text(&output));
    let output = changed(&other, &["--open", "0:token"]);
    assert!(
        !output.status.success() && text(&output).contains("it says that it is receipt"),
        "{}",
        text(&output)
    );
    // Nothing here knows the batch: it is not passed over in silence.
    let output = changed(&|_| {}, &[]);
    assert!(text(&output).contains("only the ledger knows which batch"), "{}", text(&output));
    for (change, expected) in [
        (
            &(|r: &mut Value| r["batch"]["root"] = "0x00".into()) as &dyn Fn(&mut Value),
            "unknown field `root`",
        ),
        (&|r: &mut Value| r["batch"]["id"] = 7.into(), "is not a receipt"),
        (&|r: &mut Value| r["audited"] = true.into(), "unknown field `audited`"),
        (&|r: &mut Value| r["receipt"]["body"]["bonus"] = 1.into(), "unknown field `receipt.body.bonus`"),
        (
            &|r: &mut Value| r["request"]["sampling"]["bonus"] = 1.into(),
            "unknown field `request.sampling.bonus`",
        ),
        (&|r: &mut Value| r["object"] = "dn.voucher".into(), "`dn.receipt` expected"),
    ] {
        let output = changed(change, &[]);
        assert!(
            !output.status.success() && text(&output).contains(expected),
            "{expected}: {}",
            text(&output)
        );
    }
}

/// Single values of an answer, opened: right under an honest receipt, and under a forged one not the receipt's.
fn check_openings(receipt: &Path, forged: bool) {
    let open = |place: &str| dn(&["verify", receipt.to_str().unwrap(), "--open", place, "--json"]);
    for (place, operation) in [
        ("0:token", "token"),
        ("3:embedding", "embedding"),
        ("3:layer1:query:5", "query"),
        ("4:layer0:attention", "attention"),
        ("2:layer4", "ffn_residual"),
    ] {
        let output = open(place);
        let value: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{place}: {}", text(&output)));
        assert_eq!(value["operation"], operation, "{value}");
        assert_eq!(value["judged"], "consistent", "{value}");
        assert_eq!(output.status.success(), value["valid"] == true, "{value}");
        assert_eq!(value["valid"], value["in_receipt"], "{value}");
        assert_eq!(value["valid"], !forged, "{value}");
        assert!(!value["path"].as_array().unwrap().is_empty(), "{value}");
    }
    // A choice shows the logits and the settings that it is made of.
    let prompt = read(receipt)["receipt"]["body"]["prompt_tokens"].as_u64().unwrap();
    let place = format!("{}:choice", prompt - 1);
    let choice: Value = serde_json::from_slice(&open(&place).stdout).unwrap();
    assert_eq!(choice["inputs"][0]["row"], "logits", "{choice}");
    assert_eq!(choice["inputs"][0]["values"].as_array().unwrap().len(), 4096);
    assert_eq!(choice["choice"]["tokens_before"], prompt);
    let token = choice["value"].as_u64().unwrap() as usize;
    assert_eq!(choice["choice"]["logit"], choice["inputs"][0]["values"][token]);
    let shown = text(&dn(&["verify", receipt.to_str().unwrap(), "--open", &place]));
    assert!(shown.contains("reads logits") && shown.contains("reads request"), "{shown}");
    let shown = dn(&["verify", receipt.to_str().unwrap(), "--open", "3:layer1:query:5"]);
    assert!(text(&shown).contains("blk.1.attn_q.weight"), "{}", text(&shown));
    for (place, expected) in [
        ("3", "a stage expected"),
        ("x:token", "`x` is no position"),
        ("3:layerx", "layer0"),
        ("3:layer1:quer", "query_rope"),
        ("3:layer1:query:5:6", "nothing expected"),
        ("99999:token", "go from 0 to"),
        ("3:layer99", "no layer 99: they go from 0 to 4"),
        ("0:logits", "the first that does is"),
        ("3:layer1:query_norm", "it has attention_norm, query"),
        ("3:layer1:query:99999", "no element 99999"),
    ] {
        let output = dn(&["verify", receipt.to_str().unwrap(), "--open", place]);
        assert_eq!(output.status.code(), Some(2), "{place}: {}", text(&output));
        assert!(text(&output).contains(expected), "{place}: {}", text(&output));
    }
}
