//! What `dn wallet` signs for others to bring to the ledger.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::path::Path;

use common::{dn, error, json};
use dn_core::objects::{JobAcceptance, SessionGrant};
use dn_core::{Address, Amount, ModelId, Signed};
use serde_json::Value;

const CHAIN: &str = "31742";
const END: &str = "1900000000000";
const SESSION: Address = Address([9; 20]);

/// Makes a key with its password in `pw`. Returns the owner.
fn owner(home: &Path) -> Address {
    fs::write(home.join("pw"), "correct horse\n").unwrap();
    let password = home.join("pw");
    let new = ["wallet", "new", "--name", "owner", "--kdf", "pbkdf2", "--json", "--password-file"];
    let made = json(&dn(home, &[&new, &[password.to_str().unwrap()][..]].concat()));
    made["address"].as_str().unwrap().parse().unwrap()
}

/// Runs a command with that key.
fn signed(home: &Path, args: &[&str]) -> std::process::Output {
    let password = home.join("pw");
    let key = ["--key", "owner", "--chain-id", CHAIN, "--password-file", password.to_str().unwrap()];
    dn(home, &[&["wallet"], args, &key[..]].concat())
}

#[test]
fn a_grant_is_signed_within_its_limits() {
    let home = tempfile::tempdir().unwrap();
    let owner = owner(home.path());
    let (session, model) = (SESSION.to_string(), ModelId([7; 32]));
    let named = model.to_string();
    let limits =
        ["--per-call", "0.5", "--total", "20", "--model", &named, "--serial", "3", "--expires-ms", END];
    let output = signed(home.path(), &[&["sign-grant", &session], &limits[..]].concat());
    let grant: Signed<SessionGrant> = serde_json::from_value(json(&output)).unwrap();
    assert_eq!(grant.verify(31_742, 1_899_999_999_999), Ok(()));
    let SessionGrant { owner: by, session: to, serial, per_call, total, models, expires_ms, .. } = grant.body;
    assert_eq!((by, to, serial, models), (owner, SESSION, 3, vec![model]));
    let half = Amount::from_atto(500_000_000_000_000_000);
    assert_eq!((per_call, total, expires_ms), (half, Amount::from_dn(20), 1_900_000_000_000));

    for (change, said) in [
        (["--per-call", "30", "--total", "20"], "at least as much in all"),
        (["--per-call", "0", "--total", "20"], "more than 0 a call expected"),
    ] {
        let refused = error(&signed(home.path(), &[&["sign-grant", &session], &change[..]].concat()));
        assert!(refused.contains(said), "{refused}");
    }
    let limits = ["--per-call", "1", "--total", "2"];
    let own = owner.to_string();
    let refused = error(&signed(home.path(), &[&["sign-grant", &own], &limits[..]].concat()));
    assert!(refused.contains("another key expected"), "{refused}");
    let late = ["sign-grant", &session, "--per-call", "1", "--total", "2", "--expires-ms", "5"];
    assert!(error(&signed(home.path(), &late)).contains("would have expired at 5 ms"));
    // Without either, it is good for a day.
    let output = signed(home.path(), &[&["sign-grant", &session], &limits[..]].concat());
    let grant: Signed<SessionGrant> = serde_json::from_value(json(&output)).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let day = u128::from(grant.body.expires_ms) - now.as_millis();
    assert!((23 * 3_600_000..=24 * 3_600_000).contains(&day), "{day}");
}

#[test]
fn an_acceptance_is_of_a_receipt_that_was_looked_at_or_of_an_id() {
    let home = tempfile::tempdir().unwrap();
    let owner = owner(home.path());
    let guide = include_str!("../../../docs/guides/transactions.md");
    let claim = guide.split_once("## `dn tx claim-job").unwrap().1.split_once("```json\n").unwrap().1;
    let claim = claim.split_once("```").unwrap().0;
    let shown: Value = serde_json::from_str(claim).unwrap();
    let (escrow, id) = (
        shown["acceptance"]["body"]["escrow"].as_str().unwrap(),
        shown["acceptance"]["body"]["receipt"].as_str().unwrap(),
    );
    let output = signed(home.path(), &["sign-acceptance", escrow, "--receipt-id", id, "--expires-ms", END]);
    let acceptance: Signed<JobAcceptance> = serde_json::from_value(json(&output)).unwrap();
    assert_eq!(acceptance.verify(31_742, 1_899_999_999_999), Ok(()));
    let JobAcceptance { escrow: of, receipt, payer, .. } = acceptance.body;
    assert_eq!((of.to_string().as_str(), receipt.to_string().as_str(), payer), (escrow, id, owner));

    // The payer of the guide's receipt, alone and inside a claim; nobody else.
    let file = home.path().join("receipt.json");
    let at = file.to_str().unwrap();
    let accept = |escrow: &str| {
        signed(home.path(), &["sign-acceptance", escrow, "--receipt", at, "--expires-ms", END])
    };
    for text in [claim.to_owned(), shown["receipt"].to_string()] {
        fs::write(&file, text).unwrap();
        assert!(error(&accept(escrow)).contains("who has to accept it"));
        assert!(error(&accept(id)).contains("the escrow"));
    }
    common::dn_with(
        home.path(),
        &[
            "wallet",
            "import",
            "--name",
            "payer",
            "--kdf",
            "pbkdf2",
            "--password-file",
            home.path().join("pw").to_str().unwrap(),
        ],
        &"01".repeat(32),
    );
    let password = home.path().join("pw");
    let by_payer = [
        "wallet",
        "sign-acceptance",
        escrow,
        "--receipt",
        at,
        "--key",
        "payer",
        "--chain-id",
        CHAIN,
        "--expires-ms",
        END,
        "--password-file",
        password.to_str().unwrap(),
    ];
    assert_eq!(json(&dn(home.path(), &by_payer)), shown["acceptance"], "as the guide has it");
    let neither = error(&signed(home.path(), &["sign-acceptance", escrow]));
    assert!(neither.contains("--receipt"), "{neither}");
}
