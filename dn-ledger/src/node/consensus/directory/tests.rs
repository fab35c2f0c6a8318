use super::*;
use crate::node::consensus::guard::{PREVOTE, Step, Wanted};

/// A directory whose key signed for this height.
fn signed(height: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(DIR_NAME)).unwrap();
    let mut guard = Guard::open(&dir.path().join(DIR_NAME).join(RECORD_FILE)).unwrap();
    let step = Step { height, round: 0, kind: PREVOTE };
    guard.note(Wanted { step, digest: [7; 32], block: Some([7; 32]) }).unwrap();
    dir
}

fn log_of(dir: &Path, height: u64) {
    let head = [&1u32.to_be_bytes()[..], &height.to_be_bytes()].concat();
    std::fs::write(dir.join(DIR_NAME).join(LOG_FILE), head).unwrap();
}

fn start(dir: &Path, tip: u64) -> KeyStart {
    inspect(dir, None, 77, tip).unwrap().start
}

/// Row by row as docs/adr/0014-replication.md has it.
#[test]
fn what_a_start_does_with_the_key_is_told() {
    let dir = signed(9);
    let dir = dir.path();
    assert_eq!(start(dir, 9), KeyStart::Signs { next: 10 });
    assert_eq!(start(dir, 8), KeyStart::Follows { next: 9 });
    log_of(dir, 8);
    assert_eq!(start(dir, 8), KeyStart::Follows { next: 9 });
    log_of(dir, 9);
    assert_eq!(start(dir, 8), KeyStart::Signs { next: 9 });
    assert_eq!(start(dir, 5), KeyStart::Older { tip: 5, signed: 9 });
    let report = inspect(dir, None, 77, 8).unwrap();
    assert_eq!((report.signed, report.log, report.undecided), (Some(9), Some(9), 0));
    for (tip, said) in [(8, "signs from block 9 on"), (5, "an older copy")] {
        assert!(start(dir, tip).to_string().contains(said), "{}", start(dir, tip));
    }
    let none = tempfile::tempdir().unwrap();
    assert_eq!(start(none.path(), 5), KeyStart::Unrecorded);
    // An empty record says as little as none.
    let empty = tempfile::tempdir().unwrap();
    std::fs::create_dir(empty.path().join(DIR_NAME)).unwrap();
    std::fs::write(empty.path().join(DIR_NAME).join(RECORD_FILE), []).unwrap();
    assert_eq!(start(empty.path(), 5), KeyStart::Unrecorded);
}

/// What a damaged log costs depends on what the key signed.
#[test]
fn a_damaged_log_is_told_with_what_follows() {
    let dir = signed(9);
    let path = dir.path().join(DIR_NAME).join(LOG_FILE);
    std::fs::write(&path, [9; 40]).unwrap();
    for (tip, expected, said) in [(8, false, "follow without signing"), (9, true, "is decided")] {
        let found = inspect(dir.path(), None, 77, tip).unwrap_err();
        assert!(found.to_string().contains(said), "{found}");
        let ConsensusFilesError::Log { at: 0, signs, .. } = found else { panic!("{found}") };
        assert_eq!(signs, expected);
    }
    assert_eq!(std::fs::read(&path).unwrap(), [9; 40]);
}

/// A torn place is told, and written again by a start only.
#[test]
fn a_torn_place_of_the_record_is_told() {
    let dir = signed(9);
    let path = dir.path().join(DIR_NAME).join(RECORD_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let report = inspect(dir.path(), None, 77, 9).unwrap();
    assert_eq!((report.torn, report.signed), (true, Some(9)));
    assert!(std::fs::read(&path).unwrap() == bytes, "the record was changed");
    drop(Guard::open(&path).unwrap());
    assert!(!inspect(dir.path(), None, 77, 9).unwrap().torn);
}

/// Blocks that a start would drop without a word are damage too.
#[test]
fn damaged_blocks_that_are_not_decided_are_told() {
    let dir = signed(9);
    let path = dir.path().join(DIR_NAME).join(UNDECIDED_FILE);
    std::fs::write(&path, crate::node::consensus::undecided::framed(b"no block")).unwrap();
    let found = inspect(dir.path(), None, 77, 9).unwrap_err();
    assert!(matches!(found, ConsensusFilesError::Undecided { at: 0, next: 10, .. }), "{found}");
}
