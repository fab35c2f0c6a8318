//! A dispute as bytes: what a ledger keeps between two moves.
//!
//! A dispute's state follows from its subject and its moves, which are checked one by one. So subject and moves are its
//! encoding, and decoding plays them again: bytes that no dispute can have reached are refused by the checks that the moves
//! have to pass, and what is decoded goes on exactly as the dispute would have.

use dn_core::encoding::{DecodeError, Reader, encode_count};
use dn_core::{Canonical, canonical_enum};

use super::claim::Subject;
use super::dispute::{Answer, Dispute, MoveError, Pick};
use super::plan::ManifestError;

/// Most bytes of a record: all moves at their largest have some 300 KiB.
pub const MAX_RECORD_BYTES: usize = 512 * 1024;
/// Most moves of a dispute: more than any path from the root of a trace to a tile has.
pub const MAX_MOVES: usize = 64;

/// One move of a dispute.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "a dispute has a few of them")]
pub enum Move {
    /// The worker opens.
    Answer {
        /// What it opens.
        answer: Answer,
    },
    /// The accuser points.
    Pick {
        /// Where it points.
        pick: Pick,
    },
    /// Whoever was to move did not.
    Silence,
}
canonical_enum!(Move { 0 => Answer { answer: Answer }, 1 => Pick { pick: Pick }, 2 => Silence {} });

/// A dispute, as it can be kept and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What the receipt binds.
    pub subject: Subject,
    /// All moves so far, at most [`MAX_MOVES`].
    pub moves: Vec<Move>,
}

impl Canonical for Record {
    const MIN_LEN: usize = Subject::MIN_LEN + 4;

    fn encode(&self, out: &mut Vec<u8>) {
        self.subject.encode(out);
        encode_count(self.moves.len(), out);
        self.moves.iter().for_each(|one| one.encode(out));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let subject = Subject::decode(r)?;
        // A move is larger in memory than its fewest bytes; so their number is bounded before any is read.
        let count = r.count(Move::MIN_LEN, MAX_MOVES)?;
        let moves = (0..count).map(|_| Move::decode(r)).collect::<Result<_, _>>()?;
        Ok(Self { subject, moves })
    }
}

/// Why bytes are no dispute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// More bytes than any dispute has.
    #[error("the record has {found} bytes, a dispute has at most {limit}")]
    TooLarge {
        /// The limit.
        limit: usize,
        /// What came.
        found: usize,
    },
    /// The bytes are not in the canonical encoding.
    #[error("the record cannot be read: {0}")]
    Encoding(#[from] DecodeError),
    /// No dispute can be opened about the subject.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A move that the dispute would have refused.
    #[error("move {index}: {source}")]
    Move {
        /// Its place, from 0.
        index: usize,
        /// Why it is refused.
        source: MoveError,
    },
}

impl Dispute {
    /// What can be kept of the dispute, to [`resume`](Self::resume) it.
    pub fn record(&self) -> Record {
        Record { subject: self.claim().subject.clone(), moves: self.moves().to_vec() }
    }

    /// The dispute of a record, in the state in which it was left.
    ///
    /// The moves are checked again, the last tile is judged again; this takes as long as the moves took.
    ///
    /// # Errors
    /// [`ResumeError`].
    pub fn resume(record: Record) -> Result<Self, ResumeError> {
        let mut dispute = Self::open(record.subject)?;
        for (index, one) in record.moves.into_iter().enumerate() {
            let done = match one {
                Move::Answer { answer } => dispute.answer(answer),
                Move::Pick { pick } => dispute.pick(pick),
                Move::Silence if dispute.turn().is_none() => Err(MoveError::Turn { expected: "nothing" }),
                Move::Silence => {
                    dispute.silence();
                    Ok(())
                }
            };
            done.map_err(|source| ResumeError::Move { index, source })?;
        }
        Ok(dispute)
    }

    /// The canonical encoding of [`record`](Self::record).
    pub fn to_bytes(&self) -> Vec<u8> {
        self.record().to_bytes()
    }

    /// The inverse of [`to_bytes`](Self::to_bytes), for any bytes: at most [`MAX_RECORD_BYTES`] are read.
    ///
    /// # Errors
    /// [`ResumeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ResumeError> {
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(ResumeError::TooLarge { limit: MAX_RECORD_BYTES, found: bytes.len() });
        }
        Self::resume(Record::from_bytes(bytes)?)
    }
}
