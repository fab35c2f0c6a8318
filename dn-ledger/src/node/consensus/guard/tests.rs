use super::*;

fn step(height: u64, round: u32, kind: u8) -> Step {
    Step { height, round, kind }
}

fn wanted(step: Step, byte: u8) -> Wanted {
    Wanted { step, digest: [byte; 32], block: Some([byte; 32]) }
}

fn log(height: u64, own: &[(Step, u8)]) -> Log {
    Log::Whole { height, own: own.iter().map(|(step, byte)| (*step, Hash32([*byte; 32]))).collect(), end: 0 }
}

fn guard() -> (tempfile::TempDir, PathBuf, Guard) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signed");
    let guard = Guard::open(&path).unwrap();
    (dir, path, guard)
}

#[test]
fn nothing_is_signed_twice_also_after_a_restart() {
    let (_dir, path, mut guard) = guard();
    assert!(guard.is_empty() && guard.admit(0, &Log::Missing));
    guard.note(wanted(step(3, 0, 2), 1)).unwrap();
    guard.note(wanted(step(3, 0, 2), 1)).unwrap();
    for reopened in [false, true] {
        if reopened {
            guard = Guard::open(&path).unwrap();
        }
        for (step, byte) in [(step(3, 0, 1), 1), (step(2, 9, 3), 1)] {
            assert!(matches!(guard.note(wanted(step, byte)), Err(Refused::Conflict { .. })), "{step:?}");
        }
        let before = Allowed::Before { block: Some([1; 32]) };
        assert_eq!(guard.note(wanted(step(3, 0, 2), 2)).unwrap(), before);
        guard.note(wanted(step(3, 0, 2), 1)).unwrap();
    }
    guard.note(wanted(step(3, 0, 3), 3)).unwrap();
    guard.note(wanted(step(3, 1, 1), 3)).unwrap();
    let mut guard = Guard::open(&path).unwrap();
    assert_eq!((guard.last.step, guard.last.lock), (step(3, 1, 1), Some(Hash32([3; 32]))));
    assert!(guard.note(wanted(step(3, 1, 1), 4)).is_err(), "another proposal");
    for round in 2..40 {
        guard.note(wanted(step(3, round, 2), 3)).unwrap();
        guard.note(wanted(step(3, round, 3), 3)).unwrap();
    }
    let mut guard = Guard::open(&path).unwrap();
    assert_eq!(guard.note(wanted(step(3, 39, 2), 3)).unwrap(), Allowed::Wanted);
    assert!(guard.note(wanted(step(3, 0, 2), 1)).is_err(), "what is forgotten is not signed again");
}

#[test]
fn a_key_that_never_signed_may_sign_after_a_restart_too() {
    let (_dir, path, mut guard) = guard();
    guard.begin().unwrap();
    let mut guard = Guard::open(&path).unwrap();
    assert!(!guard.is_empty() && guard.admit(0, &Log::Missing));
    guard.note(wanted(step(1, 0, 2), 1)).unwrap();
    guard.begin().unwrap();
    let mut guard = Guard::open(&path).unwrap();
    assert_eq!(guard.height(), 1);
    assert!(!guard.admit(0, &Log::Missing), "the log is lost");
}

#[test]
fn an_older_chain_or_a_lost_log_keeps_the_key_silent() {
    let (_dir, _, mut guard) = guard();
    guard.note(wanted(step(7, 2, 3), 1)).unwrap();
    assert!(guard.admit(7, &Log::Missing), "height 8 was never signed");
    let damaged = Log::Damaged { at: 12, reason: super::super::log::LogFault::Content };
    for lost in [Log::Missing, log(6, &[]), damaged] {
        assert!(!guard.admit(6, &lost), "the log is lost, old or damaged");
    }
    assert!(!guard.admit(5, &log(6, &[])) && !guard.admit(0, &Log::Missing), "the chain is old");
}

