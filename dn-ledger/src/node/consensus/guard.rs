//! What this key has signed, kept apart from the engine's own log: a validator never signs twice for the same step, also when
//! its log or its chain was lost or comes from an older copy.
//!
//! The engine's log is on disk before a signature leaves, so a crash or a power cut alone never makes it sign twice. What
//! the log cannot tell is that it is itself missing or old. Therefore this record: forced to disk once a height, before the
//! first signature of it, and written with every signature. A node starts to sign only if the record and what it finds on
//! disk fit together ([`Guard::may_sign`]).

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use dn_core::{Canonical, Hash32, canonical_struct, keccak256};

/// Bytes between the two places of the record: a torn write never reaches the other one.
const SLOT_BYTES: u64 = 512;

/// Why the record cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are bytes, but no record.
    #[error(
        "{path} is damaged: what the key signed last is unknown. Remove the file and start without signing until blocks were decided"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// A signature's place in the order in which one validator may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Step {
    pub(crate) height: u64,
    pub(crate) round: u32,
    /// 1 for a proposal, 2 for a prevote, 3 for a precommit.
    pub(crate) kind: u8,
}
canonical_struct!(Step { height: u64, round: u32, kind: u8 });

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Record {
    counter: u64,
    step: Step,
    digest: Hash32,
}
canonical_struct!(Record { counter: u64, step: Step, digest: Hash32 });

/// A second signature for a step, or one for a step that is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("this key signed {last:?} before; {step:?} with other content would be a second signature")]
    Conflict { last: Step, step: Step },
    #[error(transparent)]
    Guard(#[from] GuardError),
}

/// The record of one key.
#[derive(Debug)]
pub(crate) struct Guard {
    file: File,
    path: PathBuf,
    last: Record,
}

impl Guard {
    /// Opens the record, or starts an empty one.
    pub(crate) fn open(path: &Path) -> Result<Self, GuardError> {
        let error = |source| GuardError::Io { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(error)?;
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes).map_err(error)?;
        let slots = [0, SLOT_BYTES as usize].map(|at| bytes.get(at..).and_then(read));
        let last = slots.into_iter().flatten().max_by_key(|record| record.counter);
        match last {
            Some(last) => Ok(Self { file, path: path.to_owned(), last }),
            None if bytes.iter().all(|b| *b == 0) => {
                Ok(Self { file, path: path.to_owned(), last: Record::default() })
            }
            None => Err(GuardError::Damaged { path: path.to_owned() }),
        }
    }

    /// Whether nothing was ever signed here.
    pub(crate) fn is_empty(&self) -> bool {
        self.last.counter == 0
    }

    /// Notes durably that the key never signed before: from now on this record knows all that it signs, also when the node ends
    /// before its first signature.
    pub(crate) fn begin(&mut self) -> Result<(), GuardError> {
        if self.is_empty() {
            self.write(Record { counter: 1, ..Record::default() }, true)?;
        }
        Ok(())
    }

    /// The highest height for which something was signed.
    pub(crate) fn height(&self) -> u64 {
        self.last.step.height
    }

    /// Whether the key may sign for the block after this tip, given the height that the engine's log is for. It may for heights
    /// after all that it signed, and for the one it signed last if the engine's log of that height is there.
    ///
    /// That log then rules over what was signed for the height until now: it holds every signature that left this machine, while
    /// the record may hold one more that was noted and never made.
    pub(crate) fn admit(&mut self, tip: u64, log: Option<u64>) -> bool {
        let (next, height) = (tip + 1, self.height());
        if next == height && log == Some(next) {
            self.last.step = Step { height, round: 0, kind: 0 };
            return true;
        }
        next > height
    }

    /// Notes a signature before it is made.
    pub(crate) fn note(&mut self, step: Step, digest: [u8; 32]) -> Result<(), Refused> {
        let last = self.last;
        if step == last.step && digest == last.digest.0 {
            return Ok(());
        }
        if step <= last.step {
            return Err(Refused::Conflict { last: last.step, step });
        }
        let record = Record { counter: last.counter + 1, step, digest: Hash32(digest) };
        self.write(record, step.height > last.step.height)?;
        Ok(())
    }

