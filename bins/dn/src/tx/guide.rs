//! The files that the guide shows are those that the commands take.

use clap::{CommandFactory, Parser};
use dn_core::merkle::MerkleTree;
use dn_core::{Canonical, SecretKey};
use dn_ledger::tx::{Evidence, Payload};
use serde_json::{Value, json};

use super::Tx;
use crate::ledger::local::CHAIN_ID;

const GUIDE: &str = include_str!("../../../../docs/guides/transactions.md");

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    tx: Tx,
}

/// The guide's keys: payer, worker, gateway, auditor.
fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32]).expect("a valid key")
}

/// The first block of this language under the heading that names the command.
fn example(command: &str, language: &str) -> &'static str {
    let named = format!("`dn tx {command} ");
    let mut sections = GUIDE.split("\n## ");
    let found = sections.find(|section| section.lines().next().is_some_and(|line| line.contains(&named)));
    let section = found.unwrap_or_else(|| panic!("no section on {command}"));
    let (_, block) = section.split_once(&format!("```{language}\n")).expect("a block");
    block.split_once("```").expect("its end").0
}

/// What the command makes of the example, sent by this key.
fn read(words: &[&str], text: &str, sender: u8) -> Value {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, text).expect("written");
    let file = file.to_str().expect("a name");
    let words =
        std::iter::once("dn").chain(words.iter().map(|word| if *word == "FILE" { file } else { *word }));
    let line = Line::try_parse_from(words).expect("a line");
    let payload = line.tx.payload(&key(sender)).expect("a payload");
    serde_json::to_value(payload).expect("JSON")
}

/// Reads the JSON example of a command, and checks that nothing in it was passed over.
fn payload(command: &str, words: &[&str], sender: u8, expected: impl Fn(&Value) -> Value) -> Payload {
    let text = example(command, "json");
    let shown: Value = serde_json::from_str(text).expect("JSON");
    let read = read(&[&[command], words].concat(), text, sender);
    for (field, value) in expected(&shown).as_object().expect("fields") {
        assert_eq!(&read[field], value, "{command}: {field}");
    }
    serde_json::from_value(read).expect("a payload")
}

#[test]
fn signed_examples_are_read_whole_and_hold() {
    let grant = payload("grant-session", &["FILE"], 1, |shown| json!({ "grant": shown }));
    let Payload::GrantSession { grant } = grant else { panic!("{grant:?}") };
    assert_eq!(grant.verify_any_time(CHAIN_ID), Ok(()));

    let posted = payload("post-batch", &["FILE"], 2, Value::clone);
    let Payload::PostBatch { batch, vouchers } = posted else { panic!("{posted:?}") };
    assert_eq!(batch.verify_any_time(CHAIN_ID), Ok(()));
    assert_eq!(vouchers.len(), 1);
    assert_eq!(vouchers[0].verify_any_time(CHAIN_ID), Ok(()));

    let claimed = payload("claim-job", &["FILE"], 2, Value::clone);
    let Payload::ClaimJob { batch, receipt, acceptance } = claimed else { panic!("{claimed:?}") };
    assert_eq!(batch.verify_any_time(CHAIN_ID), Ok(()));
    assert_eq!(receipt.verify_any_time(CHAIN_ID), Ok(()));
    assert_eq!(batch.body.root, MerkleTree::new([receipt.to_bytes()]).root());
    let acceptance = acceptance.expect("one");
    assert_eq!(acceptance.verify_any_time(CHAIN_ID), Ok(()));
    assert_eq!((acceptance.body.escrow, acceptance.body.receipt), (receipt.body.channel, receipt.body.id()));
}

