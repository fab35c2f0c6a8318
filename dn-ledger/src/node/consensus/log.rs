//! The engine's log, read before the engine opens it.
//!
//! The engine cuts off what is torn at the log's end, and stands still for good at anything else that it cannot read. So the
//! node looks first: what a crash may leave goes to the engine, damage is named and set aside.

use std::io;
use std::path::{Path, PathBuf};

use dn_core::{Address, Hash32};
use malachite_consensus::Input;
use malachite_engine::wal::decode_entry;
use malachite_types::VoteType;

use super::codec::Wire;
use super::context::Ctx;
use super::guard::{PRECOMMIT, PREVOTE, PROPOSAL, Step};

/// Bytes before the first entry: four of version, eight of height, big-endian.
pub(super) const HEAD_BYTES: usize = 12;
/// Bytes before an entry's content: one flag, eight of length, four of checksum, big-endian.
const ENTRY_HEAD_BYTES: usize = 13;
/// The kind of entry that holds no payload of a length of its own.
const TIMEOUT: u8 = 2;
/// The only version of the format.
const VERSION: u32 = 1;

/// Bytes of the engine's log that it did not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{path} is damaged at byte {at}: {reason}. The key signs nothing until others decide height {next}; what is left of the \
     file is kept as {kept}. If no others can, and only then, start once with the record of signatures and this log removed, and with --unsigned-from {next}"
)]
pub struct LogDamaged {
    /// The file.
    pub path: PathBuf,
    /// Where what cannot be read begins.
    ///
    /// # Units
    /// Bytes from the start.
    pub at: u64,
    /// What is wrong there.
    pub reason: LogFault,
    /// The height that is to be decided.
    pub next: u64,
    /// Where the file is kept.
    pub kept: PathBuf,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogFault {
    /// Another version, or none.
    #[error("its version is {found}; {VERSION} expected")]
    Version {
        /// What is there.
        found: u32,
    },
    /// The content is not what was written.
    #[error("the checksum is {found:#010x}; {expected:#010x} expected")]
    Checksum {
        /// Of the content.
        expected: u32,
        /// What is there.
        found: u32,
    },
    /// A length that reaches beyond the end, with whole entries behind it.
    #[error("an entry of {found} bytes where {left} are left, which hold other entries")]
    Length {
        /// What is there.
        found: u64,
        /// Bytes to the end.
        left: u64,
    },
    /// Whole, and nothing that the engine writes.
    #[error("an entry of an unknown kind")]
    Content,
}

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Log {
    /// No file, or one without a whole head.
    Missing,
    /// Entries of a height up to byte `end`, and behind them at most one that was being written when the node ended.
    Whole { height: u64, own: Vec<(Step, Hash32)>, end: u64 },
    /// Not what was written.
    Damaged { at: u64, reason: LogFault },
}

impl Log {
    /// Reads a log without changing it; `own` is the address whose signatures it is asked for.
    pub(super) fn read(path: &Path, chain_id: u64, own: Address) -> io::Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(Self::of(&bytes, chain_id, own)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::Missing),
            Err(error) => Err(error),
        }
    }

    fn of(bytes: &[u8], chain_id: u64, own: Address) -> Self {
        let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else { return Self::Missing };
        let version = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        if version != VERSION {
            return Self::Damaged { at: 0, reason: LogFault::Version { found: version } };
        }
        let height = u64::from_be_bytes(std::array::from_fn(|i| head[4 + i]));
        let (mut at, mut own_signed) = (HEAD_BYTES, Vec::new());
        while at < bytes.len() {
            let (input, length) = match entry(&bytes[at..]) {
                Ok(found) => found,
                // A crash leaves one entry that is not whole; it was never forced to disk, so nothing was sent because of it.
                Err(reason) => match (at + 1..bytes.len()).any(|from| holds_entry(&bytes[from..])) {
                    true => return Self::Damaged { at: at as u64, reason },
                    false => break,
                },
            };
            own_signed.extend(signature(&input, chain_id, own));
            at += length;
        }
        Self::Whole { height, own: own_signed, end: at as u64 }
    }
}