    fn write(&mut self, record: Record, durable: bool) -> Result<(), GuardError> {
        let error = |source| GuardError::Io { path: self.path.clone(), source };
        self.file.write_all_at(&write(&record), (record.counter % 2) * SLOT_BYTES).map_err(error)?;
        if durable {
            self.file.sync_data().map_err(error)?;
        }
        self.last = record;
        Ok(())
    }
}

fn write(record: &Record) -> Vec<u8> {
    let mut bytes = record.to_bytes();
    bytes.extend(keccak256(&[b"DeepNode sign guard v1", &bytes]));
    bytes
}

fn read(bytes: &[u8]) -> Option<Record> {
    let length = Record::default().to_bytes().len();
    let record = Record::from_bytes(bytes.get(..length)?).ok()?;
    (bytes.get(..length + 32)? == write(&record)).then_some(record)
}

/// The height that the engine's log is for: four bytes of version, eight of height, big-endian.
pub(crate) fn log_height(path: &Path) -> Option<u64> {
    let mut head = [0; 12];
    File::open(path).ok()?.read_exact(&mut head).ok()?;
    head[4..].try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(height: u64, round: u32, kind: u8) -> Step {
        Step { height, round, kind }
    }

    #[test]
    fn nothing_is_signed_twice_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signed");
        let mut guard = Guard::open(&path).unwrap();
        assert!(guard.is_empty() && guard.admit(0, None));
        guard.note(step(3, 0, 2), [1; 32]).unwrap();
        guard.note(step(3, 0, 2), [1; 32]).unwrap();
        for reopened in [false, true] {
            if reopened {
                guard = Guard::open(&path).unwrap();
            }
            assert!(matches!(guard.note(step(3, 0, 2), [2; 32]), Err(Refused::Conflict { .. })));
            assert!(matches!(guard.note(step(3, 0, 1), [1; 32]), Err(Refused::Conflict { .. })));
            assert!(matches!(guard.note(step(2, 9, 3), [1; 32]), Err(Refused::Conflict { .. })));
            guard.note(step(3, 0, 2), [1; 32]).unwrap();
        }
        guard.note(step(3, 0, 3), [3; 32]).unwrap();
        guard.note(step(3, 1, 1), [3; 32]).unwrap();
        assert_eq!(Guard::open(&path).unwrap().last.step, step(3, 1, 1));
    }

    #[test]
    fn a_key_that_never_signed_may_sign_after_a_restart_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signed");
        Guard::open(&path).unwrap().begin().unwrap();
        let mut guard = Guard::open(&path).unwrap();
        assert!(!guard.is_empty() && guard.admit(0, None));
        guard.note(step(1, 0, 2), [1; 32]).unwrap();
        guard.begin().unwrap();
        let mut guard = Guard::open(&path).unwrap();
        assert_eq!(guard.height(), 1);
        assert!(!guard.admit(0, None), "the log is lost");
    }

    #[test]
    fn an_older_chain_or_a_lost_log_keeps_the_key_silent() {
        let dir = tempfile::tempdir().unwrap();
        let mut guard = Guard::open(&dir.path().join("signed")).unwrap();
        guard.note(step(7, 2, 3), [1; 32]).unwrap();
        assert!(guard.admit(7, None), "height 8 was never signed");
        assert!(!guard.admit(6, None) && !guard.admit(6, Some(6)), "the log is lost or old");
        assert!(!guard.admit(5, Some(6)) && !guard.admit(0, None), "the chain is old");
        assert!(guard.note(step(7, 1, 2), [2; 32]).is_err());
        assert!(guard.admit(6, Some(7)), "the log of height 7 knows what was signed");
        guard.note(step(7, 1, 2), [2; 32]).unwrap();
        assert!(guard.note(step(7, 1, 2), [1; 32]).is_err());
    }

    #[test]
    fn a_torn_write_leaves_the_record_before_and_garbage_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signed");
        let mut guard = Guard::open(&path).unwrap();
        guard.note(step(1, 0, 2), [1; 32]).unwrap();
        guard.note(step(1, 0, 3), [2; 32]).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[3] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Guard::open(&path).unwrap().last.step, step(1, 0, 2));
        bytes[SLOT_BYTES as usize + 3] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(Guard::open(&path), Err(GuardError::Damaged { .. })));
    }
}