#[test]
fn verdicts_and_evidence_are_read_whole() {
    let auditor = key(4).address();
    let revealed = payload("audit-reveal", &["FILE"], 4, Value::clone);
    let Payload::AuditReveal { verdict, salt } = revealed else { panic!("{revealed:?}") };
    let commitment = verdict.commitment(&salt.0);
    let committed = payload("audit-commit", &["FILE"], 4, |_| json!({ "commitment": commitment }));
    assert_eq!(committed, Payload::AuditCommit { batch: verdict.batch, index: verdict.index, commitment });

    let words = [auditor.to_string(), "FILE".to_owned()];
    let words = words.each_ref().map(String::as_str);
    let sent = payload("submit-evidence", &words, 1, |shown| json!({ "evidence": shown }));
    let Payload::SubmitEvidence { evidence, .. } = sent else { panic!("{sent:?}") };
    assert!(evidence.conflicts());
    let Evidence::Votes { first, first_signature, second, second_signature } = evidence else {
        panic!("{evidence:?}")
    };
    assert_eq!(first_signature.verify(&first.digest(), auditor), Ok(()));
    assert_eq!(second_signature.verify(&second.digest(), auditor), Ok(()));
}

#[test]
fn an_acceptance_may_come_in_a_file_of_its_own() {
    let whole: Value = serde_json::from_str(example("claim-job", "json")).expect("JSON");
    let dir = tempfile::tempdir().expect("a directory");
    let apart = dir.path().join("acceptance.json");
    std::fs::write(&apart, whole["acceptance"].to_string()).expect("written");
    let apart = apart.to_str().expect("a name");
    let mut claim = whole.clone();
    claim.as_object_mut().expect("fields").remove("acceptance");
    let words = ["claim-job", "FILE", "--acceptance", apart];
    assert_eq!(read(&words, &claim.to_string(), 2)["acceptance"], whole["acceptance"]);
    // Without one the claim is audited.
    assert_eq!(read(&words[..2], &claim.to_string(), 2)["acceptance"], Value::Null);
    // Two are one too many.
    let file = dir.path().join("claim.json");
    std::fs::write(&file, whole.to_string()).expect("written");
    let words = ["dn", "claim-job", file.to_str().expect("a name"), "--acceptance", apart];
    let refused = Line::try_parse_from(words).expect("a line").tx.payload(&key(2)).expect_err("two");
    assert!(refused.to_string().contains("has an acceptance already"), "{refused}");
}

#[test]
fn terms_are_read_whole() {
    for (command, words) in
        [("create-domain", ["code", "--terms", "FILE"]), ("configure-domain", ["1", "--terms", "FILE"])]
    {
        let terms = &read(&[&[command], &words[..]].concat(), example(command, "toml"), 1)["terms"];
        assert_eq!(terms["admission"], "owner");
        assert_eq!((&terms["emission"]["creators"], &terms["fees"]["owner"]), (&json!(1_400), &json!(2_000)));
        let split: dn_powr::DomainSplit = serde_json::from_value(terms["emission"].clone()).expect("a split");
        assert_eq!(split.validate(), Ok(()));
    }
    let publish = [
        "publish-version",
        "--name",
        "m",
        "--prompt-price",
        "0.001",
        "--output-price",
        "0.002",
        "--terms",
        "FILE",
    ];
    let version = &read(&publish, example("publish-version", "toml"), 1)["version"];
    assert_eq!((&version["licence"]["id"], &version["licence"]["royalty_bps"]), (&json!("MIT"), &json!(500)));
    assert_eq!((&version["parents"][0]["share_bps"], &version["fees"]["domain"]), (&json!(700), &json!(400)));
    assert_eq!(version["backing"]["cap"], "1000000000000000000000");
}

/// Whoever adds a file to a command adds it to the guide.
#[test]
fn every_file_has_its_section() {
    let mut commands = 0;
    for command in Line::command().get_subcommands() {
        let file = |argument: &clap::Arg| {
            let names = argument.get_value_names().unwrap_or_default();
            argument.get_id() != "model" && names.iter().any(|name| name.as_str() == "FILE")
        };
        if command.get_arguments().any(file) {
            let named = format!("`dn tx {} ", command.get_name());
            assert!(GUIDE.lines().any(|line| line.starts_with("## ") && line.contains(&named)), "{named}");
            commands += 1;
        }
    }
    assert_eq!(commands, 13);
}
