//! What consensus keeps in a directory, read as a start reads it, without a node and without changing it.

use std::fmt;
use std::path::{Path, PathBuf};

use dn_core::Address;

use super::engine::LOG_FILE;
use super::guard::{Guard, GuardError};
use super::log::{Log, LogFault, aside};
use super::undecided::{Undecided, UndecidedError};

/// The directory of consensus in a node's.
pub(crate) const DIR_NAME: &str = "consensus";
/// The file with the record of what the key signed.
pub(crate) const RECORD_FILE: &str = "signed";
/// The file of blocks that are not decided.
pub(crate) const UNDECIDED_FILE: &str = "undecided.log";

/// What consensus has in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsensusReport {
    /// Whether there is a directory of consensus; every node makes one when it starts.
    pub present: bool,
    /// The height of the newest signature in the record, 0 if there is none yet; none without a record.
    pub signed: Option<u64>,
    /// Whether a place of the record is torn or lost: a start writes it again from the other one.
    pub torn: bool,
    /// The height of the engine's log; none where there is no log.
    pub log: Option<u64>,
    /// Blocks that are proposed, not decided, and kept.
    pub undecided: u64,
    /// What the next start does with a validator's key.
    pub start: KeyStart,
}

/// What a start does with the validator's key, given what is recorded of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyStart {
    /// It signs.
    Signs {
        /// The next height.
        next: u64,
    },
    /// Nothing is recorded: it watches others first.
    Unrecorded,
    /// It signed for the next height, and the log that knows what is not there, or is of another height.
    Follows {
        /// The next height.
        next: u64,
    },
    /// It signed for a later height than the next: the chain is an older copy.
    Older {
        /// The tip.
        tip: u64,
        /// What it signed for.
        signed: u64,
    },
}

impl fmt::Display for KeyStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signs { next } => write!(f, "a start with the validator's key signs from block {next} on"),
            Self::Unrecorded => f.write_str(
                "nothing is recorded of what a key signed here: a validator that starts here will follow without signing until others have \
                 decided two blocks in a row; one that decides alone signs at once, and a node without a key needs no record",
            ),
            Self::Follows { next } => write!(
                f,
                "the key signed for block {next}, and the engine's log of that block is not there: a start with the key will follow without \
                 signing until others have decided it; a validator that decides alone forgets those signatures and goes on"
            ),
            Self::Older { tip, signed } => write!(
                f,
                "the key signed for block {signed} and the chain ends at block {tip}: it is an older copy. A start with the key will follow \
                 without signing until others have decided block {signed}; of a validator that decides alone it is refused"
            ),
        }
    }
}

/// What is wrong with the files of consensus, and what follows from it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsensusFilesError {
    /// The record of what the key signed.
    #[error("a start with the validator's key refuses: {0}")]
    Record(#[from] GuardError),
    /// A record that was named and is not there.
    #[error("{path}: there is no record of signatures")]
    NoRecord {
        /// The file.
        path: PathBuf,
    },
    /// A file, or the directory, cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The engine's log.
    #[error(
        "{path} is damaged at byte {at}: {reason}. A start with the validator's key keeps what is left of it as {kept}, and {}",
        without_log(.signs)
    )]
    Log {
        /// The file.
        path: PathBuf,
        /// Where what cannot be read begins, in bytes from the start.
        at: u64,
        /// What is wrong there.
        reason: LogFault,
        /// Where a start keeps it.
        kept: PathBuf,
        /// Whether the record lets the key sign without it.
        signs: bool,
    },
    /// The blocks that are proposed and not decided.
    #[error(
        "{path} is damaged at byte {at}: a start drops what is behind it. A block for height {next} that the key voted for has to come from \
         others then; if they cannot give it, this node stops at it"
    )]
    Undecided {
        /// The file.
        path: PathBuf,
        /// Where what cannot be read begins, in bytes from the start.
        at: u64,
        /// The height that is to be decided.
        next: u64,
    },
    /// The same file cannot be read.
    #[error(transparent)]
    UndecidedFile(#[from] UndecidedError),
}

/// Reads what a start with a key would read: the record of signatures, which may be elsewhere, the engine's log and the blocks that are
/// not decided. `dir` is a node's.
pub(crate) fn inspect(
    dir: &Path,
    record: Option<&Path>,
    chain_id: u64,
    tip: u64,
) -> Result<ConsensusReport, ConsensusFilesError> {
    let dir = dir.join(DIR_NAME);
    let present = dir.try_exists().map_err(|source| ConsensusFilesError::Io { path: dir.clone(), source })?;
    let path = record.map_or_else(|| dir.join(RECORD_FILE), Path::to_owned);
    let found = Guard::look(&path)?;
    if found.is_none() && record.is_some() {
        return Err(ConsensusFilesError::NoRecord { path });
    }
    let (mut guard, whole) = found.map_or((None, true), |(guard, whole)| (Some(guard), whole));
    let path = dir.join(LOG_FILE);
    // Whose signatures are in the log decides which votes are withheld, not whether the key may sign.
    let log = Log::read(&path, chain_id, Address([0; 20]))
        .map_err(|source| ConsensusFilesError::Io { path: path.clone(), source })?;
    let start = key_start(guard.as_mut(), tip, &log);
    let log = match log {
        Log::Missing => None,
        Log::Whole { height, .. } => Some(height),
        Log::Damaged { at, reason } => {
            let (kept, signs) = (aside(&path), matches!(start, KeyStart::Signs { .. }));
            return Err(ConsensusFilesError::Log { path, at, reason, kept, signs });
        }
    };
    let path = dir.join(UNDECIDED_FILE);
    let kept = Undecided::look(&path, tip)?;
    if let Some(at) = kept.and_then(|kept| kept.damaged_at) {
        return Err(ConsensusFilesError::Undecided { path, at, next: tip + 1 });
    }
    Ok(ConsensusReport {
        present,
        signed: guard.as_ref().filter(|guard| !guard.is_empty()).map(Guard::height),
        torn: !whole,
        log,
        undecided: kept.map_or(0, |kept| kept.blocks),
        start,
    })
}

fn without_log(signs: &bool) -> &'static str {
    match signs {
        true => "signs: all that it signed before is decided",
        false => {
            "will follow without signing until others have decided blocks; a validator that decides alone goes on"
        }
    }
}

fn key_start(guard: Option<&mut Guard>, tip: u64, log: &Log) -> KeyStart {
    let Some(guard) = guard.filter(|guard| !guard.is_empty()) else { return KeyStart::Unrecorded };
    let (signed, next) = (guard.height(), tip + 1);
    match guard.admit(tip, log) {
        true => KeyStart::Signs { next },
        false if signed > next => KeyStart::Older { tip, signed },
        false => KeyStart::Follows { next },
    }
}

#[cfg(test)]
mod tests;
