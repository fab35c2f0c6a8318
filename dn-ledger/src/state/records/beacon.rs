//! Turns in proposing blocks, the set that takes them next, and what validators are drawn by.

use dn_core::{Amount, canonical_struct};

use crate::validators::ValidatorSet;

/// A validator's turns in this epoch, and what else costs it pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turns {
    /// Blocks that it proposed.
    pub made: u32,
    /// Rounds in which it should have and did not.
    pub missed: u32,
    /// Receipts that it said it could not get, so that all were asked, and the others got and found right.
    pub alarms: u32,
}
canonical_struct!(Turns { made: u32, missed: u32, alarms: u32 });

/// The outcome of an epoch's election, until it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Election {
    /// The last block that the set before decides. Its beacon seeds the turns of the new one.
    pub last_height: u64,
    /// Who decides from the next block on; empty if nobody could be elected, and the set before goes on.
    pub set: ValidatorSet,
}
canonical_struct!(Election { last_height: u64, set: ValidatorSet });

/// A validator's voting power as elections found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DrawWeight {
    /// Its weight below `from_height`.
    pub before: Amount,
    /// Its weight from `from_height` on.
    pub after: Amount,
    /// The first height of `after`.
    pub from_height: u64,
}
canonical_struct!(DrawWeight { before: Amount, after: Amount, from_height: u64 });

impl DrawWeight {
    /// What holds at a height.
    pub const fn at(&self, height: u64) -> Amount {
        if height < self.from_height { self.before } else { self.after }
    }
}
