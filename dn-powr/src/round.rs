//! A round of a committee: each validator commits to a score, then reveals it; then the round says what everybody did.
//!
//! A pure state machine: heights go in, typed outcomes come out. Signatures are the caller's: whoever calls has checked that a message is
//! from the validator that it names.

use dn_core::encoding::{DecodeError, Reader};
use dn_core::{Address, Canonical, Hash32, canonical_struct, keccak256};
use dn_trust::Unit;

use crate::draw::MAX_SEATS;
use crate::quality::{Consensus, MAX_WEIGHT, Vote};
use crate::review::{Attendance, Finding, ReviewParams, Settled, Settlement};

/// What a validator reveals, and before that commits to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Reveal {
    /// The round.
    pub round: Hash32,
    /// Who scores.
    pub validator: Address,
    /// The quality that it saw.
    pub score: Unit,
    /// 32 random bytes, without which the few possible scores could be tried out.
    pub salt: Hash32,
}
canonical_struct!(Reveal { round: Hash32, validator: Address, score: Unit, salt: Hash32 });

impl Reveal {
    /// The commitment that precedes the reveal: Keccak-256 of a domain and the canonical bytes. Round and validator are in it, so it
    /// cannot be copied by another validator or from another round.
    pub fn commitment(&self) -> Hash32 {
        Hash32(keccak256(&[b"DeepNode score commitment v1", &self.to_bytes()]))
    }

    /// Whether this is what the commitment was made for.
    pub fn verify(&self, commitment: &Hash32) -> bool {
        self.commitment() == *commitment
    }
}

/// What is known about a round's task before it is scored. Every round has one, and its commitment does not tell canaries from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// The round.
    pub round: Hash32,
    /// The right score of a canary; none for an ordinary round.
    pub known: Option<Unit>,
    /// 32 random bytes.
    pub salt: Hash32,
}
canonical_struct!(Seal { round: Hash32, known: Option<Unit>, salt: Hash32 });

impl Seal {
    /// What is published when the round opens: Keccak-256 of a domain and the canonical bytes.
    pub fn commitment(&self) -> Hash32 {
        Hash32(keccak256(&[b"DeepNode round seal v1", &self.to_bytes()]))
    }
}

/// Why a round refuses an input. A refused input changes no score and no commitment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoundError {
    /// Nobody in the committee, or too many.
    #[error("a committee of {found}; it must have from 1 to {MAX_SEATS} members")]
    Members {
        /// Members given.
        found: usize,
    },
    /// A member came twice.
    #[error("{validator} is in the committee twice")]
    Duplicate {
        /// The member.
        validator: Address,
    },
    /// The weights add up to too much.
    #[error("the weights of the {members} members add up to more than 2^126")]
    Overflow {
        /// Members given.
        members: usize,
    },
    /// Reveals would end before they start.
    #[error("reveals end at height {reveal_until}; that must be after the last commitment's, {commit_until}")]
    Deadlines {
        /// Last height to commit at.
        commit_until: u64,
        /// Last height to reveal at.
        reveal_until: u64,
    },
    /// Not a member.
    #[error("{validator} is not in the committee of this round")]
    NotAMember {
        /// Who sent it.
        validator: Address,
    },
    /// After the deadline.
    #[error("height {now} is after the last one for this, {until}")]
    Late {
        /// The height.
        now: u64,
        /// The deadline.
        until: u64,
    },
    /// A reveal while others may still commit, or a settlement while others may still reveal.
    #[error("height {now} is too early: this is possible after {after}")]
    Early {
        /// The height.
        now: u64,
        /// The last height of the phase before.
        after: u64,
    },
    /// A second commitment or reveal.
    #[error("{validator} did that already in this round")]
    Twice {
        /// Who sent it.
        validator: Address,
    },
    /// A reveal without a commitment.
    #[error("{validator} has not committed in this round")]
    NotCommitted {
        /// Who sent it.
        validator: Address,
    },
    /// For another round.
    #[error("meant for round {found}; this is round {expected}")]
    WrongRound {
        /// This round.
        expected: Hash32,
        /// The round that it names.
        found: Hash32,
    },
    /// Not what was committed to.
    #[error("the commitment is {expected}; what was revealed gives {found}")]
    Mismatch {
        /// The commitment.
        expected: Hash32,
        /// The hash of what came.
        found: Hash32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Silent,
    LateCommit,
    Committed(Hash32),
    Mismatched(Hash32),
    LateReveal,
    Revealed(Unit),
}

