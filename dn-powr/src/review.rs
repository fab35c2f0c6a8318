//! What a settled round says about each member of its committee, and how it moves trust.

use dn_core::{Address, canonical_enum, canonical_struct};
use dn_trust::{Unit, ValidatorEpoch, Weight};

use crate::draw::MAX_SEATS;
use crate::quality::Consensus;

/// Why parameters of reviews are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReviewError {
    /// A committee's size out of its bounds.
    #[error("a committee of {found} seats; it must have from 1 to {MAX_SEATS}")]
    Seats {
        /// The size.
        found: u16,
    },
    /// Too many canaries.
    #[error("the rate of canaries is {found} basis points; it must be at most {max}")]
    CanaryRate {
        /// The rate.
        found: u16,
        /// The most that is allowed.
        max: u16,
    },
    /// A tolerance out of its bounds.
    #[error("the tolerance `{name}` is {found}; it must be at most {max}")]
    Tolerance {
        /// The field.
        name: &'static str,
        /// Its value.
        found: Unit,
        /// The most that is allowed.
        max: Unit,
    },
}

/// Constants of committees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReviewParams {
    /// Members of a committee: from 1 to 64.
    pub seats: u16,
    /// Rounds that are canaries, in basis points: at most 5,000.
    pub canary_rate: u16,
    /// How far from the quality a score may be and still agree with it: below ½.
    pub tolerance: Unit,
    /// How far from a canary's known score a score may be and still pass: below ½.
    pub canary_tolerance: Unit,
}
canonical_struct!(ReviewParams { seats: u16, canary_rate: u16, tolerance: Unit, canary_tolerance: Unit });

impl Default for ReviewParams {
    /// Seven members, 5 % canaries, a tenth either way.
    fn default() -> Self {
        let tenth = Unit::from_bits(429_496_730);
        Self { seats: 7, canary_rate: 500, tolerance: tenth, canary_tolerance: tenth }
    }
}

impl ReviewParams {
    /// The largest tolerance, just below one half: with that, a score of ½ would agree with everything.
    pub const MAX_TOLERANCE: Unit = Unit::from_bits((1 << 31) - 1);
    /// The highest rate of canaries, in basis points.
    pub const MAX_CANARY_RATE: u16 = 5_000;

    /// Checks the bounds.
    ///
    /// # Errors
    /// [`ReviewError`].
    pub fn validate(&self) -> Result<(), ReviewError> {
        if !(1..=MAX_SEATS).contains(&usize::from(self.seats)) {
            return Err(ReviewError::Seats { found: self.seats });
        }
        if self.canary_rate > Self::MAX_CANARY_RATE {
            return Err(ReviewError::CanaryRate { found: self.canary_rate, max: Self::MAX_CANARY_RATE });
        }
        let max = Self::MAX_TOLERANCE;
        for (name, found) in [("tolerance", self.tolerance), ("canary_tolerance", self.canary_tolerance)] {
            if found > max {
                return Err(ReviewError::Tolerance { name, found, max });
            }
        }
        Ok(())
    }
}

/// What a member did in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "attendance", rename_all = "snake_case")]
pub enum Attendance {
    /// Committed and revealed in time.
    Revealed {
        /// The score.
        score: Unit,
    },
    /// Never committed.
    NoCommitment {},
    /// Committed after the deadline, which does not count.
    LateCommitment {},
    /// Committed, and never revealed.
    NoReveal {},
    /// Revealed after the deadline.
    LateReveal {},
    /// Revealed only what it had not committed to.
    Mismatch {},
}
canonical_enum!(Attendance {
    0 => Revealed { score: Unit },
    1 => NoCommitment {},
    2 => LateCommitment {},
    3 => NoReveal {},
    4 => LateReveal {},
    5 => Mismatch {},
});

/// How a member's score compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Nothing can be said: no score in time, or nothing to compare it with.
    Nothing,
    /// Within the tolerance of the quality.
    Aligned,
    /// Outside it.
    Misaligned,
    /// A canary was scored rightly.
    CanaryPassed,
    /// A canary was scored wrongly, or its commitment was not opened in time.
    CanaryFailed,
}
canonical_enum!(Finding {
    0 => Nothing {},
    1 => Aligned {},
    2 => Misaligned {},
    3 => CanaryPassed {},
    4 => CanaryFailed {},
});

impl Finding {
    /// `|score − quality| ≤ tolerance`.
    pub fn of_vote(attendance: Attendance, quality: Unit, params: &ReviewParams) -> Self {
        match attendance {
            Attendance::Revealed { score } if near(score, quality, params.tolerance) => Self::Aligned,
            Attendance::Revealed { .. } => Self::Misaligned,
            _ => Self::Nothing,
        }
    }

    /// `|score − known| ≤ canary_tolerance`. Who committed and then does not open it in time fails: it has seen the others' scores, and could
    /// otherwise take back every guess that was wrong. Who did not commit chose blindly, and only missed the round.
    pub fn of_canary(attendance: Attendance, known: Unit, params: &ReviewParams) -> Self {
        match attendance {
            Attendance::Revealed { score } if near(score, known, params.canary_tolerance) => {
                Self::CanaryPassed
            }
            Attendance::NoCommitment {} | Attendance::LateCommitment {} => Self::Nothing,
            _ => Self::CanaryFailed,
        }
    }

    /// Adds the finding to a validator's epoch: one event of alignment or of canaries, none where there is nothing to say.
    pub fn fold(self, weight: Weight, epoch: &mut ValidatorEpoch) {
        match self {
            Self::Nothing => {}
            Self::Aligned => epoch.aligned(weight),
            Self::Misaligned => epoch.misaligned(weight),
            Self::CanaryPassed => epoch.canary_passed(weight),
            Self::CanaryFailed => epoch.canary_failed(weight),
        }
    }
}

fn near(a: Unit, b: Unit, tolerance: Unit) -> bool {
    a.bits().abs_diff(b.bits()) <= tolerance.bits()
}

/// What a round says about one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Settlement {
    /// The member.
    pub validator: Address,
    /// What it did.
    pub attendance: Attendance,
    /// How its score compares.
    pub finding: Finding,
}
canonical_struct!(Settlement { validator: Address, attendance: Attendance, finding: Finding });

impl Settlement {
    /// Adds the round to the member's epoch, with the weight of the round's work: one event of timeliness, and one of alignment or of
    /// canaries where there is a finding.
    pub fn fold(&self, weight: Weight, epoch: &mut ValidatorEpoch) {
        match self.attendance {
            Attendance::Revealed { .. } => epoch.timely(weight),
            _ => epoch.missed(weight),
        }
        self.finding.fold(weight, epoch);
    }
}

/// A settled round.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Settled {
    /// The known score, if the round was a canary.
    pub known: Option<Unit>,
    /// What the committee agrees on; never of a canary, so that no canary enters a worker's quality.
    pub consensus: Option<Consensus>,
    /// What it says about each member, by rising id.
    pub members: Vec<Settlement>,
}
canonical_struct!(Settled { known: Option<Unit>, consensus: Option<Consensus>, members: Vec<Settlement> });
