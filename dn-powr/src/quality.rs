//! The quality that a committee's votes agree on.

use dn_core::wide::mul_div;
use dn_core::{Amount, canonical_struct};
use dn_trust::{Trust, Unit};

/// The most that the weights of votes, or of candidates for a committee, may add up to: 2^126, over 10^11 times the supply.
pub const MAX_WEIGHT: u128 = 1 << 126;

/// Why votes give no quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QualityError {
    /// No vote has weight.
    #[error("none of the {votes} votes has any weight")]
    NoWeight {
        /// Votes given.
        votes: usize,
    },
    /// The weights add up to more than 2^126.
    #[error("the weights of {votes} votes add up to more than 2^126")]
    Overflow {
        /// Votes given.
        votes: usize,
    },
}

/// One revealed vote of a committee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// The quality that the validator saw.
    pub score: Unit,
    /// How much the vote counts; see [`vote_weight`].
    #[serde(with = "dn_trust::decimal")]
    #[cfg_attr(feature = "schema", schemars(with = "dn_core::schema::Decimal"))]
    pub weight: u128,
}
canonical_struct!(Vote { score: Unit, weight: u128 });

/// `⌊min(stake, cap) · trust⌋`: what a validator's vote counts, and its chance of a seat in a committee.
///
/// # Units
/// Atto.
pub fn vote_weight(stake: Amount, cap: Amount, trust: Trust) -> u128 {
    mul_div(stake.min(cap).atto(), trust.value().bits().into(), 1 << 32).expect("trust is at most one")
}

impl Vote {
    /// A vote with the weight of [`vote_weight`].
    pub fn weigh(score: Unit, stake: Amount, cap: Amount, trust: Trust) -> Self {
        Self { score, weight: vote_weight(stake, cap, trust) }
    }
}

/// What the committee agrees on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Consensus {
    /// The weighted lower quartile.
    pub low: Unit,
    /// The quality: the weighted lower median.
    pub quality: Unit,
    /// The weighted upper quartile.
    pub high: Unit,
}
canonical_struct!(Consensus { low: Unit, quality: Unit, high: Unit });

impl Consensus {
    /// The weighted quartiles of the votes. The q-quantile is the least score such that the votes up to it have at least the share q of all
    /// weight. The votes are reordered; their order does not matter.
    ///
    /// # Errors
    /// [`QualityError`].
    pub fn of(votes: &mut [Vote]) -> Result<Self, QualityError> {
        let count = votes.len();
        let total = votes
            .iter()
            .try_fold(0u128, |sum, v| sum.checked_add(v.weight))
            .filter(|total| *total <= MAX_WEIGHT)
            .ok_or(QualityError::Overflow { votes: count })?;
        if total == 0 {
            return Err(QualityError::NoWeight { votes: count });
        }
        votes.sort_unstable_by_key(|v| v.score);
        let quantile = |quarters: u128| {
            // Three times 2^126 fits, four times does not.
            let share = (total * quarters).div_ceil(4);
            let mut below = 0;
            votes
                .iter()
                .find(|v| {
                    below += v.weight;
                    v.weight > 0 && below >= share
                })
                .map_or(Unit::ZERO, |v| v.score)
        };
        Ok(Self { low: quantile(1), quality: quantile(2), high: quantile(3) })
    }