/// The log is of the height, and lost its end: what is recorded stays the floor, and rounds above it are signed.
#[test]
fn a_log_without_its_end_never_brings_the_key_below_its_record() {
    let (_dir, path, mut guard) = guard();
    guard.note(wanted(step(7, 1, 2), 1)).unwrap();
    guard.note(wanted(step(7, 1, 3), 1)).unwrap();
    let mut guard = Guard::open(&path).unwrap();
    assert!(guard.admit(6, &log(7, &[(step(7, 0, 2), 9)])));
    assert!(matches!(guard.note(wanted(step(7, 0, 2), 2)), Err(Refused::Conflict { .. })));
    for step in [step(7, 1, 2), step(7, 1, 3)] {
        let before = Allowed::Before { block: Some([1; 32]) };
        assert_eq!(guard.note(wanted(step, 2)).unwrap(), before, "{step:?}");
    }
    guard.note(wanted(step(7, 1, 3), 1)).unwrap();
    // Bound to block 1 by a precommit that the log does not hold: no vote for another one, until a quorum moves on.
    assert!(matches!(guard.note(wanted(step(7, 2, 2), 2)), Err(Refused::Locked { .. })));
    let nil = Wanted { block: None, ..wanted(step(7, 2, 2), 5) };
    guard.note(nil).unwrap();
    guard.note(wanted(step(7, 3, 2), 1)).unwrap();
    guard.note(wanted(step(7, 3, 3), 2)).unwrap();
    guard.note(wanted(step(7, 4, 2), 2)).unwrap();
    guard.note(wanted(step(8, 0, 2), 4)).unwrap();
    assert_eq!(guard.last.lock, None);
}

/// The precommit that binds the key is lost, later votes are in the log: the engine knows no more of the precommit than before.
#[test]
fn a_lost_lock_stays_one_however_often_the_log_is_read() {
    let (_dir, _, mut guard) = guard();
    guard.note(wanted(step(7, 0, 3), 1)).unwrap();
    assert!(guard.admit(6, &log(7, &[])));
    let nil = Wanted { block: None, ..wanted(step(7, 1, 2), 5) };
    guard.note(nil).unwrap();
    assert!(guard.admit(6, &log(7, &[(step(7, 1, 2), 5)])));
    assert!(matches!(guard.note(wanted(step(7, 2, 2), 2)), Err(Refused::Locked { .. })));
    guard.note(wanted(step(7, 2, 2), 1)).unwrap();
}

#[test]
fn a_whole_log_knows_what_the_key_is_bound_to() {
    let (_dir, _, mut guard) = guard();
    guard.note(wanted(step(7, 0, 3), 1)).unwrap();
    assert!(guard.admit(6, &log(7, &[(step(7, 0, 3), 1)])));
    // The engine has the precommit, and knows when another block may be voted for.
    guard.note(wanted(step(7, 1, 2), 2)).unwrap();
}

#[test]
fn a_sole_validator_may_forget_what_nobody_saw() {
    let (_dir, path, mut guard) = guard();
    guard.note(wanted(step(7, 1, 3), 1)).unwrap();
    assert!(guard.admit(6, &log(7, &[])) && guard.is_held(7), "its log lost the precommit");
    guard.forget(6).unwrap();
    assert!(!guard.is_held(7));
    let mut guard = Guard::open(&path).unwrap();
    assert!(guard.admit(6, &Log::Missing));
    guard.note(wanted(step(7, 0, 1), 2)).unwrap();
    assert!(guard.note(wanted(step(6, 0, 0), 2)).is_err());
}

#[test]
fn a_torn_write_leaves_the_record_before_and_garbage_is_refused() {
    let (_dir, path, mut guard) = guard();
    guard.note(wanted(step(1, 0, 2), 1)).unwrap();
    guard.note(wanted(step(1, 0, 3), 2)).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[3] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(Guard::open(&path).unwrap().last.step, step(1, 0, 2));
    bytes[SLOT_BYTES as usize + 3] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(Guard::open(&path), Err(GuardError::Damaged { .. })));
}
