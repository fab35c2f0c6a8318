//! How fast consensus goes, and how far a block's time may be from a clock.

use std::time::Duration;

use malachite_types::LinearTimeouts;

/// The longest time that a round's proposal is waited for.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// How fast consensus goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Between blocks without transactions; with transactions a quarter.
    pub(crate) interval: Duration,
    /// From a block's time to the next one's, at least: the chain's `min_block_ms`.
    pub(crate) least: Duration,
    /// For a proposal, after it is due.
    pub(crate) propose: Duration,
    /// For votes once a quorum has voted, though not for one block.
    pub(crate) vote: Duration,
    /// How far a proposed block may be ahead of this node's clock.
    pub(crate) clock_ahead_ms: u64,
    /// How far a new one may be behind it, beside the time that a proposal may take.
    pub(crate) clock_behind_ms: u64,
}

/// A block's time that is too far from this node's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Untimely {
    #[error("a proposed block is of {found} ms, from the future: {latest} ms is the latest")]
    Ahead { found: u64, latest: u64 },
    #[error("a new block is of {found} ms, from the past: {earliest} ms is the earliest")]
    Behind { found: u64, earliest: u64 },
}

impl Pace {
    /// How long nothing may be decided before the engine is started again.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(30).max(4 * (self.due() + self.propose + 2 * self.vote))
    }

    /// How long after a block the next one is due at the latest: its proposer waits so long, however short the node's own interval is.
    pub(crate) fn due(&self) -> Duration {
        self.interval.max(self.least)
    }

    /// The engine's timeouts.
    pub(crate) fn timeouts(&self) -> LinearTimeouts {
        let Self { propose, vote, .. } = *self;
        LinearTimeouts {
            // Its proposer may wait for its block to be due.
            propose: self.due() + propose,
            propose_delta: propose / 2,
            prevote: vote,
            prevote_delta: vote / 2,
            precommit: vote,
            precommit_delta: vote / 2,
            rebroadcast: self.due() + propose + 2 * vote,
            max_timeout: self.longest(),
        }
    }

    fn longest(&self) -> Duration {
        MAX_TIMEOUT.max(2 * self.due())
    }

    /// Compares the time of a block that is proposed in a round with the clock. One that is not `new`, proposed again or before this
    /// node started, is not refused for its age.
    pub(crate) fn check(&self, found: u64, now_ms: u64, round: u32, new: bool) -> Result<(), Untimely> {
        let latest = now_ms.saturating_add(self.clock_ahead_ms);
        if found > latest {
            return Err(Untimely::Ahead { found, latest });
        }
        let wait = self.due() + self.propose + self.propose / 2 * round.min(1_000);
        let wait = wait.min(self.longest());
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let earliest = now_ms.saturating_sub(self.clock_behind_ms.saturating_add(wait_ms));
        if new && found < earliest { Err(Untimely::Behind { found, earliest }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_bound_both_ways() {
        let pace = Pace {
            interval: Duration::from_millis(200),
            least: Duration::from_millis(1),
            propose: Duration::from_millis(1_000),
            vote: Duration::from_millis(500),
            clock_ahead_ms: 5_000,
            clock_behind_ms: 3_000,
        };
        let now = 1_000_000;
        let check = |found, round, new| pace.check(found, now, round, new);
        assert_eq!(check(now + 5_000, 0, true), Ok(()));
        let ahead = Err(Untimely::Ahead { found: now + 5_001, latest: now + 5_000 });
        assert_eq!((check(now + 5_001, 0, true), check(now + 5_001, 0, false)), (ahead, ahead));
        let earliest = now - 3_000 - 1_200;
        assert_eq!(check(earliest, 0, true), Ok(()));
        let found = earliest - 1;
        assert_eq!(check(found, 0, true), Err(Untimely::Behind { found, earliest }));
        assert_eq!(check(found, 0, false), Ok(()), "it was new once");
        // Later rounds wait longer, up to a minute.
        assert_eq!(check(found, 1, true), Ok(()));
        let earliest = now - 63_000;
        assert_eq!(check(earliest, u32::MAX, true), Ok(()));
        assert!(check(earliest - 1, u32::MAX, true).is_err());
    }

    /// A chain of a block a second, and nodes whose interval is a quarter of that: nobody gives a proposer up who waits for its second.
    #[test]
    fn the_chains_own_pace_counts() {
        let pace = Pace {
            interval: Duration::from_millis(250),
            least: Duration::from_millis(1_000),
            propose: Duration::from_millis(400),
            vote: Duration::from_millis(500),
            clock_ahead_ms: 5_000,
            clock_behind_ms: 3_000,
        };
        assert_eq!(pace.timeouts().propose, Duration::from_millis(1_400));
        assert_eq!(pace.timeouts().rebroadcast, Duration::from_millis(2_400));
        let now = 1_000_000;
        assert_eq!(pace.check(now - 3_000 - 1_400, now, 0, true), Ok(()));
        assert!(pace.check(now - 3_000 - 1_401, now, 0, true).is_err());
        let slow = Pace { least: Duration::from_secs(600), ..pace };
        assert_eq!(slow.patience(), Duration::from_millis(4 * 601_400));
        assert_eq!(slow.timeouts().max_timeout, Duration::from_secs(1_200));
        let lazy = Pace { interval: Duration::from_secs(2), ..pace };
        assert_eq!(lazy.timeouts().propose, Duration::from_millis(2_400), "the longer of both");
    }
}
