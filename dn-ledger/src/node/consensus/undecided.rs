//! Blocks that are proposed and not decided: in memory with what executing them gives, and in a file, since a validator that
//! voted for a block must still have it after a crash; if all lost it, nobody could decide the height.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dn_core::{Canonical, keccak256};
use malachite_types::Round;

use super::context::{BlockId, Height, Id};
use super::parts::{Place, Received};
use crate::block::Block;
use crate::chain::Executed;

/// The most blocks that are kept; honest proposers make one a round.
const MAX_BLOCKS: usize = 32;
/// The most blocks of a round that its proposer publishes; anybody else may pass on one.
const MAX_OF_PROPOSER: usize = 2;

/// The file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct UndecidedError {
    path: PathBuf,
    source: io::Error,
}

/// What the file holds, as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    /// Blocks that are not decided.
    pub(super) blocks: u64,
    /// Where what cannot be read begins, unless it is no more than a crash leaves: one record at the end that was being written.
    pub(super) damaged_at: Option<u64>,
}

/// A block that is proposed.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) place: Place,
    /// Who published it.
    pub(crate) publisher: Id,
    pub(crate) block: Arc<Block>,
    /// Built here, for a round of this node's own.
    pub(crate) own: bool,
    /// From before the node started: the engine's log may refer to it.
    pub(crate) old: bool,
    /// What it does; none if it is invalid, or was not executed since the node started.
    pub(crate) executed: Option<Arc<Executed>>,
}

/// Proposed blocks of the heights after the tip.
#[derive(Debug)]
pub(crate) struct Undecided {
    file: File,
    path: PathBuf,
    candidates: Vec<Candidate>,
}

impl Undecided {
    /// Opens the file; what was torn off at its end is not there.
    pub(crate) fn open(path: &Path, tip: u64) -> Result<Self, UndecidedError> {
        let error = |source| UndecidedError { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = file.map_err(error)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(error)?;
        let (mut candidates, good) = read_all(&bytes);
        file.set_len(good as u64).map_err(error)?;
        file.seek(SeekFrom::End(0)).map_err(error)?;
        candidates.retain(|c: &Candidate| c.place.height.0 > tip);
        Ok(Self { file, path: path.to_owned(), candidates })
    }

    /// Looks at the file without changing it; none if there is none.
    pub(super) fn look(path: &Path, tip: u64) -> Result<Option<Kept>, UndecidedError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(UndecidedError { path: path.to_owned(), source }),
        };
        let (candidates, good) = read_all(&bytes);
        let blocks = candidates.iter().filter(|c| c.place.height.0 > tip).count() as u64;
        let damaged_at = is_damaged(&bytes[good..]).then_some(good as u64);
        Ok(Some(Kept { blocks, damaged_at }))
    }

    /// Keeps a block; one that is `live`, proposed now, is on disk when this returns. False if there is no room: what this
    /// node may have voted for stays, whatever others publish. What others decided always has room.
    pub(crate) fn insert(&mut self, candidate: Candidate, live: bool) -> Result<bool, UndecidedError> {
        if live && !candidate.own && !self.has_room(&candidate) {
            return Ok(false);
        }
        let bytes = write(&candidate);
        let written = self.file.write_all(&bytes);
        let written = written.and_then(|()| if live { self.file.sync_data() } else { Ok(()) });
        written.map_err(|source| UndecidedError { path: self.path.clone(), source })?;
        self.candidates.push(candidate);
        Ok(true)
    }

    fn has_room(&mut self, new: &Candidate) -> bool {
        let limit = if new.publisher == new.place.proposer { MAX_OF_PROPOSER } else { 1 };
        let (height, round) = (new.place.height, new.place.round);
        let same =
            |c: &&Candidate| (c.place.height, c.place.round, c.publisher) == (height, round, new.publisher);
        if self.candidates.iter().filter(same).count() >= limit {
            return false;
        }
        if self.candidates.len() >= MAX_BLOCKS {
            // Nobody votes for what was not executed.
            let idle = |c: &Candidate| !c.own && !c.old && c.executed.is_none();
            let Some(idle) = self.candidates.iter().position(idle) else { return false };
            self.candidates.remove(idle);
        }
        true
    }

    /// What is proposed at exactly this place.
    pub(crate) fn at(&self, place: &Place) -> Option<&Candidate> {
        self.candidates.iter().find(|c| c.place == *place)
    }

    /// A block of a height, wherever it was proposed; one that was executed first.
    pub(crate) fn block(&self, height: Height, block: BlockId) -> Option<&Candidate> {
        let same = |c: &&Candidate| c.place.height == height && c.place.block == block;
        let executed = self.candidates.iter().filter(same).find(|c| c.executed.is_some());
        executed.or_else(|| self.candidates.iter().find(same))
    }

    /// What this node built for a round.
    pub(crate) fn own(&self, height: Height, round: Round) -> Option<&Candidate> {
        self.candidates.iter().find(|c| c.own && c.place.height == height && c.place.round == round)
    }

    /// Everything that is proposed in a round.
    pub(crate) fn in_round(&self, height: Height, round: Round) -> Vec<Candidate> {
        let here = |c: &&Candidate| c.place.height == height && c.place.round == round;
        self.candidates.iter().filter(here).cloned().collect()
    }

    /// Notes what a block does.
    pub(crate) fn set_executed(&mut self, block: BlockId, executed: &Arc<Executed>) {
        for candidate in self.candidates.iter_mut().filter(|c| c.place.block == block) {
            candidate.executed = Some(Arc::clone(executed));
        }
    }

    /// Forgets what is decided.
    pub(crate) fn prune(&mut self, tip: u64) -> Result<(), UndecidedError> {
        self.candidates.retain(|c| c.place.height.0 > tip);
        // Not forced to disk: old blocks that reappear are of decided heights and are ignored.
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        let rewrite = |mut file: &File| {
            self.candidates.iter().try_for_each(|candidate| file.write_all(&write(candidate)))
        };
        emptied
            .and_then(|_| rewrite(&self.file))
            .map_err(|source| UndecidedError { path: self.path.clone(), source })
    }
}