impl Canonical for Progress {
    const MIN_LEN: usize = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Silent => out.push(0),
            Self::LateCommit => out.push(1),
            Self::Committed(commitment) => {
                out.push(2);
                commitment.encode(out);
            }
            Self::Mismatched(commitment) => {
                out.push(3);
                commitment.encode(out);
            }
            Self::LateReveal => out.push(4),
            Self::Revealed(score) => {
                out.push(5);
                score.encode(out);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = r.position();
        Ok(match u8::decode(r)? {
            0 => Self::Silent,
            1 => Self::LateCommit,
            2 => Self::Committed(Hash32::decode(r)?),
            3 => Self::Mismatched(Hash32::decode(r)?),
            4 => Self::LateReveal,
            5 => Self::Revealed(Unit::decode(r)?),
            found => return Err(DecodeError::Tag { at, what: "progress of a member", found }),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    id: Address,
    weight: u128,
    progress: Progress,
}
canonical_struct!(Member { id: Address, weight: u128, progress: Progress });

/// A round under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    id: Hash32,
    seal: Hash32,
    commit_until: u64,
    reveal_until: u64,
    /// By rising id.
    members: Vec<Member>,
}
// A ledger keeps a round between two messages; it decodes what it encoded.
canonical_struct!(Round { id: Hash32, seal: Hash32, commit_until: u64, reveal_until: u64, members: Vec<Member> });

impl Round {
    /// Opens a round: `committee` as [`draw_committee`](crate::draw_committee) drew it, the commitment of the round's [`Seal`], and the
    /// last heights to commit and to reveal at.
    ///
    /// # Errors
    /// [`RoundError::Members`], [`RoundError::Duplicate`], [`RoundError::Overflow`] or [`RoundError::Deadlines`].
    pub fn open(
        id: Hash32,
        seal: Hash32,
        committee: &[(Address, u128)],
        commit_until: u64,
        reveal_until: u64,
    ) -> Result<Self, RoundError> {
        if !(1..=MAX_SEATS).contains(&committee.len()) {
            return Err(RoundError::Members { found: committee.len() });
        }
        if reveal_until <= commit_until {
            return Err(RoundError::Deadlines { commit_until, reveal_until });
        }
        let mut members: Vec<_> = committee
            .iter()
            .map(|(id, weight)| Member { id: *id, weight: *weight, progress: Progress::Silent })
            .collect();
        members.sort_unstable_by_key(|m| m.id);
        if let Some(pair) = members.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(RoundError::Duplicate { validator: pair[0].id });
        }
        let total = members.iter().try_fold(0u128, |sum, m| sum.checked_add(m.weight));
        if total.is_none_or(|total| total > MAX_WEIGHT) {
            return Err(RoundError::Overflow { members: members.len() });
        }
        Ok(Self { id, seal, commit_until, reveal_until, members })
    }

    /// Takes a validator's commitment.
    ///
    /// # Errors
    /// [`RoundError::NotAMember`], [`RoundError::Twice`] or [`RoundError::Late`], which is remembered.
    pub fn commit(&mut self, now: u64, validator: Address, commitment: Hash32) -> Result<(), RoundError> {
        let until = self.commit_until;
        let member = self.member(validator)?;
        match member.progress {
            Progress::Silent | Progress::LateCommit if now > until => {
                member.progress = Progress::LateCommit;
                Err(RoundError::Late { now, until })
            }
            Progress::Silent => {
                member.progress = Progress::Committed(commitment);
                Ok(())
            }
            _ => Err(RoundError::Twice { validator }),
        }
    }

    /// Takes a validator's reveal. One that does not match its commitment may be followed by one that does, within the deadline.
    ///
    /// # Errors
    /// [`RoundError::WrongRound`], [`RoundError::NotAMember`], [`RoundError::NotCommitted`], [`RoundError::Twice`],
    /// [`RoundError::Early`], or [`RoundError::Mismatch`] and [`RoundError::Late`], which are remembered.
    pub fn reveal(&mut self, now: u64, reveal: &Reveal) -> Result<(), RoundError> {
        let (expected, after, until) = (self.id, self.commit_until, self.reveal_until);
        if reveal.round != expected {
            return Err(RoundError::WrongRound { expected, found: reveal.round });
        }
        let validator = reveal.validator;
        let member = self.member(validator)?;
        let commitment = match member.progress {
            Progress::Committed(commitment) | Progress::Mismatched(commitment) => commitment,
            Progress::LateReveal => return Err(RoundError::Late { now, until }),
            Progress::Silent | Progress::LateCommit => return Err(RoundError::NotCommitted { validator }),
            Progress::Revealed(_) => return Err(RoundError::Twice { validator }),
        };
        if now <= after {
            return Err(RoundError::Early { now, after });
        }
        let found = reveal.commitment();
        if found != commitment {
            member.progress = Progress::Mismatched(commitment);
            return Err(RoundError::Mismatch { expected: commitment, found });
        }
        if now > until {
            member.progress = Progress::LateReveal;
            return Err(RoundError::Late { now, until });
        }
        member.progress = Progress::Revealed(reveal.score);
        Ok(())
    }

    /// Settles the round after its last height.
    ///
    /// With the seal opened, an ordinary round gives a consensus and says who is aligned with it; a canary gives no consensus and says who
    /// passed. Without it nobody knows which of the two the round was: it gives neither, and only attendance counts.
    ///
    /// # Errors
    /// [`RoundError::Early`]; [`RoundError::WrongRound`] or [`RoundError::Mismatch`] for a seal that is not this round's.
    pub fn settle(
        &self,
        now: u64,
        seal: Option<&Seal>,
        params: &ReviewParams,
    ) -> Result<Settled, RoundError> {
        if now <= self.reveal_until {
            return Err(RoundError::Early { now, after: self.reveal_until });
        }
        if let Some(seal) = seal {
            self.check_seal(seal)?;
        }
        let known = seal.and_then(|s| s.known);
        let consensus = if seal.is_some_and(|s| s.known.is_none()) { self.consensus() } else { None };
        let members = self
            .members
            .iter()
            .map(|m| {
                let attendance = m.progress.attendance();
                let finding = match (known, consensus) {
                    (Some(known), _) => Finding::of_canary(attendance, known, params),
                    (None, Some(c)) => Finding::of_vote(attendance, c.quality, params),
                    (None, None) => Finding::Nothing,
                };
                Settlement { validator: m.id, attendance, finding }
            })
            .collect();
        Ok(Settled { known, consensus, members })
    }

    fn check_seal(&self, seal: &Seal) -> Result<(), RoundError> {
        if seal.round != self.id {
            return Err(RoundError::WrongRound { expected: self.id, found: seal.round });
        }
        let found = seal.commitment();
        if found != self.seal {
            return Err(RoundError::Mismatch { expected: self.seal, found });
        }
        Ok(())
    }

    /// What the revealed scores agree on; none when nobody with weight revealed.
    fn consensus(&self) -> Option<Consensus> {
        let mut votes: Vec<Vote> = self
            .members
            .iter()
            .filter_map(|m| match m.progress {
                Progress::Revealed(score) => Some(Vote { score, weight: m.weight }),
                _ => None,
            })
            .collect();
        // The weights were checked when the round opened, so no weight is the only reason to fail.
        Consensus::of(&mut votes).ok()
    }

    fn member(&mut self, validator: Address) -> Result<&mut Member, RoundError> {
        let place = self.members.binary_search_by_key(&validator, |m| m.id);
        place.map(|at| &mut self.members[at]).map_err(|_| RoundError::NotAMember { validator })
    }
}

impl Progress {
    fn attendance(self) -> Attendance {
        match self {
            Self::Silent => Attendance::NoCommitment {},
            Self::LateCommit => Attendance::LateCommitment {},
            Self::Committed(_) => Attendance::NoReveal {},
            Self::Mismatched(_) => Attendance::Mismatch {},
            Self::LateReveal => Attendance::LateReveal {},
            Self::Revealed(score) => Attendance::Revealed { score },
        }
    }
}

#[cfg(test)]
mod tests;
