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

/// What signing three heights, with some signatures each, leaves on disk after each signature, and what was signed last.
fn history() -> Vec<(Vec<u8>, Step)> {
    let (_dir, path, mut guard) = guard();
    let mut seen = Vec::new();
    for height in 1..=3 {
        for (round, kind) in [(0, 2), (0, 3), (1, 2), (1, 3), (2, 2)].into_iter().take(2 + height as usize) {
            let step = step(height, round, kind);
            guard.note(wanted(step, round as u8 + 1)).unwrap();
            seen.push((std::fs::read(&path).unwrap(), step));
        }
    }
    seen
}

fn opened(bytes: &[u8]) -> Result<Guard, GuardError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signed");
    std::fs::write(&path, bytes).unwrap();
    let guard = Guard::open(&path)?;
    // What was found in one place only is in two again.
    let healed = Guard::open(&path)?;
    assert_eq!((&healed.last, count(&path, &guard.last)), (&guard.last, 2));
    Ok(guard)
}

fn count(path: &Path, record: &Record) -> usize {
    let bytes = std::fs::read(path).unwrap();
    let slots = (0..8).filter_map(|slot| bytes.get(slot * SLOT_BYTES as usize..));
    slots.filter_map(read).filter(|found| found == record).count().min(2)
}

/// One place torn, flipped or lost, at any time: the floor is what was signed last.
#[test]
fn no_single_place_lowers_the_floor() {
    for (bytes, signed) in history() {
        assert_eq!(opened(&bytes).unwrap().last.step, signed);
        for slot in 0..8 {
            let range = slot * SLOT_BYTES as usize..((slot + 1) * SLOT_BYTES as usize).min(bytes.len());
            if range.start >= bytes.len() {
                continue;
            }
            let mut flipped = bytes.clone();
            flipped[range.start + 3] ^= 1;
            let mut lost = bytes.clone();
            lost[range.clone()].fill(0);
            let mut torn = bytes.clone();
            torn[range.start + 40..range.end].fill(0xa5);
            for damaged in [flipped, lost, torn] {
                assert_eq!(opened(&damaged).unwrap().last.step, signed, "slot {slot}");
            }
        }
    }
}

/// A cut of power: of what was written since the last force, and of what is just being forced, every place is torn. The floor is the last
/// height that was forced; the signature that was being recorded never left.
#[test]
fn a_cut_leaves_the_height_that_was_forced() {
    let (history, nothing) = (history(), (Vec::new(), Step::default()));
    let place = |bytes: &[u8], slot: usize| {
        let at = slot * SLOT_BYTES as usize;
        bytes.get(at..).map(|rest| rest[..rest.len().min(SLOT_BYTES as usize)].to_vec())
    };
    let forced = |height| history.iter().find(|(_, step)| step.height == height).unwrap_or(&nothing);
    for (now, step) in &history {
        let first = *step == forced(step.height).1;
        for (base, floor) in
            [forced(step.height), forced(step.height - u64::from(first))].map(|f| (&f.0, f.1.height))
        {
            let mut torn = now.clone();
            for slot in (0..8).filter(|slot| place(base, *slot) != place(now, *slot)) {
                let range = slot * SLOT_BYTES as usize..((slot + 1) * SLOT_BYTES as usize).min(now.len());
                if !range.is_empty() {
                    torn[range.start + 20..range.end].fill(0xa5);
                }
            }
            match opened(&torn) {
                Ok(guard) => assert!(guard.height() >= floor, "{step:?}: {:?}", guard.last.step),
                // Nothing was signed before: the operator is told.
                Err(GuardError::Damaged { .. }) => assert_eq!(floor, 0),
                Err(other) => panic!("{other}"),
            }
        }
    }
}

/// A record of two places, as it was written before there were eight.
#[test]
fn a_record_of_two_places_is_read() {
    let record = |counter, step| Record { counter, step, ..Record::default() };
    let mut bytes = vec![0; 2 * SLOT_BYTES as usize];
    for record in [record(6, step(5, 0, 3)), record(7, step(5, 1, 2))] {
        let (slot, written) = ((record.counter % 2) as usize * SLOT_BYTES as usize, write(&record));
        bytes[slot..slot + written.len()].copy_from_slice(&written);
    }
    assert_eq!(opened(&bytes).unwrap().last.step, step(5, 1, 2));
}

#[test]
fn a_record_that_none_can_follow_is_refused() {
    let last = |counter| opened(&write(&Record { counter, step: step(5, 0, 3), ..Record::default() }));
    assert!(matches!(last(u64::MAX), Err(GuardError::Damaged { .. })));
    assert_eq!(last(u64::MAX - 1).unwrap().last.step, step(5, 0, 3));
}

#[test]
fn garbage_is_refused() {
    let mut bytes = history()[0].0.clone();
    for slot in 0..bytes.len() / SLOT_BYTES as usize + 1 {
        bytes[slot * SLOT_BYTES as usize + 3] ^= 1;
    }
    assert!(matches!(opened(&bytes), Err(GuardError::Damaged { .. })));
}