/// Length, checksum, then place, origin and block.
fn write(candidate: &Candidate) -> Vec<u8> {
    let record = (candidate.place, candidate.publisher, candidate.own, candidate.block.to_bytes());
    framed(&borsh::to_vec(&record).expect("memory takes every byte"))
}

pub(super) fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a block is far smaller than 4 GiB");
    [&length.to_le_bytes()[..], &keccak256(&[body]), body].concat()
}

/// The records from the start on, and the bytes that they take.
fn read_all(bytes: &[u8]) -> (Vec<Candidate>, usize) {
    let (mut candidates, mut rest) = (Vec::new(), bytes);
    while let Some((candidate, after)) = read(rest) {
        candidates.push(candidate);
        rest = after;
    }
    (candidates, bytes.len() - rest.len())
}

/// Whether bytes that do not begin with a record are more than one that was being written: that one is shorter than it says, with nothing
/// behind it, or space that nothing was written to.
fn is_damaged(rest: &[u8]) -> bool {
    if rest.iter().all(|b| *b == 0) {
        return false;
    }
    parts(rest).is_some() || (1..rest.len()).any(|from| begins_like_one(&rest[from..]))
}

/// Whether a whole record may begin here. Its height is looked at first: checksums at every byte would take minutes.
fn begins_like_one(bytes: &[u8]) -> bool {
    let height = parts(bytes).and_then(|(_, body, _)| body.first_chunk::<8>().copied());
    let plausible = |height: [u8; 8]| (1..1 << 40).contains(&u64::from_le_bytes(height));
    height.is_some_and(plausible) && read(bytes).is_some()
}

/// Checksum, body, and what is behind it, if so much is there.
fn parts(bytes: &[u8]) -> Option<(&[u8; 32], &[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<32>()?;
    let (body, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((checksum, body, rest))
}

fn read(bytes: &[u8]) -> Option<(Candidate, &[u8])> {
    let (checksum, body, rest) = parts(bytes)?;
    if keccak256(&[body]) != *checksum {
        return None;
    }
    let (place, publisher, own, block): (Place, Id, bool, Vec<u8>) = borsh::from_slice(body).ok()?;
    let block = Arc::new(Received::decode(place, publisher, &block)?.block);
    Some((Candidate { place, publisher, block, own, old: true, executed: None }, rest))
}

#[cfg(test)]
mod tests;
