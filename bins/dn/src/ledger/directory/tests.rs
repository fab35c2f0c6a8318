use dn_ledger::node::{ConsensusReport, KeyStart};

use super::*;

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A file appears when it is whole: what fails leaves nothing that the next try stumbles over.
#[test]
fn an_export_that_fails_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chain.dnarch");
    let full = whole_file::<()>(&path, |out| {
        out.write_all(b"a part").map_err(other)?;
        out.flush().map_err(other)?;
        assert_eq!(names(dir.path()), ["chain.dnarch.partial"]);
        Err(CliError::Other("no space left".to_owned()))
    });
    assert!(full.unwrap_err().to_string().contains("no space left"));
    assert!(names(dir.path()).is_empty());
    // A process that was killed leaves its part.
    fs::write(dir.path().join("chain.dnarch.partial"), b"a longer part of an earlier try").unwrap();
    whole_file(&path, |out| out.write_all(b"whole").map_err(other)).unwrap();
    assert_eq!(names(dir.path()), ["chain.dnarch"]);
    assert_eq!(fs::read(&path).unwrap(), b"whole");
    // What is there is left alone, also when it came meanwhile.
    let again = whole_file(&path, |out| out.write_all(b"other").map_err(other)).unwrap_err();
    assert!(again.to_string().contains("chain.dnarch"), "{again}");
    let second = dir.path().join("second");
    let raced = whole_file(&second, |_| fs::write(&second, b"theirs").map_err(other));
    assert!(raced.is_err());
    assert_eq!(
        (fs::read(&path).unwrap(), fs::read(&second).unwrap()),
        (b"whole".to_vec(), b"theirs".to_vec())
    );
    assert!(names(dir.path()).iter().all(|name| !name.ends_with(".partial")));
    // A directory without a chain.
    assert!(export(dir.path(), &dir.path().join("third"), None).is_err());
    assert_eq!(names(dir.path()).len(), 2);
}

/// The words of a check fit what is there.
#[test]
fn a_check_says_what_there_is() {
    let start = KeyStart::Follows { next: 2_025 };
    let consensus =
        ConsensusReport { present: true, signed: None, torn: false, log: None, undecided: 0, start };
    let joined = CheckReport {
        height: 2_024,
        horizon: 2_025,
        txs: 0,
        records: 9,
        replayed_from: None,
        snapshots: 0,
        copied_bytes: None,
        consensus,
    };
    let text = |report: &CheckReport| told(report).join("\n");
    let found = text(&joined);
    assert!(
        found.starts_with("sound: the state after block 2024, 9 records; no block is there yet"),
        "{found}"
    );
    assert!(found.contains("will follow without signing until") && !found.contains("is missing"), "{found}");
    let consensus = ConsensusReport { present: false, torn: true, ..consensus };
    let whole =
        CheckReport { horizon: 1, replayed_from: Some(0), copied_bytes: Some(77), consensus, ..joined };
    let found = text(&whole);
    for said in ["blocks 1 to 2024", "after block 0", "copy of 77 bytes", "consensus/ is missing", "torn"] {
        assert!(found.contains(said), "{said}: {found}");
    }
}
