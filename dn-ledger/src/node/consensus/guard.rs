//! What this key has signed, kept apart from the engine's own log: a validator never signs twice for the same step, also when
//! its log or its chain was lost or comes from an older copy.
//!
//! The engine's log is on disk before a signature leaves, so a crash or a power cut alone never makes it sign twice. What
//! the log cannot tell is that it is itself missing or old. Therefore this record: forced to disk once a height, before the
//! first signature of it, and written with every signature. A node starts to sign only if the record and what it finds on
//! disk fit together ([`Guard::admit`]), and never below what is recorded.
//!
//! Each state of the record is in two places, and the last record that was forced to disk is where nothing is written that is not forced:
//! whatever place is torn or lost, the other one of the newest has it, and a cut in the middle of a write leaves the one before ([`Kind`]).

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use dn_core::{Canonical, Hash32, canonical_struct, keccak256};

use super::log::Log;

/// Kinds of steps.
pub(super) const PROPOSAL: u8 = 1;
pub(super) const PREVOTE: u8 = 2;
pub(super) const PRECOMMIT: u8 = 3;

/// Bytes from one place of a record to the next: a torn write never reaches the other one.
const SLOT_BYTES: u64 = 4_096;
/// Places of one state of the record.
const COPIES: u64 = 2;
/// States of a kind that are kept, the newest and the one before: it stays whole while the newer one is written.
const GENERATIONS: u64 = 2;

/// How a state of the record is written. The places of the two kinds are apart: what is not forced to disk may be torn at any time until
/// something is, also after the signature left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Forced to disk: the first signature of a height.
    Durable,
    /// Whatever is signed after it.
    Running,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Durable, Self::Running];

    /// Where the copies of a generation are.
    fn places(self, generation: u64) -> impl Iterator<Item = u64> {
        let first = (self as u64 * GENERATIONS + generation) * COPIES;
        (first..first + COPIES).map(|slot| slot * SLOT_BYTES)
    }
}
/// Signatures of one height that are remembered, the newest: what three steps in each of sixteen rounds need.
const MAX_SIGNED: usize = 48;

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
        "{path} is damaged: what the key signed last is unknown. Remove the file: the key then signs nothing until others have decided blocks"
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
    /// [`PROPOSAL`], [`PREVOTE`] or [`PRECOMMIT`].
    pub(crate) kind: u8,
}
canonical_struct!(Step { height: u64, round: u32, kind: u8 });

/// A signature that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signed {
    step: Step,
    digest: Hash32,
    /// The block that is proposed or voted for.
    block: Option<Hash32>,
}
canonical_struct!(Signed { step: Step, digest: Hash32, block: Option<Hash32> });

/// What was signed until now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Record {
    counter: u64,
    /// The highest step.
    step: Step,
    /// The block that the key precommitted last at this height.
    lock: Option<Hash32>,
    /// At this height, in the order of the steps.
    signed: Vec<Signed>,
}
canonical_struct!(Record { counter: u64, step: Step, lock: Option<Hash32>, signed: Vec<Signed> });

/// What the key is asked to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) step: Step,
    pub(crate) digest: [u8; 32],
    /// The block that is proposed or voted for.
    pub(crate) block: Option<[u8; 32]>,
}

/// What the key may sign for a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// What is wanted.
    Wanted,
    /// What it signed for this step before: a vote for this block, or for none.
    Before { block: Option<[u8; 32]> },
}

/// A signature that is not given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "this key signed {last:?} before; what it signed for {step:?} is not known, or is another proposal"
    )]
    Conflict { last: Step, step: Step },
    #[error(
        "this key precommitted {lock} at this height, and the log that knows why is not whole: no vote for another block in {step:?}"
    )]
    Locked { lock: Hash32, step: Step },
    #[error(transparent)]
    Guard(#[from] GuardError),
}

/// The record of one key.
#[derive(Debug)]
pub(crate) struct Guard {
    file: File,
    path: PathBuf,
    last: Record,
    /// The generation of each kind that is written next: the older one.
    next: [u64; 2],
    /// The height at which the engine may have forgotten what the key is bound to.
    forgetful: Option<u64>,
}