    /// A validator's score moved into the inter-quartile range, from both sides, before it pays anyone.
    pub fn clamp(&self, score: Unit) -> Unit {
        score.clamp(self.low, self.high)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vote(percent: u64, weight: u128) -> Vote {
        Vote { score: Unit::from_bits((percent << 32) / 100), weight }
    }

    #[test]
    fn quartiles_by_hand() {
        // Weights 1, 2, 3, 2 at 10, 40, 60, 90 %: quarters of 8 are reached at 2 → 40, 4 → 60, 6 → 60.
        let mut votes = [vote(90, 2), vote(10, 1), vote(60, 3), vote(40, 2)];
        let c = Consensus::of(&mut votes).expect("weight");
        assert_eq!((c.low, c.quality, c.high), (vote(40, 0).score, vote(60, 0).score, vote(60, 0).score));
        assert_eq!(c.clamp(Unit::ZERO), c.low);
        assert_eq!(c.clamp(Unit::ONE), c.high);
        // An even division takes the lower.
        let c = Consensus::of(&mut [vote(20, 1), vote(80, 1)]).expect("weight");
        assert_eq!(c.quality, vote(20, 0).score);
        // A vote without weight is not heard.
        let c = Consensus::of(&mut [vote(0, 0), vote(80, 1)]).expect("weight");
        assert_eq!(c.low, vote(80, 0).score);
    }

    #[test]
    fn weights_by_hand() {
        let half = Trust::new(Unit::from_bits(1 << 31));
        let dn = Amount::from_dn;
        assert_eq!(Vote::weigh(Unit::ONE, dn(10), dn(100), half).weight, dn(5).atto());
        assert_eq!(Vote::weigh(Unit::ONE, dn(1000), dn(100), half).weight, dn(50).atto());
    }

    #[test]
    fn votes_without_an_answer() {
        assert_eq!(Consensus::of(&mut []), Err(QualityError::NoWeight { votes: 0 }));
        assert_eq!(Consensus::of(&mut [vote(1, 0)]), Err(QualityError::NoWeight { votes: 1 }));
        let mut heavy = [vote(1, u128::MAX), vote(1, 1)];
        assert_eq!(Consensus::of(&mut heavy), Err(QualityError::Overflow { votes: 2 }));
        let mut heaviest = [vote(10, MAX_WEIGHT / 2), vote(20, MAX_WEIGHT / 2)];
        let c = Consensus::of(&mut heaviest).expect("just fits");
        assert_eq!((c.quality, c.high), (vote(10, 0).score, vote(20, 0).score));
        let mut heavy = [vote(1, MAX_WEIGHT + 1)];
        assert_eq!(Consensus::of(&mut heavy), Err(QualityError::Overflow { votes: 1 }));
    }

    fn votes(weight: std::ops::Range<u128>) -> impl Strategy<Value = Vec<Vote>> {
        prop::collection::vec((0..=100u64, weight).prop_map(|(s, w)| vote(s, w)), 1..20)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        /// Dishonest votes with less than half of the weight leave the quality between two honest votes.
        #[test]
        fn a_minority_cannot_leave_the_honest_range(honest in votes(1..1000), liars in votes(1..1_000_000)) {
            let honest_weight: u128 = honest.iter().map(|v| v.weight).sum();
            let mut budget = honest_weight - 1;
            let mut all = honest.clone();
            for mut liar in liars {
                liar.weight = liar.weight.min(budget);
                budget -= liar.weight;
                all.push(liar);
            }
            let quality = Consensus::of(&mut all).expect("weight").quality;
            prop_assert!(quality >= honest.iter().map(|v| v.score).min().expect("one"));
            prop_assert!(quality <= honest.iter().map(|v| v.score).max().expect("one"));
        }

        #[test]
        fn order_does_not_matter_and_quartiles_are_ordered(
            (a, b) in votes(0..1000).prop_flat_map(|v| (Just(v.clone()), Just(v).prop_shuffle())),
        ) {
            let (mut a, mut b) = (a, b);
            let c = Consensus::of(&mut a);
            prop_assert_eq!(c, Consensus::of(&mut b));
            if let Ok(c) = c {
                prop_assert!(c.low <= c.quality && c.quality <= c.high);
            }
        }

        /// Raising one's vote never lowers the quality.
        #[test]
        fn monotone_in_every_vote(v in votes(1..1000), pick: prop::sample::Index, up in 0..=100u64) {
            let before = Consensus::of(&mut v.clone()).expect("weight").quality;
            let mut raised = v.clone();
            let i = pick.index(v.len());
            raised[i].score = raised[i].score.max(vote(up, 0).score);
            prop_assert!(Consensus::of(&mut raised).expect("weight").quality >= before);
        }
    }
}