/// The entry that begins here, and its length with its head.
fn entry(bytes: &[u8]) -> Result<(Input<Ctx>, usize), LogFault> {
    let left = bytes.len() as u64;
    let Some((length, checksum)) = entry_head(bytes) else {
        return Err(LogFault::Length { found: ENTRY_HEAD_BYTES as u64, left });
    };
    let content = usize::try_from(length).ok().and_then(|length| bytes[ENTRY_HEAD_BYTES..].get(..length));
    let content = content.ok_or(LogFault::Length { found: length, left })?;
    let expected = crc32(content);
    if expected != checksum {
        return Err(LogFault::Checksum { expected, found: checksum });
    }
    if !holds_payload(content) {
        return Err(LogFault::Content);
    }
    // The flag is for compressed entries, of which there are none.
    match decode_entry::<Ctx, _, _>(&Wire, content) {
        Ok(input) if bytes[0] == 0 => Ok((input, ENTRY_HEAD_BYTES + content.len())),
        _ => Err(LogFault::Content),
    }
}

/// Whether the payload is as long as the content says: the engine takes memory for it before it reads.
fn holds_payload(content: &[u8]) -> bool {
    match content.split_first() {
        Some((&TIMEOUT, _)) => true,
        Some((_, rest)) => rest.split_first_chunk::<8>().is_some_and(|(length, payload)| {
            usize::try_from(u64::from_be_bytes(*length)).is_ok_and(|length| length <= payload.len())
        }),
        None => false,
    }
}

/// An entry of this content.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn entry_of(content: &[u8]) -> Vec<u8> {
    [&[0][..], &(content.len() as u64).to_be_bytes(), &crc32(content).to_be_bytes(), content].concat()
}

/// Length and checksum of the entry that begins here.
fn entry_head(bytes: &[u8]) -> Option<(u64, u32)> {
    let (head, _) = bytes.split_first_chunk::<ENTRY_HEAD_BYTES>()?;
    let length = u64::from_be_bytes(std::array::from_fn(|i| head[1 + i]));
    Some((length, u32::from_be_bytes(std::array::from_fn(|i| head[9 + i]))))
}

fn holds_entry(bytes: &[u8]) -> bool {
    let Some((length, checksum)) = entry_head(bytes) else { return false };
    let content = usize::try_from(length).ok().and_then(|length| bytes[ENTRY_HEAD_BYTES..].get(..length));
    content.is_some_and(|content| !content.is_empty() && crc32(content) == checksum)
}

/// What this key signed, if the entry is that.
fn signature(input: &Input<Ctx>, chain_id: u64, own: Address) -> Option<(Step, Hash32)> {
    match input {
        Input::Vote(vote) if vote.message.validator.address() == own => {
            let content = vote.message.content(chain_id)?;
            let kind = if vote.message.kind == VoteType::Prevote { PREVOTE } else { PRECOMMIT };
            let step = Step { height: content.height, round: content.round, kind };
            Some((step, Hash32(content.digest())))
        }
        Input::Proposal(proposal) if proposal.message.proposer.address() == own => {
            let content = proposal.message.content(chain_id)?;
            let step = Step { height: content.height, round: content.round, kind: PROPOSAL };
            Some((step, Hash32(content.digest())))
        }
        _ => None,
    }
}

/// CRC-32 as in zlib and Ethernet, a bit at a time: a log is at most a few megabytes.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

/// Cuts off what is not whole at the end of a log. The engine takes some of it for entries, and stands still.
pub(super) fn cut(path: &Path, end: u64) -> io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).open(path)?;
    if file.metadata()?.len() > end {
        file.set_len(end)?;
        file.sync_data()?;
    }
    Ok(())
}

/// Removes a log without a whole head: the engine stands still at one, and begins another where there is none.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Where a damaged log is kept.
pub(super) fn aside(path: &Path) -> PathBuf {
    path.with_extension("damaged")
}

/// Moves a damaged log away, so that the engine starts an empty one.
pub(super) fn set_aside(path: &Path, at: u64, reason: LogFault, next: u64) -> io::Result<LogDamaged> {
    let kept = aside(path);
    std::fs::rename(path, &kept)?;
    Ok(LogDamaged { path: path.to_owned(), at, reason, next, kept })
}

#[cfg(test)]
mod tests;