impl Guard {
    /// Opens the record, or starts an empty one.
    pub(crate) fn open(path: &Path) -> Result<Self, GuardError> {
        let error = |source| GuardError::Io { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let (mut guard, whole) = Self::read(file.map_err(error)?, path)?;
        if !whole {
            tracing::warn!(path = %guard.path.display(), "a place of the record of signatures was torn or lost: it is written again");
            guard.write(guard.last.clone(), true)?;
        }
        Ok(guard)
    }

    /// Reads the record without changing it, and whether each place of its newest state is whole; none if there is no file. It takes no
    /// note of a signature.
    pub(super) fn look(path: &Path) -> Result<Option<(Self, bool)>, GuardError> {
        match File::open(path) {
            Ok(file) => Self::read(file, path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(GuardError::Io { path: path.to_owned(), source }),
        }
    }

    fn read(file: File, path: &Path) -> Result<(Self, bool), GuardError> {
        let error = |source| GuardError::Io { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes).map_err(error)?;
        // One after which there is no other was not written here.
        let at = |place: u64| {
            let record = usize::try_from(place).ok().and_then(|at| bytes.get(at..)).and_then(read);
            record.filter(|record| record.counter < u64::MAX)
        };
        let counter = |record: Option<Record>| record.map(|record| record.counter);
        let newest =
            |kind: Kind, generation| kind.places(generation).filter_map(|place| counter(at(place))).max();
        let next = Kind::ALL.map(|kind| u64::from(newest(kind, 0) > newest(kind, 1)));
        let places =
            || Kind::ALL.into_iter().flat_map(|kind| (0..GENERATIONS).flat_map(move |g| kind.places(g)));
        let path = path.to_owned();
        let Some(last) = places().filter_map(at).max_by_key(|record| record.counter) else {
            return match bytes.iter().all(|b| *b == 0) {
                true => Ok((Self { file, path, last: Record::default(), next, forgetful: None }, true)),
                false => Err(GuardError::Damaged { path }),
            };
        };
        let copies = places().filter_map(at).filter(|record| *record == last).count() as u64;
        Ok((Self { file, path, last, next, forgetful: None }, copies >= COPIES))
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

    /// Whether the key may sign for the block after this tip, given the engine's log. It may for heights after all that it
    /// signed, and for the one it signed last if the log of that height is there.
    ///
    /// What is recorded stays the floor either way: nothing is signed below it, nor anything else at it. Where the log lacks the
    /// precommit that binds the key to a block, the key also votes for no other one, at this height for good: what is signed later
    /// and is in the log does not tell the engine of that precommit.
    pub(super) fn admit(&mut self, tip: u64, log: &Log) -> bool {
        let next = tip + 1;
        if next != self.last.step.height {
            return next > self.last.step.height;
        }
        let Log::Whole { height, own, .. } = log else { return false };
        let binds = |signed: &&Signed| signed.step.kind == PRECOMMIT && signed.block == self.last.lock;
        let known = |signed: &Signed| own.contains(&(signed.step, signed.digest));
        if self.last.lock.is_some() && !self.last.signed.iter().rev().find(binds).is_some_and(known) {
            self.forgetful = Some(next);
        }
        *height == next
    }

    /// Whether the key is held to a block at this height of which the engine may not know.
    pub(super) fn is_held(&self, height: u64) -> bool {
        self.forgetful == Some(height)
    }

    /// Forgets what was signed for the height after this tip. Only for a sole validator: nobody else ever saw it.
    pub(crate) fn forget(&mut self, tip: u64) -> Result<(), GuardError> {
        let (step, counter) = (Step { height: tip, ..Step::default() }, self.last.counter + 1);
        self.forgetful = None;
        self.write(Record { counter, step, ..Record::default() }, true)
    }

    /// Notes a signature before it is made, and says which one may be made: for a step that was signed, the same vote again.
    pub(crate) fn note(&mut self, wanted: Wanted) -> Result<Allowed, Refused> {
        let Wanted { step, block, .. } = wanted;
        let (digest, block) = (Hash32(wanted.digest), block.map(Hash32));
        let last = &self.last;
        if step <= last.step {
            let before = last.signed.iter().find(|signed| signed.step == step);
            if before.is_some_and(|before| before.digest == digest) {
                return Ok(Allowed::Wanted);
            }
            // The engine does not know what the key said there, nor therefore what that binds it to.
            self.forgetful = Some(step.height);
            return match before {
                Some(before) if step.kind != PROPOSAL => {
                    Ok(Allowed::Before { block: before.block.map(|block| block.0) })
                }
                _ => Err(Refused::Conflict { last: last.step, step }),
            };
        }
        let next_height = step.height > last.step.height;
        let lock = if next_height { None } else { last.lock };
        if let (Some(lock), Some(block), PREVOTE) = (lock, block, step.kind)
            && self.forgetful == Some(step.height)
            && lock != block
        {
            return Err(Refused::Locked { lock, step });
        }
        let lock = if step.kind == PRECOMMIT { block.or(lock) } else { lock };
        let mut signed = if next_height { Vec::new() } else { last.signed.clone() };
        if signed.len() == MAX_SIGNED {
            signed.remove(0);
        }
        signed.push(Signed { step, digest, block });
        self.write(Record { counter: last.counter + 1, step, lock, signed }, next_height)?;
        Ok(Allowed::Wanted)
    }

    fn write(&mut self, record: Record, durable: bool) -> Result<(), GuardError> {
        let error = |source| GuardError::Io { path: self.path.clone(), source };
        let kind = if durable { Kind::Durable } else { Kind::Running };
        let (next, bytes) = (self.next[kind as usize], write(&record));
        for place in kind.places(next) {
            self.file.write_all_at(&bytes, place).map_err(error)?;
        }
        if durable {
            self.file.sync_data().map_err(error)?;
        }
        self.next[kind as usize] = (next + 1) % GENERATIONS;
        self.last = record;
        Ok(())
    }
}

/// Length, record, checksum.
fn write(record: &Record) -> Vec<u8> {
    framed(&record.to_bytes())
}

pub(super) fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a record has at most MAX_SIGNED entries");
    let checksum = keccak256(&[b"DeepNode sign guard v2", body]);
    [&length.to_le_bytes()[..], body, &checksum].concat()
}

fn read(bytes: &[u8]) -> Option<Record> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let record = Record::from_bytes(rest.get(..u32::from_le_bytes(*length) as usize)?).ok()?;
    bytes.starts_with(&write(&record)).then_some(record)
}

#[cfg(test)]
mod tests;
